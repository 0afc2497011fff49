from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from lora_data.config import load_config
from lora_data.content_key import PixelStage, key_of, pass_print, reads_of
from lora_data.gate import FaceChange
from lora_data.manifest import Record
from lora_data.models import loaded
from lora_data.models.network import Network
from lora_data.pipeline import recipe
from lora_data.record_bytes import NAMES, changes, only
from lora_data.sample import Instance
from lora_data.stage import MapStage, NetworkStage, Resources
from lora_data.stages import enhancement, face_restore
from lora_data.stages.colour import Colour
from lora_data.stages.deblur import Deblur
from lora_data.stages.face_restore import FaceRestore
from lora_data.stages.faces import Faces
from lora_data.stages.ingest import Ingest
from lora_data.stages.matte import Background, Matte
from lora_data.stages.upscale import Upscale
from tests.stages.test_deblur import sharper, smeared
from tests.stages.test_face_restore import POINTS, Embedder, Witness
from tests.stages.test_upscale import sharpened

ALL = [
    *("precompute.face_restore.enabled=true", "precompute.upscale.enabled=true", "precompute.deblur.enabled=true"),
    "precompute.identity.min_cluster_size=2",
]
STAGES = [stage for stage in recipe(load_config(overrides=ALL)) if isinstance(stage, MapStage | NetworkStage)]


def filled() -> Record:
    """A record whose every field holds something."""
    hints = typing.get_type_hints(Record)
    values: dict[str, Any] = {}
    for name in NAMES:
        options = [a for a in typing.get_args(hints[name]) if a is not type(None)] or [hints[name]]
        words = typing.get_args(options[0]) or [o for o in options if isinstance(o, str)]
        kind = options[0]
        values[name] = (
            words[-1]
            if words
            else {int: 2, float: 0.5, str: "text", bool: True, np.ndarray: np.ones(4, np.float32)}[kind]
        )
    record = Record(source="a.png", key="a", **values)
    return record.replace(face_points=POINTS.ravel(), face_box=np.array([60, 60, 140, 140], np.float32))


def answers(name: str) -> list[dict[str, Any]]:
    """Records as they may reach a stage, beyond one in which everything is set."""
    if name == "deblur":
        return [{"deblur": "proposed", "deblur_review": said, "upscale_scale": None} for said in (None, "accept")]
    return [{f"{name}_review": None}] if f"{name}_review" in NAMES else [{}]


def run(stage: PixelStage, instance: Instance) -> Instance:
    if isinstance(stage, MapStage):
        return stage.apply(instance)
    (made,) = stage.apply_many([instance], Resources(embedder="test"))
    return made


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: dict[str, tuple[Callable[[nn.Module, Tensor], Tensor], int]] = {
        "face_restore": (lambda _, x: x, 1),
        "upscale": (sharpened(2), 2),
        "deblur": (sharper, 1),
    }

    def network(_: str, task: str, *more: object) -> Network:
        call, scale = calls[task]
        return Network("test", nn.Identity(), call, scale=scale)

    witness = Witness(FaceChange(0.99, 0.0))
    monkeypatch.setattr(loaded, "network", network)
    for module in (enhancement, face_restore):
        monkeypatch.setattr(module, "witness", lambda _: witness)
    monkeypatch.setattr(face_restore, "embedder", lambda _: Embedder())


@pytest.mark.usefixtures("plugged")
@pytest.mark.parametrize("stage", [s for s in STAGES if not isinstance(s, Faces)], ids=lambda s: type(s).__name__)
def test_a_stage_reads_no_field_but_those_it_names(stage: PixelStage):
    """With every field set, and with only those set that it names, it makes the same pixels and the same fields."""
    given = smeared(15)
    for fields in [{}, *answers(stage.name)]:
        full = filled().replace(**fields)
        small = only(full, stage.reads)
        with_all, with_named = (run(stage, Instance(r, given.rgb, given.alpha)) for r in (full, small))
        assert np.array_equal(with_all.rgb, with_named.rgb)
        assert np.array_equal(with_all.alpha, with_named.alpha)
        named, every = changes(small, with_named.record), changes(full, with_all.record)
        for name in named.keys() | every.keys():
            a, b = getattr(with_named.record, name), getattr(with_all.record, name)
            assert np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b, name


