"""Matte: a clean matte passes unchanged, a hard or rough one is refined, and no background stays in soft edges."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from lora_data.errors import ImageError
from lora_data.sample import Instance
from lora_data.stage import MapStage

_COLOURS = {"gray": "#808080", "white": "#ffffff", "black": "#000000"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Matte(MapStage):
    """Refine the matte (strategy 2.2) and take what it hides away.

    A matte whose contour is soft is clean, however wide the softness: depth of field and motion blur soften mattes
    too. A hard one is refined: by KNN matting on a narrow unknown band where the picture shows the true background
    outside the matte, by its shape alone where it does not (matting is ill-posed there). No threshold is applied to a
    soft matte, and no morphology beyond pinholes and specks.

    Args:
        refine: "auto", or one way always ("knn", "geometric"), or "off".
        background: What the finished picture has under its matte (see `Background`): "transparent" (the character's
            own colour, bled outward), "gray", "white", "black" or "#rrggbb".
        soft_contour: Share of partly transparent pixels along the contour from which a matte is clean. Measured:
            rendered mattes, also blurred ones, .46 to 1; hard and rough ones 0.
        hidden_background: Standard deviation, levels, of the colour outside the matte from which it counts as a
            picture. Measured: extracted cut-outs 0; with the background left under the matte 7 and more; crops of
            frames 9 to 75, three of 76 (a plain wall) .7 to 1.5.
        band: Half width of the unknown band as a share of the matte box's longer side; at least 2, at most 12 px.
            SAM2's masks are a few px off at 500 px.
        max_undecided: Share of the unknown band with an alpha of .15 to .85 above which the true contour is taken to
            lie outside the band, which is then doubled, once. Measured on 69 composites: .07 to .48 where it was
            inside (.40 to .47 for characters out of focus), .54 to .63 where it was not; doubling there took the error
            from .7 to .15 of the mask's, and everywhere else made it worse.
        max_area_change: Share of the unknown band's area by which matting may grow or shrink the matte before it is
            taken back: .5 is the band's very edge. Measured: corrections that were right moved up to .33.

    Raises:
        ValueError: A field is out of range.
    """

    name: ClassVar[str] = "matte"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"matte_review"})
    foreign: ClassVar[frozenset[str]] = frozenset({"background"})

    refine: Literal["auto", "knn", "geometric", "off"] = "auto"
    background: str = "transparent"
    soft_contour: float = 0.2
    hidden_background: float = 4.0
    band: float = 0.008
    max_undecided: float = 0.5
    max_area_change: float = 0.4

    def __post_init__(self) -> None:
        if self.background not in ("transparent", *_COLOURS) and not re.fullmatch(r"#[0-9a-fA-F]{6}", self.background):
            allowed = ", ".join(("transparent", *_COLOURS))
            raise ValueError(f"background must be {allowed} or '#rrggbb', got {self.background!r}")
        ranges = {"soft_contour": 1, "hidden_background": 128, "band": 0.1, "max_undecided": 1, "max_area_change": 0.5}
        for field, high in ranges.items():
            if not 0 <= getattr(self, field) <= high:
                raise ValueError(f"{field} must be in [0, {high}], got {getattr(self, field)}")

    def apply(self, instance: Instance) -> Instance:
        """Return the instance with its refined matte, nothing under its alpha 0, and the matte's numbers.

        Where a person refused ("taken_back", "person") the matte and the visible colour stay as they came.

        Raises:
            ImageError: ``empty_matte``: nothing is left of the matte.
        """
        import cv2

        from lora_data.backends.geometric import antialias, pinholes, without_specks
        from lora_data.colour import hue_shift
        from lora_data.matte import interior

        rgb, alpha = instance.rgb, instance.alpha
        softness, hidden = contour_softness(alpha), hidden_spread(rgb, alpha)
        pictured = hidden >= self.hidden_background
        clean = softness >= self.soft_contour or bool((alpha > 0).all())
        outcome: Literal["no", "applied", "taken_back"] = "no"
        if instance.record.matte_review == "refuse":
            outcome, reason, final, visible = "taken_back", "person", alpha, rgb
        elif self.refine == "off" or (self.refine == "auto" and clean):
            reason = "off" if self.refine == "off" else "clean"
            # A soft edge over a visible background is a mixture; only the colour is separated, the matte stays.
            final, visible = alpha, rgb
            if self.refine != "off" and pictured:
                outcome, reason, visible = "applied", "foreground colour", _separated(rgb, alpha)
        else:
            outcome = "applied"
            tidy = without_specks(alpha)
            holes = pinholes(tidy)
            solid = (tidy > 127) | holes
            matted = None
            if self.refine == "knn" or (self.refine == "auto" and pictured):
                matted = self._matted(rgb, solid, holes)
            if matted is not None:
                final, reason = matted, "knn"
                visible = _separated(rgb, final)
            else:
                final = antialias(solid)
                reason = "geometric: matting was not plausible" if pictured else "geometric: no background to see"
                visible = _recoloured(rgb, solid & ~holes, final)
        if not (final > 127).any():
            raise ImageError("empty_matte", "nothing is left after specks were dropped")
        # Nothing of a stranger's picture travels on; what needs colour there continues the character's own.
        cut = cv2.bitwise_and(visible, visible, mask=(final > 0).astype(np.uint8))
        inside = interior(np.minimum(alpha, final))
        return instance.replace(
            rgb=cut,
            alpha=final,
            matte=outcome,
            matte_reason=reason,
            matte_hue_shift=hue_shift(rgb, cut, inside) if outcome == "applied" else 0.0,
            matte_soft=softness,
            background=hidden,
            **_numbers(final),
        )

    def _matted(self, rgb: np.ndarray, solid: np.ndarray, holes: np.ndarray) -> np.ndarray | None:
        """KNN matting on a band around the contour and on the pinholes, or None where its answer is not plausible."""
        import cv2

        from lora_data.backends.matting import knn_alpha
        from lora_data.matte import bounding_box

        mask = solid.astype(np.uint8)
        box = bounding_box(mask, 0)
        if box is None:
            return None
        radius = int(np.clip(round(self.band * max(box[2:])), 2, 12))
        result = None
        for reach in (radius, 2 * radius):
            disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
            sure = cv2.erode(mask, disc, borderType=cv2.BORDER_CONSTANT, borderValue=1).astype(bool)
            possible = cv2.dilate(mask, disc, borderType=cv2.BORDER_CONSTANT, borderValue=0).astype(bool)
            trimap = np.where(sure & ~holes, 255, np.where(possible, 128, 0)).astype(np.uint8)
            unknown = trimap == 128
            if not (trimap == 0).any() or not (trimap == 255).any() or not unknown.any():
                return result
            alpha = knn_alpha(rgb, trimap)
            found = alpha[unknown]
            change = abs(float(found.mean()) / 255 - float(solid[unknown].mean()))
            result = alpha if change <= self.max_area_change else None
            if float(((found > 38) & (found < 217)).mean()) <= self.max_undecided:
                break
        return result


@dataclass(frozen=True, slots=True, kw_only=True)
class Background(MapStage):
    """Finish the picture under and outside its matte; the last map stage, since colour has changed since the matte.

    "transparent": under alpha 0 the character's colour continues for ``margin`` px (what a resampler may touch) and is
    zero beyond, so that files compress. A colour: the picture is composited onto it, so that a trainer that drops the
    alpha sees that colour and nothing else; the alpha is kept as the mask.

    Args:
        background: "transparent", "gray", "white", "black" or "#rrggbb".
        margin: px. Four times the reach of a bicubic kernel at half size.
    """

    name: ClassVar[str] = "background"
    version: ClassVar[int] = 1

    background: str = "transparent"
    margin: int = 16

    def apply(self, instance: Instance) -> Instance:
        """Return the instance with other colour under its matte; opaque pixels stay as they are."""
        import cv2

        from lora_data.matte import composite

        if self.background != "transparent":
            code = _COLOURS.get(self.background, self.background)
            colour = int(code[1:3], 16), int(code[3:5], 16), int(code[5:7], 16)
            return instance.replace(rgb=composite(instance.rgb, instance.alpha, colour))
        seen = (instance.alpha > 0).astype(np.uint8)
        near = cv2.dilate(seen, np.ones((2 * self.margin + 1, 2 * self.margin + 1), np.uint8))
        bled = _bled(instance.rgb, instance.alpha)
        return instance.replace(rgb=cv2.bitwise_and(bled, bled, mask=near))


def contour_softness(alpha: np.ndarray) -> float:
    """The share of partly transparent pixels in the two-px band along the contour; 1 where there is no contour."""
    import cv2

    mask = (alpha > 127).astype(np.uint8)
    kernel = np.ones((3, 3), np.uint8)
    band = cv2.dilate(mask, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0) != cv2.erode(
        mask, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=1
    )
    return float(((alpha[band] > 0) & (alpha[band] < 255)).mean()) if band.any() else 1.0


def hidden_spread(rgb: np.ndarray, alpha: np.ndarray) -> float:
    """Standard deviation, levels, of the colour under alpha 0 (mean of the channels); 0 where nothing is hidden."""
    import cv2

    hidden = (alpha == 0).astype(np.uint8)
    return float(cv2.meanStdDev(rgb, mask=hidden)[1].mean()) if hidden.any() else 0.0


def _separated(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    from lora_data.backends.matting import foreground_colour

    return foreground_colour(rgb, alpha)


def _bled(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Continue colour under alpha 0 from pixels that are mostly opaque: at an alpha of a few levels colour is noise."""
    import cv2

    from lora_data.matte import fill_hidden

    filled = fill_hidden(rgb, alpha, threshold=127)
    if filled is rgb:  # opaque everywhere
        return rgb
    cv2.copyTo(rgb, (alpha > 0).astype(np.uint8), filled)
    return filled


