"""The tree of the least keys against NumPy's minimum."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pimloom.kernels import heaps


@settings(deadline=None)  # the first example compiles a kernel
@given(st.integers(1, 12), st.lists(st.tuples(st.integers(0, 11), st.integers(0, 20) | st.just(heaps.NOTHING)), max_size=40))
def test_the_least_key_comes_first(n: int, entries: list[tuple[int, int]]) -> None:
    tree, keys = np.full(2 * n, heaps.NOTHING, np.int64), np.full(n, heaps.NOTHING, np.int64)
    for which, key in entries:
        heaps.enter(tree, n, which % n, key)
        keys[which % n] = key
        assert tree[1] == keys.min()
    assert (tree[n:] == keys).all()


@pytest.mark.parametrize("n", [136, 300])
def test_many_entrants_leave_in_order(n: int) -> None:
    rng = np.random.default_rng(n)
    tree, keys, left = np.full(2 * n, heaps.NOTHING, np.int64), rng.permutation(10 * n)[:n], []
    for which, key in enumerate(keys):
        heaps.enter(tree, n, which, key)
    while tree[1] < heaps.NOTHING:
        left.append(int(tree[1]))
        heaps.enter(tree, n, int(np.flatnonzero(keys == tree[1])[0]), heaps.NOTHING)
    assert left == sorted(keys.tolist())
