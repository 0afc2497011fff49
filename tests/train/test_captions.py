from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_data.config import parse_config
from lora_data.errors import ConfigError
from lora_data.train.captions import draw_caption
from lora_data.train.settings import CaptionSettings


def drawn(text: str, variant: int = 0, epoch: int = 0, key: str = "k", **settings: Any) -> str:
    return draw_caption(text, "luca", CaptionSettings(**settings), seed=7, epoch=epoch, key=key, variant=variant)


@given(st.text(alphabet=st.characters(blacklist_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=40))
def test_the_defaults_change_nothing_but_the_token(text: str):
    plain = text.strip().replace("{token}", "luca")
    assert drawn(text) == " ".join(plain.splitlines()[:1]).strip()


def test_the_token_stands_where_the_text_says():
    assert drawn("a 3d render of {token}, smiling") == "a 3d render of luca, smiling"


@given(
    st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=8, unique=True), st.integers(0, 9), st.integers(0, 99)
)
def test_shuffling_keeps_all_tags_and_the_kept_ones_in_place(tags: list[str], keep: int, epoch: int):
    made = drawn(",".join(tags), epoch=epoch, shuffle=True, keep_tokens=keep).split(", ")
    assert sorted(made) == sorted(tags)
    assert made[:keep] == tags[:keep]


def test_every_order_is_as_likely():
    found = Counter(drawn("a,b,c", epoch=epoch, shuffle=True) for epoch in range(1200))
    assert len(found) == 6
    assert all(140 < count < 260 for count in found.values())


def test_kept_separators_fix_head_and_tail():
    for epoch in range(20):
        made = drawn(
            "luca, boy ||| a, b, c ||| 3d render",
            epoch=epoch,
            shuffle=True,
            keep_tokens_separator="|||",
            tag_dropout=0.5,
        )
        assert made.startswith("luca, boy")
        assert made.endswith("3d render")
    assert drawn("a, b", keep_tokens_separator="|||") == "a, b"


def test_a_secondary_separator_glues_tags_together():
    for epoch in range(10):
        made = drawn("a;;;b,c,d", epoch=epoch, shuffle=True, secondary_separator=";;;")
        assert "a,b" in made


def test_dropouts_have_their_shares():
    whole = [drawn("a, b, c, d", epoch=epoch, dropout=0.2) for epoch in range(2000)]
    assert 320 < whole.count("") < 480
    assert set(whole) == {"", "a, b, c, d"}
    tags = [drawn("a,b,c,d", epoch=epoch, tag_dropout=0.25, keep_tokens=1) for epoch in range(2000)]
    assert all(t.startswith("a") for t in tags)
    assert 400 < sum("c" not in t for t in tags) < 600
    assert drawn("a,b", dropout=1.0) == ""
    assert drawn("a,b", tag_dropout=1.0) == ""


def test_wildcards_and_lines_are_chosen():
    found = Counter(drawn("a {red|blue} hat", epoch=epoch, wildcard=True) for epoch in range(400))
    assert set(found) == {"a red hat", "a blue hat"}
    assert min(found.values()) > 140
    nested = {drawn("{a|{b|c} d}", epoch=epoch, wildcard=True) for epoch in range(60)}
    assert nested == {"a", "b d", "c d"}
    assert drawn("a {{b|c}}", wildcard=True) == "a {b|c}"
    assert drawn("a {b|c}") == "a {b|c}"
    lines = {drawn("one\n\n two \nthree", epoch=epoch, wildcard=True) for epoch in range(60)}
    assert lines == {"one", "two", "three"}
    assert drawn("one\ntwo") == "one"


def test_prefix_and_suffix_surround():
    assert drawn("a boy", prefix="photo of", suffix="in a film") == "photo of a boy in a film"
    assert drawn("", prefix="luca") == "luca"


def test_epoch_key_and_variant_decide():
    options: dict[str, Any] = {"shuffle": True}
    text = "a,b,c,d,e,f,g,h"
    assert drawn(text, **options) == drawn(text, **options)
    assert len({drawn(text, **options), drawn(text, 1, **options), drawn(text, 0, 1, **options)}) == 3
    assert drawn(text, key="other", **options) != drawn(text, **options)


@pytest.mark.parametrize(
    ("table", "needle"),
    [
        ({"tag_dropout": 1.5}, "data.captions.tag_dropout must be in"),
        ({"keep_tokens": -1}, "data.captions.keep_tokens"),
        ({"separator": " "}, "data.captions.separator"),
        ({"shufle": True}, "data.captions.shufle is not a key"),
    ],
)
def test_wrong_settings_name_their_key(table: dict[str, Any], needle: str):
    with pytest.raises(ConfigError, match=needle):
        parse_config({"data": {"captions": table}})
