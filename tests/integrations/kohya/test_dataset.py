"""The contract of ``--dataset_class``, with accelerate and a DataLoader used as sd-scripts uses them; always runs."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from lora_data_kohya.__main__ import main
from lora_data_kohya.fields import stack_outputs
from lora_data_kohya.settings import VARIABLE, arguments_of_caller, configuration, reconcile
from torch.utils.data import DataLoader, get_worker_info

from lora_data import load_config
from lora_data.errors import ConfigError, ShardError
from tests.integrations.expected import find, made_in
from tests.train.pictures import write_small


class Tokenize:
    """A trainer's tokenize strategy: one id per letter."""

    def tokenize(self, captions: list[str]) -> list[torch.Tensor]:
        rows = [[ord(c) for c in caption[:8].ljust(8)] for caption in captions]
        return [torch.tensor(rows), torch.tensor(rows) + 1]


class Caching:
    """A trainer's caching strategy, in memory."""

    is_partial = False


class MinimalDataset(torch.utils.data.Dataset[Any]):
    """As much of sd-scripts' class as the trainers and we use; this file's own."""

    def __init__(self, resolution: Any, network_multiplier: float, debug_dataset: bool = False) -> None:
        self.width, self.height = resolution
        self.network_multiplier, self.debug_dataset = network_multiplier, debug_dataset
        self.current_epoch = self.current_step = 0
        self.image_data: dict[str, Any] = {}
        self.tag_frequency: dict[str, dict[str, int]] = {}
        self.tokenize_strategy = self.text_encoder_output_caching_strategy = None
        self.num_reg_images = 0
        self.datasets = [self]

    def set_current_strategies(self) -> None:
        self.tokenize_strategy = Tokenize()
        self.text_encoder_output_caching_strategy = Caching() if self.image_data else None

    def set_current_epoch(self, epoch: int) -> None:
        self.current_epoch = epoch

    def set_current_step(self, step: int) -> None:
        self.current_step = step

    def new_cache_text_encoder_outputs(self, models: list[Any], accelerator: Any) -> None:
        for info in self.image_data.values():
            info.text_encoder_outputs = [np.full((len(info.caption) + 1, 2), len(info.caption), np.float16)]


class ImageInfo:
    def __init__(self, image_key: str, num_repeats: int, caption: str, is_reg: bool, absolute_path: str) -> None:
        self.caption, self.absolute_path = caption, absolute_path
        self.text_encoder_outputs: Any = None


class Collator:
    """Tells the dataset the epoch after an item was fetched, where it was fetched."""

    def __init__(self, epoch: Any, dataset: Any) -> None:
        self.epoch, self.dataset = epoch, dataset

    def __call__(self, examples: list[Any]) -> Any:
        worker = get_worker_info()
        dataset: Any = self.dataset if worker is None else worker.dataset
        dataset.set_current_epoch(self.epoch.value)
        dataset.set_current_step(0)
        return examples[0]


