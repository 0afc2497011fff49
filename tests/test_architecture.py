"""The house: imports point downward, the light parts stay light, the package is whole."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import lora_data

ROOT = Path(lora_data.__file__).parent
LAYERS = [
    ["errors", "durable", "interrupt", "evenly", "mapped", "spill", "ray_settings", "threads", "freed_memory"],
    ["storage"],
    ["manifest", "limits", "rng", "colour", "matte", "disjoint", "evidence", "silhouette", "progress", "blobs"],
    ["run_lock", "toml"],
    ["augment.policy", "download", "decisions", "tracks", "clustering", "record_bytes", "publish"],
    ["looks", "linkage_rounds"],
    ["sample", "metrics", "fingerprint", "hash_index", "ssim", "shards", "store", "decode", "sources", "table"],
    ["characters", "results", "sam2", "remote_lock"],
    ["faces", "stage", "remote", "gate", "motion", "train.settings", "work"],
    ["backends", "models"],
    ["stages"],
    ["config", "content_key"],
    ["augment"],
    ["train"],
    ["draws"],
    ["enhancements", "engines", "report", "demo", "preview", "export"],
    ["review", "run_json", "passes"],
    ["mirror"],
    ["pipeline", "inspection"],
    ["commands"],
    ["cli"],
    ["__main__", "__init__"],
]
"""Each line imports only from lines above it, and within its own package."""


def layer_of(module: str) -> int:
    for number, names in enumerate(LAYERS):
        if any(module == n or module.startswith(n + ".") for n in names):
            return number
    raise AssertionError(f"lora_data.{module} has no place in LAYERS")


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
        if name not in ("augment", "train"):
            found[name] = path
    return found


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("lora_data"):
            base = node.module.removeprefix("lora_data").removeprefix(".")
            for alias in node.names:
                name = f"{base}.{alias.name}".strip(".")
                names.add(name if name in modules() else base)
    return names - {""}


def test_imports_point_downward():
    for name, path in modules().items():
        if name == "__init__":
            continue
        for other in imported(path):
            same_package = name.split(".")[0] == other.split(".")[0]
            assert same_package or layer_of(other) < layer_of(name), f"{name} imports {other}"


def loaded_by(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_import_loads_no_torch():
    assert not loaded_by("import lora_data") & {"torch", "numpy", "cv2", "pydantic", "kornia"}


def test_a_configuration_is_read_without_the_offline_half():
    heavy = {
        "torch",
        "cv2",
        "sklearn",
        "skimage",
        "pymatting",
        "pyarrow",
        "pycocotools",
        "rich",
        "jinja2",
        "imagehash",
        "scipy",
    }
    assert not loaded_by("import lora_data; lora_data.load_config()") & heavy


def test_files_stay_readable():
    for path in ROOT.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 400, path
