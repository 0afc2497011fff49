"""Signed distance functions of rigid toy bodies, vectorised over points ``[3, N]`` (x, y up, z to the front).

A figure is a list of `Part`; a part is a rigid group of `Prim` with its own place in the world. Parts are skipped for
points whose bounding sphere is already farther than the best distance: most points meet one or two parts.

Source: the distance formulas are those of Inigo Quilez, "Distance functions" (iquilezles.org/articles/distfunctions).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import numpy as np

Vec = tuple[float, float, float]
Kind = Literal["ellipsoid", "cap", "capsule", "sash", "box", "torus", "disc", "star"]


@dataclass(frozen=True, slots=True)
class Decal:
    """Paint on a part, in the part's coordinates: where ``shape`` holds, the surface takes ``colour``.

    ``spot``: within the ellipsoid ``size`` around ``at``. ``stripes``: bands of period ``size[0]`` across the
    direction ``at``. ``band``: within ``size[1]`` of the plane ``at . p = size[0]``. ``below``: under the height
    ``at[1]``. ``grin``: an open smile, ``size`` (half width, depth, curve), on the front around ``at``. ``arc``: a line
    drawn, ``size`` (radius, half thickness, half angle), the lowest stretch of the circle around ``at``.
    """

    shape: Literal["spot", "stripes", "band", "below", "grin", "arc"]
    at: Vec
    size: Vec
    colour: Vec  # linear light
    soft: float = 0.0  # share of the spot that fades out
    strength: float = 1.0


@dataclass(frozen=True, slots=True)
class Material:
    """How a surface looks; colours are linear light in [0, 1]."""

    colour: Vec
    rough: float = 0.6
    specular: float = 0.04  # reflectance at normal incidence
    metal: bool = False
    fuzz: float = 0.0  # soft light at grazing angles: fur, felt
    skin: float = 0.0  # red light bleeding over the shadow's edge
    weave: float = 0.0  # depth of the knitted relief
    decals: tuple[Decal, ...] = ()


@dataclass(frozen=True, slots=True)
class Prim:
    """One shape. ``size`` by kind: ellipsoid (rx, ry, rz); cap (rx, ry, rz, nx, ny, nz, h: keep ``n.p < h``);
    capsule (end x, y, z relative to ``at``, radius there, radius here: (ex, ey, ez, r_at, r_end));
    sash (a capsule's size, then nx, ny, nz, h, half width: its skin where ``|n.p - h|`` is less);
    box (half x, y, z, rounding); torus (ring radius, tube radius), axis z; disc (radius, half height, rounding),
    axis y; star (outer radius, inner share, half thickness), facing z.
    """

    kind: Kind
    at: Vec
    size: tuple[float, ...]
    material: Material
    turn: Vec = (0.0, 0.0, 0.0)  # degrees about x, y, z, applied in this order
    blend: float = 0.0  # smooth union with the prims before it, in units of length


@lru_cache(maxsize=256)
def rotation(x: float = 0.0, y: float = 0.0, z: float = 0.0) -> np.ndarray:
    """Rotation matrix ``[3, 3]`` from degrees about x, then y, then z."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(np.radians([x, y, z])), np.sin(np.radians([x, y, z]))
    rx = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    ry = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    rz = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return (rz @ ry @ rx).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A rigid group of prims; ``frame @ local + origin`` is the world."""

    name: str
    prims: tuple[Prim, ...]
    origin: np.ndarray
    frame: np.ndarray
    centre: np.ndarray = field(init=False)  # bounding sphere, world
    radius: float = field(init=False)

    def __post_init__(self) -> None:
        boxes = [_reach(p) for p in self.prims]
        low = np.min([np.subtract(c, r) for c, r in boxes], axis=0)
        high = np.max([np.add(c, r) for c, r in boxes], axis=0)
        middle = (low + high) / 2
        radius = max(float(np.linalg.norm(np.subtract(c, middle)) + r) for c, r in boxes)
        object.__setattr__(self, "centre", (self.frame @ middle + self.origin).astype(np.float32))
        object.__setattr__(self, "radius", radius)

    def local(self, points: np.ndarray) -> np.ndarray:
        """World points ``[3, N]`` in the part's coordinates."""
        return self.frame.T @ (points - self.origin[:, None])


def distance(parts: list[Part], points: np.ndarray, limit: float = 10.0) -> np.ndarray:
    """Distance of world points ``[3, N]`` to the figure, float32 ``[N]``, negative inside.

    Distances beyond ``limit`` come back as ``limit``: a small one spares most of the work.
    """
    return surface(parts, points, limit)[0]


def surface(parts: list[Part], points: np.ndarray, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """`distance`, and which surface is nearest: int32 ``[N]``, ``part * 256 + prim``; 0 beyond ``limit``."""
    found = [_evaluate(parts, block, limit) for block in _blocks(points)]
    return np.concatenate([d for d, _ in found]), np.concatenate([o for _, o in found])


def normals(parts: list[Part], points: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Unit outward normals ``[3, N]`` of points on the surfaces ``owner``: tetrahedral differences 0.0015 apart."""
    normal = np.zeros_like(points)
    for number in np.unique(owner // 256):
        chosen = np.flatnonzero(owner // 256 == number)
        part = parts[number]
        local = part.local(points[:, chosen])
        slope = np.zeros_like(local)
        for corner in ((1, -1, -1), (-1, -1, 1), (-1, 1, -1), (1, 1, 1)):
            way = np.array(corner, np.float32)[:, None]
            slope += way * _group(part.prims, local + way * np.float32(0.0015))[0]
        normal[:, chosen] = part.frame @ slope
    return normal / np.maximum(np.sqrt(np.einsum("ij,ij->j", normal, normal)), 1e-9)


def _blocks(points: np.ndarray) -> list[np.ndarray]:
    """Points in runs that fit a processor's cache; neighbours in a picture meet the same few parts."""
    return [points[:, i : i + 32768] for i in range(0, max(1, points.shape[1]), 32768)]


def _evaluate(parts: list[Part], points: np.ndarray, limit: float) -> tuple[np.ndarray, np.ndarray]:
    best = np.full(points.shape[1], limit, np.float32)
    owner = np.zeros(points.shape[1], np.int32)
    low, high = points.min(axis=1), points.max(axis=1)
    room = float(np.linalg.norm(high - low)) / 2 + limit
    near = [(i, p) for i, p in enumerate(parts) if np.linalg.norm(p.centre - (low + high) / 2) < p.radius + room]
    away = [np.sqrt(np.einsum("ij,ij->j", o, o)) for o in (points - p.centre[:, None] for _, p in near)]
    for far, (_, part) in zip(away, near, strict=True):
        np.minimum(best, far + np.float32(part.radius), out=best)  # what a sphere holds is no farther than its far side
    for far, (number, part) in zip(away, near, strict=True):
        chosen = np.flatnonzero(far - np.float32(part.radius + 1e-3) < best)
        if not len(chosen):
            continue
        value, index = _group(part.prims, part.local(points[:, chosen]))
        closer = value < best[chosen]
        chosen = chosen[closer]
        best[chosen] = value[closer]
        owner[chosen] = number * 256 + index[closer]
    return best, owner


def _group(prims: tuple[Prim, ...], local: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    total = np.full(local.shape[1], 1e3, np.float32)
    index = np.zeros(local.shape[1], np.int32)
    raw = total
    for number, prim in enumerate(prims):
        value = _shape(prim, local)
        index[value < raw] = number
        raw = np.minimum(raw, value)
        if prim.blend:
            h = np.maximum(prim.blend - np.abs(value - total), 0) / np.float32(prim.blend)
            total = np.minimum(total, value) - h * h * np.float32(prim.blend / 4)
        else:
            total = np.minimum(total, value)
    return total, index


def _shape(prim: Prim, local: np.ndarray) -> np.ndarray:
    p = local - np.array(prim.at, np.float32)[:, None]
    if any(prim.turn):
        p = rotation(*prim.turn).T @ p
    size = [np.float32(s) for s in prim.size]
    x, y, z = p
    if prim.kind in ("ellipsoid", "cap"):
        a, b, c = x / size[0], y / size[1], z / size[2]
        k0 = np.sqrt(a * a + b * b + c * c)
        a, b, c = a / size[0], b / size[1], c / size[2]
        d = k0 * (k0 - 1) / np.maximum(np.sqrt(a * a + b * b + c * c), np.float32(1e-6))
        if prim.kind == "cap":
            d = np.maximum(d, x * size[3] + y * size[4] + z * size[5] - size[6])
        return d
    if prim.kind in ("capsule", "sash"):
        ex, ey, ez, r0, r1 = size[:5]
        t = np.clip((x * ex + y * ey + z * ez) / (ex * ex + ey * ey + ez * ez), 0, 1)
        d = np.sqrt((x - ex * t) ** 2 + (y - ey * t) ** 2 + (z - ez * t) ** 2) - (r0 + (r1 - r0) * t)
        if prim.kind == "sash":
            d = np.maximum(d, np.abs(x * size[5] + y * size[6] + z * size[7] - size[8]) - size[9])
        return d
    if prim.kind == "box":
        q = np.abs(p) - np.array(prim.size[:3], np.float32)[:, None] + size[3]
        outside = np.maximum(q, 0)
        return np.sqrt(np.einsum("ij,ij->j", outside, outside)) + np.minimum(q.max(axis=0), 0) - size[3]
    if prim.kind == "torus":
        ring = np.sqrt(x * x + y * y) - size[0]
        return np.sqrt(ring * ring + z * z) - size[1]
    if prim.kind == "disc":
        return _extruded(np.sqrt(x * x + z * z) - size[0], np.abs(y) - size[1], size[2])
    return _extruded(_star(x, y, size[0], prim.size[1]), np.abs(z) - size[2], np.float32(0.012))


def _extruded(flat: np.ndarray, height: np.ndarray, rounding: np.float32) -> np.ndarray:
    flat, height = flat + rounding, height + rounding
    outside = np.sqrt(np.maximum(flat, 0) ** 2 + np.maximum(height, 0) ** 2)
    return outside + np.minimum(np.maximum(flat, height), 0) - rounding


def _star(x: np.ndarray, y: np.ndarray, radius: np.float32, inner: float) -> np.ndarray:
    """A five-pointed star: distance to the edge between the outer and the inner corner of the folded sector."""
    angle = np.arctan2(x, y)
    sector = 2 * np.pi / 5
    folded = np.abs((angle + sector / 2) % sector - sector / 2)
    length = np.sqrt(x * x + y * y)
    px, py = length * np.sin(folded), length * np.cos(folded)
    ex, ey = radius * inner * np.sin(sector / 2), radius * inner * np.cos(sector / 2) - radius
    return ((px * -ey + (py - radius) * ex) / np.hypot(ex, ey)).astype(np.float32)


def _reach(prim: Prim) -> tuple[np.ndarray, float]:
    """A bounding sphere of the prim in the part's coordinates, with room for the smooth union."""
    at = np.array(prim.at)
    if prim.kind in ("capsule", "sash"):
        end = np.array(prim.size[:3])
        return at + end / 2, float(np.linalg.norm(end) / 2 + max(prim.size[3:5])) + prim.blend
    if prim.kind in ("ellipsoid", "cap"):
        return at, max(prim.size[:3]) + prim.blend
    if prim.kind == "torus":
        return at, prim.size[0] + prim.size[1] + prim.blend
    if prim.kind == "disc":
        return at, float(np.hypot(prim.size[0], prim.size[1])) + prim.blend
    if prim.kind == "star":
        return at, float(np.hypot(prim.size[0], prim.size[2])) + prim.blend
    return at, float(np.linalg.norm(prim.size[:3])) + prim.blend
