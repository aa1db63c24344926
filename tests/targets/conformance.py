"""The machines that the conformance suite compiles for, and what it asks of a program."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
from oracles.row_costs import assert_forms_cost_the_same
from targets.crossbar.networks import codes

from pimloom.execute import Interpreter
from pimloom.hardware import CrossbarHardware, Hardware, load_hardware
from pimloom.ir.evaluate import evaluate
from pimloom.ir.graph import Graph
from pimloom.program import Program
from pimloom.program.verify import verify_program
from pimloom.simulate import simulate
from pimloom.targets import TARGETS, Mode, Request
from pimloom.targets.crossbar.compile import lower
from pimloom.targets.crossbar.cores import Policy
from pimloom.targets.crossbar.lower import Options
from pimloom.targets.crossbar.mapper import FILLS, Mapper

MACHINES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "toy": ("toy", ("core.crossbars=64",)),
    "many small cores": ("toy", ("core.crossbars=10", "chip.core_rows=8", "chip.core_cols=8", "global_memory.ports=2")),
    "little memory": ("toy", ("core.crossbars=64", "core.local_memory.size_bytes=1536")),
    "one at a time": ("toy", ("core.crossbars=64", "core.issue.window=1")),
    "in order": ("toy", ("core.crossbars=64", "core.issue.order=in_order", "core.issue.window=3")),
    "roomy": ("toy", ("core.crossbars=128",)),
    "isaac": ("isaac", ()),
    "puma": ("puma", ()),
    "pimcomp-default": ("pimcomp-default", ()),
    "pimsim-64": ("pimsim-64", ()),
    "isscc23-16": ("isscc23-16", ()),
    "gpp-256": ("gpp-256", ()),
    "few macros": ("gpp-256", ("cores=1", "macros_per_core=5", "memories.result_bytes=16384", "memories.activation_bytes=8192")),
    "gpp-256-dram": ("gpp-256-dram", ()),
    "gpp-256-compat": ("gpp-256-compat", ("result_bits=32",)),
}
"""Name to preset and overrides."""


@cache
def machine(name: str) -> Hardware:
    """A machine by its name here."""
    preset, overrides = MACHINES[name]
    return load_hardware(preset, overrides)


def compiled(graph: Graph, hardware: Hardware, mode: Mode = Mode.LATENCY, samples: int = 1) -> Program:
    """The program of a quantised graph, from the target that serves the machine, without search."""
    return TARGETS[hardware.kind].compile(graph, hardware, Request(mode, samples, 0, 0, None, lambda _: None))


def with_stages(graph: Graph, hardware: CrossbarHardware, samples: int) -> Program:
    """A throughput program whose early layers work ahead, which the compiler does not make where cores do one thing at a time."""
    mapper = Mapper(graph, hardware, Mode.THROUGHPUT)
    mapped = next(found for fill in FILLS if (found := mapper.map(fill, (Policy.LEAST_LOADED,))) is not None)
    return lower(mapper, mapped, Options(mode=Mode.THROUGHPUT.value, samples=samples))


def assert_conforms(graph: Graph, program: Program, seeds: tuple[int, ...] = (0, 1)) -> None:
    """The program is well formed, runs to its end, and gives the graph's numbers for one input after another."""
    verify_program(program)
    assert_forms_cost_the_same(program)
    assert simulate(program).cycles > 0
    interpreter = Interpreter(program)
    for seed in seeds:
        inputs = codes(graph, seed)
        executed, meaning = interpreter.run(inputs), evaluate(graph, inputs)
        assert list(executed) == list(graph.outputs)
        for value in graph.outputs:
            assert executed[value].dtype == meaning[value].dtype
            assert np.array_equal(executed[value], meaning[value]), value
