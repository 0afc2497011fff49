"""The renderer: distances, straight alpha, marks on one side only."""

from __future__ import annotations

import numpy as np
import pytest

from lora_data.demo import render_character
from lora_data.demo.body import Pose, build
from lora_data.demo.cast import cast
from lora_data.demo.lights import LIGHTS
from lora_data.demo.render import Shot, _camera, _make_grid, _march
from lora_data.demo.sdf import Material, Part, Prim, distance, normals, rotation

CAST = tuple(cast(12, 0))


def test_a_ball_is_as_far_as_its_radius_says() -> None:
    ball = Prim("ellipsoid", (0.0, 0.0, 0.0), (0.5, 0.5, 0.5), Material((1, 1, 1)))
    part = Part("ball", (ball,), np.array([0, 1, 0], np.float32), rotation(30, 40, 50))
    points = np.array([[0, 1.25, 0], [0, 2, 0], [0, 1, 3]], np.float32).T
    np.testing.assert_allclose(distance([part], points), [-0.25, 0.5, 2.5], atol=1e-3)
    np.testing.assert_allclose(
        normals([part], np.array([[0, 1.5, 0]], np.float32).T, np.zeros(1, np.int32))[:, 0], [0, 1, 0], atol=0.01
    )


@pytest.mark.parametrize("name", CAST)
def test_culling_by_spheres_changes_no_distance(name: str) -> None:
    parts = build(cast(12, 0)[name], Pose(head_turn=20, arms_raise=(20, 120), legs_swing=(20, -20)))
    points = np.random.default_rng(0).uniform([-0.8, 0, -0.8], [0.8, 2.2, 0.8], (4000, 3)).T.astype(np.float32)
    each = np.min([distance([part], points) for part in parts], axis=0)
    found, near = distance(parts, points), distance(parts, points, 0.1)
    close = each < 0.02  # farther off an ellipsoid's formula is a bound only, and culling may tighten it
    assert close.sum() > 100
    np.testing.assert_allclose(found[close], each[close], atol=1e-5)
    np.testing.assert_allclose(near[close], each[close], atol=1e-5)
    assert (found > each - 1e-5).all()


@pytest.mark.parametrize("name", CAST)
def test_alpha_is_straight_soft_and_whole(name: str) -> None:
    rgb, alpha = render_character(name, size=96)
    assert rgb.shape == (*alpha.shape, 3)
    assert 80 <= max(alpha.shape) <= 96
    assert not rgb[alpha == 0].any()
    assert len(np.unique(alpha)) > 4


@pytest.mark.parametrize("name", ["luna", "mina"])
def test_no_ray_that_meets_the_figure_gives_up(name: str) -> None:
    parts = build(cast(12, 0)[name], Pose())
    grid = _make_grid(parts)
    eye, axes = _camera(grid, parts, Shot(azimuth=30, elevation=5, framing="full"))
    y, x = (a.ravel() for a in np.mgrid[-0.23:0.23:70j, -0.14:0.14:40j])
    direction = axes.T @ np.stack([x, y, np.ones_like(x)]).astype(np.float32)
    direction /= np.linalg.norm(direction, axis=0)
    depth, owner = _march(parts, grid, eye, direction)
    t = np.full(x.shape, np.linalg.norm(eye) - 2.2, np.float32)
    closest = np.full(x.shape, 9, np.float32)
    for _ in range(300):
        gap = distance(parts, eye[:, None] + direction * t)
        closest = np.minimum(closest, gap)
        t += np.clip(0.8 * gap, 0.002, 0.3)
    hit = np.isfinite(depth)
    assert hit[closest < -0.002].all()
    assert not hit[closest > 0.005].any()
    assert ((owner >= 0) == hit).all()


@pytest.mark.parametrize("name", CAST)
def test_a_mirrored_character_is_another(name: str) -> None:
    rgb, alpha = render_character(name, size=96, light="overcast")
    solid = (alpha > 250) & (alpha[:, ::-1] > 250)
    change = np.abs(rgb.astype(int) - rgb[:, ::-1])[solid].max(axis=1)
    assert (change > 40).mean() > 0.02 or ((alpha > 127) != (alpha[:, ::-1] > 127)).mean() > 0.02


def test_rendering_is_a_pure_function_and_views_lights_and_people_differ() -> None:
    first, again = (render_character("pip", size=64) for _ in range(2))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    lumas = {light: render_character("pip", size=64, light=light)[0][20:40].mean() for light in LIGHTS}
    assert lumas["night"] < 0.6 * lumas["day"]
    wide = {framing: render_character("bruno", size=64, framing=framing)[1].shape for framing in ("full", "close-up")}
    assert wide["full"][1] / wide["full"][0] < wide["close-up"][1] / wide["close-up"][0]


def test_an_unknown_name_lists_the_cast() -> None:
    with pytest.raises(ValueError, match="pip, bruno"):
        render_character("nobody")