@pytest.fixture(params=["0.10", "0.11"])
def dataset_class(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`lora_data_kohya.Dataset` over the layout of one version of sd-scripts."""
    old, new = ModuleType("library.train_util"), ModuleType("library.dataset")
    old.ImageInfo = ImageInfo  # pyright: ignore
    (new if request.param == "0.11" else old).MinimalDataset = MinimalDataset  # pyright: ignore
    monkeypatch.setitem(sys.modules, "library", ModuleType("library"))
    monkeypatch.setitem(sys.modules, "library.train_util", old)
    if request.param == "0.11":
        monkeypatch.setitem(sys.modules, "library.dataset", new)
    sys.modules.pop("lora_data_kohya.dataset", None)
    import lora_data_kohya

    yield lora_data_kohya.Dataset
    sys.modules.pop("lora_data_kohya.dataset", None)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_small(tmp_path / "shards", {"luca": 5, "zoe": 4}, caption="{token}, a, b")
    return configure(tmp_path, monkeypatch)


def configure(folder: Path, monkeypatch: pytest.MonkeyPatch, **data: Any) -> Path:
    settings: dict[str, Any] = {"shards": str(folder / "shards"), "resolution": 96, "bucket_step": 32, "batch_size": 2}
    settings.update(data)
    path = folder / "luca.toml"
    captions = settings.pop("captions", {})
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    lines += ["[data.captions]", *(f"{key} = {json.dumps(value)}" for key, value in captions.items())]
    path.write_text("\n".join(["[data]", *lines]), encoding="utf-8")
    monkeypatch.setenv(VARIABLE, str(path))
    return path


def train(dataset: Any, workers: int, persistent: bool = False, epochs: int = 2) -> list[list[Any]]:
    """The batches of each epoch, on the way that sd-scripts' `train` takes them."""
    from accelerate import Accelerator

    epoch = torch.multiprocessing.get_context().Value("i", 0)
    dataset.set_current_strategies()
    collator = Collator(epoch, dataset if workers == 0 else None)
    accelerator = Accelerator(cpu=True)
    loader: Any = accelerator.prepare(
        DataLoader(
            dataset,
            batch_size=1,
            shuffle=True,
            collate_fn=collator,
            num_workers=workers,
            persistent_workers=persistent,
        )
    )
    found: list[list[Any]] = []
    for number in range(epochs):
        epoch.value = number + 1
        found.append(list(loader))
    return found


@pytest.mark.parametrize(("workers", "persistent"), [(0, False), (1, True), (2, False), (2, True)])
def test_every_planned_batch_arrives_once_an_epoch_augmented(
    dataset_class: Any, config: Path, workers: int, persistent: bool
):
    dataset = dataset_class(None, 225, (96, 96), False)
    for number, batches in enumerate(train(dataset, workers, persistent)):
        plan = made_in(load_config(config), number)
        assert len(batches) == len(dataset) == len(plan)
        arrived = sorted(tuple(b["image_keys"]) for b in batches)
        assert arrived == sorted(tuple(m.key for m in planned) for planned in plan)
        for batch in batches:
            samples = [find(plan, pixels) for pixels in batch["images"]]
            assert [s.key for s in samples] == batch["image_keys"]
            assert [s.caption for s in samples] == batch["captions"]
            assert torch.allclose(batch["alpha_masks"], torch.stack([s.mask for s in samples]), atol=1e-4)
            sizes = [batch[name] for name in ("original_sizes_hw", "crop_top_lefts", "target_sizes_hw")]
            assert torch.stack(sizes, dim=1).tolist() == [s.sizes for s in samples]
            assert batch["images"].dtype == torch.float32
            assert [ids.shape for ids in batch["input_ids_list"]] == [(len(samples), 8)] * 2
            assert "latents" in batch
            assert batch["latents"] is None
            assert batch.get("text_encoder_outputs_list") is None
            assert batch.get("conditioning_images") is None
            # kohya's mean over all pixels, weighed, is the mean over the character.
            means = batch["alpha_masks"].mean(dim=(1, 2)) * batch["loss_weights"]
            assert torch.allclose(means, torch.ones(len(samples)), atol=1e-4)


def test_without_masked_loss_nothing_is_masked(
    dataset_class: Any, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    configure(tmp_path, monkeypatch, masked_loss=False)
    ((batch, *_),) = train(dataset_class(None, None, None), 0, epochs=1)
    assert batch["alpha_masks"] is None
    assert batch["loss_weights"].tolist() == [1.0] * len(batch["captions"])


@pytest.mark.parametrize("workers", [0, 2])
def test_cached_text_encoder_outputs_come_with_their_captions(
    dataset_class: Any, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
):
    configure(tmp_path, monkeypatch, captions={"dropout": 0.4})
    dataset = dataset_class(None, None, (96, 96))
    assert dataset.is_text_encoder_output_cacheable()
    dataset.new_cache_text_encoder_outputs([], None)
    assert set(dataset.image_data) == {"", "luca, a, b", "zoe, a, b"}
    batches = [b for epoch in train(dataset, workers, epochs=2) for b in epoch]
    assert {c for b in batches for c in b["captions"]} == {"", "luca, a, b", "zoe, a, b"}
    for batch in batches:
        (outputs,) = batch["text_encoder_outputs_list"]
        assert outputs.dtype == torch.float32
        assert [int(row[0, 0]) for row in outputs] == [len(c) for c in batch["captions"]]
        assert batch["input_ids_list"] is None


@pytest.mark.parametrize("captions", [{"shuffle": True}, {"tag_dropout": 0.1}, {"wildcard": True}])
def test_captions_that_change_are_not_cached(
    dataset_class: Any, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, captions: dict[str, Any]
):
    configure(tmp_path, monkeypatch, captions=captions)
    with pytest.raises(ConfigError, match=next(iter(captions))):
        dataset_class(None, None, None).is_text_encoder_output_cacheable()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_sample_is_named_or_left_out(
    dataset_class: Any, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
):
    dataset = dataset_class(None, None, None)
    entry = dataset._shards.samples[0]
    shard = tmp_path / "shards" / entry.shard
    data = bytearray(shard.read_bytes())
    offset, size = entry.files["webp"]
    data[offset : offset + size] = b"\0" * size
    shard.write_bytes(data)
    with pytest.raises(ShardError, match=rf"{entry.key}.*{entry.shard}"):
        train(dataset, workers)
    configure(tmp_path, monkeypatch, on_error="skip", batch_size=1)
    dataset = dataset_class(None, None, None)
    keys = [key for epoch in train(dataset, workers, epochs=1) for batch in epoch for key in batch["image_keys"]]
    assert entry.key not in keys
    assert len(keys) == len(dataset)  # its place is taken by the next, for the number of batches is promised
    if workers == 0:
        assert sum(dataset.skipped.values()) == 3


def test_what_the_trainer_writes_into_the_metadata_is_true(
    dataset_class: Any, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    dataset = dataset_class(None, None, None)
    assert (dataset.batch_size, dataset.num_train_images, dataset.img_count) == (2, 27, 9)
    subsets = [(s.image_dir, s.img_count, s.num_repeats, s.is_reg) for s in dataset.subsets]
    assert subsets == [("luca", 5, 3.0, False), ("zoe", 4, 3.0, False)]
    assert dataset.tag_frequency == {"luca": {"luca": 5, "a": 5, "b": 5}, "zoe": {"zoe": 4, "a": 4, "b": 4}}
    buckets = json.loads(json.dumps(dataset.bucket_info))["buckets"].values()
    assert sum(b["count"] for b in buckets) == 27
    plan = made_in(load_config(config), 0)
    sizes = {(m.pixels.shape[2], m.pixels.shape[1]) for batch in plan for m in batch}
    assert {tuple(b["resolution"]) for b in buckets} == sizes
    assert (dataset.min_bucket_reso, dataset.max_bucket_reso) == (min(map(min, sizes)), max(map(max, sizes)))
    dataset.verify_bucket_reso_steps(32)
    with pytest.raises(ConfigError, match="multiple of 64"):
        dataset.verify_bucket_reso_steps(64)


def arguments(**changes: Any) -> Namespace:
    plain: dict[str, Any] = dict.fromkeys(("dataset_class", "train_batch_size", "resolution", "keep_tokens"))
    return Namespace(**{**plain, "train_batch_size": 1, "resolution": (96, 96), "keep_tokens": 0, **changes})


@pytest.mark.parametrize(
    ("given", "needle"),
    [
        ({"cache_latents": True}, "export --variants"),
        ({"cache_latents_to_disk": True}, "cache_latents_to_disk"),
        ({"dataset_config": "x.toml"}, VARIABLE),
        ({"debug_dataset": True}, "preview"),
        ({"in_json": "x.json"}, "captions"),
        ({"color_aug": True}, "hues"),
        ({"train_batch_size": 8}, "data.batch_size says 2"),
        ({"resolution": (512, 512)}, "data.resolution"),
        ({"shuffle_caption": True}, "data.captions.shuffle"),
        ({"flip_aug": True}, "horizontal_flip"),
        ({"caption_dropout_rate": 0.1}, "data.captions.dropout"),
    ],
)
def test_arguments_that_contradict_are_refused(dataset_class: Any, config: Path, given: dict[str, Any], needle: str):
    args = arguments(**given)

    def load_arbitrary_dataset(args: Namespace) -> Any:
        return dataset_class(None, None, args.resolution, False)

    with pytest.raises(ConfigError, match=needle):
        load_arbitrary_dataset(args)


def test_arguments_say_afterwards_what_is_done(config: Path, caplog: pytest.LogCaptureFixture):
    args = arguments(enable_bucket=True, shuffle_caption=False, random_crop=False)
    loaded = load_config(config)
    captions = dataclasses.replace(loaded.data.captions, shuffle=True, keep_tokens=1)
    loaded = dataclasses.replace(loaded, data=dataclasses.replace(loaded.data, captions=captions))
    reconcile(args, loaded)
    assert (args.train_batch_size, args.shuffle_caption, args.keep_tokens, args.random_crop) == (2, True, 1, True)
    assert "--enable_bucket" in caplog.text


def test_a_missing_or_wrong_configuration_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(ConfigError, match=f"{VARIABLE} is not set"):
        configuration()
    monkeypatch.setenv(VARIABLE, str(tmp_path / "none.toml"))
    with pytest.raises(ConfigError, match="cannot be read"):
        configuration()
    assert arguments_of_caller() is None


def test_older_sd_scripts_are_refused(monkeypatch: pytest.MonkeyPatch, config: Path):
    class Old:
        def __init__(self, tokenizer: Any, max_token_length: Any, resolution: Any, multiplier: Any) -> None: ...

    module: Any = ModuleType("library.train_util")
    module.MinimalDataset, module.ImageInfo = Old, ImageInfo
    monkeypatch.setitem(sys.modules, "library", ModuleType("library"))
    monkeypatch.setitem(sys.modules, "library.train_util", module)
    sys.modules.pop("lora_data_kohya.dataset", None)
    import lora_data_kohya

    try:
        with pytest.raises(ConfigError, match=r"older than 0\.10\.0"):
            lora_data_kohya.Dataset(None, None, None)
    finally:
        sys.modules.pop("lora_data_kohya.dataset", None)


def test_a_dataset_and_its_batches_travel_to_workers(dataset_class: Any, config: Path):
    dataset = dataset_class(None, None, None)
    dataset.set_current_strategies()
    sent = pickle.dumps(dataset[0])
    assert len(sent) < 200_000  # cut-outs and a module of tables, no decoded cache
    again = pickle.loads(sent)
    assert torch.equal(again["images"], dataset[0]["images"])


def test_outputs_of_different_lengths_are_padded():
    rows = [[np.ones((2, 3)), np.ones(2, np.int64), np.float32(1)], [np.ones((4, 3)), np.ones(1), np.float32(2)]]
    long, ids, scalar = stack_outputs(rows)
    assert long.shape == (2, 4, 3)
    assert long[0].sum(dim=1).tolist() == [3, 3, 0, 0]
    assert ids.tolist() == [[1, 1], [1, 0]]
    assert scalar.tolist() == [1, 2]


def test_the_launcher_hands_the_script_its_own_arguments(
    tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    script = tmp_path / "train_network.py"
    script.write_text("import json, os, sys, here\nprint(json.dumps([sys.argv[1:], os.environ['LORA_DATA_CONFIG']]))")
    (tmp_path / "here.py").write_text("")
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert main([str(script), "--seed", "1", "--lora_data", str(config), "--sdpa"]) == 0
    expected = [["--seed", "1", "--sdpa", "--dataset_class", "lora_data_kohya.Dataset"], os.fspath(config)]
    assert json.loads(capsys.readouterr().out) == expected


@pytest.mark.parametrize(
    ("given", "needle"),
    [
        ([], "the first argument is the script"),
        (["nowhere.py", "--lora_data", "x"], "there is no script"),
        ([__file__], "--lora_data wants one"),
        ([__file__, "--lora_data"], "--lora_data wants one"),
        ([__file__, "--lora_data", "none.toml"], "cannot be read"),
    ],
)
def test_a_wrong_command_line_is_said(given: list[str], needle: str, capsys: pytest.CaptureFixture[str]):
    assert main(given) == 2
    assert needle in capsys.readouterr().err
