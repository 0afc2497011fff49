from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from lora_data import ShardDataset
from lora_data.cli import main
from lora_data.config import load_config
from lora_data.errors import ConfigError, ModelError
from lora_data.manifest import Record
from lora_data.models import loaded
from lora_data.models.network import Network
from lora_data.pipeline import recipe
from lora_data.sample import Instance
from lora_data.stage import Resources
from lora_data.stages.upscale import Upscale
from lora_data.table import read_table
from tests.conftest import ROOT, cutout
from tests.models import networks

WEIGHTS = ROOT.parent / "shared" / "models" / "realesr-animevideov3.pth"


def instance(size: int = 96) -> Instance:
    """A soft ball with a hand of margin, hidden black around it."""
    rgb, alpha = cutout(size, seed=1)
    y, x = np.mgrid[:size, :size]
    checks = ((x // 4 + y // 4) % 2 * 40).astype(np.uint8)
    rgb = cv2.add(rgb, np.dstack([checks] * 3) * (alpha > 0)[..., None].astype(np.uint8))
    return Instance(Record(source="a.png", key="a", width=size, height=size), rgb, alpha)


def plug(monkeypatch: pytest.MonkeyPatch, call: Any, scale: int = 4) -> None:
    """Let the stage find this network."""
    made = Network("test", nn.Identity(), call, scale=scale)
    monkeypatch.setattr(loaded, "network", lambda *_: made)


def upscaled(instance: Instance, stage: Upscale | None = None) -> Instance:
    (made,) = (stage or Upscale()).apply_many([instance], Resources())
    return made


def sharpened(scale: int) -> Any:
    """Enlarges and sharpens, as a good network does."""

    def call(_: nn.Module, x: Tensor) -> Tensor:
        large = F.interpolate(x, scale_factor=scale, mode="bicubic")
        soft = F.avg_pool2d(large, 2 * scale + 1, 1, scale, count_include_pad=False)
        return large + 1.5 * (large - soft)

    return call


@pytest.mark.parametrize("scale", [2, 4])
def test_a_small_character_is_enlarged_twice(monkeypatch: pytest.MonkeyPatch, scale: int):
    plug(monkeypatch, sharpened(scale), scale)
    given = instance()
    made = upscaled(given)
    assert (made.record.upscale, made.record.upscale_scale, made.record.upscale_reason) == ("applied", 2, None)
    assert made.rgb.shape == (192, 192, 3)
    assert made.alpha.shape == (192, 192)
    assert made.record.upscale_hue_shift is not None
    assert made.record.upscale_hue_shift < 1
    assert made.record.upscale_gain is not None
    assert made.record.upscale_gain > 1.1
    # No fringe: the soft edge carries the character's own colour, nothing of the black that was hidden around it.
    edge = (made.alpha > 20) & (made.alpha < 200)
    inside = cv2.resize(given.rgb, (192, 192), interpolation=cv2.INTER_CUBIC)[made.alpha > 250]
    assert float(np.median(made.rgb[edge].sum(axis=1))) > 0.5 * float(np.median(inside.sum(axis=1)))
    assert not made.rgb[made.alpha == 0].any()
    small = cv2.resize(made.alpha, (96, 96), interpolation=cv2.INTER_AREA).astype(int)
    assert float(np.abs(small - given.alpha).mean()) < 1
    assert np.array_equal(made.rgb, upscaled(given).rgb)


def test_the_network_never_sees_hidden_colour(monkeypatch: pytest.MonkeyPatch):
    seen: list[Tensor] = []

    def call(_: nn.Module, x: Tensor) -> Tensor:
        seen.append(x.clone())
        return F.interpolate(x, scale_factor=2)

    plug(monkeypatch, call, 2)
    given = instance()
    upscaled(given)
    magenta = np.where((given.alpha == 0)[..., None], np.array([255, 0, 255], np.uint8), given.rgb)
    upscaled(given.replace(rgb=magenta))
    assert torch.equal(seen[0], seen[1])


def test_a_large_one_stays(monkeypatch: pytest.MonkeyPatch):
    plug(monkeypatch, sharpened(2), 2)
    given = instance()
    for stays, stage in ((given, Upscale(below=70)), (given.replace(alpha=np.zeros_like(given.alpha)), Upscale())):
        made = upscaled(stays, stage)
        assert made.rgb is stays.rgb
        assert made.alpha is stays.alpha
        assert (made.record.upscale, made.record.upscale_reason) == ("no", "large")


def not_a_number(_: nn.Module, x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2) * float("nan")


def too_large(_: nn.Module, x: Tensor) -> Tensor:
    raise torch.OutOfMemoryError("no room")


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (not_a_number, "network"),
        (too_large, "memory"),
        (lambda _, x: F.interpolate(x, scale_factor=2, mode="bicubic"), "no_gain"),
        (lambda _, x: F.interpolate(x[:, [2, 0, 1]], scale_factor=2), "hue"),
        (lambda _, x: F.interpolate((x * 0.7).clamp(0, 1), scale_factor=2), "low_frequencies"),
    ],
)
def test_what_breaks_a_limit_is_taken_back_and_said(monkeypatch: pytest.MonkeyPatch, call: Any, reason: str):
    plug(monkeypatch, call, 2)
    given = instance()
    made = upscaled(given)
    assert (made.record.upscale, made.record.upscale_reason) == ("taken_back", reason)
    assert np.array_equal(made.rgb, given.rgb)
    assert np.array_equal(made.alpha, given.alpha)
    assert made.record.upscale_scale is None
    if reason not in ("network", "memory"):
        assert made.record.upscale_value is not None
        assert made.record.upscale_limit is not None


