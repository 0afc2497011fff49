"""INPUT and OUT behind a URL, on a store that speaks S3."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path

import fsspec
import pytest

from lora_data import ConfigError, load_config, remote_lock
from lora_data.blobs import Blobs, DamagedBlobError
from lora_data.cli import main
from lora_data.demo import make_film
from lora_data.errors import MissingExtraError
from lora_data.mirror import take_decisions, working_folder
from lora_data.pipeline import precompute
from lora_data.sources import discover
from lora_data.storage import RemoteFolder, open_folder, stamp
from tests.bench.resume import content
from tests.engines.cluster import ray_cluster
from tests.s3 import store

SMALL = load_config(overrides=["precompute.filter.min_size=32"])


@pytest.fixture(scope="module")
def bucket() -> Generator[str]:
    with store("films") as url:
        yield url


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORA_DATA_CACHE", str(tmp_path / "cache"))
    for name, seconds in {"BEAT": 0.2, "WATCHED": 1.0, "SETTLED": 0.05}.items():
        monkeypatch.setattr(remote_lock, name, seconds)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("film")
    make_film(folder, instances=16, characters=2, seed=3, size=200)
    return folder / "instances"


@pytest.fixture(scope="module")
def local(film: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("local") / "out"
    precompute(film, out, SMALL, workers=1)
    return out


@pytest.fixture(scope="module")
def uploaded(film: Path, bucket: str) -> str:
    fsspec.filesystem("s3").put(f"{film}/", f"{bucket}/film/", recursive=True)
    return f"{bucket}/film"


def objects(url: str) -> dict[str, bytes]:
    """What counts of a run: shards, index and table."""
    remote = RemoteFolder(url)
    names = [name for name in remote.sizes() if name.startswith("shards/") or name == "instances.parquet"]
    return {name: remote.read(name) for name in names}


@pytest.mark.parametrize("scheme", ["memory", "s3"])
def test_a_folder_behind_a_url_keeps_what_it_is_given(bucket: str, scheme: str, tmp_path: Path):
    remote = RemoteFolder(f"{bucket}/laws" if scheme == "s3" else "memory://laws")
    remote.check()
    assert remote.sizes() == {}
    assert remote.size("a/b.bin") is None
    with pytest.raises(FileNotFoundError):
        remote.read("a/b.bin")
    remote.write("a/b.bin", b"one")
    remote.write("a/b.bin", b"three")
    assert remote.read("a/b.bin") == b"three"
    assert remote.size("a/b.bin") == 5
    (tmp_path / "file").write_bytes(b"file's")
    remote.below("a").upload(tmp_path / "file", "c d#1.bin")
    assert remote.sizes() == {"a/b.bin": 5, "a/c d#1.bin": 6}
    assert remote.sizes("a") == {"b.bin": 5, "c d#1.bin": 6}
    remote.download("a/c d#1.bin", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"file's"
    remote.delete(["a/b.bin", "nothing", "a/c d#1.bin"])
    assert remote.sizes() == {}


def test_what_cannot_be_opened_is_said(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ConfigError, match="nonsense://x cannot be opened"):
        RemoteFolder("nonsense://x").check()
    with pytest.raises(ConfigError, match="give its path"):
        RemoteFolder(tmp_path.as_uri()).check()
    with pytest.raises(FileNotFoundError):
        RemoteFolder("s3://no-such-bucket/out").write("x", b"")
    with monkeypatch.context() as patch:
        patch.setattr("lora_data.storage.find_spec", lambda name: None)
        with pytest.raises(MissingExtraError, match=r"lora-data\[remote\]"):
            open_folder("s3://x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # nobody listens there
    fsspec.filesystem("s3").clear_instance_cache()
    try:
        with pytest.raises(ConfigError, match="OUT cannot be reached: s3://films/out: EndpointConnectionError"):
            precompute(tmp_path, "s3://films/out", SMALL)
    finally:
        monkeypatch.undo()
        fsspec.filesystem("s3").clear_instance_cache()


def test_a_store_is_listed_as_a_folder_is(uploaded: str, film: Path):
    here, there = discover(film), discover(open_folder(uploaded))
    assert [s.source for s in there.sources] == [s.source for s in here.sources]
    assert [s.key for s in there.sources] == [s.key for s in here.sources]
    for a, b in zip(here.sources, there.sources, strict=True):
        assert [p.name for p in a.files] == [p.name for p in b.files]
        assert list(a.read().values()) == list(b.read().values())


def test_odd_names_in_a_store_are_told_and_hidden_ones_left_out(bucket: str):
    remote = RemoteFolder(f"{bucket}/odd")
    for name in ("a.png", "b/masks/c.png", "b/c.png", ".hidden/d.png", "e//f.png", "notes.md"):
        remote.write(name, b"x")
    found = discover(open_folder(remote.url))
    assert [s.source for s in found.sources] == ["a.png", "b/c.png"]
    assert found.sources[1].mask is not None
    assert set(found.ignored) == {"notes.md", "e//f.png"}


def test_a_file_that_changes_has_another_stamp(bucket: str):
    remote = RemoteFolder(f"{bucket}/stamps")
    stamps = set[tuple[int, int, int]]()
    for content_ in (b"one", b"two", b"three"):
        remote.write("a.png", content_)
        path = discover(open_folder(remote.url)).sources[0].path
        stamps.add(stamp(path))
        assert stamp(path) == stamp(path)
    assert len(stamps) == 3


def test_pictures_are_stored_there_and_shown_here(bucket: str, tmp_path: Path):
    remote = RemoteFolder(f"{bucket}/pictures")
    blobs = Blobs(tmp_path / "blobs", remote)
    blob = blobs.put(b"picture")
    assert not blobs.path(blob).exists()
    assert blobs.read(blob) == b"picture"
    assert blobs.there(blob)
    assert blobs.stored() == {blob.digest: 7}
    blobs.show(tmp_path / "final", {"a": blob})
    assert (tmp_path / "final" / "a.webp").read_bytes() == b"picture"
    other = Blobs(tmp_path / "other", remote)
    remote.write(f"{blob.digest[:2]}/{blob.digest}.webp", b"damaged")
    with pytest.raises(DamagedBlobError):
        other.read(blob)
    with pytest.raises(DamagedBlobError):
        other.show(tmp_path / "there", {"a": blob})
    blobs.remove([blob.digest])
    assert not blobs.there(blob)
    assert not blobs.path(blob).exists()


def test_a_run_from_store_to_store_gives_the_bytes_of_one_between_folders(
    uploaded: str, local: Path, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    out = f"{bucket}/out"
    words = ["precompute", uploaded, "--out", out, "--workers", "1", "--set", "precompute.filter.min_size=32"]
    assert main(words) == 0
    assert f"shards:  {out}/shards" in capsys.readouterr().out
    remote = RemoteFolder(out)
    assert objects(out) == content(local)
    assert json.loads(remote.read("run.json"))["input"] == uploaded
    assert b"<html" in remote.read("report/index.html")[:200]
    written = remote.sizes()
    # again: nothing is computed, and what is unchanged stays
    uploads = list[str]()
    plain = RemoteFolder.upload

    def counted(self: RemoteFolder, path: Path, name: str) -> None:
        uploads.append(name)
        plain(self, path, name)

    monkeypatch.setattr(RemoteFolder, "upload", counted)
    assert main(words) == 0
    assert "pictures were known: nothing computed" in capsys.readouterr().out
    assert not [name for name in uploads if name.endswith(".tar")]
    assert objects(out) == content(local)
    assert remote.sizes().keys() == written.keys()
    # another machine goes on from there
    monkeypatch.setenv("LORA_DATA_CACHE", str(tmp_path / "another"))
    assert main(words) == 0
    assert "pictures were known: nothing computed" in capsys.readouterr().out
    assert objects(out) == content(local)
    # a picture that the store lost is computed again
    lost = next(name for name in remote.sizes("cache/blobs"))
    remote.delete([f"cache/blobs/{lost}"])
    assert main(words) == 0
    assert "nothing computed" not in capsys.readouterr().out
    assert objects(out) == content(local)
    # what was damaged there is found when it is used, and mended by the next run
    kept = json.loads(remote.read("shards/index.json"))["samples"][0]["key"]
    final = (working_folder(out) / "cache" / "final" / f"{kept}.webp").read_bytes()
    digest = Blobs(tmp_path / "x").put(final).digest
    remote.write(f"cache/blobs/{digest[:2]}/{digest}.webp", bytes(len(final)))
    monkeypatch.setenv("LORA_DATA_CACHE", str(tmp_path / "third"))
    assert main(words) == 1
    assert f"{digest} is missing or damaged; the same command computes it again" in capsys.readouterr().err
    assert main(words) == 0
    assert objects(out) == content(local)
    # a machine that comes while another one works is refused
    with remote_lock.RemoteLock(remote.below("cache"), tmp_path / "fourth"):
        assert main(words) == 1
        assert main(["cache", "prune", out]) == 1
    assert capsys.readouterr().err.count(f"another run works on {out} (process {os.getpid()}") == 2
    # what is no longer needed goes there too
    assert main(["cache", "prune", out, "--all"]) == 0
    assert remote.sizes("cache/blobs") == {}
    assert "stayed:  0 results" in capsys.readouterr().out
    assert main(["cache", "prune", f"{out}-other"]) == 2
    assert "no cache in" in capsys.readouterr().err


def test_decisions_made_on_another_machine_come_along(bucket: str, tmp_path: Path):
    remote = RemoteFolder(f"{bucket}/decided")
    take_decisions(remote, tmp_path / "a")
    assert not (tmp_path / "a").exists()
    remote.write("review.toml", b"# one\n# two\n")
    take_decisions(remote, tmp_path / "a")
    assert (tmp_path / "a" / "review.toml").read_bytes() == b"# one\n# two\n"
    (tmp_path / "a" / "review.toml").write_bytes(b"# one\n# two\n# three\n")
    take_decisions(remote, tmp_path / "a")
    assert (tmp_path / "a" / "review.toml").read_bytes() == b"# one\n# two\n# three\n"
    (tmp_path / "a" / "review.toml").write_bytes(b"# another\n")
    with pytest.raises(ConfigError, match="hold different decisions"):
        take_decisions(remote, tmp_path / "a")


@pytest.mark.parametrize(
    ("folder", "out"), [("s3://a/b", "s3://a/b"), ("s3://a/b/c", "s3://a/b"), ("s3://a", "s3://a/b/")]
)
def test_out_in_input_is_refused(bucket: str, folder: str, out: str):
    with pytest.raises(ConfigError, match="OUT must not be in INPUT or hold it"):
        precompute(folder, out, SMALL)


def test_a_cluster_works_from_store_to_store(uploaded: str, local: Path, bucket: str):
    with ray_cluster():
        precompute(uploaded, f"{bucket}/clustered", SMALL, engine="ray")
    assert objects(f"{bucket}/clustered") == content(local)
