"""OUTs for the review page: one that a run made, and large ones that nobody ran."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import uvicorn

from lora_data.manifest import Record
from lora_data.review.board import Board
from lora_data.review.server import GRACE, HOST, make_app
from lora_data.store import encode_webp
from lora_data.table import NAME, write_table

TOKEN = "secret-of-this-test"


def synthetic(out: Path, records: Sequence[Record], side: int = 48) -> Path:
    """An OUT with these rows; every picture is the same one."""
    out.mkdir(parents=True, exist_ok=True)
    rgb = np.full((side, side, 3), 128, np.uint8)
    rgb[:, : side // 2] = (200, 60, 40)
    data = encode_webp(rgb, np.full((side, side), 255, np.uint8))
    for kind in ("before", "thumbs", "final"):
        folder = out / "cache" / kind
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{record.key}.webp" for record in records]
        for path in paths[:1]:
            path.write_bytes(data)
        for path in paths[1:]:
            os.link(paths[0], path)
    write_table(out / NAME, records)
    return out


def row(key: str, character: str = "character_00", **fields: object) -> Record:
    """A row with what the page shows of it."""
    cluster = int(character.rpartition("_")[2]) if character[-1].isdigit() else -1
    base = Record(source=f"{key}.png", key=key, character=character, cluster=cluster, brightness=120.0, quality=1.0)
    return base.replace(**fields)


@contextmanager
def served(board: Board) -> Generator[str]:
    """The page's address while it is served by a thread of this process."""
    import socket

    with socket.socket() as listening:
        listening.bind((HOST, 0))
        listening.listen(32)
        port = listening.getsockname()[1]
        config = uvicorn.Config(make_app(board, TOKEN, port), log_level="error", lifespan="off")
        config.timeout_graceful_shutdown = GRACE
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            yield f"http://{HOST}:{port}/{TOKEN}/"
        finally:
            server.should_exit = True
            thread.join()
