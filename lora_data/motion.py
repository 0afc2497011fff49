"""The guard before deblurring: is this softness motion, proved by everything that can witness it?

An open shutter smears a picture along one direction and leaves it sharp across. A lens out of focus, a soft render and
an enlargement take detail alike in all directions; shape and texture have directions of their own, but not the same one
all over. So the sharpness of edges is compared by the direction of their normals: inside the character, part by part
of it, along its silhouette, and in its face against the rest. Every witness that can be measured must agree. What is
not proved is not touched: depth of field is what the film's makers wanted.

Source: directional against near-isotropic loss, Liu, Li, Jia, Image partial blur detection and classification, CVPR
2008; edge width from gradients at two scales, Zhuo and Sim, Defocus map estimation from a single image, Pattern
Recognition 44 (2011).

Measured after ingest and matte, on renders of ten third-party characters (373 cut-outs) and on 245 of the demo film:
found 15 of 15 and 11 of 11 with motion blur (9 to 29 px), touched none of 358 and 234 others, 24 of them with depth of
field and 19 out of focus. The limits were chosen on these. A second demo film, rendered afterwards: 13 of 13, and none
of 276. `MotionLimits` has the synthetic curves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from lora_data.limits import CEILING, FLOOR, MotionLimits
from lora_data.matte import bounding_box
from lora_data.metrics import ERODE, HEIGHT, laplacian_variance, view

FINE, COARSE = 1.0, 3.0
"""Scales (sigma, px) of the two gradients whose ratio is an edge's sharpness: 2.45 at a step, 1 at a ramp of 20 px."""
CONTRAST = 1.2
"""Coarse gradient, levels per px, from which an edge counts: a step of 9 levels, over JPEG's errors of 1.4 to 3.7."""
CONTOUR = 8.0
"""The same for the matte's contour, a step of 255 levels: under a blur of 30 px."""
SHARPEST = 80
"""Percentile that says how sharp the sharpest edges of a direction are. Content has soft edges of its own (shading);
in clean renders the median edge is as soft as 1.66, the 80th percentile never below 2.13."""
SHARPER = 70
"""Percentile at which directions are compared. Of the contour, the sharper edges across the motion (70th) are held
against the softer ones along it (30th): a smear is uniform, the chance of where a lens blurs is not. Measured on 951
depths of field / 471 smears: 99 % below 1.03 / 95 % above 1.29; by the medians 1.53 / 1.57."""
REACH = 25.0
"""Edges whose normal lies within this of a direction count for it, degrees. cos 25 = .91: nearly the whole smear."""
PART = 64
"""Side of the parts whose directions are compared, px: an eighth of the canonical height, some 30 parts a character."""
FEW = 20  # edge pixels; fewer say nothing about a direction


@dataclass(frozen=True, slots=True)
class MotionEvidence:
    """What the witnesses say; None where one cannot be measured. Sharpness is 2.45 at a step, 1 at a long ramp.

    Args:
        softness: Sharpness, 0.5..3, of the sharpest edges that a smear along ``direction`` would cross.
        direction: Along which edges are least sharp, degrees counter-clockwise in [0, 180). Of proved smears half are
            within 4 degrees, 90 % within 11.
        coherence: How many times sharper the edges along that direction are: 1 isotropic, to 2.3.
        agreement: Do the parts of the character lose the same direction? 0 (each its own) .. 1.
        silhouette: As ``coherence``, of the matte's contour, pessimistic: 1 and below isotropic, to 2.4.
        face_focus: ``softness`` of the face over that of the rest: 1 equally soft.
        score: The strategy's blur score along ``direction`` (see `lora_data.metrics.laplacian_variance`).
    """

    softness: float | None = None
    direction: float | None = None
    coherence: float | None = None
    agreement: float | None = None
    silhouette: float | None = None
    face_focus: float | None = None
    score: float | None = None


