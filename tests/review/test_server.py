from __future__ import annotations

import http.client
import json
from collections.abc import Generator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from lora_data.review.board import Board
from lora_data.review.file import NAME, read_decisions
from tests.review.outs import TOKEN, row, served, synthetic

ROWS = [row("a0"), row("a1"), row("b0", "character_01"), row("b1", "character_01")]
REJECT = {"id": "0" * 12, "do": "reject", "instances": ["a0"], "since": 0}


@pytest.fixture
def page(tmp_path: Path) -> Generator[tuple[Path, str]]:
    out = synthetic(tmp_path / "out", ROWS)
    with served(Board(out)) as address:
        yield out, address


def ask(
    address: str, path: str, body: object = None, headers: dict[str, str] | None = None, *, token: str = TOKEN
) -> tuple[int, Any, dict[str, str]]:
    """A request as it is, without a client that tidies up its path."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 0, timeout=30)
    sent = {"Origin": f"http://{parts.netloc}", "Content-Type": "application/json"} if body is not None else {}
    sent |= headers or {}
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request("GET" if body is None else "POST", f"/{token}/{path}", data, sent)
    answer = connection.getresponse()
    content = answer.read()
    found = {name.lower(): value for name, value in answer.getheaders()}
    connection.close()
    return answer.status, json.loads(content) if "json" in found.get("content-type", "") else content, found


def test_the_page_and_its_parts_are_there(page: tuple[Path, str]):
    _, address = page
    for name, media in (("", "text/html"), ("app.js", "text/javascript"), ("review.css", "text/css")):
        status, content, headers = ask(address, name)
        assert status == 200
        assert headers["content-type"].startswith(media)
        assert content
        assert "script-src 'self'" in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
    status, state, _ = ask(address, "api/state")
    assert status == 200
    assert [r[0] for r in state["rows"]] == ["a0", "a1", "b0", "b1"]
    status, picture, headers = ask(address, "picture/thumbs/a0.webp")
    assert status == 200
    assert picture[:4] == b"RIFF"
    assert headers["content-type"] == "image/webp"


def test_a_decision_is_in_the_file_before_the_answer(page: tuple[Path, str]):
    out, address = page
    status, answer, _ = ask(address, "api/decide", REJECT)
    assert status == 200
    [decision] = read_decisions(out / NAME)
    assert (decision.do, decision.instances) == ("reject", ("a0",))
    assert [place for place, _ in answer["rows"]] == [0]
    assert answer["version"] == 1
    # a page that did not hear the answer asks again
    status, _, _ = ask(address, "api/decide", REJECT)
    assert status == 200
    assert len(read_decisions(out / NAME)) == 1


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1", "http://127.0.0.1:1", ""])
def test_a_foreign_page_cannot_write(page: tuple[Path, str], origin: str):
    out, address = page
    status, answer, _ = ask(address, "api/decide", REJECT, {"Origin": origin})
    assert status == 403
    assert "must come from this page" in answer["error"]
    assert not (out / NAME).exists()


def test_a_form_cannot_write(page: tuple[Path, str]):
    out, address = page
    status, answer, _ = ask(address, "api/decide", REJECT, {"Content-Type": "text/plain"})
    assert status == 403
    assert "must be JSON" in answer["error"]
    assert not (out / NAME).exists()


@pytest.mark.parametrize("token", ["", "x", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "%00", "%C3%A9"])
@pytest.mark.parametrize("path", ["", "api/state", "picture/thumbs/a0.webp", "app.js", "report/index.html"])
def test_without_the_token_there_is_nothing(page: tuple[Path, str], token: str, path: str):
    out, address = page
    status, answer, _ = ask(address, path, token=token)
    assert status == 403
    assert "secret" in answer["error"]
    status, answer, _ = ask(address, "api/decide", REJECT, token="guess")
    assert status == 403
    assert not (out / NAME).exists()


def test_another_name_for_this_address_is_refused(page: tuple[Path, str]):
    _, address = page
    status, answer, _ = ask(address, "api/state", headers={"Host": "rebound.example:80"})
    assert status == 403
    assert "rebound.example" in answer["error"]


@pytest.mark.parametrize(
    "path",
    [
        "picture/thumbs/../../review.toml",
        "picture/thumbs/..%2f..%2freview.toml",
        "picture/thumbs/%2e%2e/secret.webp",
        "picture/../secret.webp",
        "picture/thumbs/..%5csecret.webp",
        "picture/thumbs/secret.webp",
        "picture/nothing/a0.webp",
        "picture/thumbs//etc/passwd.webp",
        "../etc/passwd",
        "report/../cache/thumbs/a0.webp",
        "report/..%2finstances.parquet",
        "server.py",
        "page/index.html",
    ],
)
def test_no_path_leads_out(page: tuple[Path, str], path: str):
    out, address = page
    (out / "report").mkdir()
    (out / "cache" / "secret.webp").write_bytes(b"secret")
    (out / "cache" / "thumbs" / "secret.webp").write_bytes(b"secret")  # no row is called that
    status, content, _ = ask(address, path)
    assert status in (403, 404)
    assert b"secret" not in (content if isinstance(content, bytes) else b"")


def test_a_link_out_of_the_cache_is_not_followed(page: tuple[Path, str], tmp_path: Path):
    out, address = page
    (tmp_path / "private.webp").write_bytes(b"private")
    path = out / "cache" / "thumbs" / "a1.webp"
    path.unlink()
    path.symlink_to(tmp_path / "private.webp")
    assert ask(address, "picture/thumbs/a1.webp")[0] == 404


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"{", 400, "not JSON"),
        (b"[" * 100_000, 400, "not JSON"),
        ([], 400, "since must be"),
        ({"do": "reject", "instances": ["a0"]}, 400, "since must be"),
        (REJECT | {"do": "dance"}, 409, "do must be one of"),
        (REJECT | {"instances": ["nobody"]}, 409, "has no instances nobody"),
        (REJECT | {"instances": "a0"}, 409, "must be a list of texts"),
        (REJECT | {"path": "/etc/passwd"}, 409, "is not a key"),
        ({"do": "undo", "of": "f" * 12, "since": 0}, 409, "no decision"),
        ({"do": "symmetric", "character": "nobody", "since": 0}, 409, "nobody is called"),
        ({"do": "augment", "character": "character_00", "augment": {"hue": 0.1}, "since": 0}, 409, "PBR"),
        (
            {"do": "augment", "character": "character_00", "augment": {"horizontal_flip": 0.5}, "since": 0},
            *(409, "asymmetric design"),
        ),
        (
            {"do": "augment", "character": "character_00", "augment": {"rotation": [-90, 90]}, "since": 0},
            *(409, "rotation must be"),
        ),
        ({"do": "move", "instances": ["a0"], "character": "\ud800", "since": 0}, 409, "lone surrogate"),
    ],
)
def test_what_cannot_be_decided_is_said_and_not_written(
    page: tuple[Path, str], body: object, status: int, message: str
):
    out, address = page
    found, answer, _ = ask(address, "api/decide", body)
    assert found == status
    assert message in answer["error"]
    assert not (out / NAME).exists() or not read_decisions(out / NAME)


def test_a_request_has_a_limit(page: tuple[Path, str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lora_data.review.server.MOST", 100)
    assert ask(page[1], "api/decide", REJECT | {"instances": ["a0"] * 50})[0] == 413


def test_the_address_is_this_machine_s_own(page: tuple[Path, str]):
    assert urlsplit(page[1]).hostname == "127.0.0.1"


def test_the_preview_is_the_training_s_own(page: tuple[Path, str]):
    _, address = page
    status, answer, _ = ask(address, "api/draw", {"character": "character_00", "augment": {"rotation": [0, 0]}})
    assert status == 200
    assert [r["key"] for r in answer["rows"]] == ["a0", "a1"]
    assert len(answer["rows"][0]["draws"]) == 4
    assert all(d["turn"] == 0 for r in answer["rows"] for d in r["draws"])
    assert answer["policy"]["rotation"] == [0, 0]
    assert answer["configured"]["rotation"] == [-5, 5]
    status, answer, _ = ask(address, "api/draw", {"character": "character_00", "augment": {"rotation": [0, 9]}})
    assert status == 409
    assert "rotation must be" in answer["error"]
