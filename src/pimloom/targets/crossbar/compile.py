"""The compiler of the crossbar target: map, lower; and refine by simulation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, final

import numpy as np

from pimloom.errors import CapacityError, InternalError
from pimloom.hardware import CrossbarHardware
from pimloom.ir.graph import Graph
from pimloom.program import Program
from pimloom.scheduling import can_relist, idle_cycles, relist, split_rows
from pimloom.targets import Mode, Request
from pimloom.targets.crossbar.lower import Lowering, Options
from pimloom.targets.crossbar.mapper import BALANCED, FILLS, LAST_RESORT, NEIGHBOURS, Mapped, Mapper
from pimloom.targets.crossbar.placement import ROW_COST, Policy, packing_error

PLACEMENTS = 3  # tries to find room by placing again
SHRINK = 0.3  # what is left of the buffers of a core that is too full, at each try
LEAST_SHARE = 0.005


@final
@dataclass(frozen=True, slots=True)
class Trial:
    """A program to try.

    Attributes:
        fill: share of the crossbars for copies.
        policies: ways to choose cores, tried in turn.
        row_cost: what a further class of rows is taken to cost; the less, the more even layers are and the more they hold.
    """

    fill: float
    policies: Sequence[Policy]
    row_cost: float = ROW_COST

    @property
    def name(self) -> str:
        """In words."""
        way = "balanced over cores" if self.policies == BALANCED else "near each other"
        rows = "" if self.row_cost == ROW_COST else ", rows divided freely"
        return f"copies on {self.fill:.0%} of the crossbars, {way}{rows}"


FREE_ROWS: Final = 0.1  # row cost of trials for machines and networks whose memories have room
_ALL_FILLS: Final = (0.94, 0.88, 0.8, 0.7, 0.6, 0.5, 0.35, 0.25)
_MANY: Final = tuple(Trial(fill, policies) for fill in _ALL_FILLS for policies in (NEIGHBOURS, BALANCED))
_MANY_FREE: Final = tuple(Trial(fill, BALANCED, FREE_ROWS) for fill in _ALL_FILLS)
_FEW: Final[Mapping[Mode, tuple[Trial, ...]]] = {
    Mode.LATENCY: (Trial(0.88, NEIGHBOURS), Trial(0.88, BALANCED)),
    Mode.THROUGHPUT: (
        Trial(0.94, BALANCED, FREE_ROWS),
        Trial(0.88, BALANCED, 3 * FREE_ROWS),
        Trial(0.94, NEIGHBOURS, FREE_ROWS),
        Trial(0.8, BALANCED),
    ),
}


GOOD: Final = 1.28  # times the compute bound: nearer than that, a throughput program of many rows is taken as it is
MANY_ROWS: Final = 20_000
COMPARED_SAMPLES: Final = 4  # of programs of many rows: enough for a period to show
FAR: Final = 2.2  # times the compute bound: memories are what a program waits for, fewer copies leave them room
_ROOMY: Final = (Trial(0.5, BALANCED), Trial(0.35, BALANCED))
# Where cores do one thing at a time, every message stops two of them: few copies are often faster than many, unless there
# is hardly room for more than one of each layer.
_SERIAL: Final[Mapping[Mode, tuple[Trial, ...]]] = {
    Mode.LATENCY: tuple(Trial(fill, NEIGHBOURS) for fill in (0.88, 0.3, 0.2, 0.12)),
    Mode.THROUGHPUT: tuple(Trial(fill, NEIGHBOURS) for fill in (0.2, 0.25, 0.3, 0.15, 0.1)),
}

_FULL: Final = (Trial(0.88, NEIGHBOURS), Trial(0.5, NEIGHBOURS))


def trials(mode: Mode, effort: int, *, is_serial: bool) -> tuple[Trial, ...]:
    """What an effort tries: everything that a smaller one tries, and more."""
    if effort == 0:
        return ()
    few = (_SERIAL if is_serial else _FEW)[mode]
    many = (*_MANY_FREE, *_MANY) if mode is Mode.THROUGHPUT and not is_serial else _MANY
    return few if effort == 1 else (*few, *(t for t in many if t not in few))


def lower(mapper: Mapper, mapped: Mapped, options: Options) -> Program:
    """The program of a mapped network.

    Raises:
        CapacityError: a local memory is too small for it.
    """
    hardware = mapper.hardware
    mapped, lowering, full = _with_room(mapper, mapped, options)
    shares: dict[int, float] = {}
    windowed: set[int] = set()
    while True:
        if not full:
            return replace(lowering.emit(), notes=_notes(mapped, hardware))
        # Windows on the cores that are too full; then smaller tasks, until they are single vectors.
        for core in full:
            if core in windowed:
                shares[core] = shares.get(core, 1.0) * SHRINK
            windowed.add(core)
        worst = max(full, key=full.__getitem__)
        if min(shares.get(core, 1.0) for core in full) < LEAST_SHARE:
            raise CapacityError(
                f"local memory of core {worst} (bytes)", full[worst], hardware.core.local_memory.size_bytes, hardware.name,
                "use a machine with more local memory per core, or more cores",
            )  # fmt: skip
        lowering = Lowering(mapped.flow, hardware, mapped.unfolded, mapped.placement, options, shares, windowed)
        full = lowering.plan()


def _with_room(mapper: Mapper, mapped: Mapped, options: Options) -> tuple[Mapped, Lowering, dict[int, int]]:
    """Places again, with what layers turned out to need, while cores are too full and that helps.

    Returns:
        The placement that overfills memories least, its plan, and the cores that it overfills with the bytes they need.
    """
    tried: list[tuple[int, Mapped, Lowering, dict[int, int]]] = []
    factors: dict[int, float] = {}
    for _ in range(PLACEMENTS if mapped.policy is Policy.BALANCED else 1):
        lowering = Lowering(mapped.flow, mapper.hardware, mapped.unfolded, mapped.placement, options)
        full = lowering.plan()
        excess = sum(used - mapper.hardware.core.local_memory.size_bytes for used in full.values())
        tried.append((excess, mapped, lowering, full))
        if not excess or mapped.policy is not Policy.BALANCED:
            break
        wished = mapped.placement.wished_bytes
        for stage, needed in lowering.memory.bytes_by_layer().items():
            if wished.get(stage):
                factors[stage] = min(max(needed / wished[stage], 0.25), 8.0)
        placed = mapper.place(mapped.copies, mapped.policy, factors, mapped.splits)
        if placed is None:
            break
        mapped = placed
    return min(tried, key=lambda one: one[0])[1:]


def _notes(mapped: Mapped, hardware: CrossbarHardware) -> dict[str, Any]:
    graph = mapped.flow.graph
    used = sum(g.crossbars for g in mapped.placement.groups)
    return {
        "crossbars_used": used,
        "crossbars_available": hardware.total_crossbars,
        "compute_bound_cycles": mapped.bottleneck_cycles,
        "crossbars_per_copy": {graph.nodes[mapped.flow.stages[i].node].name: u.crossbars for i, u in mapped.unfolded.items()},
        "copies": {graph.nodes[mapped.flow.stages[i].node].name: n for i, n in mapped.copies.items()},
        "kinds": {graph.nodes[s.node].name: s.kind.value for s in mapped.flow.stages},
    }


def compile_network(graph: Graph, hardware: CrossbarHardware, request: Request) -> Program:
    """Compiles a quantised graph for a machine of crossbar cores.

    Copies of layers make a network faster until links and local memories are what it waits for; where that is depends on both.
    So several shares of the crossbars and ways to place them are tried and the simulator, if it was handed in, says which program
    is best.
    """
    search = _Search(Mapper(graph, hardware, request.mode), request)
    effort = request.effort if request.cost is not None else 0
    is_serial = search.mapper.is_serial
    is_quick = effort == 1 and request.mode is Mode.THROUGHPUT
    for trial in trials(request.mode, effort, is_serial=is_serial):
        if not (is_quick and not is_serial and search.is_good):
            search.add(trial)
    for trial in _FULL if is_serial else _ROOMY:
        if is_quick and search.best_cost > FAR * search.mapper.bottleneck_cycles:
            search.add(trial)
    # Effort 0 is in all others: more effort is never worse.
    if search.best is None or request.effort >= 2:
        search.first_feasible()
    if request.effort == 3 and request.cost is not None:
        search.vary()
    return search.result()


@final
class _Search:
    """Keeps the best program so far."""

    def __init__(self, mapper: Mapper, request: Request) -> None:
        """Nothing tried yet."""
        self.mapper, self.request = mapper, request
        self.options = Options(mode=request.mode.value, samples=request.samples)
        self.best: Program | None = None
        self.best_cost = math.inf
        self.best_mapped: Mapped | None = None
        self.tried: list[dict[str, Any]] = []
        self._seen: set[tuple[Any, ...]] = set()

    def add(self, trial: Trial) -> None:
        """Tries a mapping, unless it was tried before; one with fewer copies where it does not fit core by core and nothing else did."""
        mapped = self.mapper.map(trial.fill, trial.policies, trial.row_cost)
        while mapped is None:
            self.tried.append({"what": trial.name, "fits": False, "why": "copies do not fit core by core"})
            smaller = [fill for fill in FILLS if fill < trial.fill]
            if not smaller or self.best is not None:
                return
            trial = replace(trial, fill=smaller[0])
            mapped = self.mapper.map(trial.fill, trial.policies, trial.row_cost)
        key = (mapped.policy, *sorted(mapped.copies.items()))
        if key not in self._seen:
            self._seen.add(key)
            self._lower(mapped, self.options, trial.name)

    def _lower(self, mapped: Mapped, options: Options, name: str) -> CapacityError | None:
        """Lowers a mapping and keeps its program if it is the best; returns why it does not fit, if so."""
        self.request.progress(name)
        try:
            program = lower(self.mapper, mapped, options)
        except CapacityError as error:
            self.tried.append({"what": name, "fits": False, "why": str(error)})
            return error
        if self.request.cost is not None and can_relist(program):
            # What a core has to do is a bound that no order of it beats.
            busiest = np.bincount(program.rows["processor"], idle_cycles(program)).max()
            if busiest >= self.best_cost:
                self.tried.append({"what": name, "fits": True, "why": f"one core is busy for {busiest:.0f} cycles"})
                return None
            relisted = relist(split_rows(program))
            if relisted is not None:
                self._keep(relisted, mapped, f"{name}, relisted")
                if program.n_rows > MANY_ROWS:
                    return None  # among many rows waits are many, too, and the old order has never won
        self._keep(program, mapped, name)
        return None

    @property
    def is_good(self) -> bool:
        """Whether the best so far is near the compute bound, and another trial would take long."""
        return self.best is not None and self.best.n_rows > MANY_ROWS and self.best_cost <= GOOD * self.mapper.bottleneck_cycles

    def _keep(self, program: Program, mapped: Mapped, name: str) -> None:
        cost = self._cost(program)
        self.tried.append({"what": name, "fits": True, "cycles": cost})
        if self.best is None or cost < self.best_cost:
            self.best, self.best_cost, self.best_mapped = program, cost, mapped

    def _cost(self, program: Program) -> float:
        if self.request.cost is None:
            return 0.0
        is_long = program.n_rows > MANY_ROWS and program.samples > COMPARED_SAMPLES
        latency, period = self.request.cost(replace(program, samples=COMPARED_SAMPLES) if is_long else program)
        return period if self.request.mode is Mode.THROUGHPUT else float(latency)

    def first_feasible(self) -> None:
        """Fewer and fewer copies until it fits; the CapacityError of the last if nothing does."""
        failed: CapacityError | None = None
        for fill in FILLS:
            for policies in ((p,) for p in ([Policy.LEAST_LOADED] if self.mapper.is_serial else LAST_RESORT)):
                mapped = self.mapper.map(fill, policies)
                if mapped is None:
                    continue
                failed = self._lower(mapped, self.options, f"copies on {fill:.0%} of the crossbars, {mapped.policy.value}")
                if failed is None:
                    return
        if self.best is None:
            raise failed or packing_error(self.mapper.needed, self.mapper.hardware)

    def vary(self) -> None:
        """Varies what the order of work rests on, for the best mapping."""
        if self.best_mapped is None:
            return
        for delay in (50.0, 800.0, 3000.0):
            self._lower(self.best_mapped, replace(self.options, delay_cycles=delay), f"assumed delay of {delay:.0f} cycles")
        for lead in (1000.0, 16000.0):
            self._lower(self.best_mapped, replace(self.options, lead_cycles=lead), f"loads {lead:.0f} cycles ahead")
        for slack in (0, 4, 8):
            self._lower(self.best_mapped, replace(self.options, slack_rows=slack), f"{slack} rows of slack")

    def result(self) -> Program:
        """The best program, with what was tried among its notes."""
        if self.best is None:
            raise InternalError("no mapping was tried")
        return replace(self.best, notes={**self.best.notes, "tried": self.tried})
