#!/bin/sh
# An SDXL LoRA with diffusers' DreamBooth script. Edit these lines, or set the variables.
set -eu
DIFFUSERS_EXAMPLES=${DIFFUSERS_EXAMPLES:-$HOME/diffusers/examples}
MODEL=${MODEL:-stabilityai/stable-diffusion-xl-base-1.0}
CONFIG=${CONFIG:-luca.toml}
OUT=${OUT:-lora}

exec accelerate launch -m lora_data_diffusers "$DIFFUSERS_EXAMPLES/dreambooth/train_dreambooth_lora_sdxl.py" \
  --lora_data "$CONFIG" \
  --pretrained_model_name_or_path "$MODEL" \
  --rank 16 --learning_rate 1e-4 --lr_scheduler cosine --lr_warmup_steps 0 --max_train_steps 2000 \
  --mixed_precision bf16 --gradient_checkpointing --seed 42 --checkpointing_steps 250 --output_dir "$OUT" "$@"
