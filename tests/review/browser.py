"""A headless Chromium for the tests of the page."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

NEEDED = "LORA_DATA_NEED_BROWSER"
"""Set where a missing browser is a failure and not a reason to skip."""
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]


@contextmanager
def chromium() -> Generator[Browser]:
    """The system's Chromium; skips where there is none, unless it is needed."""
    found = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
    if found is None:
        if os.environ.get(NEEDED):
            pytest.fail("no Chromium is installed: apt-get install chromium")
        pytest.skip("no Chromium is installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def command(out: Path) -> Generator[str]:
    """`lora-data review` as a process of its own; yields the page's address."""
    words = [sys.executable, "-m", "lora_data", "review", str(out), "--no-browser"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found is not None, process.stderr.read()
        try:
            yield found[0]
        finally:
            process.terminate()


def shown(page: Page, address: str) -> Page:
    """The page, loaded; what goes wrong in it fails the test."""
    page.on("pageerror", lambda error: pytest.fail(f"the page's script failed: {error}"))
    page.goto(address)
    page.wait_for_selector(".tile")
    return page


def keys_shown(page: Page) -> list[str]:
    """The keys of the tiles, in their order; few enough that all are in the page."""
    said = page.locator(".tile").evaluate_all(
        "tiles => tiles.sort((a, b) => a.dataset.place - b.dataset.place).map(t => t.getAttribute('aria-label'))"
    )
    return [text.split(", ")[0] for text in said]


def press(page: Page, *keys: str) -> None:
    """Press keys one after the other on the contact sheet."""
    page.locator("#sheet").focus()
    for key in keys:
        page.keyboard.press(key)


def saved(page: Page, count: int) -> None:
    """Wait until as many decisions wait for the next run."""
    text = f"Saved · {count} decision{'s' if count != 1 else ''} for the next run" if count else "as the last run"
    page.wait_for_function("text => document.querySelector('#saved').textContent.includes(text)", arg=text)
