"""Machines of kind `sram`: their resources, issue rules and costs.

Per macro an array, which a rewrite and a product both hold, so that it never computes while it is written; per processor
its control; one SFU; one off-chip link, which is a plain resource, or a DRAM channel: every line then also opens a row
in a bank, and banks and openings obey least distances.

A rewrite asks for the link line by line, each when the one before has entered the macro: this is the arbiter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np

from pimloom.hardware import SramHardware
from pimloom.program.isa import OPCODES
from pimloom.program.machine import CostContext, Devices, IssueRules, Machine, Resources
from pimloom.program.program import Program
from pimloom.program.rows import Array

COMPONENTS = ("macros", "control", "SFU", "off-chip link", "DRAM banks", "DRAM openings")
BURST_LINES = 8
"""Lines of a load or store that an ideal link grants at once."""
PAGE_BYTES = 2048
"""Bytes of a load or store that a DRAM channel reads or writes behind one opening of a row."""
_OPEN = 0  # the one command of a bank, and of the openings of all banks
LARGEST_HOLD = 2**30


@final
@dataclass
class SramResources(Resources):
    """Numbers of all resources.

    Attributes:
        hardware: the machine.
        control: int32[processors].
        sfu: number of the SFU.
        link: number of the link.
        bank: int32[banks]; nothing without DRAM.
        opening: number of what all openings share; -1 without DRAM.
        component: int8[R].
        owner: int32[R], processor, or number among its like.
        weight: float64[R], 1.
    """

    hardware: SramHardware
    control: Array
    sfu: int
    link: int
    bank: Array
    opening: int
    component: Array
    owner: Array
    weight: Array

    @property
    def components(self) -> tuple[str, ...]:
        """Names of the components."""
        return COMPONENTS if self.bank.size else COMPONENTS[:4]

    @property
    def shared(self) -> Array:
        """int8[R]: the SFU, and everything of the link."""
        return (self.component >= COMPONENTS.index("SFU")).astype(np.int8)

    @property
    def units(self) -> Mapping[str, int]:
        """Resources of each component."""
        counts = np.bincount(self.component, minlength=len(COMPONENTS))
        return {name: int(counts[i]) for i, name in enumerate(self.components)}

    @property
    def arrays(self) -> str:
        """Macros hold the weights."""
        return "macros"

    @property
    def of_processors(self) -> tuple[str, ...]:
        """Every stream has its control, and those of macros their macro."""
        return "macros", "control"

    def devices(self) -> Devices:
        """A bank opens a row again when the last one was read and closed; openings keep their distance."""
        device = np.full(self.component.size, -1, np.int32)
        dram = self.hardware.link.dram
        if dram is None:
            return Devices(device, np.zeros(1), np.zeros(0), np.zeros(0), np.zeros(0))
        ticks = self.hardware.ticks_per_cycle
        line = _link_ticks(self.hardware, np.array([self.hardware.macro.line_bytes]))[0]
        device[self.bank], device[self.opening] = 0, 1
        gaps = ((dram.activate_cycles + dram.precharge_cycles) * ticks + line, dram.activate_gap_cycles * ticks)
        return Devices(device, np.array([0, 1, 2]), np.full(2, _OPEN), np.full(2, _OPEN), np.array(gaps))

    @staticmethod
    def of(program: Program) -> SramResources:
        """Numbers the resources of the program's machine."""
        machine = program.hardware
        assert isinstance(machine, SramHardware)
        banks = machine.link.dram.banks if machine.link.dram else 0
        counts = (machine.arrays, machine.processors, 1, 1, banks, min(banks, 1))
        bases = np.cumsum((0, *counts))
        component = np.repeat(np.arange(len(counts)), counts).astype(np.int8)
        return SramResources(
            hardware=machine,
            control=np.arange(bases[1], bases[2], dtype=np.int32),
            sfu=int(bases[2]),
            link=int(bases[3]),
            bank=np.arange(bases[4], bases[5], dtype=np.int32),
            opening=int(bases[5]) if banks else -1,
            component=component,
            owner=np.concatenate([np.arange(n) for n in counts]).astype(np.int32),
            weight=np.ones(component.size),
        )


SramCosts = CostContext[SramHardware, SramResources]


