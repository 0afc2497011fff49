"""Memory does not grow with the corpus: pixels wait on disk, and only records stay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tests.bench.memory import peak
from tests.conftest import cutout


def test_four_times_the_instances_need_hardly_more_memory(tmp_path: Path):
    peaks: list[float] = []
    for count in (20, 80):
        folder = tmp_path / str(count)
        folder.mkdir()
        for i in range(count):
            rgb, alpha = cutout(640, seed=i % 5, colour=(40 * (i % 5), 200 - 7 * (i % 20), 90))
            Image.fromarray(np.dstack([rgb, alpha])).save(folder / f"film_{10 * i:06d}_i0.png", compress_level=1)
        peaks.append(peak(folder, tmp_path / f"out{count}", workers=1).driver)
    # 60 more pictures of 640 px hold 94 MiB of pixels; their records hold 1.
    assert peaks[1] - peaks[0] < 40, peaks
