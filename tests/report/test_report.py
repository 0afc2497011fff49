"""The static report: complete, self-contained, harmless whatever the names are, and the same bytes every time."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lora_data.errors import RunError
from lora_data.manifest import Record
from lora_data.report import write_report
from lora_data.report.charts import Axis, flow_band, histogram
from lora_data.report.contents import families, flow, rejections, verdict
from lora_data.report.words import number
from lora_data.table import write_table

HOSTILE = "<script>alert('x')</script>\"'>&amp;<img src=x onerror=alert(1)>"
FILTER = {"blur_threshold": 80.0, "brightness_range": [30.0, 220.0], "saturation_range": [0.3, 2.0], "edge_score": 0.3}
RUN = {
    "lora_data": "0.1.0",
    "input": "/films/a <b>film</b>",
    "preset": "light",
    "seed": 0,
    "config": {"precompute": {"filter": FILTER, "select": {"target": [200, 300]}}},
    "skipped": [
        {"stage": "upscale", "why": "needs a network", "turn_on": "lora-data models pull"},
        {"stage": "deblur", "why": "needs a network", "turn_on": None},
    ],
    "ignored_files": ["Thumbs.db"],
    "versions": {"numpy": "2.0"},
    "models": [{"name": "net", "digest": "abc", "licence": "MIT"}],
    "passes": [{"name": "read + matte", "seconds": 1.25, "instances": 9}],
}

Made = Callable[..., Path]


def measured(key: str, **fields: object) -> Record:
    numbers = {
        "brightness": 120.0,
        "source_brightness": 110.0,
        "laplacian_variance": 400.0,
        "sharpness": 2.5,
        "edge_score": 0.5,
        "saturation_ratio": 1.0,
        "framing": "full",
        "width": 400,
        "height": 500,
    }
    return Record(source=f"{key}.png", key=key).replace(**{**numbers, **fields})


def duplicate(key: str, similarity: float) -> Record:
    return measured(key, character="luca").decide("duplicate", "deduplicate", "near_duplicate", similarity, 0.95)


def some_records() -> list[Record]:
    """Every status, every outcome, hostile texts, a duplicate of a key that is not there."""
    kept = [measured(f"k{i:03d}", character="luca", brightness=20.0 * (i % 12), frame=i) for i in range(90)]
    kept[3] = kept[3].replace(flagged="fragments", caption=HOSTILE)
    kept[4] = kept[4].replace(colour="taken_back", colour_reason="hue", colour_hue_shift=2.2)
    kept[6] = kept[6].replace(mirror_of="k000")
    kept[5] = kept[5].replace(colour="applied", colour_hue_shift=0.4, matte="applied", upscale="proposed")
    return [
        *kept,
        measured("h1", character=HOSTILE).replace(source=HOSTILE),
        measured("u1"),
        measured("d1", character="luca")
        .decide("duplicate", "deduplicate", "near_duplicate", 0.97, 0.95)
        .replace(duplicate_of="k000"),
        measured("d2").decide("duplicate", "deduplicate", "near_duplicate", 0.96, 0.95).replace(duplicate_of="gone"),
        measured("r1", laplacian_variance=79.99).decide("rejected", "filter", "blur", 79.99, 80.0),
        measured("r2", laplacian_variance=12.0).decide("rejected", "filter", "blur", 12.0, 80.0),
        measured("r3").decide("rejected", "identity", HOSTILE, None, None),
        measured("s1", character="luca").decide("surplus", "select", "crowded", 0.1, 0.2),
        Record(source="bad.png", key="e1").decide("error", "ingest", "damaged").replace(message=HOSTILE),
        Record(source="odd.png", key="../../e2").decide("error", "a later stage", "new_word"),
    ]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Make an OUT as a run leaves it."""

    def make(records: list[Record], run: object = RUN, name: str = "out") -> Path:
        out = tmp_path / name
        rng = np.random.default_rng(0)
        for kind in ("thumbs", "before"):
            (out / "cache" / kind).mkdir(parents=True)
            for record in records:
                if record.width and not (kind == "thumbs" and record.status == "rejected"):
                    pixels = rng.integers(0, 255, (12, 8, 4), dtype=np.uint8)
                    Image.fromarray(pixels).save(out / "cache" / kind / f"{record.key}.webp")
        write_table(out / "instances.parquet", sorted(records, key=lambda r: r.key))
        if run is not None:
            (out / "run.json").write_text(json.dumps(run))
        return out

    return make


