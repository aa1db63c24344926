"""The compiler of the crossbar target: map, lower; and refine by simulation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, final

import numpy as np

from pimloom.errors import CapacityError, InternalError, UsageError
from pimloom.hardware import CrossbarHardware
from pimloom.ir.graph import Graph
from pimloom.program import Program
from pimloom.scheduling import can_relist, relist, split_rows
from pimloom.targets import Mode, Request
from pimloom.targets.crossbar.capacity import packing_error
from pimloom.targets.crossbar.cores import Policy
from pimloom.targets.crossbar.fit import fitted, has_least_room
from pimloom.targets.crossbar.lower import Held, Options, uncollected
from pimloom.targets.crossbar.mapper import BALANCED, FILLS, LAST_RESORT, NEIGHBOURS, PLAIN_WAYS, Mapped, Mapper
from pimloom.targets.crossbar.placer import ROW_COST
from pimloom.targets.crossbar.rewrite import check, compile_rewritten
from pimloom.targets.crossbar.serial import SerialWork


@final
@dataclass(frozen=True, slots=True)
class Trial:
    """A program to try.

    Attributes:
        fill: share of the crossbars for copies.
        policies: ways to choose cores, tried in turn.
        row_cost: what a further class of rows is taken to cost; the less, the more even layers are and the more they hold.
        overlaps: whether a core may begin a sample before it has ended the one before (throughput mode, where cores do one thing at
            a time; all other cores do).
        spends: whether crossbars that the slowest layer's time does not take are given to other layers.
    """

    fill: float
    policies: Sequence[Policy]
    row_cost: float = ROW_COST
    overlaps: bool = False
    spends: bool = True

    @property
    def name(self) -> str:
        """In words."""
        way = "balanced over cores" if self.policies == BALANCED else "near each other"
        rows = "" if self.row_cost == ROW_COST else ", rows divided freely"
        samples = ", samples overlap" if self.overlaps else ""
        part = "" if self.spends else "what is needed of "
        return f"copies on {part}{self.fill:.0%} of the crossbars, {way}{rows}{samples}"


FREE_ROWS: Final = 0.1  # row cost of trials for machines and networks whose memories have room
_ALL_FILLS: Final = (0.94, 0.88, 0.8, 0.7, 0.6, 0.5, 0.35, 0.25)
_MANY: Final = tuple(Trial(fill, policies) for fill in _ALL_FILLS for policies in (NEIGHBOURS, BALANCED))
_MANY_OVERLAPPING: Final = tuple(Trial(fill, NEIGHBOURS, overlaps=True) for fill in _ALL_FILLS)
_MANY_FREE: Final = tuple(Trial(fill, BALANCED, FREE_ROWS) for fill in _ALL_FILLS)
_FEW: Final[Mapping[Mode, tuple[Trial, ...]]] = {
    Mode.LATENCY: (Trial(0.88, NEIGHBOURS), Trial(0.88, BALANCED)),
    Mode.THROUGHPUT: (
        Trial(0.94, BALANCED, FREE_ROWS),
        Trial(0.94, BALANCED, FREE_ROWS, spends=False),
        Trial(0.88, BALANCED, 3 * FREE_ROWS),
        Trial(0.8, BALANCED),
        Trial(0.94, NEIGHBOURS, FREE_ROWS),  # of programs of many rows it has never been the best
    ),
}


GOOD: Final = 1.28  # times the compute bound: nearer than that, a throughput program of many rows is taken as it is
MANY_ROWS: Final = 20_000
COMPARED_SAMPLES: Final = 4  # of programs of many rows: enough for a period to show
STEADY_PERIODS: Final = 2  # the least number of samples, times the periods that a sample is spread over
FAR: Final = 2.2  # times the compute bound: memories are what a program waits for, fewer copies leave them room
TIGHT_FILLS: Final = (0.98, 0.94, 0.91, 0.88, 0.75)
"""Shares of the crossbars for copies where whole columns leave so many cores partly empty that copies do not fit as asked for."""

_ROOMY: Final = (Trial(0.5, BALANCED), Trial(0.35, BALANCED))
# Where cores do one thing at a time, every message stops two of them: few copies are often faster than many. Samples that overlap on
# a core are what few copies need to keep all cores busy; many do it better one sample after the other.
_SERIAL: Final[Mapping[Mode, tuple[Trial, ...]]] = {
    Mode.LATENCY: tuple(Trial(fill, NEIGHBOURS) for fill in (0.3, 0.88, 0.5, 0.2, 0.12)),
    Mode.THROUGHPUT: tuple(Trial(fill, NEIGHBOURS, overlaps=True) for fill in (0.3, 0.2, 0.12, 0.5, 0.88)),
}
SERIAL_SLACK_ROWS: Final = 32
"""Of a ring where cores do one thing at a time: what lets a core go on while the next one is busy with something else."""


def trials(mode: Mode, effort: int, *, is_serial: bool) -> tuple[Trial, ...]:
    """What an effort tries: everything that a smaller one tries, and more."""
    if effort == 0:
        return ()
    few = (_SERIAL if is_serial else _FEW)[mode]
    more = _MANY_OVERLAPPING if is_serial else _MANY_FREE
    many = (*more, *_MANY) if mode is Mode.THROUGHPUT else _MANY
    return few if effort == 1 else (*few, *(t for t in many if t not in few))


def lower(mapper: Mapper, mapped: Mapped, options: Options, held: Held | None = None) -> Program:
    """The program of a mapped network.

    Args:
        mapper: which mapped it.
        mapped: the network.
        options: of the lowering.
        held: see `Lowering.weights`.

    Raises:
        CapacityError: a local memory is too small for it.
    """
    with uncollected():
        mapped, lowering = fitted(mapper, mapped, options)
        program = replace(lowering.emit(held), notes=_notes(mapped, mapper.hardware))
        del lowering
    return program


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

    A network that does not fit is refused, or, if the request says so, held in turns by arrays that are rewritten.

    Raises:
        CapacityError: it does not fit.
        HardwareError: arrays are to be rewritten, and the machine does not say how.
        UsageError: a strategy where nothing is rewritten.
    """
    if request.rewrite:
        check(hardware, request)
    elif request.strategy:
        found = f"strategy: '{request.strategy}' found, none expected on '{hardware.name}'"
        raise UsageError(f"{found}: its arrays are written once, so there is no choice; add --rewrite, or leave out --strategy")
    try:
        program = compile_resident(graph, hardware, request)
    except CapacityError as error:
        if request.rewrite:
            return compile_rewritten(graph, hardware, request)
        raise _naming_rewriting(error, hardware) from None
    if request.strategy:
        found = f"strategy: '{request.strategy}' found, none expected"
        raise UsageError(f"{found}: '{graph.name}' fits '{hardware.name}', so nothing is rewritten; leave out --strategy")
    return program


