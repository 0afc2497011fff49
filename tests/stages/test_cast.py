from __future__ import annotations

import random
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_data.colour import LUMINANCE, to_linear, to_srgb
from lora_data.manifest import Record
from lora_data.sample import Instance
from lora_data.stages.cast import GRID, MeasureCast, Scene, WhiteBalance, assign_scenes, compare_grids

ORANGE, BLUE = np.array([1.45, 1.0, 0.6]), np.array([0.6, 1.0, 1.45])


def picture(seed: int = 0, size: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """Linear paint of a character and its matte."""
    rng = np.random.default_rng(seed)
    paint = cv2.resize(rng.uniform(0.05, 0.5, (6, 6, 3)), (size, size), interpolation=cv2.INTER_LINEAR)
    y, x = np.mgrid[:size, :size] / size - 0.5
    return paint, ((x**2 + y**2 < 0.22) * 255).astype(np.uint8)


def shot(gains: list[Any], *, seed: int = 0, move: float = 0.0, **fields: Any) -> list[Record]:
    """The records of a character in consecutive frames, each under its gain (None: as painted)."""
    paint, alpha = picture(seed)
    records: list[Record] = []
    for frame, gain in enumerate(gains):
        rng = np.random.default_rng(frame)
        linear = paint * (1 if gain is None else np.asarray(gain)) * (1 + move * rng.normal(size=(1, 1, 1)))
        record = Record(source=f"f_{frame:06d}_i0.png", key=f"f_{frame:06d}_i0", frame=frame, **fields)
        records.append(MeasureCast().apply(Instance(record, to_srgb(linear), alpha)).record)
    return records


def gains_of(records: list[Record]) -> list[np.ndarray | None]:
    gains = [(r.wb_red, r.wb_green, r.wb_blue) for r in records]
    return [None if g[0] is None else np.array(g, np.float64) for g in gains]


def chromatic(gain: np.ndarray) -> np.ndarray:
    return np.log(gain) - np.log(gain).mean()


def test_the_grid_is_premultiplied_linear_light_and_coverage() -> None:
    paint, alpha = picture()
    record = MeasureCast().apply(Instance(Record(source="a", key="a"), to_srgb(paint), alpha)).record
    assert record.colour_grid is not None
    assert record.colour_grid.dtype == np.float32
    grid = record.colour_grid.reshape(GRID, GRID, 4)
    assert 0 <= grid.min() <= grid.max() <= 1
    assert grid[0, 0, 3] < 0.5 < grid[4, 4, 3]
    assert (grid[..., :3] <= grid[..., 3:] + 1e-6).all()


def test_the_grid_sees_neither_position_nor_hidden_colour() -> None:
    paint, alpha = picture()
    rgb = to_srgb(paint)
    grids: list[np.ndarray] = []
    for hidden, pad in ((0, 0), (255, 17)):
        colour = np.where((alpha > 0)[..., None], rgb, hidden).astype(np.uint8)
        space = ((pad, 3), (2, pad))
        one = Instance(Record(source="a", key="a"), np.pad(colour, (*space, (0, 0))), np.pad(alpha, space))
        grid = MeasureCast().apply(one).record.colour_grid
        assert grid is not None
        grids.append(grid)
    assert np.array_equal(grids[0], grids[1])


def test_an_empty_matte_has_no_grid() -> None:
    empty = Instance(Record(source="a", key="a"), np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9), np.uint8))
    assert MeasureCast().apply(empty).record.colour_grid is None


@pytest.mark.parametrize("cast", [ORANGE, BLUE, np.array([1.25, 1.15, 0.5]), np.array([1.3, 0.72, 1.25])])
@pytest.mark.parametrize("where", [0, 2, 4])
def test_a_cast_is_found_and_undone(cast: np.ndarray, where: int) -> None:
    gains: list[Any] = [None] * 5
    gains[where] = cast
    found = gains_of(WhiteBalance(max_gain=3).apply(shot(gains)))
    assert [i for i, g in enumerate(found) if g is not None] == [where]
    gain = found[where]
    assert gain is not None
    assert np.abs(chromatic(gain) + chromatic(cast)).max() < 0.03


def test_two_different_casts_in_one_shot_are_both_undone() -> None:
    found = gains_of(WhiteBalance().apply(shot([None, None, BLUE, ORANGE, None])))
    assert [g is not None for g in found] == [False, False, True, True, False]


def test_a_cast_over_a_run_is_undone_where_the_picture_comes_back() -> None:
    found = gains_of(WhiteBalance().apply(shot([None, None, ORANGE, ORANGE, None, None])))
    assert [g is not None for g in found] == [False, False, True, True, False, False]


@pytest.mark.parametrize(
    "gains",
    [
        [ORANGE] * 5,  # a graded shot
        [None, None, None, ORANGE, ORANGE],  # a change of light that lasts
        [BLUE, BLUE, ORANGE, ORANGE, ORANGE],
        [None, ORANGE],  # nobody to ask
        [ORANGE, None, None, None, ORANGE],  # as many say so as say the opposite
        [1.0, 0.3, 1.6, 0.1, 1.0],  # exposure
        [None, (1.05, 1, 0.95), None, None, None],  # too small to be certain
        [(1 + 0.1 * k, 1, 1 - 0.1 * k) for k in range(6)],  # a dissolve
    ],
)
def test_what_is_no_cast_is_left_alone(gains: list[Any]) -> None:
    assert all(g is None for g in gains_of(WhiteBalance().apply(shot(gains))))


def test_another_character_is_no_witness() -> None:
    alone = shot([ORANGE])[0].replace(frame=2)
    others = [r for r in shot([None] * 5, seed=7) if r.frame != 2]
    assert all(g is None for g in gains_of(WhiteBalance().apply([*others, alone])))


