"""Every `<pass>.cases` file: the input graph, `---`, the graph the pass makes of it; cases are parted by `===`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import pimloom.passes as passes
from pimloom.ir.evaluate import evaluate
from pimloom.ir.text import parse_graph, print_graph
from pimloom.ir.verify import verify

FILES = sorted(Path(__file__).parent.glob("*.cases"))
CASES = [(f.stem, case) for f in FILES for case in f.read_text().split("===\n")]


@pytest.mark.parametrize(("name", "case"), CASES, ids=[f"{n}-{c.split()[1]}" for n, c in CASES])
def test_case(name: str, case: str) -> None:
    step = getattr(passes, name.title().replace("_", ""))()
    before, wanted = (parse_graph(text) for text in case.split("---\n"))
    after = step(before)
    assert print_graph(after) == print_graph(wanted)
    assert step(after) is after, "a second run must change nothing"
    verify(after)
    if all(t.quant is None for t in before.types.values()) and name != "absorb_quantise_nodes":
        sample = passes.random_sample(before)
        old, new = evaluate(before, sample), evaluate(after, sample)
        for value in before.outputs:
            np.testing.assert_allclose(new[value], old[value], rtol=1e-5, atol=1e-6)
