"""lora_data for kohya."""
