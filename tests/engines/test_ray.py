"""The engine of several machines, on a real cluster."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from lora_data import load_config
from lora_data.blobs import Blobs
from lora_data.demo import make_film
from lora_data.engines.local import LocalEngine
from lora_data.engines.ray import RayEngine
from lora_data.errors import RunError
from lora_data.interrupt import Interrupt
from lora_data.pipeline import precompute
from lora_data.ray_settings import RaySettings
from lora_data.stage import Resources
from lora_data.work import Made
from tests.bench.resume import command, content, environment
from tests.conftest import DEV
from tests.engines.cluster import ray_cluster
from tests.engines.runs import results
from tests.engines.test_batches import Brighter, NetworkPass, filled
from tests.models.networks import sharpening

pytest.importorskip("ray")
BLOCK = RaySettings(block=4)


@pytest.fixture(scope="module")
def cluster() -> Generator[str]:
    with ray_cluster() as address:
        yield address


@pytest.fixture
def engine(cluster: str) -> Generator[RayEngine]:
    with RayEngine(BLOCK) as found:
        yield found


def square(value: int) -> int:
    return value * value


def fail_on_three(value: int) -> int:
    if value == 3:
        raise PermissionError(13, "three", "x.png")
    return value


def killed(value: tuple[int, str, int]) -> int:
    """Ends its worker at number 5, until so many have ended there."""
    number, folder, times = value
    if number == 5 and len(os.listdir(folder)) < times:
        (Path(folder) / str(time.time_ns())).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_every_item_has_its_result_and_each_keeps_their_order(engine: RayEngine):
    assert results(engine, square, range(30)) == [i * i for i in range(30)]
    assert results(engine, square, []) == []
    assert engine.each(square, range(300)) == [i * i for i in range(300)]
    assert engine.workers == 2
    assert engine.gpus == 0


def test_what_a_worker_raises_is_raised_as_it_is(engine: RayEngine):
    with pytest.raises(PermissionError, match="three") as caught:
        results(engine, fail_on_three, range(8))
    assert caught.value.filename == "x.png"
    assert "fail_on_three" in str(caught.value.__cause__)
    assert results(engine, square, [2]) == [4]


def test_work_of_a_killed_worker_is_done_by_another(engine: RayEngine, tmp_path: Path):
    items = [(number, str(tmp_path), 1) for number in range(12)]
    assert results(engine, killed, items) == list(range(12))
    assert len(list(tmp_path.iterdir())) == 1


def test_a_picture_that_kills_every_worker_ends_the_run(engine: RayEngine, tmp_path: Path):
    arrived: dict[int, int] = {}
    with pytest.raises(RunError, match="what is done is kept: run the same command again"):
        engine.run(killed, [(number, str(tmp_path), 1000) for number in range(12)], arrived.__setitem__)
    assert 2 <= len(list(tmp_path.iterdir())) <= 5
    assert 5 not in arrived


def test_who_is_asked_to_stop_keeps_what_has_arrived(cluster: str):
    interrupt, arrived = Interrupt(), dict[int, int]()

    def stopping(number: int, result: int) -> None:
        arrived[number] = result
        interrupt.asked = True

    with RayEngine(BLOCK, interrupt=interrupt) as engine, pytest.raises(KeyboardInterrupt):
        engine.run(square, range(100), stopping)
    assert 4 <= len(arrived) < 100
    assert all(result == number**2 for number, result in arrived.items())


def test_networks_make_what_they_make_here(engine: RayEngine, tmp_path: Path):
    made: list[dict[int, Made]] = []
    for name, machine in (("local", LocalEngine(1)), ("ray", engine)):
        blobs, done = Blobs(tmp_path / name), dict[int, Made]()
        machine.run_networks(NetworkPass((Brighter(),), blobs, Resources()), filled(blobs, 10), done.__setitem__)
        made.append(done)
        assert all(blobs.sound(one.pictures.values()) for one in done.values())
    assert made[0] == made[1]


def test_a_cluster_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", lambda **_: (_ for _ in ()).throw(ConnectionError("nobody answers")))
    with pytest.raises(RunError, match=r"no Ray cluster at 10.0.0.9:6379: nobody answers"):
        RayEngine(RaySettings(address="10.0.0.9:6379")).__enter__()


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("film")
    make_film(folder, instances=24, characters=2, seed=3, size=200)
    return folder / "instances"


def test_the_demo_film_gives_the_bytes_of_the_local_engine(cluster: str, film: Path, tmp_path: Path):
    network = sharpening(tmp_path / "network.pth")
    config = load_config(
        overrides=[
            *("precompute.filter.min_size=32", "ray.block=3", "precompute.deblur.enabled=true"),
            *(f"precompute.deblur.model={network}", "precompute.deblur.below=2000"),
        ]
    )
    outs = {name: tmp_path / name for name in ("one", "two", "ray")}
    precompute(film, outs["one"], config, workers=1)
    precompute(film, outs["two"], config, workers=2)
    precompute(film, outs["ray"], config, engine="ray")
    assert content(outs["one"]) == content(outs["two"]) == content(outs["ray"])
    again = precompute(film, outs["ray"], config, engine="ray")
    assert again.known == sum(again.counts.values())
    assert content(outs["ray"]) == content(outs["one"])


def test_the_renders_give_the_bytes_of_the_local_engine(cluster: str, tmp_path: Path):
    if not DEV.is_dir():
        pytest.skip("the renders in ../shared/data/dev are not here")
    folder = tmp_path / "in"
    folder.mkdir()
    for path in sorted((DEV / "instances").glob("*.png"))[::24]:
        shutil.copy(path, folder)
    config = load_config()
    outs = {name: tmp_path / name for name in ("one", "two", "ray")}
    precompute(folder, outs["one"], config, workers=1)
    precompute(folder, outs["two"], config, workers=2)
    precompute(folder, outs["ray"], config, engine="ray")
    assert content(outs["one"]) == content(outs["two"]) == content(outs["ray"])


@contextmanager
def workers_killed(moments: Sequence[float]) -> Generator[list[int]]:
    """Kill a worker this many seconds after the one before, or as soon as there is one; yields whom.

    No more than were asked for: where killing went on, a machine whose workers start slowly would never be done.
    """
    which, done, killed = random.Random(0), threading.Event(), list[int]()

    def one() -> None:
        while not done.wait(0.02):
            alive = sorted(
                process.pid
                for process in psutil.process_iter(["name"])
                if (process.info["name"] or "").startswith("ray::MapWorker")
            )
            with suppress(psutil.NoSuchProcess):
                if alive:
                    pid = which.choice(alive)
                    psutil.Process(pid).kill()
                    killed.append(pid)
                    return

    def kill() -> None:
        for seconds in moments:
            if not done.wait(seconds):
                one()

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    try:
        yield killed
    finally:
        done.set()
        killer.join()


def test_twenty_workers_killed_at_random_moments_change_no_byte(cluster: str, film: Path, tmp_path: Path):
    def run(name: str) -> subprocess.CompletedProcess[str]:
        words = command(film, tmp_path / name, "--engine", "ray", "--set", "ray.block=2")
        return subprocess.run(
            words, capture_output=True, text=True, check=False, env={**environment(), "RAY_ADDRESS": cluster}
        )

    precompute(film, tmp_path / "local", load_config(overrides=["precompute.filter.min_size=32"]), workers=1)
    expected, random_moment, killed = content(tmp_path / "local"), random.Random(0), 0
    start = time.perf_counter()
    assert run("undisturbed").returncode == 0
    apart = (time.perf_counter() - start) / 20
    assert content(tmp_path / "undisturbed") == expected
    for number in range(10):
        with workers_killed([random_moment.uniform(0, 2 * apart) for _ in range(12)]) as pids:
            ended = run(f"out{number}")
        killed += len(pids)
        if ended.returncode:
            # one block can be hit four times by chance: the run ends, and the same command goes on
            assert "what is done is kept: run the same command again" in ended.stderr, ended.stderr
            again = run(f"out{number}")
            assert again.returncode == 0, again.stderr
        assert content(tmp_path / f"out{number}") == expected, f"run {number} differs"
        if killed >= 20:
            break
    assert killed >= 20
