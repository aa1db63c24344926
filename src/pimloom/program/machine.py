"""What a kind of machine tells the engines: its resources, its issue rules, and what each opcode costs on it.

A kind of machine is a `Machine` in the table of `machines`. Rows that differ in nothing that costs depend on are of one form, and
costs are those of forms. They are worked out for all forms of an opcode at once: a formula fills (resource, hold, pass) of up to
four phases, and adds picojoules and bytes per component.
"""

from __future__ import annotations

import functools
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, final

import numpy as np

from pimloom.hardware import Hardware
from pimloom.kernels import forms as kernel
from pimloom.program.isa import MAX_PHASES
from pimloom.program.program import Program
from pimloom.program.rows import ROW, Array, ragged

H_co = TypeVar("H_co", bound=Hardware, covariant=True)
R_co = TypeVar("R_co", bound="Resources", covariant=True)


class Resources(ABC):
    """The resources of a machine: numbers for the engines, here with a component (for reports) and an owner.

    Attributes:
        component: int8[R], index into `components`.
        owner: int32[R], processor, chip or whatever it belongs to.
        weight: float64[R], how many units a resource stands for (crossbars of an array group), 1 for most.
    """

    component: Array
    owner: Array
    weight: Array

    @property
    @abstractmethod
    def components(self) -> tuple[str, ...]:
        """Names of the components of the machine."""

    @property
    @abstractmethod
    def shared(self) -> Array:
        """int8[R]: 1 where processors contend."""

    @property
    @abstractmethod
    def units(self) -> Mapping[str, int]:
        """Units of each component that the machine has, used or not."""

    @property
    @abstractmethod
    def arrays(self) -> str:
        """The component whose units hold weights; a name that is no component if there is none."""

    @property
    @abstractmethod
    def of_processors(self) -> tuple[str, ...]:
        """Components whose owners are processors, for drawings of the chip."""

    def routes(self) -> tuple[Array, Array]:
        """All routes in CSR form: int32[Q + 1], int32[L]; none by default."""
        return ragged([])

    def devices(self) -> Devices:
        """Resources that obey a table of least distances between commands; none by default."""
        return Devices(np.full(self.component.size, -1, np.int32), np.zeros(1), np.zeros(0), np.zeros(0), np.zeros(0))

    def at(self, component: str) -> Array:
        """bool[R]: the resources of a component."""
        return self.component == self.components.index(component)


@final
@dataclass(frozen=True, slots=True)
class Devices:
    """Constraint tables of resources, as `pimloom.kernels.engine.run` takes them.

    Attributes:
        device: int32[R], constraint table of a resource, -1 for a plain one.
        ptr: int32[D + 1], constraints of each table.
        before: int32[G], command issued before.
        after: int32[G], command that must wait.
        cycles: int32[G], least distance of the two.
    """

    device: Array
    ptr: Array
    before: Array
    after: Array
    cycles: Array


@final
@dataclass(frozen=True, slots=True)
class IssueRules:
    """How processors issue rows and how messages meet.

    Attributes:
        window: rows in flight per processor.
        queue: rows in flight in the transfer queue of a processor.
        cycles: between two issues.
        in_order: whether issue waits for dependencies.
        is_serial: whether a repetition begins only when the one before has ended.
        detaches_transfers: whether transfers leave the window as soon as they are issued.
        handshake_cycles: from the meeting of send and receive to the start, at least 1.
        hop_cycles: from link to link of a route.
        is_wormhole: whether a message holds its whole route at once.
        ticks_per_cycle: units of time per clock cycle; more than 1 where a resource may be held for a fraction of a cycle. All
            cycles here and in costs are then counted in ticks.
    """

    window: int = 1
    queue: int = 1
    cycles: int = 1
    in_order: bool = False
    is_serial: bool = False
    detaches_transfers: bool = False
    handshake_cycles: int = 1
    hop_cycles: int = 1
    is_wormhole: bool = False
    ticks_per_cycle: int = 1


@final
@dataclass(frozen=True, slots=True)
class Forms:
    """Which rows of a program cost the same.

    Attributes:
        of_row: int32[n], form of each row.
        first: int64[f], first row of each form.
        rows: int64[f], how many rows are of it.
    """

    of_row: Array
    first: Array
    rows: Array

    @staticmethod
    def of(program: Program, reads: Mapping[int, tuple[str, ...]], beside: Array | None = None) -> Forms:
        """Finds rows that are equal in what costs depend on.

        Args:
            program: whose rows.
            reads: opcode to the fields of a row that its costs depend on; none but the opcode if it is not named.
            beside: int64[n], something else that they depend on.
        """
        n = program.n_rows
        words = np.ascontiguousarray(program.rows).view(np.uint64).reshape(n, kernel.WORDS)
        places: Any = ROW.fields
        masks = np.repeat(_mask(("opcode",))[None], 256, axis=0)
        for code, names in reads.items():
            masks[code] |= _mask(names)
        used = np.flatnonzero(masks.any(axis=0))
        of_row, first, rows = np.empty(n, np.int32), np.empty(n, np.int64), np.zeros(n, np.int64)
        word, offset = divmod(places["opcode"][1], 8)
        table = np.zeros(1 << max(n, 1).bit_length(), np.int32)
        key, keys = np.empty(used.size + 1, np.uint64), np.empty((n, used.size + 1), np.uint64)
        beside = np.zeros(n, np.int64) if beside is None else beside
        shift = 8 * (offset if sys.byteorder == "little" else 7 - offset)
        size = kernel.number(words, word, shift, used, np.ascontiguousarray(masks[:, used]), beside, table, key, keys, of_row, first, rows)
        return Forms(of_row, first[:size].copy(), rows[:size].copy())

    @staticmethod
    def single(n: int) -> Forms:
        """Every one of n rows is a form of its own."""
        return Forms(np.arange(n, dtype=np.int32), np.arange(n), np.ones(n, np.int64))


