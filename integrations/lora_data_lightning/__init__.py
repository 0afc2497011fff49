"""lora_data for lightning."""
