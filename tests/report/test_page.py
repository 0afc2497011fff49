"""The static report: complete, self-contained, harmless whatever the names are, and the same bytes every time."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lora_data.errors import RunError
from lora_data.manifest import Record
from lora_data.report import write_report
from lora_data.table import write_table
from tests.report.outs import HOSTILE, RUN, Made, Page, duplicate, measured, some_records


def test_every_row_is_accounted_for(made: Made):
    records = some_records()
    page = Page(write_report(made(records)))
    counted: Counter[str] = Counter()
    for _, attributes in page.tags:
        if attributes.get("data-status"):
            counted[attributes["data-status"] or ""] += int(attributes["data-count"] or 0)
    assert counted == Counter(r.status for r in records)
    for record in records:
        assert record.key in page.text or record.source in page.text, record.key


def test_mirror_images_are_pointed_at(made: Made):
    text = " ".join(Page(write_report(made(some_records()))).text.split())
    assert "1kept, though mirror images of another kept one" in text.replace("1 kept", "1kept")
    assert "mirror image of k000" in text
    alone = [r for r in some_records() if r.key != "k000"]
    assert "though mirror images" not in Page(write_report(made(alone, name="alone"))).text


def test_every_picture_is_beside_the_page(made: Made):
    path = write_report(made(some_records()))
    pictures = Page(path).pictures()
    assert len(pictures) > 180
    for url in pictures:
        assert url.startswith("thumbs/")
        assert ".." not in url
        assert (path.parent / url).is_file()
    there = {p.relative_to(path.parent).as_posix() for p in path.parent.rglob("*.webp")}
    assert there == set(pictures), "only what is shown is copied"


def test_a_character_says_how_many_what_next_and_whom_it_is_like(made: Made):
    def one(key: str, character: str, turn: float, **fields: object) -> Record:
        return measured(
            key, character=character, embedding=np.array([math.cos(turn), math.sin(turn)], np.float32)
        ).replace(faces=1, **fields)

    records = [
        *(one(f"l{i:03}", "luca", 0.0, view="left", look=HOSTILE) for i in range(200)),
        one("m", "luca", 0.0, view="front", look="coat"),
        *(one(f"h{i}", HOSTILE, 1.5) for i in range(3)),
        one("s", "luca", 0.1).decide("surplus", "select", "crowded", 0.1, 0.2, surplus_to="l007"),
    ]
    text = Page(write_report(made(records))).text
    assert "200 to 300 wanted · augment" in text
    assert "200 to 300 wanted · collect more" in text
    assert f"nearest other character {HOSTILE}, margin {1 - math.cos(1.5):+.3f}" in text
    assert f"{HOSTILE} 200, coat 1" in text
    assert "front 1left 200right 0no face 0" in text
    assert "nearest kept     l007" in text
    assert "distance to it   0.1 < 0.2" in text


def test_images_are_lazy(made: Made):
    page = Page(write_report(made(some_records())))
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert images
    assert all(i["loading"] == "lazy" and i["decoding"] == "async" and "alt" in i for i in images)


def test_hostile_texts_stay_texts(made: Made):
    page = Page(write_report(made(some_records())))
    assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on")]
    assert page.text.count(HOSTILE) >= 3  # character, source, message: shown as they are
    assert "a <b>film</b>" in page.text
    assert set(page.values("src")) <= set(page.pictures())


def test_only_the_page_s_own_script_may_run(made: Made):
    page = Page(write_report(made(some_records())))
    assert [tag for tag, _ in page.tags].count("script") == 1
    (script,) = re.findall(r"<script>(.*?)</script>", page.html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policies = [a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == [f"script-src 'sha256-{digest}'; object-src 'none'; base-uri 'none'; form-action 'none'"]


def test_pairs_carry_what_they_are_sorted_by(made: Made):
    """The largest gain comes first without a script; the buttons are hidden until the script shows them."""
    gains = {"a": 1.5, "b": 3.0, "c": None, "d": 2.0}
    records = [
        measured(key, upscale="applied", upscale_gain=gain, upscale_hue_shift=0.1 * i)
        for i, (key, gain) in enumerate(gains.items())
    ]
    records[3] = records[3].decide("surplus", "select", "crowded", 0.1, 0.2)
    page = Page(write_report(made(records)))
    cards = [a for tag, a in page.tags if tag == "figure" and "data-name" in a]
    assert [c["data-name"] for c in cards] == ["b", "d", "a", "c"]
    assert [c.get("data-gain") for c in cards] == ["3", "2", "1.5", None]
    buttons = [a for tag, a in page.tags if tag == "button"]
    assert [(b["data-by"], b["aria-pressed"]) for b in buttons] == [
        ("gain", "true"),
        ("hue", "false"),
        ("name", "false"),
    ]
    (bar,) = (a for _, a in page.tags if a.get("class") == "sort")
    assert "hidden" in bar
    assert bar["aria-label"] == "Order of Super-resolution"
    assert "3× sharper" in page.text


def test_what_waits_shows_what_it_proposes(made: Made):
    out = made([measured("a", deblur="proposed", deblur_reason="motion"), measured("b", deblur="proposed")])
    (out / "cache" / "accepted").mkdir()
    Image.fromarray(np.full((700, 500, 4), 200, np.uint8)).save(out / "cache" / "accepted" / "a.webp", lossless=True)
    path = write_report(out)
    page = Page(path)
    assert "thumbs/proposed/a.webp" in page.pictures()
    assert "thumbs/proposed/b.webp" not in page.pictures()
    with Image.open(path.parent / "thumbs" / "proposed" / "a.webp") as small:
        assert max(small.size) == 192
    assert "motion blur is proved" in page.text


def test_copies_say_both_distances(made: Made):
    kept = measured("k", phash=0b1100)
    copies = [
        duplicate("d", 0.97).replace(duplicate_of="k", phash=0b0101),
        duplicate("e", 0.96).replace(duplicate_of="k"),
    ]
    run = {**RUN, "config": {"precompute": {"deduplicate": {"phash_threshold": 8}}}}
    text = Page(write_report(made([kept, *copies], run))).text
    assert "0.97 ≥ 0.95hash 2 bits" in text
    assert "0.96 ≥ 0.95e" in text, "an older table has no hash: then none is said"
    assert "hashes differ (at most 8)" in text


def test_a_dot_leads_to_its_tile(made: Made):
    rng = np.random.default_rng(0)
    records = [
        measured(f"k{i}", character=HOSTILE if i % 2 else "luca", embedding=rng.normal(size=8).astype(np.float32))
        for i in range(12)
    ]
    path = write_report(made(records))
    page = Page(path)
    links = [a["href"] for tag, a in page.tags if tag == "a" and (a["href"] or "").startswith("#t-")]
    assert {f"#t-k{i}" for i in range(12)} <= set(links)
    assert "A dot is a kept picture" in page.text
    assert write_report(path.parent.parent).read_text() == page.html


def test_passes_say_what_came_from_the_cache(made: Made):
    passes: list[dict[str, object]] = [
        {"name": "read + matte", "seconds": 1.0, "instances": 9, "cached": 7},
        {"name": "filter", "seconds": 0.1},
    ]
    text = Page(write_report(made([measured("a")], {**RUN, "passes": passes}))).text
    assert "From the cache" in text
    assert "Read + Matte971.0" in text
    assert "GPU, MB" not in text
    passes[1] |= {"instances": 8, "per_second": 81.25, "gpu_megabytes": 1234}
    text = Page(write_report(made([measured("a")], {**RUN, "passes": passes}, name="gpu"))).text
    assert "Inputs" in text
    assert "A second" in text
    assert "Filter80.181.21" in text.replace("\u202f", "").replace(",", "")
    assert "From the cache" not in Page(write_report(made([measured("a")], name="plain"))).text


def test_the_page_says_where_to_act(made: Made):
    page = Page(write_report(made([measured("a", reviewed="restore")])))
    assert "lora-data review OUT" in page.text
    assert "Said so far: 1 restored." in page.text


def test_nothing_outside_is_asked_for(made: Made):
    page = Page(write_report(made(some_records())))
    assert "http" not in page.html.replace("http-equiv", "")
    assert "@import" not in page.html
    assert not {"link", "iframe", "object", "form"} & {tag for tag, _ in page.tags}
    for url in page.values("href"):
        assert url.startswith("#")
        assert url[1:] in page.values("id"), f"{url} leads nowhere"
    assert len(page.values("id")) == len(set(page.values("id")))


def test_same_out_same_bytes(made: Made):
    out = made(some_records())
    first = write_report(out).read_bytes()
    assert write_report(out).read_bytes() == first
    assert {p.name for p in (out / "report").iterdir()} == {"index.html", "thumbs"}, "nothing temporary stays"
    moved = out.rename(out.with_name("moved"))
    assert write_report(moved).read_bytes() == first, "the folder's name and place do not matter"


def test_a_picture_that_left_leaves_the_report(made: Made):
    out = made(some_records())
    write_report(out)
    (out / "cache" / "thumbs" / "k000.webp").unlink()
    write_report(out)
    assert not (out / "report" / "thumbs" / "after" / "k000.webp").exists()


@pytest.mark.parametrize("key", [None, *RUN])
def test_a_missing_key_of_the_run_is_no_matter(made: Made, key: str | None):
    run = None if key is None else {k: v for k, v in RUN.items() if k != key}
    assert "kept" in Page(write_report(made(some_records()[-12:], run))).text


@pytest.mark.parametrize("value", [None, 3, "text", [], {}, [None], [{}], {"precompute": None}])
def test_a_key_of_another_kind_is_no_matter(made: Made, value: object):
    assert "kept" in Page(write_report(made([measured("a")], dict.fromkeys(RUN, value)))).text


def test_an_empty_run(made: Made):
    page = Page(write_report(made([])))
    assert "The input held no pictures" in page.text
    assert "Nothing was rejected" in page.text


def test_an_older_table_will_do(tmp_path: Path):
    table = pa.table({"source": ["a.png", "b.png"], "key": ["a", "b"], "brightness": [math.nan, 40.0], "gone": [1, 2]})
    pq.write_table(table, tmp_path / "instances.parquet")
    assert "2 inputs" in Page(write_report(tmp_path)).text


def test_no_run_is_an_error(tmp_path: Path):
    with pytest.raises(RunError, match=r"no instances\.parquet"):
        write_report(tmp_path)
    pq.write_table(pa.table({"x": [1]}), tmp_path / "instances.parquet")
    with pytest.raises(RunError, match="no table of lora_data"):
        write_report(tmp_path)
    write_table(tmp_path / "instances.parquet", [])
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(RunError, match="not JSON"):
        write_report(tmp_path)


def test_what_was_left_out_and_how_to_turn_it_on(made: Made):
    text = Page(write_report(made(some_records()))).text
    assert "Super-resolution" in text
    assert "needs a network" in text
    assert "lora-data models pull" in text
    assert "None" not in text


def test_rejected_without_any_picture_are_lines(made: Made):
    parts = [Record(source=f"f.json#{i}", key=f"f{i}").decide("rejected", "ingest", "part", 1.0, 0.9) for i in range(3)]
    page = Page(write_report(made(parts)))
    assert page.values("class").count("line") == 3
    assert "nopic" not in page.values("class")


def test_every_character_has_its_own_quality_with_the_limits(made: Made):
    rows = [
        measured("a", character="ann", brightness=100.0),
        measured("b", character="bob", brightness=40.0),
        measured("c", character="bob", brightness=20.0).decide("rejected", "filter", "dark", 20.0, 30.0),
    ]
    out = made(rows)
    (out / "run.json").write_text('{"config": {"precompute": {"filter": {"brightness_range": [30, 220]}}}}')
    html = write_report(out).read_text()
    said = [
        f"Brightness: {n} measured, {k} kept, {r} rejected by this limit"
        for n, k, r in ((3, 2, 1), (1, 1, 0), (2, 1, 1))
    ]
    assert [html.count(text) for text in said] == [1, 1, 1]
    brightness = html.split("Brightness: 2 measured")[1].split("</svg>")[0]
    assert brightness.count('<path class="limit"') == 2
