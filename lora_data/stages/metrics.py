"""Measure: numbers into the record, pixels untouched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from lora_data.errors import ImageError
from lora_data.sample import Instance
from lora_data.stage import MapStage

if TYPE_CHECKING:
    from lora_data.metrics import View


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure(MapStage):
    """Measure the exposure as it came: before colour correction lifts an underexposed picture into the range.

    Fills the ``source_*`` numbers. Belongs in front of every stage that changes colour.
    """

    name: ClassVar[str] = "exposure"
    version: ClassVar[int] = 1

    def apply(self, instance: Instance) -> Instance:
        """Return the instance with its source exposure.

        Raises:
            ImageError: The matte is empty.
        """
        from lora_data import metrics

        found = metrics.exposure(_view(instance))
        return instance.replace(
            source_brightness=found.mean,
            source_brightness_p95=found.p95,
            source_clipped_bright=found.clipped_bright,
            source_burnt=found.burnt,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics(MapStage):
    """Measure the character as it will be trained on: after matte and colour.

    Everything is taken inside the matte eroded by 4 px at a character height of at most 512 px, on colour continued
    under the matte (see `lora_data.metrics`). Smaller characters are not enlarged: a tiny original is as sharp as its
    pixels are, and its size is judged by its size. Sharpness, edge score and blur direction stay None where the
    inside is too small or holds no texture.
    """

    name: ClassVar[str] = "metrics"
    version: ClassVar[int] = 1

    def apply(self, instance: Instance) -> Instance:
        """Return the instance with the fields of the record's section "metrics", except the relative ones.

        Raises:
            ImageError: The matte is empty.
        """
        from lora_data import metrics

        view = _view(instance)
        exposure = metrics.exposure(view)
        detail = (view.luma, view.inside)
        blur = metrics.blur_direction(*detail) if view.detailed else None
        return instance.replace(
            brightness=exposure.mean,
            brightness_p05=exposure.p05,
            brightness_p95=exposure.p95,
            saturation=exposure.saturation,
            clipped_dark=exposure.clipped_dark,
            clipped_bright=exposure.clipped_bright,
            laplacian_variance=metrics.laplacian_variance(*detail) if view.detailed else None,
            sharpness=metrics.reblur_ratio(*detail) if view.detailed else None,
            blur_direction=None if blur is None else blur[0],
            blur_coherence=None if blur is None else blur[1],
            edge_score=metrics.edge_score(*detail) if view.detailed else None,
            framing=metrics.framing(instance.alpha),
        )


def _view(instance: Instance) -> View:
    from lora_data import metrics

    view = metrics.view(instance.rgb, instance.alpha)
    if view is None:
        raise ImageError("empty_matte", f"no pixel has an alpha above 127; the highest is {int(instance.alpha.max())}")
    return view
