from __future__ import annotations

import dataclasses
import hashlib
import importlib
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from lora_data.errors import ModelError
from lora_data.matte import fill_hidden
from lora_data.models.deblurgan import FPNInception, FPNMobileNet, PictureNorm
from lora_data.models.network import Network, load_file, load_network
from lora_data.models.registry import Model, model_named
from lora_data.models.weights import Weights
from tests.conftest import ROOT, cutout
from tests.models import networks

SHARED = ROOT.parent / "shared" / "models"


def pictures(*shape: int, seed: int = 0) -> Tensor:
    """Smooth random pictures in [0, 1]."""
    small = torch.rand(shape[0], 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(small, shape[1:], mode="bicubic").clamp(0, 1)


def put(folder: Path, model: Model, network: nn.Module | dict[str, Tensor], key: str | None) -> Model:
    """Save weights under a model's file name and return the model with their digest."""
    path = networks.save(network, folder / model.file, key=key)
    weights = Weights(folder)
    weights.accept(model)
    return dataclasses.replace(model, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.mark.parametrize(
    ("name", "network", "key", "size"),
    [
        ("realesrgan-x4plus", lambda: networks.esrgan(), "params_ema", (33, 40)),
        ("realesrgan-x2plus", lambda: networks.esrgan(scale=2), "params_ema", (33, 41)),
        ("realesrgan-x4plus-anime", lambda: networks.esrgan(blocks=6), "params_ema", (24, 20)),
        ("realesr-animevideov3", lambda: networks.compact(), "params", (33, 40)),
        ("realesr-general-x4v3", lambda: networks.compact(convolutions=6), "params", (33, 40)),
        ("nafnet-gopro-32", lambda: networks.nafnet(), "params", (50, 70)),
        ("nafnet-reds-64", lambda: networks.nafnet(width=12), "params", (16, 16)),
        ("deblurganv2-mobilenet", FPNMobileNet, "deblurgan", (70, 100)),
        ("deblurganv2-inception", FPNInception, "deblurgan", (100, 170)),
        ("restoreformer", networks.restoreformer, None, (512, 512)),
    ],
)
def test_each_architecture_loads_from_its_official_layout(
    name: str, network: Any, key: str | None, size: tuple[int, int], tmp_path: Path
):
    model, made = model_named(name), network()
    if key == "deblurgan":  # DataParallel's names, in a dictionary of a training
        made, key = {f"module.{n}": v for n, v in made.state_dict().items()}, "model"
    model = put(tmp_path, model, made, key)
    loaded = load_network(model, Weights(tmp_path))
    given = pictures(2, *size)
    out = loaded(given)
    assert out.shape == (2, 3, size[0] * model.scale, size[1] * model.scale)
    assert out.dtype == torch.float32
    assert 0 <= float(out.min()) <= float(out.max()) <= 1
    assert torch.equal(out, loaded(given))
    alone = torch.cat([loaded(one[None]) for one in given])
    assert torch.allclose(out, alone, atol=1e-4)  # no picture depends on its neighbours in the batch
    assert float(out.std()) > 0.01


def test_the_enlarger_by_two_sees_no_more_padding_than_its_folding_needs(tmp_path: Path):
    model = put(tmp_path, model_named("realesrgan-x2plus"), networks.esrgan(scale=2), "params_ema")
    loaded = load_network(model, Weights(tmp_path))
    given = pictures(1, 34, 38)  # even, and no multiples of the 4 that spandrel asks for
    with torch.inference_mode():
        direct = loaded.module(given)
    assert torch.equal(loaded(given), direct.clamp(0, 1))


def test_gfpgan_is_given_what_it_was_trained_on_and_draws_no_noise(tmp_path: Path):
    model = put(tmp_path, model_named("gfpgan-1.4"), networks.gfpgan(), "params_ema")
    loaded = load_network(model, Weights(tmp_path))
    face = pictures(1, 512, 512)
    out = loaded(face)
    assert torch.equal(out, loaded(face))
    module: Any = loaded.module
    with torch.inference_mode():
        direct = (module(face * 2 - 1, return_rgb=False, randomize_noise=False)[0] + 1) / 2
        drawn = [(module(face * 2 - 1)[0] + 1) / 2 for _ in range(2)]
    assert torch.equal(out, direct.clamp(0, 1))
    assert not torch.equal(drawn[0], drawn[1])  # the trap: its own default
    spandrel: Any = importlib.import_module("spandrel")
    stock = spandrel.ModelLoader().load_from_file(str(tmp_path / model.file))
    assert float((stock(face) - out).abs().max()) > 0.1  # the trap: spandrel's call does not normalise
    with pytest.raises(ModelError, match="float16"):
        loaded.to("cpu", torch.float16)


def test_codeformers_fidelity_is_reachable(tmp_path: Path):
    model = put(tmp_path, model_named("codeformer"), networks.codeformer(), "params_ema")
    face = pictures(1, 512, 512)
    faithful = load_network(model, Weights(tmp_path), fidelity=1.0)
    out = faithful(face)
    module: Any = faithful.module
    with torch.inference_mode():
        direct = (module(face * 2 - 1, weight=1.0)[0] + 1) / 2
    assert torch.equal(out, direct.clamp(0, 1))
    free = load_network(model, Weights(tmp_path), fidelity=0.0)
    assert float((free(face) - out).abs().max()) > 0.01
    with pytest.raises(ModelError, match="takes 512 x 512 px, got 256 x 512"):
        faithful(pictures(1, 512, 256))


def test_restoreformer_is_called_as_spandrel_calls_it(tmp_path: Path):
    model = put(tmp_path, model_named("restoreformer"), networks.restoreformer(), None)
    spandrel: Any = importlib.import_module("spandrel")
    stock = spandrel.ModelLoader().load_from_file(str(tmp_path / model.file))
    face = pictures(1, 512, 512)
    with torch.inference_mode():
        expected = stock(face)
    assert torch.allclose(load_network(model, Weights(tmp_path))(face), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("network", "digest"),
    [
        (FPNMobileNet, "2e7bcb5737aa0a35efd4914a7b99ac7a2507df54988e703bd382a089b84754d9"),
        (FPNInception, "010834d6a3c9e1439641c627c64b57c7fe6fdc487d356a5b4a8c86156970ab38"),
    ],
)
def test_deblurgan_has_the_names_and_shapes_of_the_official_weights(network: type[nn.Module], digest: str):
    """The digests are of the official code's state dicts (VITA-Group/DeblurGANv2 with pretrainedmodels 0.7.4).

    With the same random weights its outputs in training mode and ours differed by at most 2.5e-5.
    """
    listing = "\n".join(f"{name} {tuple(value.shape)}" for name, value in sorted(network().state_dict().items()))
    assert hashlib.sha256(listing.encode()).hexdigest() == digest


def test_a_pictures_own_statistics_are_what_batch_norm_would_take_from_it_alone():
    torch.manual_seed(0)
    stock, ours = nn.BatchNorm2d(5, eps=0.001), PictureNorm(5, affine=True, eps=0.001)
    nn.init.normal_(stock.weight)
    nn.init.normal_(stock.bias)
    ours.load_state_dict(stock.state_dict(), strict=True)
    x = torch.randn(3, 5, 7, 6)
    expected = torch.cat([stock.train()(one[None]) for one in x])
    assert torch.allclose(ours(x), expected, atol=1e-5)


class Runs:
    """What a pickle may do."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(Path(os.environ["PYTEST_TRAP"])),)


@pytest.mark.parametrize("name", ["realesrgan-x4plus", "deblurganv2-mobilenet"])
def test_a_pickle_with_code_in_it_is_not_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTEST_TRAP", str(tmp_path / "sprung"))
    model = model_named(name)
    path = tmp_path / model.file
    for save in (
        lambda: torch.save({"params": Runs()}, path),
        lambda: path.write_bytes(pickle.dumps(Runs(), protocol=2)),
    ):
        save()
        wanted = dataclasses.replace(model, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
        with pytest.raises(ModelError, match=r"not safe to open|cannot be opened|holds no network"):
            load_network(wanted, Weights(tmp_path))
        assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["realesrgan-x4plus", "deblurganv2-mobilenet"])
def test_what_is_cut_off_or_something_else_is_a_named_error(name: str, tmp_path: Path):
    model = model_named(name)
    whole = networks.save(networks.compact(), tmp_path / "whole.pth").read_bytes()
    other = networks.save({"a.weight": torch.zeros(3)}, tmp_path / "other.pth").read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"<html>404</html>", other):
        (tmp_path / model.file).write_bytes(content)
        wanted = dataclasses.replace(model, sha256=hashlib.sha256(content).hexdigest())
        with pytest.raises(ModelError, match=model.file):
            load_network(wanted, Weights(tmp_path))


def test_another_scale_than_the_models_is_another_network(tmp_path: Path):
    model = put(tmp_path, model_named("realesrgan-x4plus"), networks.compact(scale=2), "params")
    with pytest.raises(ModelError, match="enlarges 2 times, realesrgan-x4plus 4 times"):
        load_network(model, Weights(tmp_path))


def test_any_network_that_spandrel_knows_loads_by_its_path(tmp_path: Path):
    from safetensors.torch import save_file

    save_file(networks.compact(scale=2), tmp_path / "somebody's.safetensors")
    loaded = load_file(tmp_path / "somebody's.safetensors")
    assert (loaded.scale, loaded.name) == (2, "somebody's.safetensors")
    assert loaded(pictures(1, 20, 30)).shape == (1, 3, 40, 60)


def test_an_output_that_is_no_picture_is_an_error():
    for wrong, needle in (
        (lambda _, x: x * float("nan"), "not finite"),
        (lambda _, x: x / 0, "not finite"),
        (lambda _, x: x[:, :2], r"gave \(1, 2, 8, 8\), expected \(1, 3, 8, 8\)"),
    ):
        with pytest.raises(ModelError, match=needle):
            Network("wrong", nn.Identity(), wrong)(pictures(1, 8, 8))


def test_sides_are_padded_for_the_network_and_cut_again():
    seen: list[tuple[int, ...]] = []

    def call(_: nn.Module, x: Tensor) -> Tensor:
        seen.append(tuple(x.shape[2:]))
        return F.interpolate(x, scale_factor=2)

    network = Network("padded", nn.Identity(), call, scale=2, multiple=16, least=48)
    given = pictures(1, 20, 70)
    assert torch.equal(network(given), F.interpolate(given, scale_factor=2))
    assert seen == [(48, 80)]


def test_the_real_animation_network_enlarges_what_it_is_given():
    path = SHARED / "realesr-animevideov3.pth"
    if not path.is_file():
        pytest.skip("the weights in ../shared/models are not here")
    loaded = load_file(path)
    filled = fill_hidden(*cutout(96))
    given = torch.from_numpy(filled.copy()).permute(2, 0, 1)[None] / 255
    out = loaded(given)
    assert out.shape == (1, 3, 384, 384)
    error = (F.interpolate(out, scale_factor=0.25, mode="area") - given).square().mean()
    assert float(-10 * torch.log10(error)) > 28  # what is coarse stays; the noise on the ball does not
    half = loaded.to("cpu", torch.bfloat16)(given)
    assert float((half - out).abs().mean()) < 0.02
