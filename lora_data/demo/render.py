"""A ray marcher in NumPy: one posed character, one camera, one light; straight alpha, colour zero where alpha is 0.

A coarse grid of distances carries the rays close to the surface and answers the soft questions (shadow, occlusion);
the exact functions place the hit and its normal. Only pixels on an edge are supersampled (six rooks).

Source: soft shadow and ambient occlusion from the distance field as in Inigo Quilez, "Soft shadows in raymarched SDFs",
and Evans, "Fast approximations for global illumination on dynamic scenes", SIGGRAPH 2006 course; specular lobe
Blinn-Phong with Schlick's Fresnel term (Computer Graphics Forum 13(3), 1994).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from lora_data.demo.body import Pose, build
from lora_data.demo.cast import cast
from lora_data.demo.lights import LIGHTS, Light, LightName
from lora_data.demo.sdf import Decal, Part, distance, normals, surface

Framing = Literal["full", "half", "close-up"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """The camera: azimuth 0 sees the face, positive goes to the character's left; angles in degrees."""

    azimuth: float
    elevation: float
    framing: Framing
    fov: float = 30.0
    light: LightName = "day"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Render:
    """A finished picture, cropped to the character: ``rgb`` uint8 ``[H, W, 3]``, ``alpha`` uint8 ``[H, W]``."""

    rgb: np.ndarray
    alpha: np.ndarray
    depth: np.ndarray  # float32 [H, W], distance to the camera; 0 where nothing is
    head: np.ndarray  # bool [H, W], pixels of the head
    head_box: tuple[float, float, float, float]  # x0, y0, x1, y1 of the whole head with ears; may reach outside
    cut: tuple[str, ...]  # picture sides that cut the character


def render_character(
    name: str,
    *,
    azimuth: float = 0.0,
    elevation: float = 5.0,
    framing: Framing = "full",
    light: LightName = "day",
    size: int = 256,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Render one character standing: ``rgb`` uint8 ``[H, W, 3]`` and straight ``alpha`` uint8 ``[H, W]``.

    ``max(H, W) <= size`` and close to it. ``name`` is one of `cast` (12, seed); azimuth and elevation in degrees.

    Raises:
        ValueError: Nobody is called ``name``.
    """
    people = cast(12, seed)
    if name not in people:
        raise ValueError(f"name must be one of {', '.join(people)}, got {name!r}")
    shot = Shot(azimuth=azimuth, elevation=elevation, framing=framing, light=light)
    picture = render(build(people[name], Pose()), shot, size)
    return picture.rgb, picture.alpha


@dataclass(frozen=True, slots=True, eq=False)
class _Grid:
    """Distances on a regular grid around the figure."""

    low: np.ndarray
    cell: float
    values: np.ndarray

    def points(self) -> np.ndarray:
        axes = [np.float32(lo) + np.float32(self.cell) * np.arange(n, dtype=np.float32)
                for lo, n in zip(self.low, self.values.shape, strict=True)]  # fmt: skip
        return np.stack([a.ravel() for a in np.meshgrid(*axes, indexing="ij")])

    def sample(self, points: np.ndarray) -> np.ndarray:
        from scipy.ndimage import map_coordinates

        place = (points - self.low[:, None]) / np.float32(self.cell)
        return map_coordinates(self.values, place, order=1, mode="nearest", output=np.float32, prefilter=False)


def _make_grid(parts: list[Part], cell: float = 0.045) -> _Grid:
    low = np.min([p.centre - p.radius for p in parts], axis=0)
    high = np.max([p.centre + p.radius for p in parts], axis=0)
    coarse = _Grid(low, 4 * cell, np.zeros(np.ceil((high - low) / (4 * cell)).astype(int) + 1, np.float32))
    near = coarse.points()
    near = near[:, distance(parts, near, 5 * cell) < 4 * cell]  # the surface is within half a cell's diagonal of these
    low, high = near.min(axis=1) - 3 * cell, near.max(axis=1) + 3 * cell
    grid = _Grid(low, cell, np.zeros(np.ceil((high - low) / cell).astype(int) + 1, np.float32))
    grid.values[...] = distance(parts, grid.points(), 0.4).reshape(grid.values.shape)
    return grid


def render(parts: list[Part], shot: Shot, size: int) -> Render:
    """Render a posed figure so that the longest side of the picture is at most ``size`` px (and close to it)."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"):  # 3 x 3 products gain nothing from threads
        return _render(parts, shot, size)


