"""Arrays made lately: what is kept, and for how long."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pimloom.ir.recent import Array, Recent


def of_bytes(n: int) -> Array:
    return np.zeros(n, np.uint8)


def test_an_array_is_made_once_while_there_is_room() -> None:
    recent, made = Recent(100), list[str]()

    def get(key: str, n: int) -> int:
        def make() -> Array:
            made.append(key)
            return of_bytes(n)

        return recent.get(key, make).nbytes

    assert [get("a", 40), get("b", 40), get("a", 40)] == [40, 40, 40]
    assert made == ["a", "b"]
    get("c", 40)  # the one that was asked for longest ago makes room
    get("a", 40)
    get("b", 40)
    assert made == ["a", "b", "c", "b"]


def test_a_large_array_is_kept_alone() -> None:
    recent = Recent(100)
    first, large = of_bytes(10), of_bytes(1000)
    recent.get("first", lambda: first)
    assert recent.get("large", lambda: large) is large
    assert recent.get("large", lambda: of_bytes(1)) is large
    assert recent.held_bytes == 1000
    assert recent.get("first", lambda: of_bytes(3)).nbytes == 3
    assert recent.held_bytes == 3


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=60), st.integers(0, 60))
def test_what_is_kept_is_what_was_asked_for(asked: list[tuple[int, bool]], most_bytes: int) -> None:
    recent = Recent(most_bytes)
    for key, _ in asked:
        assert recent.get(key, lambda n=key: of_bytes(3 * n)).nbytes == 3 * key
        assert recent.held_bytes <= max(most_bytes, 3 * key)
