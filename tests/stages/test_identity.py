from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_data.manifest import UNKNOWN, Record
from lora_data.stages.identity import Identity

DEV = Path(__file__).parents[3] / "shared" / "data" / "dev"


def unit(vector: np.ndarray) -> np.ndarray:
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def at(base: np.ndarray, cosine: float, seed: int) -> np.ndarray:
    """A unit vector at this cosine to a unit ``base``."""
    noise = np.random.default_rng(seed).normal(size=base.shape)
    across = unit(noise - (noise @ base) * base)
    return unit(cosine * base + np.sqrt(1 - cosine**2) * across)


BASES = np.linalg.qr(np.random.default_rng(0).normal(size=(64, 4)))[0].T.astype(np.float32)


def make(key: str, vector: np.ndarray, frame: int | None = None, **fields: object) -> Record:
    return Record(source=f"{key}.png", key=key, frame=frame, embedding=vector, **fields)  # type: ignore[arg-type]


def matte(rows: slice) -> np.ndarray:
    mask = np.zeros((96, 96), bool)
    mask[rows] = True
    return np.packbits(mask)


def characters(records: list[Record], stage: Identity | None = None) -> dict[str, str]:
    records = sorted(records, key=lambda r: r.key)
    result = (stage or Identity()).apply(records)
    assert [r.key for r in result] == [r.key for r in records]
    return {r.key: r.character for r in result}


def cast(sizes: tuple[int, ...] = (9, 6, 5)) -> list[Record]:
    """Instances without frames, cosine about .96 within a character and 0 between."""
    return [make(f"k{c}{n:02}", at(BASES[c], 0.98, 100 * c + n)) for c, size in enumerate(sizes) for n in range(size)]


def test_names_by_size_then_key() -> None:
    named = characters(cast((5, 9, 5)))
    assert {named[f"k1{n:02}"] for n in range(9)} == {"character_00"}
    assert {named[f"k0{n:02}"] for n in range(5)} == {"character_01"}
    assert {named[f"k2{n:02}"] for n in range(5)} == {"character_02"}


def test_hdbscan_finds_well_separated_characters_too() -> None:
    named = characters(cast((9, 8, 7)), Identity(method="hdbscan"))
    for c in range(3):
        found = {name for key, name in named.items() if key.startswith(f"k{c}") and name != UNKNOWN}
        assert found
        others = {name for key, name in named.items() if not key.startswith(f"k{c}") and name != UNKNOWN}
        assert not found & others


@settings(max_examples=10, deadline=None)
@given(st.randoms(use_true_random=False))
def test_does_not_depend_on_names_of_the_keys_or_their_order(random: object) -> None:
    records = cast()
    keys = [r.key for r in records]
    random.shuffle(keys)  # type: ignore[attr-defined]
    renamed = [r.replace(key=k) for r, k in zip(records, keys, strict=True)]
    before, after = characters(records), characters(renamed)
    groups = lambda names, rows: {frozenset(i for i, r in enumerate(rows) if names[r.key] == c) for c in names.values()}  # noqa: E731
    assert groups(before, records) == groups(after, renamed)


def test_a_lone_prop_is_rejected_and_says_why() -> None:
    records = [*cast(), make("prop", at(BASES[3], 0.9, 5))]
    prop = next(r for r in Identity().apply(sorted(records, key=lambda r: r.key)) if r.key == "prop")
    assert (prop.status, prop.stage, prop.reason) == ("rejected", "identity", "unknown")
    assert (prop.cluster, prop.character) == (-1, UNKNOWN)
    assert prop.value is not None
    assert prop.limit == Identity().rescue_similarity
    assert prop.value < Identity().rescue_similarity


def test_inactive_and_unembedded_records_are_left_alone() -> None:
    gone = make("a", BASES[0]).decide("error", "ingest", "damaged")
    bare = Record(source="b.png", key="b")
    assert Identity().apply([gone, bare]) == [gone, bare]


