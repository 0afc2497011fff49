"""What the tests of the report share: an OUT as a run leaves it, and a page as a browser would find it."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

from lora_data.manifest import Record

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
"""Makes an OUT of records; see conftest.py."""


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
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data

    def values(self, attribute: str) -> list[str]:
        return [value for _, attributes in self.tags if (value := attributes.get(attribute)) is not None]

    def pictures(self) -> list[str]:
        backgrounds = [style.split("url(")[1].split(")")[0] for style in self.values("style") if "url(" in style]
        return self.values("src") + backgrounds
