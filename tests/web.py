"""A web server on this machine for what is fetched: with byte ranges, and with faults on demand."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Faults:
    """What the server does wrong, and what it was asked for.

    Args:
        cut: The first so many answers break off after ``cut_after`` bytes.
        cut_after: Bytes.
        ranges: Whether byte ranges are obeyed.
    """

    def __init__(self, cut: int = 0, cut_after: int = 0, ranges: bool = True) -> None:
        self.cut, self.cut_after, self.ranges = cut, cut_after, ranges
        self.asked: list[tuple[str, str | None]] = []

    @property
    def names(self) -> list[str]:
        """The files that were asked for, in order."""
        return [name for name, _ in self.asked]


@contextmanager
def served(folder: Path, faults: Faults | None = None) -> Generator[str]:
    """Serve a folder; its URL."""
    plan = faults or Faults()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.lstrip("/")
            wanted = self.headers.get("Range")
            plan.asked.append((name.rpartition("/")[2], wanted))
            path = folder / name
            if not path.is_file():
                self.send_error(404)
                return
            data, start = path.read_bytes(), 0
            if wanted and plan.ranges:
                start = int(wanted.removeprefix("bytes=").rstrip("-"))
                if start >= len(data):
                    self.send_error(416)
                    return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            body = data[start:]
            if plan.cut > 0:
                plan.cut -= 1
                body = body[: plan.cut_after]
            self.wfile.write(body)

        def log_message(self, format: str, *_: Any) -> None:
            """Nothing on the terminal."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
