"""Which weights arrays hold while a program runs, and checks that products find theirs.

The arrays of a processor are numbered. A `write_weights` row puts its group into as many arrays as the group has, from
`dst_step` on; what one of them held is gone. Groups that no row writes are in place before the first sample and stay:
they take the first arrays of their processor, in the order of their numbers.

Order alone does not keep a write from overtaking a product: issue is out of order. So on processors with several arrays
every product waits for the write of its group, and a write for every product of the groups that it overwrites, each by a
dependency or through a `wait` row that has them.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import final

import numpy as np

from pimloom.hardware import Hardware
from pimloom.program.checking import Faults, marked
from pimloom.program.isa import OPCODES
from pimloom.program.program import Program
from pimloom.program.rows import Array


def writes_arrays(program: Program) -> bool:
    """Whether any row gives an array other weights."""
    return bool((program.rows["opcode"] == OPCODES["write_weights"]).any())


def holds_from_start(hardware: Hardware) -> bool:
    """Whether arrays may hold weights before the first row: crossbars do, macros of SRAM are written by rows."""
    return hardware.kind == "crossbar"


def written_groups(program: Program) -> Array:
    """bool[g]: groups that some row writes."""
    rows = program.rows
    arg = rows["arg"][rows["opcode"] == OPCODES["write_weights"]]
    return np.bincount(arg[(arg >= 0) & (arg < len(program.groups))], minlength=len(program.groups)) > 0


@final
@dataclass(slots=True)
class Holdings:
    """What the arrays of one processor hold.

    Attributes:
        held: the group in each array, -1 for none.
    """

    held: list[int]

    def write(self, group: int, first: int, arrays: int) -> list[int]:
        """Puts a group into arrays; returns the groups that lose theirs."""
        lost = sorted({g for g in self.held[first : first + arrays] if g not in (-1, group)})
        self.held = [-1 if g in lost or g == group else g for g in self.held]
        self.held[first : first + arrays] = [group] * arrays
        return lost

    def groups(self) -> list[int]:
        """The groups in these arrays."""
        return sorted(set(self.held) - {-1})

    def has(self, group: int) -> bool:
        """Whether a group is in its arrays."""
        return group in self.held


def initial_holdings(program: Program) -> dict[int, Holdings]:
    """What the arrays of each processor with groups hold before the first row: groups that stay."""
    groups, most, is_written = program.groups, program.hardware.arrays_per_processor, written_groups(program)
    found: dict[int, Holdings] = {}
    for processor in np.unique(groups.processor).tolist():
        mine = np.flatnonzero((groups.processor == processor) & ~is_written)
        stays = np.repeat(mine, groups.crossbars[mine])[:most].tolist()
        found[processor] = Holdings([*stays, *[-1] * (most - len(stays))])
    return found


def check_residency(faults: Faults) -> None:
    """Products use what their arrays hold, at their place in the order and whenever they may be carried out."""
    if not holds_from_start(faults.program.hardware):
        _check_single(faults)
    elif writes_arrays(faults.program):
        _check_room(faults)
        _Walk(faults).check()


def _check_single(faults: Faults) -> None:
    """Processors of one array that holds nothing at first: a product uses the group that was written last."""
    program, rows = faults.program, faults.rows
    is_write = rows["opcode"] == OPCODES["write_weights"]
    last = np.maximum.accumulate(np.where(is_write, np.arange(rows.size), -1))
    is_own = last >= program.stream_ptr[rows["processor"]]
    written = np.where(is_own, rows["arg"][last], -1)
    faults.add_rows(
        faults.means("arg", "array group") & (written != rows["arg"]),
        lambda r: f"array group {rows['arg'][r]} found, group {written[r]}, which its array holds, expected",
    )


def _check_room(faults: Faults) -> None:
    """A core has arrays for the groups that stay, and for each group that is written, where it is written."""
    program, rows, groups = faults.program, faults.rows, faults.program.groups
    most = program.hardware.arrays_per_processor
    stays = np.bincount(groups.processor, np.where(written_groups(program), 0, groups.crossbars), program.hardware.processors)
    for core in np.flatnonzero(stays > most).tolist():
        faults.add(f"core {core}: {int(stays[core])} crossbars in groups that stay found, at most {most} expected")
    is_write = rows["opcode"] == OPCODES["write_weights"]
    first, end = rows["dst_step"], rows["dst_step"] + groups.crossbars[np.clip(rows["arg"], 0, len(groups) - 1)]
    least = stays[np.clip(rows["processor"], 0, stays.size - 1)].astype(np.int64)
    faults.add_rows(
        is_write & ((first < least) | (end > most)),
        lambda r: f"arrays {first[r]} to {end[r]} written, arrays {least[r]} to {most} expected, which no group keeps",
    )


@final
@dataclass(slots=True)
class _Walk:
    """One sample through all cores, in the order of their streams."""

    faults: Faults
    waits: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])  # (row, the row it has to wait for)

    def check(self) -> None:
        """Walks; then checks what rows wait for."""
        program, rows = self.faults.program, self.faults.rows
        opcode, stage = rows["opcode"], rows["stage"]
        at = np.flatnonzero((opcode == OPCODES["write_weights"]) | (opcode == OPCODES["mvm"]))
        at = at[np.lexsort((at, stage[at], rows["processor"][at]))]
        holdings, arrays = initial_holdings(program), program.groups.crossbars.tolist()
        writer: dict[int, int] = {}
        products: defaultdict[int, list[int]] = defaultdict(list)
        homeless: list[int] = []
        columns = (
            at.tolist(),
            opcode[at].tolist(),
            rows["processor"][at].tolist(),
            rows["arg"][at].tolist(),
            rows["dst_step"][at].tolist(),
        )
        for row, code, core, group, first in zip(*columns, strict=True):
            if code == OPCODES["mvm"]:
                if not holdings[core].has(group):
                    homeless.append(row)
                products[group].append(row)
                if group in writer:
                    self.waits.append((row, writer[group]))
                continue
            for lost in [*holdings[core].write(group, first, arrays[group]), group]:
                self.waits += [(row, product) for product in products.pop(lost, ())]
            writer[group] = row
        self.faults.add_rows(
            marked(rows.size, np.array(homeless, np.int64)),
            lambda r: f"array group {rows['arg'][r]} found, one that its arrays hold at this place expected",
        )
        self._check_waits()

    def _check_waits(self) -> None:
        """Each pair is joined by a dependency, or by two with a `wait` row between them."""
        program = self.faults.program
        if not self.waits:
            return
        n, is_now = program.n_rows, program.dep_distance == 0
        target = np.repeat(np.arange(n), np.diff(program.dep_ptr))[is_now]
        source = program.dep_row[is_now].astype(np.int64)
        direct = np.sort(target * n + source)
        pair = np.array(self.waits, np.int64)
        left = pair[~_among(direct, pair[:, 0] * n + pair[:, 1])]
        if left.size:
            left = left[~_through_waits(self.faults, left, target, source, direct)]
        self.faults.add_rows(
            marked(n, left[:, 0]),
            lambda r: f"no wait for row {left[left[:, 0] == r][0, 1]} found, one expected: its arrays are written and used at once",
        )


def _among(known: Array, values: Array) -> Array:
    """bool[k]: which values are among sorted ones."""
    if not known.size:
        return np.zeros(values.size, bool)
    return known[np.minimum(np.searchsorted(known, values), known.size - 1)] == values


def _through_waits(faults: Faults, pair: Array, target: Array, source: Array, direct: Array) -> Array:
    """bool[k]: pairs (row, the row it has to wait for) that a `wait` row joins."""
    n = faults.program.n_rows
    is_wait = faults.rows["opcode"] == OPCODES["wait"]
    # Of every row that has to be waited for, the wait rows that do.
    by_source = is_wait[target]
    gates, ends = target[by_source], source[by_source]
    order = np.argsort(ends, kind="stable")
    gates, ends = gates[order], ends[order]
    low, high = np.searchsorted(ends, pair[:, 1]), np.searchsorted(ends, pair[:, 1], side="right")
    number = np.repeat(np.arange(pair.shape[0]), high - low)
    place = np.arange(number.size) - np.repeat(np.cumsum(high - low) - (high - low), high - low) + np.repeat(low, high - low)
    joined = _among(direct, pair[number, 0] * n + gates[place])
    return np.bincount(number[joined], minlength=pair.shape[0]) > 0


__all__ = ["Holdings", "check_residency", "holds_from_start", "initial_holdings", "writes_arrays", "written_groups"]
