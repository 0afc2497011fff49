"""What an extraction does to a clean cut-out. RGB uint8 ``[H, W, 3]``, straight alpha uint8 ``[H, W]``.

Every function takes the cut-out, the backdrop behind it (same shape) and a generator, and returns the damaged pixels
with what a truth record says of them. The ranges stand beside each function; they are chosen so that the damage is
plain to see, not to match any film.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from lora_data.colour import luma, to_linear, to_srgb

Number = float | int | bool | str | list[float] | list[int]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cut:
    """A cut-out on its way: pixels, what happened, and how its canvas came from the master's."""

    rgb: np.ndarray
    alpha: np.ndarray
    backdrop: np.ndarray
    depth: np.ndarray  # float32, 0 where nothing is
    notes: tuple[dict[str, Number], ...] = ()
    resize_to: tuple[int, int]  # width, height
    crop: tuple[int, int, int, int] | None = None
    shift: tuple[int, int] | None = None
    hidden: bool = False  # the backdrop stays under alpha 0


def mean_luma(rgb: np.ndarray, alpha: np.ndarray) -> float | None:
    """Mean Rec. 601 luma where alpha > 127, or None where there is nothing."""
    inside = alpha > 127
    return round(float(luma(rgb)[inside].mean()), 1) if inside.any() else None


def over(rgb: np.ndarray, alpha: np.ndarray, backdrop: np.ndarray) -> np.ndarray:
    """The cut-out in front of the backdrop, uint8."""
    a = alpha[..., None].astype(np.float32) / 255
    return np.rint(rgb * a + backdrop * (1 - a)).astype(np.uint8)


def resize_cut(rgb: np.ndarray, alpha: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Resize premultiplied to ``size`` (width, height): area averaging down, cubic up."""
    if alpha.shape == (size[1], size[0]):
        return rgb, alpha
    a = alpha[..., None].astype(np.float32) / 255
    flat = np.concatenate([rgb * a, a * 255], axis=2).astype(np.float32)
    mode = cv2.INTER_AREA if size[0] < alpha.shape[1] else cv2.INTER_CUBIC
    return _straight(cv2.resize(flat, size, interpolation=mode))


def _straight(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Premultiplied float ``[H, W, 4]`` to straight uint8; colour zero where alpha is."""
    alpha = np.rint(np.clip(flat[..., 3], 0, 255)).astype(np.uint8)
    rgb = np.clip(np.rint(flat[..., :3] * 255 / np.maximum(flat[..., 3:], 0.5)), 0, 255).astype(np.uint8)
    rgb[alpha == 0] = 0
    return rgb, alpha


def _blurred(cut: Cut, kernel: np.ndarray, pad: int) -> Cut:
    a = cut.alpha[..., None].astype(np.float32) / 255
    flat = np.concatenate([cut.rgb * a, a * 255], axis=2).astype(np.float32)
    flat = cv2.copyMakeBorder(flat, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=(0, 0, 0, 0))
    rgb, alpha = _straight(cv2.filter2D(flat, -1, kernel, borderType=cv2.BORDER_CONSTANT))
    backdrop = cv2.copyMakeBorder(cut.backdrop, pad, pad, pad, pad, cv2.BORDER_REPLICATE)
    depth = cv2.copyMakeBorder(cut.depth, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=0)
    shift = (pad, pad) if pad else None
    return _with(cut, rgb=rgb, alpha=alpha, backdrop=backdrop, depth=depth, shift=shift)


def _with(
    cut: Cut,
    *,
    rgb: np.ndarray,
    alpha: np.ndarray | None = None,
    note: dict[str, Number] | None = None,
    backdrop: np.ndarray | None = None,
    depth: np.ndarray | None = None,
    shift: tuple[int, int] | None = None,
    crop: tuple[int, int, int, int] | None = None,
    hidden: bool = False,
) -> Cut:
    return Cut(
        rgb=rgb, alpha=cut.alpha if alpha is None else alpha, resize_to=cut.resize_to,
        backdrop=cut.backdrop if backdrop is None else backdrop, depth=cut.depth if depth is None else depth,
        notes=cut.notes if note is None else (*cut.notes, note), crop=crop or cut.crop, shift=shift or cut.shift,
        hidden=hidden or cut.hidden,
    )  # fmt: skip


def shrink(cut: Cut, longest: int, kind: str | None) -> Cut:
    """Resize so that the longest side is ``longest`` px, noted as damage ``kind`` where there is one."""
    h, w = cut.alpha.shape
    size = (max(1, round(w * longest / max(h, w))), max(1, round(h * longest / max(h, w))))
    rgb, alpha = resize_cut(cut.rgb, cut.alpha, size)
    backdrop = cv2.resize(cut.backdrop, size, interpolation=cv2.INTER_AREA)
    depth = cv2.resize(cut.depth, size, interpolation=cv2.INTER_NEAREST)
    note: dict[str, Number] = {"type": str(kind), "longest": longest}
    notes = cut.notes if kind is None else (*cut.notes, note)
    return Cut(rgb=rgb, alpha=alpha, backdrop=backdrop, depth=depth, notes=notes, resize_to=size)


def low_resolution(cut: Cut, rng: np.random.Generator) -> Cut:
    """Half to two thirds of the canvas."""
    return shrink(cut, round(max(cut.alpha.shape) * rng.uniform(0.5, 0.66)), "lowres")


def tiny(cut: Cut, rng: np.random.Generator) -> Cut:
    """A sixth to a quarter of the canvas."""
    return shrink(cut, max(16, round(max(cut.alpha.shape) * rng.uniform(0.16, 0.26))), "tiny")


def motion_blur(cut: Cut, rng: np.random.Generator) -> Cut:
    """A straight smear of 4 to 7 % of the longest side; the canvas grows by its half."""
    length = max(5, round(max(cut.alpha.shape) * rng.uniform(0.04, 0.07)))
    angle = float(rng.uniform(0, 180))
    radius = length // 2 + 1
    span = np.linspace(-length / 2, length / 2, 8 * length)
    x, y = radius + span * np.cos(np.radians(angle)), radius - span * np.sin(np.radians(angle))
    kernel, _, _ = np.histogram2d(y, x, bins=2 * radius + 1, range=[[-0.5, 2 * radius + 0.5]] * 2)
    note: dict[str, Number] = {"type": "motion_blur", "length": length, "angle": round(angle, 1)}
    blurred = _blurred(cut, (kernel / kernel.sum()).astype(np.float32), radius)
    return _with(blurred, rgb=blurred.rgb, note=note)


def _lens(radius: float) -> np.ndarray:
    n = int(np.ceil(radius))
    y, x = np.mgrid[-n : n + 1, -n : n + 1]
    kernel = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1).astype(np.float32)
    return kernel / kernel.sum()


