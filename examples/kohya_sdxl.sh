#!/bin/sh
# An SDXL LoRA with kohya's sd-scripts (0.10.0 or later) on a GPU of 12 GB. Edit these lines, or set the variables.
set -eu
SD_SCRIPTS=${SD_SCRIPTS:-$HOME/sd-scripts}
MODEL=${MODEL:-$HOME/models/sd_xl_base_1.0.safetensors}
CONFIG=${CONFIG:-luca.toml}
OUT=${OUT:-lora}

# Text encoders are cached, latents are not: the pictures are new in every epoch. vae_batch_size: kohya encodes them one
# by one otherwise. No worker processes: pictures are decoded by threads and kept in memory (data.cache_gb).
exec accelerate launch --num_cpu_threads_per_process 2 -m lora_data_kohya "$SD_SCRIPTS/sdxl_train_network.py" \
  --lora_data "$CONFIG" \
  --pretrained_model_name_or_path "$MODEL" \
  --network_module networks.lora --network_dim 16 --network_alpha 8 --network_train_unet_only \
  --cache_text_encoder_outputs --vae_batch_size 4 --no_half_vae --max_data_loader_n_workers 0 \
  --optimizer_type AdamW8bit --learning_rate 1e-4 --lr_scheduler cosine --max_train_epochs 8 \
  --mixed_precision bf16 --gradient_checkpointing --sdpa --seed 42 \
  --save_model_as safetensors --save_every_n_epochs 1 --output_dir "$OUT" --output_name luca "$@"