def measure(
    rgb: np.ndarray, alpha: np.ndarray, face_box: Sequence[float] | np.ndarray | None = None, *, refined: bool = False
) -> MotionEvidence | None:
    """Ask the witnesses, at the canonical view (see `lora_data.metrics.view`): about 15 ms for 500 x 500 px.

    Args:
        rgb: uint8 ``[H, W, 3]``; colour under alpha 0 does not matter.
        alpha: uint8 ``[H, W]``, straight.
        face_box: Left, top, right, bottom in px of the picture; None: no face is known.
        refined: Whether the matte was hard and had to be refined. Its contour is then as narrow as matting made it,
            whatever the picture, and says nothing. A matte that came narrow speaks: a smear would have softened it.

    Returns:
        The evidence; None where nothing is large enough to measure. Where edges point in too few directions to tell a
        smear from a shape, softness and coherence are None.
    """
    seen = view(rgb, alpha)
    box = bounding_box(alpha)
    if seen is None or box is None or not seen.detailed:
        return None
    edges = _edges(seen.luma, seen.inside, CONTRAST)
    direction = _direction(edges)
    if direction is None:
        return MotionEvidence()
    along, across = edges.near(direction), edges.near(direction + 90)
    if min(along.sum(), across.sum()) < FEW:
        return MotionEvidence(direction=direction)
    face_focus = None
    if face_box is not None:
        origin = np.maximum(0, np.subtract(box[:2], 2 * ERODE))  # of the view, which is cropped, then brought down
        left, top, right, bottom = (np.reshape(face_box, (2, 2)) - origin).ravel() * min(1.0, HEIGHT / box[3])
        face_focus = _face_focus(edges, along, (left, top, right, bottom))
    return MotionEvidence(
        softness=edges.sharpness(along, SHARPEST),
        direction=direction,
        coherence=edges.sharpness(across, SHARPER) / edges.sharpness(along, SHARPER),
        agreement=_agreement(edges),
        silhouette=None if refined else _silhouette(seen.alpha, direction),
        face_focus=face_focus,
        score=laplacian_variance(seen.luma, seen.inside, direction),
    )


def motion_verdict(evidence: MotionEvidence | None, limits: MotionLimits) -> tuple[bool, str]:
    """Whether motion is proved, and by what it is not.

    Returns:
        ``(True, "motion")``, or False with the first witness against it: "no_texture", "sharp", "isotropic",
        "directions_disagree", "silhouette" or "face_in_focus".
    """
    if evidence is None or evidence.softness is None or evidence.coherence is None or evidence.agreement is None:
        return False, "no_texture"
    alone = evidence.silhouette is None
    if evidence.softness > limits.softness:
        return False, "sharp"
    if evidence.coherence < (limits.coherence_alone if alone else limits.coherence):
        return False, "isotropic"
    if evidence.agreement < (limits.agreement_alone if alone else limits.agreement):
        return False, "directions_disagree"
    if evidence.silhouette is not None and evidence.silhouette < limits.silhouette:
        return False, "silhouette"
    if evidence.face_focus is not None and evidence.face_focus > limits.face_focus:
        return False, "face_in_focus"
    return True, "motion"


@dataclass(frozen=True, slots=True, eq=False)
class _Edges:
    """Edge pixels: where, the direction of the normal (degrees counter-clockwise in [0, 180)), and how sharp."""

    x: np.ndarray
    y: np.ndarray
    normal: np.ndarray
    ratio: np.ndarray

    def near(self, direction: float, reach: float = REACH) -> np.ndarray:
        """Which have their normal along ``direction``."""
        return np.abs((self.normal - direction + 90) % 180 - 90) <= reach

    def sharpness(self, which: np.ndarray, percentile: float) -> float:
        return float(np.percentile(self.ratio[which], percentile))