def defocus(cut: Cut, rng: np.random.Generator) -> Cut:
    """The whole character out of focus: a disc of 0.8 to 1.4 % of the longest side."""
    radius = max(1.5, max(cut.alpha.shape) * rng.uniform(0.008, 0.014))
    blurred = _blurred(cut, _lens(radius), 0)
    return _with(blurred, rgb=blurred.rgb, note={"type": "defocus", "radius": round(radius, 1)})


def depth_of_field(cut: Cut, rng: np.random.Generator) -> Cut:
    """The nearest parts stay sharp, the farthest blur with up to 0.9 to 1.3 % of the longest side. Not a defect."""
    radius = max(1.5, max(cut.alpha.shape) * rng.uniform(0.009, 0.013))
    solid = cut.depth > 0
    near, far = np.percentile(cut.depth[solid], [10, 98])
    # depth grows outwards first, so that soft edges take the blur of their own surface
    depth = cv2.dilate(np.where(solid, cut.depth, 0).astype(np.float32), np.ones((7, 7), np.uint8))
    share = np.clip((depth - near) / max(far - near, 1e-3), 0, 1)[..., None]
    share = cv2.GaussianBlur(share, (0, 0), radius)[..., None]
    a = cut.alpha[..., None].astype(np.float32) / 255
    flat = np.concatenate([cut.rgb * a, a * 255], axis=2).astype(np.float32)
    levels = [flat, *(cv2.filter2D(flat, -1, _lens(radius * k), borderType=cv2.BORDER_REPLICATE) for k in (0.5, 1.0))]
    low, high = np.clip(1 - 2 * share, 0, 1), np.clip(2 * share - 1, 0, 1)
    rgb, alpha = _straight(levels[0] * low + levels[1] * (1 - low - high) + levels[2] * high)
    note: dict[str, Number] = {
        "type": "dof",
        "how": "depth_near_sharp",
        "max_radius": round(radius, 1),
        "intentional": True,
    }
    return _with(cut, rgb=rgb, alpha=alpha, note=note)


def jpeg(cut: Cut, rng: np.random.Generator) -> Cut:
    """The frame went through JPEG at quality 12 to 30 before the cut."""
    quality = int(rng.integers(12, 31))
    return _with(
        cut,
        rgb=recompressed(over(cut.rgb, cut.alpha, cut.backdrop), quality),
        note={"type": "jpeg", "quality": quality, "bg_contaminated_edges": True},
    )


def recompressed(rgb: np.ndarray, quality: int) -> np.ndarray:
    """Through JPEG and back."""
    data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert image is not None  # just encoded
    return np.ascontiguousarray(image[..., ::-1])


def _exposed(cut: Cut, kind: str, step: float, far_enough: Callable[[float], bool]) -> Cut:
    ev, rgb = 0.0, cut.rgb
    while not far_enough(mean_luma(rgb, cut.alpha) or 0.0) and abs(ev) < 8:
        ev += step
        rgb = to_srgb(to_linear(cut.rgb) * np.float32(2**ev))
    return _with(cut, rgb=rgb, note={"type": kind, "ev": round(ev, 2)})


