"""What the film shows: who is in which shot, from where, in what light, doing what. No pixels here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from lora_data.demo.body import Pose
from lora_data.demo.lights import LIGHTS, LightName
from lora_data.demo.render import Framing, Shot

Action = Literal["idle", "wave", "walk", "look", "cheer"]
ACTIONS: tuple[Action, ...] = get_args(Action)

_CAMERAS: tuple[tuple[str, float, float, Framing], ...] = (
    ("front_full", 0, 6, "full"), ("tq_full", 36, 8, "full"), ("front_close", 4, 3, "close-up"),
    ("tq_half", -36, 6, "half"), ("back_full", 176, 10, "full"), ("tq_close", 32, 4, "close-up"),
    ("high_full", -22, 40, "full"), ("side_half", 82, 5, "half"), ("front_half", -8, 4, "half"),
    ("tq_full", -42, 6, "full"), ("low_half", 22, -15, "half"), ("side_full", -86, 6, "full"),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """One character in one frame."""

    identity: str
    shot_id: str
    frame: int
    instance: int
    camera: str
    action: Action
    shot: Shot
    pose: Pose
    first: bool  # of its track


def counts(instances: int, balance: Sequence[float]) -> list[int]:
    """Share ``instances`` by weight, at least one each: largest remainders."""
    wanted = np.array(balance, float) / sum(balance) * (instances - len(balance))
    whole = np.floor(wanted).astype(int)
    for i in np.argsort(-(wanted - whole), kind="stable")[: instances - len(balance) - int(whole.sum())]:
        whole[i] += 1
    return [int(n) + 1 for n in whole]


def plan(names: Sequence[str], balance: Sequence[float], instances: int, seed: int) -> list[Take]:
    """Tracks of four to six consecutive frames; a third of the shots have two characters. In order of the film."""
    rng = np.random.Generator(np.random.Philox(key=[seed, 1]))
    tracks: list[tuple[str, int, int]] = []  # name, frames, number of the track among the character's own
    for name, left in zip(names, counts(instances, balance), strict=True):
        while left:
            length = min(left, int(rng.integers(4, 7)))
            tracks.append((name, length, sum(n == name for n, _, _ in tracks)))
            left -= length
    order = [tracks[i] for i in rng.permutation(len(tracks))]
    cameras = {name: rng.permutation(len(_CAMERAS)) for name in names}
    lights = {name: rng.permutation(len(LIGHTS)) for name in names}
    takes: list[Take] = []
    frame, number = int(rng.integers(100, 200)), 0
    while order:
        cast = [order.pop(0)]
        other = next((t for t in order if t[0] != cast[0][0]), None)
        if other and rng.uniform() < 1 / 3:
            order.remove(other)
            cast.append(other)
        light: LightName = list(LIGHTS)[lights[cast[0][0]][cast[0][2] % len(LIGHTS)]]
        for instance, (name, length, own) in enumerate(cast):
            camera, azimuth, elevation, framing = _CAMERAS[cameras[name][own % len(_CAMERAS)]]
            shot = Shot(
                azimuth=azimuth + float(rng.uniform(-8, 8)), elevation=elevation + float(rng.uniform(-2, 2)),
                framing=framing, fov=float(rng.choice([24, 30, 38])), light=light,
            )  # fmt: skip
            action = ACTIONS[int(rng.integers(len(ACTIONS)))]
            start, pace, drift = float(rng.uniform(0, 1)), float(rng.uniform(0.03, 0.06)), float(rng.uniform(-0.6, 0.6))
            for i in range(length):
                takes.append(
                    Take(
                        identity=name, shot_id=f"S{number:03d}", frame=frame + i, instance=instance, camera=camera,
                        action=action, shot=replace(shot, azimuth=shot.azimuth + i * drift),
                        pose=posed(action, start + i * pace), first=i == 0,
                    )
                )  # fmt: skip
        frame += max(length for _, length, _ in cast) + int(rng.integers(20, 90))
        number += 1
    return sorted(takes, key=lambda t: (t.frame, t.instance))


def posed(action: Action, phase: float) -> Pose:
    """The pose at ``phase`` (1 is a whole cycle); parts stay rigid."""
    s, c = float(np.sin(2 * np.pi * phase)), float(np.cos(2 * np.pi * phase))
    if action == "wave":
        return Pose(head_tilt=4 * s, head_turn=8, arms_raise=(14, 128 + 14 * s), arms_swing=(0, 8), lean=1)
    if action == "walk":
        return Pose(
            legs_swing=(26 * s, -26 * s), arms_swing=(-28 * s, 28 * s), bob=0.02 * c * c, head_tilt=2 * c, lean=3,
            arms_raise=(12, 12),
        )  # fmt: skip
    if action == "look":
        return Pose(head_turn=24 * s, head_nod=5 * c, arms_raise=(18, 18))
    if action == "cheer":
        return Pose(arms_raise=(138 + 10 * s, 138 - 10 * s), bob=0.04 * abs(s), head_nod=-6, head_tilt=3 * c)
    return Pose(head_tilt=3 * s, head_nod=2 * c, arms_raise=(18 + 2 * s, 18 - 2 * s), turn=2 * s)
