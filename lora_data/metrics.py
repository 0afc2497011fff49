"""Pure functions that put numbers on a cut-out: exposure, sharpness, blur direction, framing.

All are taken on a `View`: the character at a canonical height of at most 512 px, its colour continued under the matte,
and the inside of the matte. The silhouette therefore never counts; measured on a plain composite it alone gives a
Laplacian variance above 330. Larger characters are brought down by area averaging; smaller ones are left as they are,
because interpolation would make the same content look soft (twice the size: 751 -> 92).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from lora_data.colour import luma as luma_of
from lora_data.matte import bounding_box, fill_hidden, interior, tight_crop

HEIGHT = 512
"""Canonical character height, px."""
ERODE = 4
"""How far the silhouette is kept out of every number, px at canonical height."""
TILE = 32
"""Side of the tiles on which detail is compared, px: 1/16 of the canonical height, about an eye at half length."""
TEXTURE = 6.0
"""Standard deviation of luma, levels, from which a tile says anything about sharpness. Over twice the luma error of a
JPEG of quality 75 (measured on renders: 1.4 to 3.7, median 2.4); below it, noise would decide."""
STEP = 64.0
"""Contrast that `laplacian_variance` is stated at: the standard deviation of a step edge of half the range (128)."""
REBLUR = 1.0
"""Sigma of the re-blur, px. Source: the curve in `reblur_ratio`."""
_FEW = 400  # pixels; fewer cannot carry a statistic of detail


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A character as the metrics see it.

    Args:
        rgb: uint8 ``[h, w, 3]``, filled under the matte.
        alpha: uint8 ``[h, w]``.
        inside: bool ``[h, w]``, the pixels that count.
        luma: float32 ``[h, w]``, 0..255.
        detailed: Whether ``inside`` is large and clean enough to measure sharpness on.
    """

    rgb: np.ndarray
    alpha: np.ndarray
    inside: np.ndarray
    luma: np.ndarray
    detailed: bool


@dataclass(frozen=True, slots=True)
class Exposure:
    """Luma (Rec. 601, 0..255) and saturation of the inside; the shares are of its pixels."""

    mean: float
    p05: float
    p95: float
    saturation: float  # mean HSV saturation weighted by V, 0..1: black hair has a noisy saturation and no weight
    clipped_dark: float  # luma below 8
    clipped_bright: float  # a channel above 250
    burnt: float  # every channel above 250: no colour is left


def view(rgb: np.ndarray, alpha: np.ndarray) -> View | None:
    """Bring a cut-out to the canonical view.

    Where the eroded inside holds fewer than 400 pixels (tiny, thin or half-transparent characters) the whole matte
    counts, good enough for exposure, and ``detailed`` is False.

    Args:
        rgb: uint8 ``[H, W, 3]``; colour under alpha 0 does not matter.
        alpha: uint8 ``[H, W]``.

    Returns:
        The view, or None where no pixel has an alpha above 127.
    """
    box = bounding_box(alpha)
    if box is None:
        return None
    rgb, alpha = tight_crop(rgb, alpha, margin=2 * ERODE)
    scale = min(1.0, HEIGHT / box[3])
    if scale < 1:
        size = max(1, round(alpha.shape[1] * scale)), max(1, round(alpha.shape[0] * scale))
        opaque = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)
        weighted = cv2.resize(
            cv2.multiply(rgb, cv2.merge([alpha] * 3), scale=1 / 255), size, interpolation=cv2.INTER_AREA
        )
        rgb = cv2.divide(weighted, cv2.merge([opaque] * 3), scale=255)
        alpha = opaque
    inside = interior(alpha, ERODE)
    detailed = int(inside.sum()) >= _FEW
    if detailed:
        filled = fill_hidden(rgb, alpha)
    else:
        inside = alpha > 127
        filled = fill_hidden(rgb, alpha, threshold=127)
        if not inside.any():  # a few thin pixels, averaged away
            return None
    return View(filled, alpha, inside, luma_of(filled), detailed)


