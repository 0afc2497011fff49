"""Keys by content: what decides the result of a pass, and nothing else.

A pass is keyed by its stages (names, versions, configuration), the networks' files, the versions of the libraries that
compute pixels, the bytes of the picture that goes in, and those fields of the record that its stages may read
(`MapStage.reads`). The stages are given no other field, so no other field can decide.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import metadata

from lora_data.manifest import Record
from lora_data.record_bytes import to_bytes
from lora_data.stage import MapStage, NetworkStage, Resources
from lora_data.stages.ingest import Ingest

FORMAT = 1
"""Raised when what is stored, or how a key is made, changes."""
_LIBRARIES = (
    *("numpy", "opencv-python", "opencv-python-headless", "pillow", "pymatting", "scipy", "scikit-image", "imagehash"),
    *("onnxruntime", "onnxruntime-gpu", "insightface"),
)
_NETWORK_LIBRARIES = ("torch", "spandrel", "spandrel-extra-arches")

PixelStage = MapStage | NetworkStage


def reads_of(stages: Sequence[PixelStage]) -> frozenset[str]:
    """The fields of the incoming record that a pass may read."""
    return frozenset[str]().union(*(stage.reads for stage in stages))


def pass_print(
    stages: Sequence[PixelStage],
    *,
    ingest: Ingest | None,
    kinds: Sequence[str],
    models: Mapping[str, Sequence[str]],
    resources: Resources,
) -> str:
    """What of a pass is the same for every instance, as one SHA-256.

    Args:
        stages: In their order.
        ingest: What decodes the sources, in the first pass.
        kinds: The pictures that it leaves to be shown.
        models: Digests of the networks' files by the stage that uses them.
        resources: What networks run on. Which device does count: a GPU sums in another order, and in half precision.
    """
    networks = any(isinstance(stage, NetworkStage) for stage in stages)
    used = {stage.name: list(models.get(stage.name, ())) for stage in stages}
    if networks:  # the gate looks at faces with the network that describes them
        used["faces"] = list(models.get("faces", ()))
    said = {
        "format": FORMAT,
        "ingest": None if ingest is None else _said(ingest),
        "stages": [_said(stage) for stage in stages],
        "kinds": list(kinds),
        "models": used,
        "libraries": _versions(_LIBRARIES) | (_versions(_NETWORK_LIBRARIES) if networks else {}),
        "resources": [resources.device, resources.embedder] if networks else None,
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def key_of(whole: str, picture: str, record: Record, reads: frozenset[str]) -> str:
    """The key of one instance in a pass.

    Args:
        whole: See `pass_print`.
        picture: Digest of what goes in: the picture's bytes, or the source (see `Source.digest`).
        record: As it goes in.
        reads: See `reads_of`.
    """
    fields = to_bytes({name: getattr(record, name) for name in reads})
    return hashlib.sha256(b"".join([whole.encode(), picture.encode(), fields])).hexdigest()


def _said(stage: PixelStage | Ingest) -> list[object]:
    """A stage's name, version and the configuration that its own pixels depend on."""
    foreign = frozenset[str]() if isinstance(stage, Ingest) else stage.foreign
    config: dict[str, object] = {}
    if dataclasses.is_dataclass(stage):
        config = {name: value for name, value in dataclasses.asdict(stage).items() if name not in foreign}
    return [stage.name, stage.version, config]


def _versions(packages: Sequence[str]) -> dict[str, str]:
    return {package: found for package in packages if (found := version_of(package)) is not None}


@cache
def version_of(package: str) -> str | None:
    """The version of an installed package; None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
