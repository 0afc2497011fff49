"""The server of the review page: this machine's own address only, one secret in the address, no write from elsewhere.

What another page in the same browser, or another program's user, must not do:
- find the page: every path begins with a random token of this start, and a request whose ``Host`` is not this address
  (a name that was made to point here) is refused;
- write: a request that changes something must say that it comes from this very page (``Origin``) and be JSON;
- read files: pictures are asked for by kind and key, which are looked up, and must lie in ``OUT/cache``;
- run anything: the page's script and style are files of this package, and the policy it is sent with allows no others.

Built on Starlette and uvicorn.
"""

from __future__ import annotations

import hmac
import json
import secrets
import socket
from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lora_data.errors import ConfigError, LoraDataError, RunError
from lora_data.review.board import KINDS, Board
from lora_data.review.draws import Draws
from lora_data.review.file import parse_decision

HOST = "127.0.0.1"
GRACE = 3
"""Seconds that answers on their way have when the server ends: a page that stays open asks on and would hold it up."""
MOST = 16 * 2**20
"""Bytes of a request: a decision about 100,000 instances has 5 MB."""

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_REPORT = {
    # its style is inline, and so is its one script, which the page's own policy allows by its hash and no other
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
}
_PAGE = {"index.html": "text/html", "review.css": "text/css"}


def make_app(board: Board, token: str, port: int) -> ASGIApp:
    """The application.

    Args:
        board: What is shown.
        token: First part of every path.
        port: On which it will listen; a part of the addresses that are let in.
    """
    draws = Draws(board)

    async def state(_: Request) -> Response:
        return await _json(board.state)

    async def changes(request: Request) -> Response:
        text = request.query_params.get("since", "")
        if not text.isdigit():
            raise HTTPException(400, f"since must be a whole number, got {text!r}")
        return await _json(lambda: board.changes(int(text)))

    async def decide(request: Request) -> Response:
        body = await _body(request)
        since = body.pop("since", None) if isinstance(body, dict) else None
        if not isinstance(since, int):
            raise HTTPException(400, f"since must be a whole number, got {since!r}")

        def act() -> dict[str, object]:
            board.decide(parse_decision(body, "the decision"))
            return board.changes(since)

        return await _json(act)

    async def details(request: Request) -> Response:
        found = await run_in_threadpool(board.details, request.path_params["key"])
        if found is None:
            raise HTTPException(404, "the table has no such instance")
        return JSONResponse(found)

    async def picture(request: Request) -> Response:
        kind, key = request.path_params["kind"], request.path_params["key"]
        path = board.picture(kind, key) if kind in KINDS else None
        if path is None:
            raise HTTPException(404, "no such picture")
        # the address has the run's own mark, so that a picture of it never changes
        return FileResponse(path, media_type="image/webp", headers={"Cache-Control": "private, max-age=86400"})

    async def draw(request: Request) -> Response:
        body = await _body(request)
        return await _json(lambda: draws.draw(body))

    routes = [
        Route("/api/state", state),
        Route("/api/changes", changes),
        Route("/api/decide", decide, methods=["POST"]),
        Route("/api/draw", draw, methods=["POST"]),
        Route("/api/instance/{key}", details),
        Route("/picture/{kind}/{key}.webp", picture),
        *[Route(f"/{name}", _page(name, media)) for name, media in _PAGE.items()],
        *[Route(f"/{path.name}", _page(path.name, "text/javascript")) for path in _scripts()],
        Route("/", _page("index.html", "text/html")),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _refused})
    if (board.out / "report").is_dir():
        app.mount("/report", StaticFiles(directory=board.out / "report", html=True))
    return _Guard(app, token, {f"{name}:{port}" for name in (HOST, "localhost")})


def serve(out: Path, port: int, opened: Callable[[str], None]) -> None:
    """Serve the page until somebody stops it (Ctrl-C).

    Args:
        out: OUT.
        port: Where to listen; 0: a free one.
        opened: Called with the page's address as soon as it answers.

    Raises:
        RunError: OUT has no table, or the port is taken.
        ConfigError: ``review.toml`` is not valid.
    """
    board = Board(out)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, port))
        except OSError as error:
            raise RunError(
                f"port {port} of {HOST} cannot be used: {error.strerror}; --port 0 takes a free one"
            ) from None
        listening.listen(64)
        port = int(listening.getsockname()[1])
        token = secrets.token_urlsafe(24)
        config = uvicorn.Config(
            make_app(board, token, port),
            log_level="critical",  # below it uvicorn complains of the pages that it leaves when it ends
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=GRACE,
        )
        # the socket listens already: whoever opens the address now waits for the answer
        opened(f"http://{HOST}:{port}/{token}/")
        uvicorn.Server(config).run(sockets=[listening])


class _Guard:
    """Lets in what has the token and comes for this address; a write also from this page alone."""

    def __init__(self, app: ASGIApp, token: str, hosts: set[str]) -> None:
        self._app, self._token, self._hosts = app, token, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope)
        refusal = self._refusal(request)
        if refusal is not None:
            await JSONResponse({"error": refusal}, 403)(scope, receive, _with_headers(send, _HEADERS))
            return
        inner = dict(scope)
        # Starlette's own way to say: this application is mounted below that path
        inner["root_path"] = scope.get("root_path", "") + f"/{self._token}"
        report = scope["path"].startswith(f"/{self._token}/report/")
        await self._app(inner, receive, _with_headers(send, _HEADERS | _REPORT if report else _HEADERS))

    def _refusal(self, request: Request) -> str | None:
        host = request.headers.get("host", "")
        if host not in self._hosts:
            return f"this page is at {HOST} only, not at {host!r}"
        first, _, rest = request.scope["path"].removeprefix("/").partition("/")
        if not hmac.compare_digest(first.encode("utf-8", "replace"), self._token.encode()):
            return "the address lacks its secret part: open the one that `lora-data review` printed last"
        if ".." in rest.split("/") or "\\" in rest or "\0" in rest:
            return "a path without '..' is wanted"
        if request.method not in ("GET", "HEAD"):
            if request.headers.get("origin") not in {f"http://{host}" for host in self._hosts}:
                return f"a write must come from this page, not from {request.headers.get('origin')!r}"
            if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
                return "a write must be JSON"
        return None


def _with_headers(send: Send, wanted: Mapping[str, str]) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in wanted.items():
                headers.setdefault(name, value)
        await send(message)

    return sent


def _page(name: str, media: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(_: Request) -> Response:
        data = files("lora_data.review").joinpath(f"page/{name}").read_bytes()
        return Response(data, media_type=media)

    return answer


def _scripts() -> list[Path]:
    folder = files("lora_data.review").joinpath("page")
    return sorted(Path(entry.name) for entry in folder.iterdir() if entry.name.endswith(".js"))


async def _body(request: Request) -> object:
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > MOST:
            raise HTTPException(413, f"a request may have {MOST} bytes")
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise HTTPException(400, "the request is not JSON") from None


async def _json(work: Callable[[], dict[str, object]]) -> Response:
    """What a function gives as JSON; what it cannot do, as a sentence."""
    try:
        found = await run_in_threadpool(work)
    except ConfigError as error:
        return JSONResponse({"error": str(error)}, 409)
    except LoraDataError as error:
        return JSONResponse({"error": str(error)}, 507)
    return JSONResponse(found)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code)
