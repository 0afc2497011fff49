from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lora_data.augment import AugmentedBatch, Batch, CharacterAugment, MatteShape, measure_mattes
from lora_data.augment.module import _triton_works
from lora_data.augment.params import EMPTY
from lora_data.errors import BatchError, MissingExtraError
from lora_data.shards import ShardSample, write_shards
from tests.augment.pictures import batch_of, config, keys, module, policies, smooth, still

LEVEL = 1 / 127.5
BACKENDS = ["eager", "numba"]


def levels(made: AugmentedBatch) -> torch.Tensor:
    """The pixels in 8-bit levels."""
    return (made.pixel_values.float() + 1) / LEVEL


@pytest.mark.parametrize("backend", BACKENDS)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 99))
def test_a_policy_that_draws_nothing_returns_the_picture_on_its_background(
    backend: str, height: int, width: int, seed: int
):
    picture = smooth(2, height, width, seed)
    made = module({"enabled": False}, backend=backend, background="#204060")(batch_of(picture))
    alpha = picture[:, 3:].float() / 255
    behind = torch.tensor([0x20, 0x40, 0x60]).view(1, 3, 1, 1)
    expected = picture[:, :3].float() * alpha + behind * (1 - alpha)
    assert float((levels(made) - expected).abs().max()) < 0.01
    assert float((made.mask * 255 - picture[:, 3:]).abs().max()) < 0.001


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=25)
@given(policies(), st.tuples(*[st.integers(16, 70)] * 4), st.integers(0, 99))
def test_any_policy_on_any_picture_gives_a_whole_batch(
    backend: str, policy: dict[str, Any], sides: tuple[int, int, int, int], seed: int
):
    height, width, out_h, out_w = sides
    batch = batch_of(smooth(3, height, width, seed), target=(out_h, out_w), epoch=seed)
    augment = module(policy, backend=backend, background="random")
    made = augment(batch)
    assert made.pixel_values.shape == (3, 3, out_h, out_w)
    assert made.mask.shape == (3, 1, out_h, out_w)
    for values, low in ((made.pixel_values, -1), (made.mask, 0)):
        assert bool(torch.isfinite(values).all())
        assert low <= float(values.min())
        assert float(values.max()) <= 1
    again = augment.apply(batch, made.params)
    assert torch.equal(again.pixel_values, made.pixel_values)
    assert torch.equal(again.mask, made.mask)


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=20)
@given(policies(), st.permutations(range(4)), st.integers(0, 99))
def test_order_and_company_change_no_pixel(backend: str, policy: dict[str, Any], order: list[int], seed: int):
    pictures = smooth(4, 48, 40, seed)
    augment = module(policy, backend=backend, background="random")
    together = augment(batch_of(pictures))
    names = keys(4)
    shuffled = augment(batch_of(pictures[order], sample_keys=[names[i] for i in order]))
    assert torch.equal(shuffled.pixel_values, together.pixel_values[order])
    alone = augment(batch_of(pictures[order[:1]], sample_keys=[names[order[0]]]))
    assert torch.equal(alone.pixel_values[0], together.pixel_values[order[0]])


@settings(max_examples=30)
@given(policies(), st.integers(0, 99))
def test_hue_and_saturation_stay_in_the_output(policy: dict[str, Any], seed: int):
    """Against the same warp without light: hue within 0.5 degrees, saturation within 1 / 255."""
    batch = batch_of(smooth(2, 64, 64, seed))
    augment = module({**policy, "noise_probability": 0.0})
    lit = augment(batch)
    plain = dataclasses.replace(
        lit.params, **{n: torch.ones(2, dtype=torch.float64) for n in ("brightness", "contrast")}
    )
    unlit = augment.apply(batch, plain)
    inside = (lit.mask > 0.999)[:, 0]
    before, after = ((m.pixel_values.permute(0, 2, 3, 1)[inside].double() + 1) / 2 for m in (unlit, lit))
    keep = before.amax(1) - before.amin(1) > 8 / 255
    keep &= before.amax(1) > 24 / 255
    before, after = before[keep], after[keep]
    if len(before) == 0:
        return
    shift = (hue(after) - hue(before) + 180) % 360 - 180
    assert float(shift.abs().max()) <= 0.5
    saturations = [1 - v.amin(1) / v.amax(1) for v in (before, after)]
    assert float((saturations[0] - saturations[1]).abs().max()) <= 1 / 255


