from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from lora_data.config import load_config
from lora_data.enhancements import enhancements, left_out, need_models, uses
from lora_data.errors import ConfigError
from lora_data.models.registry import model_named
from lora_data.models.weights import FOLDER, Weights
from lora_data.pipeline import recipe


@pytest.mark.parametrize(
    ("overrides", "on"),
    [
        ([], set[str]()),
        (["preset=full"], {"faces", "face_restore", "upscale", "deblur"}),
        (["preset=full", "precompute.face_restore.enabled=false"], {"faces", "upscale", "deblur"}),
        (["precompute.face_restore.enabled=true"], {"faces", "face_restore"}),
        (["precompute.faces.enabled=true"], {"faces"}),
        (["precompute.deblur.enabled=true"], {"deblur"}),
        (["preset=full", "precompute.faces.enabled=false"], {"face_restore", "upscale", "deblur"}),
    ],
)
def test_auto_follows_the_preset_and_each_can_be_switched(overrides: list[str], on: set[str]):
    config = load_config(overrides=overrides)
    found = dataclasses.asdict(enhancements(config))
    assert {name for name, switched in found.items() if switched} == on
    assert {use.stage for use in uses(config)} == on
    assert {left.stage for left in left_out(config)} == {"face_restore", "upscale", "deblur"} - on


def test_the_order_is_the_strategys():
    names = [stage.name for stage in recipe(load_config(preset="full"))]
    order = ["matte", "faces", "motion", "white_balance", "deblur", "face_restore", "upscale", "deblur", "colour"]
    assert [name for name in names if name in order] == order
    light = [stage.name for stage in recipe(load_config())]
    assert not {"faces", "motion", "face_restore", "upscale", "deblur"} & set(light)


def test_what_is_left_out_says_what_turns_it_on():
    by_stage = {left.stage: left.turn_on for left in left_out(load_config())}
    assert by_stage["upscale"] == (
        "lora-data models pull realesrgan-x2plus; then --set precompute.upscale.enabled=true"
    )
    assert by_stage["face_restore"].startswith(
        "lora-data models pull codeformer insightface-buffalo-l yunet --accept-licence; then"
    )
    own = left_out(load_config(overrides=["precompute.upscale.model=/models/mine.safetensors"]))
    assert "--set precompute.upscale.enabled=true" in {left.turn_on for left in own}
    assert left_out(load_config(preset="full")) == []


def test_everything_that_is_missing_is_named_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(FOLDER, str(tmp_path))
    wanted = uses(load_config(preset="full"))
    with pytest.raises(ConfigError) as caught:
        need_models(wanted)
    lines = str(caught.value).splitlines()
    names = "insightface-buffalo-l yunet codeformer realesrgan-x2plus nafnet-gopro-64"
    assert lines[-1] == f"lora-data models pull {names} --accept-licence"
    assert f"yunet: face_detection_yunet_2023mar.onnx is not in {tmp_path}" in lines
    assert any(
        line.startswith("codeformer: its licence restricts its use and was not accepted (S-Lab") for line in lines
    )
    for use in wanted:
        (tmp_path / model_named(use.model).file).write_bytes(b"x")
        Weights(tmp_path).accept(model_named(use.model))
    need_models(wanted)
    (tmp_path / model_named("yunet").file).unlink()
    with pytest.raises(ConfigError, match=r"\nlora-data models pull yunet$"):
        need_models(wanted)
    hand = load_config(overrides=["precompute.deblur.enabled=true", "precompute.deblur.model=deblurganv2-inception"])
    with pytest.raises(ConfigError, match=r"fpn_inception.h5 can only be fetched by hand, from https://drive"):
        need_models(uses(hand))
