"""Our dataset in a loop of the scripts' form, with accelerate as they use it; always runs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator
from lora_data_diffusers import FAMILIES, CharacterDataset
from lora_data_diffusers.__main__ import main
from lora_data_diffusers.dataset import CaptionPlaces
from torch.utils.data import DataLoader

from lora_data import Config, ConfigError, load_config
from tests.integrations.expected import Made, find, made_in
from tests.integrations.tiny_pipelines import clip_tokenizer
from tests.train.pictures import write_small


@pytest.fixture
def config(tmp_path: Path) -> Path:
    write_small(tmp_path / "shards", {"luca": 5, "zoe": 4}, caption="{token}, a, b")
    return configure(tmp_path)


def configure(folder: Path, **captions: Any) -> Path:
    data = {"shards": str(folder / "shards"), "resolution": 64, "bucket_step": 16, "batch_size": 2, "max_upscale": 4.0}
    lines = [f"{key} = {json.dumps(value)}" for key, value in data.items()]
    lines += ["[data.captions]", *(f"{key} = {json.dumps(value)}" for key, value in captions.items())]
    path = folder / "luca.toml"
    path.write_text("\n".join(["[data]", *lines]), encoding="utf-8")
    return path


def square(config: Config) -> Config:
    return dataclasses.replace(config, data=dataclasses.replace(config.data, enable_bucket=False))


def agree(batches: list[Any], plan: list[list[Made]]) -> None:
    assert [[find([made], p).key for p in b["pixel_values"]] for b, made in zip(batches, plan, strict=True)] == [
        [one.key for one in made] for made in plan
    ]
    assert [b["prompts"] for b in batches] == [[one.caption for one in made] for made in plan]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_three_lines_give_the_plans_batches_in_its_order(config: Path, workers: int):
    accelerator = Accelerator(cpu=True)
    train_dataset = CharacterDataset(config, "train_dreambooth_lora_sdxl")
    train_dataloader = train_dataset.loader(accelerator, workers)
    assert accelerator.prepare(train_dataloader) is train_dataloader
    for epoch in range(2):
        plan = made_in(square(load_config(config)), epoch)
        batches = list(train_dataloader)
        assert len(batches) == len(train_dataloader) == len(plan)
        agree(batches, plan)
        sizes = [
            [[*s], [*c], [64, 64]]
            for b in batches
            for s, c in zip(b["original_sizes"], b["crop_top_lefts"], strict=True)
        ]
        assert sizes == [one.sizes for made in plan for one in made]
        assert all(isinstance(s, tuple) for b in batches for s in b["original_sizes"] + b["crop_top_lefts"])


def test_the_state_of_the_accelerator_holds_the_place(config: Path, tmp_path: Path):
    plan = [batch for epoch in range(2) for batch in made_in(load_config(config), epoch)]
    for stop in (1, len(plan) // 2, len(plan) // 2 + 2):
        accelerator = Accelerator(cpu=True)
        loader = CharacterDataset(config, "train_dreambooth_lora_flux").loader(accelerator)
        done = 0
        while done < stop:
            for _ in loader:
                done += 1
                if done == stop:
                    accelerator.save_state(str(tmp_path / f"state{stop}"))
                    break
        again = Accelerator(cpu=True)
        resumed = CharacterDataset(config, "train_dreambooth_lora_flux").loader(again)
        again.load_state(str(tmp_path / f"state{stop}"))
        rest = [batch for _ in range(2) for batch in resumed]
        agree(rest[: len(plan) - stop], plan[stop:])


def test_a_script_that_makes_its_own_loader_reckons_the_right_number_of_batches(config: Path):
    """The scripts compute their schedule from `len` of a DataLoader over the dataset, before they prepare it."""
    for script in ("train_dreambooth_lora_sdxl", "train_dreambooth_lora_flux"):
        dataset = CharacterDataset(config, script)
        assert len(DataLoader(dataset, batch_size=2, shuffle=True)) == dataset.plan.length


def test_captions_that_are_encoded_once_are_found_by_number(tmp_path: Path, config: Path):
    configure(tmp_path, dropout=0.4)
    dataset = CharacterDataset(config, "train_dreambooth_lora_flux2_klein")
    assert dataset.captions == ["", "luca, a, b", "zoe, a, b"]
    assert dataset.num_instance_images == 3
    passes = DataLoader(dataset, batch_sampler=CaptionPlaces(dataset, 2), collate_fn=dataset.collate)
    found = {i: p for batch in passes for i, p in zip(batch["indices"], batch["instance_prompts"], strict=True)}
    assert found == dict(enumerate(dataset.captions))
    assert len(passes) == 2
    for batch in dataset.loader(Accelerator(cpu=True)):
        assert [found[i] for i in batch["indices"]] == batch["prompts"]


def test_captions_of_a_frozen_script_are_the_same_in_every_epoch_and_its_pictures_are_not(config: Path):
    dataset = CharacterDataset(config, "train_dreambooth_lora_z_image")
    encoded = [b["prompts"] for b in DataLoader(dataset, batch_sampler=dataset.sampler(), collate_fn=dataset.collate)]
    loader = dataset.loader(Accelerator(cpu=True))
    for epoch in range(2):
        batches = list(loader)
        assert [b["prompts"] for b in batches] == encoded
        agree(batches, made_in(load_config(config), epoch, frozen=True))


def test_the_script_that_reads_tokens_gets_them(config: Path, tmp_path: Path):
    tokenizer = clip_tokenizer(tmp_path / "clip")
    with pytest.raises(ConfigError, match="needs its tokenizer"):
        CharacterDataset(config, "train_dreambooth_lora")
    dataset = CharacterDataset(config, "train_dreambooth_lora", tokenizer=tokenizer, max_tokens=20)
    batch = next(iter(dataset.loader(Accelerator(cpu=True))))
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (len(batch["prompts"]), 20)
    assert tokenizer.decode(batch["input_ids"][0], skip_special_tokens=True).replace(" ", "") == batch["prompts"][
        0
    ].replace(" ", "")


@pytest.mark.parametrize(
    ("script", "captions", "needle"),
    [
        ("train_dreambooth_lora_flux2", {"shuffle": True}, "data.captions.shuffle"),
        ("train_dreambooth_lora_z_image", {"tag_dropout": 0.1}, "data.captions.tag_dropout"),
        ("train_dreambooth_lora_z_image", {"dropout": 0.1}, "data.captions.dropout"),
        ("train_dreambooth_lora_ideogram", {}, "train_dreambooth_lora_sdxl.py"),
    ],
)
def test_what_a_script_cannot_do_is_said(
    config: Path, tmp_path: Path, script: str, captions: dict[str, Any], needle: str
):
    configure(tmp_path, **captions)
    with pytest.raises(ConfigError, match=needle):
        CharacterDataset(config, script)


def test_a_frozen_script_goes_with_one_process(config: Path):
    class Two:
        num_processes = 2

    with pytest.raises(ConfigError, match="one process only"):
        CharacterDataset(config, "train_dreambooth_lora_z_image").loader(Two())


def test_every_family_is_told_apart():
    assert len({family.script for family in FAMILIES}) == len(FAMILIES)


SCRIPT = """
import argparse, json, math
import torch
from accelerate import Accelerator
from diffusers import UNet2DConditionModel
from torch.utils.data import Dataset

