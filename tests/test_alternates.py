"""What waits for a person is kept with both answers: to answer costs no network."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lora_data.config import Config, load_config
from lora_data.decisions import Decision
from lora_data.manifest import Answer, Record
from lora_data.pipeline import precompute
from lora_data.review.file import append_decision
from lora_data.stages.deblur import Deblur
from lora_data.store import decode_webp
from lora_data.table import read_table
from tests.models.networks import sharpening
from tests.stages.test_deblur import smeared
from tests.test_resume import content

Run = tuple[Path, Path, Config]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Three blurred pictures and a sharp one: the folder, a finished run, and its configuration."""
    root = tmp_path_factory.mktemp("alternates")
    (root / "in").mkdir()
    for i, length in enumerate((15, 21, 27, 0)):
        given = smeared(length)
        Image.fromarray(np.dstack([given.rgb, given.alpha])).save(root / "in" / f"film_{i}00_i0.png")
    off = (
        "filter.blur_threshold=0",
        "filter.edge_score=0",
        "identity.min_cluster_size=2",
        "deduplicate.ssim_threshold=1.0",
    )
    config = load_config(
        overrides=[
            *(f"precompute.{word}" for word in off),
            "precompute.deblur.enabled=true",
            f"precompute.deblur.model={sharpening(root / 'deblur.pth')}",
        ]
    )
    precompute(root / "in", root / "out", config, workers=1)
    return root / "in", root / "out", config


def rows(out: Path) -> dict[str, Record]:
    return {r.key: r for r in read_table(out / "instances.parquet")}


def pixels(path: Path) -> np.ndarray:
    return np.dstack(decode_webp(path.read_bytes()))


def answer_in(out: Path, answers: Mapping[str, Answer]) -> None:
    """As a person does on the review page."""
    out.mkdir(exist_ok=True)
    for key, answer in answers.items():
        append_decision(out / "review.toml", Decision(do=answer, instances=(key,), enhancement="deblur"), answer)


def waiting(out: Path) -> list[str]:
    return sorted(key for key, r in rows(out).items() if r.deblur == "proposed")


def test_the_picture_stays_and_what_it_would_be_lies_beside(run: Run):
    _, out, _ = run
    keys = waiting(out)
    assert len(keys) >= 2
    assert sorted(p.stem for p in (out / "cache" / "accepted").iterdir()) == keys
    for key in keys:
        plain, accepted = (pixels(out / "cache" / kind / f"{key}.webp") for kind in ("final", "accepted"))
        assert plain.shape == accepted.shape
        assert np.array_equal(plain[..., 3], accepted[..., 3])
        sharp = [float(np.diff(p[..., 1].astype(int), axis=1)[p[:, 1:, 3] == 255].std()) for p in (plain, accepted)]
        assert sharp[1] > 1.1 * sharp[0], "along the motion it is sharper"


def test_the_same_command_again_knows_the_proposals(run: Run, tmp_path: Path):
    folder, first, config = run
    out = Path(shutil.copytree(first, tmp_path / "out"))
    assert precompute(folder, out, config, workers=1).known == 4
    for key in waiting(first):
        name = Path("cache", "accepted", f"{key}.webp")
        assert (out / name).read_bytes() == (first / name).read_bytes()


@pytest.mark.parametrize("said", [("accept", "refuse"), ("accept", None), ("refuse", "accept")])
def test_an_answer_costs_no_network_and_gives_what_the_network_would(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: tuple[Answer | None, Answer | None]
):
    folder, first, config = run
    out = Path(shutil.copytree(first, tmp_path / "out"))
    keys = waiting(first)
    answers: dict[str, Answer] = {key: answer for key, answer in zip(keys, said, strict=False) if answer is not None}
    answer_in(out, answers)
    answer_in(tmp_path / "fresh", answers)
    precompute(folder, tmp_path / "fresh", config, workers=1)

    def never(*_: Any) -> Any:
        raise AssertionError("the network must not run")

    with monkeypatch.context() as patch:
        patch.setattr(Deblur, "apply_many", never)
        assert precompute(folder, out, config, workers=1).known == 4
    assert content(out) == content(tmp_path / "fresh")
    made = rows(out)
    for key, answer in answers.items():
        kind = "accepted" if answer == "accept" else "final"
        assert (out / "cache" / "final" / f"{key}.webp").read_bytes() == (
            first / "cache" / kind / f"{key}.webp"
        ).read_bytes()
        wanted = ("applied", "motion") if answer == "accept" else ("taken_back", "person")
        assert (made[key].deblur, made[key].deblur_reason, made[key].deblur_review) == (*wanted, answer)
    left = {p.stem for p in (out / "cache" / "accepted").iterdir()}
    assert left == set(keys) - set(answers)


def test_a_proposal_that_was_lost_is_made_again(run: Run, tmp_path: Path):
    folder, first, config = run
    out = Path(shutil.copytree(first, tmp_path / "out"))
    for path in (out / "cache" / "blobs").rglob("*.webp"):
        data = path.read_bytes()
        if any((first / "cache" / "accepted" / f"{key}.webp").read_bytes() == data for key in waiting(first)):
            path.write_bytes(b"x" + data[1:])
    precompute(folder, out, config, workers=1)
    assert content(out) == content(first)
    for key in waiting(first):
        name = Path("cache", "accepted", f"{key}.webp")
        assert (out / name).read_bytes() == (first / name).read_bytes()
