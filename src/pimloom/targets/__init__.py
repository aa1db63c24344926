"""Targets: what turns a quantised graph and a machine into a Program. A target never meets a simulator.

A target is a record in `TARGETS`, keyed by the kind of hardware it serves. Its `compile` may be handed a cost function
(Program to cycles) to refine its choices with.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import final

from pimloom.errors import HardwareError, UsageError
from pimloom.hardware import CrossbarHardware, Hardware
from pimloom.ir.graph import Graph
from pimloom.program import Program


class Mode(enum.Enum):
    """What a program is made for."""

    LATENCY = "latency"  # one sample as early as possible
    THROUGHPUT = "throughput"  # many samples per second


@final
@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a target.

    Attributes:
        mode: latency or throughput.
        samples: inputs that one run of the program processes.
        effort: 0 (first mapping) to 3 (long search).
        seed: of random choices.
        cost: Program to (latency, period) in cycles, for refinement; None to do without.
        progress: called with a sentence when a step begins.
        strategy: who writes when, for targets that have a choice (`sram`, and `crossbar` where it rewrites); "" for the target's own.
        rewrite: whether arrays of a machine that is too small may get other weights while the program runs (`crossbar`).
    """

    mode: Mode = Mode.LATENCY
    samples: int = 1
    effort: int = 1
    seed: int = 0
    cost: Callable[[Program], tuple[int, float]] | None = None
    progress: Callable[[str], None] = print
    strategy: str = ""
    rewrite: bool = False

    def __post_init__(self) -> None:
        """Rejects what no target can do."""
        if self.samples < 1:
            raise UsageError(f"batch: {self.samples} found, at least 1 expected")
        if self.effort not in range(4):
            raise UsageError(f"effort: {self.effort} found, 0, 1, 2 or 3 expected")


@final
@dataclass(frozen=True, slots=True)
class Target:
    """A way to compile.

    Attributes:
        name: of the target, equal to the kind of hardware.
        summary: one sentence.
        compile: (quantised graph, machine, request) to Program.
        has_strategies: whether a request may name a strategy.
    """

    name: str
    summary: str
    compile: Callable[[Graph, Hardware, Request], Program]
    has_strategies: bool = False


def _compile_crossbar(graph: Graph, hardware: Hardware, request: Request) -> Program:
    from pimloom.targets.crossbar.compile import compile_network

    if not isinstance(hardware, CrossbarHardware):
        raise HardwareError(f"hardware '{hardware.name}': kind: {hardware.kind} found, crossbar expected by this target")
    return compile_network(graph, hardware, request)


def _compile_sram(graph: Graph, hardware: Hardware, request: Request) -> Program:
    from pimloom.targets.sram.compile import compile_network

    return compile_network(graph, hardware, request)


TARGETS: Mapping[str, Target] = MappingProxyType({
    "sram": Target("sram", "SRAM macros, rewritten while others compute (generalized ping-pong)", _compile_sram, has_strategies=True),
    "crossbar": Target(
        "crossbar", "chips of many cores with crossbar arrays (ISAAC, PUMA, PIMCOMP)", _compile_crossbar, has_strategies=True
    ),
})  # fmt: skip
