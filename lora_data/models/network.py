"""A network that is loaded: pictures in [0, 1] in, pictures in [0, 1] out, whatever it wants inside.

Architectures come from spandrel (and spandrel_extra_arches for CodeFormer), by the weights themselves; DeblurGANv2 is
ours. What each one needs beyond that was paid for by other projects: see `_calls`.
"""

from __future__ import annotations

import importlib
import pickle
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from lora_data.errors import MissingExtraError, ModelError
from lora_data.models.deblurgan import FPNInception, FPNMobileNet
from lora_data.models.registry import Model
from lora_data.models.weights import Weights

FIDELITY = 0.8
"""CodeFormer's weight between its codebook (0) and the picture (1). Its authors advise 1 where identity matters, its
demo uses .5; the range in which others keep faces recognisable is .7 to .9."""

_UNREADABLE = (OSError, ValueError, RuntimeError, EOFError, KeyError, AttributeError, TypeError)
"""What torch, safetensors and spandrel raise where a file is cut off, damaged or of another shape."""


class Network:
    """One network, ready to run.

    Args:
        name: For messages.
        module: In evaluation mode.
        call: Runs the module on pictures ``[B, 3, h, w]`` in [0, 1].
        scale: How much larger the output is.
        multiple: Sides that are no multiples of this are padded, and the output is cut again.
        least: The same for sides smaller than this, px.
        square: Whether both sides must be exactly ``least``.
        half: Whether float16 works.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        call: Callable[[nn.Module, Tensor], Tensor],
        *,
        scale: int = 1,
        multiple: int = 1,
        least: int = 1,
        square: bool = False,
        half: bool = True,
    ) -> None:
        self.name, self.module, self.scale = name, module.eval().requires_grad_(False), scale
        self.multiple, self.least, self.square, self.half = multiple, least, square, half
        self._call = call
        self.device, self.dtype = torch.device("cpu"), torch.float32

    def to(self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> Network:
        """Move the network.

        Raises:
            ModelError: It does not work in this precision.
        """
        if dtype == torch.float16 and not self.half:
            raise ModelError(f"{self.name} gives NaN or noise in float16: use bfloat16 or float32")
        self.module.to(device=device, dtype=dtype)
        if torch.device(device).type == "cuda":
            self.module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.device, self.dtype = torch.device(device), dtype
        return self

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Run it.

        Args:
            images: float ``[B, 3, h, w]`` in [0, 1], RGB; colour filled under the matte.

        Returns:
            float32 ``[B, 3, scale * h, scale * w]`` in [0, 1], on the network's device.

        Raises:
            ModelError: The output is not finite, or not of the size that the descriptor says.
        """
        height, width = images.shape[2:]
        if self.square and (height, width) != (self.least, self.least):
            raise ModelError(f"{self.name} takes {self.least} x {self.least} px, got {width} x {height}")
        padded = self._padded(images.to(self.device, self.dtype))
        made = self._call(self.module, padded).float()
        expected = (len(images), 3, padded.shape[2] * self.scale, padded.shape[3] * self.scale)
        if tuple(made.shape) != expected:
            raise ModelError(f"{self.name} gave {tuple(made.shape)}, expected {expected}")
        if not bool(torch.isfinite(made).all()):
            raise ModelError(f"{self.name} gave values that are not finite (in {self.dtype})")
        return made[:, :, : height * self.scale, : width * self.scale].clamp(0, 1)

    def _padded(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        want = [max(-(-side // self.multiple) * self.multiple, self.least) for side in (height, width)]
        down, right = want[0] - height, want[1] - width
        if not down and not right:
            return images
        mirrored = down < height and right < width
        return F.pad(images, (0, right, 0, down), "reflect" if mirrored else "replicate")


def load_network(model: Model, weights: Weights, *, fidelity: float = FIDELITY) -> Network:
    """Load one of the models that lora_data knows.

    Args:
        model: Which.
        weights: Where its file is.
        fidelity: CodeFormer's weight, see `FIDELITY`.

    Raises:
        ModelError: Its file is missing, damaged, not safe to open, or holds another architecture.
    """
    path = weights.path(model)
    if model.name.startswith("deblurganv2"):
        network = _deblurgan(model, path)
    else:
        network = load_file(path, name=model.name, fidelity=fidelity)
    if network.scale != model.scale:
        raise ModelError(f"{path} enlarges {network.scale} times, {model.name} {model.scale} times: another network")
    network.multiple, network.least = max(network.multiple, model.multiple), max(network.least, model.least)
    network.half = network.half and model.half
    return network


def load_file(path: Path, *, name: str | None = None, fidelity: float = FIDELITY) -> Network:
    """Load any super-resolution or restoration network that spandrel recognises.

    Args:
        path: A ``.pth``, ``.pt``, ``.ckpt`` or ``.safetensors``. Pickles are opened by an unpickler that knows tensors
            and nothing else.
        name: For messages; the file's name where None.
        fidelity: CodeFormer's weight, see `FIDELITY`.

    Raises:
        ModelError: It cannot be opened, is not safe to open, or is no such network.
        MissingExtraError: spandrel is not installed.
    """
    name = name or path.name
    spandrel = _spandrel()
    with _opening(path):
        try:
            found = spandrel.ModelLoader(device="cpu").load_from_file(str(path))
        except spandrel.UnsupportedModelError as error:
            raise ModelError(f"{path} holds no network that spandrel knows: {error}") from None
    if not isinstance(found, spandrel.ImageModelDescriptor) or (found.input_channels, found.output_channels) != (3, 3):
        raise ModelError(f"{path} ({found.architecture.name}) does not turn one RGB picture into another")
    needs = found.size_requirements
    # Real-ESRGAN x2 folds 2 x 2 px and was padded to that; spandrel asks for multiples of 4 whatever the fold, and two
    # mirrored columns where its authors have none change what lies near the right and lower sides.
    multiple = getattr(found.model, "shuffle_factor", None) or needs.multiple_of or 1
    call = _calls(fidelity).get(found.architecture.id, lambda module, x: module(x))
    return Network(
        name,
        found.model,
        call,
        scale=found.scale,
        multiple=multiple,
        least=max(needs.minimum or 1, multiple if needs.square else 1),
        square=bool(needs.square),
        half=found.supports_half,
    )


@contextmanager
def _opening(path: Path) -> Generator[None]:
    """Name the file where it cannot be opened, or not safely."""
    try:
        yield
    except pickle.UnpicklingError as error:
        raise ModelError(f"{path} is not safe to open, it holds more than tensors: {error}") from None
    except _UNREADABLE as error:
        raise ModelError(f"{path} cannot be opened: {type(error).__name__}: {str(error)[:300]}") from None


def _calls(fidelity: float) -> dict[str, Callable[[Any, Tensor], Tensor]]:
    """How the face networks are called, by spandrel's name of the architecture.

    spandrel's own call gives GFPGAN and CodeFormer [0, 1] where they were trained on [-1, 1] (white or gray faces), has
    no way to CodeFormer's fidelity, and lets GFPGAN draw new noise each time.
    """

    def signed(run: Callable[[Any, Tensor], Any]) -> Callable[[Any, Tensor], Tensor]:
        return lambda module, x: (run(module, x * 2 - 1)[0] + 1) / 2

    return {
        "GFPGAN": signed(lambda module, x: module(x, return_rgb=False, randomize_noise=False)),
        "CodeFormer": signed(lambda module, x: module(x, weight=fidelity)),
        "RestoreFormer": signed(lambda module, x: module(x)),
    }


def _spandrel() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # their architectures use what torch is about to give up
        try:
            spandrel = importlib.import_module("spandrel")
            extra = importlib.import_module("spandrel_extra_arches")
        except ImportError as error:
            raise MissingExtraError(error.name or "spandrel", "models", "a network") from None
        extra.install(ignore_duplicates=True)
    return spandrel


def _deblurgan(model: Model, path: Path) -> Network:
    """The official weights: a dictionary with ``model``, whose names have DataParallel's ``module.`` before them."""
    module = FPNInception() if model.name.endswith("inception") else FPNMobileNet()
    with _opening(path):
        content = torch.load(path, map_location="cpu", weights_only=True)
        state = content.get("model", content)
        state = {name.removeprefix("module."): value for name, value in state.items()}
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise ModelError(f"{path} does not hold {model.name}: {str(error)[:300]}") from None
    return Network(model.name, module, lambda net, x: (net(x * 2 - 1) + 1) / 2, half=False)
