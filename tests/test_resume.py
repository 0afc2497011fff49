"""What an earlier run computed is found again, whatever changed around it, and never where it is damaged."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from lora_data import ConfigError, load_config
from lora_data import pipeline as module
from lora_data.blobs import Blob, Blobs
from lora_data.cli import main
from lora_data.commands import print_summary
from lora_data.config import Config
from lora_data.demo import make_film
from lora_data.errors import RunError
from lora_data.pipeline import Summary, precompute, recipe
from lora_data.results import Each, Results
from lora_data.run_lock import run_lock
from lora_data.sample import Instance
from lora_data.shards import read_index
from lora_data.stage import MapStage, Stage
from lora_data.store import CAME, THUMBNAIL, decode_webp
from lora_data.table import read_table
from tests.conftest import cutout

if TYPE_CHECKING:
    from lora_data.storage import FilePath

SETTINGS = ["precompute.filter.min_size=32"]
SMALL = load_config(overrides=SETTINGS)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("film")
    make_film(folder, instances=16, characters=2, seed=3, size=224)
    return folder / "instances"


@pytest.fixture(scope="module")
def first(film: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("first") / "out"
    precompute(film, out, SMALL, workers=1)
    return out


@pytest.fixture
def out(first: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, to go on with."""
    return Path(shutil.copytree(first, tmp_path / "out"))


def content(out: Path) -> dict[str, bytes]:
    """What counts of a run: shards, index and table."""
    files = [*sorted((out / "shards").iterdir()), out / "instances.parquet"]
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in files}


def cached(out: Path) -> list[tuple[int, int]]:
    """Of every pass over pixels: instances that were known, and all."""
    passes = json.loads((out / "run.json").read_text())["passes"]
    return [(p["cached"], p["instances"]) for p in passes if "matte" in p["name"] or "colour" in p["name"]]


def again(film: Path, out: Path, config: Config = SMALL, **more: Any) -> Summary:
    return precompute(film, out, config, workers=1, **more)


def test_the_same_command_again_computes_nothing(
    film: Path, first: Path, out: Path, capsys: pytest.CaptureFixture[str]
):
    summary = again(film, out)
    assert content(out) == content(first)
    assert all(known == count > 0 for known, count in cached(out))
    total = sum(summary.counts.values())
    assert summary.known == total
    capsys.readouterr()
    print_summary(summary)
    assert f"{total} of {total} pictures were known: nothing computed" in capsys.readouterr().out
    assert all(known == 0 for known, _ in cached(first))
    rates = [[p.get("per_second") for p in json.loads((o / "run.json").read_text())["passes"]] for o in (first, out)]
    assert rates[0][0] > 0
    assert rates[1][0] is None
    runs = [json.loads((o / "run.json").read_text()) | {"passes": None} for o in (first, out)]
    assert runs[0] == runs[1]


def test_where_input_and_out_lie_does_not_matter(film: Path, first: Path, out: Path, tmp_path: Path):
    shutil.copytree(film, tmp_path / "elsewhere" / "in")
    assert again(tmp_path / "elsewhere" / "in", out).known == len(read_table(out / "instances.parquet"))
    assert content(out) == content(first)


@pytest.mark.parametrize(
    ("setting", "passes"),
    [
        ("precompute.filter.blur_threshold=60", (True, True)),
        ("precompute.identity.min_cluster_size=3", (True, True)),
        ("precompute.deduplicate.phash_threshold=4", (True, True)),
        ("precompute.white_balance.threshold=0.3", (True, True)),
        ("precompute.colour.clip_limit=3.0", (True, False)),
        ("precompute.matte.background=white", (True, False)),
        ("precompute.ingest.max_pixels=1000000", (False, True)),
    ],
)
def test_a_change_computes_what_it_concerns_and_nothing_else(
    film: Path, out: Path, tmp_path: Path, setting: str, passes: tuple[bool, bool]
):
    config = load_config(overrides=[*SETTINGS, setting])
    again(film, out, config)
    # the last case: the mattes are made again, come out the same, and so the rest is known
    assert [known == count for known, count in cached(out)] == list(passes)
    precompute(film, tmp_path / "fresh", config, workers=1)
    assert content(out) == content(tmp_path / "fresh")