class Page(HTMLParser):
    """What a browser would find."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.html = path.read_text(encoding="utf-8")
        self.feed(self.html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br") and not (self.open and "svg" in self.open):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if "svg" in self.open and tag != "svg":
            return
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data

    def values(self, attribute: str) -> list[str]:
        return [value for _, attributes in self.tags if (value := attributes.get(attribute)) is not None]

    def pictures(self) -> list[str]:
        backgrounds = [style.split("url(")[1].split(")")[0] for style in self.values("style") if "url(" in style]
        return self.values("src") + backgrounds


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


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["kept", "rejected", "duplicate", "surplus", "error"]),
            st.sampled_from(["ingest", "filter", "deduplicate", "select", "elsewhere", ""]),
            st.sampled_from(["blur", "dark", "news", ""]),
        )
    )
)
def test_the_flow_loses_nothing(outcomes: list[tuple[str, str, str]]):
    records = [
        Record(source=f"{i}", key=f"{i}") if status == "kept" else Record(source="", key=f"{i}").replace(**decided)
        for i, (status, stage, reason) in enumerate(outcomes)
        for decided in [{"status": status, "stage": stage, "reason": reason}]
    ]
    steps, remaining = flow(records), len(records)
    for step in steps:
        assert step.before == remaining
        for drop in step.drops:
            assert drop.count == sum(count for _, count in drop.reasons)
            remaining -= drop.count
    assert remaining == sum(r.active for r in records)
    assert sum(len(f.copies) for f in families(records)) == sum(r.status == "duplicate" for r in records)
    assert sum(len(g.records) for g in rejections(records)) == sum(r.status == "rejected" for r in records)


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
    assert "script" not in {tag for tag, _ in page.tags}
    assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on")]
    assert page.text.count(HOSTILE) >= 3  # character, source, message: shown as they are
    assert "a <b>film</b>" in page.text
    assert set(page.values("src")) <= set(page.pictures())


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


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (Record(source="", key="").decide("rejected", "filter", "blur", 61.24, 80.0), "61.2 < 80"),
        (Record(source="", key="").decide("rejected", "filter", "blur", 79.998, 80.0), "79.998 < 80"),
        (Record(source="", key="").decide("rejected", "filter", "fragments", 5.0, 3.0), "5 > 3"),
        (Record(source="", key="").decide("duplicate", "deduplicate", "near_duplicate", 0.9512, 0.95), "0.951 ≥ 0.95"),
        (Record(source="", key="").decide("rejected", "identity", "unknown", 0.25), "0.25"),
        (Record(source="", key=""), ""),
    ],
)
def test_verdicts(record: Record, text: str):
    assert verdict(record) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (12, "12"), (1240, "1,240"), (1240.4, "1,240"), (312.4, "312"), (61.24, "61.2"), (2.504, "2.5"),
     (0.95, "0.95"), (0.9512, "0.951"), (-3.14159, "-3.14"), (0.0001, "0"), (100.0, "100")],
)  # fmt: skip
def test_numbers(value: float, text: str):
    assert number(value) == text


def test_the_closest_call_comes_first():
    assert [r.key for r in rejections(some_records())[0].records] == ["r1", "r2"]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1e5)), st.booleans())
def test_a_histogram_draws_every_value(values: list[float], log: bool):
    axis = Axis(1 if log else 0, 500, log)
    assert all(0 <= axis.place(v) <= 1 for v in values)
    assert 2 <= len(axis.ticks()) <= 7
    svg = histogram([("kept", values)], axis, (80.0, None), "a & b")
    assert ('class="kept"' in svg) == bool(values)
    assert 'aria-label="a &amp; b"' in svg
    assert svg.count('class="limit" d=') == 1


def test_a_band_narrows_by_what_leaves():
    svg = flow_band(200, 100, [("rejected", 40), ("error", 10)])
    assert 'class="kept" d="M0 0H250.00' in svg  # 50 of 200
    assert 'class="rejected" d="M250.00 0H500.00' in svg
    assert 'class="error" d="M250.00 0H300.00' in svg


def test_rejected_without_any_picture_are_lines(made: Made):
    parts = [Record(source=f"f.json#{i}", key=f"f{i}").decide("rejected", "ingest", "part", 1.0, 0.9) for i in range(3)]
    page = Page(write_report(made(parts)))
    assert page.values("class").count("line") == 3
    assert "nopic" not in page.values("class")