def test_two_of_one_frame_are_two_characters() -> None:
    twins = [make(f"{side}{f:02}", at(BASES[0], 0.99, 7 * f + n), f, instance=n) for f in range(0, 60, 10)
             for n, side in enumerate("ab")]  # fmt: skip
    # What looks alike in one frame is one picture twice, unless the hashes say otherwise.
    hashed = [r.replace(phash=0 if r.key[0] == "a" else 2**40 - 1) for r in twins]
    assert len(set(characters(twins).values())) == 1
    named = characters(hashed, Identity(min_cluster_size=1))
    assert len(set(named.values())) == 2
    for key in named:
        assert named["a" + key[1:]] != named["b" + key[1:]]


def test_a_track_carries_a_frame_whose_colours_are_gone() -> None:
    good = [make(f"a{f}", at(BASES[0], 0.99, f), f, thumb_matte=matte(slice(0, 40))) for f in range(6)]
    dark = make("dark", BASES[2], 6, thumb_matte=matte(slice(0, 41)), source_brightness=12.0)
    other = make("other", BASES[2], 6, thumb_matte=matte(slice(50, 90)), source_brightness=12.0)
    assert characters([*good, dark])["dark"] == "character_00"
    assert characters([*good, other])["other"] == UNKNOWN
    cut = [dark.replace(frame=60)]
    assert characters([*good, *cut])["dark"] == UNKNOWN
    assert characters([*good, dark.replace(scene="next shot")])["dark"] == UNKNOWN


def test_a_named_track_is_taken_as_it_is() -> None:
    track = [make(f"t{n}", BASES[n % 2], 100 * n, track="7", scene="s") for n in range(6)]
    assert set(characters(track).values()) == {"character_00"}
    apart = [r.replace(track=str(n)) for n, r in enumerate(track)]
    assert set(characters(apart, Identity(min_cluster_size=3)).values()) == {"character_00", "character_01"}


def test_the_badly_exposed_found_no_cluster() -> None:
    dark = [make(f"d{n}", at(BASES[0], 0.99, n), brightness=10.0) for n in range(8)]
    assert set(characters(dark).values()) == {UNKNOWN}
    assert set(characters([r.replace(brightness=90.0) for r in dark]).values()) == {"character_00"}


def test_rescue_needs_a_margin() -> None:
    between = unit(BASES[0] + BASES[1])
    near = make("near", at(BASES[0], 0.93, 3), brightness=10.0)
    tied = make("tied", between, brightness=10.0)
    stage = Identity(rescue_similarity=0.6)
    named = characters([*cast((8, 8)), near, tied], stage)
    assert named["near"] == named["k000"]
    assert named["tied"] == UNKNOWN


@pytest.mark.parametrize(
    "fields",
    [
        {"merge_similarity": 0.0},
        {"rescue_similarity": 1.1},
        {"rescue_margin": -0.1},
        {"min_cluster_size": 0},
        {"track_gap": -1},
        {"brightness_range": (200.0, 100.0)},
    ],
)
def test_refuses_impossible_fields(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(fields))} must be"):
        Identity(**fields)  # type: ignore[arg-type]


@pytest.mark.skipif(not DEV.is_dir(), reason="no ../shared/data/dev beside the repository")
def test_rendered_characters_come_out_pure() -> None:
    import cv2

    from lora_data.sample import Instance
    from lora_data.sources import numbers_of
    from lora_data.stages.embed import Embed
    from lora_data.stages.fingerprint import Fingerprint

    records, names = [], {}
    for t in map(json.loads, (DEV / "truth.jsonl").read_text().splitlines()):
        if t["kind"] != "instance" or not t["clean"]:
            continue
        image = cv2.imread(str(DEV / t["file"]), cv2.IMREAD_UNCHANGED)
        assert image is not None
        key, numbers = Path(t["file"]).stem, numbers_of(t["file"])
        record = Record(source=t["file"], key=key, frame=numbers.frame, instance=numbers.instance)
        instance = Instance(record, np.ascontiguousarray(image[..., 2::-1]), image[..., 3].copy())
        records.append(Fingerprint().apply(Embed().apply(instance)).record)
        names[key] = t["identity"]
    named = {k: c for k, c in characters(records).items() if c != UNKNOWN}
    assert len(named) >= 0.95 * len(records)
    top = sum(max(sum(names[k] == i for k in m) for i in set(names.values())) for m in (
        [k for k in named if named[k] == c] for c in set(named.values())))  # fmt: skip
    assert top / len(named) >= 0.95  # purity
    assert len(set(named.values())) <= 2 * len(set(names.values()))
