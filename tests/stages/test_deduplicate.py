from __future__ import annotations

import itertools
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_data.demo import render_character
from lora_data.fingerprint import THUMBNAIL, pack_luma, pack_matte
from lora_data.manifest import Record, mirrors
from lora_data.sample import Instance
from lora_data.stages.deduplicate import Deduplicate, quality_of
from lora_data.stages.fingerprint import Fingerprint

Cutout = tuple[np.ndarray, np.ndarray]


def wave(phase: float) -> np.ndarray:
    """Luma of a pattern that moves with the phase; a difference of .15 is SSIM .96, of .3 it is .86; 1 px is .25."""
    yy, xx = np.mgrid[0:THUMBNAIL, 0:THUMBNAIL]
    return pack_luma(np.rint(128 + 60 * np.sin(xx / 4 + phase) + 50 * np.cos(yy / 5)).astype(np.uint8))


def make(key: str, phase: float = 0.0, phash: int = 0, **fields: object) -> Record:
    whole = pack_matte(np.ones((THUMBNAIL, THUMBNAIL), bool))
    return Record(source=key, key=key, phash=phash, thumb_luma=wave(phase), thumb_matte=whole, **fields)  # type: ignore[arg-type]


def outcome(records: list[Record], stage: Deduplicate | None = None) -> dict[str, str | None]:
    return {r.key: r.duplicate_of for r in (stage or Deduplicate()).apply(records)}


def test_the_best_is_kept_and_the_rest_point_at_it() -> None:
    records = [make("a", sharpness=5.0), make("b", sharpness=9.0), make("c", sharpness=2.0)]
    result = Deduplicate().apply(records)
    assert [r.status for r in result] == ["duplicate", "kept", "duplicate"]
    assert [r.duplicate_of for r in result] == ["b", None, "b"]
    assert result[0].stage == "deduplicate"
    assert result[0].value is not None
    assert result[0].value >= 0.95
    assert result[0].limit == 0.95


def test_what_a_person_restored_is_nobody_s_copy() -> None:
    records = [make("a", sharpness=9.0), make("b", reviewed="restore"), make("c", reviewed="restore")]
    assert outcome(records) == {"a": "b", "b": None, "c": None}


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({"sharpness": 9.0, "box_width": 10, "box_height": 10}, {"sharpness": 5.0, "box_width": 90, "box_height": 90}),
        ({"sharpness": 5.0, "box_width": 90, "box_height": 90}, {"sharpness": 5.1, "box_width": 80, "box_height": 80}),
        ({"sharpness": 5.0, "matte_soft": 0.9}, {"sharpness": 5.0, "matte_soft": 0.1}),
        ({"sharpness": 5.0}, {}),
    ],
)
def test_declared_order_of_quality(better: dict[str, Any], worse: dict[str, Any]) -> None:
    assert quality_of(make("a", **better)) > quality_of(make("a", **worse))


def test_equals_go_to_the_first_key() -> None:
    assert outcome([make("a"), make("b")]) == {"a": None, "b": "a"}


@pytest.mark.parametrize(("bits", "expected"), [(8, "a"), (9, None)])
def test_the_hash_proposes(bits: int, expected: str | None) -> None:
    assert outcome([make("a"), make("b", phash=2**64 - 2 ** (64 - bits))])["b"] == expected


def test_the_structure_confirms() -> None:
    assert outcome([make("a"), make("b", 2.0)])["b"] is None
    assert outcome([make("a"), make("b", 2.0)], Deduplicate(ssim_threshold=0.01))["b"] == "a"


def test_a_slow_pan_does_not_collapse() -> None:
    pan = [make(f"{n:02}", 0.12 * n) for n in range(20)]
    result = {r.key: r for r in Deduplicate().apply(pan)}
    kept = [r for r in result.values() if r.active]
    assert 3 <= len(kept) < 20
    for record in result.values():
        if record.duplicate_of is not None:
            assert result[record.duplicate_of].active
            assert abs(int(record.key) - int(record.duplicate_of)) <= 5


def test_rejected_records_take_no_part() -> None:
    gone = make("a", sharpness=99.0).decide("rejected", "filter", "dark")
    assert outcome([gone, make("b"), make("c")]) == {"a": None, "b": None, "c": "b"}


@pytest.mark.parametrize("count", [0, 1])
def test_none_and_one(count: int) -> None:
    result = Deduplicate().apply([make("a")][:count])
    assert [(r.status, r.duplicate_of, r.mirror_of) for r in result] == [("kept", None, None)] * count


@pytest.mark.parametrize(("radius", "expected"), [(0, None), (1, "a"), (64, "a")])
def test_any_radius(radius: int, expected: str | None) -> None:
    stage = Deduplicate(phash_threshold=radius)
    found = outcome([make("a"), make("b"), make("c", phash=1), make("d", 2.0, phash=2**64 - 1)], stage)
    assert found == {"a": None, "b": "a", "c": expected, "d": None}


def test_equal_hashes_of_different_pictures_all_stay() -> None:
    """As many pictures with one hash as a film can have: SSIM tells them apart, pair by pair, and none is lost."""
    rng = np.random.default_rng(0)
    pictures = [pack_luma(luma) for luma in rng.integers(0, 256, (120, THUMBNAIL, THUMBNAIL), np.uint8)]
    records = [make(f"{n:03}").replace(thumb_luma=pictures[n % 120]) for n in range(240)]
    result = outcome(records)
    assert all(copy == (None if n < 120 else f"{n - 120:03}") for n, copy in enumerate(result.values()))


