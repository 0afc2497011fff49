"""lora_data: from film cut-outs of 3D-animated characters to LoRA training batches."""

__version__ = "0.1.0"
