from __future__ import annotations

import json
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lora_data.cli import main
from lora_data.config import load_config
from lora_data.errors import ConfigError
from lora_data.manifest import Record
from lora_data.pipeline import precompute
from lora_data.stages.colour import Colour
from lora_data.stages.embed import Embed
from lora_data.stages.fingerprint import Fingerprint
from lora_data.stages.ingest import Ingest
from lora_data.stages.matte import Matte
from lora_data.stages.references import References
from lora_data.table import read_table
from tests.conftest import DEV, cutout, png

COLOURS = {"luca": (200, 60, 50), "giulia": (40, 90, 200), "alberto": (60, 180, 80)}


def picture(colour: tuple[int, int, int], seed: int = 0) -> bytes:
    rgb, alpha = cutout(96, seed=seed, colour=colour)
    return png(np.dstack([rgb, alpha]))


@pytest.fixture
def refs(tmp_path: Path) -> Path:
    for name, colour in COLOURS.items():
        for seed in range(2):
            path = tmp_path / "refs" / name / f"{seed}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture(colour, seed))
    return tmp_path / "refs"


def stage(folder: Path, **settings: Any) -> References:
    return References(
        folder=str(folder), ingest=Ingest(), prepare_with=(Matte(), Colour(), Fingerprint(), Embed()), **settings
    )


def embedding(colour: tuple[int, int, int], seed: int = 9) -> np.ndarray:
    from lora_data.backends.appearance import embed_appearance

    return embed_appearance(*cutout(96, seed=seed, colour=colour))


def row(key: str, colour: tuple[int, int, int], cluster: int | None = None, **fields: Any) -> Record:
    name = "unknown" if cluster is None else f"character_{cluster:02d}"
    return Record(source=f"{key}.png", key=key, cluster=cluster, character=name, embedding=embedding(colour), **fields)


def test_clusters_get_names_and_several_may_be_one_character(refs: Path):
    rows = [
        row("a", COLOURS["luca"], 0),
        row("b", COLOURS["luca"], 0),
        row("c", COLOURS["giulia"], 1),
        row("d", COLOURS["luca"], 2),
        row("e", (128, 128, 128), 3),
    ]
    made = stage(refs).apply(rows)
    assert [r.character for r in made] == ["luca", "luca", "giulia", "luca", "character_03"]
    assert [r.nearest_character for r in made[:4]] == ["luca", "luca", "giulia", "luca"]
    assert made[4].nearest_similarity is not None
    assert made[4].nearest_similarity < 0.88
    assert all(r.status == "kept" for r in made)
    assert stage(refs).apply(rows[::-1])[::-1][3].character == "luca"  # order does not matter


def test_a_stray_is_pulled_in_and_an_extra_is_not(refs: Path):
    lost = row("a", COLOURS["luca"]).decide("rejected", "identity", "unknown", 0.8, 0.9)
    extra = row("b", (128, 128, 128)).decide("rejected", "identity", "unknown", 0.7, 0.9)
    dark = row("c", COLOURS["luca"]).decide("rejected", "filter", "dark", 3.0, 30.0)
    made = stage(refs).apply([lost, extra, dark])
    assert (made[0].status, made[0].character, made[0].reason, made[0].value) == ("kept", "luca", None, None)
    assert (made[1].status, made[1].character, made[1].reason) == ("rejected", "unknown", "unknown")
    assert made[1].nearest_character in COLOURS
    assert (made[2].status, made[2].reason) == ("rejected", "dark")
    near = stage(refs, stray_margin=0.99).apply([lost])[0]
    assert near.status == "rejected"


def test_a_look_is_named_by_its_folder(refs: Path):
    (refs / "luca" / "sea_monster").mkdir()
    (refs / "luca" / "sea_monster" / "0.png").write_bytes(picture((40, 160, 170)))
    made = stage(refs).apply([row("a", COLOURS["luca"], 0), row("b", (40, 160, 170), 1)])
    assert [(r.character, r.look) for r in made] == [("luca", None), ("luca", "sea_monster")]


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("none", "is not a folder"),
        ("empty", "holds no folder of a character"),
        ("hollow", r"marco holds no .png or .webp"),
        ("unknown", r"unknown is no character's name"),
        ("damaged", r"giulia/0.png cannot be used"),
        ("transparent", r"giulia/0.png cannot be used"),
        ("contradiction", r"giulia/0.png and .*luca/9.png are the same picture of two characters"),
    ],
)
def test_references_that_cannot_be_used_are_named(refs: Path, case: str, message: str, tmp_path: Path):
    folder = refs
    if case in ("none", "empty"):
        folder = tmp_path / case
        if case == "empty":
            folder.mkdir()
    elif case in ("hollow", "unknown"):
        name = {"hollow": "marco", "unknown": "unknown"}[case]
        (refs / name).mkdir()
        if case == "unknown":
            (refs / name / "0.png").write_bytes(picture((1, 2, 3)))
    elif case == "damaged":
        (refs / "giulia" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    elif case == "transparent":
        (refs / "giulia" / "0.png").write_bytes(png(np.zeros((40, 40, 4), np.uint8)))
    else:
        shutil.copy(refs / "giulia" / "0.png", refs / "luca" / "9.png")
    with pytest.raises(ConfigError, match=message):
        stage(folder).prepare()


def test_a_run_with_bad_references_touches_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "in").mkdir()
    arguments = ["precompute", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--set", f"precompute.identity.references={tmp_path / 'refs'}"]) == 2
    assert "precompute.identity.references" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_rendered_characters_with_five_references_each(dev: Path, tmp_path: Path):
    """Every second shot of the set; references from the others. Measured on the whole set: F1 .991, purity .993."""
    rows = [json.loads(line) for line in (dev / "truth.jsonl").read_text().splitlines()]
    rows = [r for r in rows if r["kind"] == "instance" and r["identity"] and r["clean"]]
    shots: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for r in rows:
        shots[r["identity"]][r["shot_id"]].append(r)
    truth: dict[str, str] = {}
    (tmp_path / "in").mkdir()
    for identity, by_shot in shots.items():
        (tmp_path / "refs" / identity).mkdir(parents=True)
        for n, (_, found) in enumerate(sorted(by_shot.items())):
            for r in found[:1] if n % 2 == 0 else []:
                shutil.copy(DEV / r["file"], tmp_path / "refs" / identity)
            for r in found[:3] if n % 2 else []:
                shutil.copy(DEV / r["file"], tmp_path / "in")
                truth[Path(r["file"]).name] = identity
    config = load_config(overrides=[f"precompute.identity.references={tmp_path / 'refs'}"])
    precompute(tmp_path / "in", tmp_path / "out", config, workers=2)
    made = read_table(tmp_path / "out" / "instances.parquet")
    named = [r for r in made if r.character in shots]
    right = sum(r.character == truth[r.source] for r in named)
    assert len(named) >= 0.8 * len(made)
    assert right >= 0.9 * len(named)
