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


def faced(records: list[Record], faces: np.ndarray, seed: int) -> list[Record]:
    return [r.replace(face_embedding=at(faces, 0.85, 1000 * seed + n)) for n, r in enumerate(records)]


def test_one_face_in_other_clothes_is_one_character_of_two_looks() -> None:
    clothes = [cast((6, 5, 5, 5))[slice(a, b)] for a, b in ((0, 6), (6, 11), (11, 16), (16, 21))]
    people = np.linalg.qr(np.random.default_rng(7).normal(size=(64, 3)))[0].T.astype(np.float32)
    who = [people[0], people[1], people[0], people[2]]
    records = [r for n, group in enumerate(clothes) for r in faced(group, who[n], n)]
    made = {r.key: r for r in Identity().apply(records)}
    assert made["k000"].character == made["k200"].character == "character_00"
    assert {made[f"k{c}00"].look for c in (0, 2)} == {"look_00", "look_01"}
    assert made["k000"].cluster != made["k200"].cluster
    assert {made["k100"].look, made["k300"].look} == {None}
    assert len({r.character for r in made.values()}) == 3


def test_what_characters_share_is_taken_away() -> None:
    """Two people in one suit: what all the film shares makes them .93 alike, above the first limit."""
    shared = BASES[3]
    bases = [unit(shared + 0.27 * b) for b in (*BASES[:3], -BASES[0])]
    assert min(float(a @ b) for a in bases for b in bases) > 0.86
    records = [make(f"k{c}{n}", at(base, 0.995, 50 * c + n)) for c, base in enumerate(bases) for n in range(6)]
    named = characters(records)
    assert len(set(named.values())) == 4
    for c in range(4):
        assert len({named[f"k{c}{n}"] for n in range(6)}) == 1


def test_a_network_s_eyes_count() -> None:
    """Colours that do not tell two apart, and a network that does."""
    seen = [BASES[0], BASES[1]]
    records = [
        make(f"k{c}{n}", at(BASES[2], 0.985, 30 * c + n), image_embedding=at(seen[c], 0.98, 90 * c + n))
        for c in range(2)
        for n in range(8)
    ]
    records += [
        make(f"z{c}{n}", at(BASES[c], 0.98, 7 * c + n), image_embedding=at(BASES[3 - c], 0.98, n))
        for c in range(2)
        for n in range(8)
    ]
    blind = characters([r.replace(image_embedding=None) for r in records])
    assert blind["k00"] == blind["k10"]
    seeing = characters(records, Identity(image_weight=0.6))
    assert seeing["k00"] != seeing["k10"]


def test_tracks_are_numbered() -> None:
    made = Identity().apply([make(f"a{f}", BASES[0], f) for f in (1, 2, 3, 90, 91)])
    assert [r.tracklet for r in made] == [0, 0, 0, 3, 3]


def test_names_merges_and_splits_are_decisions() -> None:
    stage = Identity(names={"luca": ("a", "b")}, merges=(("c", "d"),), splits=(("e",),))
    assert [(d.do, d.instances, d.character, d.where) for d in stage.decisions] == [
        ("split", ("e",), None, "precompute.identity.splits[0]"),
        ("merge", ("c", "d"), None, "precompute.identity.merges[0]"),
        ("name", ("a", "b"), "luca", "precompute.identity.names.luca"),
    ]
    with pytest.raises(ValueError, match="names give a to luca and to alberto"):
        Identity(names={"luca": ("a",), "alberto": ("b", "a")})
    with pytest.raises(ValueError, match="merge needs at least 2 instances"):
        Identity(merges=(("a",),))


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(20)))
def test_the_order_of_the_records_means_nothing(order: list[int]) -> None:
    records = cast()
    seen = {r.key: (r.character, r.cluster, r.look) for r in Identity().apply(records)}
    assert {r.key: (r.character, r.cluster, r.look) for r in Identity().apply([records[i] for i in order])} == seen


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
