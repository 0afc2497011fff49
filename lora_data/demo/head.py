"""The head: skull and muzzle, big eyes, ears, hair; or a robot's screen. Coordinates start at the neck."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lora_data.demo.cast import CAST, Design
from lora_data.demo.materials import ball, linear, skin
from lora_data.demo.sdf import Decal, Material, Prim, Vec


def head(d: Design) -> list[Prim]:
    """The skull with what melts into it."""
    rx, ry, rz = d.head
    cy = _middle(d)
    if d.kind == "robot":
        smile = (Decal("arc", (0, cy - 0.03, 0), (0.17, 0.017, 0.75), linear("#7ff0ff")),)
        visor = Material(linear("#10222b"), rough=0.15, specular=0.05, decals=smile)
        return [
            Prim("box", (0, cy, 0), (rx, ry, rz, 0.24), skin(d)),
            Prim("box", (0, cy - 0.01, rz * 0.72), (rx * 0.82, ry * 0.74, 0.14, 0.13), visor),
        ]
    fur, child = skin(d), d.kind == "child"
    blush = linear("#f2705f")
    decals = [
        Decal("spot", (s * rx * 0.60, cy - 0.12, rz * 0.74), (0.13, 0.09, 0.2), blush, 0.9, 0.6 if child else 0.35)
        for s in (-1, 1)
    ]
    if d.patch:  # the patch's string
        tilt = d.patch * 0.26
        decals.append(Decal("band", (-tilt, 0.966, 0.0), (0.966 * (cy + 0.075), 0.016, 0.0), linear("#2b2b33")))
    if child:
        decals.append(Decal("grin", (0, cy - 0.19, 0), (0.135, 0.095, 0.25), linear("#6b1d26")))
        decals.append(Decal("spot", (0, cy - 0.275, rz), (0.075, 0.05, 0.2), linear("#e8636a"), 0.1))
        decals.append(Decal("grin", (0, cy - 0.19, 0), (0.105, 0.028, 0.25), linear("#fffaf2")))
    else:
        pale = linear(d.belly)
        decals.insert(0, Decal("spot", (0, cy - 0.30, rz * 0.80), (rx * 0.80, 0.30, 0.42), pale, 0.06))
    if d.eye_spot:
        dark = linear("#4a2d1f") if d == CAST["bruno"] else linear(d.marked)
        decals.append(Decal("spot", (d.eye_spot * rx * 0.40, cy + 0.04, rz * 0.85), (0.21, 0.23, 0.3), dark, 0.06))
    prims = [ball((0, cy, 0), (rx, ry, rz), replace(fur, decals=tuple(decals)))]
    if child:
        ears = (ball((s * rx * 0.98, cy - 0.06, -0.02), (0.06, 0.095, 0.075), fur, blend=0.02) for s in (-1, 1))
        return [*prims, ball((0, cy - 0.075, rz * 0.99), (0.05, 0.043, 0.05), fur, blend=0.03), *ears]
    smile = (
        Decal("grin", (0, cy - 0.225, 0), (0.115, 0.085, 0.16), linear("#5e1a22")),
        Decal("spot", (0, cy - 0.298, rz * 0.86 + 0.12), (0.062, 0.042, 0.2), linear("#e8636a"), 0.1),
    )
    muzzle = replace(fur, colour=linear(d.belly), decals=smile)
    nose = Material(linear("#2a1a18"), rough=0.22, specular=0.06)
    crown = (
        Prim(
            "capsule",
            (0.05 * i, cy + ry * 0.93, 0.10),
            (0.07 + 0.05 * i, 0.13 - 0.03 * abs(i), -0.02, 0.055, 0.015),
            fur,
            blend=0.04,
        )
        for i in (-1, 0, 1)
    )  # a tuft that leans to the left
    tufts = (
        Prim(
            "capsule",
            (s * rx * 0.72, cy - 0.16, 0.10),
            (s * 0.19, -0.075, 0.0, 0.14, 0.025),
            replace(fur, decals=tuple(decals)),
            blend=0.10,
        )
        for s in (-1, 1)
        if d.ears == "cat"
    )
    return [
        *prims, *crown, *tufts,
        ball((0, cy - 0.20, rz * 0.86), (0.185, 0.135, 0.14), muzzle, blend=0.06),
        ball((0, cy - 0.11, rz * 0.86 + 0.125), (0.068, 0.05, 0.045), nose),
    ]  # fmt: skip


def features(d: Design) -> dict[str, list[Prim]]:
    """What sits on the skull, in groups that lie close together."""
    cy = _middle(d)
    if d.kind == "robot":
        return _robot(d, cy)
    eyes = {f"eye_{'right' if s < 0 else 'left'}": _eye(d, s, cy) for s in (-1, 1)}
    ears = {f"ear_{'right' if s < 0 else 'left'}": _ear(d, s, cy) for s in (-1, 1)}
    return eyes | ears | {"hair": _hair(d, cy), "curl": _curl(d, cy), "flower": _flower(d, cy)}


def _middle(d: Design) -> float:
    return d.head[1] * 0.82


def _eye(d: Design, s: int, cy: float) -> list[Prim]:
    rx, ry, rz = d.head
    u = d.eye
    ex, ey = 0.40 * rx, cy + 0.035
    r = (0.128 * u, 0.158 * u, 0.095)
    ez = rz * float(np.sqrt(1 - 0.16 - (0.035 / ry) ** 2)) - 0.025
    if d.patch == s:
        felt = Material(linear("#2b2b33"), rough=0.5, specular=0.04, fuzz=0.3)
        return [Prim("disc", (s * ex, ey, ez + 0.015), (0.16, 0.05, 0.04), felt, (82, s * 24, 0))]
    brown = d.hair_colour if d.hair != "none" else d.marked
    brow = Material(linear(brown), rough=0.8, fuzz=0.3)
    white = Material(
        (0.90, 0.90, 0.88), rough=0.10, specular=0.045, decals=_iris(d.iris, s * (ex - 0.022), ey - 0.004, ez, u)
    )
    lid = (r[0] + 0.016, r[1] + 0.014, r[2] + 0.012, 0.0, -1.0, -0.35, -0.115 * u)
    turn = (-6.0, s * 16.0, 0.0)
    return [
        ball((s * ex, ey, ez), r, white, turn),
        Prim("cap", (s * ex, ey + 0.002, ez - 0.004), lid, skin(d), (*turn[:2], s * -6.0)),
        _brow(d, s, ex, ey + r[1] + 0.075, cy, brow),
    ]  # fmt: skip


def _brow(d: Design, s: int, x: float, y: float, cy: float, material: Material) -> Prim:
    inner, outer = (_on_skull(d, s * (x + dx), y + dy, cy) for dx, dy in ((-0.07, 0.012), (0.075, -0.004)))
    way = tuple(b - a for a, b in zip(inner, outer, strict=True))
    return Prim("capsule", inner, (*way, 0.027, 0.018), material)


def _on_skull(d: Design, x: float, y: float, cy: float) -> Vec:
    rx, ry, rz = d.head
    return (x, y, rz * float(np.sqrt(max(0.05, 1 - (x / rx) ** 2 - ((y - cy) / ry) ** 2))) + 0.008)


def _iris(code: str, x: float, y: float, z: float, u: float) -> tuple[Decal, ...]:
    r, g, b = linear(code)
    bright = (min(1.0, 1.7 * r + 0.05), min(1.0, 1.7 * g + 0.05), min(1.0, 1.7 * b + 0.05))
    z += 0.095
    return (
        Decal("spot", (x, y, z), (0.092 * u, 0.112 * u, 0.2), (0.22 * r, 0.22 * g, 0.22 * b)),
        Decal("spot", (x, y - 0.003, z), (0.079 * u, 0.097 * u, 0.2), (r, g, b)),
        Decal("spot", (x, y - 0.058 * u, z), (0.060 * u, 0.048 * u, 0.2), bright, 0.7, 0.85),
        Decal("spot", (x, y, z), (0.049 * u, 0.062 * u, 0.2), (0.006, 0.006, 0.01)),
        Decal("spot", (x + 0.034 * u, y + 0.048 * u, z), (0.028 * u, 0.032 * u, 0.2), (1, 1, 1)),
        Decal("spot", (x - 0.036 * u, y - 0.048 * u, z), (0.013 * u, 0.014 * u, 0.2), (0.9, 0.9, 0.95)),
    )


def _ear(d: Design, s: int, cy: float) -> list[Prim]:
    rx, ry, _ = d.head
    fur = skin(d)
    own = replace(fur, colour=linear(d.marked)) if d.dark_ear == s else fur
    inner = Material(linear("#e79a8b"), rough=0.8, fuzz=0.3, skin=0.5)
    if d.ears == "round":
        x, y = s * rx * 0.74, cy + ry * 0.78
        return [
            ball((x, y, -0.02), (0.17, 0.17, 0.09), own),
            ball((x * 0.985, y - 0.01, 0.045), (0.105, 0.105, 0.055), inner),
        ]
    if d.ears == "cat":
        x, y = s * rx * 0.56, cy + ry * 0.55
        return [
            Prim("capsule", (x, y, -0.01), (s * 0.13, 0.36, -0.02, 0.17, 0.045), own),
            Prim("capsule", (x + s * 0.01, y + 0.03, 0.10), (s * 0.085, 0.22, -0.05, 0.085, 0.02), inner),
        ]
    if d.ears == "long":  # one flops aside
        x, y = s * rx * 0.42, cy + ry * 0.75
        tip = (0.36, 0.42, -0.04) if s == 1 else (-0.12, 0.62, -0.04)
        lining = (tip[0] * 0.7, tip[1] * 0.7, -0.02, 0.035, 0.055)
        return [
            Prim("capsule", (x, y, -0.02), (*tip, 0.085, 0.11), own),
            Prim("capsule", (x + tip[0] * 0.25, y + tip[1] * 0.25, 0.06), lining, inner),
        ]
    return []


def _hair_material(d: Design) -> Material:
    return Material(linear(d.hair_colour), rough=0.42, specular=0.05, fuzz=0.25)


def _hair(d: Design, cy: float) -> list[Prim]:
    if d.hair == "none":
        return []
    rx, ry, rz = d.head
    hair = _hair_material(d)
    shell = (rx + 0.05, ry + 0.055, rz + 0.05)
    prims = [Prim("cap", (0, cy + 0.01, -0.02), (*shell, 0.0, -0.72, 0.69, 0.03), hair)]
    fringe = ((-0.33, 0.70, -0.10, -0.20), (-0.16, 0.88, -0.10, -0.13), (0.05, 0.93, 0.06, -0.11))
    for x, z, bend, drop in (*fringe, (0.26, 0.80, 0.12, -0.17)):
        root = (x * 0.8 + 0.03, cy + ry * 0.86, rz * z - 0.16)
        prims.append(Prim("capsule", root, (bend, drop, 0.13, 0.10, 0.045), hair, blend=0.05))
    for s in (-1, 1):  # locks before the ears
        length = -0.40 if d.hair == "bob" else -0.16
        size = (s * 0.03, length, 0.02, 0.085, 0.06)
        prims.append(Prim("capsule", (s * rx * 0.93, cy + 0.14, 0.06), size, hair, blend=0.05))
    if d.hair == "bob":
        prims.append(ball((0, cy - 0.16, -rz * 0.62), (rx * 0.97, 0.32, 0.24), hair, blend=0.08))
    elif d.hair == "spikes":
        roots = ((-0.24, 0.1), (-0.05, 0.16), (0.16, 0.1), (0.02, -0.14), (-0.2, -0.16), (0.25, -0.1))
        for i, (x, z) in enumerate(roots):
            end = (x * 0.7 + 0.10, 0.24 + 0.03 * (i % 3), z * 0.4)
            prims.append(Prim("capsule", (x, cy + ry * 0.86, z), (*end, 0.13, 0.025), hair, blend=0.04))
    return prims


def _curl(d: Design, cy: float) -> list[Prim]:
    """A soft-serve curl on the left of the crown."""
    if d.hair != "swirl":
        return []
    hair, top = _hair_material(d), cy + d.head[1]
    rings = ((0.20, 0.07, 0.13, 0.09), (0.225, 0.165, 0.095, 0.075), (0.25, 0.25, 0.055, 0.06))
    prims = [
        Prim("torus", (x, top + y, -0.04), (radius, tube), hair, (98, 0, -14), 0.012) for x, y, radius, tube in rings
    ]
    return [*prims, Prim("capsule", (0.265, top + 0.29, -0.04), (0.075, 0.09, 0.0, 0.055, 0.016), hair, blend=0.04)]


def _flower(d: Design, cy: float) -> list[Prim]:
    if not d.flower:
        return []
    rx, ry, rz = d.head
    petal = Material(linear("#fff4f7"), rough=0.6, skin=0.5)
    x, y, z = d.flower * (rx * 0.86 + 0.05), cy + ry * 0.50, rz * 0.42
    prims = [ball((x + d.flower * 0.05, y, z), 0.042, Material(linear("#f4b400"), rough=0.6))]
    for angle in 2 * np.pi * np.arange(5) / 5 + 0.3:
        at: Vec = (x + d.flower * 0.03, float(y + 0.08 * np.sin(angle)), float(z + 0.08 * np.cos(angle)))
        prims.append(ball(at, (0.035, 0.06, 0.06), petal))
    return prims


def _robot(d: Design, cy: float) -> dict[str, list[Prim]]:
    rx, _, rz = d.head
    metal = Material(linear(d.trousers), rough=0.35, specular=0.3, metal=True)
    accent = Material(linear(d.accent), rough=0.3, specular=0.05)
    r, g, b = linear(d.iris)
    glint = (1.0, 1.0, 1.0)
    groups: dict[str, list[Prim]] = {}
    for s, radius in ((-1, 0.115), (1, 0.15)):  # one eye is the larger
        x, y, z = s * 0.17, cy + 0.05, rz * 0.72 + 0.125
        paint = (
            Decal("spot", (x, y, z + 0.06), (radius * 0.70, radius * 0.70, 0.2), (0.3 * r, 0.3 * g, 0.3 * b)),
            Decal("spot", (x, y, z + 0.06), (radius * 0.60, radius * 0.60, 0.2), (r, g, b)),
            Decal("spot", (x, y, z + 0.06), (radius * 0.38, radius * 0.38, 0.2), (0.006, 0.006, 0.01)),
            Decal("spot", (x + 0.3 * radius, y + 0.32 * radius, z + 0.06), (radius * 0.2, radius * 0.2, 0.2), glint),
        )
        white = Material((0.86, 0.9, 0.9), rough=0.1, specular=0.045, decals=paint)
        ring = Prim("torus", (x, y, z + 0.012), (radius, 0.026), accent if s == 1 else metal)
        groups["eye_right" if s < 0 else "eye_left"] = [ball((x, y, z), (radius, radius, 0.075), white), ring]
        disc = Prim(
            "disc", (s * (rx + 0.01), cy, 0), (0.12, 0.05, 0.03), accent if s == d.antenna else metal, (0, 0, 90)
        )
        groups["ear_right" if s < 0 else "ear_left"] = [disc]
    if d.antenna:
        x = d.antenna * rx * 0.55
        lamp = Material(linear(d.marked), rough=0.2, specular=0.05)
        groups["antenna"] = [
            Prim("capsule", (x, cy + d.head[1] - 0.03, 0), (d.antenna * 0.07, 0.28, 0, 0.02, 0.016), metal),
            ball((x + d.antenna * 0.075, cy + d.head[1] + 0.28, 0), 0.075, lamp),
        ]
    return groups
