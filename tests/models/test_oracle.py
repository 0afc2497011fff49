"""The official packages beside ours: the same random weights, the same picture, the same pixels.

They are installed by the extra ``oracle``; `pyproject.toml` says how. Where they are not, this file is skipped.

What is not theirs: torchvision's module that they import and that is gone (a stand-in, for these tests alone), the
two networks of facexlib that would be downloaded (never called: the face is given aligned), and GFPGAN's noise (taken
from the weights instead of drawn anew). The rest is their code path, from ``__init__`` to ``enhance``.

Where this was written (torch 2.14, CPU) the floats of every network were equal to the last bit, those of the tiles
away from the seams within 1.2e-6.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
import types
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from lora_data.models.network import Network, load_file
from lora_data.models.tiles import _starts, run_tiled
from tests.models import networks

CPU = torch.device("cpu")
PARTS = ("realesrgan.utils", "gfpgan.utils", "gfpgan.archs.restoreformer_arch", "basicsr.archs.rrdbnet_arch")
GONE = "torchvision.transforms.functional_tensor"


@pytest.fixture(scope="module")
def official() -> Generator[types.SimpleNamespace]:
    """The official classes. Absent packages skip; packages that are there and cannot be imported fail."""
    absent = [name for name in ("realesrgan", "gfpgan") if importlib.util.find_spec(name) is None]
    if absent:
        pytest.skip(f"{' and '.join(absent)} not installed: the extra `oracle`, see pyproject.toml")
    with pytest.MonkeyPatch.context() as patch:
        stand_in: Any = types.ModuleType(GONE)
        stand_in.rgb_to_grayscale = importlib.import_module("torchvision.transforms.functional").rgb_to_grayscale
        patch.setitem(sys.modules, GONE, stand_in)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they use what scipy and torch are about to give up
            esrgan, faces, restoreformer, rrdb = (importlib.import_module(name) for name in PARTS)
            compact = importlib.import_module("realesrgan.archs.srvgg_arch")
            helper = importlib.import_module("facexlib.utils.face_restoration_helper")
        for download in ("init_detection_model", "init_parsing_model"):
            patch.setattr(helper, download, lambda *_, **__: None)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # beside other work, threads that wait for each other take several times as long
        yield types.SimpleNamespace(
            upsampler=esrgan.RealESRGANer,
            restorer=faces.GFPGANer,
            rrdb=rrdb.RRDBNet,
            compact=compact.SRVGGNetCompact,
            gfpgan=faces.GFPGANv1Clean,
            restoreformer=restoreformer.RestoreFormer,
        )
        torch.set_num_threads(threads)


def picture(height: int, width: int) -> np.ndarray:
    """Smooth colours with some noise, uint8 RGB, neither black nor white."""
    generator = torch.Generator().manual_seed(5)
    small = torch.rand(1, 3, 5, 6, generator=generator)
    smooth = F.interpolate(small, (height, width), mode="bicubic")[0].permute(1, 2, 0)
    noisy = 0.2 + 0.6 * smooth + 0.05 * torch.randn(height, width, 3, generator=generator)
    return (noisy.clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def floats(pixels: np.ndarray) -> Tensor:
    """As lora_data gives pictures to its networks."""
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 255


def spread(module: nn.Module, last: nn.Conv2d, given: Tensor, mean: float, deviation: float) -> None:
    """Scale the last convolution so that the output is neither flat nor cut off at 0 and 1: either would hide much."""
    seen: list[Tensor] = []

    def see(_module: nn.Module, _given: Any, made: Tensor) -> None:
        seen.append(made)

    hook = last.register_forward_hook(see)
    with torch.no_grad():
        module.eval()(given)
        hook.remove()
        factor = deviation / seen[0].std((0, 2, 3))
        last.weight.mul_(factor[:, None, None, None])
        assert last.bias is not None
        last.bias.copy_((last.bias - seen[0].mean((0, 2, 3))) * factor + mean)


def spread_sum(gfpgan: Any, given: Tensor, deviation: float) -> None:
    """The same for StyleGAN's decoder, whose output is the sum of one layer of each size."""
    decoder = gfpgan.stylegan_decoder
    with torch.no_grad():
        factor = deviation / gfpgan.eval()(given, return_rgb=False, randomize_noise=False)[0].std()
        for layer in (decoder.to_rgb1, *decoder.to_rgbs):
            layer.modulated_conv.weight.mul_(factor)
            layer.bias.mul_(factor)


