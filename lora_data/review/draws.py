"""The live preview: what training would draw of a character's pictures with a policy, by training's own code."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from lora_data.config import Config, parse_config
from lora_data.decisions import Settings
from lora_data.errors import ConfigError
from lora_data.manifest import Record
from lora_data.stages.write import face_of

if TYPE_CHECKING:
    from lora_data.review.board import Board

PICTURES, DRAWS, SIDE = 3, 4, 224
"""Pictures of a character that are shown, draws of each, and their longer side, px."""


class Draws:
    """Draw for the page. Loads torch when it is first asked.

    Args:
        board: Whose pictures, and whose configuration.
    """

    def __init__(self, board: Board) -> None:
        self._board = board
        self._one = threading.Lock()  # torch uses all cores by itself

    def draw(self, asked: object) -> dict[str, object]:
        """Draw a few of a character's kept pictures.

        Args:
            asked: A table: "character", "epoch" (default 0), and "symmetric" and "augment" to be tried instead of what
                is decided.

        Returns:
            "symmetric" and "policy": what was drawn with, whole. "configured": the policy without any decision.
            "rows": per picture its key, itself and its draws, each with its numbers.

        Raises:
            ConfigError: The table or the policy is none; the message says what is allowed.
        """
        if not isinstance(asked, dict) or not isinstance(asked.get("character"), str):
            raise ConfigError(f"a preview needs a table with a character, got {asked!r}")
        character, epoch = asked["character"], asked.get("epoch", 0)
        if not isinstance(epoch, int) or epoch < 0:
            raise ConfigError(f"epoch must be a whole number of at least 0, got {epoch!r}")
        tried = Settings(asked.get("symmetric"), asked.get("augment"))
        configured = self._config(character, Settings())
        config = self._config(character, tried)
        kept = [r for r in self._board.records() if r.status == "kept" and r.character == character]
        shown = [r for r in _spread(kept) if self._board.picture("final", r.key) is not None]
        with self._one:
            rows = [self._row(record, config, len(kept), epoch) for record in shown]
        own = config.characters[character]
        return {
            "symmetric": own.symmetric,
            "policy": dataclasses.asdict(own.augment),
            "configured": dataclasses.asdict(configured.characters[character].augment),
            "rows": rows,
        }

    def _config(self, character: str, told: Settings) -> Config:
        """The run's configuration with something else for one character."""
        whole: dict[str, Any] = json.loads(self._board.run.config or "{}")
        own: dict[str, Any] = dict(whole.get("characters", {}).get(character, {}))
        if told.symmetric is not None:
            own["symmetric"] = told.symmetric
        own["augment"] = {**whole.get("augment", {}), **own.get("augment", {}), **(told.augment or {})}
        tree = {"data": whole.get("data", {}), "characters": {character: own}}
        return parse_config(tree, where=f"the augmentation of {character}")

    def _row(self, record: Record, config: Config, count: int, epoch: int) -> dict[str, object]:
        from lora_data.augment import Batch, CharacterAugment
        from lora_data.augment.summary import OUTCOMES
        from lora_data.train.decode import decode_rgba

        path = self._board.picture("final", record.key)
        assert path is not None
        picture = decode_rgba(path.read_bytes(), str(path))
        scale = SIDE / max(picture.shape[:2])
        target = (max(8, round(picture.shape[0] * scale)), max(8, round(picture.shape[1] * scale)))
        # plain torch: nothing to compile before the first picture appears, and the same within one level
        augment = CharacterAugment(config, counts={record.character: count}, backend="eager")
        one = Batch.of_one(picture, record.key, record.character, epoch=epoch, target=target)
        made = augment(
            Batch.of_one(
                picture,
                record.key,
                record.character,
                variants=DRAWS,
                epoch=epoch,
                target=target,
                face=face_of(record),
            )
        )
        numbers = [
            {
                **{name: round(float(row[name]), 3) for name in ("scale", "rotation", "brightness", "contrast")},
                "fills": round(float(row["crop.ratio"]), 3),
                "noise": round(float(row["noise_std"]), 4),
                "flip": bool(row["flip"]),
                "crop": OUTCOMES[int(row["crop.outcome"])],
            }
            for row in made.params.rows()
        ]
        return {
            "key": record.key,
            "still": _source(augment.still(one).pictures()[0]),
            "draws": [{"src": _source(p), "numbers": n} for p, n in zip(made.pictures(), numbers, strict=True)],
        }


def _spread(records: list[Record]) -> list[Record]:
    """A few, evenly over the keys."""
    records = sorted(records, key=lambda r: r.key)
    places = np.linspace(0, len(records) - 1, min(PICTURES, len(records))).round().astype(int)
    return [records[i] for i in places.tolist()]


def _source(picture: np.ndarray) -> str:
    """A picture as a data URL."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "WEBP", quality=90, method=0)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