def _naming_rewriting(error: CapacityError, hardware: CrossbarHardware) -> CapacityError:
    """The error with one more way out, where the machine has it."""
    if hardware.crossbar.rewriting is None:
        return error
    advice = f"{error.advice}, or let arrays be rewritten while it runs (--rewrite)"
    return CapacityError(error.resource, error.needed, error.available, hardware.name, advice)


def compile_resident(graph: Graph, hardware: CrossbarHardware, request: Request) -> Program:
    """Compiles a quantised graph whose weights all have their place.

    Copies of layers make a network faster until links and local memories are what it waits for; where that is depends on both.
    So several shares of the crossbars and ways to place them are tried and the simulator, if it was handed in, says which program
    is best.

    Raises:
        CapacityError: it does not fit.
    """
    search = _Search(Mapper(graph, hardware, request.mode), request)
    effort = request.effort if request.cost is not None else 0
    is_serial = search.mapper.is_serial
    is_quick = effort == 1 and request.mode is Mode.THROUGHPUT
    for trial in trials(request.mode, effort, is_serial=is_serial):
        if not (is_quick and not is_serial and (search.is_good or (search.is_long and trial.policies == NEIGHBOURS))):
            search.add(trial)
    if effort and not search.has_room:
        search.pack()
    elif effort and search.is_crowded and request.mode is Mode.THROUGHPUT and (effort > 1 or search.is_far):
        search.pack_evenly()
    if is_quick and not is_serial:
        search.try_roomier()
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
        """Nothing tried yet.

        `has_room` says whether a trial had all the copies that it asked for, and fitted; `is_crowded`, whether one had not.
        """
        self.mapper, self.request = mapper, request
        order = Mode.LATENCY if mapper.is_serial else request.mode
        slack = SERIAL_SLACK_ROWS if mapper.is_serial else Options().slack_rows
        self.options = Options(mode=order.value, samples=request.samples, has_periods=not mapper.is_serial, slack_rows=slack)
        self.best: Program | None = None
        self.best_cost = math.inf
        self.best_mapped: Mapped | None = None
        self.tried: list[dict[str, Any]] = []
        self.has_room = self.is_crowded = False
        self._pieces: Program | None = None
        self._held: Held = {}
        self._seen: dict[tuple[Any, ...], CapacityError | None] = {}

    def add(self, trial: Trial) -> None:
        """Tries a mapping, unless it was tried before; one with fewer copies where it does not fit core by core and nothing else did."""
        asked = trial.fill
        mapped = self.mapper.map(trial.fill, trial.policies, trial.row_cost, spends=trial.spends)
        self.is_crowded |= mapped is None
        while mapped is None:
            self.tried.append({"what": trial.name, "fits": False, "why": "copies do not fit core by core"})
            smaller = [fill for fill in FILLS if fill < trial.fill]
            if not smaller or self.best is not None:
                return
            trial = replace(trial, fill=smaller[0])
            mapped = self.mapper.map(trial.fill, trial.policies, trial.row_cost, spends=trial.spends)
        options = replace(self.options, mode=Mode.THROUGHPUT.value, has_periods=True) if trial.overlaps else self.options
        failed = self._lower_once(mapped, options, trial.name, overlaps=trial.overlaps)
        self.has_room |= failed is None and trial.fill == asked and asked * self.mapper.hardware.total_crossbars >= self.mapper.needed

    def _lower_once(self, mapped: Mapped, options: Options, name: str, *, overlaps: bool = False) -> CapacityError | None:
        """As `_lower`, for a mapping that was not lowered before."""
        key = (mapped.policy, overlaps, *sorted(mapped.copies.items()))
        if key not in self._seen:
            self._seen[key] = self._lower(mapped, options, name)
        return self._seen[key]

    def _lower(self, mapped: Mapped, options: Options, name: str) -> CapacityError | None:
        """Lowers a mapping and keeps its program if it is the best; returns why it does not fit, if so."""
        self.request.progress(name)
        try:
            program = lower(self.mapper, mapped, options, self._held)
        except CapacityError as error:
            self.tried.append({"what": name, "fits": False, "why": str(error)})
            return error
        if self.request.cost is not None and can_relist(program):
            self._keep_relisted(program, mapped, name)
        else:
            self._keep(program, mapped, name)
        return None

    def _keep_relisted(self, program: Program, mapped: Mapped, name: str) -> None:
        """Keeps a program, in the order of a schedule, if it is the best where every step is an instruction of its own."""
        pieces, work = split_rows(program), SerialWork(mapped.flow, self.mapper.hardware, mapped.unfolded)
        cycles = work.row_cycles(pieces)
        # What a core, or the global memory, has to do is a bound that no order of it beats.
        busiest, memory = np.bincount(pieces.rows["processor"], cycles).max(), work.memory_cycles(pieces)
        if max(busiest, memory) >= self.best_cost:
            who = "one core" if busiest >= memory else "the global memory"
            self.tried.append({"what": name, "fits": True, "why": f"{who} is busy for {max(busiest, memory):.0f} cycles"})
            return
        found = relist(pieces, cycles, below=self.best_cost)
        if found is not None:
            cost = max(found.cycles, memory)
            self.tried.append({"what": name, "fits": True, "scheduled_cycles": cost})
            if cost < self.best_cost:
                self.best, self.best_cost, self.best_mapped, self._pieces = found.program, cost, mapped, pieces
            return
        self.tried.append({"what": name, "fits": True, "why": "no order of its rows was found that is better"})
        if self.best is None:
            self.best, self.best_mapped = program, mapped

    def _reorder(self) -> None:
        """Of the best program that was kept by cycles of single instructions: the order of its rows that is best by its own."""
        if self._pieces is None or self.best is None or self.best_mapped is None:
            return
        orders = {"single instructions": self.best}
        own = relist(self._pieces)
        if own is not None:
            orders["its rows"] = own.program
        if self._pieces.n_rows <= MANY_ROWS:
            orders["the timetable"] = self._pieces  # among many rows waits are many, too, and that order has never won
        self.best = None
        for name, program in orders.items():
            self._keep(program, self.best_mapped, f"the best of them in the order of {name}")

    def pack(self) -> None:
        """Tries tall layers cut by rows, which fill cores that have no room for whole columns.

        On the cores that pieces strain least, and on the tightest ones, where they are cut as little as gives copies room: which is
        better depends on how full cores get.
        """
        self.pack_evenly()
        for policy in (Policy.CUT, Policy.CUT_CLOSELY):
            if self._pack(policy):
                return

    def pack_evenly(self) -> None:
        """The first way of `pack`, which packs less tightly."""
        if not self.mapper.is_serial:
            self._pack(Policy.CUT_BALANCED)

    def _pack(self, policy: Policy) -> bool:
        """Fewer and fewer copies as long as that helps; whether there was room for any."""
        before, has_copies = math.inf, False
        # Memories are what such programs wait for: copies that do not shorten the slowest layer's time only take room from others.
        spends = policy is not Policy.CUT_BALANCED or self.request.mode is Mode.LATENCY
        for fill in TIGHT_FILLS:
            if has_copies and fill * self.mapper.hardware.total_crossbars < self.mapper.needed:
                break  # that is one copy of each layer
            mapped, tried = self.mapper.map(fill, (policy,), spends=spends), len(self.tried)
            if mapped is None:
                continue
            failed = self._lower_once(mapped, self.options, f"copies on {fill:.0%} of the crossbars, {policy.value}")
            if failed is not None or len(self.tried) == tried:
                continue
            has_copies |= max(mapped.copies.values()) > 1
            cost = self.tried[-1].get("cycles", self.tried[-1].get("scheduled_cycles", math.inf))
            if cost >= before:
                break
            before = cost
        return has_copies

    def try_roomier(self) -> None:
        """Tries fewer and fewer copies where all stay far from the compute bound, as long as that helps."""
        for trial in _ROOMY:
            before = self.best_cost
            if not self.is_far:
                return
            self.add(trial)
            if self.best_cost >= before:
                return

    @property
    def is_far(self) -> bool:
        """Whether all programs stay far from the compute bound."""
        return self.best_cost > FAR * self.mapper.bottleneck_cycles

    @property
    def is_good(self) -> bool:
        """Whether the best so far is near the compute bound, and another trial would take long."""
        return self.is_long and self.best_cost <= GOOD * self.mapper.bottleneck_cycles

    @property
    def is_long(self) -> bool:
        """Whether the best so far is a program of many rows, and another trial would take long."""
        return self.best is not None and self.best.n_rows > MANY_ROWS

    def _keep(self, program: Program, mapped: Mapped, name: str) -> None:
        cost = self._cost(program)
        self.tried.append({"what": name, "fits": True, "cycles": cost})
        if self.best is None or cost < self.best_cost:
            self.best, self.best_cost, self.best_mapped = program, cost, mapped

    def _cost(self, program: Program) -> float:
        if self.request.cost is None:
            return 0.0
        enough = max(COMPARED_SAMPLES, STEADY_PERIODS * int(program.rows["stage"].max(initial=0)))
        # A period may grow as queues fill, so larger efforts compare what will be run: theirs is then never worse.
        is_long = program.n_rows > MANY_ROWS and program.samples != 1 and self.request.effort < 2
        latency, period = self.request.cost(replace(program, samples=enough) if is_long else program)
        return period if self.request.mode is Mode.THROUGHPUT else float(latency)

    def first_feasible(self) -> None:
        """Fewer and fewer copies until it fits; the CapacityError of the last if nothing does."""
        failed: CapacityError | None = None
        for fill in FILLS:
            for mapped in self._placed_plainly(fill):
                failed = self._lower_once(mapped, self.options, f"copies on {fill:.0%} of the crossbars, {mapped.policy.value}")
                if failed is None:
                    return
            # Where one copy of each layer has no room, more have none either.
            if fill == FILLS[0] and self.best is None and not self._has_room_once():
                break
        if self.best is None:
            raise failed or packing_error(self.mapper.needed, self.mapper.hardware)

    def _placed_plainly(self, fill: float) -> Iterator[Mapped]:
        """The ways to place copies on a share of the crossbars, one after the other; of one copy each the last one, too."""
        ways = PLAIN_WAYS if fill else LAST_RESORT
        for policy in (Policy.LEAST_LOADED,) if self.mapper.is_serial else ways:
            mapped = self.mapper.map(fill, (policy,))
            if mapped is not None:
                yield mapped

    def _has_room_once(self) -> bool:
        """Whether local memories have room for one copy of each layer, placed in any way."""
        return any(has_least_room(self.mapper, mapped, self.options) for mapped in self._placed_plainly(0.0))

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
        self._reorder()
        if self.best is None:
            raise InternalError("no mapping was tried")
        return replace(self.best, mode=self.request.mode.value, notes={**self.best.notes, "tried": self.tried})
