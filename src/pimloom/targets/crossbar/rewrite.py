"""The compiler for networks that a machine holds only in turns: cut, map each segment, stitch, and let the simulator choose."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, final

from pimloom.errors import CapacityError, HardwareError, InternalError, UsageError
from pimloom.hardware import CrossbarHardware
from pimloom.ir.graph import Graph
from pimloom.program import Program
from pimloom.targets import Request
from pimloom.targets.crossbar.capacity import packing_error
from pimloom.targets.crossbar.cores import Policy
from pimloom.targets.crossbar.fit import fitted
from pimloom.targets.crossbar.mapper import BALANCED, LAST_RESORT, NEIGHBOURS, ROWS_HELD, Mapper
from pimloom.targets.crossbar.scope import Options
from pimloom.targets.crossbar.segments import Cutter, Segment, crossing, describe, parts_of, restricted, with_fitting_layers
from pimloom.targets.crossbar.stages import Dataflow, Kind, analyse
from pimloom.targets.crossbar.stitch import Placed, Schedule, Stitcher

STRATEGIES: Final = ("in_situ", "naive_ping_pong", "generalized", "auto")
FILLS: Final = (0.9, 0.6, 0.3, 0.0)  # shares of a part's arrays for copies
DIVISIONS: Final = ((1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2), (4, 0), (4, 2), (4, 3), (6, 3), (6, 5))
"""Into how many parts generalized ping-pong divides a chip, and how many of these are written once."""
TRIED: Final[Mapping[int, int]] = {0: 1, 1: 2, 2: 5, 3: 20}  # plans of each strategy that are simulated, by effort
SHRINK: Final = 0.8  # of the arrays that a segment may take, where segments do not fit core by core
LEAST_SHARE: Final = 0.05
WITHIN_PART: Final = 0.5  # of a segment's writing that is hidden where it takes the cores of the one before; assumed


@final
@dataclass(frozen=True, slots=True)
class Plan:
    """A way to rewrite.

    Attributes:
        strategy: its name.
        parts: into which the cores of each chip are divided.
        schedule: what writes wait for.
        fill: share of a part's arrays for copies.
        is_limited: whether no more groups are written at once than the global memory keeps busy.
        stay: parts that hold one segment for good.
    """

    strategy: str
    parts: int
    schedule: Schedule
    fill: float
    is_limited: bool = False
    stay: int = 0

    @property
    def overlap(self) -> float:
        """Share of the shorter of writing and computing that is taken to be hidden behind the other."""
        if self.schedule is Schedule.APART or self.parts - self.stay == 1 < self.parts:
            return 0.0
        return 1.0 if self.parts > 1 else WITHIN_PART

    @property
    def name(self) -> str:
        """In words."""
        parts = f"{self.parts} parts" if self.parts > 1 else "1 part"
        parts += f" ({self.stay} written once)" if self.stay else ""
        limited = ", as many writers as keep the memory busy" if self.is_limited else ""
        return f"{self.strategy}, {parts}, copies on {self.fill:.0%} of the crossbars{limited}"


def plans(strategy: str, cores: int) -> list[Plan]:
    """All plans of a strategy.

    Args:
        strategy: one of STRATEGIES.
        cores: of a chip.
    """
    found: list[Plan] = []
    if strategy in ("in_situ", "auto"):
        found += [Plan("in_situ", 1, Schedule.APART, fill) for fill in FILLS]
    if strategy in ("naive_ping_pong", "auto"):
        found += [Plan("naive_ping_pong", 2, Schedule.LOCK_STEP, fill) for fill in FILLS if cores > 1]
    if strategy in ("generalized", "auto"):
        options = [division for division in DIVISIONS if division[0] <= cores]
        found += [Plan("generalized", parts, Schedule.FREE, fill, stay=stay) for parts, stay in options for fill in FILLS]
    return found


def check(hardware: CrossbarHardware, request: Request) -> None:
    """Refuses what cannot be rewritten.

    Raises:
        HardwareError: arrays of the machine are written once.
        UsageError: an unknown strategy, or several samples.
    """
    if hardware.crossbar.rewriting is None:
        raise HardwareError(
            f"rewrite: '{hardware.name}' has no crossbar.rewriting, so its arrays are written once; describe it, or leave out --rewrite"
        )
    if (request.strategy or "auto") not in STRATEGIES:
        raise UsageError(f"strategy: '{request.strategy}' found, one of {', '.join(STRATEGIES)} expected")


def compile_rewritten(graph: Graph, hardware: CrossbarHardware, request: Request) -> Program:
    """Compiles a quantised graph that does not fit for a machine whose arrays are rewritten.

    Raises:
        CapacityError: a layer or a memory is too large even so.
        HardwareError: arrays of the machine are written once.
        UsageError: an unknown strategy.
    """
    check(hardware, request)
    search = _Search(graph, hardware, request)
    wanted = request.strategy or "auto"
    names = [s for s in STRATEGIES if s != "auto"] if wanted == "auto" else [wanted]
    for name in names:
        search.add(name)
    return search.result()


@final
@dataclass(slots=True)
class _Search:
    """Keeps the best program so far."""

    graph: Graph
    hardware: CrossbarHardware
    request: Request
    best: Program | None = None
    best_cost: float = math.inf
    failed: CapacityError | None = None
    tried: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    _cuts: dict[tuple[Any, ...], _Cut | None] = field(default_factory=dict[tuple[Any, ...], "_Cut | None"])

    def add(self, strategy: str) -> None:
        """Tries the plans of a strategy that are predicted to be fastest, and the best of these with fewer writers at once."""
        most = TRIED[self.request.effort if self.request.cost is not None else 0]
        found: list[tuple[float, Plan]] = []
        for plan in self._ranked(strategy):
            if len(found) == most:
                break
            cost = self._try(plan)
            if cost is not None:
                found.append((cost, plan))
        if found and self.request.cost is not None:
            best = min(found, key=lambda one: one[0])[1]
            if best.schedule is Schedule.FREE:
                self._try(replace(best, is_limited=True))

    def _ranked(self, strategy: str) -> list[Plan]:
        """Plans that can be cut, those predicted to be fastest first."""
        known = [(cut.cost, plan) for plan in plans(strategy, self.hardware.chip.cores) if (cut := self._cut(plan)) is not None]
        return [plan for _, plan in sorted(known, key=lambda one: one[0])]

    def _cut(self, plan: Plan) -> _Cut | None:
        key = (plan.parts, plan.stay, plan.fill, plan.overlap)
        if key not in self._cuts:
            try:
                self._cuts[key] = _Cut.of(self.graph, self.hardware, plan, self.request.samples)
            except CapacityError as error:
                self.failed = self.failed or error
                self._cuts[key] = None
        return self._cuts[key]

    def _try(self, plan: Plan) -> float | None:
        """Compiles a plan; its cycles, or None if it does not fit."""
        cut = self._cut(plan)
        assert cut is not None
        self.request.progress(plan.name)
        try:
            program = _program(plan, cut, self.request)
        except CapacityError as error:
            self.failed = self.failed or error
            self.tried.append({"what": plan.name, "fits": False, "why": str(error)})
            return None
        cost = float(self.request.cost(program)[0]) if self.request.cost is not None else 0.0
        self.tried.append({"what": plan.name, "fits": True, "cycles": cost})
        if self.best is None or cost < self.best_cost:
            self.best, self.best_cost = program, cost
        return cost

    def result(self) -> Program:
        """The best program, with what was tried among its notes."""
        if self.best is None:
            raise self.failed or packing_error(0, self.hardware)
        return replace(self.best, notes={**self.best.notes, "tried": self.tried})


@final
@dataclass(slots=True)
class _Cut:
    """A network cut into segments for some parts.

    Attributes:
        flow: the network, its large layers in pieces.
        cutter: how it was cut.
        segments: in order.
        placed: these on cores, once they were asked for.
        known: segments that were placed so far.
    """

    flow: Dataflow
    cutter: Cutter
    segments: tuple[Segment, ...]
    placed: list[Placed] = field(default_factory=list[Placed])
    known: dict[Segment, Placed] = field(default_factory=dict[Segment, Placed])

    @staticmethod
    def of(graph: Graph, hardware: CrossbarHardware, plan: Plan, samples: int) -> _Cut:
        """Cuts a network as a plan wants it."""
        held = parts_of(hardware, plan.parts)
        row_bytes = hardware.core.local_memory.size_bytes // ROWS_HELD
        flow = analyse(graph, row_bytes)
        capacity = Cutter(flow, hardware, held, plan.fill, plan.overlap, plan.stay, samples).capacity
        whole = with_fitting_layers(graph, flow, hardware, capacity)
        flow = flow if whole is graph else analyse(whole, row_bytes)
        cutter = Cutter(flow, hardware, held, plan.fill, plan.overlap, plan.stay, samples)
        return _Cut(flow, cutter, cutter.cut(capacity))

    @property
    def cost(self) -> float:
        """Predicted cycles."""
        return self.cutter.predicted(self.segments)

    def place(self, request: Request) -> list[Placed]:
        """Places and plans all segments; where one does not fit, cuts into smaller ones.

        Raises:
            CapacityError: a segment does not fit, however small.
        """
        share = 1.0
        while not self.placed:
            for segment in self.segments:
                try:
                    if segment not in self.known:
                        self.known[segment] = self._place(segment, request)
                except CapacityError:
                    share *= SHRINK
                    if self.cutter.layers(segment) == 1 or share < LEAST_SHARE:
                        raise
                    self.segments = self.cutter.cut(int(self.cutter.capacity * share))
                    break
            else:
                self.placed = [self.known[segment] for segment in self.segments]
        return self.placed

    def _place(self, segment: Segment, request: Request) -> Placed:
        """Maps a segment to its part and plans it.

        Raises:
            CapacityError: it does not fit.
        """
        cores, options = self.cutter.parts[segment.part].cores, Options(mode=request.mode.value, samples=request.samples)
        flow, kept = restricted(self.flow, segment), crossing(self.flow, segment)
        failed: CapacityError | None = None
        for machine, is_tall in self.cutter.machines_for(segment):
            mapper = Mapper(self.flow.graph, machine, request.mode, flow=flow)
            for fill, policies in _ways(0.0 if is_tall else self.cutter.fill):
                mapped = mapper.map(fill, policies)
                if mapped is None:
                    continue
                try:
                    return Placed(fitted(mapper, mapped, options, kept)[1], cores, is_tall)
                except CapacityError as error:
                    failed = error
            failed = failed or packing_error(mapper.needed, machine)
        raise failed or InternalError("a segment has no machine")


def _ways(fill: float) -> list[tuple[float, Sequence[Policy]]]:
    """Shares of the crossbars and ways to choose cores, the best first."""
    fills = [fill, *(f for f in FILLS if f < fill)]
    return [*((f, policies) for f in fills for policies in (NEIGHBOURS, BALANCED)), (0.0, LAST_RESORT)]


def _program(plan: Plan, cut: _Cut, request: Request) -> Program:
    """The program of a plan, for a network cut as the plan wants it."""
    hardware, placed = cut.cutter.hardware, cut.place(request)
    writers = _writers(hardware) if plan.is_limited else 0
    stitcher = Stitcher(cut.flow.graph, hardware, placed, plan.schedule, writers, request.samples)
    return stitcher.program(request.mode.value, _notes(plan, cut, placed))


def _writers(machine: CrossbarHardware) -> int:
    """Groups of one array that keep the global memory busy between them."""
    memory, bits = machine.global_memory, machine.precision.weight_bits
    row_bytes = machine.crossbar.logical_cols(bits) * bits // 8
    per_row = row_bytes / memory.width_bytes * memory.read_beat_cycles / memory.ports
    return max(1, math.ceil(machine.row_write_cycles(1) / per_row)) * machine.chips


def _notes(plan: Plan, cut: _Cut, placed: Sequence[Placed]) -> dict[str, Any]:
    nodes = cut.flow.graph.nodes
    copies: dict[str, int] = {}
    for segment in placed:
        scope = segment.lowering.scope
        each = zip(scope.flow.stages, scope.placement.copies, strict=True)
        copies |= {nodes[s.node].name: n for s, n in each if s.kind is Kind.MATRIX}
    return {
        "strategy": plan.strategy,
        "plan": plan.name,
        "segments": describe(cut.flow, cut.segments),
        "crossbars_available": cut.cutter.hardware.total_crossbars,
        "copies": copies,
        "kinds": {nodes[s.node].name: s.kind.value for s in cut.flow.stages},
    }


def compile_plan(graph: Graph, hardware: CrossbarHardware, request: Request, plan: Plan) -> Program:
    """The program of one plan.

    Raises:
        CapacityError: a layer or a memory is too large even so.
    """
    return _program(plan, _Cut.of(graph, hardware, plan, request.samples), request)


__all__ = ["DIVISIONS", "FILLS", "STRATEGIES", "Plan", "check", "compile_plan", "compile_rewritten", "plans"]
