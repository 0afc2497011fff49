from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_data.errors import ImageError
from lora_data.manifest import Record
from lora_data.sample import Instance
from lora_data.stages.matte import Background, Matte, contour_softness, hidden_spread
from tests.backends.test_matting import scene
from tests.conftest import cutout


def instance(rgb: np.ndarray, alpha: np.ndarray) -> Instance:
    return Instance(Record(source="a.png", key="a"), rgb, alpha)


def hard(size: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """A cut-out whose matte was thresholded: hidden colour zero, rim pixels mixed with black."""
    rgb, alpha = cutout(size)
    mask = (alpha > 127).astype(np.uint8) * 255
    return rgb * (mask[..., None] > 0), mask


@settings(max_examples=20, deadline=None)
@given(size=st.integers(40, 160), blur=st.sampled_from([0.0, 1.0, 3.0, 6.0]))
def test_a_clean_matte_passes_unchanged_also_a_blurred_one(size: int, blur: float):
    rgb, alpha = cutout(size)
    if blur:
        alpha = cv2.GaussianBlur(alpha, (0, 0), blur)
    out = Matte().apply(instance(rgb, alpha))
    np.testing.assert_array_equal(out.alpha, alpha)
    np.testing.assert_array_equal(out.rgb[alpha > 0], rgb[alpha > 0])
    assert (out.record.matte, out.record.matte_reason) == ("no", "clean")


def test_an_opaque_rectangle_is_left_for_the_filter():
    rgb, _ = cutout(40)
    out = Matte().apply(instance(rgb, np.full((40, 40), 255, np.uint8)))
    assert out.record.matte == "no"
    assert out.record.coverage == 1
    assert out.record.touches_edge == 1


def test_without_a_background_a_hard_matte_is_refined_by_shape_and_says_so():
    rgb, mask = hard()
    _, true = cutout(120)
    out = Matte().apply(instance(rgb, mask))
    assert out.record.matte == "applied"
    assert out.record.matte_reason == "geometric: no background to see"
    error = [np.mean((a.astype(float) - true) ** 2) for a in (mask, out.alpha)]
    assert error[1] < 0.5 * error[0]
    inside = cv2.erode(mask, np.ones((5, 5), np.uint8)) > 0
    np.testing.assert_array_equal(out.rgb[inside], rgb[inside])


def test_the_rim_takes_its_colour_from_inside():
    rgb, mask = hard()
    rgb = np.where(mask[..., None] > 0, (200, 120, 60), 0).astype(np.uint8)
    ring = (mask > 0) & (cv2.erode(mask, np.ones((3, 3), np.uint8)) == 0)
    rgb[ring] = (0, 255, 0)  # what a thresholded matte leaves of a green background
    out = Matte().apply(instance(rgb, mask))
    assert np.abs(out.rgb[out.alpha > 0].astype(int) - (200, 120, 60)).max() <= 2


def test_with_its_background_a_rough_mask_is_matted():
    rgb, true = scene(120)
    mask = cv2.dilate((true >= 0.5).astype(np.uint8), np.ones((3, 3), np.uint8)) * 255
    out = Matte().apply(instance(rgb, mask))
    assert (out.record.matte, out.record.matte_reason) == ("applied", "knn")
    error = [np.mean((a / 255.0 - true) ** 2) for a in (mask, out.alpha)]
    assert error[1] < 0.2 * error[0]
    seen = out.rgb[out.alpha > 0].astype(int)
    assert (seen[:, 0] - seen[:, 2] > 60).all()  # nothing of the blue-green stays anywhere
    assert not out.rgb[out.alpha == 0].any()


def test_a_soft_matte_over_its_background_keeps_its_alpha_and_loses_the_fringe():
    rgb, true = scene(120)
    alpha = np.rint(true * 255).astype(np.uint8)
    out = Matte().apply(instance(rgb, alpha))
    np.testing.assert_array_equal(out.alpha, alpha)
    assert (out.record.matte, out.record.matte_reason) == ("applied", "foreground colour")
    soft = (alpha > 30) & (alpha < 225)
    assert out.rgb[soft][:, 0].mean() > rgb[soft][:, 0].mean() + 20


def test_implausible_matting_is_taken_back_to_geometry():
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 255, (90, 90, 3), np.uint8)
    rgb[:, :45] //= 3
    mask = np.zeros((90, 90), np.uint8)
    mask[20:70, 20:70] = 255
    out = Matte(max_area_change=0.0).apply(instance(rgb, mask))
    assert out.record.matte_reason == "geometric: matting was not plausible"


