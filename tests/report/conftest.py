from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lora_data.manifest import Record
from lora_data.table import write_table
from tests.report.outs import RUN, Made


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Make an OUT as a run leaves it."""

    def make(records: list[Record], run: object = RUN, name: str = "out") -> Path:
        out = tmp_path / name
        rng = np.random.default_rng(0)
        for kind in ("thumbs", "before"):
            (out / "cache" / kind).mkdir(parents=True)
            for record in records:
                if record.width and not (kind == "thumbs" and record.status == "rejected"):
                    pixels = rng.integers(0, 255, (12, 8, 4), dtype=np.uint8)
                    Image.fromarray(pixels).save(out / "cache" / kind / f"{record.key}.webp")
        write_table(out / "instances.parquet", sorted(records, key=lambda r: r.key))
        if run is not None:
            (out / "run.json").write_text(json.dumps(run))
        return out

    return make