def _edges(image: np.ndarray, inside: np.ndarray, contrast: float) -> _Edges:
    """The ridges of the coarse gradient, each with the fine gradient along the same normal over the coarse one."""
    coarse_x, coarse_y = _gradient(image, COARSE)
    fine_x, fine_y = _gradient(image, FINE)
    size = cv2.magnitude(coarse_x, coarse_y)
    # Along the coarse normal only: streaks and texture that run across it do not make this edge sharp.
    fine = (fine_x * coarse_x + fine_y * coarse_y) / np.maximum(size, 1e-6)
    fine = cv2.dilate(fine, np.ones((5, 5), np.uint8))  # beside other edges the ridge stands up to 2 px off
    angle = np.degrees(np.arctan2(coarse_y, coarse_x))
    quarter = np.rint(angle / 45).astype(np.int8) % 4
    padded = cv2.copyMakeBorder(size, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0.0)
    height, width = size.shape
    ridge = np.zeros(size.shape, bool)
    for number, (dx, dy) in enumerate(((1, 0), (1, 1), (0, 1), (-1, 1))):
        ahead = padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
        behind = padded[1 - dy : 1 - dy + height, 1 - dx : 1 - dx + width]
        ridge |= (quarter == number) & (size >= ahead) & (size > behind)
    y, x = np.nonzero(ridge & inside & (size >= contrast))
    return _Edges(x, y, -angle[y, x] % 180, np.clip(fine[y, x] / size[y, x], FLOOR, CEILING))


def _gradient(image: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    smooth = cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    dx = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=1 / 8, borderType=cv2.BORDER_REPLICATE)
    return dx, cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=1 / 8, borderType=cv2.BORDER_REPLICATE)


def _direction(edges: _Edges) -> float | None:
    """The direction of the least sharp edges; None where fewer than nine of twelve directions have edges.

    The phase of the first harmonic, in which every direction has one vote, however many edges a shape gives it.
    """
    steps, sharp = [], []
    for step in range(0, 180, 15):
        here = edges.near(step, 20)
        if here.sum() >= FEW:
            steps.append(step)
            sharp.append(edges.sharpness(here, SHARPEST))
    if len(steps) < 9:
        return None
    return float(np.degrees(np.angle(-_harmonic(np.array(steps), np.array(sharp)))) / 2 % 180)


def _harmonic(angle: np.ndarray, value: np.ndarray) -> complex:
    """The first harmonic in the doubled angle, by ridge regression: few directions at hand give a small one."""
    turned = np.radians(2 * angle)
    a = np.stack([np.ones(len(angle)), np.cos(turned), np.sin(turned)], axis=1)
    _, real, imaginary = np.linalg.solve(a.T @ a + np.diag([0, 1, 1]) * 0.05 * len(angle), a.T @ value)
    return complex(real, imaginary)


def _agreement(edges: _Edges) -> float | None:
    """The length of the mean of the parts' directions over the mean of their lengths; None below three parts.

    Source: the mean resultant length of directional statistics (Mardia and Jupp, Directional Statistics, 2000), angles
    doubled and weighted by how clear each is.
    """
    part = edges.y // PART * 4096 + edges.x // PART
    groups = [part == number for number in np.unique(part)]
    votes = [_harmonic(edges.normal[g], np.log(edges.ratio[g])) for g in groups if g.sum() >= FEW]
    total = float(np.abs(votes).sum())
    return float(abs(np.sum(votes))) / total if len(votes) >= 3 and total > 1e-6 else None


def _silhouette(alpha: np.ndarray, direction: float) -> float | None:
    """The contour as a witness, through the same edges; None where it does not show both sides (a close-up)."""
    contour = _edges(alpha.astype(np.float32), np.ones(alpha.shape, bool), CONTOUR)
    along, across = contour.near(direction), contour.near(direction + 90)
    if min(along.sum(), across.sum()) < FEW:
        return None
    return contour.sharpness(across, 100 - SHARPER) / contour.sharpness(along, SHARPER)


def _face_focus(edges: _Edges, along: np.ndarray, box: tuple[float, float, float, float]) -> float | None:
    left, top, right, bottom = box
    face = (edges.x >= left) & (edges.x < right) & (edges.y >= top) & (edges.y < bottom)
    if min((along & face).sum(), (along & ~face).sum()) < FEW:
        return None
    return edges.sharpness(along & face, SHARPEST) / edges.sharpness(along & ~face, SHARPEST)
