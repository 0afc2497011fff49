"""From a design and a pose to solid shapes.

Lengths are in units of about half a character's height; the feet stand at y = 0 and the face looks along +z.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lora_data.demo.cast import Design
from lora_data.demo.head import features, head
from lora_data.demo.materials import ball, cloth, linear, skin
from lora_data.demo.sdf import Decal, Material, Part, Prim, Vec, rotation


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """Joint angles in degrees; parts stay rigid. Positive turns look to the character's left."""

    turn: float = 0.0
    lean: float = 0.0
    bob: float = 0.0
    head_turn: float = 0.0
    head_nod: float = 0.0
    head_tilt: float = 0.0
    arms_raise: tuple[float, float] = (16.0, 16.0)  # right, left; 0 hangs down, 90 points aside
    arms_swing: tuple[float, float] = (0.0, 0.0)  # positive to the front
    legs_swing: tuple[float, float] = (0.0, 0.0)


def build(design: Design, pose: Pose) -> list[Part]:
    """Pose the character. Parts that move together share a frame; those of the head are named ``head...``."""
    d, h = design, design.height
    root = rotation(y=pose.turn, x=pose.lean)
    lift = np.array([0, pose.bob, 0], np.float32)
    hip, neck, shoulder = 0.40 * h, 0.94 * h, 0.82 * h

    def part(name: str, prims: list[Prim], pivot: Vec, frame: np.ndarray) -> Part:
        return Part(name, tuple(prims), root @ np.array(pivot, np.float32) + lift, root @ frame)

    still, nod = rotation(), rotation(pose.head_nod, pose.head_turn, pose.head_tilt)
    parts = [part("head", head(d), (0, neck, 0), nod), part("torso", _torso(d), (0, 0, 0), still)]
    parts += [part(f"head_{word}", prims, (0, neck, 0), nod) for word, prims in features(d).items() if prims]
    parts += [part(word, prims, (0, 0, 0), still) for word, prims in _worn(d).items() if prims]
    for i, (side, word) in enumerate(((-1, "right"), (1, "left"))):
        frame = rotation(x=-pose.legs_swing[i])
        parts.append(part(f"leg_{word}", _leg(d, hip), (side * 0.145 * d.girth, hip, 0), frame))
    for i, (side, word) in enumerate(((-1, "right"), (1, "left"))):
        frame = rotation(z=side * pose.arms_raise[i]) @ rotation(x=-pose.arms_swing[i])
        parts.append(part(f"arm_{word}", _arm(d, side), (side * 0.215 * d.girth, shoulder, 0), frame))
    return parts


def _torso(d: Design) -> list[Prim]:
    g, h = d.girth, d.height
    if d.kind == "robot":
        panel = Material(linear(d.belly), rough=0.4, specular=0.08)
        body = replace(skin(d), decals=(Decal("below", (0, 0.50 * h, 0), (0, 0, 0), linear(d.shirt)),))
        lamps = (Material(linear(c), rough=0.15, specular=0.08) for c in ("#e4572e", "#f4c542", "#58b368"))
        return [
            Prim("box", (0, 0.62 * h, 0), (0.29 * g, 0.30 * h, 0.23 * g, 0.16), body),
            Prim("disc", (0, 0.93 * h, 0), (0.13, 0.06, 0.02), panel),
            ball((0, 0.66 * h, 0.21 * g), (0.15, 0.10, 0.055), panel),
            *(ball((0.075 * (i - 1), 0.66 * h, 0.258 * g), 0.026, lamp) for i, lamp in enumerate(lamps)),
        ]
    decals = [Decal("below", (0, 0.47 * h, 0), (0, 0, 0), linear(d.trousers))]
    if d.kind == "critter":
        decals.append(Decal("spot", (0, 0.42 * h, 0.30 * g), (0.22, 0.24, 0.26), linear(d.belly), 0.15))
    else:
        decals.insert(0, Decal("stripes", (0, 1, 0), (0.16, 0, 0), linear("#fff6e0")))
    return [
        Prim("capsule", (0, 0.50 * h, 0), (0, 0.29 * h, 0, 0.285 * g, 0.20 * g), cloth(d.shirt, tuple(decals))),
        Prim("torus", (0, 0.92 * h, 0), (0.155 * g, 0.045), cloth(d.accent), (90, 0, 0)),
    ]