class DreamBoothDataset(Dataset):
    def __init__(self, instance_data_root, instance_prompt, size=1024):
        raise AssertionError("the script's own dataset")

def collate_fn(examples, with_prior_preservation=False):
    raise AssertionError("the script's own collation")

def parse_args(input_args=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--instance_data_dir", required=True)
    parser.add_argument("--instance_prompt", required=True)
    parser.add_argument("--resolution", type=int, default=512)
    parser.add_argument("--train_batch_size", type=int, default=4)
    parser.add_argument("--out")
    return parser.parse_args(input_args)

def main(args):
    accelerator = Accelerator(cpu=True)
    train_dataset = DreamBoothDataset(
        instance_data_root=args.instance_data_dir, instance_prompt=args.instance_prompt, size=args.resolution)
    train_dataloader = torch.utils.data.DataLoader(
        train_dataset, batch_size=args.train_batch_size, shuffle=True,
        collate_fn=lambda examples: collate_fn(examples, False), num_workers=0)
    before = len(train_dataloader)
    torch.manual_seed(0)
    unet = UNet2DConditionModel(block_out_channels=(8,), layers_per_block=1, in_channels=3, out_channels=3,
        norm_num_groups=4, down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), cross_attention_dim=8)
    optimizer = torch.optim.SGD(unet.parameters(), 1e-2)
    unet, optimizer, train_dataloader = accelerator.prepare(unet, optimizer, train_dataloader)
    steps = []
    for batch in train_dataloader:
        pixels = batch["pixel_values"]
        states = torch.zeros(len(pixels), 1, 8)
        predicted = unet(pixels, torch.zeros(len(pixels)), states, return_dict=False)[0]
        accelerator.backward(((predicted - pixels) ** 2).mean())
        norm = float(sum(p.grad.square().sum() for p in unet.parameters() if p.grad is not None))
        optimizer.zero_grad()
        steps.append([batch["prompts"], norm])
    with open(args.out, "w") as file:
        json.dump({"before": before, "args": vars(args), "steps": steps}, file)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "train_dreambooth_lora_sdxl.py"
    path.write_text(SCRIPT, encoding="utf-8")
    return path


