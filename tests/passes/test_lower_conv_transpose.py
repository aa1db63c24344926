"""Transposed convolutions of any shape as convolutions."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pimloom.errors import ModelError
from pimloom.ir import GraphBuilder
from pimloom.ir.evaluate import evaluate
from pimloom.passes import LowerConvTranspose, random_sample
from pimloom.passes.lower_conv_transpose import PhaseConstant

AXIS = st.tuples(  # size, kernel, stride, dilation, pad in front, pad behind, more behind
    st.integers(1, 5), st.integers(1, 5), st.integers(1, 4), st.sampled_from([1, 1, 1, 2]), st.integers(0, 3), st.integers(0, 3),
    st.integers(0, 2),
)  # fmt: skip


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(AXIS, min_size=1, max_size=3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.booleans(), st.integers(1, 2))
def test_any_transposed_convolution(
    axes: list[tuple[int, ...]], group: int, inputs: int, outputs: int, has_bias: bool, batch: int
) -> None:
    sizes, kernel, strides, dilations, low, high, more = zip(*axes, strict=True)
    b = GraphBuilder("any")
    x = b.input("x", (batch, group * inputs, *sizes))
    operands = [b.seeded("w", (group * inputs, outputs, *kernel))]
    if has_bias:
        operands.append(b.seeded("b", (group * outputs,)))
    try:
        y = b.add("ConvTranspose", x, *operands, kernel_shape=kernel, strides=strides, dilations=dilations, pads=(*low, *high),
                  output_padding=more, group=group)  # fmt: skip
    except ModelError:  # pads cut off more than there is
        assume(False)
    graph = b.finish(b.add("Neg", y))
    lowered = LowerConvTranspose()(graph)
    ops = [node.op for node in lowered.nodes]
    can = inputs > 1 and all(d == 1 or s == 1 for s, d in zip(strides, dilations, strict=True))
    if can and not any(low) and not any(high):
        assert "ConvTranspose" not in ops
    if "ConvTranspose" not in ops:
        assert ops.count("Conv") == 1
        assert can
    sample = random_sample(graph)
    np.testing.assert_allclose(*(next(iter(evaluate(one, sample).values())) for one in (lowered, graph)), rtol=1e-4, atol=1e-5)


def test_weights_are_made_when_they_are_asked_for() -> None:
    b = GraphBuilder("lazy")
    x = b.input("x", (1, 8, 4, 4))
    graph = b.finish(b.add("ConvTranspose", x, b.seeded("w", (8, 6, 4, 4)), kernel_shape=(4, 4), strides=(2, 2), pads=(1, 1, 1, 1)))
    lowered = LowerConvTranspose()(graph)
    (weights,) = [one for one in lowered.constants.values() if isinstance(one, PhaseConstant)]
    assert weights.type.shape == (24, 8, 2, 2)
    assert weights.base is graph.constants["w"]
    assert math.isclose(float(weights.array().sum()), float(graph.constants["w"].array().sum()), rel_tol=1e-4)
    assert not weights.array().flags.writeable