def exposure(seen: View) -> Exposure:
    """Measure luma, clipping and saturation inside the matte."""
    pixels, luma = seen.rgb[seen.inside], seen.luma[seen.inside]
    red, green, blue = pixels.T
    high = np.maximum(np.maximum(red, green), blue).astype(np.float32)
    low = np.minimum(np.minimum(red, green), blue)
    p05, p95 = np.percentile(luma, [5, 95])
    return Exposure(
        mean=float(luma.mean()),
        p05=float(p05),
        p95=float(p95),
        saturation=float((high - low).sum() / max(1.0, float(high.sum()))),  # sum(S V) / sum(V)
        clipped_dark=float((luma < 8).mean()),
        clipped_bright=float((high > 250).mean()),
        burnt=float((low > 250).mean()),
    )


def laplacian_variance(luma: np.ndarray, inside: np.ndarray, along: float | None = None) -> float | None:
    """The variance of the Laplacian of the character's most detailed parts, at the contrast of a half-range step.

    The plain variance says as much about content as about blur: perfectly sharp smooth shading gives below 30, a
    checked shirt 1000. So it is taken per tile of 32 px, divided by the tile's luma variance, multiplied by 64^2, and
    averaged over the tiles that have texture, each weighted by its plain variance. The sharpest parts decide: eyes in
    a smooth face, the plane in focus of a shot with shallow depth of field.

    Measured at 512 px height, Gaussian blur of sigma added to anti-aliased content (edges of flat patches / eyes in a
    smooth face / 1/f^1.5 texture)::

        sigma   0      0.7    1      1.3    1.6    2      3
        score   1580   296    134    76     47     29     17      flat patches
                1200   232    107    59     37     23     12      eyes
                2540   433    195    114    79     59     48      texture

    So the strategy's limit of 80 means: even the sharpest parts are blurred by a sigma of about 1.3 px at 512 px
    height (about 2.5 px at 1024). Texture that was never sharper than 1/f^2 stays above it
    (85 and more) whatever the blur: smooth shading is not called destroyed.

    Grain is detail to it: noise of 2 levels hides a blur of sigma 2. It errs on the side of keeping.

    Args:
        luma: float32 ``[h, w]``, 0..255.
        inside: bool ``[h, w]``.
        along: Degrees counter-clockwise: take the second derivative along this direction alone, times 8/3, which is the
            same for isotropic detail. Motion blurs one direction and leaves a plain score of 108 to 800; along it
            (measured on 12 rendered cut-outs smeared over 9 to 25 px) 15 to 72, clean ones 329 and more, those with
            depth of field 158 and more.

    Returns:
        At least 0; None where no tile has texture, so that nothing can be said.

    Source: Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy, ICPR 2000 (variance of the Laplacian).
    """
    tiles = _tiles(luma, inside)
    if tiles is None:
        return None
    laplacian = cv2.Laplacian(luma, cv2.CV_32F, borderType=cv2.BORDER_REPLICATE)
    weight = energy = tiles.mean(laplacian * laplacian)
    if along is not None:
        energy = tiles.mean(_second_derivative(luma, along) ** 2) * (8 / 3)
    return float((weight * energy / tiles.variance).sum() / max(float(weight.sum()), 1e-6) * STEP**2)


def reblur_ratio(luma: np.ndarray, inside: np.ndarray) -> float | None:
    """Laplacian variance over that of a copy blurred by sigma 1: how much there was to lose.

    Normalised by content through division by itself. Measured on synthetic texture: sharp 7 to 30, sigma 1 1.9 to 3.2,
    sigma 2 1.2 to 1.5, motion 2.3 to 9.5. An order among similar images, not a limit: 8-bit rounding of a blurred flat
    surface raises it again.

    Returns:
        At least 0, or None where nothing varies.

    Source: Crete et al. 2007 (re-blur principle); Zhuo and Sim, Defocus map estimation from a single image, Pattern
    Recognition 44 (2011) (ratio to a copy re-blurred by a known sigma).
    """
    energies = []
    for image in (luma, cv2.GaussianBlur(luma, (0, 0), REBLUR, borderType=cv2.BORDER_REPLICATE)):
        energies.append(float(cv2.Laplacian(image, cv2.CV_32F, borderType=cv2.BORDER_REPLICATE)[inside].var()))
    return energies[0] / energies[1] if energies[1] > 1e-3 else None


