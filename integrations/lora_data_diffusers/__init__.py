"""lora_data for diffusers."""
