from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from lora_data.models.network import Network
from lora_data.models.tiles import Refused, _starts, run_tiled


def done(made: list[Tensor | Refused]) -> Tensor:
    (only,) = made
    assert isinstance(only, Tensor)
    return only


def blur(scale: int = 1) -> Network:
    """A network that reaches 6 px, with zeros around the picture as convolutions have."""
    torch.manual_seed(0)
    weight = torch.rand(1, 1, 13, 13)
    weight = (weight / weight.sum()).expand(3, -1, -1, -1)

    def call(_: nn.Module, x: Tensor) -> Tensor:
        made = F.conv2d(x, weight, padding=6, groups=3)
        return F.interpolate(made, scale_factor=scale) if scale > 1 else made

    return Network("blur", nn.Identity(), call, scale=scale)


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize(("height", "width"), [(100, 150), (64, 200), (65, 64)])
def test_tiled_equals_whole_away_from_the_tiles_borders(scale: int, height: int, width: int):
    """A tile's rim of 6 px is wrong; blended linearly over 32 px it weighs less than a fifth."""
    image = torch.rand(3, height, width, generator=torch.Generator().manual_seed(1))
    whole = blur(scale)(image[None])[0]
    tiled = done(run_tiled(blur(scale), [image], tile=64, overlap=32))
    assert tiled.shape == whole.shape
    starts = [(_starts(side, 64, 32), side) for side in (height, width)]
    near = [torch.zeros(side, dtype=torch.bool) for side in (height, width)]
    for axis, (tops, side) in enumerate(starts):
        for top in tops:
            for border in (top, top + 64):
                if 0 < border < side:
                    near[axis][max(0, border - 6) : border + 6] = True
    away = ~(near[0][:, None] | near[1][None])
    away = away.repeat_interleave(scale, 0).repeat_interleave(scale, 1)
    assert float((tiled - whole).abs()[:, away].max()) < 1e-5
    assert bool(away.any())


def test_no_seam_is_seen_on_a_smooth_picture():
    """A network that reads each tile a little brighter than the other: the step becomes a slope."""
    y, x = torch.meshgrid(torch.linspace(0.2, 0.7, 300), torch.linspace(0.1, 0.6, 280), indexing="ij")
    image = torch.stack([y, x, (x + y) / 2])

    def call(_: nn.Module, tiles: Tensor) -> Tensor:
        return tiles + (tiles.mean(dim=(1, 2, 3), keepdim=True) - 0.4) * 0.05

    made = done(run_tiled(Network("uneven", nn.Identity(), call), [image], tile=128, overlap=32))
    step = torch.maximum((made - image).diff(dim=1).abs().max(), (made - image).diff(dim=2).abs().max())
    assert float(step) < 1 / 255


@settings(max_examples=60)
@given(st.integers(1, 600), st.integers(32, 256), st.integers(0, 15))
def test_tiles_cover_a_side_and_overlap_enough(side: int, tile: int, overlap: int):
    starts = _starts(side, tile, overlap)
    assert starts[0] == 0
    assert starts[-1] == max(0, side - tile)
    assert all(0 < b - a <= tile - overlap for a, b in itertools.pairwise(starts))


def test_where_memory_runs_out_half_as_many_tiles_run_at_once():
    sizes: list[int] = []

    def call(_: nn.Module, tiles: Tensor) -> Tensor:
        sizes.append(len(tiles))
        if len(tiles) > 3:
            raise torch.OutOfMemoryError("too many")
        return tiles

    image = torch.rand(3, 100, 100)
    made = done(run_tiled(Network("hungry", nn.Identity(), call), [image], tile=32, overlap=8, batch=16))
    assert torch.allclose(made, image, atol=1e-6)
    assert sizes[:4] == [16, 8, 4, 2]
    assert sum(size for size in sizes if size <= 3) == 16

    def never(_: nn.Module, tiles: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("not even one")

    refused = run_tiled(Network("starved", nn.Identity(), never), [image, image], tile=32, overlap=8, batch=16)
    assert [r.reason for r in refused if isinstance(r, Refused)] == ["memory", "memory"]


def test_a_tile_that_fails_costs_its_own_picture_only():
    def call(_: nn.Module, tiles: Tensor) -> Tensor:
        return torch.where(tiles.mean(dim=(1, 2, 3), keepdim=True) > 0.9, torch.nan, tiles)

    images = [torch.rand(3, 60, 90), torch.ones(3, 60, 90), torch.rand(3, 50, 70)]
    first, second, third = run_tiled(Network("picky", nn.Identity(), call), images, tile=256, batch=8)
    assert isinstance(second, Refused)
    assert second.reason == "network"
    assert "not finite" in second.message
    assert torch.equal(done([first]), images[0])
    assert torch.equal(done([third]), images[2])


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(5, 150), st.integers(5, 150)), min_size=1, max_size=5), st.integers(1, 6))
def test_a_picture_never_depends_on_its_company(sizes: list[tuple[int, int]], batch: int):
    images = [torch.rand(3, *size, generator=torch.Generator().manual_seed(i)) for i, size in enumerate(sizes)]
    together = run_tiled(blur(2), images, tile=64, overlap=16, batch=batch, workers=2)
    for image, made in zip(images, together, strict=True):
        alone = done(run_tiled(blur(2), [image], tile=64, overlap=16))
        assert torch.allclose(done([made]), alone, atol=1e-6)


def test_what_a_network_enlarges_too_much_is_averaged_down():
    image = torch.rand(3, 70, 90)
    made = done(run_tiled(blur(4), [image], scale=2, tile=64, overlap=16))
    whole = F.interpolate(done(run_tiled(blur(4), [image], tile=64, overlap=16))[None], (140, 180), mode="area")[0]
    assert float((made - whole).abs().max()) < 0.01  # the blend is weighed at the coarser px