def edge_score(luma: np.ndarray, inside: np.ndarray) -> float | None:
    """Detail preservation, 0 (destroyed) .. 1: the share of neighbour differences that a strong re-blur takes away.

    One minus the blur metric of Crete et al., per tile of 32 px and per axis, averaged over the tiles by the energy
    that re-blurring takes, so that the sharpest parts decide; the worse axis counts, because motion blur spares one.

    Measured at 512 px height with a Gaussian blur of sigma added: 0 .65, 0.7 .53, 1 .43, 1.3 .35, 1.6 .29, 2 .22,
    3 .14 (edges of flat patches, eyes in a smooth face alike); smooth 1/f^2 texture .31 to .41 at any blur. The
    strategy's limit of 0.3 therefore stands at a sigma of about 1.6 px, or motion along an axis over 7 px (.28).

    Returns:
        In [0, 1], or None where no tile has texture.

    Source: Crete, Dolmiere, Ladret, Nicolas, The blur effect: perception and estimation with a new no-reference
    perceptual blur metric, SPIE 6492, 2007 (differences before and after a 9-tap mean, per axis).
    """
    tiles = _tiles(luma, inside)
    if tiles is None:
        return None
    kept: list[tuple[float, float]] = []
    for axis in (0, 1):
        blurred = cv2.blur(luma, (1, 9) if axis == 0 else (9, 1), borderType=cv2.BORDER_REPLICATE)
        before, after = _differences(luma, axis), _differences(blurred, axis)
        lost = np.maximum(0, before - after)
        energy = tiles.mean(lost * lost)
        share = tiles.mean(lost) / np.maximum(tiles.mean(before), 1e-6)
        kept.append((float((share * energy).sum() / max(float(energy.sum()), 1e-9)), float(tiles.mean(before).sum())))
    strongest = max(weight for _, weight in kept)
    # an axis along which hardly anything changes (stripes) shows nothing about blur
    return min(score for score, weight in kept if weight >= 0.1 * strongest)


def blur_direction(luma: np.ndarray, inside: np.ndarray) -> tuple[float, float] | None:
    """The direction along which fine detail is missing, and how clearly.

    Motion removes fine detail along one direction and leaves it across. Objects are oriented themselves, so the
    structure tensor of the fine detail (the residual of a sigma 1 blur) is held against that of the coarse detail
    (after a sigma 2 blur) of the same tiles: the generalised eigenvalues say, per direction, how much fine detail there
    is for the coarse detail present. Every tile has one vote, because a kernel's direction is the same all over and a
    shape's own is not.

    Returns:
        Degrees counter-clockwise in [0, 180) of the missing detail (the motion), and coherence (l1 - l0) / (l1 + l0)
        in [0, 1]: 0 isotropic (sharp, or out of focus), 1 one direction only. None where no tile has texture.

    Source: Liu, Li, Jia, Image partial blur detection and classification, CVPR 2008 (directional against
    near-isotropic loss); Bigun and Granlund, ICCV 1987 (structure tensor).
    """
    tiles = _tiles(luma, inside)
    if tiles is None:
        return None
    fine = luma - cv2.GaussianBlur(luma, (0, 0), REBLUR, borderType=cv2.BORDER_REPLICATE)
    coarse = cv2.GaussianBlur(luma, (0, 0), 2 * REBLUR, borderType=cv2.BORDER_REPLICATE)
    fine_tensor, coarse_tensor = _tensors(fine, tiles), _tensors(coarse, tiles)
    votes = 1 / np.maximum(coarse_tensor[:, 0, 0] + coarse_tensor[:, 1, 1], 1e-6)
    a, b = ((tensor * votes[:, None, None]).sum(0) / len(votes) for tensor in (fine_tensor, coarse_tensor))
    b = b + 0.05 * np.trace(b) * np.eye(2)  # a direction without coarse detail says nothing
    whiten = np.linalg.inv(np.linalg.cholesky(b))
    values, vectors = np.linalg.eigh(whiten @ a @ whiten.T)
    if values[1] <= 1e-9:
        return None
    x, y = whiten.T @ vectors[:, 0]
    low, high = max(float(values[0]), 0.0), float(values[1])
    return float(np.degrees(np.arctan2(-y, x)) % 180), (high - low) / (high + low)


