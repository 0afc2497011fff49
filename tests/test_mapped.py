from __future__ import annotations

from lora_data.mapped import Mapped


def test_what_is_asked_for_is_made_then_and_not_before():
    made: list[int] = []

    def square(value: int) -> int:
        made.append(value)
        return value**2

    squares = Mapped(square, range(100))
    assert len(squares) == 100
    assert made == []
    assert squares[7] == squares[-93] == 49
    part = squares[2:5]
    assert made == [7, 7]
    assert list(part) == [4, 9, 16]
    assert list(Mapped(square, [])) == []
