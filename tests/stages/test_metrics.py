"""The measuring stages write numbers and touch no pixel."""

from __future__ import annotations

import numpy as np
import pytest

from lora_data.errors import ImageError
from lora_data.manifest import Record
from lora_data.sample import Instance
from lora_data.stages.metrics import Exposure, Metrics


def instance(scale: float = 1.0, hidden: int = 0) -> Instance:
    rng = np.random.default_rng(0)
    blocks = rng.integers(40, 200, (10, 8, 3)).repeat(30, 0).repeat(30, 1)
    rgb = np.rint(blocks * scale).clip(0, 255).astype(np.uint8)
    alpha = np.zeros(rgb.shape[:2], np.uint8)
    alpha[10:-10, 10:-10] = 255
    rgb[alpha == 0] = hidden
    return Instance(Record(source="a.png", key="a"), rgb, alpha)


def test_metrics_fill_the_section_and_nothing_else() -> None:
    before = instance()
    after = Metrics().apply(before)
    assert after.rgb is before.rgb
    assert after.alpha is before.alpha
    changed = {
        name for name in Record.__dataclass_fields__ if getattr(after.record, name) != getattr(before.record, name)
    }
    assert changed == {
        "brightness",
        "brightness_p05",
        "brightness_p95",
        "saturation",
        "clipped_dark",
        "clipped_bright",
        "laplacian_variance",
        "sharpness",
        "blur_direction",
        "blur_coherence",
        "edge_score",
        "framing",
    }
    for name in changed - {"framing"}:
        assert type(getattr(after.record, name)) is float, name  # no numpy scalar reaches the table


@pytest.mark.parametrize("stage", [Metrics(), Exposure()])
def test_hidden_colour_does_not_change_a_number(stage: Metrics | Exposure) -> None:
    a, b = (stage.apply(instance(hidden=hidden)).record for hidden in (0, 255))
    for name in Record.__dataclass_fields__:
        assert getattr(a, name) == getattr(b, name), name


@pytest.mark.parametrize("stage", [Metrics(), Exposure()])
def test_an_empty_matte_is_an_image_error(stage: Metrics | Exposure) -> None:
    empty = instance()
    with pytest.raises(ImageError) as caught:
        stage.apply(empty.replace(alpha=np.full_like(empty.alpha, 90)))
    assert caught.value.reason == "empty_matte"
    assert "90" in caught.value.message


def test_exposure_stays_what_came_in() -> None:
    dark = Exposure().apply(instance(scale=0.15))
    lifted = Metrics().apply(dark.replace(rgb=instance().rgb))
    assert lifted.record.source_brightness is not None
    assert lifted.record.brightness is not None
    assert lifted.record.source_brightness < 30 < lifted.record.brightness
    burnt = Exposure().apply(instance(scale=20)).record
    assert burnt.source_burnt == burnt.source_clipped_bright == 1.0


def test_too_small_for_detail_still_has_an_exposure() -> None:
    small = instance()
    alpha = np.zeros_like(small.alpha)
    alpha[50:60, 50:60] = 255
    record = Metrics().apply(small.replace(alpha=alpha)).record
    assert record.brightness is not None
    assert record.saturation is not None
    assert record.laplacian_variance is record.edge_score is record.sharpness is record.blur_coherence is None
