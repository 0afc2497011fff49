"""The preset "full" on rendered characters, with the real networks that lie beside the repository.

SCRFD 2.5G, YuNet, a small ArcFace and Real-ESRGAN's animevideov3 are real; face restoration and deblurring have
stand-ins: a RestoreFormer with random weights, which the gate must refuse, and a NAFNet that sharpens, which it must
not refuse for what it does, so that the guard before it is what keeps it from everything but motion blur.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lora_data.cli import main
from lora_data.manifest import Record
from lora_data.table import read_table
from tests.conftest import DEV, ROOT
from tests.models import networks
from tests.models.stand_ins import ARCFACE, COMPACT, SCRFD, YUNET

SCORE = ROOT.parent / "shared" / "data" / "score.py"


def truth_of(pick: Any) -> dict[str, dict[str, Any]]:
    rows = [json.loads(line) for line in (DEV / "truth.jsonl").read_text().splitlines()]
    return {Path(r["file"]).name: r for r in rows if r["kind"] == "instance" and r["identity"] and pick(r)}


@pytest.fixture(scope="module")
def chosen() -> dict[str, dict[str, Any]]:
    """All depth of field, all motion blur, and every ninth of the others."""
    if not DEV.is_dir() or not ARCFACE.is_file():
        pytest.skip("../shared/data/dev or ../shared/models is not here")

    def blurred(row: dict[str, Any]) -> bool:
        return row["dof"] or any(d["type"] == "motion_blur" for d in row["degradations"])

    others = truth_of(lambda row: not blurred(row))
    return truth_of(blurred) | {name: others[name] for name in sorted(others)[::9]}


@pytest.fixture(scope="module")
def run(chosen: dict[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("full")
    (folder / "dev" / "instances").mkdir(parents=True)
    for name in chosen:
        shutil.copy(DEV / "instances" / name, folder / "dev" / "instances")
    (folder / "dev" / "masters").symlink_to(DEV / "masters")
    lines = [
        line for line in (DEV / "truth.jsonl").read_text().splitlines() if Path(json.loads(line)["file"]).name in chosen
    ]
    (folder / "dev" / "truth.jsonl").write_text("\n".join(lines) + "\n")
    settings = {
        "faces.detectors": json.dumps([str(SCRFD), str(YUNET)]),
        "faces.embedder": str(ARCFACE),
        "face_restore.model": networks.save(networks.restoreformer(), folder / "restore.pth", key="params_ema"),
        "upscale.model": str(COMPACT),
        "deblur.model": networks.sharpening(folder / "deblur.pth"),
        "filter.blur_threshold": "0",
        "filter.edge_score": "0",
        "identity.min_cluster_size": "2",
    }
    arguments = ["precompute", str(folder / "dev" / "instances"), "--out", str(folder / "out"), "--preset", "full"]
    arguments += [word for key, value in settings.items() for word in ("--set", f"precompute.{key}={value}")]
    assert main([*arguments, "--workers", "2"]) == 0
    return folder


@pytest.fixture(scope="module")
def rows(run: Path) -> dict[str, Record]:
    return {r.source: r for r in read_table(run / "out" / "instances.parquet")}


def test_no_harm_is_done(run: Path):
    """The judge is score.py, which was not written by who is judged."""
    spec = importlib.util.spec_from_file_location("score", SCORE)
    assert spec is not None
    assert spec.loader is not None
    score = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(score)
    result = score.score(run / "out", run / "dev")
    assert result["accounting"]["missing"] == result["accounting"]["twice"] == 0
    assert result["pixels"]["not_harmed"] >= 0.99
    assert result["pixels"]["clean_matte_moved"] <= 0.01
    assert result["pixels"]["hue_shift_p95_of_samples_deg"] <= 2
    assert result["deblur"]["dof_touched"] == result["deblur"]["clean_touched"] == 0
    assert result["deblur"]["motion_caught"] >= 0.7
    assert result["faces"]["toward_camera_found"] > 0.25


def test_what_was_taken_back_can_be_seen(run: Path, rows: dict[str, Record]):
    html = (run / "out" / "report" / "index.html").read_text()
    back = [r for r in rows.values() if r.face_restore == "taken_back"]
    assert back  # random weights restore no face
    for record in back:
        with Image.open(run / "out" / "cache" / "taken_back_face_restore" / f"{record.key}.webp") as both:
            assert both.size[0] == 2 * both.size[1]
        assert f"thumbs/face_restore/{record.key}.webp" in html


def test_faces_are_found_and_counted_per_character(
    run: Path, rows: dict[str, Record], chosen: dict[str, dict[str, Any]], capsys: pytest.CaptureFixture[str]
):
    found: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for name, row in chosen.items():
        if row["face_toward_camera"]:
            total[row["identity"]] += 1
            found[row["identity"]] += bool(rows[name].face_size)
    with capsys.disabled():
        print("\nfaces turned to the camera:", ", ".join(f"{k} {found[k]} of {n}" for k, n in sorted(total.items())))
    assert found["qw_Formal"] > 0.8 * total["qw_Formal"]
    counted = json.loads((run / "out" / "run.json").read_text())["faces"]
    assert sum(f["of"] for f in counted.values()) == len(rows)
    assert sum(f["found"] for f in counted.values()) == sum(bool(r.faces) for r in rows.values())
    assert "a face found on" in (run / "out" / "report" / "index.html").read_text()


def test_small_characters_are_enlarged_and_large_ones_are_not(rows: dict[str, Record]):
    small = [r for r in rows.values() if max(r.box_width or 0, r.box_height or 0) < 512]
    assert sum(r.upscale == "applied" for r in small) > 0.8 * len(small)
    large = [r for r in rows.values() if max(r.box_width or 0, r.box_height or 0) >= 512]
    assert {(r.upscale, r.upscale_reason) for r in large} == {("no", "large")}


def test_only_motion_is_deblurred_and_waits_for_a_person(
    run: Path, rows: dict[str, Record], chosen: dict[str, dict[str, Any]]
):
    moved = {n for n, row in chosen.items() if any(d["type"] == "motion_blur" for d in row["degradations"])}
    touched = {n for n, r in rows.items() if r.deblur != "no"}
    assert touched <= moved
    assert len(touched) >= 0.7 * len(moved)
    waiting = [r for r in rows.values() if r.deblur == "proposed"]
    assert len(waiting) >= 3  # the network did sharpen, and the gate let it
    for record in waiting:
        assert (run / "out" / "cache" / "accepted" / f"{record.key}.webp").is_file()
    others = {r.deblur_reason for n, r in rows.items() if n not in moved}
    assert others <= {"sharp", "isotropic", "no_texture", "directions_disagree", "silhouette", "face_in_focus", "score"}


def test_a_random_face_network_is_refused_each_time_with_its_reason(rows: dict[str, Record]):
    faced = [r for r in rows.values() if r.faces]
    assert {r.face_restore for r in faced} <= {"taken_back", "no"}
    refused = [r for r in faced if r.face_restore == "taken_back"]
    assert len(refused) > 10
    assert all(r.face_restore_value is not None and r.face_restore_limit is not None for r in refused)
    assert all(r.face_restore_reason == "no_face" for r in rows.values() if r.faces == 0)
