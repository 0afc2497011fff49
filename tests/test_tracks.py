from __future__ import annotations

import numpy as np
import pytest

from lora_data.manifest import Record
from lora_data.tracks import TrackLimits, find_tracks

LIMITS = TrackLimits(similarity=0.94, overlap=0.8, gap=3)
A, B = np.eye(2, dtype=np.float32)


def row(key: str, frame: int | None, **fields: object) -> Record:
    return Record(source=f"{key}.png", key=key, frame=frame, **fields)  # type: ignore[arg-type]


def tracks(*rows: tuple[Record, np.ndarray]) -> list[int]:
    return find_tracks([r for r, _ in rows], [v for _, v in rows], LIMITS).tolist()


def matte(top: int) -> np.ndarray:
    mask = np.zeros((96, 96), bool)
    mask[top : top + 40] = True
    return np.packbits(mask)


@pytest.mark.parametrize(("step", "joined"), [(1, True), (3, True), (4, False)])
def test_neighbours_that_look_alike(step: int, joined: bool):
    assert (tracks((row("a", 10), A), (row("b", 10 + step), A)) == [0, 0]) == joined


def test_silhouettes_link_where_colours_do_not():
    assert tracks((row("a", 1, thumb_matte=matte(0)), A), (row("b", 2, thumb_matte=matte(2)), B)) == [0, 0]
    assert tracks((row("a", 1, thumb_matte=matte(0)), A), (row("b", 2, thumb_matte=matte(30)), B)) == [0, 1]


def test_each_continues_in_one():
    pair = [(row("a1", 1), A), (row("b1", 1), B), (row("a2", 2), A), (row("b2", 2), B)]
    assert tracks(*pair) == [0, 1, 0, 1]


def test_films_and_scenes_are_never_crossed():
    assert tracks((row("x/a", 1), A), (Record(source="y/b.png", key="b", frame=2), A)) == [0, 1]
    assert tracks((row("a", 1, scene="s1"), A), (row("b", 2, scene="s2"), A)) == [0, 1]


def test_named_tracks_are_taken_as_they_are():
    named = [(row(k, f, track="7", scene="s"), v) for k, f, v in (("a", 1, A), ("b", 900, B))]
    assert tracks(*named, (row("c", 900), A)) == [0, 0, 2]


def test_one_picture_twice_is_one():
    assert tracks((row("a", 1, phash=0), A), (row("b", 1, phash=3), A)) == [0, 0]
    assert tracks((row("a", 1, phash=0), A), (row("b", 1, phash=2**40 - 1), A)) == [0, 1]


def test_without_frames_everybody_is_alone():
    assert tracks((row("a", None), A), (row("b", None), A)) == [0, 1]
