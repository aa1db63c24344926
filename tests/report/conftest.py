"""Synthetic results: a realistic network on a chip of 12 x 14 cores, and its edge cases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pimloom.result import Bound, NodeResult, Result, Trace, Verification

OPCODES = ("mvm", "preset", "add_partial", "finish", "vector", "pool", "accumulate", "copy", "load", "store", "send", "receive", "general")
MakeResult = Callable[..., Result]


def _node(i: int, n: int, name: str, rng: np.random.Generator) -> NodeResult:
    is_pool = i % 9 == 8
    start = i * 4_000
    return NodeResult(
        name, "MaxPool" if is_pool else "Conv", "pool" if is_pool else "matrix", start, start + 90_000 + int(rng.integers(60_000)),
        {"vector unit": float(rng.integers(2e4, 9e4)), "local memory": float(rng.integers(2e4, 9e4)),
         **({} if is_pool else {"crossbars": float(rng.integers(1e5, 2e6))})},
        0.0 if is_pool else float(rng.integers(1e5, 4e7)), 0 if is_pool else int(rng.integers(1e6, 2e8)),
        0 if is_pool else int(rng.integers(4, 300)), 0 if is_pool else max(1, 64 >> (i * 8 // n)), int(rng.integers(1, 12)),
        {"dependency": float(rng.integers(1e4, 4e6)), "resource": float(rng.integers(1e4, 1e6)), "message": float(rng.integers(1e3, 4e5)),
         "window": float(rng.integers(0, 1e5))},
        {"local memory": float(rng.integers(1e5, 1e7)), "network": float(rng.integers(1e4, 1e6))},
    )  # fmt: skip


def _trace(nodes: tuple[NodeResult, ...], owners: list[list[int]], rows: int, rng: np.random.Generator) -> Trace:
    """Bursts of rows: each core works for its layers in short instructions with pauses between them."""
    cores = rng.choice([c for c, held in enumerate(owners) if held], rows)
    node = np.array([owners[c][int(k * len(owners[c]))] for c, k in zip(cores, rng.random(rows), strict=True)], np.int32)
    opcode = rng.choice([0, 0, 0, 3, 4, 8, 9, 10, 11], rows).astype(np.uint8)
    begin = np.array([n.start_cycles for n in nodes])[node]
    span = np.array([n.end_cycles - n.start_cycles for n in nodes])[node]
    start = begin + (span * rng.random(rows) ** 1.3 * 0.98).astype(np.int64)
    end = np.minimum(start + rng.integers(20, 900, rows), begin + span)
    return Trace(cores.astype(np.int32), opcode, node, start.astype(np.int64), end.astype(np.int64), OPCODES, tuple(n.name for n in nodes))


def _links(chips: int, rng: np.random.Generator) -> np.ndarray:
    load = rng.random(chips * 5 * 12 * 14) ** 3
    load[rng.random(load.size) < 0.4] = 0.0
    return load


def build(n_nodes: int = 40, rows: int = 6_000, chips: int = 1, cores: int = 168, names: tuple[str, ...] = (), **changes: Any) -> Result:
    """A result of a made-up network; `changes` replace fields."""
    rng = np.random.default_rng(7)
    labels = [*names, *(f"layer{i // 4}.{i % 4}.conv" for i in range(len(names), n_nodes))]
    nodes = tuple(_node(i, n_nodes, label, rng) for i, label in enumerate(labels[:n_nodes]))
    owners: list[list[int]] = [[] for _ in range(chips * cores)]
    for core in range(int(len(owners) * 0.9)):
        first = core * n_nodes // max(int(len(owners) * 0.9), 1)
        owners[core] = sorted({min(first + k, n_nodes - 1) for k in range(1 + core % 3)})
    latency = max((n.end_cycles for n in nodes), default=0)
    values: dict[str, Any] = {
        "model": "resnet18", "hardware": "isaac", "target": "crossbar", "mode": "throughput", "samples": 4, "clock_ghz": 1.2,
        "nodes": nodes, "rows": rows, "instructions": rows * 40, "cycles": latency * 2, "latency_cycles": latency,
        "period_cycles": latency / 3,
        "energy_pj": {"crossbars": 4.1e8, "local memory": 1.6e8, "vector unit": 2.2e7, "network": 6.1e7, "global memory": 1.9e7,
                      "chip link": 0.0, "static": 2.4e8},
        "busy_cycles": {"crossbars": 3.1e7, "local memory": 4.0e6, "vector unit": 1.8e6, "network": 9.1e6, "global memory": 6.5e4},
        "resources": {"crossbars": 16128 * chips, "local memory": 168 * chips, "vector unit": 168 * chips, "network": 840,
                      "global memory": 2, "chip link": 0},
        "utilisation": {"crossbars": 0.212, "local memory": 0.113, "vector unit": 0.062, "network": 0.041, "global memory": 0.31,
                        "chip link": 0.0},
        "busiest": {"crossbars": 0.83, "local memory": 0.64, "vector unit": 0.35, "network": 0.47, "global memory": 0.33, "chip link": 0.0},
        "waits_cycles": {"dependency": 8.1e6, "resource": 2.2e6, "message": 1.0e6, "window": 2.0e5},
        "bounds": (
            Bound("dependency", "latency", latency * 0.71, "critical path of one sample if only the arrays could be busy"),
            Bound("compute", "throughput", latency * 0.25, "slowest layer at the best replication that the crossbars allow"),
            Bound("global memory", "throughput", latency * 0.11, "bytes through the ports of the global memory, evenly spread"),
        ),
        "core_busy": {name: rng.random(chips * cores) * latency / 3 * np.array([bool(held) for held in owners])
                      for name in ("local memory", "vector unit", "crossbars")},
        "core_arrays": np.array([int(rng.integers(20, 97)) if held else 0 for held in owners], np.int32),
        "core_nodes": tuple(tuple(nodes[k].name for k in held) for held in owners) if nodes else tuple(() for _ in owners),
        "link_load": _links(chips, rng), "chip_rows": 12, "chip_cols": 14, "chips": chips,
        "compile_s": 1.31, "simulate_s": 0.24, "execute_s": 0.92,
        "verification": Verification("onnxruntime", True, 1.1e-3, 4.2e-4, 5.0e-3, True,
                                     {"logits": {"max_abs_error": 1.1e-3, "rms_error": 3.2e-4, "largest": 2.6, "rms_bound": 5.0e-3}}),
        "trace": _trace(nodes, owners, rows, rng) if nodes and rows else None,
        "notes": {"crossbars_used": 9213, "crossbars_available": 16128, "compute_bound_cycles": 61234.0,
                  "copies": {n.name: n.copies for n in nodes if n.copies}, "kinds": {n.name: n.kind for n in nodes}},
        "arrays_in_use": 0.571,
    }  # fmt: skip
    return Result(**{**values, **changes})


@pytest.fixture(scope="session")
def make_result() -> MakeResult:
    """The factory."""
    return build


@pytest.fixture(scope="session")
def result() -> Result:
    """The usual result."""
    return build()
