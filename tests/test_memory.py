"""Memory does not grow with the corpus: pixels wait on disk, and only records stay."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from tests.bench.precompute import MEMORY_CODE
from tests.conftest import cutout


def peak_beyond_imports(folder: Path, out: Path) -> float:
    """MiB that a run with one worker needed beyond what its imports did."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY_CODE, str(folder), str(out)], capture_output=True, text=True, check=True
    )
    before, peak = (int(v) / 1024 for v in done.stdout.split()[-2:])
    return peak - before


def test_four_times_the_instances_need_hardly_more_memory(tmp_path: Path):
    peaks: list[float] = []
    for count in (20, 80):
        folder = tmp_path / str(count)
        folder.mkdir()
        for i in range(count):
            rgb, alpha = cutout(640, seed=i % 5, colour=(40 * (i % 5), 200 - 7 * (i % 20), 90))
            Image.fromarray(np.dstack([rgb, alpha])).save(folder / f"film_{10 * i:06d}_i0.png", compress_level=1)
        peaks.append(peak_beyond_imports(folder, tmp_path / f"out{count}"))
    # 60 more pictures of 640 px hold 94 MiB of pixels; their records hold 1.
    assert peaks[1] - peaks[0] < 40, peaks
