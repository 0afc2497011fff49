"""The cast: toy characters from one parametric body, told apart by palette, shape and marks on one side only.

Colours are sRGB hex; a side is -1 (the character's right hand, the picture's left) or 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from lora_data.demo.sdf import Vec


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """What makes one character. Zero means that the mark is absent."""

    fur: str
    belly: str
    shirt: str
    trousers: str
    shoes: str
    iris: str
    accent: str
    marked: str  # colour of the marks on one side
    kind: Literal["critter", "child", "robot"] = "critter"
    ears: Literal["none", "round", "cat", "long"] = "none"
    tail: Literal["none", "bushy", "thin", "stub"] = "none"
    hair: Literal["none", "swirl", "bob", "spikes"] = "none"
    hair_colour: str = "#5a3a2a"
    head: Vec = (0.50, 0.45, 0.44)
    girth: float = 1.0
    height: float = 1.0
    eye: float = 1.0
    dark_ear: int = 0
    satchel: int = 0
    badge: int = 0
    glove: int = 0
    patch: int = 0  # eye patch
    eye_spot: int = 0  # a patch of dark fur around one eye
    scarf: int = 0  # the side on which its end hangs
    flower: int = 0
    antenna: int = 0


CAST: dict[str, Design] = {
    "pip": Design(
        fur="#f0832e", belly="#fff0d8", shirt="#2f8f9d", trousers="#f0832e", shoes="#7a3b1c", iris="#3fa35b",
        accent="#f6c445", marked="#4a2a1e", ears="cat", tail="bushy", head=(0.51, 0.42, 0.43), dark_ear=1, scarf=-1,
    ),
    "bruno": Design(
        fur="#8a5a3c", belly="#e3bd92", shirt="#c8433a", trousers="#8a5a3c", shoes="#5b3a29", iris="#6b3f1d",
        accent="#e9c46a", marked="#c98f3d", ears="round", tail="stub", head=(0.52, 0.47, 0.46), girth=1.24,
        eye=0.86, satchel=1, eye_spot=-1,
    ),
    "mina": Design(
        fur="#f2b58f", belly="#f2b58f", shirt="#f4c542", trousers="#3d5a98", shoes="#e4572e", iris="#5b4bc4",
        accent="#ffffff", marked="#e4477a", kind="child", hair="swirl", hair_colour="#7b3fa0", girth=0.92, glove=-1,
        badge=1, flower=-1,
    ),
    "otto": Design(
        fur="#dfe7ea", belly="#9fb4bd", shirt="#3f7fbf", trousers="#8798a1", shoes="#3b4a52", iris="#2bb3d6",
        accent="#f4a02c", marked="#e4572e", kind="robot", head=(0.50, 0.40, 0.40), girth=1.08, glove=1, badge=-1,
        antenna=1,
    ),
}  # fmt: skip
"""The characters drawn by hand, in the order in which a film takes them."""

_MORE = ("juno", "fitz", "luna", "remy", "tilda", "kiko", "nell", "bo")


def cast(count: int, seed: int) -> dict[str, Design]:
    """The first ``count`` (2..12) characters: the four drawn by hand, then ones invented from ``seed``.

    Raises:
        ValueError: ``count`` is out of range.
    """
    if not 2 <= count <= len(CAST) + len(_MORE):
        raise ValueError(f"characters must be 2..{len(CAST) + len(_MORE)}, got {count}")
    designs = dict(CAST) | {name: _invented(i, seed) for i, name in enumerate(_MORE)}
    return {name: designs[name] for name in list(designs)[:count]}


def _invented(number: int, seed: int) -> Design:
    rng = np.random.Generator(np.random.Philox(key=[seed, 7000 + number]))
    hue = (0.28 + 0.618034 * number + rng.uniform(-0.03, 0.03)) % 1  # golden ratio: hues stay apart
    other = (hue + rng.uniform(0.35, 0.6)) % 1
    side = int(rng.choice([-1, 1]))
    kind = ("child", "critter", "critter")[number % 3]
    skin = str(rng.choice(["#f2c6a0", "#c98a5e", "#8a5637", "#6b4028"]))
    fur = skin if kind == "child" else _hsv(hue, rng.uniform(0.3, 0.6), rng.uniform(0.6, 0.95))
    base = Design(
        fur=fur,
        belly=skin if kind == "child" else _hsv(hue, 0.12, 0.97),
        shirt=_hsv(other, 0.65, 0.8),
        trousers=_hsv(hue if kind == "child" else other, 0.5, 0.55),
        shoes=_hsv((other + 0.5) % 1, 0.6, 0.45),
        iris=_hsv(rng.uniform(), 0.7, 0.6),
        accent=_hsv((hue + 0.15) % 1, 0.6, 0.95),
        marked=_hsv(hue, 0.7, 0.25),
        kind=kind,
        ears="none" if kind == "child" else ("long", "round", "cat")[int(rng.integers(3))],
        tail="none" if kind == "child" else ("stub", "thin", "bushy")[int(rng.integers(3))],
        hair=("bob", "spikes", "swirl")[int(rng.integers(3))] if kind == "child" else "none",
        hair_colour=_hsv(hue, 0.6, 0.45),
        head=(rng.uniform(0.46, 0.55), rng.uniform(0.40, 0.47), rng.uniform(0.41, 0.46)),
        girth=rng.uniform(0.85, 1.25),
        height=rng.uniform(0.9, 1.12),
        eye=rng.uniform(0.85, 1.1),
    )
    marks = (
        (
            replace(base, satchel=side, flower=-side),
            replace(base, glove=side, badge=-side),
            replace(base, patch=side, scarf=side),
        )
        if kind == "child"
        else (
            replace(base, dark_ear=side, badge=-side),
            replace(base, patch=side, scarf=-side),
            replace(base, eye_spot=side, satchel=side),
        )
    )
    return marks[int(rng.integers(3))]


def _hsv(hue: float, saturation: float, value: float) -> str:
    channels = [value * (1 - saturation * max(0.0, min(k := (n + hue * 6) % 6, 4 - k, 1))) for n in (5, 3, 1)]
    return "#" + "".join(f"{round(255 * c):02x}" for c in channels)
