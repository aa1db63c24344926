"""How far the outputs of a quantised graph may lie from those of the float graph it was made from.

The quantised graph is evaluated in real arithmetic: each op by its float64 meaning on decoded values, each result
rounded to the codes of its type. This *rounded model* shares the scales with the integer program and nothing else: no
fixed-point multiplier, table, integer sum or rescaling. What separates the two are rounding decisions: a multiplier
of 22 bits, a bias rounded to `sx * sw` or a sum of shifted operands moves a result by less than 1/20 of a code, which
now and then tips it over to the neighbouring code, and deep networks amplify that. A second evaluation of the rounded
model with random shifts of up to 1/20 code before each rounding measures just this. With rms over an output's elements:

    loss        = rms(rounded model - float model)         what quantisation costs; a property of the model and its bits
    sensitivity = rms(shifted rounded model - rounded model)
    agreement   = 3 * sensitivity + 1 code                 bound of rms(integer - rounded model)
    bound       = loss + agreement                         bound of rms(integer - float model): the triangle inequality

`agreement` is what a fault in a compiled program breaks; `bound` says whether the quantised network is of use.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from pimloom.errors import ModelError, VerificationError
from pimloom.ir.constants import Constant
from pimloom.ir.evaluate import evaluate
from pimloom.ir.graph import Graph, Node
from pimloom.ir.integer import decode, encode
from pimloom.ir.ops import Rule, full_attributes, op_of
from pimloom.ir.quantised import code_bounds, rule_of
from pimloom.ir.steps import clamp_range
from pimloom.ir.types import TensorType
from pimloom.passes.calibrate import Sample

Array = np.ndarray[Any, np.dtype[Any]]
JITTER_CODES = 0.05
"""Largest shift before a rounding, in codes; more than the integer arithmetic can cause at 16 bits."""
EXACT_RULES = frozenset({Rule.MOVE, Rule.LOOKUP})


@final
@dataclass(frozen=True, slots=True, eq=False)
class ErrorBound:
    """What one output may be off by; all amounts are real numbers in the output's unit.

    Attributes:
        output: name of the output.
        code_size: what one code stands for (its scale).
        signal: rms of the float model's output.
        loss: rms of the rounded model's difference from the float model.
        sensitivity: rms of what random shifts below 1/20 code change.
        rounded: float64[samples, *shape], outputs of the rounded model.
        reference: float64[samples, *shape], outputs of the float model.
    """

    output: str
    code_size: float
    signal: float
    loss: float
    sensitivity: float
    rounded: Array
    reference: Array

    @property
    def agreement(self) -> float:
        """Bound of the rms difference between integer outputs and the rounded model."""
        return 3.0 * self.sensitivity + self.code_size

    @property
    def bound(self) -> float:
        """Bound of the rms difference between integer outputs and the float model."""
        return self.loss + self.agreement

    @property
    def signal_to_noise_db(self) -> float:
        """How far the float output stands above the quantisation loss, in decibels."""
        return 20.0 * float(np.log10(max(self.signal, 1e-300) / max(self.loss, 1e-300)))

    def check(self, found: Array) -> None:
        """Compares decoded outputs of an integer program with the rounded model and the float model.

        Args:
            found: float64[samples, *shape], decoded outputs.

        Raises:
            VerificationError: a bound is broken.
        """
        for name, wanted, bound in (
            ("rounded model", self.rounded, self.agreement),
            ("float model", self.reference, self.bound),
        ):
            error = rms(np.asarray(found, np.float64) - wanted)
            if not error <= bound:
                raise VerificationError(
                    f"output '{self.output}': rms difference from the {name} found {error:.4g}, at most {bound:.4g} "
                    f"expected (one code is {self.code_size:.4g}); the integer program computes other numbers"
                )


def rms(values: Array) -> float:
    """Root mean square of all elements."""
    return float(np.sqrt(np.mean(np.square(values)))) if values.size else 0.0


def error_bound(graph_float: Graph, graph_quantised: Graph, samples: Iterable[Sample], seed: int = 0) -> dict[str, ErrorBound]:
    """The bounds of every output that holds codes.

    Args:
        graph_float: the graph that was quantised.
        graph_quantised: the same graph after `Quantise` (and passes behind it).
        samples: real inputs, one mapping per sample; sensitivities are measured on them.
        seed: of the random shifts.

    Raises:
        ModelError: a sample does not fit the graph, or the float graph gives no numbers for it.
    """
    coded = [v for v in graph_quantised.outputs if graph_quantised.types[v].quant is not None]
    runs: dict[str, list[tuple[Array, Array, Array]]] = {v: [] for v in coded}
    generator = np.random.default_rng(seed)
    for sample in samples:
        real = evaluate(graph_float, sample)
        _check_numbers(coded, real)
        plain = evaluate_rounded(graph_quantised, sample)
        shifted = evaluate_rounded(graph_quantised, sample, generator)
        for value in coded:
            runs[value].append((real[value].astype(np.float64), plain[value], shifted[value]))
    return {v: _bound(v, graph_quantised.types[v], runs[v]) for v in coded}


def _check_numbers(outputs: Iterable[str], real: Mapping[str, Array]) -> None:
    for value in outputs:
        n_nan = int(np.count_nonzero(np.isnan(real[value])))
        if n_nan:
            raise ModelError(
                f"output '{value}': {n_nan} of {real[value].size} elements of the float network are NaN for these inputs, so "
                "nothing can be compared; give inputs that the network is made for (--input)"
            )


def _bound(value: str, value_type: TensorType, runs: list[tuple[Array, Array, Array]]) -> ErrorBound:
    real, plain, shifted = (np.stack(arrays) for arrays in zip(*runs, strict=True))
    assert value_type.quant is not None
    return ErrorBound(value, max(value_type.quant.scale), rms(real), rms(plain - real), rms(shifted - plain), plain, real)


def evaluate_rounded(graph: Graph, inputs: Mapping[str, Array], jitter: np.random.Generator | None = None) -> dict[str, Array]:
    """The rounded model: a quantised graph in real arithmetic, each value rounded to the codes of its type.

    Args:
        graph: the quantised graph.
        inputs: real inputs (integers where the input holds no codes).
        jitter: shifts results by up to `JITTER_CODES` before they are rounded.

    Returns:
        Decoded float64 arrays of the graph's outputs, by name.
    """
    last = {v: i for i, node in enumerate(graph.nodes) for v in node.inputs}
    last.update(dict.fromkeys(graph.outputs, len(graph.nodes)))
    values = {v: _given(np.asarray(inputs[v]), graph.types[v]) for v in graph.inputs}
    values.update((v, _real(graph.constants[v])) for v in graph.outputs if v in graph.constants)
    for i, node in enumerate(graph.nodes):
        values.update(_run(graph, node, values, jitter))
        for value in (*node.inputs, *node.outputs):
            if last.get(value, i) <= i:
                values.pop(value, None)
    return {v: values[v] for v in graph.outputs}


def _run(graph: Graph, node: Node, values: Mapping[str, Array], jitter: np.random.Generator | None) -> Iterator[tuple[str, Array]]:
    arrays = [(values[v] if v in values else _real(graph.constants[v])) if v else None for v in node.inputs]
    with np.errstate(all="ignore"):
        outputs = op_of(node).meaning(full_attributes(node), *arrays)
    if jitter is not None and rule_of(node, graph.input_types(node), graph.output_types(node)) in EXACT_RULES:
        jitter = None
    for value, array in zip(node.outputs, outputs, strict=True):
        if value:
            yield value, _rounded(np.asarray(array), graph.types[value], node, jitter)


def _real(constant: Constant) -> Array:
    if constant.type.quant is not None:
        return decode(constant.array(), constant.type)
    return constant.array().astype(np.float64) if constant.type.dtype.startswith("float") else constant.array()


def _given(values: Array, value_type: TensorType) -> Array:
    """An input as the codes of its type; codes themselves are taken as they are."""
    if value_type.quant is not None and str(values.dtype) == value_type.dtype:
        return decode(values, value_type)
    return _rounded(values, value_type, None, None)


def _rounded(values: Array, value_type: TensorType, node: Node | None, jitter: np.random.Generator | None) -> Array:
    quant = value_type.quant
    if quant is None:
        return values
    if jitter is not None:
        reach = JITTER_CODES * quant.scale[0]
        values = values + jitter.uniform(-reach, reach, tuple(values.shape))
    codes = encode(values, value_type)
    if node is not None and code_bounds(node) != (None, None):
        codes = np.clip(codes, *clamp_range(value_type, code_bounds(node)))
    return decode(codes, value_type)