def _render(parts: list[Part], shot: Shot, size: int) -> Render:
    grid = _make_grid(parts)
    eye, axes = _camera(grid, parts, shot)
    box, cut, head = _view(grid, parts, shot, eye, axes)
    scale = size / max(box[2] - box[0], box[3] - box[1])
    width = max(2, int((box[2] - box[0]) * scale))
    height = max(2, int((box[3] - box[1]) * scale))
    light = LIGHTS[shot.light]

    def trace(u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        direction = np.stack([box[0] + u / scale, box[3] - v / scale, np.ones_like(u)]).astype(np.float32)
        direction = axes.T @ (direction / np.sqrt((direction * direction).sum(axis=0)))
        depth, owner = _march(parts, grid, eye, direction)
        hit = np.isfinite(depth)
        colour = np.zeros((len(u), 3), np.float32)
        if hit.any():
            ray = direction[:, hit]
            points = eye[:, None] + ray * depth[hit]
            pixel = float(np.median(depth[hit])) / scale
            colour[hit] = _shade(parts, grid, light, axes, points, ray, owner[hit], pixel)
        return colour, np.where(hit, depth, 0).astype(np.float32), owner

    v, u = (a.ravel().astype(np.float32) for a in np.mgrid[0:height, 0:width])
    tiles = np.lexsort((u, v, u // 32, v // 32))  # neighbours in the picture are neighbours in memory
    place = np.argsort(tiles)
    colour, depth, owner = (a[place] for a in trace(u[tiles] + 0.5, v[tiles] + 0.5))
    alpha = (owner >= 0).astype(np.float32)
    edge = tiles[_edges(colour, depth, owner, (height, width))[tiles]]
    dx, dy = (np.array(a, np.float32) / 6 + np.float32(1 / 12) for a in ((0, 1, 2, 3, 4, 5), (2, 5, 1, 4, 0, 3)))
    sample, _, who = trace((u[edge, None] + dx).ravel(), (v[edge, None] + dy).ravel())
    cover = (who >= 0).reshape(-1, 6).sum(axis=1)
    colour[edge] = sample.reshape(-1, 6, 3).sum(axis=1) / np.maximum(cover, 1)[:, None]
    alpha[edge] = cover / 6
    image = (height, width)
    rgb = _srgb(colour).reshape(*image, 3)
    matte = np.rint(alpha * 255).astype(np.uint8).reshape(image)
    rgb[matte == 0] = 0
    heads = [i for i, p in enumerate(parts) if p.name.startswith("head")]
    is_head = ((owner >= 0) & np.isin(owner // 256, heads)).reshape(image)
    rows, columns = np.flatnonzero(matte.any(axis=1)), np.flatnonzero(matte.any(axis=0))
    y0, y1, x0, x1 = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    window = (slice(y0, y1), slice(x0, x1))
    head_box = (
        float((head[0] - box[0]) * scale - x0), float((box[3] - head[3]) * scale - y0),
        float((head[2] - box[0]) * scale - x0), float((box[3] - head[1]) * scale - y0),
    )  # fmt: skip
    return Render(
        rgb=rgb[window], alpha=matte[window], depth=depth.reshape(image)[window], head=is_head[window],
        head_box=head_box, cut=cut,
    )  # fmt: skip


def _camera(grid: _Grid, parts: list[Part], shot: Shot) -> tuple[np.ndarray, np.ndarray]:
    """Eye point ``[3]`` and axes ``[3, 3]`` (rows: right, up, forward)."""
    a, e = np.radians([shot.azimuth, shot.elevation])
    back = np.array([np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)])
    right = np.array([np.cos(a), 0, -np.sin(a)])
    up = np.cross(back, right)
    high = {"full": 2.4, "half": 1.6, "close-up": 1.1}[shot.framing]
    middle = (grid.low + np.array(grid.values.shape) * grid.cell / 2).astype(np.float32)
    target = middle if shot.framing == "full" else np.array([middle[0], parts[0].centre[1], middle[2]])
    eye = target + back * high / (2 * np.tan(np.radians(shot.fov / 2)))
    return eye.astype(np.float32), np.stack([right, up, -back]).astype(np.float32)


def _view(
    grid: _Grid, parts: list[Part], shot: Shot, eye: np.ndarray, axes: np.ndarray
) -> tuple[np.ndarray, tuple[str, ...], np.ndarray]:
    """The picture's window on the plane at distance 1 (x0, y0, x1, y1), what it cuts, and the head's box there."""

    def box(points: np.ndarray) -> np.ndarray:
        x, y, z = axes @ (points - eye[:, None])
        return np.array([(x / z).min(), (y / z).min(), (x / z).max(), (y / z).max()])

    points = grid.points()[:, np.abs(grid.values.ravel()) < 0.8 * grid.cell]
    whole = box(points)
    heads = [p for p in parts if p.name.startswith("head")]
    head = box(points[:, distance(heads, points, 0.1) < 0.8 * grid.cell]) if heads else whole
    if shot.framing == "full":
        return whole, (), head
    tall = head[3] - head[1]
    window = whole.copy()
    window[1] = max(whole[1], head[1] - tall * (0.40 if shot.framing == "half" else 0.08))
    if shot.framing == "close-up":
        wide = head[2] - head[0]
        window[0], window[2] = max(whole[0], head[0] - 0.06 * wide), min(whole[2], head[2] + 0.06 * wide)
    cut = [side for side, i in (("left", 0), ("bottom", 1), ("right", 2)) if window[i] != whole[i]]
    return window, tuple(cut), head


def _march(parts: list[Part], grid: _Grid, eye: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance along each ray ``[N]`` to the surface, infinite where it misses, and which surface (-1: none)."""
    low, high = grid.low[:, None], (grid.low + grid.cell * (np.array(grid.values.shape) - 1))[:, None]
    with np.errstate(divide="ignore"):
        first, second = (low - eye[:, None]) / direction, (high - eye[:, None]) / direction
    enter, leave = np.minimum(first, second).max(axis=0), np.maximum(first, second).min(axis=0)
    t = np.maximum(enter, 0).astype(np.float32)
    depth, owner = np.full(len(t), np.inf, np.float32), np.full(len(t), -1, np.int32)
    alive = np.flatnonzero(enter < leave)
    skin = np.float32(0.6 * grid.cell)
    for _ in range(8):  # a ray that grazes one thing goes on, by the grid, to what is behind it
        waiting, close = alive, [alive[:0]]
        for _ in range(40):
            step = grid.sample(eye[:, None] + direction[:, waiting] * t[waiting]) - skin
            t[waiting] += np.maximum(step, skin / 2)
            close.append(waiting[step < skin / 2])
            waiting = waiting[(step >= skin / 2) & (t[waiting] < leave[waiting])]
            if not len(waiting):
                break
        alive = np.concatenate(close)
        t[alive] -= skin / 2
        away = [waiting]
        before, moved = np.zeros(len(alive), np.float32), np.zeros(len(alive), np.float32)
        for _ in range(16):
            if not len(alive):
                break
            gap, who = surface(parts, eye[:, None] + direction[:, alive] * t[alive], 0.1)
            done, gone = np.abs(gap) < 0.0015, gap > 2 * skin
            depth[alive[done]], owner[alive[done]] = t[alive[done]], who[done]
            t[alive[gone]] += gap[gone]
            away.append(alive[gone])
            keep = ~done & ~gone
            alive, gap, before, moved = alive[keep], gap[keep], before[keep], moved[keep]
            slope = np.where(moved > 0, (before - gap) / np.maximum(moved, 1e-6), 1)
            least = np.where(gap < 0.006, 0.25, 0.6)  # the secant: slanting rays would creep; nor may they leap
            before, moved = gap, (gap / np.clip(slope, least, 1)).astype(np.float32)
            moved = np.where(np.abs(moved) < 0.001, np.copysign(np.float32(0.001), moved), moved)
            t[alive] += moved
        alive = np.concatenate([alive, *away])
        if not len(alive):
            break
    return depth, owner


def _edges(colour: np.ndarray, depth: np.ndarray, owner: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Pixels whose neighbour shows another surface, another depth or another colour: bool ``[H * W]``."""
    tone = (colour.mean(axis=1) ** 0.45).reshape(shape)
    far, who = depth.reshape(shape), owner.reshape(shape)
    edge = np.zeros(shape, bool)
    for a, b in (((slice(1, None), slice(None)), (slice(-1), slice(None))),
                 ((slice(None), slice(1, None)), (slice(None), slice(-1)))):  # fmt: skip
        different = (who[a] != who[b]) | (np.abs(far[a] - far[b]) > 0.05) | (np.abs(tone[a] - tone[b]) > 0.12)
        edge[a] |= different
        edge[b] |= different
    return edge.ravel()


def _from_camera(axes: np.ndarray, where: tuple[float, float]) -> np.ndarray:
    a, e = np.radians(where)
    flat = axes[2] * np.array([1, 0, 1], np.float32)
    flat = -flat / np.linalg.norm(flat)  # towards the camera, level
    level = axes[0] * np.sin(a) + flat * np.cos(a)
    return (level * np.cos(e) + np.array([0, np.sin(e), 0])).astype(np.float32)


def _shade(
    parts: list[Part],
    grid: _Grid,
    light: Light,
    axes: np.ndarray,
    points: np.ndarray,
    ray: np.ndarray,
    owner: np.ndarray,
    pixel: float,
) -> np.ndarray:
    """Linear-light colour ``[N, 3]`` of surface points; ``pixel`` is the size of a pixel there."""
    albedo, traits, relief = _materials(parts, points, owner, pixel)
    rough, specular, metal, fuzz, skin = traits
    normal = normals(parts, points, owner)
    normal += relief - normal * np.einsum("ij,ij->j", normal, relief)
    normal /= np.sqrt(np.einsum("ij,ij->j", normal, normal))
    outside = points + normal * np.float32(0.07)
    key, rim = _from_camera(axes, light.key_from), _from_camera(axes, light.rim_from)
    shadow = _shadow(grid, outside, key)
    occlusion = np.zeros(len(rough), np.float32)
    for reach, weight in ((0.06, 1.0), (0.14, 0.6), (0.30, 0.35)):
        gap = np.float32(reach) - grid.sample(points + normal * np.float32(reach))
        occlusion += np.clip(gap, 0, reach) * np.float32(weight / reach)
    open_sky = np.exp(-0.85 * occlusion)
    floor = np.clip(0.55 + points[1] * 1.1, 0, 1)  # the ground nearby takes light away from the feet

    def lobe(towards: np.ndarray) -> np.ndarray:
        half = towards[:, None] - ray
        half /= np.sqrt(np.einsum("ij,ij->j", half, half))
        power = 2 / np.maximum(rough**4, 1e-4) - 2
        facing = np.clip(np.einsum("ij,ij->j", normal, half), 0, 1)
        return np.minimum((power + 2) / 8 * facing**power, 12)

    cos_key = normal.T @ key
    wrap = 0.12 + 0.25 * skin
    diffuse = np.clip((cos_key + wrap) / (1 + wrap), 0, 1) * (0.06 + 0.94 * shadow)
    bleed = np.clip((cos_key + 0.4) / 1.4, 0, 1) * shadow - np.clip(cos_key, 0, 1) * shadow
    warm = np.stack([diffuse + 0.30 * skin * bleed, diffuse + 0.03 * skin * bleed, diffuse], axis=1)
    up = (0.5 + 0.5 * normal[1])[:, None]
    ambient = (np.array(light.sky) * up + np.array(light.ground) * (1 - up)) * (open_sky * floor)[:, None]
    back = np.clip(normal.T @ rim, 0, 1)
    facing = np.clip(-np.einsum("ij,ij->j", normal, ray), 0, 1)
    edge = (1 - facing) ** 3
    fresnel = specular + (1 - specular) * (1 - facing) ** 5 * (1 - rough) ** 2
    lit = warm * np.array(light.key) + ambient + (back * (0.35 + 0.65 * edge) * open_sky)[:, None] * np.array(light.rim)
    tint = np.where(metal[:, None] > 0, albedo, 1)
    mirror = ray - 2 * normal * np.einsum("ij,ij->j", normal, ray)
    high = np.clip(0.5 + 0.9 * mirror[1], 0, 1)[:, None] * (1 - 0.6 * rough)[:, None]
    box = np.clip((mirror.T @ key - 0.75) * 6, 0, 1)[:, None] * np.array(light.key) * 0.6
    seen = (np.array(light.sky) * high * 1.3 + np.array(light.ground) * (1 - high) * 0.6 + box) * open_sky[:, None]
    gloss = (lobe(key) * np.clip(cos_key, 0, 1) * shadow)[:, None] * np.array(light.key)
    gloss = gloss + (lobe(rim) * back)[:, None] * np.array(light.rim)
    colour = albedo * lit * (1 - 0.72 * metal)[:, None] / 1.55
    colour = colour + (gloss * specular[:, None] + seen * fresnel[:, None]) * tint
    colour = colour + (fuzz * edge * 0.55 * floor)[:, None] * (0.35 + 0.65 * albedo) * (ambient + 0.35 * warm)
    return colour.astype(np.float32)


def _shadow(grid: _Grid, points: np.ndarray, towards: np.ndarray) -> np.ndarray:
    """How much of the key light arrives, ``[N]`` in 0..1, with a penumbra that widens with distance."""
    seen = np.ones(points.shape[1], np.float32)
    t = np.full(points.shape[1], 0.02, np.float32)
    for _ in range(9):
        gap = grid.sample(points + towards[:, None] * t)
        seen = np.minimum(seen, np.clip(0.5 + 3.5 * gap / t, 0, 1))
        t += np.clip(gap, 0.06, 0.3)
    return seen * seen * (3 - 2 * seen)


def _materials(
    parts: list[Part], points: np.ndarray, owner: np.ndarray, pixel: float
) -> tuple[np.ndarray, tuple[np.ndarray, ...], np.ndarray]:
    """Albedo ``[N, 3]``, (rough, specular, metal, fuzz, skin) each ``[N]``, relief added to the normal ``[3, N]``."""
    count = len(owner)
    albedo = np.zeros((count, 3), np.float32)
    surface = np.zeros((5, count), np.float32)
    relief = np.zeros((3, count), np.float32)
    for code in np.unique(owner):
        part = parts[code // 256]
        material = part.prims[code % 256].material
        chosen = np.flatnonzero(owner == code)
        local = part.local(points[:, chosen])
        colour = np.tile(np.array(material.colour, np.float32), (len(chosen), 1))
        for decal in material.decals:
            cover = (_paint(decal, local) * np.float32(decal.strength))[:, None]
            colour += (np.array(decal.colour, np.float32) - colour) * cover
        if material.weave:
            fade = material.weave * float(np.clip(1.4 - pixel / 0.008, 0, 1))
            x, y, z = local * np.float32(2 * np.pi / 0.052)
            thread = np.sin(x + z) * np.sin(y) + 0.5 * np.sin(2.3 * x - 1.7 * z) * np.sin(1.9 * y)
            colour *= (1 + 0.09 * fade * thread)[:, None]
            bump = np.stack([np.cos(x + z) * np.sin(y), np.sin(x + z) * np.cos(y), np.cos(x + z) * np.sin(y)])
            relief[:, chosen] = part.frame @ (bump * np.float32(0.10 * fade))
        albedo[chosen] = colour
        surface[:, chosen] = np.array([[material.rough], [material.specular], [material.metal], [material.fuzz],
                                       [material.skin]], np.float32)  # fmt: skip
    return albedo, tuple(surface), relief


def _paint(decal: Decal, local: np.ndarray) -> np.ndarray:
    x, y, z = local - np.array(decal.at, np.float32)[:, None]
    a, b, c = decal.size
    if decal.shape == "spot":
        away = np.sqrt((x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2)
        return np.clip((1 - away) / max(decal.soft, 0.02), 0, 1)
    if decal.shape == "below":
        return (y < 0).astype(np.float32)
    if decal.shape == "stripes":
        along = np.array(decal.at, np.float32) @ local
        return (np.sin(along * np.float32(2 * np.pi / a)) > 0.25).astype(np.float32)
    if decal.shape == "band":
        return (np.abs(np.array(decal.at, np.float32) @ local - a) < b).astype(np.float32)
    if decal.shape == "arc":
        radius = np.sqrt(x * x + y * y)
        return ((np.abs(radius - a) < b) & (np.abs(np.arctan2(x, -y)) < c) & (z > 0)).astype(np.float32)
    lip = y - c * x * x / a
    mouth = (x / a) ** 2 + (np.minimum(lip, 0) / b) ** 2 < 1
    return (mouth & (lip < 0) & (z > 0)).astype(np.float32)


def _srgb(linear: np.ndarray) -> np.ndarray:
    """Tone curve (extended Reinhard, white at 3.2) and the sRGB transfer, uint8."""
    x = linear * (1 + linear / 3.2**2) / (1 + linear) * 1.22
    x = np.clip(x, 0, 1)
    return np.rint(255 * np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)).astype(np.uint8)
