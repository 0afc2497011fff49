from __future__ import annotations

from typing import Any

import pytest

from lora_data.augment.policy import AugmentPolicy


def test_the_defaults_are_the_strategys():
    policy = AugmentPolicy()
    assert policy.crop_scales == (0.8, 0.9, 1.0)
    assert (policy.rotation, policy.brightness, policy.contrast) == ((-5, 5), (0.9, 1.1), (0.95, 1.05))
    assert (policy.noise_std, policy.noise_probability, policy.horizontal_flip) == (0.01, 0.3, 0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("crop_scales", ()),
        ("crop_scales", (0.5,)),
        ("rotation", (-9.0, 5.0)),
        ("rotation", (3.0, -3.0)),
        ("brightness", (0.5, 1.0)),
        ("contrast", (1.0, 1.2)),
        ("noise_std", 0.2),
        ("noise_probability", 1.5),
        ("min_character_ratio", -0.1),
        ("horizontal_flip", 2.0),
    ],
)
def test_a_wider_range_is_refused_by_name(field: str, value: object):
    fields: dict[str, Any] = {field: value}
    with pytest.raises(ValueError, match=f"^{field} must be"):
        AugmentPolicy(**fields)
