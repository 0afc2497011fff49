from __future__ import annotations

import threading

import pytest

from lora_data import threads
from lora_data.threads import side_by_side


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("count", [0, 1, 9, 10, 25])
def test_results_come_in_the_order_of_the_items(workers: int, count: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(threads, "_HANDED_OUT", 10)
    names: set[str] = set()

    def named(number: int) -> int:
        names.add(threading.current_thread().name)
        return number**2

    assert side_by_side(named, iter(range(count)), workers) == [i**2 for i in range(count)]
    here = threading.current_thread().name in names
    assert here == (count == 1 or (workers == 1 and count > 0))


def test_what_is_raised_arrives():
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda number: 1 // number, [1, 0, 2], 2)