def _worn(d: Design) -> dict[str, list[Prim]]:
    """What hangs on the torso: each a part of its own, since most points are far from it."""
    g, h = d.girth, d.height
    worn: dict[str, list[Prim]] = {"tail": _tail(d)}
    if d.scarf:
        s = d.scarf
        plain = cloth(d.accent)
        knit = cloth(d.accent, (Decal("stripes", (0, 1, 0), (0.12, 0, 0), linear(d.shirt)),))
        worn["scarf"] = [
            Prim("torus", (0, 0.93 * h, 0.01), (0.21 * g, 0.075), plain, (82, 0, 0)),
            Prim("box", (s * 0.13, 0.74 * h, 0.265 * g), (0.075, 0.20, 0.03, 0.025), knit, (-10, 0, s * 8)),
            ball((s * 0.11, 0.93 * h, 0.25 * g), (0.09, 0.08, 0.065), plain),
        ]
    if d.badge:
        gold = Material(linear("#f6c445"), rough=0.3, specular=0.5, metal=True)
        at = (
            (d.badge * 0.20 * g, 0.80 * h, 0.235 * g)
            if d.kind == "robot"
            else (d.badge * 0.125 * g, 0.77 * h, 0.20 * g)
        )
        worn["badge"] = [Prim("star", at, (0.095, 0.5, 0.024), gold, (-18, d.badge * 24, d.badge * -8))]
    if d.kind == "robot":
        grey = Material(linear(d.trousers), rough=0.4, specular=0.06)
        glow = Material(linear(d.marked), rough=0.3, specular=0.05)
        worn["pack"] = [
            Prim("box", (0, 0.66 * h, -0.27 * g), (0.19, 0.18, 0.09, 0.05), grey),
            *(Prim("box", (0.05, 0.74 * h - 0.07 * i, -0.36 * g), (0.10, 0.018, 0.02, 0.01), glow) for i in range(3)),
        ]
    if d.satchel:
        s = d.satchel
        leather = Material(linear(d.marked), rough=0.5, specular=0.05)
        dark = Material(linear("#7d4a20"), rough=0.55)
        brass = Material(linear("#f6d77a"), rough=0.25, specular=0.5, metal=True)
        x, turn = s * 0.335 * g, (0.0, 0.0, s * 9.0)
        body = (0.0, 0.29 * h, 0.0, 0.285 * g + 0.022, 0.20 * g + 0.022)
        worn["strap"] = [Prim("sash", (0, 0.50 * h, 0), (*body, s * 0.77, 0.64, 0, 0.135 * h, 0.034), dark)]
        worn["satchel"] = [
            Prim("box", (x, 0.44 * h, 0.07), (0.07, 0.14, 0.17, 0.04), leather, turn),
            Prim("box", (x + s * 0.016, 0.51 * h, 0.07), (0.075, 0.075, 0.18, 0.04), dark, turn),
            Prim("box", (x + s * 0.09, 0.44 * h, 0.07), (0.02, 0.035, 0.03, 0.01), brass, turn),
        ]
    return worn