def assert_same(network: Network, pixels: np.ndarray, theirs: Tensor, theirs_8_bit: np.ndarray) -> None:
    """Ours against theirs before and after they are rounded (theirs: BGR, as OpenCV has it)."""
    given = floats(pixels)
    ours = network(given)
    theirs = theirs.float().clamp(0, 1)
    # What is compared can differ: it has structure, is hardly cut off, and depends on the picture and on its channels.
    assert float(theirs.std()) > 0.05
    assert float(((theirs == 0) | (theirs == 1)).float().mean()) < 0.2
    assert float((network(given.flip(1)) - theirs).abs().max()) > 0.05
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) < 1e-3
    rounded = (ours[0] * 255).round().permute(1, 2, 0).numpy()
    assert np.abs(rounded - theirs_8_bit[..., ::-1].astype(np.float32)).max() <= 1


def upscaler(official: Any, name: str, given: Tensor) -> tuple[nn.Module, int, str]:
    """An official class with the official sizes and random weights, its scale, and where its authors put weights."""
    scale = 2 if "x2" in name else 4
    if "x2plus" in name or "x4plus" in name:
        blocks = 6 if "anime" in name else 23
        module = official.rrdb(num_in_ch=3, num_out_ch=3, num_feat=64, num_block=blocks, num_grow_ch=32, scale=scale)
        module.load_state_dict(networks.esrgan(blocks=blocks, features=64, scale=scale), strict=True)
        even = given[:, :, : given.shape[2] // 2 * 2, : given.shape[3] // 2 * 2]  # the bare x2 takes no other
        spread(module, module.conv_last, even, 0.5, 0.15)
        return module, scale, "params_ema"
    convolutions = 32 if "general" in name else 16
    module = official.compact(num_feat=64, num_conv=convolutions, upscale=scale, act_type="prelu")
    module.load_state_dict(networks.compact(features=64, convolutions=convolutions, scale=scale), strict=True)
    spread(module, module.body[-1], given, 0.0, 0.1)  # it adds its output to the enlarged picture
    return module, scale, "params"


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("realesrgan-x4plus", (21, 26)),
        ("realesrgan-x2plus", (34, 38)),  # even, and no multiples of 4
        ("realesrgan-x2plus", (35, 41)),  # odd: padded by a mirrored row and column, which are cut again
        ("realesrgan-x4plus-anime", (33, 40)),
        ("realesr-animevideov3", (33, 40)),
        ("realesr-general-x4v3", (33, 40)),
    ],
)
def test_real_esrgan_gives_the_same_pixels(official: Any, name: str, size: tuple[int, int], tmp_path: Path):
    """Without ``pre_pad``, as the official command line calls it."""
    pixels = picture(*size)
    module, scale, key = upscaler(official, name, floats(pixels))
    path = networks.save(module, tmp_path / f"{name}.pth", key=key)
    for parameter in module.parameters():
        nn.init.zeros_(parameter)  # what it computes with is what it reads
    theirs = official.upsampler(scale, str(path), model=module, tile=0, pre_pad=0, half=False, device=CPU)
    made, mode = theirs.enhance(np.ascontiguousarray(pixels[..., ::-1]))
    assert mode == "RGB"
    assert made.shape == (size[0] * scale, size[1] * scale, 3)
    assert_same(load_file(path), pixels, theirs.output, made)


