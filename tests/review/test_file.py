from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_data.decisions import Decision, missing
from lora_data.errors import ConfigError
from lora_data.review.file import append_decision, read_decisions

WHOLE = """
# by hand
[[decision]]
do = "name"
instances = ["a_i0"]
character = "luca"

[[decision]]
do = "split"
instances = ["b_i1", "sub/c.webp"]
look = "night gown"
"""


def test_decisions_come_in_order_and_say_where_they_stand(tmp_path: Path):
    path = tmp_path / "review.toml"
    path.write_text(WHOLE)
    name, split = read_decisions(path)
    assert (name.do, name.instances, name.character, name.look) == ("name", ("a_i0",), "luca", None)
    assert (split.do, split.instances, split.character, split.look) == (
        *("split", ("b_i1", "sub/c.webp"), None),
        "night gown",
    )
    assert split.where == "review.toml, decision 2"


def test_no_file_is_no_decision(tmp_path: Path):
    assert read_decisions(tmp_path / "review.toml") == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[decision", "is not TOML"),
        ("a = 1", "a is not a key"),
        ("decision = 3", "must be a list of tables"),
        ("decision = [3]", "decision 1 must be a table"),
        ('[[decision]]\ndo = "dance"\ninstances = ["a"]', "do must be one of name, merge, split, move"),
        ('[[decision]]\ndo = "name"\ninstances = ["a"]', "name needs a character"),
        ('[[decision]]\ndo = "merge"\ninstances = ["a", "a"]', "merge needs at least 2 instances"),
        ('[[decision]]\ndo = "split"\ninstances = "a"', "instances must be a list of texts"),
        ('[[decision]]\ndo = "split"\ninstances = ["a"]\nlook = 3', "look must be a text, got 3"),
        ('[[decision]]\ndo = "move"\ninstances = ["a"]\ncharacter = "unknown"', "is no character's name"),
        (
            '[[decision]]\ndo = "split"\ninstances = ["a"]\nwho = "b"',
            "who is not a key; allowed: augment, character",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str):
    path = tmp_path / "review.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"review\.toml") as raised:
        read_decisions(path)
    assert message in str(raised.value)


def test_missing_instances_are_named():
    decision = Decision(do="merge", instances=("a", "b", "c"), where="review.toml, decision 4")
    assert missing([decision], ["a", "b", "c"]) == []
    (line,) = missing([decision], ["b"])
    assert line == "review.toml, decision 4: merge names instances that are not in INPUT: a, c"


texts = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=30).filter(str.strip)


@given(
    st.lists(texts, min_size=2, max_size=8, unique=True),
    texts.filter(lambda name: name != "unknown"),
    st.dictionaries(st.sampled_from(["rotation", "brightness"]), st.just([0.95, 1.0]), max_size=1),
    texts,
)
def test_what_is_appended_is_read_back(instances: list[str], name: str, augment: dict[str, object], remark: str):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "review.toml"
        decisions = [
            Decision(do="merge", instances=tuple(instances), character=name, look=name, id="a"),
            Decision(do="symmetric", character=name, symmetric=False),
            Decision(do="augment", character=name, augment=augment),
            Decision(do="accept", instances=tuple(instances), enhancement="deblur"),
            Decision(do="undo", of="a"),
        ]
        for decision in decisions:
            append_decision(path, decision, remark)
        assert list(read_decisions(path)) == decisions