NETWORKS = {
    "realesrgan-x2plus": lambda: networks.esrgan(scale=2),
    "realesrgan-x4plus": networks.esrgan,
    "realesrgan-x4plus-anime": lambda: networks.esrgan(blocks=6),
    "realesr-animevideov3": networks.compact,
    "realesr-general-x4v3": lambda: networks.compact(convolutions=8),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_goes_the_whole_way(name: str, tmp_path: Path):
    """Random weights in the official layout: in tiles, judged; refused with a value, or harmless noise."""
    path = networks.save(NETWORKS[name](), tmp_path / f"{name}.pth", key="params_ema")
    settings = Upscale(model=str(path), tile=96)
    settings.prepare(Resources())
    given = instance(160)
    made = upscaled(given, settings)
    if made.record.upscale == "applied":  # animevideov3 adds to what it was given, random weights add little
        assert name == "realesr-animevideov3"
        assert made.rgb.shape == (320, 320, 3)
        return
    assert made.record.upscale == "taken_back"
    assert made.record.upscale_reason in ("hue", "low_frequencies", "no_gain")
    assert made.record.upscale_value is not None
    assert made.rgb is given.rgb


def test_a_picture_does_not_depend_on_its_company(monkeypatch: pytest.MonkeyPatch):
    plug(monkeypatch, sharpened(2), 2)
    many = [instance(size) for size in (96, 130, 96, 64)]
    together = Upscale(tile=96).apply_many(many, Resources(workers=3))
    for given, made in zip(many, together, strict=True):
        alone = upscaled(given, Upscale(tile=96))
        assert np.array_equal(made.rgb, alone.rgb)
        assert made.record.upscale_hue_shift == alone.record.upscale_hue_shift


def test_an_enlarged_picture_averages_down_to_what_it_was(monkeypatch: pytest.MonkeyPatch):
    plug(monkeypatch, sharpened(2), 2)
    given = instance()
    made = upscaled(given)
    back = cv2.resize(made.alpha, (96, 96), interpolation=cv2.INTER_AREA)
    assert int(np.abs(back.astype(int) - given.alpha).max()) <= 2


def test_a_network_that_does_something_else_is_named(tmp_path: Path):
    one = networks.save(networks.nafnet(), tmp_path / "one.pth", key="params")
    cases = {
        "nafnet-gopro-32": "precompute.upscale.model: nafnet-gopro-32 does deblur, not upscale",
        str(one): "enlarges 1 times, expected 2 or 4",
        "esrgan": "precompute.upscale.model: there is no model 'esrgan'.*or the path of a file",
    }
    for model, message in cases.items():
        with pytest.raises(ConfigError, match=message):
            Upscale(model=model).prepare(Resources())
    with pytest.raises(ModelError, match="cannot be opened"):
        Upscale(model=str(tmp_path / "nothing.pth")).prepare(Resources())


def test_it_is_in_the_recipe_where_it_is_turned_on():
    names = [[s.name for s in recipe(load_config(overrides=o))] for o in ([], ["precompute.upscale.enabled=true"])]
    assert "upscale" not in names[0]
    assert names[1].index("matte") < names[1].index("upscale") < names[1].index("colour")


def test_a_run_with_real_weights_writes_larger_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    if not WEIGHTS.is_file():
        pytest.skip("the weights in ../shared/models are not here")
    from lora_data.demo import make_film

    make_film(tmp_path / "film", instances=24, characters=2, seed=5, size=96)
    outs = [tmp_path / f"out{workers}" for workers in (1, 2)]
    for workers, out in enumerate(outs, 1):
        arguments = ["precompute", str(tmp_path / "film" / "instances"), "--out", str(out), "--workers", str(workers)]
        arguments += ["--set", "precompute.upscale.enabled=true", "--set", f"precompute.upscale.model={WEIGHTS}"]
        arguments += ["--set", "precompute.filter.min_size=16", "--set", "precompute.identity.min_cluster_size=2"]
        assert main(arguments) == 0, capsys.readouterr().err
    shards = [sorted(p.name for p in (out / "shards").iterdir()) for out in outs]
    assert shards[0] == shards[1]
    for name in shards[0]:
        assert (outs[0] / "shards" / name).read_bytes() == (outs[1] / "shards" / name).read_bytes()
    records = {r.key: r for r in read_table(outs[0] / "instances.parquet")}
    applied = [r for r in records.values() if r.upscale == "applied"]
    assert len(applied) > len(records) / 3
    assert all(r.upscale_hue_shift is None or r.upscale_hue_shift <= 1 for r in applied)
    dataset = ShardDataset(outs[0] / "shards")
    for place, sample in enumerate(dataset.samples):
        scale = records[sample.key].upscale_scale or 1
        width, height = records[sample.key].width or 0, records[sample.key].height or 0
        assert dataset.image(place).shape[:2] == (scale * height, scale * width)
    run = json.loads((outs[0] / "run.json").read_text())
    assert [m["name"] for m in run["models"]] == [WEIGHTS.name]
    assert {s["stage"] for s in run["skipped"]} == {"face_restore", "deblur"}
    assert "left out: deblur" in capsys.readouterr().out


def test_a_person_s_no_is_followed(monkeypatch: pytest.MonkeyPatch):
    def never(_: nn.Module, x: Tensor) -> Tensor:
        raise AssertionError("the network must not run")

    plug(monkeypatch, never)
    given = instance().replace(upscale_review="refuse")
    made = upscaled(given)
    assert (made.record.upscale, made.record.upscale_reason) == ("taken_back", "person")
    assert made.record.upscale_scale is None
    assert made.rgb is given.rgb
    assert made.alpha is given.alpha