@pytest.mark.usefixtures("plugged")
@pytest.mark.parametrize(
    ("stage", "field", "value"),
    [
        (Matte(), "matte_review", "refuse"),
        (Colour(), "colour_review", "refuse"),
        (Colour(), "wb_red", 1.4),
        (Upscale(), "upscale_review", "refuse"),
        (FaceRestore(), "face_restore_review", "refuse"),
        (Deblur(), "deblur", "proposed"),
        (Deblur(), "deblur_review", "refuse"),
    ],
)
def test_what_a_stage_names_does_decide(stage: PixelStage, field: str, value: object):
    """The law above would also hold for a stage that names too much."""
    given = smeared(15)
    known: dict[str, Any] = {
        "wb_red": 1.0,
        "wb_green": 1.0,
        "wb_blue": 1.0,
        "deblur": "proposed",
        "face_points": POINTS.ravel(),
    }
    plain = only(Record(source="a.png", key="a", **known), stage.reads)
    if field == "deblur":
        plain = plain.replace(deblur="no")
    before, after = (run(stage, Instance(r, given.rgb, given.alpha)) for r in (plain, plain.replace(**{field: value})))
    assert changes(before.record, after.record) or not np.array_equal(before.rgb, after.rgb)


def print_of(*stages: PixelStage, ingest: Ingest | None = None, **other: Any) -> str:
    given: dict[str, Any] = {"kinds": ("final",), "models": {}, "resources": Resources(), **other}
    return pass_print(stages, ingest=ingest, **given)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (print_of(Colour()), print_of(Colour(clip_limit=3.0))),
        (print_of(Colour(), Background()), print_of(Background(), Colour())),
        (print_of(Colour()), print_of(Colour(), Background())),
        (print_of(Matte()), print_of(Matte(), ingest=Ingest())),
        (print_of(Matte(), ingest=Ingest()), print_of(Matte(), ingest=Ingest(margin=0.1))),
        (print_of(Matte()), print_of(Matte(), kinds=("before",))),
        (print_of(Faces()), print_of(Faces(), models={"faces": ["ab"]})),
        (print_of(Upscale()), print_of(Upscale(), models={"upscale": ["ab"]})),
        (print_of(Upscale()), print_of(Upscale(), models={"faces": ["ab"]})),
        (print_of(Upscale()), print_of(Upscale(), resources=Resources(device="cuda"))),
        (print_of(Upscale()), print_of(Upscale(), resources=Resources(embedder="x"))),
        (print_of(Upscale()), print_of(Upscale(tile=128))),
    ],
)
def test_what_decides_changes_the_key(one: str, other: str):
    assert one != other


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (print_of(Matte()), print_of(Matte(background="white"))),
        (print_of(Deblur()), print_of(Deblur(below=60.0, neighbour_frames=3, enabled=True))),
        (print_of(Upscale()), print_of(Upscale(enabled=True), resources=Resources(workers=8))),
        (print_of(Colour()), print_of(Colour(), models={"upscale": ["ab"]}, resources=Resources(device="cuda"))),
    ],
)
def test_what_does_not_decide_leaves_the_key(one: str, other: str):
    assert one == other


def test_a_new_version_of_a_stage_or_a_library_is_another_key(monkeypatch: pytest.MonkeyPatch):
    import lora_data.content_key as module

    before = print_of(Colour())
    monkeypatch.setattr(Colour, "version", Colour.version + 1)
    raised = print_of(Colour())
    assert raised != before
    monkeypatch.setattr(module, "version_of", lambda package: "9.9" if package == "numpy" else None)
    assert print_of(Colour()) not in (before, raised)


def test_only_what_a_pass_reads_is_in_an_instance_s_key():
    reads = reads_of([Matte(), Colour()])
    assert reads == {"matte_review", "colour_review", "wb_red", "wb_green", "wb_blue"}
    record = Record(source="a.png", key="a")
    key = key_of("pass", "picture", record, reads)
    full = filled()
    for name in NAMES:
        changed = key_of("pass", "picture", record.replace(**{name: getattr(full, name)}), reads)
        assert (changed != key) == (name in reads), name
    assert key_of("pass", "picture", Record(source="b.png", key="b"), reads) == key
    assert key_of("other", "picture", record, reads) != key != key_of("pass", "other", record, reads)


@pytest.mark.parametrize("stage", STAGES, ids=lambda s: type(s).__name__)
def test_what_a_stage_names_is_there(stage: PixelStage):
    assert stage.reads <= set(NAMES)
    assert "reviewed" not in stage.reads
    assert stage.foreign <= {f.name for f in dataclasses.fields(stage)}  # pyright: ignore[reportArgumentType]