def test_a_pair_that_one_gain_does_not_explain_says_nothing() -> None:
    records = shot([None, None, ORANGE, None, None])
    rough = [
        r.replace(colour_grid=r.colour_grid * np.exp(np.random.default_rng(i).normal(0, 0.1, r.colour_grid.shape)))
        for i, r in enumerate(records)
        if r.colour_grid is not None
    ]
    assert gains_of(WhiteBalance().apply(rough))[2] is not None
    assert gains_of(WhiteBalance(max_residual=0.05).apply(rough))[2] is None


def test_tracks_are_kept_apart() -> None:
    records = shot([None, None, ORANGE, None, None])
    apart = [r.replace(track="b" if r.frame == 2 else "a") for r in records]
    assert all(g is None for g in gains_of(WhiteBalance().apply(apart)))


def test_the_result_does_not_depend_on_order() -> None:
    records = shot([None, ORANGE, None, BLUE, None, None])
    mixed = list(records)
    random.Random(3).shuffle(mixed)
    by_key = {r.key: r for r in WhiteBalance().apply(mixed)}
    for record in WhiteBalance().apply(records):
        other = by_key[record.key]
        assert (record.scene, record.wb_red, record.wb_blue) == (other.scene, other.wb_red, other.wb_blue)


def test_gains_are_capped_and_keep_the_mean_luminance() -> None:
    records = shot([None, None, np.array([1.6, 1.2, 0.2]), None, None])
    result = WhiteBalance(max_gain=1.5).apply(records)[2]
    gain = gains_of([result])[0]
    assert gain is not None
    assert gain.max() <= 1.5 + 1e-9
    assert gain.min() >= 1 / 1.5 - 1e-9
    gain = gains_of(WhiteBalance().apply(shot([None, None, ORANGE, None, None])))[2]
    grid = records[0].colour_grid
    assert gain is not None
    assert grid is not None
    paint, alpha = picture()
    seen = to_linear(to_srgb(paint * ORANGE))[alpha > 0]
    assert (seen * gain @ LUMINANCE).mean() == pytest.approx((seen @ LUMINANCE).mean(), rel=0.02)


def test_rejected_instances_neither_vote_nor_are_judged() -> None:
    records = [r.decide("rejected", "filter", "dark") if r.frame != 2 else r for r in shot([None, None, ORANGE, None])]
    assert all(g is None for g in gains_of(WhiteBalance().apply(records)))


def test_disabled_assigns_scenes_and_no_gains() -> None:
    result = WhiteBalance(enabled=False).apply(shot([None, ORANGE, None, None]))
    assert all(g is None for g in gains_of(result))
    assert {r.scene for r in result} == {"000000"}


def test_old_gains_do_not_survive() -> None:
    records = [r.replace(wb_red=2.0, wb_green=2.0, wb_blue=2.0) for r in shot([None] * 3)]
    assert all(g is None for g in gains_of(WhiteBalance().apply(records)))


def test_scenes_are_runs_of_frames_of_one_film() -> None:
    def record(source: str, frame: int | None, scene: str | None = None) -> Record:
        return Record(source=source, key=source.replace("/", "-"), frame=frame, scene=scene)

    records = [
        record("a/1.png", 1),
        record("a/9.png", 9),
        record("a/30.png", 30),
        record("b/2.png", 2),
        record("c/frame_0004/x.png", 4),
        record("c/frame_0005/x.png", 5),
        record("a/x.png", None),
        record("a/2.png", 2, "said"),
    ]
    expected = ["a/000001", "a/000001", "a/000030", "b/000002", "c/frame_/000004", "c/frame_/000004", None, "said"]
    assert assign_scenes(records, 12) == expected


def test_a_gain_per_channel_leaves_no_residual() -> None:
    one, other, stranger = (
        np.asarray(r.colour_grid).reshape(GRID, GRID, 4) for r in [*shot([None, ORANGE]), shot([None], seed=5)[0]]
    )
    gain, residual, overlap = compare_grids(other, np.stack([one, stranger]))
    assert np.abs(gain[0] - chromatic(ORANGE)).max() < 0.03
    assert residual[0] < 0.02
    assert residual[1] > 0.3
    assert overlap[0] > 0.99


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"scene_gap": 0}, "scene_gap"),
        ({"min_neighbours": 1}, "min_neighbours"),
        ({"neighbours": 1}, "neighbours"),
        ({"threshold": 0}, "threshold"),
        ({"tolerance": 3}, "tolerance"),
        ({"max_residual": 0}, "max_residual"),
        ({"min_overlap": 1.5}, "min_overlap"),
        ({"max_gain": 0.5}, "max_gain"),
    ],
)
def test_impossible_values_are_refused(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=f"^{named} must be"):
        WhiteBalance(**fields)


@given(st.lists(st.tuples(st.integers(0, 12), st.sampled_from([None, "a", "b"])), min_size=1, max_size=20), st.data())
def test_neighbours_are_the_nearest_frames_of_what_may_be_the_same(seen: list[tuple[int, str | None]], data: Any):
    grid = np.zeros(GRID * GRID * 4, np.float32)
    records = [
        Record(source=str(n), key=str(n), frame=frame, track=track, colour_grid=grid)
        for n, (frame, track) in enumerate(seen)
    ]
    index = data.draw(st.integers(0, len(seen) - 1))
    frame, track = seen[index]
    fits = [n for n, (f, t) in enumerate(seen) if f != frame and (t == track or t is None or track is None)]
    order = sorted({seen[n][0] for n in fits}, key=lambda f: (abs(f - frame), f))
    assert list(Scene(records).nearest(index)) == [(f, [n for n in fits if seen[n][0] == f]) for f in order]