@functools.cache
def _mask(names: tuple[str, ...]) -> Array:
    """uint64[WORDS]: the bits of a row that some fields take."""
    mask = np.zeros(1, ROW)
    for name in names:
        mask[name] = np.array(-1).astype(ROW[name])
    return mask.view(np.uint64)


@final
@dataclass(frozen=True, slots=True)
class Costs:
    """Costs of the f forms of a program's rows, filled opcode by opcode.

    Attributes:
        reps: int32[f], repetitions that the engine runs.
        n_phases: int8[f].
        res: int32[f, 4], resource or -1 - route.
        hold: int32[f, 4], cycles.
        passing: int32[f, 4], cycles.
        lead: int32[f], cycles between the moment that a row could be issued and its issue.
        posts: int8[f], phases that an end of a message goes through before it announces itself.
        energy_pj: component name to float64[f].
        moved_bytes: component name to float64[f].
    """

    reps: Array
    n_phases: Array
    res: Array
    hold: Array
    passing: Array
    lead: Array
    posts: Array
    energy_pj: dict[str, Array]
    moved_bytes: dict[str, Array]

    @staticmethod
    def empty(n: int) -> Costs:
        """Costs with nothing filled in."""
        return Costs(
            np.ones(n, np.int32), np.zeros(n, np.int8), np.zeros((n, MAX_PHASES), np.int32),
            np.zeros((n, MAX_PHASES), np.int32), np.ones((n, MAX_PHASES), np.int32), np.zeros(n, np.int32), np.zeros(n, np.int8),
            {}, {},
        )  # fmt: skip

    def idle_ticks(self) -> Array:
        """int64[f]: ticks that a row of each form takes where one is in flight and nothing else holds what it needs, lead included."""
        used = np.arange(self.passing.shape[1]) < self.n_phases[:, None]
        return np.where(used, self.passing, 0).sum(axis=1, dtype=np.int64) * self.reps + self.lead

    def add_phase(self, at: Array, res: Array, hold: Array, passing: Array) -> None:
        """Appends a phase to the forms `at` (all with the same number of phases so far)."""
        place = int(self.n_phases[at[0]])
        self.res[at, place] = res
        self.hold[at, place] = hold
        self.passing[at, place] = np.maximum(passing, 1)
        self.n_phases[at] += 1

    def add_energy(self, component: str, at: Array, energy_pj: Array) -> None:
        """Charges picojoules to forms."""
        self.energy_pj.setdefault(component, np.zeros(self.reps.size))[at] += energy_pj

    def add_bytes(self, component: str, at: Array, moved: Array) -> None:
        """Counts bytes moved by forms."""
        self.moved_bytes.setdefault(component, np.zeros(self.reps.size))[at] += moved


@final
@dataclass(frozen=True, slots=True)
class CostContext(Generic[H_co, R_co]):
    """What cost formulas may look at.

    Attributes:
        program: the program.
        forms: which rows are alike.
        rows: ROW[f], a row of each form.
        beside: int64[f], what else costs depend on, as the kind of machine says.
        hardware: its machine.
        resources: numbers of the machine's resources.
        rules: issue rules of the machine.
        costs: the table to fill.
        gather_bytes: int64[patterns], bytes of each gather pattern.
        sum_bytes: int32[nodes + 1], bytes of one partial sum of each node; the last is for rows without a node.
        code_bytes: int32[nodes + 1, 3], bytes of one code of output, first and second input.
        work: float64[nodes + 1], element operations per output element.
    """

    program: Program
    forms: Forms
    rows: Array
    beside: Array
    hardware: H_co
    resources: R_co
    rules: IssueRules
    costs: Costs
    gather_bytes: Array
    sum_bytes: Array
    code_bytes: Array
    work: Array


def per_pattern(program: Program, segments: Array) -> Array:
    """Adds up a figure of each segment by gather pattern: [segments] to [patterns]."""
    total = np.concatenate([[0], np.cumsum(segments)])
    return total[program.pattern_ptr[1:]] - total[program.pattern_ptr[:-1]]


Formula = Callable[[CostContext[Any, Any], Array], None]
"""Fills the costs of some rows of one opcode."""


@final
@dataclass(frozen=True, slots=True)
class Machine:
    """A kind of machine.

    Attributes:
        kind: of hardware.
        resources: numbers the resources that a program may hold.
        rules: how its processors issue.
        costs: opcode to formula; an opcode without one cannot run on the machine.
        reads: opcode to the fields of a row that its formula reads; all fields where it is not named. None if rows are hardly ever
            alike.
        beside: int64[n], what else the costs of a row depend on, in one number.
        static_mw: power at rest while a program runs.
        check: checks of programs whose rows only take time; `verify_program` makes those of all others.
        until_cycles: how long the streams of a program repeat, whatever its samples; 0 where they run these.
        counted_rounds: of streams that repeat until a time, the rounds of each that count: by default those issued to their end.
    """

    kind: str
    resources: Callable[[Program], Resources]
    rules: Callable[[Any], IssueRules]
    costs: Mapping[str, Formula]
    reads: Mapping[str, tuple[str, ...]] | None = None
    beside: Callable[[Program], Array] | None = None
    static_mw: Callable[[Program], float] = lambda program: program.hardware.static_mw_total
    check: Callable[[Program], None] = lambda program: None
    until_cycles: Callable[[Program], int] = lambda program: 0
    counted_rounds: Callable[[Program, Array, Array], Array] = lambda program, rounds, place: rounds


__all__ = ["CostContext", "Costs", "Devices", "Forms", "Formula", "IssueRules", "Machine", "Resources", "per_pattern"]
