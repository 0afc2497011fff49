"""The review page as a person uses it, in a real browser."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Generator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from lora_data.cli import main
from lora_data.demo import make_film
from lora_data.manifest import Record
from lora_data.report import write_report
from lora_data.review.board import Board
from lora_data.review.file import NAME, read_decisions
from lora_data.shards import read_index
from lora_data.table import NAME as TABLE
from lora_data.table import read_table, write_table
from tests.models.networks import sharpening
from tests.review.browser import chromium, command, keys_shown, press, saved, shown
from tests.review.outs import row, served, synthetic

ROWS = [
    *(row(f"a{i}", quality=9.0 - i) for i in range(6)),
    *(row(f"b{i}", "character_01") for i in range(4)),
    row("c0", "unknown", status="rejected", stage="identity", reason="unknown", value=0.4, limit=0.5),
    row("c1", status="rejected", stage="filter", reason="blur", value=61.2, limit=80.0),
    row(
        "c2",
        status="duplicate",
        stage="deduplicate",
        reason="near_duplicate",
        duplicate_of="a0",
        value=0.99,
        limit=0.95,
    ),
    row("c3", "character_01", flagged="far_from_core", colour="applied", colour_hue_shift=0.5),
]


@pytest.fixture(scope="module")
def browser() -> Generator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def page(browser: Browser) -> Generator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    yield context.new_page()
    context.close()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return synthetic(tmp_path / "out", ROWS)


def chosen(page: Page, name: str) -> None:
    page.locator("#characters button", has_text=name).click()


def answered(page: Page, text: str) -> None:
    page.locator("#ask input").fill(text)
    page.keyboard.press("Enter")


def viewed(page: Page, name: str) -> None:
    page.locator("#views button", has_text=name).click()


def test_a_person_decides_and_the_next_run_does_it(tmp_path: Path, page: Page):
    film, out = tmp_path / "film", tmp_path / "run"
    make_film(film, instances=24, seed=0, workers=2)
    precompute = [
        *("precompute", str(film / "instances"), "--out", str(out), "--workers", "2"),
        *(
            "--set",
            "precompute.deblur.enabled=true",
            "--set",
            f"precompute.deblur.model={sharpening(tmp_path / 'n.pth')}",
        ),
        *("--set", "precompute.deblur.neighbour_frames=0", "--set", "precompute.identity.min_cluster_size=2"),
        *("--set", "precompute.filter.edge_score=0", "--set", "precompute.filter.blur_threshold=0"),
    ]
    assert main(precompute) == 0
    before = {r.key: r for r in read_table(out / TABLE)}
    blurred = [key for key, r in before.items() if r.deblur == "proposed"]
    assert len(blurred) == 1
    was = (out / "cache" / "final" / f"{blurred[0]}.webp").read_bytes()
    members = [[r.key for r in before.values() if r.active and r.character == f"character_0{n}"] for n in range(3)]
    apart, rejected = members[1][-1], members[1][0]

    with command(out) as address:
        shown(page, address)
        chosen(page, "character_00")
        press(page, "n")
        answered(page, "luca")
        saved(page, 1)
        chosen(page, "character_02")
        press(page, "m")
        answered(page, "luca")
        saved(page, 2)
        chosen(page, "character_01")
        page.locator(f".tile[aria-label^='{apart},']").click()
        press(page, "s")
        answered(page, "giulia")
        saved(page, 3)
        page.locator(f".tile[aria-label^='{rejected},']").click()
        press(page, "x")
        saved(page, 4)
        other = keys_shown(page)[0]
        press(page, "Home", "x")
        saved(page, 5)
        press(page, "z")
        saved(page, 4)
        assert other in keys_shown(page)
        chosen(page, "Everybody")
        viewed(page, "Deblur?")
        assert keys_shown(page) == blurred
        press(page, "Enter")
        expect(page.locator("#look .compare b")).to_have_text(["as it is", "deblurred"])
        page.locator("#look .enhancement", has_text="Deblurring").get_by_role("button", name="Accept").click()
        saved(page, 5)

    with command(out) as address:  # started again: it knows everything
        shown(page, address)
        saved(page, 5)
        chosen(page, "luca")
        assert set(keys_shown(page)) == {*members[0], *members[2]}

    assert main(precompute) == 0
    after = {r.key: r for r in read_table(out / TABLE)}
    assert {after[key].character for key in (*members[0], *members[2])} == {"luca"}
    assert after[apart].character == "giulia"
    assert (after[rejected].status, after[rejected].reason) == ("rejected", "person")
    assert after[other].active
    assert (after[blurred[0]].deblur, after[blurred[0]].deblur_review) == ("applied", "accept")
    index = {s.key: s.character for s in read_index(out / "shards").samples}
    assert rejected not in index
    assert index[apart] == "giulia"
    assert index[blurred[0]] == "luca" if blurred[0] in (*members[0], *members[2]) else True
    assert (out / "cache" / "final" / f"{blurred[0]}.webp").read_bytes() != was
    with command(out) as address:
        shown(page, address)
        saved(page, 0)


def test_keys_move_and_select(out: Path, page: Page):
    with served(Board(out)) as address:
        shown(page, address)
        assert keys_shown(page) == [r.key for r in ROWS if r.active]
        press(page, "ArrowRight", "Shift+ArrowRight", "Shift+ArrowRight")
        expect(page.locator(".tile[aria-selected=true]")).to_have_count(3)
        expect(page.locator(".how-many")).to_have_text("3 selected")
        press(page, "Escape")
        expect(page.locator(".tile[aria-selected=true]")).to_have_count(0)
        press(page, "Home", " ", "End", " ")
        expect(page.locator(".tile[aria-selected=true]")).to_have_count(2)
        press(page, "a", "x")
        saved(page, 1)
        expect(page.locator("#empty")).to_be_visible()
        [decision] = read_decisions(out / NAME)
        assert set(decision.instances) == {r.key for r in ROWS if r.active}
        press(page, "z")
        saved(page, 0)
        press(page, "Shift+Z")
        saved(page, 1)
        assert [d.do for d in read_decisions(out / NAME)] == ["reject", "undo", "reject"]


def test_number_keys_move_to_a_character(out: Path, page: Page):
    with served(Board(out)) as address:
        shown(page, address)
        press(page, "2")
        saved(page, 1)
        [decision] = read_decisions(out / NAME)
        assert (decision.do, decision.instances, decision.character) == ("move", ("a0",), "character_01")
        chosen(page, "character_01")
        assert "a0" in keys_shown(page)


def test_what_was_rejected_comes_back_and_flags_are_cleared(out: Path, page: Page):
    with served(Board(out)) as address:
        shown(page, address)
        viewed(page, "Rejected")
        assert keys_shown(page) == ["c0", "c1"]
        press(page, "a", "k")
        saved(page, 1)
        viewed(page, "Flagged")
        assert keys_shown(page) == ["c3"]
        press(page, "k")
        expect(page.locator("#empty")).to_have_text("Nothing is flagged.")
        viewed(page, "Duplicates")
        press(page, "k")
        saved(page, 3)
        viewed(page, "Kept")
        assert {"c0", "c1", "c2", "c3"} <= set(keys_shown(page))


def test_a_finger_is_enough(out: Path, browser: Browser):
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = context.new_page()
    with served(Board(out)) as address:
        shown(page, address)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.locator("#select").tap()
        for key in ("a1", "a3"):
            page.locator(f".tile[aria-label^='{key},']").tap()
        expect(page.locator(".how-many")).to_have_text("2 selected")
        page.locator("#acts button", has_text="Reject").tap()
        saved(page, 1)
        assert set(read_decisions(out / NAME)[0].instances) == {"a1", "a3"}
        page.locator("#undo").tap()
        saved(page, 0)
        page.locator("#select").tap()
        page.locator(".tile[aria-label^='a2,']").tap()
        page.locator("#acts button", has_text="Look").tap()
        expect(page.locator("#look-title")).to_have_text("a2")
    context.close()


def test_training_is_told_with_a_live_preview(out: Path, page: Page):
    with served(Board(out)) as address:
        shown(page, address)
        chosen(page, "character_00")
        press(page, "p")
        expect(page.locator(".draw-row")).to_have_count(3, timeout=60_000)
        first = page.locator(".draw-row img").nth(1).get_attribute("src")
        page.get_by_label("Turn").fill("0")
        expect(page.locator(".draw-row figcaption").nth(1)).to_contain_text("turn 0.0°")
        assert page.locator(".draw-row img").nth(1).get_attribute("src") != first
        flip = page.get_by_label("Flipped share")
        expect(flip).to_be_disabled()
        page.get_by_label("Its design has no left and right").check()
        flip.fill("0.5")
        expect(page.locator(".draw-row figcaption", has_text="flipped").first).to_be_visible()
        page.get_by_role("button", name="Save").click()
        saved(page, 2)
    told = read_decisions(out / NAME)
    assert [(d.do, d.symmetric, d.augment) for d in told] == [
        ("symmetric", True, None),
        ("augment", None, {"rotation": [0, 0], "horizontal_flip": 0.5}),
    ]


def test_only_what_is_in_sight_is_in_the_page(tmp_path: Path, page: Page):
    rows = [row(f"k{i:05d}", f"character_{i % 12:02d}") for i in range(20_000)]
    out = synthetic(tmp_path / "large", rows)
    with served(Board(out)) as address:
        shown(page, address)
        assert page.locator(".tile").count() < 150
        press(page, "End")
        expect(page.locator(".tile.cursor")).to_have_attribute("aria-posinset", "20000")
        assert page.locator(".tile").count() < 150
        assert page.locator("*").count() < 1500
        press(page, "x")
        saved(page, 1)
        expect(page.locator(".tile.cursor")).to_have_attribute("aria-setsize", "19999")


def test_two_pages_see_each_other_s_decisions(out: Path, browser: Browser):
    context = browser.new_context()
    with served(Board(out)) as address:
        one, two = (shown(context.new_page(), address) for _ in range(2))
        press(one, "x")
        press(two, "End", "x")
        saved(one, 2)
        saved(two, 2)
        assert [d.instances for d in read_decisions(out / NAME)] == [("a0",), ("c3",)]
        press(one, "z")  # its own, not the last one
        saved(two, 1)
        assert [d.of for d in read_decisions(out / NAME)][-1] == read_decisions(out / NAME)[0].identifier
        assert "a0" in keys_shown(two)
    context.close()


def test_a_new_run_meanwhile_is_shown(out: Path, page: Page):
    with served(Board(out)) as address:
        shown(page, address)
        press(page, "x")
        saved(page, 1)
        rows = [r for r in read_table(out / TABLE) if r.key != "a5"]
        synthetic(out, [])
        write_table(out / TABLE, [*rows, row("d0", "character_02"), row("d1", "character_02")])
        page.locator("#characters button", has_text="character_02").wait_for()
        assert "a5" not in keys_shown(page)
        assert "a0" not in keys_shown(page)  # decided before the run ended: it still stands
        press(page, "x")
        saved(page, 2)
        assert len(read_decisions(out / NAME)) == 2


def test_a_file_edited_by_hand_meanwhile(out: Path, page: Page):
    with served(Board(out)) as address:
        shown(page, address)
        press(page, "x")
        saved(page, 1)
        text = (out / NAME).read_text()
        (out / NAME).write_text(text + '\n[[decision]]\ndo = "reject"\ninstances = ["a1"]\n')
        saved(page, 2)
        assert "a1" not in keys_shown(page)
        (out / NAME).write_text(text + "\n[[decision]]\ndo = rej")
        expect(page.locator("#banner")).to_contain_text("is not TOML")
        press(page, "x")
        expect(page.locator("#saved")).to_have_text("1 decision not saved")
        assert (out / NAME).read_text() == text + "\n[[decision]]\ndo = rej"
        page.reload()  # not even that loses it
        expect(page.locator("#saved")).to_have_text("1 decision not saved")
        (out / NAME).write_text(text)
        expect(page.locator("#banner")).not_to_contain_text("Until that is mended")
        page.get_by_role("button", name="Try again").click()
        saved(page, 2)
        assert len(read_decisions(out / NAME)) == 2


def test_a_folder_that_cannot_be_written(out: Path, page: Page, monkeypatch: pytest.MonkeyPatch):
    def refuse(descriptor: int) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with served(Board(out)) as address:
        shown(page, address)
        with monkeypatch.context() as patch:
            patch.setattr("lora_data.review.file._lock", refuse)
            press(page, "x")
            expect(page.locator("#banner")).to_contain_text("cannot be written: Read-only file system")
            expect(page.locator("#saved")).to_have_text("1 decision not saved")
        page.get_by_role("button", name="Try again").click()
        saved(page, 1)
        expect(page.locator("#banner")).to_be_hidden()


def test_a_server_that_ended_is_said_and_nothing_is_lost(out: Path, page: Page):
    with command(out) as address:  # a process: a thread that ended can leave a connection open that nobody answers
        shown(page, address)
    press(page, "x")
    expect(page.locator("#banner")).to_contain_text("does not answer")
    expect(page.locator("#saved")).to_have_text("1 decision not saved")


def test_a_script_in_a_caption_or_a_name_does_nothing(tmp_path: Path, page: Page):
    evil = "<img src=x onerror=\"document.title='hacked'\"><script>document.title='hacked'</script>"
    rows = [row("a0", evil, caption=evil, source=f"{evil}.png"), row("a1")]
    out = synthetic(tmp_path / "out", [Record(**{f: getattr(r, f) for f in r.__slots__}) for r in rows])
    with served(Board(out)) as address:
        shown(page, address)
        expect(page.locator("#inspector .numbers")).to_contain_text(evil)
        press(page, "Enter")
        expect(page.locator("#look-title")).to_have_text("a0")
        page.keyboard.press("Escape")
        chosen(page, "<img")
        press(page, "m")
        answered(page, "character_00")
        saved(page, 1)
        assert "hacked" not in page.title()
        assert page.locator("#inspector script, nav img[src=x]").count() == 0


def test_the_report_is_one_click_away(out: Path, page: Page):
    write_report(out)
    with served(Board(out)) as address:
        shown(page, address)
        with page.context.expect_page() as opened:
            page.get_by_role("link", name="Report").click()
        report = opened.value
        report.wait_for_load_state()
        assert report.evaluate("getComputedStyle(document.body).marginTop") == "0px"  # its style is let in
        order = report.locator(".sort").first
        expect(order).to_be_visible()  # and so is its script


def test_everything_has_a_name_for_a_screen_reader(out: Path, page: Page):
    with served(Board(out)) as address:
        shown(page, address)
        nameless = page.evaluate(
            """() => [...document.querySelectorAll('button, input, select, [role=listbox], [role=option], nav, dialog')]
            .filter(e => !(e.textContent.trim() || e.getAttribute('aria-label') || e.getAttribute('aria-labelledby')
                           || (e.labels && e.labels.length)))
            .map(e => e.outerHTML)"""
        )
        assert nameless == []
        expect(page.get_by_role("listbox", name="Pictures")).to_have_attribute("aria-activedescendant", "tile-0")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.tagName") != "BODY"


@pytest.fixture(autouse=True)
def no_leftovers(tmp_path: Path) -> Generator[None]:
    yield
    shutil.rmtree(tmp_path / "large", ignore_errors=True)