def underexposed(cut: Cut, rng: np.random.Generator) -> Cut:
    """Darker in linear light until the mean luma is below 12 to 22."""
    limit = rng.uniform(12, 22)
    return _exposed(cut, "underexposed", -0.25, lambda value: value < limit)


def overexposed(cut: Cut, rng: np.random.Generator) -> Cut:
    """Brighter in linear light, clipped, until the mean luma is above 228 to 238."""
    limit = rng.uniform(228, 238)
    return _exposed(cut, "overexposed", 0.25, lambda value: value > limit)


def colour_cast(cut: Cut, rng: np.random.Generator) -> Cut:
    """A gain per channel in linear light: too warm, too cold, too green or too pink."""
    gains = ((1.45, 1.0, 0.6), (0.65, 0.95, 1.5), (0.8, 1.3, 0.75), (1.35, 0.75, 1.3))[int(rng.integers(4))]
    rgb = to_srgb(to_linear(cut.rgb) * np.array(gains, np.float32))
    return _with(cut, rgb=rgb, note={"type": "colour_cast", "rgb_gain": list(gains)})


def hard_alpha(cut: Cut, rng: np.random.Generator) -> Cut:
    """The matte cut at one half; every other time the edge keeps the backdrop's colour."""
    contaminated = bool(rng.integers(2))
    alpha = np.where(cut.alpha > 127, 255, 0).astype(np.uint8)
    rgb = over(cut.rgb, cut.alpha, cut.backdrop) if contaminated else cut.rgb
    return _with(
        cut, rgb=rgb, alpha=alpha, note={"type": "hard_alpha", "threshold": 0.5, "bg_contaminated_edges": contaminated}
    )


def rough_mask(cut: Cut, rng: np.random.Generator) -> Cut:
    """A binary matte too wide or too narrow by 1 to 3 px of 256, with holes; the backdrop shows at the edge."""
    h, w = cut.alpha.shape
    radius, mode = int(rng.integers(1, 4)), ("dilated", "eroded")[int(rng.integers(2))]
    pixels = max(1, round(radius * max(h, w) / 256))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * pixels + 1,) * 2)
    mask = np.where(cut.alpha > 127, 255, 0).astype(np.uint8)
    mask = cv2.dilate(mask, kernel) if mode == "dilated" else cv2.erode(mask, kernel)
    holes = int(rng.integers(1, 5))
    places = np.argwhere(cv2.erode(mask, kernel) > 0)
    for _ in range(holes if len(places) else 0):
        y, x = (int(v) for v in places[rng.integers(len(places))])
        size = (max(1, int(max(h, w) * rng.uniform(0.006, 0.014))), max(1, int(max(h, w) * rng.uniform(0.006, 0.014))))
        cv2.ellipse(mask, (x, y), size, float(rng.uniform(0, 180)), 0, 360, 0, -1)
    hidden = bool(rng.integers(2))
    note: dict[str, Number] = {
        "type": "rough_mask", "mode": mode, "radius_256": radius, "holes": holes, "bg_contaminated_edges": True,
        "hidden_rgb_is_background": hidden,
    }  # fmt: skip
    return _with(cut, rgb=over(cut.rgb, cut.alpha, cut.backdrop), alpha=mask, note=note, hidden=hidden)


def cut_off(cut: Cut, rng: np.random.Generator) -> Cut:
    """Half to two thirds of the height is all that the frame shows."""
    h, w = cut.alpha.shape
    keep = max(1, round(h * rng.uniform(0.5, 0.66)))
    visible = float((cut.alpha[:keep] > 127).sum() / max(1, (cut.alpha > 127).sum()))
    note: dict[str, Number] = {"type": "occluded_or_cut", "mode": "cut_bottom", "visible_fraction": round(visible, 3)}
    return _with(
        cut, rgb=cut.rgb[:keep], alpha=cut.alpha[:keep], backdrop=cut.backdrop[:keep], depth=cut.depth[:keep],
        crop=(0, 0, w, keep), note=note,
    )  # fmt: skip


def finished(cut: Cut) -> np.ndarray:
    """RGBA uint8 ``[H, W, 4]``: colour zero where alpha is 0, or the backdrop where it stays hidden there."""
    gone = cut.alpha == 0
    rgb = cut.rgb.copy()
    rgb[gone] = cut.backdrop[gone] if cut.hidden else 0
    return np.dstack([rgb, cut.alpha])


DAMAGE: dict[str, tuple[float, Callable[[Cut, np.random.Generator], Cut]]] = {
    "lowres": (0.05, low_resolution),
    "tiny": (0.03, tiny),
    "motion_blur": (0.05, motion_blur),
    "defocus": (0.03, defocus),
    "dof": (0.05, depth_of_field),
    "jpeg": (0.06, jpeg),
    "underexposed": (0.03, underexposed),
    "overexposed": (0.03, overexposed),
    "colour_cast": (0.04, colour_cast),
    "hard_alpha": (0.05, hard_alpha),
    "rough_mask": (0.06, rough_mask),
    "occluded_or_cut": (0.02, cut_off),
}
"""Each damage and the share of the instances that gets it: half of a film is untouched."""
