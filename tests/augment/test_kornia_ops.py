from __future__ import annotations

from typing import Any

import pytest
import torch
from kornia.augmentation import AugmentationSequential

from lora_data.augment import AugmentPolicy
from lora_data.augment.kornia_ops import CharacterCrop, CharacterLight, CharacterNoise, CharacterSequential
from lora_data.augment.params import HOLDS
from lora_data.errors import BatchError
from tests.augment.pictures import batch_of, blob, module, smooth

NAN = float("nan")


def pictures(count: int = 4) -> torch.Tensor:
    """Float RGBA with one opaque character."""
    return torch.cat([blob(96, 80, (10, 12, 70, 90), seed) for seed in range(count)]).float() / 255


def chain(**more: Any) -> AugmentationSequential:
    return AugmentationSequential(
        CharacterCrop((64, 48)), CharacterLight(), CharacterNoise(p=0.5), data_keys=["input", "mask"], **more
    )


def test_they_work_in_kornias_container_and_replay():
    images = pictures()
    augment = chain()
    torch.manual_seed(1)
    made, mask = augment(images, images[:, 3:])
    assert made.shape == (4, 4, 64, 48)
    assert mask.shape == (4, 1, 64, 48)
    again, same = augment(images, images[:, 3:], params=augment._params)
    assert torch.equal(made, again)
    assert torch.equal(mask, same)
    torch.manual_seed(1)
    assert torch.equal(augment(images, images[:, 3:])[0], made)
    assert not torch.equal(augment(images, images[:, 3:])[0], made)
    assert float(made.min()) >= 0
    assert float(made.max()) <= 1
    drawn: Any = augment._params
    assert (drawn[0].data["outcome"] == HOLDS).all()


def test_rgb_needs_the_mask_and_gets_it_from_the_sequential():
    images = pictures()
    sequential = CharacterSequential(CharacterCrop((64, 48)), CharacterLight(), data_keys=["input", "mask"])
    torch.manual_seed(3)
    made, mask = sequential(images[:, :3], images[:, 3:])
    torch.manual_seed(3)
    four = AugmentationSequential(CharacterCrop((64, 48)), CharacterLight(), data_keys=["input", "mask"])
    with_alpha, same = four(images, images[:, 3:])
    assert torch.equal(mask, same)
    solid = -torch.nn.functional.max_pool2d(-mask, 9, 1, 4) > 0.99  # beyond the kernel's reach of the edge
    difference = (made - with_alpha[:, :3]).abs() * solid
    assert float(difference.max()) < 0.02
    with pytest.raises(BatchError, match="needs the matte"):
        four(images[:, :3], images[:, 3:])


def test_a_dictionary_of_keys_works_too():
    images = pictures(2)
    made = AugmentationSequential(CharacterCrop((40, 40)), data_keys=None)({"image": images, "mask": images[:, 3:]})
    assert made["image"].shape == (2, 4, 40, 40)
    assert made["mask"].shape == (2, 1, 40, 40)


def test_the_fused_module_equals_their_chain_within_a_level():
    cutouts = smooth(4, 96, 80)
    cutouts[:, 3] = 255  # opaque: colour is interpolated straight and premultiplied alike
    augment = module({"noise_probability": 0.7, "noise_area": "everywhere"})
    fused = augment(batch_of(cutouts, target=(64, 48)))
    params = fused.params
    assert params.crop is not None
    draws = {
        "CharacterCrop_0": {
            "scale": params.scale,
            "position": params.position,
            "degrees": params.rotation,
            "flip": params.flip,
            "centre": params.crop.centre,
            "crop_size": params.crop.size,
            "outcome": params.crop.outcome,
        },
        "CharacterLight_1": {"brightness": params.brightness, "contrast": params.contrast},
        "CharacterNoise_2": {"noise_seed": params.noise_seed},
    }
    augmentation = chain()
    items: Any = augmentation.forward_parameters(torch.Size([4, 4, 96, 80]))
    gates = {"CharacterNoise_2": (params.noise_std > 0).float()}
    for item in items:
        item.data.update({**draws[item.name], "batch_prob": gates.get(item.name, torch.ones(4))})
    images = cutouts.float() / 255
    made, mask = augmentation(images, images[:, 3:], params=items)
    assert float(((fused.pixel_values + 1) / 2 - made[:, :3]).abs().max()) * 255 < 1
    assert float((fused.mask - mask).abs().max()) * 255 < 1


def test_the_matrix_maps_points_as_the_pixels_go():
    image = torch.zeros(1, 4, 90, 90)
    image[:, 3] = 1
    image[:, :3, 38:41, 52:55] = 1
    crop = CharacterCrop((60, 60), AugmentPolicy(crop_scales=(0.8,), rotation=(4.0, 4.0)))
    made = crop(image)
    weight = made[0, 0] / made[0, 0].sum()
    y, x = (float((weight * torch.arange(60.0).view(shape)).sum()) for shape in ((60, 1), (1, 60)))
    assert crop.transform_matrix is not None
    point = crop.transform_matrix[0] @ torch.tensor([53.0, 39.0, 1.0])
    assert float(point[0]) == pytest.approx(x, abs=0.1)
    assert float(point[1]) == pytest.approx(y, abs=0.1)


@pytest.mark.parametrize("operation", [CharacterLight(), CharacterNoise(p=1.0), CharacterCrop((8, 8))])
def test_nan_is_refused_by_sample(operation: Any):
    images = pictures(3)
    images[1, 0, 5, 5] = NAN
    with pytest.raises(BatchError, match=r"\[1\] holds NaN"):
        operation(images)


def test_a_wider_range_than_the_strategys_is_refused():
    with pytest.raises(ValueError, match="brightness"):
        CharacterLight(brightness=(0.5, 1.5))
    with pytest.raises(ValueError, match="noise_std"):
        CharacterNoise(std=0.1)


def test_light_keeps_alpha_and_hue():
    images = pictures(2)
    made = CharacterLight((1.1, 1.1), (1.05, 1.05))(images)
    assert torch.equal(made[:, 3:], images[:, 3:])
    bright = images[:, :3].amax(1) > 0.2
    ratio = made[:, :3] / images[:, :3].clamp(min=1e-6)
    spread = (ratio.amax(1) - ratio.amin(1))[bright & (images[:, :3].amin(1) > 0.05)]
    assert float(spread.max()) < 1e-5