def test_new_changed_and_renamed_pictures_alone_are_computed(film: Path, out: Path, tmp_path: Path):
    folder = tmp_path / "in"
    shutil.copytree(film, folder)
    names = [r.source for r in read_table(out / "instances.parquet") if r.status == "kept"]
    shutil.copy(folder / names[0], folder / "renamed.png")
    (folder / names[0]).unlink()
    Image.open(folder / names[1]).rotate(90, expand=True).save(folder / names[1])
    rgb, alpha = cutout(200)
    Image.fromarray(np.dstack([rgb, alpha])).save(folder / "new.png")
    (folder / names[2]).with_suffix(".txt").write_text("a caption")
    summary = again(folder, out)
    assert sum(summary.counts.values()) - summary.known == 4
    # the renamed one and the one with a caption come out of the first pass as they did before
    (before, count), (after, _) = cached(out)
    assert (count - before, after) == (4, before + 2 - sum(r.status == "error" for r in rows(out)))
    precompute(folder, tmp_path / "fresh", SMALL, workers=1)
    assert content(out) == content(tmp_path / "fresh")


def rows(out: Path) -> list[Any]:
    return read_table(out / "instances.parquet")


def side_of(path: Path) -> int:
    with Image.open(path) as image:
        return max(image.size)


def test_pictures_are_shown_at_their_places(first: Path):
    cache = first / "cache"
    finished = {r.key: r for r in rows(first) if (cache / "final" / f"{r.key}.webp").is_file()}
    kept = {s.key: s for s in read_index(first / "shards").samples}
    assert set(kept) <= set(finished)
    for key, sample in kept.items():
        start, size = sample.files["webp"]
        data = (first / "shards" / sample.shard).read_bytes()[start : start + size]
        assert (cache / "final" / f"{key}.webp").read_bytes() == data
    for key, record in finished.items():
        assert record.width is not None
        assert record.height is not None
        side = max(record.width, record.height)
        sizes = {kind: cache / kind / f"{key}.webp" for kind in ("before", "thumbs", "came")}
        assert side_of(sizes["before"]) == side_of(sizes["thumbs"]) == min(THUMBNAIL, side)
        assert sizes["came"].is_file() == (side > THUMBNAIL)
        if side > THUMBNAIL:
            assert side_of(sizes["came"]) == min(CAME, side)
    assert {p.name for p in cache.iterdir()} >= {"before", "thumbs", "came", "final", "accepted"}
    assert not list(first.rglob("*.tmp"))


def test_a_large_one_comes_at_the_size_of_a_page(tmp_path: Path):
    rgb, alpha = cutout(900)
    (tmp_path / "in").mkdir()
    Image.fromarray(np.dstack([rgb, alpha])).save(tmp_path / "in" / "a.png")
    again(tmp_path / "in", tmp_path / "out")
    with Image.open(tmp_path / "out" / "cache" / "came" / "a.webp") as came:
        assert (came.size, came.mode) == ((640, 640), "RGBA")
        shown = np.asarray(came, np.int16)
    small = np.asarray(Image.fromarray(np.dstack([rgb, alpha])).resize((640, 640), Image.Resampling.BOX), np.int16)
    inside = small[..., 3] == 255
    assert np.abs(shown - small)[inside].mean() < 4


def test_pictures_of_inputs_that_are_gone_are_gone(film: Path, out: Path, tmp_path: Path):
    folder = tmp_path / "in"
    shutil.copytree(film, folder)
    gone = next(r for r in rows(out) if r.status == "kept")
    (folder / gone.source).unlink()
    again(folder, out)
    assert not [p for p in (out / "cache").glob("*/*.webp") if p.stem == gone.key]


def blobs_of(out: Path, kind: str) -> list[Path]:
    with Results(out / "cache") as results:
        found = [json.loads(row[0]) for row in results._base.execute("SELECT pictures FROM results ORDER BY key")]
        return [results.blobs.path(Blob(*p[kind])) for p in found if kind in p]


