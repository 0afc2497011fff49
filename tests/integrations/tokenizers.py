"""A CLIP tokenizer of single bytes, written as the files that transformers 4 and 5 both read; nothing is downloaded."""

from __future__ import annotations

import json
from pathlib import Path

START, END = "<|startoftext|>", "<|endoftext|>"


def clip_vocabulary() -> dict[str, int]:
    """CLIP's 256 byte symbols, the same at a word's end, and the two special tokens: 514 entries."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = iter(range(256, 512))
    symbols = [chr(byte if byte in plain else next(others)) for byte in range(256)]
    return {token: i for i, token in enumerate([*symbols, *(s + "</w>" for s in symbols), START, END])}


def write_clip_tokenizer(folder: Path) -> None:
    """Write the files; 77 tokens at most, padded with the end token."""
    folder.mkdir(parents=True)
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    (folder / "vocab.json").write_text(json.dumps(clip_vocabulary()), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(special), encoding="utf-8")
    settings = {**special, "tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
