from __future__ import annotations

import numpy as np

from pimloom.ir import GraphBuilder
from pimloom.ir.evaluate import evaluate
from pimloom.passes import simplify_pipeline


def test_products_with_constants_on_values_without_a_channel_axis_are_left() -> None:
    b = GraphBuilder("flat")
    x = b.input("x", (4,))
    y = b.add("Mul", b.add("Mul", x, b.constant("a", np.full(4, 2.0, np.float32))), b.constant("c", np.full(4, 3.0, np.float32)))
    graph = b.finish(b.add("Add", y, b.constant("d", np.ones(1, np.float32))))
    simple = simplify_pipeline()(graph)
    value = np.arange(4, dtype=np.float32)
    (found,) = evaluate(simple, {"x": value}).values()
    np.testing.assert_allclose(found, value * 6 + 1)