def test_the_launcher_runs_a_script_that_knows_nothing_of_us(config: Path, script: Path, tmp_path: Path):
    norms: list[list[float]] = []
    for masked in ("true", "false"):
        text = config.read_text().replace("[data]", f"[data]\nmasked_loss = {masked}", 1)
        (tmp_path / f"{masked}.toml").write_text(text)
        out = tmp_path / f"{masked}.json"
        assert main([str(script), "--lora_data", str(tmp_path / f"{masked}.toml"), "--out", str(out)]) == 0
        done = json.loads(out.read_text())
        plan = made_in(square(load_config(config)), 0)
        assert done["before"] == len(done["steps"]) == len(plan)
        assert [prompts for prompts, _ in done["steps"]] == [[one.caption for one in batch] for batch in plan]
        assert (done["args"]["resolution"], done["args"]["train_batch_size"]) == (64, 2)
        norms.append([norm for _, norm in done["steps"]])
    assert all(a != pytest.approx(b, rel=1e-3) for a, b in zip(*norms, strict=True))


@pytest.mark.parametrize(
    ("given", "needle"),
    [
        (["--cache_latents"], "diffusers#14430"),
        (["--with_prior_preservation"], "class images"),
        (["--instance_data_dir", "x"], "described by --lora_data"),
        (["--dataset_name=x"], "described by --lora_data"),
        (["--use_aspect_ratio_buckets"], "data.enable_bucket"),
        (["--resolution", "512"], "data.resolution says 64"),
        (["--train_batch_size=8"], "data.batch_size says 2"),
    ],
)
def test_arguments_that_contradict_are_refused(
    config: Path, script: Path, given: list[str], needle: str, capsys: pytest.CaptureFixture[str]
):
    assert main([str(script), "--lora_data", str(config), "--out", "unused", *given]) == 2
    assert needle in capsys.readouterr().err


def test_a_wrong_command_line_is_said(config: Path, script: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    other = tmp_path / "train_dreambooth_lora_sd3.py"
    other.write_text("main = print\n")
    unknown = tmp_path / "train_lcm.py"
    unknown.write_text("")
    for given, needle in [
        ([], "the first argument is the script"),
        (["nowhere.py"], "there is no script"),
        ([str(script)], "--lora_data wants one"),
        ([str(unknown), "--lora_data", str(config)], "not one of the scripts"),
        ([str(other), "--lora_data", str(config)], "has no DreamBoothDataset, collate_fn"),
        ([str(script), "--lora_data", "none.toml"], "cannot be read"),
    ]:
        assert main(given) == 2
        assert needle in capsys.readouterr().err, given