def hue(rgb: torch.Tensor) -> torch.Tensor:
    """HSV hue in degrees of ``[N, 3]``."""
    r, g, b = rgb.unbind(1)
    top, spread = rgb.amax(1), rgb.amax(1) - rgb.amin(1)
    rest = torch.where(top == g, (b - r) / spread + 2, (r - g) / spread + 4)
    return 60 * torch.where(top == r, (g - b) / spread % 6, rest)


def test_no_global_generator_is_touched():
    augment = module(background="random")
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tobytes()  # pyright: ignore
    augment(batch_of(smooth(2, 40, 40)))
    after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tobytes()  # pyright: ignore
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_output_is_rounded_once_to_the_trainers_dtype(backend: Any, dtype: torch.dtype):
    batch = batch_of(smooth(2, 40, 40))
    exact = CharacterAugment(config(), counts={"a": 1}, backend=backend)(batch)
    made = CharacterAugment(config(), counts={"a": 1}, backend=backend, dtype=dtype, mask_dtype=torch.uint8)(batch)
    assert torch.equal(made.pixel_values, exact.pixel_values.to(dtype))
    assert made.mask.dtype == torch.uint8
    assert torch.equal(made.mask, (exact.mask * 255).round().to(torch.uint8))
    same = CharacterAugment(config(), counts={"a": 1}, backend=backend, dtype=dtype)(batch)
    assert same.mask.dtype == dtype