def test_a_hash_without_a_thumbnail_is_refused_where_it_is_needed() -> None:
    with pytest.raises(ValueError, match="b: a hash without a thumbnail"):
        Deduplicate().apply([make("a"), make("b").replace(thumb_luma=None)])


def fingerprinted(key: str, picture: Cutout, **fields: object) -> Record:
    return Fingerprint().apply(Instance(Record(source=key, key=key, **fields), *picture)).record  # type: ignore[arg-type]


def shifted(picture: Cutout, down: int, right: int) -> Cutout:
    """The same on a canvas that cuts off what a crop of a moved box would."""
    rgb, alpha = picture
    return rgb[down:, right:].copy(), alpha[down:, right:].copy()


def scaled(picture: Cutout, factor: float) -> Cutout:
    rgb, alpha = (cv2.resize(p, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA) for p in picture)
    return rgb, alpha


def encoded(picture: Cutout, suffix: str, quality: int) -> Cutout:
    setting = cv2.IMWRITE_JPEG_QUALITY if suffix == ".jpg" else cv2.IMWRITE_WEBP_QUALITY
    decoded = cv2.imdecode(cv2.imencode(suffix, picture[0], [setting, quality])[1], cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded, picture[1]


def flipped(picture: Cutout) -> Cutout:
    return picture[0][:, ::-1].copy(), picture[1][:, ::-1].copy()


@pytest.fixture(scope="module")
def pip() -> Cutout:
    return render_character("pip", azimuth=30, size=400)


def test_copies_of_a_rendered_picture_are_found_and_other_views_are_not(pip: Cutout) -> None:
    copies = {
        **{f"move{y}{x}": shifted(pip, y, x) for y, x in itertools.product(range(3), repeat=2)},
        **{f"scale{factor}": scaled(pip, factor) for factor in (0.97, 0.985, 1.015, 1.03)},
        **{f"code{suffix}{q}": encoded(pip, suffix, q) for suffix in (".jpg", ".webp") for q in (75, 86, 95)},
        "all": encoded(scaled(shifted(pip, 1, 2), 0.97), ".jpg", 86),
    }
    others = {f"turn{a}": render_character("pip", azimuth=a, size=256) for a in (60, 180)}
    others["else"] = render_character("bruno", azimuth=30, size=256)
    records = [fingerprinted(f"b{key}", picture) for key, picture in {**copies, **others}.items()]
    result = outcome([fingerprinted("a", pip, sharpness=9.0), *records])
    assert {key for key, kept in result.items() if kept == "a"} == {f"b{key}" for key in copies}
    assert all(kept in ("a", None) for kept in result.values())


def test_a_mirror_image_stays_and_is_named(pip: Cutout) -> None:
    pictures = {"a": pip, "b": flipped(pip), "c": flipped(encoded(pip, ".jpg", 86)), "d": shifted(pip, 1, 1)}
    records = [fingerprinted(key, picture, sharpness=9.0 - n) for n, (key, picture) in enumerate(pictures.items())]
    result = {r.key: r for r in Deduplicate().apply(records)}
    assert {key: (r.status, r.duplicate_of, r.mirror_of) for key, r in result.items()} == {
        "a": ("kept", None, None),
        "b": ("kept", None, "a"),
        "c": ("duplicate", "b", None),  # both at once: it is out, and the one that is kept says the rest
        "d": ("duplicate", "a", None),
    }
    assert mirrors(list(result.values())) == [result["b"]]
    gone = result["a"].decide("surplus", "select", "crowded")
    assert not mirrors([gone, result["b"]])


def test_a_picture_that_is_its_own_mirror_image_mirrors_nobody() -> None:
    """Two moments of a symmetric figure, a little too far apart for duplicates; mirrored they are nearer."""
    middle = (np.pi - 95 / 4) / 2  # the phase at which the pattern is its own mirror image
    apart = [make("a", middle - 0.4, phash_mirror=0), make("b", middle + 0.2, phash_mirror=0)]
    assert [(r.status, r.mirror_of) for r in Deduplicate().apply(apart)] == [("kept", None)] * 2
    further = [make("a", middle - 1, phash_mirror=0), make("b", middle + 1, phash_mirror=0)]
    assert [(r.status, r.mirror_of) for r in Deduplicate().apply(further)] == [("kept", None), ("kept", "a")]
    hashed_apart = [r.replace(phash_mirror=2**64 - 1) for r in further]
    assert [r.mirror_of for r in Deduplicate().apply(hashed_apart)] == [None, None]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from([0, 7, 2**30 - 1]), st.integers(1, 4)), max_size=9))
def test_laws(rows: list[tuple[float, int, int]]) -> None:
    records = [make(f"{n}", p, h, sharpness=float(s)) for n, (p, h, s) in enumerate(rows)]
    result = Deduplicate().apply(records)
    by_key = {r.key: r for r in result}
    for record in result:
        if record.status == "duplicate":
            kept = by_key[str(record.duplicate_of)]
            assert kept.active
            assert quality_of(kept) >= quality_of(record)
    again = Deduplicate().apply(result)
    assert [(r.status, r.duplicate_of) for r in again] == [(r.status, r.duplicate_of) for r in result]
    shuffled = Deduplicate().apply(records[::-1])
    assert {r.key: (r.duplicate_of, r.mirror_of) for r in shuffled} == {
        r.key: (r.duplicate_of, r.mirror_of) for r in result
    }


@pytest.mark.parametrize(
    "fields", [{"phash_threshold": -1}, {"phash_threshold": 65}, {"ssim_threshold": 0.0}, {"ssim_threshold": 1.5}]
)
def test_refuses_impossible_fields(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be in"):
        Deduplicate(**fields)  # type: ignore[arg-type]
