from __future__ import annotations

import pytest

from lora_data.report.cast import characters, coverage
from lora_data.report.film import film_of, strip
from tests.report.outs import measured


def test_films_lie_one_after_the_other():
    records = [
        measured("a", frame=100).replace(source="one/a.png"),
        measured("b", frame=147).replace(source="one/b.png"),
        measured("c", frame=0).replace(source="two/c.png"),
        measured("d", frame=47).replace(source="two/d.png"),
        measured("e"),
    ]
    film = film_of(records)
    assert film is not None
    assert film.length == 96
    assert [film.bin_of(r) for r in records] == [0, 23, 24, 47, None]
    assert film.ends == ["2 folders, one after the other"]
    one = film_of(records[:2])
    assert one is not None
    assert one.ends == ["frame 100", "147"]
    assert film_of(records[4:]) is None


def test_the_strip_shows_all_and_kept():
    records = [measured("a", frame=0), measured("b", frame=1, status="rejected"), measured("c", frame=95)]
    film = film_of(records)
    assert film is not None
    svg = strip(film, records)
    assert "Kept pictures come from 2 of 48 parts of the film" in svg
    assert (svg.count('class="all"'), svg.count('class="kept"'), svg.count('class="none"')) == (1, 2, 46)


@pytest.mark.parametrize(
    ("fields", "title", "at"),
    [
        ({"face_yaw": -89.0}, "Head turn", 0),
        ({"face_yaw": 0.0}, "Head turn", 6),
        ({"face_yaw": 200.0}, "Head turn", 11),
        ({"box_width": 10, "box_height": 10}, "Silhouette", 6),
        ({"box_width": 10, "box_height": 1000}, "Silhouette", 11),
        ({"box_width": 100, "box_height": 20}, "Silhouette", 0),
        ({"brightness": 255.0}, "Light", 11),
    ],
)
def test_where_a_picture_stands_in_a_plot(fields: dict[str, object], title: str, at: int):
    record = measured("a", brightness=None).replace(**fields)
    (character,) = characters([record])
    plots = {p.title: p for p in coverage([record], [record], character.figures, None)}
    assert set(plots) == {"Framing", title}, "what was not measured has no plot"
    counts = ["0"] * 12
    counts[at] = "1"
    assert ", ".join(counts) in plots[title].chart