def test_autocast_and_inference_mode_change_nothing():
    batch = batch_of(smooth(2, 64, 64))
    plain = module()(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = module()(batch)
    with torch.inference_mode():
        inferred = module()(batch)
    assert torch.equal(plain.pixel_values, cast.pixel_values)
    assert torch.equal(plain.pixel_values, inferred.pixel_values)
    assert not plain.pixel_values.requires_grad


def test_sdxls_sizes_follow_the_crop():
    pictures = smooth(3, 200, 160)
    params = still(3, scale=0.8, position=0.99999)
    augment = module()
    made = augment.apply(batch_of(pictures, target=(100, 80)), params)
    assert made.original_sizes.tolist() == [[200, 160]] * 3
    assert made.target_sizes.tolist() == [[100, 80]] * 3
    crop = made.params.crop
    assert crop is not None
    zoom = 0.8 * 160 / 80
    corner = crop.centre[0].flip(0) - crop.size[0] / 2
    assert made.crop_top_lefts[0].tolist() == [round(float(v) / zoom) for v in corner]
    # The last position: the crop's far corner is the picture's, in px of the picture as it was resized.
    assert made.crop_top_lefts[0].tolist() == [25, 20]
    flipped = dataclasses.replace(made.params, flip=torch.ones(3, dtype=torch.bool))
    assert augment.apply(batch_of(pictures, target=(100, 80)), flipped).crop_top_lefts[0].tolist() == [25, 0]
    told = augment.apply(batch_of(pictures, target=(100, 80), original_sizes=torch.tensor([[50, 40]] * 3)), made.params)
    assert told.original_sizes.tolist() == [[50, 40]] * 3


def test_a_flip_mirrors_the_output():
    pictures = smooth(1, 40, 40)
    params = still(1)
    plain = module().apply(batch_of(pictures), params)
    mirrored = module().apply(batch_of(pictures), dataclasses.replace(params, flip=torch.ones(1, dtype=torch.bool)))
    assert float((levels(mirrored) - levels(plain).flip(3)).abs().max()) < 0.05


@pytest.mark.parametrize("backend", BACKENDS)
def test_pictures_of_different_sizes_share_a_canvas(backend: str):
    augment = module(backend=backend)
    small, large = smooth(1, 50, 40, 1), smooth(1, 64, 60, 2)
    canvas = torch.zeros(2, 4, 64, 60, dtype=torch.uint8)
    canvas[0, :, :50, :40], canvas[1] = small[0], large[0]
    both = augment(batch_of(canvas, sizes=torch.tensor([[50, 40], [64, 60]]), target=(48, 40)))
    for i, picture in enumerate((small, large)):
        alone = augment(batch_of(picture, sample_keys=[keys(2)[i]], target=(48, 40)))
        assert float((levels(both)[i] - levels(alone)[0]).abs().max()) < 0.1
        assert float((both.mask[i] - alone.mask[0]).abs().max()) < 1e-3


def test_mattes_from_a_loader_give_the_same():
    pictures = smooth(2, 60, 52)
    for policy, coverage in (({}, False), ({"ratio_of": "matte"}, True)):
        augment = module(policy)
        mattes = measure_mattes(pictures[:, 3], coverage=coverage)
        ours, theirs = augment(batch_of(pictures)), augment(batch_of(pictures, mattes=mattes))
        assert torch.equal(ours.pixel_values, theirs.pixel_values)
    with pytest.raises(BatchError, match="need coverage"):
        module({"ratio_of": "matte"})(batch_of(pictures, mattes=measure_mattes(pictures[:, 3], coverage=False)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_empty_matte_is_the_middle_of_the_picture(backend: str):
    picture = smooth(1, 40, 40)
    picture[:, 3] = 0
    made = module({"crop_scales": [0.8]}, backend=backend)(batch_of(picture))
    assert made.params.crop is not None
    assert made.params.crop.outcome.tolist() == [EMPTY]
    assert made.params.crop.centre.tolist() == [[20.0, 20.0]]
    assert float(made.mask.max()) == 0


NAN = float("nan")
GOOD = smooth(2, 20, 16)


@pytest.mark.parametrize(
    ("fields", "needle"),
    [
        ({"images": GOOD.float()}, "uint8.*float32"),
        ({"images": GOOD[0]}, r"\[B, 4, H, W\].*\[4, 20, 16\]"),
        ({"images": GOOD[:, :3]}, r"\[2, 3, 20, 16\]"),
        ({"images": GOOD[:0]}, "above 0"),
        ({"sample_keys": ["x"]}, "sample_keys has 1 entries, images has 2"),
        ({"characters": ["a"] * 3}, "characters has 3"),
        ({"variants": [0]}, "variants has 1"),
        ({"target": (0, 10)}, "target must be"),
        ({"sizes": torch.tensor([[20, 16], [21, 16]])}, r"sizes\[1\] is \(21, 16\)"),
        ({"sizes": torch.tensor([[20, 16], [0, 16]])}, r"sizes\[1\]"),
        ({"sizes": torch.tensor([[20.0, 16.0]] * 2)}, "whole numbers"),
        ({"original_sizes": torch.tensor([[20, 16]])}, r"original_sizes must be"),
        ({"faces": torch.tensor([[1.0, 1, 5, 5]])}, "faces must be"),
        ({"faces": torch.tensor([[1.0, 1, 5, 5], [1, NAN, 5, 5]])}, r"faces\[1\]"),
        ({"faces": torch.tensor([[5.0, 1, 1, 5], [NAN] * 4])}, r"faces\[0\]"),
        ({"faces": torch.tensor([[0.0, 0, float("inf"), 5], [NAN] * 4])}, r"faces\[0\]"),
        ({"mattes": MatteShape(rows=torch.zeros(2, 9, 2, dtype=torch.int32))}, r"\[2, 20, 2\]"),
    ],
)
def test_a_wrong_batch_is_named_before_anything_is_computed(fields: dict[str, Any], needle: str):
    with pytest.raises(BatchError, match=needle):
        batch_of(fields.pop("images", GOOD), **{"sample_keys": keys(2), "characters": ["a"] * 2, **fields})


def test_a_character_that_is_not_there_is_named():
    with pytest.raises(BatchError, match="'nobody'"):
        module()(batch_of(GOOD, characters=["a", "nobody"]))


def test_wrong_settings_are_named():
    with pytest.raises(BatchError, match=r"dtype must be one of.*float64"):
        CharacterAugment(config(), dtype=torch.float64)
    with pytest.raises(BatchError, match="does not run on cpu"):
        CharacterAugment(config(), backend="triton")(batch_of(GOOD))


def test_a_forced_backend_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lora_data.augment.module.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"numba.*lora-data\[cpu\]"):
        CharacterAugment(config(), backend="numba")
    with pytest.raises(BatchError, match="needs Triton"):
        CharacterAugment(config(), backend="triton")
    assert torch.equal(
        CharacterAugment(config(), backend="auto")(batch_of(GOOD)).pixel_values,
        CharacterAugment(config(), backend="eager")(batch_of(GOOD)).pixel_values,
    )


def test_triton_without_a_compiler_is_said_not_hidden(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lora_data.augment.module.find_spec", lambda name: object())
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.delenv("CC", raising=False)
    _triton_works.cache_clear()
    with pytest.warns(UserWarning, match="no C compiler"):
        assert not _triton_works()
    _triton_works.cache_clear()
    monkeypatch.setenv("CC", "/usr/bin/cc")
    assert _triton_works()
    _triton_works.cache_clear()


def test_counts_come_from_the_shards_index(tmp_path: Path):
    samples = [ShardSample(f"k{i:04d}", "luca", 8, 8, {"txt": b"x"}) for i in range(300)]
    samples += [ShardSample("k9999", "machiavelli", 8, 8, {"txt": b"x"})]
    write_shards(tmp_path / "shards", samples, max_bytes=10**9)
    augment = CharacterAugment(config(shards=str(tmp_path / "shards")))
    assert not augment.policies.is_on("luca")
    assert augment.policies.is_on("machiavelli")


def test_a_batch_reads_as_a_mapping_and_moves():
    batch = batch_of(GOOD)
    made = module()(batch)
    assert set(made) == set(dict(made)) >= {"pixel_values", "mask", "original_sizes", "crop_top_lefts", "target_sizes"}
    assert made["mask"] is made.mask
    assert "pixel_values" in made
    with pytest.raises(KeyError):
        made["nothing"]
    assert torch.equal(made.to("cpu").to("cpu").mask, made.mask)
    assert isinstance(batch.to("cpu"), Batch)


def test_a_parents_apply_still_walks_its_children():
    seen: list[str] = []
    parent = nn.Sequential(nn.Linear(1, 1), module())
    parent.apply(lambda child: seen.append(type(child).__name__))
    assert seen == ["Linear", "CharacterAugment", "Sequential"]
    assert list(parent.state_dict()) == ["0.weight", "0.bias"]


def test_a_parents_cast_changes_no_pixel():
    batch, augment = batch_of(smooth(2, 40, 40)), module({"noise_probability": 1.0})
    before = augment(batch).pixel_values
    nn.Sequential(augment).half()
    assert torch.equal(augment(batch).pixel_values, before)


cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


@cuda
@pytest.mark.parametrize("backend", ["eager", "triton"])
@pytest.mark.parametrize("target", [(256, 256), (160, 128)])
def test_cuda_equals_the_cpu_within_a_level(backend: Any, target: tuple[int, int]):
    batch = batch_of(smooth(4, 256, 256), target=target)
    policy = {"noise_probability": 0.5}
    here = module(policy, background="random")(batch)
    there = module(policy, backend=backend, background="random").cuda()(batch.to("cuda"))
    assert float((levels(here) - levels(there).cpu()).abs().max()) <= 1
    assert float((here.mask - there.mask.cpu()).abs().max()) * 255 <= 1


@cuda
@pytest.mark.parametrize("backend", ["eager", "triton"])
@pytest.mark.parametrize("measured", [True, False])
def test_cuda_never_waits_and_can_be_captured(backend: Any, measured: bool):
    pictures = smooth(4, 256, 256)
    mattes = measure_mattes(pictures[:, 3], coverage=False) if measured else None
    batch = batch_of(pictures, mattes=mattes).to("cuda")
    augment = module(backend=backend).cuda()
    augment(batch)
    torch.cuda.set_sync_debug_mode("error")
    try:
        made = augment(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    params = made.params.to("cuda")
    expected = augment.apply(batch, params).pixel_values
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = augment.apply(batch, params)
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(captured.pixel_values, expected)
