from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from lora_data.manifest import Record
from lora_data.report import embedding_map as module
from lora_data.report.embedding_map import HUES, embedding_map, mark, outliers, project
from tests.report.outs import HOSTILE, measured


def groups(sizes: list[int], dimensions: int = 16, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors around as many directions as there are sizes."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(len(sizes), dimensions))
    labels = np.repeat(np.arange(len(sizes)), sizes)
    vectors = centres[labels] + 0.2 * rng.normal(size=(len(labels), dimensions))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), labels


def among_own(places: np.ndarray, labels: np.ndarray) -> float:
    """Share of the points whose nearest one is of their group."""
    distance = np.linalg.norm(places[:, None] - places, axis=2)
    np.fill_diagonal(distance, np.inf)
    return float((labels[distance.argmin(1)] == labels).mean())


def test_alike_ones_lie_side_by_side():
    vectors, labels = groups([20, 30, 10, 5])
    places = project(vectors)
    assert places.shape == (65, 2)
    assert among_own(places, labels) > 0.98
    assert np.array_equal(places, project(vectors)), "the same again"
    assert np.ptp(places[:, 0]) >= np.ptp(places[:, 1])


def test_beyond_the_landmarks_every_one_finds_its_place(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "LANDMARKS", 40)
    vectors, labels = groups([60, 40, 30])
    places = project(vectors)
    assert len(places) == 130
    assert np.isfinite(places).all()
    assert among_own(places, labels) > 0.98


@pytest.mark.parametrize("count", [5, 6, 12])
def test_few_and_equal_pictures_are_no_matter(count: int):
    same = np.ones((count, 4), np.float32) / 2
    assert np.array_equal(project(same), np.zeros((count, 2)))
    almost = same.copy()
    almost[0] = (1, 0, 0, 0)
    assert np.isfinite(project(almost)).all()


def rows(sizes: list[int], names: list[str]) -> list[Record]:
    vectors, labels = groups(sizes)
    return [
        measured(f"k{i:03}", character=names[label], embedding=vector)
        for i, (vector, label) in enumerate(zip(vectors, labels.tolist(), strict=True))
    ]


def test_the_map_names_every_group_and_every_dot():
    names = ["luca", HOSTILE]
    records = [*rows([6, 4], names), measured("z", character="luca"), measured("bad key", character="luca")]
    records[-1] = records[-1].replace(embedding=records[0].embedding)
    made = embedding_map(records, {"luca": "c0", HOSTILE: "c1"})
    assert made is not None
    assert (made.shown, made.left_out, made.laid_out) == (11, 0, 11)
    assert [(label.name, label.anchor, label.mark) for label in made.labels] == [
        ("luca", "c0", "hue0"),
        (HOSTILE, "c1", "hue1"),
    ]
    assert all(0 <= label.left <= 100 and 0 <= label.top <= 100 for label in made.labels)
    assert made.chart.count("<title>") == 11
    assert '<a href="#t-k003" tabindex="-1"><title>k003</title>' in made.chart
    assert "<g><title>bad key</title>" in made.chart, "what has no tile is no link"
    assert "<script" not in made.chart + "".join(made.parts.values())
    assert made.parts["luca"].count("h.01") == 7
    assert embedding_map(list(reversed(records)), {"luca": "c0", HOSTILE: "c1"}) == made, "order is no matter"


def test_too_few_pictures_have_no_map():
    records = rows([2, 2], ["a", "b"])
    assert embedding_map(records, {"a": "c0", "b": "c1"}) is None
    assert embedding_map([measured(f"m{i}") for i in range(9)], {"unknown": "c0"}) is None


def test_embeddings_of_another_kind_and_too_many_are_left_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MOST", 10)
    records = [*rows([20], ["a"]), measured("z", character="a", embedding=np.ones(3, np.float32))]
    made = embedding_map(records, {"a": "c0"})
    assert made is not None
    assert (made.shown, made.left_out) == (10, 11)


def test_names_do_not_cover_each_other():
    names = [f"somebody {i}" for i in range(12)]
    wanted = [(name, 400.0 + i, 200.0) for i, name in enumerate(names)]
    placed = module._apart(wanted, 600.0)
    heights = sorted(y for _, _, y in placed)
    assert all(b - a >= 20 for a, b in pairwise(heights))
    assert [name for name, _, _ in placed] == names


def test_colour_is_never_the_only_sign():
    marks = [mark(i, f"c{i}") for i in range(2 * HUES)]
    assert len(set(marks)) == 2 * HUES
    assert mark(3, "unknown") == "nobody"


def test_the_least_clear_come_first():
    records = [measured(f"k{i}", core_margin=margin) for i, margin in enumerate([0.2, -0.1, None, 0.05])]
    records.append(measured("r", core_margin=-1.0).decide("rejected", "filter", "dark"))
    assert [r.key for r in outliers(records, 2)] == ["k1", "k3"]
