from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lora_data.errors import RunError
from lora_data.run_lock import run_lock

HOLD = """
import pathlib, sys, time
from lora_data.run_lock import run_lock
with run_lock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_second_is_refused_with_the_first_one_s_number(tmp_path: Path):
    with run_lock(tmp_path / "cache"), pytest.raises(RunError, match=rf"process {os.getpid()}\)"):  # noqa: SIM117
        with run_lock(tmp_path / "cache"):
            pass
    with run_lock(tmp_path / "cache"):
        pass


def test_the_lock_dies_with_its_process(tmp_path: Path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(RunError, match=f"process {holder.pid}"), run_lock(tmp_path):
        pass
    holder.kill()
    holder.communicate()
    with run_lock(tmp_path):
        assert (tmp_path / "run.lock").read_text() == str(os.getpid())
