from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lora_data.backends.image_embed import SIDE, ImageEmbedder
from lora_data.config import load_config
from lora_data.enhancements import uses
from lora_data.errors import ConfigError, ModelError
from lora_data.manifest import Record
from lora_data.models.registry import model_named
from lora_data.sample import Instance
from lora_data.stages.embed import Embed
from tests.conftest import cutout
from tests.models.stand_ins import MODELS

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's exporter that needs no other package
OSNET = MODELS / "osnet_x0_25_msmt17.onnx"


class Means(nn.Module):
    """A stand-in: the mean colour of each quarter of the picture, [N, 12], or as two tokens."""

    def __init__(self, tokens: bool = False) -> None:
        super().__init__()
        self.tokens = tokens

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        means = nn.functional.adaptive_avg_pool2d(x, 2).flatten(1)
        return torch.stack([means, -means], 1) if self.tokens else means


def export(network: nn.Module, path: Path, shape: tuple[int, ...], **settings: Any) -> Path:
    torch.onnx.export(network, (torch.zeros(shape),), str(path), dynamo=False, input_names=["x"], **settings)
    return path


@pytest.mark.parametrize("tokens", [False, True])
def test_a_picture_becomes_a_unit_vector(tmp_path: Path, tokens: bool):
    path = export(Means(tokens), tmp_path / "means.onnx", (1, 3, 64, 32))
    rgb, alpha = cutout(96)
    found = ImageEmbedder(path, "none").embed(rgb, alpha)
    assert found.shape == (12,)
    assert found.dtype == np.float32
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-6)
    # a mirror image says the same; hidden colour and the place on the canvas say nothing
    assert np.allclose(ImageEmbedder(path, "none").embed(rgb[:, ::-1], alpha[:, ::-1]), found, atol=1e-5)
    hidden = np.where(alpha[..., None] > 0, rgb, 255).astype(np.uint8)
    moved = [np.pad(a, ((7, 0), (0, 9), (0, 0))[: a.ndim]) for a in (hidden, alpha)]
    assert np.allclose(ImageEmbedder(path, "none").embed(*moved), found, atol=1e-5)


def test_normalisation_is_what_the_network_wants(tmp_path: Path):
    path = export(Means(), tmp_path / "means.onnx", (1, 3, 16, 16))
    rgb, alpha = np.full((40, 40, 3), (124, 116, 104), np.uint8), np.full((40, 40), 255, np.uint8)
    near_zero = ImageEmbedder(path, "imagenet")._vector
    pixels = (rgb[:16, :16] / 255).astype(np.float32)
    assert np.abs(pixels - (0.485, 0.456, 0.406)).max() < 0.01
    assert not np.allclose(ImageEmbedder(path, "clip").embed(rgb, alpha), ImageEmbedder(path, "none").embed(rgb, alpha))
    assert near_zero(np.zeros((16, 16, 3), np.float32)).tolist() == [0.0] * 12
    with pytest.raises(ValueError, match="normalisation must be one of imagenet, clip, none, got 'x'"):
        ImageEmbedder(path, "x")  # type: ignore[arg-type]


def test_a_network_of_any_size_gets_the_usual_one(tmp_path: Path):
    axes = {"x": {0: "batch", 2: "height", 3: "width"}}
    path = export(nn.AvgPool2d(4), tmp_path / "any.onnx", (1, 3, 32, 32), dynamic_axes=axes)
    with pytest.raises(ModelError, match=rf"\(1, 3, {SIDE // 4}, {SIDE // 4}\)\], expected \[N, D\] or \[N, T, D\]"):
        ImageEmbedder(path)


def test_what_is_no_image_embedder_is_named(tmp_path: Path):
    gray = export(nn.Flatten(), tmp_path / "gray.onnx", (1, 1, 8, 8))
    with pytest.raises(ModelError, match=r"expected one input \[N, 3, H, W\] of float, found x \[1, 1, 8, 8\]"):
        ImageEmbedder(gray)
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(ModelError, match=r"text\.onnx cannot be opened as ONNX"):
        ImageEmbedder(tmp_path / "text.onnx")


def test_without_a_network_there_is_no_second_vector():
    rgb, alpha = cutout(64)
    made = Embed().apply(Instance(Record(source="a", key="a"), rgb, alpha)).record
    assert made.embedding is not None
    assert made.image_embedding is None


def test_a_configured_network_is_used_checked_and_listed(tmp_path: Path):
    config = load_config(overrides=[f"precompute.embed.model={tmp_path / 'none.onnx'}"])
    assert [(use.stage, use.model) for use in uses(config)] == [("embed", str(tmp_path / "none.onnx"))]
    with pytest.raises(ConfigError, match=r"precompute.embed.model: there is no file .*none\.onnx"):
        config.precompute.embed.prepare()
    with pytest.raises(ConfigError, match="yunet does face_detect, not image_embed"):
        Embed(model="yunet").prepare()
    assert Embed(model="ccip")._normalisation == "clip"
    assert Embed(model="dinov2-small")._normalisation == "imagenet"
    assert model_named("ccip").tasks == ("image_embed",)


@pytest.mark.skipif(not OSNET.is_file(), reason="the weights in ../shared/models are not here")
def test_osnet_finds_the_same_picture_again():
    pictures = [cutout(96, seed=0), cutout(128, seed=1), cutout(96, colour=(40, 60, 200))]
    made = [Embed(model=str(OSNET)).apply(Instance(Record(source="a", key="a"), *p)).record for p in pictures]
    a, b, c = (np.asarray(r.image_embedding) for r in made)
    assert a.shape == (512,)
    assert a @ b > a @ c
