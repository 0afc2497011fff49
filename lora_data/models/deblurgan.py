"""DeblurGANv2's generators, with the names of the official weights; no maintained library has them.

Source: Kupyn et al., DeblurGAN-v2: Deblurring (Orders-of-Magnitude) Faster and Better, ICCV 2019, and its code
(VITA-Group/DeblurGANv2): a feature pyramid on Inception-ResNet-v2 (Szegedy et al., AAAI 2017, as the package
pretrainedmodels builds it) or on MobileNetV2 (Sandler et al., CVPR 2018).

The official inference leaves the networks in training mode, so that normalisation uses the picture's own statistics.
Here that is said in so many words (`PictureNorm`), for each picture apart: a batch gives what its pictures give alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class PictureNorm(nn.Module):
    """Normalises each channel of each picture by its own mean and variance.

    It has the entries of the batch or instance normalisation whose weights it loads; the running ones are not used.

    Args:
        channels: Of the input.
        affine: Whether a scale and an offset follow.
        eps: Added to the variance.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, channels: int, *, affine: bool, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``[B, C, h, w]``."""
        return F.instance_norm(x, weight=self.weight, bias=self.bias, use_input_stats=True, eps=self.eps)


def _smooth(channels_in: int, channels_out: int) -> nn.Sequential:
    """Convolution, normalisation, ReLU: what the pyramid and the decoder are made of."""
    convolution = nn.Conv2d(channels_in, channels_out, 3, padding=1)
    return nn.Sequential(convolution, PictureNorm(channels_out, affine=False), nn.ReLU())


class _Head(nn.Module):
    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.block0 = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
        self.block1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.block1(F.relu(self.block0(x))))


class _Pyramid(nn.Module):
    """Five levels from a backbone, the four coarser ones merged top down.

    Args:
        channels: Of the backbone's levels, finest first.
        filters: Of the merged levels.
    """

    def __init__(self, channels: Sequence[int], filters: int) -> None:
        super().__init__()
        for name in ("td1", "td2", "td3"):
            self.add_module(name, _smooth(filters, filters))
        for level, count in enumerate(channels):
            width = filters if level else filters // 2
            self.add_module(f"lateral{level}", nn.Conv2d(count, width, 1, bias=False))

    def forward(self, x: Tensor) -> list[Tensor]:
        levels: list[Tensor] = []
        for level in range(5):
            x = getattr(self, f"enc{level}")(x)
            levels.append(self.fitted(level, getattr(self, f"lateral{level}")(x)))
        for level, step in ((3, "td1"), (2, "td2"), (1, "td3")):
            levels[level] = getattr(self, step)(levels[level] + F.interpolate(levels[level + 1], scale_factor=2))
        return levels

    def fitted(self, level: int, x: Tensor) -> Tensor:
        """A lateral level at exactly half the size of the next finer one."""
        return x


class _Generator(nn.Module):
    """Pyramid, heads and decoder; adds its output to the input.

    Args:
        pyramid: The backbone's.
        filters: Of the heads.
        filters_pyramid: Of the pyramid.
    """

    def __init__(self, pyramid: _Pyramid, filters: int, filters_pyramid: int) -> None:
        super().__init__()
        self.fpn = pyramid
        for level in range(1, 5):
            self.add_module(f"head{level}", _Head(filters_pyramid, filters))
        self.smooth = _smooth(4 * filters, filters)
        self.smooth2 = _smooth(filters, filters // 2)
        self.final = nn.Conv2d(filters // 2, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Deblur pictures ``[B, 3, h, w]`` in [-1, 1]; sides must be multiples of 32."""
        levels = self.fpn(x)
        heads = [
            F.interpolate(getattr(self, f"head{level}")(levels[level]), scale_factor=2 ** (level - 1))
            for level in (4, 3, 2, 1)
        ]
        merged = F.interpolate(self.smooth(torch.cat(heads, dim=1)), scale_factor=2)
        merged = F.interpolate(self.smooth2(merged + levels[0]), scale_factor=2)
        return (torch.tanh(self.final(merged)) + x).clamp(-1, 1)


