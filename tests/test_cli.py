from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lora_data.cli import main
from lora_data.demo import make_film
from lora_data.shards import read_index

SMALL = ["--set", "precompute.filter.min_size=32"]  # the film of these tests is tiny


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("film")
    make_film(folder, instances=24, characters=2, seed=5, size=96)
    return folder / "instances"


def test_precompute_inspect_and_report(film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "out"
    assert main(["precompute", str(film), "--out", str(out), "--workers", "1", *SMALL]) == 0
    text = capsys.readouterr().out
    for needle in (
        "inputs:",
        "kept",
        "rejected: ",
        "face_restore",
        str(out / "shards"),
        str(out / "report" / "index.html"),
    ):
        assert needle in text
    names = {s.character for s in read_index(out / "shards").samples}
    for name in names:
        assert re.search(rf"^  {name} +\d+ images  collect more$", text, re.MULTILINE), name
    assert json.loads((out / "run.json").read_text())["advice"] == dict.fromkeys(sorted(names), "collect more")
    assert main(["inspect", str(out)]) == 0
    printed = capsys.readouterr().out
    assert main(["inspect", str(out / "shards")]) == 0
    assert capsys.readouterr().out == printed
    header, *rows = printed.split("\n\n")[0].splitlines()
    assert header.split() == ["character", "instances", "kept", "faces", "looks", "nearest", "margin", "advice"]
    assert {row.split()[0] for row in rows} >= names
    (out / "report" / "index.html").unlink()
    assert main(["report", str(out)]) == 0
    assert (out / "report" / "index.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "needle"),
    [
        (["--set", "precompute.filter.nonsense=1"], "precompute.filter.nonsense is not a key"),
        (["--set", "precompute.filter.blur_threshold=-1"], "precompute.filter.blur_threshold"),
        (["--set", "precompute.filter.blur_threshold='soft'"], "precompute.filter.blur_threshold"),
        (["--set", "augment.hue=0.1"], "augment.hue is forbidden"),
        (["--config", "none.toml"], "cannot be read"),
        (["--preset", "full"], "lora-data models pull insightface-buffalo-l yunet codeformer"),
        (["--set", "precompute.face_restore.enabled=true", "--set", "precompute.faces.enabled=false"], "switched off"),
        (["--set", "precompute.upscale.limits.hue=200"], "precompute.upscale.limits"),
        (["--set", "precompute.upscale.enabled=true", "--set", "precompute.upscale.model=best"], "no model 'best'"),
        (["--set", "precompute.upscale.scale=3"], "precompute.upscale.scale"),
    ],
)
def test_a_wrong_configuration_exits_2_and_touches_nothing(
    film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], needle: str
):
    out = tmp_path / "out"
    assert main(["precompute", str(film), "--out", str(out), *arguments]) == 2
    assert needle in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    "arguments", [[], ["nonsense"], ["precompute"], ["precompute", "x", "--out", "y", "--workers", "0"]]
)
def test_a_wrong_command_line_exits_2(arguments: list[str]):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_a_folder_that_is_no_run_exits_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["inspect", str(tmp_path)]) == 1
    assert "no index.json" in capsys.readouterr().err
    assert main(["report", str(tmp_path)]) == 1


def test_the_demo_refuses_a_folder_that_holds_something_else(tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("x")
    assert main(["demo", "--out", str(tmp_path)]) == 2
    assert main(["demo", "--out", str(tmp_path / "d"), "--instances", "2"]) == 2


def blocked(code: str) -> subprocess.CompletedProcess[str]:
    """Run code as it would run where no extra is installed."""
    guard = """
import sys

class Hide:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        hidden = {"cv2", "imagehash", "jinja2", "pyarrow", "pycocotools", "pymatting", "rich", "skimage", "sklearn"}
        return None if name.partition(".")[0] in hidden else self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Hide(finder) for finder in sys.meta_path]
"""
    return subprocess.run([sys.executable, "-c", guard + code], capture_output=True, text=True, check=False)


def test_the_demo_names_the_report_last_and_opens_the_review_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr("uvicorn.Server.run", lambda self, sockets: None)  # pyright: ignore[reportUnknownLambdaType]
    demo = ["demo", "--out", str(tmp_path / "d"), "--instances", "8", "--workers", "1"]
    assert main(demo) == 0
    report = tmp_path / "d" / "run" / "report" / "index.html"
    assert capsys.readouterr().out.splitlines()[-1] == f"report:  {report}"
    assert report.is_file()
    assert main([*demo, "--review"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2] == f"review:  {opened[0]}"
    assert opened[0].startswith("http://127.0.0.1:")


def test_what_happens_can_be_read_by_a_program(film: Path, tmp_path: Path):
    log = tmp_path / "log.jsonl"
    run = ["precompute", str(film), "--out", str(tmp_path / "out"), "--workers", "1", "--log-json", str(log)]
    assert main(run) == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    passes = json.loads((tmp_path / "out" / "run.json").read_text())["passes"]
    told = [{k: v for k, v in line.items() if k not in ("time", "event")} for line in lines if line["event"] == "pass"]
    assert told == passes[:-1]  # writing is no pass over pictures
    assert [line["name"] for line in lines if line["event"] == "start"] == [p["name"] for p in passes]
    assert lines[-1]["event"] == "run"
    assert sum(lines[-1]["counts"].values()) == passes[0]["instances"]
    assert main([*run[:-1], str(tmp_path / "nowhere" / "log")]) == 2


def test_without_extras_the_training_half_reads_its_configuration_and_shards(film: Path, tmp_path: Path):
    out = tmp_path / "out"
    assert main(["precompute", str(film), "--out", str(out), "--workers", "1", *SMALL]) == 0
    done = blocked(
        "import lora_data; lora_data.load_config()\n"
        "from lora_data.shards import read_index\n"
        f"print(len(read_index(__import__('pathlib').Path({str(out / 'shards')!r})).samples))\n"
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len(read_index(out / "shards").samples)


def test_without_the_extra_precompute_names_the_command_that_installs_it(tmp_path: Path):
    done = blocked(
        "from lora_data.cli import main\n"
        f"sys.exit(main(['precompute', {str(tmp_path)!r}, '--out', {str(tmp_path / 'o')!r}]))"
    )
    assert done.returncode == 2
    assert 'pip install "lora-data[precompute]"' in done.stderr
