"""What the metrics promise: they see the inside of the matte, at one scale, and say what they claim about blur."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_data import metrics


def figure(size: int = 512, seed: int = 0, margin: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """A cut-out of flat patches with anti-aliased edges in an oval matte; its bare canvas is black."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: 2 * size, : 2 * size].astype(np.float32)
    distance, patch = np.full(x.shape, np.inf, np.float32), np.zeros(x.shape, np.intp)
    for number, (px, py) in enumerate(rng.uniform(0, 2 * size, (40, 2)).astype(np.float32)):
        found = (x - px) ** 2 + (y - py) ** 2
        patch[found < distance] = number
        distance = np.minimum(distance, found)
    rgb = cv2.resize(
        rng.uniform(40, 215, (40, 3)).astype(np.float32)[patch], (size, size), interpolation=cv2.INTER_AREA
    )
    alpha = np.zeros((size, size), np.uint8)
    axes = (round(size * (0.5 - margin)), size // 2 - 1)
    cv2.ellipse(alpha, (size // 2, size // 2), axes, 0, 0, 360, 255, -1)
    rgb[alpha == 0] = 0
    return np.rint(rgb).astype(np.uint8), alpha


def softened(rgb: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(rgb, (0, 0), sigma) if sigma else rgb


def moved(rgb: np.ndarray, length: int, angle: float) -> np.ndarray:
    """Blur along a line, degrees counter-clockwise."""
    kernel = np.zeros((2 * length + 1, 2 * length + 1), np.float32)
    step = np.radians(angle)
    for t in np.linspace(-length / 2, length / 2, 8 * length):
        kernel[round(length - t * np.sin(step)), round(length + t * np.cos(step))] += 1
    return cv2.filter2D(rgb, -1, kernel / kernel.sum())


def seen(rgb: np.ndarray, alpha: np.ndarray) -> metrics.View:
    view = metrics.view(rgb, alpha)
    assert view is not None
    return view


def score(rgb: np.ndarray, alpha: np.ndarray) -> tuple[float, float]:
    view = seen(rgb, alpha)
    variance = metrics.laplacian_variance(view.luma, view.inside)
    edges = metrics.edge_score(view.luma, view.inside)
    assert variance is not None
    assert edges is not None
    return variance, edges


@given(hidden=st.tuples(*[st.integers(0, 255)] * 3), seed=st.integers(0, 3))
@settings(max_examples=8, deadline=None)
def test_hidden_colour_and_silhouette_never_count(hidden: tuple[int, int, int], seed: int) -> None:
    rgb, alpha = figure(256, seed)
    other = rgb.copy()
    other[alpha == 0] = hidden
    a, b = seen(rgb, alpha), seen(other, alpha)
    assert metrics.exposure(a) == metrics.exposure(b)
    assert score(rgb, alpha) == score(other, alpha)
    assert metrics.blur_direction(a.luma, a.inside) == metrics.blur_direction(b.luma, b.inside)


def test_a_flat_character_has_no_sharpness_whatever_its_outline() -> None:
    _, alpha = figure()
    view = seen(np.full((512, 512, 3), 180, np.uint8) * (alpha > 0)[..., None].astype(np.uint8), alpha)
    assert metrics.laplacian_variance(view.luma, view.inside) is None
    assert metrics.edge_score(view.luma, view.inside) is None
    assert metrics.blur_direction(view.luma, view.inside) is None
    assert metrics.reblur_ratio(view.luma, view.inside) is None


@pytest.mark.parametrize("seed", [0, 1])
def test_sharpness_falls_with_blur_and_crosses_its_limits_where_declared(seed: int) -> None:
    rgb, alpha = figure(seed=seed)
    inner = rgb.copy()
    inner[alpha == 0] = 128
    curve = [score(softened(inner, sigma), alpha) for sigma in (0, 0.7, 1.0, 1.3, 1.6, 2.0, 3.0)]
    for previous, following in itertools.pairwise(curve):
        assert following[0] < previous[0]
        assert following[1] < previous[1]
    variance, edges = ([point[i] for point in curve] for i in (0, 1))
    assert variance[0] > 600
    assert edges[0] > 0.55
    assert variance[2] > 80 > variance[4]  # 80 lies between sigma 1 and 1.6
    assert edges[3] > 0.3 > edges[5]  # 0.3 between sigma 1.3 and 2


@pytest.mark.parametrize("contrast", [0.35, 0.6])
def test_sharpness_is_not_contrast(contrast: float) -> None:
    rgb, alpha = figure()
    pale = np.rint(128 + contrast * (rgb.astype(np.float32) - 128)).astype(np.uint8)
    assert score(pale, alpha) == pytest.approx(score(rgb, alpha), rel=0.2)


def test_the_parts_in_focus_decide() -> None:
    rgb, alpha = figure()
    blurred = softened(rgb, 4)
    depth = blurred.copy()
    depth[60:240, 150:360] = rgb[60:240, 150:360]  # the plane in focus: about a sixth of the character
    variance, edges = score(depth, alpha)
    assert variance > 80
    assert edges > 0.3
    assert score(blurred, alpha)[0] < 80
    assert score(blurred, alpha)[1] < 0.3


def test_smooth_shading_is_not_called_destroyed() -> None:
    size = 512
    rng = np.random.default_rng(0)
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size)))
    radius[0, 0] = 1
    field = np.fft.ifft2(np.fft.fft2(rng.normal(size=(size, size))) / radius**2).real
    luma = np.rint(np.clip(128 + 45 * (field - field.mean()) / field.std(), 0, 255)).astype(np.float32)
    inside = np.ones((size, size), bool)
    plain = cv2.Laplacian(luma, cv2.CV_32F)[1:-1, 1:-1].var()
    variance, edges = metrics.laplacian_variance(luma, inside), metrics.edge_score(luma, inside)
    assert plain < 30  # the measure as folklore has it calls this destroyed
    assert variance is not None
    assert variance > 80
    assert edges is not None
    assert edges > 0.3


def test_larger_characters_come_down_and_smaller_ones_are_left() -> None:
    rgb, alpha = figure(1024)
    assert seen(rgb, alpha).luma.shape[0] == pytest.approx(512, abs=12)
    small = figure(200)
    assert seen(*small).luma.shape[0] == 200
    assert score(rgb, alpha)[1] == pytest.approx(score(*figure(512))[1], abs=0.1)


@pytest.mark.parametrize("angle", [0, 30, 75, 90, 120, 165])
def test_motion_has_its_direction(angle: float) -> None:
    rgb, alpha = figure(seed=2)
    view = seen(moved(rgb, 13, angle), alpha)
    found = metrics.blur_direction(view.luma, view.inside)
    assert found is not None
    assert abs((found[0] - angle + 90) % 180 - 90) < 10
    assert found[1] > 0.5


@pytest.mark.parametrize("sigma", [0.0, 1.5, 3.0])
def test_what_is_sharp_or_out_of_focus_has_none(sigma: float) -> None:
    rgb, alpha = figure(seed=2)
    view = seen(softened(rgb, sigma), alpha)
    found = metrics.blur_direction(view.luma, view.inside)
    assert found is not None
    assert found[1] < 0.35


def test_the_worse_axis_counts_but_stripes_have_only_one() -> None:
    rgb, alpha = figure(seed=3)
    assert score(moved(rgb, 15, 0), alpha)[1] < score(rgb, alpha)[1] - 0.2
    stripes = np.where((np.arange(512) // 9) % 2, 60.0, 200.0).astype(np.float32)
    luma = np.repeat(stripes[None], 512, 0)
    edges = metrics.edge_score(luma, np.ones((512, 512), bool))
    assert edges is not None
    assert edges > 0.5


def test_reblur_ratio_orders_by_blur() -> None:
    rgb, alpha = figure()
    ratios = []
    for sigma in (0.0, 1.0, 2.0):
        view = seen(softened(rgb, sigma), alpha)
        ratios.append(metrics.reblur_ratio(view.luma, view.inside))
    assert ratios[0] > ratios[1] > ratios[2] > 1


@pytest.mark.parametrize(
    ("colour", "mean", "saturation", "dark", "bright", "burnt"),
    [
        ((255, 255, 255), 255.0, 0.0, 0, 1, 1),
        ((0, 0, 0), 0.0, 0.0, 1, 0, 0),
        ((255, 0, 0), 76.245, 1.0, 0, 1, 0),
        ((120, 120, 60), 113.16, 0.5, 0, 0, 0),
    ],
)
def test_exposure_of_plain_colours(
    colour: tuple[int, int, int], mean: float, saturation: float, dark: int, bright: int, burnt: int
) -> None:
    rgb, alpha = figure(256)
    rgb[:] = colour
    found = metrics.exposure(seen(rgb, alpha))
    assert (found.mean, found.p05, found.p95) == pytest.approx((mean,) * 3, abs=0.01)
    assert found.saturation == pytest.approx(saturation)
    assert (found.clipped_dark, found.clipped_bright, found.burnt) == (dark, bright, burnt)


def test_black_hair_does_not_weigh_in_saturation() -> None:
    rgb, alpha = figure(256)
    rgb[:] = (100, 100, 100)
    rgb[:128] = (3, 0, 0)  # saturation 1, value near 0
    assert metrics.exposure(seen(rgb, alpha)).saturation < 0.05


def test_an_empty_matte_has_no_view_and_a_tiny_one_no_detail() -> None:
    rgb, alpha = figure(64)
    assert metrics.view(rgb, np.zeros_like(alpha)) is None
    assert metrics.view(rgb, np.full_like(alpha, 100)) is None
    speck = np.zeros_like(alpha)
    speck[30:37, 30:37] = 255
    view = seen(rgb, speck)
    assert not view.detailed
    assert int(view.inside.sum()) == 49
    assert not seen(rgb, np.full_like(alpha, 200)).detailed  # half-transparent: exposure only


def _body(feet: bool, height: int, side: bool = False) -> np.ndarray:
    alpha = np.zeros((height, 200), np.uint8)
    alpha[10:, 70:130] = 255
    alpha[3 * height // 4 :, 40:160] = 255
    if side:
        alpha[height // 2 :, :] = 255
    if feet:
        alpha[height - 60 :, 60:140] = 0
        alpha[height - 3 :, 40:160] = 0
        alpha[height - 3 :, 45:60] = 255
    return alpha


@pytest.mark.parametrize(
    ("alpha", "expected"),
    [
        (_body(feet=True, height=400), "full"),
        (_body(feet=False, height=400), "half"),
        (_body(feet=False, height=140), "close-up"),
        (_body(feet=False, height=400, side=True), "close-up"),
        (np.zeros((8, 8), np.uint8), "full"),
    ],
)
def test_framing(alpha: np.ndarray, expected: str) -> None:
    assert metrics.framing(alpha) == expected
    padded = cv2.copyMakeBorder(alpha, 12, 12, 12, 12, cv2.BORDER_CONSTANT, value=0)
    assert metrics.framing(padded) == expected  # a loose crop of a cut character is still cut