def _recoloured(rgb: np.ndarray, solid: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Take the colour of the contour's pixels and of closed pinholes from inside: the outermost ones are mixtures."""
    import cv2

    from lora_data.matte import fill_hidden

    sure = cv2.erode(solid.astype(np.uint8), np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=1)
    # Parts thinner than three px have no inside; they keep their own colour.
    thin = cv2.morphologyEx(solid.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) == 0
    keep = sure.astype(bool) | (solid & thin)
    bled = fill_hidden(rgb, np.where(keep, 255, 0).astype(np.uint8))
    change = (alpha > 0) & ~keep
    return np.where(change[..., None], bled, rgb).astype(np.uint8)


def _numbers(alpha: np.ndarray) -> dict[str, Any]:
    import cv2

    from lora_data.matte import bounding_box

    mask = (alpha > 127).astype(np.uint8)
    count, labels = cv2.connectedComponents(mask, connectivity=8)
    areas = np.bincount(labels.ravel())[1:] if count > 2 else np.ones(count - 1)  # the areas of one are of no interest
    border = np.concatenate([mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1]])
    x, y, w, h = bounding_box(alpha) or (0, 0, 0, 0)
    return {
        "coverage": float(alpha.mean()) / 255,
        "matte_components": int((areas >= 0.01 * areas.sum()).sum()),
        "touches_edge": float(border.mean()),
        "box_x": x,
        "box_y": y,
        "box_width": w,
        "box_height": h,
    }
