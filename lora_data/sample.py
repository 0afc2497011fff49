"""An instance: the pixels of one cut-out and its record.

Pixels are sRGB uint8 ``[H, W, 3]`` in RGB order; alpha is straight, uint8 ``[H, W]``, 0 transparent. The colour under
alpha 0 may be the true background (a crop of a frame), a constant (an extracted cut-out) or, after the matte stage,
black; `lora_data.matte.fill_hidden` continues the character's own colour there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lora_data.manifest import Record


@dataclass(frozen=True, slots=True, eq=False)
class FacePatch:
    """A restored face on a network's template.

    Args:
        rgb: uint8 ``[S, S, 3]``.
        matrix: float64 ``[2, 3]``: brings px of the decoded canvas onto the square.
    """

    rgb: np.ndarray
    matrix: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """One cut-out on its way through the map stages.

    Args:
        record: What is known about it.
        rgb: uint8 ``[H, W, 3]``, sRGB.
        alpha: uint8 ``[H, W]``, straight.
        face: The restored face that was pasted in, at its own resolution, for a stage that enlarges the canvas.
        proposed: uint8, as ``rgb``: an enhancement that waits for a person; the pixels are still without it.
        attempts: By enhancement, what was measured and taken back, to look at: uint8 RGBA ``[h, 2 w, 4]``, what the
            network saw on the left and what it made of it on the right.

    Raises:
        ValueError: A shape or dtype is not as above.
    """

    record: Record
    rgb: np.ndarray
    alpha: np.ndarray
    face: FacePatch | None = None
    proposed: np.ndarray | None = None
    attempts: Mapping[str, np.ndarray] = field(default_factory=dict[str, np.ndarray])

    def __post_init__(self) -> None:
        if self.rgb.dtype != np.uint8 or self.rgb.ndim != 3 or self.rgb.shape[2] != 3:
            raise ValueError(f"{self.record.key}: rgb must be uint8 [H, W, 3], got {self.rgb.dtype} {self.rgb.shape}")
        if self.alpha.dtype != np.uint8 or self.alpha.shape != self.rgb.shape[:2]:
            got = f"{self.alpha.dtype} {self.alpha.shape}"
            raise ValueError(f"{self.record.key}: alpha must be uint8 {self.rgb.shape[:2]}, got {got}")

    def replace(
        self,
        *,
        rgb: np.ndarray | None = None,
        alpha: np.ndarray | None = None,
        face: FacePatch | None = None,
        proposed: np.ndarray | None = None,
        attempts: Mapping[str, np.ndarray] | None = None,
        **fields: Any,
    ) -> Instance:
        """Return a copy with other pixels and changed record fields (see `Record`)."""
        return Instance(
            record=self.record.replace(**fields) if fields else self.record,
            rgb=self.rgb if rgb is None else rgb,
            alpha=self.alpha if alpha is None else alpha,
            face=self.face if face is None else face,
            proposed=self.proposed if proposed is None else proposed,
            attempts=self.attempts if attempts is None else attempts,
        )