def test_pinholes_close_and_specks_go_but_a_handle_stays():
    rgb, mask = hard(200)
    mask[80:84, 80:84] = 0
    cv2.circle(mask, (120, 110), 14, 0, -1)
    mask[3:6, 3:6] = 255
    out = Matte().apply(instance(rgb, mask))
    assert out.alpha[82, 82] == 255
    assert np.abs(out.rgb[82, 82].astype(int) - out.rgb[76, 76]).max() < 60
    assert out.alpha[110, 120] == 0
    assert out.alpha[4, 4] == 0
    assert out.record.matte_components == 1


def test_off_changes_nothing_that_is_seen():
    rgb, mask = hard()
    out = Matte(refine="off").apply(instance(rgb, mask))
    np.testing.assert_array_equal(out.alpha, mask)
    np.testing.assert_array_equal(out.rgb[mask > 0], rgb[mask > 0])
    assert (out.record.matte, out.record.matte_reason) == ("no", "off")


def test_nothing_but_specks_is_an_error_not_an_empty_picture():
    mask = np.zeros((40, 40), np.uint8)
    with pytest.raises(ImageError, match="nothing is left"):
        Matte().apply(instance(np.zeros((40, 40, 3), np.uint8), mask))


def test_the_numbers_tell_softness_and_hidden_colour():
    rgb, alpha = cutout(100)
    assert contour_softness(alpha) > 0.4
    assert contour_softness((alpha > 127).astype(np.uint8) * 255) == 0
    assert hidden_spread(rgb, alpha) == 0
    pictured, true = scene(60)
    assert hidden_spread(pictured, np.rint(true * 255).astype(np.uint8)) > 5


def test_a_transparent_background_is_bled_near_and_zero_far():
    rgb, alpha = cutout(160)
    out = Background(margin=8).apply(instance(rgb, alpha))
    np.testing.assert_array_equal(out.rgb[alpha > 0], rgb[alpha > 0])
    np.testing.assert_array_equal(out.alpha, alpha)
    distance = cv2.distanceTransform((alpha == 0).astype(np.uint8), cv2.DIST_L2, 5)
    assert (out.rgb[distance > 14] == 0).all()
    assert (out.rgb[(distance > 0) & (distance < 6)].sum(axis=1) > 60).all()


@pytest.mark.parametrize(("name", "colour"), [("gray", (128, 128, 128)), ("#ff0080", (255, 0, 128))])
def test_a_uniform_background_is_what_a_reader_without_alpha_sees(name: str, colour: tuple[int, int, int]):
    rgb, alpha = cutout(100)
    out = Background(background=name).apply(instance(rgb, alpha))
    assert (out.rgb[alpha == 0] == colour).all()
    np.testing.assert_array_equal(out.rgb[alpha == 255], rgb[alpha == 255])
    np.testing.assert_array_equal(out.alpha, alpha)


@pytest.mark.parametrize(
    ("field", "value"), [("background", "greenish"), ("soft_contour", 2.0), ("band", -0.1), ("max_area_change", 0.9)]
)
def test_a_field_out_of_range_is_named(field: str, value: object):
    fields: dict[str, Any] = {field: value}
    with pytest.raises(ValueError, match=f"^{field} must be"):
        Matte(**fields)


def test_a_person_s_no_leaves_the_matte_as_it_came():
    rgb, alpha = hard()
    given = instance(rgb, alpha)
    assert Matte().apply(given).record.matte == "applied"
    made = Matte().apply(given.replace(matte_review="refuse"))
    assert (made.record.matte, made.record.matte_reason) == ("taken_back", "person")
    assert np.array_equal(made.alpha, alpha)
    assert np.array_equal(made.rgb[alpha > 0], rgb[alpha > 0])
    assert made.record.coverage is not None
