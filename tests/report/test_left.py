from __future__ import annotations

from lora_data.report.left import rejections
from tests.report.outs import some_records


def test_the_closest_call_comes_first():
    assert [r.key for r in rejections(some_records())[0].records] == ["r1", "r2"]