def rules(machine: SramHardware) -> IssueRules:
    """Every control does one instruction after the other, but loads and stores may overlap, as a rewrite's lines do."""
    return IssueRules(
        window=1, queue=machine.link.transfers, in_order=True, is_serial=False, detaches_transfers=True, cycles=1,
        ticks_per_cycle=machine.ticks_per_cycle,
    )  # fmt: skip


# -- cost formulas --------------------------------------------------------------------------------------------------


def _link_ticks(machine: SramHardware, size_bytes: Array) -> Array:
    """Ticks that bytes take on the link; refreshes are spread over all of them."""
    rate = machine.link.bytes_per_cycle * (machine.link.dram.available if machine.link.dram else 1.0)
    return np.ceil(size_bytes * machine.ticks_per_cycle / rate - 1e-9).astype(np.int64)


def _cross(c: SramCosts, at: Array, size_bytes: Array, place: Array) -> None:
    """Phases that bring `size_bytes` per repetition over the link; with DRAM a row is opened first, in the bank of a `place`."""
    link, r = c.hardware.link, c.resources
    if link.dram is not None:
        ticks, opened = c.hardware.ticks_per_cycle, np.full(at.size, _OPEN)
        c.costs.add_phase(at, r.bank[place % r.bank.size], opened, np.ones(at.size, np.int64))
        c.costs.add_phase(at, np.full(at.size, r.opening), opened, np.full(at.size, link.dram.activate_cycles * ticks))
    hold = _link_ticks(c.hardware, size_bytes)
    c.costs.add_phase(at, np.full(at.size, r.link), hold, hold)
    moved = size_bytes * c.costs.reps[at]
    c.costs.add_energy("off-chip link", at, moved * link.energy_pj_per_byte)
    c.costs.add_bytes("off-chip link", at, moved)


def _control(c: SramCosts, at: Array, cycles: Array | int) -> None:
    """A phase of the processor's own control."""
    hold = np.broadcast_to(np.asarray(cycles, np.int64) * c.hardware.ticks_per_cycle, at.shape)
    c.costs.add_phase(at, c.resources.control[c.rows["processor"][at]], hold, hold)


def _write_weights(c: SramCosts, at: Array) -> None:
    """Lines: link, then macro at its write speed; the setup comes before the first."""
    rows, machine, ticks = c.rows[at], c.hardware, c.hardware.ticks_per_cycle
    c.costs.reps[at] = rows["count"]
    c.costs.lead[at] = machine.control.write_setup_cycles * ticks
    size = rows["length"].astype(np.int64)
    _cross(c, at, size, rows["processor"])
    hold = np.ceil(size * ticks / np.maximum(rows["dst"], 1)).astype(np.int64)
    c.costs.add_phase(at, rows["processor"], hold, hold)
    c.costs.add_energy("macros", at, size * rows["count"] * machine.macro.write_energy_pj_per_byte)


def _mvm(c: SramCosts, at: Array) -> None:
    """All windows of a row in one go, each with its control, then the accumulation into the result memory."""
    rows, machine, groups = c.rows[at], c.hardware, c.program.groups
    each = rows["length"] * machine.macro.column_cycles + machine.control.multiply_cycles + machine.control.result_cycles
    hold = (rows["count"].astype(np.int64) * each + machine.control.accumulate_cycles) * machine.ticks_per_cycle
    c.costs.add_phase(at, rows["processor"], np.minimum(hold, LARGEST_HOLD), np.minimum(hold, LARGEST_HOLD))
    used = (groups.row_stop - groups.row_start)[rows["arg"]] * rows["length"] / machine.macro.size_bytes
    c.costs.add_energy("macros", at, rows["count"] * used * machine.macro.vector_energy_pj)


def _gather(c: SramCosts, at: Array) -> None:
    _control(c, at, c.hardware.control.read_cycles)


def _wait(c: SramCosts, at: Array) -> None:
    _control(c, at, c.rows["length"][at].astype(np.int64))


def _sfu(c: SramCosts, at: Array, operations: Array) -> None:
    """A phase of the SFU: `ceil(operations / lanes)` beats, its latency on top of the pass."""
    unit, ticks = c.hardware.sfu, c.hardware.ticks_per_cycle
    beats = np.maximum(np.ceil(operations / unit.lanes).astype(np.int64), 1)
    hold = np.minimum(beats * unit.beat_cycles * ticks, LARGEST_HOLD)
    c.costs.add_phase(at, np.full(at.size, c.resources.sfu), hold, hold + unit.latency_cycles * ticks)
    c.costs.add_energy("SFU", at, beats * c.costs.reps[at] * unit.energy_pj_per_beat)