class FPNMobileNet(_Generator):
    """DeblurGANv2 on MobileNetV2: fast, 28.17 dB on GoPro (the authors' figure)."""

    def __init__(self) -> None:
        super().__init__(_MobilePyramid(), 64, 128)


class FPNInception(_Generator):
    """DeblurGANv2 on Inception-ResNet-v2: 29.55 dB on GoPro (the authors' figure)."""

    def __init__(self) -> None:
        super().__init__(_InceptionPyramid(), 128, 256)


class _MobilePyramid(_Pyramid):
    def __init__(self) -> None:
        super().__init__((16, 24, 32, 64, 160), 128)
        layers: list[nn.Module] = [_convolution(3, 32, 3, stride=2)]
        channels = 32
        for expansion, width, count, stride in (
            *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
            *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
        ):
            for i in range(count):
                layers.append(_Inverted(channels, width, stride if i == 0 else 1, expansion))
                channels = width
        layers.append(_convolution(channels, 1280, 1))
        self.features = nn.Sequential(*layers)
        # The official weights hold each of these layers twice, under both names.
        for level, (first, last) in enumerate(((0, 2), (2, 4), (4, 7), (7, 11), (11, 16))):
            self.add_module(f"enc{level}", nn.Sequential(*layers[first:last]))


def _convolution(channels_in: int, channels_out: int, size: int, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """MobileNet's convolution, normalisation and ReLU6."""
    convolution = nn.Conv2d(channels_in, channels_out, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, PictureNorm(channels_out, affine=True), nn.ReLU6())


class _Inverted(nn.Module):
    """MobileNetV2's inverted residual."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = channels_in * expansion
        layers = [*_convolution(channels_in, hidden, 1)] if expansion > 1 else []
        layers += [*_convolution(hidden, hidden, 3, stride=stride, groups=hidden)]
        layers += [nn.Conv2d(hidden, channels_out, 1, bias=False), PictureNorm(channels_out, affine=True)]
        self.conv = nn.Sequential(*layers)
        self.residual = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class _InceptionPyramid(_Pyramid):
    def __init__(self) -> None:
        super().__init__((32, 64, 192, 1088, 2080), 256)
        net = self.inception = _InceptionResNet()
        # The official weights hold each of these layers twice, under both names.
        self.enc0 = net.conv2d_1a
        self.enc1 = nn.Sequential(net.conv2d_2a, net.conv2d_2b, net.maxpool_3a)
        self.enc2 = nn.Sequential(net.conv2d_3b, net.conv2d_4a, net.maxpool_5a)
        self.enc3 = nn.Sequential(net.mixed_5b, net.repeat, net.mixed_6a)
        self.enc4 = nn.Sequential(net.repeat_1, net.mixed_7a)

    def fitted(self, level: int, x: Tensor) -> Tensor:
        # Inception's convolutions have no padding, so its levels are a few pixels short.
        padding = {0: (0, 1, 0, 1), 1: (1, 1, 1, 1), 2: (1, 2, 1, 2), 3: (1, 1, 1, 1), 4: (1, 1, 1, 1)}[level]
        return F.pad(x, padding, "reflect")


class _Basic(nn.Module):
    """Convolution without bias, normalisation, ReLU."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        size: int | tuple[int, int] = 1,
        stride: int = 1,
        padded: bool = False,
    ) -> None:
        super().__init__()
        sides = (size, size) if isinstance(size, int) else size
        padding = (sides[0] // 2, sides[1] // 2) if padded else 0
        self.conv = nn.Conv2d(channels_in, channels_out, sides, stride, padding, bias=False)
        self.bn = PictureNorm(channels_out, affine=True, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class _Branches(nn.Module):
    """Branches side by side, joined by channel; where ``mixed`` is given, projected and added to the input.

    Args:
        branches: ``branch0`` and so on.
        mixed: (channels in, channels out) of the projection.
        scale: Of what is added.
        relu: Whether a ReLU follows the sum.
    """

    def __init__(
        self, *branches: nn.Module, mixed: tuple[int, int] | None = None, scale: float = 1.0, relu: bool = True
    ) -> None:
        super().__init__()
        self.count, self.scale, self.relu = len(branches), scale, relu
        for i, branch in enumerate(branches):
            self.add_module(f"branch{i}", branch)
        self.conv2d = None if mixed is None else nn.Conv2d(*mixed, 1)

    def forward(self, x: Tensor) -> Tensor:
        joined = torch.cat([getattr(self, f"branch{i}")(x) for i in range(self.count)], dim=1)
        if self.conv2d is None:
            return joined
        summed = self.conv2d(joined) * self.scale + x
        return F.relu(summed) if self.relu else summed


def _chain(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers)


class _InceptionResNet(nn.Module):
    """Inception-ResNet-v2 with all its layers, since the official weights hold them all; the last ones are not used."""

    def __init__(self) -> None:
        super().__init__()
        b = _Basic
        self.conv2d_1a = b(3, 32, 3, 2)
        self.conv2d_2a = b(32, 32, 3)
        self.conv2d_2b = b(32, 64, 3, padded=True)
        self.maxpool_3a = nn.MaxPool2d(3, 2)
        self.conv2d_3b = b(64, 80)
        self.conv2d_4a = b(80, 192, 3)
        self.maxpool_5a = nn.MaxPool2d(3, 2)
        self.mixed_5b = _Branches(
            b(192, 96),
            _chain(b(192, 48), b(48, 64, 5, padded=True)),
            _chain(b(192, 64), b(64, 96, 3, padded=True), b(96, 96, 3, padded=True)),
            _chain(nn.AvgPool2d(3, 1, 1, count_include_pad=False), b(192, 64)),
        )
        self.repeat = nn.Sequential(*(self._block35() for _ in range(10)))
        self.mixed_6a = _Branches(
            b(320, 384, 3, 2), _chain(b(320, 256), b(256, 256, 3, padded=True), b(256, 384, 3, 2)), nn.MaxPool2d(3, 2)
        )
        self.repeat_1 = nn.Sequential(*(self._block17() for _ in range(20)))
        self.mixed_7a = _Branches(
            _chain(b(1088, 256), b(256, 384, 3, 2)),
            _chain(b(1088, 256), b(256, 288, 3, 2)),
            _chain(b(1088, 256), b(256, 288, 3, padded=True), b(288, 320, 3, 2)),
            nn.MaxPool2d(3, 2),
        )
        self.repeat_2 = nn.Sequential(*(self._block8(0.2) for _ in range(9)))
        self.block8 = self._block8(1.0, relu=False)
        self.conv2d_7b = b(2080, 1536)
        self.last_linear = nn.Linear(1536, 1000)

    @staticmethod
    def _block35() -> _Branches:
        return _Branches(
            _Basic(320, 32),
            _chain(_Basic(320, 32), _Basic(32, 32, 3, padded=True)),
            _chain(_Basic(320, 32), _Basic(32, 48, 3, padded=True), _Basic(48, 64, 3, padded=True)),
            mixed=(128, 320),
            scale=0.17,
        )

    @staticmethod
    def _block17() -> _Branches:
        tall = _chain(_Basic(1088, 128), _Basic(128, 160, (1, 7), padded=True), _Basic(160, 192, (7, 1), padded=True))
        return _Branches(_Basic(1088, 192), tall, mixed=(384, 1088), scale=0.1)

    @staticmethod
    def _block8(scale: float, *, relu: bool = True) -> _Branches:
        tall = _chain(_Basic(2080, 192), _Basic(192, 224, (1, 3), padded=True), _Basic(224, 256, (3, 1), padded=True))
        return _Branches(_Basic(2080, 192), tall, mixed=(448, 2080), scale=scale, relu=relu)