def _tail(d: Design) -> list[Prim]:
    fur = skin(d)
    if d.tail == "bushy":
        tip = replace(fur, decals=(Decal("spot", (0.40, 0.88, -0.56), (0.26, 0.24, 0.26), linear(d.belly), 0.1),))
        return [
            Prim("capsule", (0.05, 0.36, -0.22), (0.20, 0.16, -0.22, 0.06, 0.15), tip),
            ball((0.32, 0.64, -0.50), (0.16, 0.26, 0.16), tip, (0, 0, -20), 0.12),
            Prim("capsule", (0.35, 0.70, -0.52), (0.06, 0.22, -0.03, 0.13, 0.03), tip, blend=0.1),
        ]
    if d.tail == "thin":
        return [
            Prim("capsule", (0, 0.36, -0.24), (-0.16, -0.06, -0.2, 0.045, 0.04), fur),
            Prim("capsule", (-0.16, 0.30, -0.44), (-0.12, 0.30, -0.04, 0.04, 0.05), fur, blend=0.04),
        ]
    if d.tail == "stub":
        return [ball((0, 0.42, -0.30 * d.girth), 0.105, replace(fur, colour=linear(d.belly)))]
    return []


def _leg(d: Design, hip: float) -> list[Prim]:
    g = d.girth
    if d.kind == "robot":
        metal = Material(linear(d.trousers), rough=0.35, specular=0.3, metal=True)
        boot = Material(linear(d.shoes), rough=0.35, specular=0.06)
        return [
            Prim("capsule", (0, 0.05, 0), (0, 0.10 - hip, 0, 0.07, 0.07), metal),
            *(Prim("torus", (0, -0.06 - 0.07 * i, 0), (0.062, 0.022), metal, (90, 0, 0)) for i in range(3)),
            Prim("box", (0, 0.075 - hip, 0.04), (0.125, 0.075, 0.18, 0.06), boot),
        ]
    trousers = cloth(d.trousers) if d.kind == "child" else skin(d)
    shoe = Material(linear(d.shoes), rough=0.4, specular=0.05)
    sole = Material(linear("#fff6e8") if d.kind == "child" else linear(d.shoes), rough=0.6)
    return [
        Prim("capsule", (0, 0.04, 0), (0, 0.08 - hip, 0, 0.125 * g, 0.105 * g), trousers),
        Prim("cap", (0, 0.085 - hip, 0.055), (0.125, 0.115, 0.185, 0, -1, 0, 0.045), shoe),
        Prim("box", (0, 0.03 - hip, 0.055), (0.125, 0.03, 0.185, 0.03), sole),
    ]


def _arm(d: Design, side: int) -> list[Prim]:
    gloved = d.glove == side
    elbow = (side * 0.015, -0.21, 0.0)
    if d.kind == "robot":
        code = d.marked if gloved else d.fur
        metal = Material(linear(d.trousers), rough=0.35, specular=0.3, metal=True)
        shell = Material(linear(code), rough=0.3, specular=0.06)
        return [
            ball((0, 0, 0), 0.105, shell),
            Prim("capsule", (0, 0, 0), (*elbow, 0.055, 0.055), metal),
            Prim("capsule", (side * 0.015, -0.20, 0), (0, -0.12, 0.06, 0.075, 0.10), shell),
            ball((side * 0.015, -0.37, 0.07), (0.095, 0.09, 0.10), metal),
            ball((side * -0.06, -0.40, 0.14), (0.04, 0.05, 0.06), metal),
        ]
    sleeve = cloth(d.shirt)
    bare = skin(d)
    hand = Material(linear(d.marked), rough=0.5, specular=0.05, fuzz=0.2) if gloved else bare
    fore = hand if gloved else bare
    prims = [
        Prim("capsule", (0, 0, 0), (*elbow, 0.10, 0.095), sleeve),
        Prim("capsule", (side * 0.015, -0.20, 0), (0, -0.14, 0.05, 0.075, 0.07), fore),
        ball((side * 0.015, -0.37, 0.06), (0.085, 0.10, 0.095), hand, blend=0.03),
        Prim("capsule", (side * -0.035, -0.35, 0.10), (side * -0.05, -0.045, 0.035, 0.036, 0.034), hand, blend=0.02),
    ]
    if gloved:
        prims.append(Prim("torus", (side * 0.015, -0.24, 0.015), (0.075, 0.03), hand, (75, 0, 0)))
    return prims
