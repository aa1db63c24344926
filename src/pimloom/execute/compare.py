"""Comparison of executed numbers with the integer meaning of the graph and with a float reference."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pimloom.ir.graph import Graph
from pimloom.ir.integer import decode
from pimloom.program.rows import Array
from pimloom.result import Verification


def real_values(graph: Graph, codes: Mapping[str, Array]) -> dict[str, Array]:
    """Decodes codes of graph outputs (or of any values) to float64."""
    return {v: decode(a, graph.types[v]) if graph.types[v].quant else np.asarray(a) for v, a in codes.items()}


def compare(
    graph: Graph, executed: Mapping[str, Array], meaning: Mapping[str, Array], reference: Mapping[str, Array], name: str,
    bounds: Mapping[str, float],
) -> Verification:  # fmt: skip
    """The verdict on one sample.

    Args:
        graph: the quantised graph.
        executed: codes of the outputs from the program.
        meaning: codes of the outputs from the graph.
        reference: real outputs of the float network; empty if there is none.
        name: what computed the reference.
        bounds: per output, the stated bound of the root mean square difference from the reference.
    """
    exact = all(np.array_equal(executed[v], meaning[v]) for v in graph.outputs)
    real = real_values(graph, executed)
    details: dict[str, dict[str, float]] = {}
    for value in graph.outputs:
        if value not in reference:
            continue
        difference = np.abs(np.asarray(real[value], np.float64) - np.asarray(reference[value], np.float64))
        rms = float(np.sqrt(np.mean(difference**2))) if difference.size else 0.0
        details[value] = {
            "max_abs_error": float(difference.max(initial=0.0)),
            "rms_error": rms,
            "largest": float(np.abs(reference[value]).max(initial=0.0)),
            "rms_bound": float(bounds.get(value, np.inf)),
        }
    within = all(d["rms_error"] <= d["rms_bound"] for d in details.values())
    worst = max((d["max_abs_error"] for d in details.values()), default=0.0)
    relative = max((d["max_abs_error"] / d["largest"] for d in details.values() if d["largest"] > 0), default=0.0)
    stated = [d["rms_bound"] for d in details.values() if np.isfinite(d["rms_bound"])]  # none is where integers come out
    bound = max(stated, default=np.inf if details else 0.0)
    return Verification(name, exact, worst, relative, bound, exact and within, details)