def _preset(c: SramCosts, at: Array) -> None:
    """The first accumulation overwrites and the bias is added at the end: one beat to say so."""
    _sfu(c, at, np.ones(at.size))


def _finish(c: SramCosts, at: Array) -> None:
    rows = c.rows[at]
    _sfu(c, at, rows["length"].astype(np.int64) * rows["count"])


def _transfer(c: SramCosts, at: Array) -> None:
    """Bursts over the link; what is loaded arrives after a latency. Free where the link carries weights only.

    With DRAM, what is moved at once is a page, and values lie page by page over the banks.
    """
    rows, machine = c.rows[at], c.hardware
    if not machine.link.carries_activations:
        _control(c, at, 0)
        return
    size = rows["length"].astype(np.int64) * rows["count"]
    bursts = np.maximum(-(-size // (PAGE_BYTES if machine.link.dram else BURST_LINES * machine.macro.line_bytes)), 1)
    c.costs.reps[at] = bursts
    _cross(c, at, -(-size // bursts), c.beside[at])
    latency = np.where(rows["opcode"] == OPCODES["load"], machine.link.latency_cycles * machine.ticks_per_cycle, 1)
    c.costs.add_phase(at, c.resources.control[rows["processor"]], np.ones(at.size, np.int64), latency)


def _general(c: SramCosts, at: Array) -> None:
    """Blocks: operands over the link, the SFU, results over the link. Blocks follow one another, so their pages are open in time."""
    rows, carries = c.rows[at], c.hardware.link.carries_activations
    c.costs.reps[at] = rows["count"]
    r, moved = c.resources, (rows["src1"] + rows["dst"]) * rows["count"]
    if carries:
        hold = _link_ticks(c.hardware, rows["src1"])
        c.costs.add_phase(at, np.full(at.size, r.link), hold, hold)
        latency = np.full(at.size, c.hardware.link.latency_cycles * c.hardware.ticks_per_cycle)
        c.costs.add_phase(at, r.control[rows["processor"]], np.ones(at.size, np.int64), latency)
    _sfu(c, at, rows["length"])
    if carries:
        hold = _link_ticks(c.hardware, rows["dst"])
        c.costs.add_phase(at, np.full(at.size, r.link), hold, hold)
        c.costs.add_energy("off-chip link", at, moved * c.hardware.link.energy_pj_per_byte)
        c.costs.add_bytes("off-chip link", at, moved)


def _beside(program: Program) -> Array:
    """int64[n]: what costs depend on beside the row's own words; 0 for rows not named here.

    Of a product the rows of the macro that it uses, on which its energy depends. Of a load or store with DRAM the bank in which its
    value begins: values lie page by page over the banks.
    """
    rows, groups, machine = program.rows, program.groups, program.hardware
    assert isinstance(machine, SramHardware)
    found = np.zeros(rows.size, np.int64)
    at = np.flatnonzero(rows["opcode"] == OPCODES["mvm"])
    found[at] = (groups.row_stop - groups.row_start)[rows["arg"][at]]
    if machine.link.dram is not None:
        start = np.array([region.address for region in program.regions], np.int64)
        for name, field in (("load", "src1"), ("store", "dst")):
            at = np.flatnonzero(rows["opcode"] == OPCODES[name])
            found[at] = (start[rows["arg"][at]] + rows[field][at]) // PAGE_BYTES % machine.link.dram.banks
    return found


SRAM = Machine(
    kind="sram",
    resources=SramResources.of,
    rules=rules,
    costs={
        "write_weights": _write_weights,
        "gather": _gather,
        "mvm": _mvm,
        "wait": _wait,
        "preset": _preset,
        "finish": _finish,
        "load": _transfer,
        "store": _transfer,
        "general": _general,
    },
    reads={
        "write_weights": ("processor", "length", "count", "dst"),
        "gather": ("processor",),
        "mvm": ("processor", "length", "count"),
        "wait": ("processor", "length"),
        "preset": (),
        "finish": ("length", "count"),
        "load": ("processor", "length", "count"),
        "store": ("processor", "length", "count"),
        "general": ("processor", "src1", "dst", "length", "count"),
    },
    beside=_beside,
)

__all__ = ["COMPONENTS", "SRAM", "SramResources", "rules"]
