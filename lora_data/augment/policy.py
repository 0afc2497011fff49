"""What the augmentation may do to a character: the strategy's Phase 3 as a typed configuration.

The strategy's limits are law: a 3D character has one design, one set of materials and rigid geometry. A narrower range
is a choice, a wider one an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

AUGMENT_BELOW = 300
"""Kept images of a character from which "auto" switches the augmentation off (strategy, implementation priority 4)."""

FORBIDDEN = {
    "hue": "a hue shift destroys the consistency of PBR materials (strategy 3.6)",
    "saturation": "saturation belongs to the material and stays (strategy 3.3)",
    "color_jitter": "colour jitter destroys the consistency of PBR materials (strategy 3.6)",
    "colour_jitter": "colour jitter destroys the consistency of PBR materials (strategy 3.6)",
    "elastic": "3D models are rigid: elastic deformation breaks the skeleton's geometry (strategy 3.7)",
    "perspective": "a perspective warp breaks the camera model under a rigid 3D model (strategy 3.7)",
    "vertical_flip": "no camera hangs upside down; a flip also mirrors the design (strategy 3.5)",
}
"""Augmentations that are refused wherever their name appears in a key, with the reason."""

FLIP_REASON = (
    "a flip mirrors an asymmetric design (strategy 3.5): allowed only for a character declared symmetric = true"
)

Range = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentPolicy:
    """Ranges from which the augmentation of one character is drawn. Defaults and limits: strategy, Phase 3.

    Args:
        enabled: "auto": on below 300 kept instances, off from there on (strategy, implementation priority 4).
        crop_scales: Crop sides as shares of the image's, each in [0.8, 1]; the aspect ratio stays (3.1).
        min_character_ratio: Share of the crop that the character must occupy, in [0, 1] (3.1).
        ratio_of: Whether that is its bounding box ("box") or its matte's area ("matte").
        rotation: Degrees, within [-5, 5]; camera roll (3.2).
        brightness: Factor, within [0.9, 1.1] (3.3).
        contrast: Factor, within [0.95, 1.05] (3.3).
        noise_std: Standard deviation in [0, 0.01] of a [0, 1] range (3.4).
        noise_probability: Share of samples that get noise, in [0, 1] (3.4).
        noise_area: Noise on the character only ("matte") or on the background too ("everywhere").
        horizontal_flip: Probability in [0, 1]; anything above 0 needs a symmetric character (3.5).

    Raises:
        ValueError: A field is out of its range; the message starts with the field's name.
    """

    enabled: bool | Literal["auto"] = "auto"
    crop_scales: tuple[float, ...] = (0.8, 0.9, 1.0)
    min_character_ratio: float = 0.6
    ratio_of: Literal["box", "matte"] = "box"
    rotation: Range = (-5.0, 5.0)
    brightness: Range = (0.9, 1.1)
    contrast: Range = (0.95, 1.05)
    noise_std: float = 0.01
    noise_probability: float = 0.3
    noise_area: Literal["matte", "everywhere"] = "matte"
    horizontal_flip: float = 0.0

    def __post_init__(self) -> None:
        if not self.crop_scales or not all(0.8 <= s <= 1 for s in self.crop_scales):
            raise ValueError(f"crop_scales must be one or more numbers in [0.8, 1.0], got {list(self.crop_scales)}")
        for name, low, high in (("rotation", -5, 5), ("brightness", 0.9, 1.1), ("contrast", 0.95, 1.05)):
            start, end = getattr(self, name)
            if not low <= start <= end <= high:
                raise ValueError(f"{name} must be [low, high] within [{low}, {high}], got [{start}, {end}]")
        for name, high in (
            ("min_character_ratio", 1),
            ("noise_std", 0.01),
            ("noise_probability", 1),
            ("horizontal_flip", 1),
        ):
            if not 0 <= getattr(self, name) <= high:
                raise ValueError(f"{name} must be in [0, {high}], got {getattr(self, name)}")