def framing(alpha: np.ndarray) -> str:
    """How much of the character is in the picture, from the matte alone: "close-up", "half" or "full".

    A frame cuts a body in a straight line, feet end in two small contacts: where the lowest row of the matte is covered
    over less than 0.35 of the box's width, the character is "full". Cut off below, it is a "close-up" where the box is
    no taller than 1.15 of its width (head and shoulders) or a side is cut over a third as well, else "half".
    """
    box = bounding_box(alpha)
    if box is None:
        return "full"
    x, y, width, height = box
    mask = alpha[y : y + height, x : x + width] > 127
    if mask[-1].mean() < 0.35:
        return "full"
    side = max(float(mask[:, 0].mean()), float(mask[:, -1].mean()))
    return "close-up" if height <= 1.15 * width or side > 1 / 3 else "half"


@dataclass(frozen=True, slots=True, eq=False)
class _Tiles:
    """The tiles with texture: a quarter of their pixels or more inside, luma standard deviation of 6 or more."""

    weight: np.ndarray  # float32 [h, w], 1 inside
    count: np.ndarray  # pixels inside, per tile
    chosen: np.ndarray  # bool, which tiles
    variance: np.ndarray  # luma variance, per chosen tile

    def mean(self, values: np.ndarray) -> np.ndarray:
        return (_pool(values * self.weight) / self.count)[self.chosen]


def _tiles(luma: np.ndarray, inside: np.ndarray) -> _Tiles | None:
    weight = inside.astype(np.float32)
    pixels = _pool(weight)
    count = np.maximum(pixels, 1)
    mean = _pool(luma * weight) / count
    variance = _pool(luma * luma * weight) / count - mean * mean
    chosen = (pixels >= TILE * TILE / 4) & (variance >= TEXTURE**2)
    return _Tiles(weight, count, chosen, variance[chosen]) if chosen.any() else None


def _pool(values: np.ndarray) -> np.ndarray:
    """Sum over tiles, float64; the last row and column may be partial."""
    height, width = values.shape
    rows, columns = -(-height // TILE), -(-width // TILE)
    padded = np.zeros((rows * TILE, columns * TILE), np.float64)
    padded[:height, :width] = values
    return padded.reshape(rows, TILE, columns, TILE).sum((1, 3))


def _second_derivative(image: np.ndarray, along: float) -> np.ndarray:
    """Along a direction, degrees counter-clockwise."""
    line, cross = np.array([[1, -2, 1]], np.float32), np.array([[1, 0, -1], [0, 0, 0], [-1, 0, 1]], np.float32) / 4
    xx, yy, xy = (cv2.filter2D(image, -1, k, borderType=cv2.BORDER_REPLICATE) for k in (line, line.T, cross))
    c, s = np.cos(np.radians(along)), -np.sin(np.radians(along))
    return c * c * xx + 2 * c * s * xy + s * s * yy


def _differences(image: np.ndarray, axis: int) -> np.ndarray:
    out = np.zeros_like(image)
    if axis == 0:
        out[:-1] = np.abs(image[1:] - image[:-1])
    else:
        out[:, :-1] = np.abs(image[:, 1:] - image[:, :-1])
    return out


def _tensors(image: np.ndarray, tiles: _Tiles) -> np.ndarray:
    """Structure tensors ``[n, 2, 2]`` of the chosen tiles."""
    dx = cv2.Sobel(image, cv2.CV_32F, 1, 0, scale=1 / 8, borderType=cv2.BORDER_REPLICATE)
    dy = cv2.Sobel(image, cv2.CV_32F, 0, 1, scale=1 / 8, borderType=cv2.BORDER_REPLICATE)
    xx, xy, yy = tiles.mean(dx * dx), tiles.mean(dx * dy), tiles.mean(dy * dy)
    return np.stack([np.stack([xx, xy], -1), np.stack([xy, yy], -1)], -2)
