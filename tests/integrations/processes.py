"""What the tests start in processes of their own: trainers on the CPU, without a network, on this checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT


def environment(**more: str) -> dict[str, str]:
    """This process's environment with our packages on the path, no GPU and no downloads."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "integrations")]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "ACCELERATE_USE_CPU": "true",
        "HF_HUB_OFFLINE": "1",
        **more,
    }


def save_pipeline(name: str, folder: Path) -> Path:
    """Make one of the small pipelines (`tests.integrations.tiny_pipelines`) in a process of its own; its folder."""
    code = f"from pathlib import Path; from tests.integrations.tiny_pipelines import save; save({name!r}, Path())"
    subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment(), check=True, capture_output=True)
    return folder / name