def flip(path: Path) -> None:
    """Change a byte in place, so that neither name, size nor links change."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize("kind", ["final", "before", "came", "thumbs"])
def test_a_damaged_picture_is_computed_again(film: Path, first: Path, out: Path, kind: str):
    places = blobs_of(out, kind)
    flip(places[0])
    flip(places[-1])
    again(film, out)
    assert content(out) == content(first)
    for folder in ("before", "came", "thumbs", "final"):
        for path in (first / "cache" / folder).iterdir():
            assert (out / "cache" / folder / path.name).read_bytes() == path.read_bytes()


def test_a_damaged_picture_between_passes_is_never_used(film: Path, first: Path, out: Path, tmp_path: Path):
    for path in blobs_of(out, "next")[:3]:
        flip(path)
    again(film, out)
    assert content(out) == content(first)  # nobody looked at it
    config = load_config(overrides=[*SETTINGS, "precompute.colour.strength=0.4"])
    again(film, out, config)
    precompute(film, tmp_path / "fresh", config, workers=1)
    assert content(out) == content(tmp_path / "fresh")


@pytest.mark.parametrize("what", ["blobs", "results.sqlite", "garbage", "cache"])
def test_what_somebody_deleted_is_made_again(film: Path, first: Path, out: Path, what: str):
    place = out / ("cache" if what == "cache" else f"cache/{what}")
    if what == "garbage":
        (out / "cache" / "results.sqlite").write_bytes(b"x" * 9000)
    else:
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    summary = again(film, out)
    assert content(out) == content(first)
    unpictured = sum(r.status == "error" for r in rows(out))  # what no picture belongs to needs none
    assert summary.known == (unpictured if what == "blobs" else 0)
    assert bool(summary.warnings) == (what == "garbage")


def test_a_cache_that_was_pruned_knows_the_last_run(
    film: Path, first: Path, out: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    again(film, out, load_config(overrides=[*SETTINGS, "precompute.colour.clip_limit=3.0"]))
    summary = again(film, out)
    print_summary(summary)
    assert "cache prune" not in capsys.readouterr().out
    monkeypatch.setattr("lora_data.commands._MUCH", 1)
    print_summary(summary)
    assert f"MB that only earlier runs used: lora-data cache prune {out}" in capsys.readouterr().out
    size = sum(p.stat().st_size for p in (out / "cache" / "blobs").rglob("*.webp"))
    capsys.readouterr()
    assert main(["cache", "prune", str(out)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("removed: ")
    assert not said.startswith("removed: 0 results")
    assert sum(p.stat().st_size for p in (out / "cache" / "blobs").rglob("*.webp")) < size
    unchanged = again(film, out)
    assert (unchanged.known, unchanged.unused) == (len(rows(out)), 0)
    assert main(["cache", "prune", str(out), "--all"]) == 0
    assert not (out / "cache" / "report").exists()
    assert not list((out / "cache" / "blobs").rglob("*.webp"))
    assert list((out / "cache" / "final").iterdir()), "what is shown stays"
    assert again(film, out).known == 0
    assert content(out) == content(first)
    assert main(["cache", "prune", str(out / "nothing")]) == 2
    with run_lock(out / "cache"):
        assert main(["cache", "prune", str(out)]) == 1


def test_an_input_that_changes_during_the_run_counts_as_it_was_read(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(film, folder)
    name = next(p for p in sorted(folder.iterdir()) if p.suffix == ".png")
    plain = Results.digests

    def changed(self: Results, paths: Sequence[FilePath], each: Each | None = None) -> dict[FilePath, str]:
        found = plain(self, paths, each)
        rgb, alpha = cutout(210, seed=9)
        Image.fromarray(np.dstack([rgb, alpha])).save(name)
        return found

    monkeypatch.setattr(Results, "digests", changed)
    again(folder, out)
    monkeypatch.undo()
    before = content(out)
    assert again(folder, out).known == len(rows(out))
    assert content(out) == before
    precompute(folder, tmp_path / "fresh", SMALL, workers=1)
    assert content(tmp_path / "fresh") == before


def test_an_input_that_vanishes_during_the_run_is_a_row_and_is_tried_again(
    film: Path, first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(film, folder)
    source = next(r.source for r in rows(first) if r.status == "kept")
    plain = Results.digests

    def vanishing(self: Results, paths: Sequence[FilePath], each: Each | None = None) -> dict[FilePath, str]:
        found = plain(self, paths, each)
        (folder / source).unlink()
        return found

    monkeypatch.setattr(Results, "digests", vanishing)
    again(folder, out)
    monkeypatch.undo()
    (row,) = (r for r in rows(out) if r.source == source)
    assert (row.status, row.reason) == ("error", "unreadable")
    shutil.copy(film / source, folder / source)
    again(folder, out)
    assert content(out) == content(first)


@pytest.mark.parametrize("after", [0, 7, 40])
def test_a_full_disk_is_said_and_the_same_command_goes_on(
    film: Path, first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
):
    plain, count = Blobs.put, 0

    def full(self: Blobs, data: bytes) -> Any:
        nonlocal count
        count += 1
        if count > after:
            raise OSError(errno.ENOSPC, "No space left on device")
        return plain(self, data)

    monkeypatch.setattr(Blobs, "put", full)
    with pytest.raises(RunError, match=r"No space left on device.*the same command goes on"):
        again(film, tmp_path / "out")
    monkeypatch.undo()
    assert not (tmp_path / "out" / "instances.parquet").exists()
    summary = again(film, tmp_path / "out")
    assert content(tmp_path / "out") == content(first)
    assert (summary.known > 0) == (after == 40)


def test_a_full_disk_while_shards_are_written_leaves_the_old_ones(
    film: Path, first: Path, out: Path, monkeypatch: pytest.MonkeyPatch
):
    import tarfile

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    with pytest.raises(RunError, match="No space left on device"):
        again(film, out, load_config(overrides=[*SETTINGS, "precompute.colour.clip_limit=3.0"]))
    assert content(out) == content(first)


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs a folder that nobody can write to")
def test_an_out_that_cannot_be_written_is_a_wrong_command(film: Path):
    with pytest.raises(ConfigError, match=r"^OUT cannot be written: .*nothing was touched"):
        again(film, Path("/sys/kernel/out"))


def test_a_second_run_on_one_out_is_refused(film: Path, first: Path, out: Path):
    with run_lock(out / "cache"), pytest.raises(RunError, match=f"process {os.getpid()}"):
        again(film, out, load_config(overrides=[*SETTINGS, "precompute.colour.clip_limit=3.0"]))
    assert content(out) == content(first)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dies(MapStage):
    """Ends its process at one picture, once."""

    name: ClassVar[str] = "dies"
    marker: str

    def apply(self, instance: Instance) -> Instance:
        marker = Path(self.marker)
        if marker.name == instance.record.key and marker.exists():
            marker.unlink()
            os._exit(9)
        return instance


def test_a_worker_that_the_system_kills_costs_no_row(
    film: Path, first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    marker = tmp_path / [r.key for r in rows(first) if r.status == "kept"][-1]
    marker.touch()

    def deadly(config: Config, *more: Any) -> list[Stage]:
        return [*recipe(config, *more)[:1], Dies(marker=str(marker)), *recipe(config, *more)[1:]]

    monkeypatch.setattr(module, "recipe", deadly)
    with pytest.raises(RunError, match="what is done is kept"):
        precompute(film, tmp_path / "out", SMALL, workers=2)
    assert not marker.exists()
    summary = precompute(film, tmp_path / "out", SMALL, workers=2)
    assert content(tmp_path / "out") == content(first)
    assert summary.known < len(rows(first))


class KilledError(BaseException):
    """Stands for a process that ends here: nothing catches it."""


class Steps:
    """Counts steps, and ends the process before one of them."""

    def __init__(self, end: int | None = None) -> None:
        self.taken, self.end = 0, end

    def __call__(self) -> None:
        if self.taken == self.end:
            raise KilledError
        self.taken += 1


def durable_steps(monkeypatch: pytest.MonkeyPatch, before: Callable[[], None]) -> None:
    """Let something happen before every step that changes a name in OUT."""
    for name in ("replace", "unlink", "link"):
        plain = getattr(os, name)

        def step(*given: Any, plain: Any = plain, **more: Any) -> Any:
            before()
            return plain(*given, **more)

        monkeypatch.setattr(os, name, step)


def test_no_reader_sees_parts_of_two_runs_wherever_a_run_ends(
    film: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The run that changes the most is ended before each of its last steps, and goes on."""
    config = load_config(overrides=[*SETTINGS, "precompute.filter.blur_threshold=300"])
    precompute(film, tmp_path / "fresh", config, workers=1)
    runs = [content(out), content(tmp_path / "fresh")]
    assert runs[0] != runs[1]
    again(film, out, config)  # all pictures are known from here on
    again(film, out)
    assert content(out) == runs[0]
    start = Path(shutil.copytree(out, tmp_path / "start"))

    def publishing(patch: pytest.MonkeyPatch, step: Callable[[], None]) -> None:
        def publish(*given: Any) -> None:
            with patch.context() as inner:
                durable_steps(inner, step)
                plain(*given)

        plain = module.publish
        patch.setattr(module, "publish", publish)

    steps = Steps()
    with monkeypatch.context() as patch:
        publishing(patch, steps)
        again(film, out, config)
    total, seen = steps.taken, set[str]()
    assert total > 8
    for end in range(total):
        shutil.rmtree(out)
        shutil.copytree(start, out)
        with monkeypatch.context() as patch:
            publishing(patch, Steps(end))
            with pytest.raises(KilledError):
                again(film, out, config)
        if (out / "instances.parquet").exists():
            there = content(out)
            assert there in runs
            seen.add("old" if there == runs[0] else "new")
            kept = {r.key for r in rows(out) if r.status == "kept"}
            assert {s.key for s in read_index(out / "shards").samples} == kept
        else:
            assert not (out / "run.json").exists()
            seen.add("none")
        again(film, out, config)
        assert content(out) == runs[1]
    assert seen == {"old", "none", "new"}


def test_final_pictures_decode(first: Path):
    for path in (first / "cache" / "final").iterdir():
        rgb, alpha = decode_webp(path.read_bytes())
        assert rgb.shape[:2] == alpha.shape
