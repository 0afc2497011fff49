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
from lora_data.evenly import evenly
from lora_data.manifest import Record
from lora_data.stages.write import face_of

if TYPE_CHECKING:
    from lora_data.augment import CharacterAugment
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
        from lora_data.augment import CharacterAugment

        kept = [r for r in self._board.records() if r.status == "kept" and r.character == character]
        shown = [r for r in evenly(kept, PICTURES) if self._board.picture("final", r.key) is not None]
        with self._one:
            # plain torch: nothing to compile before the first picture appears, and the same within one level
            augment = CharacterAugment(config, counts={character: len(kept)}, backend="eager")
            rows = [self._row(record, augment, epoch) for record in shown]
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

    def _row(self, record: Record, augment: CharacterAugment, epoch: int) -> dict[str, object]:
        from lora_data.augment import Batch
        from lora_data.draws import drawn, target_of
        from lora_data.shards import SampleEntry
        from lora_data.train.decode import decode_rgba

        path = self._board.picture("final", record.key)
        assert path is not None
        picture = decode_rgba(path.read_bytes(), str(path))
        height, width = picture.shape[:2]
        sample = SampleEntry(record.key, "", record.character, width, height, {}, face_of(record))
        one = Batch.of_one(picture, record.key, record.character, epoch=epoch, target=target_of(picture, SIDE))
        draws = drawn(sample, picture, augment, draws=DRAWS, side=SIDE, epoch=epoch)
        return {
            "key": record.key,
            "still": _source(augment.still(one).pictures()[0]),
            "draws": [
                {
                    "src": _source(draw.picture),
                    **{name: getattr(draw, name) for name in ("crop", "turn", "light", "contrast", "noise")},
                    "flipped": draw.flipped,
                    "missed": draw.missed,
                }
                for draw in draws
            ],
        }


def _source(picture: np.ndarray) -> str:
    """A picture as a data URL."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "WEBP", quality=90, method=0)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
