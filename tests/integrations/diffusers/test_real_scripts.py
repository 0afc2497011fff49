"""The real, unmodified scripts of diffusers' examples on small random pipelines, where a checkout is named.

``DIFFUSERS_EXAMPLES`` is the examples folder of a checkout that is not newer than the installed diffusers.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lora_data_diffusers import FAMILIES, CharacterDataset, Family
from lora_data_diffusers.dataset import Place
from lora_data_diffusers.masked import mask_like

from lora_data import Config, load_config
from tests.integrations.expected import Made, find, made_in
from tests.integrations.processes import environment, save_pipeline
from tests.integrations.tiny_pipelines import clip_tokenizer
from tests.train.pictures import write_small

pytestmark = pytest.mark.skipif("DIFFUSERS_EXAMPLES" not in os.environ, reason="DIFFUSERS_EXAMPLES names no checkout")
SCRIPTS = {
    "sd15": "train_dreambooth_lora",
    "sdxl": "train_dreambooth_lora_sdxl",
    "flux": "train_dreambooth_lora_flux",
    "flux2_klein": "train_dreambooth_lora_flux2_klein",
    "z_image": "train_dreambooth_lora_z_image",
}
HARNESS = Path(__file__).with_name("harness.py")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("diffusers")
    write_small(folder / "shards", {"luca": 5, "zoe": 4}, caption="{token}, a, b")
    data = {"shards": str(folder / "shards"), "resolution": 64, "bucket_step": 16, "batch_size": 2, "max_upscale": 4.0}
    lines = [f"{key} = {json.dumps(value)}" for key, value in data.items()]
    lines += [f"[characters.{name}]\nrepeats = 1" for name in ("luca", "zoe")]
    (folder / "luca.toml").write_text("\n".join(["[data]", *lines]))
    return folder


def run(work: Path, name: str, *arguments: str) -> tuple[dict[str, list[Any]], str]:
    pipeline = work / name
    if not pipeline.exists():
        save_pipeline(name, work)
    record = work / "record.pt"
    record.unlink(missing_ok=True)
    script = Path(os.environ["DIFFUSERS_EXAMPLES"]) / "dreambooth" / f"{SCRIPTS[name]}.py"
    command = [
        *(sys.executable, str(HARNESS), str(record), str(script), "--lora_data", "luca.toml", "--seed", "1"),
        *("--pretrained_model_name_or_path", str(pipeline), "--gradient_accumulation_steps", "1"),
        *("--learning_rate", "5e-3", "--lr_scheduler", "constant", "--lr_warmup_steps", "0", "--mixed_precision", "no"),
        *("--output_dir", str(work / f"out_{name}"), *arguments),
        *(["--text_encoder_out_layers", "1"] if name == "flux2_klein" else []),
    ]
    done = subprocess.run(command, cwd=work, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return torch.load(record, weights_only=False), done.stdout + done.stderr


def planned(work: Path, name: str, epochs: int) -> tuple[Config, list[list[Made]]]:
    """The batches of the first epochs as the script must train on them."""
    config = load_config(work / "luca.toml")
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, shards=str(work / "shards")))
    if name == "sdxl":
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, enable_bucket=False))
    return config, [batch for epoch in range(epochs) for batch in made_in(config, epoch, frozen=name == "z_image")]


def check(record: dict[str, list[Any]], batches: list[list[Made]]) -> None:
    """Each step trained on the batch that the plan says, augmented, with its mask on the gradient."""
    assert len(record["encoded"]) == len(record["after"]) == len(batches)
    for step, batch in enumerate(batches):
        encoded = record["encoded"][step]
        assert [find([batch], pixels).key for pixels in encoded] == [one.key for one in batch]
        before, after = record["before"][step], record["after"][step]
        masks = torch.stack([one.mask for one in batch])[:, None]
        weights = torch.tensor([one.weight for one in batch]).reshape(-1, *[1] * (before.ndim - 1))
        expected = before * mask_like(before, masks) * weights
        assert torch.allclose(after, expected, rtol=1e-3, atol=1e-7)
        assert not torch.allclose(after, before, rtol=1e-3, atol=0)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.script)
def test_every_family_is_as_the_table_says(family: Family, work: Path):
    """What a script reads of a dataset and of a batch is what ours have; how it keeps captions is what we think."""
    text = (Path(os.environ["DIFFUSERS_EXAMPLES"]) / "dreambooth" / f"{family.script}.py").read_text(encoding="utf-8")
    assert all(
        f"\n{form}" in text for form in ("class DreamBoothDataset(", "def collate_fn(", "def parse_args(", "def main(")
    )
    attributes = set(re.findall(r"\btrain_dataset\.(\w+)", text))
    assert attributes <= {"custom_instance_prompts", "num_instance_images"}
    dataset = CharacterDataset(work / "luca.toml", family.script, tokenizer=clip_tokenizer(work / "clip"))
    batch = dataset[Place(0, 0)]
    assert set(re.findall(r'\bbatch\["(\w+)"\]', text)) <= {*batch}
    kept = {"each step": False, "once": "cache[idx]" in text, "frozen": "prompt_embeds_cache[step]" in text}
    assert ("prompt_embeds_cache[" in text) == (family.prompts != "each step")
    assert family.prompts == "each step" or kept[family.prompts]
    assert ("class BucketBatchSampler(" in text) == (family.prompts != "each step")
    square = "target_size = (args.resolution, args.resolution)" in text
    assert family.buckets != square


@pytest.mark.parametrize("name", SCRIPTS)
def test_it_trains_saves_and_resumes_after_the_batch_where_it_stopped(work: Path, name: str):
    from safetensors.torch import load_file

    workers = ["--dataloader_num_workers", "1" if name == "flux" else "0"]
    record, _ = run(work, name, "--max_train_steps", "7", "--checkpointing_steps", "3", *workers)
    _, batches = planned(work, name, 3)
    epoch = len(batches) // 3
    assert epoch < 7  # it goes over an epoch's end
    check(record, batches[:7])
    lora = load_file(work / f"out_{name}" / "pytorch_lora_weights.safetensors")
    assert any(bool(tensor.any()) for key, tensor in lora.items() if "lora_B" in key or "lora.up" in key)
    if name == "sdxl":
        for ids, batch in zip(record["time_ids"], batches, strict=False):
            assert ids.tolist() == [[float(v) for pair in one.sizes for v in pair] for one in batch]
        assert any(one.sizes[1] != [0, 0] for batch in batches[:7] for one in batch)
    else:
        assert len({tuple(e.shape[2:]) for e in record["encoded"]}) > 1  # buckets

    # A script that looks captions up by their place in the epoch has to begin the epoch again.
    last, expected = ("5", batches[:2]) if name == "z_image" else ("8", batches[3:8])
    resume = ["--max_train_steps", last, "--resume_from_checkpoint", "checkpoint-3"]
    record, said = run(work, name, *resume, *workers)
    assert "checkpoint-3" in said
    check(record, expected)


def test_a_masked_loss_can_be_left_out(work: Path):
    text = (work / "luca.toml").read_text()
    try:
        (work / "luca.toml").write_text(text.replace("[data]", "[data]\nmasked_loss = false"))
        record, _ = run(work, "sd15", "--max_train_steps", "2")
    finally:
        (work / "luca.toml").write_text(text)
    assert len(record["encoded"]) == 2
    assert record["after"] == []


def test_two_processes_share_an_epoch(work: Path):
    """torchrun starts two; each trains on every other batch of the plan."""
    run(work, "sd15", "--max_train_steps", "1")  # makes the pipeline
    code = (
        "import os, sys; sys.argv[1] += os.environ['RANK']; import runpy; "
        f"sys.argv[0] = {str(HARNESS)!r}; runpy.run_path({str(HARNESS)!r}, run_name='__main__')"
    )
    (work / "ranked.py").write_text(code)
    script = Path(os.environ["DIFFUSERS_EXAMPLES"]) / "dreambooth" / "train_dreambooth_lora.py"
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "ranked.py", "record_"),
        *(str(script), "--lora_data", "luca.toml", "--pretrained_model_name_or_path", str(work / "sd15")),
        *("--max_train_steps", "2", "--learning_rate", "1e-3", "--mixed_precision", "no", "--output_dir", "out_two"),
    ]
    done = subprocess.run(
        command, cwd=work, env=environment(OMP_NUM_THREADS="1"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    _, batches = planned(work, "sd15", 1)
    for rank in range(2):
        check(torch.load(work / f"record_{rank}", weights_only=False), batches[rank:4:2])