def test_tiles_give_the_same_pixels_away_from_the_seams(
    official: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """With a network that sees 6 px, less than either tiler's margin, so that tiles need not show.

    Theirs puts tiles side by side, cut from padded ones. Ours blends over the overlap, so what a tile sees wrongly near
    its edge has some weight there: only pixels that no tile of ours has within 6 px of an inner edge are compared.
    """
    pixels, tile, overlap, sees = picture(70, 90), 40, 16, 6
    module = official.compact(num_feat=16, num_conv=sees - 2, upscale=4, act_type="prelu")
    module.load_state_dict(networks.compact(convolutions=sees - 2), strict=True)
    spread(module, module.body[-1], floats(pixels), 0.0, 0.1)
    path = networks.save(module, tmp_path / "tiled.pth", key="params")
    theirs = official.upsampler(4, str(path), model=module, tile=32, tile_pad=10, pre_pad=0, half=False, device=CPU)
    theirs.enhance(np.ascontiguousarray(pixels[..., ::-1]))
    assert capsys.readouterr().out.count("Tile") == 9  # it did run in tiles
    expected = theirs.output[0].clamp(0, 1)
    (ours,) = run_tiled(load_file(path), [floats(pixels)[0]], tile=tile, overlap=overlap)
    assert isinstance(ours, torch.Tensor)
    assert ours.shape == expected.shape == (3, 280, 360)
    difference = (ours - expected).abs()
    clear = (~near_seam(70, tile, overlap, sees))[:, None] & ~near_seam(90, tile, overlap, sees)[None]
    clear = clear.repeat_interleave(4, 0).repeat_interleave(4, 1)
    assert float(clear.float().mean()) > 0.3
    assert float(expected.std()) > 0.05
    assert float(difference[:, clear].max()) < 1e-3


def near_seam(side: int, tile: int, overlap: int, sees: int) -> Tensor:
    """Which pixels along a side lie within ``sees`` px of an inner edge of a tile that contains them."""
    starts = _starts(side, tile, overlap)
    near = torch.zeros(side, dtype=torch.bool)
    for start in starts:
        if start > 0:
            near[start : start + sees] = True
        if start + tile < side:
            near[start + tile - sees : start + tile] = True
    return near


@pytest.mark.parametrize("name", ["gfpgan-1.4", "restoreformer"])
def test_face_networks_give_the_same_pixels(
    official: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """An aligned face through ``GFPGANer``, whole networks of the official sizes."""
    pixels = picture(512, 512)
    torch.manual_seed(1)
    if name == "restoreformer":
        arch, key, module = "RestoreFormer", "params", official.restoreformer()
        spread(module, module.decoder.conv_out, floats(pixels[:256, :256]) * 2 - 1, 0.0, 0.3)
    else:
        arch, key = "clean", "params_ema"
        module = official.gfpgan(
            out_size=512, num_style_feat=512, channel_multiplier=2, decoder_load_path=None, fix_decoder=False,
            num_mlp=8, input_is_latent=True, different_w=True, narrow=1, sft_half=True,
        )  # fmt: skip
        for part in module.modules():
            if type(part).__name__ == "StyleConv":
                nn.init.constant_(part.weight, 0.3)  # the strength of the noise, zero at the start
        for part in (*module.condition_scale, *module.condition_shift):
            part[-1].weight.data.mul_(30)  # at the start hardly anything of the picture reaches the decoder
        spread_sum(module, floats(pixels) * 2 - 1, 0.3)
    path = networks.save(module, tmp_path / f"{name}.pth", key=key)
    theirs = official.restorer(str(path), upscale=1, arch=arch, device=CPU)
    if arch == "clean":  # it has no way to ask for it: the noise of the weights, as ours does
        fixed = functools.partial(theirs.gfpgan.forward, randomize_noise=False)
        monkeypatch.setattr(theirs.gfpgan, "forward", fixed)
    seen: list[Tensor] = []
    theirs.gfpgan.register_forward_hook(lambda _module, _given, made: seen.append(made[0]))
    _, restored, _ = theirs.enhance(np.ascontiguousarray(pixels[..., ::-1]), has_aligned=True)
    assert "Failed" not in capsys.readouterr().out  # it prints what fails, and gives the face back as it was
    assert_same(load_file(path), pixels, (seen[0] + 1) / 2, restored[0])
