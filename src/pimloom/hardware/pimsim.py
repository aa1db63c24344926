"""Machines of kind `pimsim`: what pimsim-nn's architecture and network files say, as far as it has an effect there.

Times are nanoseconds and powers milliwatts, as in those files. `quirks` names what is taken over from pimsim-nn itself.
"""

from __future__ import annotations

import functools
import math
from dataclasses import fields
from typing import Annotated, Literal, final

import numpy as np
from numpy.typing import NDArray

from pimloom.hardware.crossbar import Precision
from pimloom.hardware.parts import Energy, Power, Size, Width
from pimloom.hardware.quantity import Choice, Flag, Real, Text, Whole, fault
from pimloom.hardware.record import record

MOST_CORES = 1 << 16
Cycles = Annotated[int, Whole("of cycles", 0, 10**6, 1)]
Count = Annotated[int, Whole("of units", 1, 1 << 20, 128)]
Bits = Annotated[int, Whole("of bits", 1, 64, 2)]
Nanoseconds = Annotated[float, Real("of nanoseconds", 1e9, 10.0)]
Period = Annotated[float, Real("of nanoseconds", 1e6, 1.0, positive=True)]
Switch = Annotated[bool, Flag()]


@final
@record
class Quirks:
    """Where pimsim-nn's behaviour is an oversight rather than a machine: one named switch each.

    `Quirks()` is what pimsim-nn does. With a switch off, the rule is what its instruction set says or what such hardware
    would do.

    Attributes:
        reads_input_eightfold: `mvmul` reads its input vector from local memory eight times (off: once).
        load_response_is_free: data of `ld` crosses the network in no time and for no energy (off: its flits are charged).
        divisions_round_down: conversion rounds per DAC and ADC are floored (off: rounded up).
        bit_width_resets_to_zero: before its first `setbw` a core computes on elements of no bytes (off: refused).
        load_writes_register_zero: `sld` sets register 0 to 0 (off: refused, as its value is known to no one who reads the file).
        second_offset_follows_value: whether the offset applies to rs1 and rs2 is read from the offset's own bits 1 and 2
            (off: from bits 1 and 2 of the selection).
        flits_pay_full_path: every flit takes the latency of the whole path (off: the first does, the others follow one
            clock period apart).
        touching_ranges_conflict: ranges that only touch count as overlapping (off: they must share a byte).
        write_after_write_is_free: two writers of a byte may be in flight (off: the later one waits).
        global_ranges_start_at_zero: of `ld` and `st`, the conflict check takes address 0 for the register (off: its value).
        copies_conflict_by_size: of `lmv` and `lldi`, the check uses `size`, and one byte (off: `len` bytes).
        relu_range_is_output_wide: of `vrelu`, the check takes the output width for what it writes (off: the input width,
            which it does write).
        bound_is_a_range: of `vrsu` and `vrsl`, the check takes the bound for an address (off: it is none).
        strided_move_never_conflicts: `vmv` is not checked (off: its vectors are).
        rounds_count_fetches: in the steady state a round counts when its last instruction is fetched (off: retired).
        wait_needs_equality: `wait` goes on when the event register equals its value, and clears it
            (off: when it is at least the value, which is taken off).
        missing_path_is_free: a pair of switches that the network file leaves out is 0 ns apart (off: it is as far apart as
            the other way round, and refused where the file leaves that out too).
    """

    reads_input_eightfold: Switch = True
    load_response_is_free: Switch = True
    divisions_round_down: Switch = True
    bit_width_resets_to_zero: Switch = True
    load_writes_register_zero: Switch = True
    second_offset_follows_value: Switch = True
    flits_pay_full_path: Switch = True
    touching_ranges_conflict: Switch = True
    write_after_write_is_free: Switch = True
    global_ranges_start_at_zero: Switch = True
    copies_conflict_by_size: Switch = True
    relu_range_is_output_wide: Switch = True
    bound_is_a_range: Switch = True
    strided_move_never_conflicts: Switch = True
    rounds_count_fetches: Switch = True
    wait_needs_equality: Switch = True
    missing_path_is_free: Switch = True

    @staticmethod
    def none() -> Quirks:
        """All switches off."""
        return Quirks(**{spec.name: False for spec in fields(Quirks)})


@final
@record
class MemoryPart:
    """A memory with one port: n bytes take `ceil(n / width_bytes)` beats.

    Attributes:
        width_bytes: bytes of a beat.
        read_ns: time of a beat that reads.
        write_ns: time of a beat that writes.
        static_power_mw: power at rest.
        read_energy_pj: of a beat.
        write_energy_pj: of a beat.
        memory_bytes: capacity; pimsim-nn does not check it.
    """

    width_bytes: Width
    read_ns: Nanoseconds
    write_ns: Nanoseconds
    static_power_mw: Power
    read_energy_pj: Energy
    write_energy_pj: Energy
    memory_bytes: Size


@final
@record
class MatrixPart:
    """The crossbars of a core with their converters.

    Attributes:
        crossbars: of a core; pimsim-nn does not check it.
        period_ns: clock of this part.
        is_pipelined: whether the converters of one input bit overlap with the reading of the next.
        rows: of a crossbar.
        columns: of a crossbar.
        cell_bits: bits of a cell.
        dac_bits: input bits converted at a time.
        dac_count: DACs of a crossbar.
        dac_cycles: latency.
        crossbar_ns: time to read a crossbar.
        sample_hold_cycles: latency.
        adc_count: ADCs of a crossbar.
        adc_cycles: latency.
        shift_adder_cycles: latency.
        output_buffer_cycles: latency.
        dac_power_mw: at work; so are the others.
        crossbar_power_mw: of one crossbar.
        sample_hold_power_mw: of one column.
        adc_power_mw: of one ADC.
        shift_adder_power_mw: of one crossbar.
        output_buffer_power_mw: of one crossbar.
    """

    crossbars: Annotated[int, Whole("of crossbars", 0, 1 << 24, 64)]
    period_ns: Period
    is_pipelined: Switch
    rows: Count
    columns: Count
    cell_bits: Bits
    dac_bits: Bits
    dac_count: Count
    dac_cycles: Cycles
    crossbar_ns: Nanoseconds
    sample_hold_cycles: Cycles
    adc_count: Count
    adc_cycles: Cycles
    shift_adder_cycles: Cycles
    output_buffer_cycles: Cycles
    dac_power_mw: Power
    crossbar_power_mw: Power
    sample_hold_power_mw: Power
    adc_power_mw: Power
    shift_adder_power_mw: Power
    output_buffer_power_mw: Power


@final
@record
class NetworkPart:
    """Times and energies of a flit from switch to switch. Switch 0 is the global memory, switch 1 + k is core k.

    Attributes:
        flit_bytes: bytes of a flit.
        latency_ns: one line per switch, to each switch in order: `10*135 100` is 135 times 10, then 100; `-` where there is no path.
        energy_pj: the same of energies.
    """

    flit_bytes: Width
    latency_ns: tuple[Annotated[str, Text("numbers of nanoseconds", 1 << 22, "100 10*135")], ...]
    energy_pj: tuple[Annotated[str, Text("numbers of picojoules", 1 << 22, "100*136")], ...]


@final
@record
class PimsimHardware:
    """A machine of kind `pimsim`.

    Attributes:
        name: what it is called in messages and reports.
        kind: `pimsim`; other kinds of machine have other records.
        description: one sentence.
        source: file that the numbers come from.
        cores: number of cores.
        period_ns: clock of all cores.
        rob_size: matrix, vector and transfer instructions of a core in flight.
        vector_width: elements of a vector beat.
        vector_ns: time of a vector beat.
        vector_energy_pj: of a vector beat: the unit, two register reads and one register write.
        fetch_power_mw: at work, per instruction fetched and clock period.
        core_static_power_mw: of one core at rest, without its local memory.
        sim_time_ms: time simulated where lists are repeated.
        matrix: the crossbars of a core.
        local_memory: of each core.
        global_memory: of the chip.
        network: times from switch to switch.
        quirks: what is taken over from pimsim-nn.
    """

    name: Annotated[str, Text("a name", 100, "arch_136")]
    kind: Annotated[Literal["pimsim"], Choice(("pimsim",))]
    description: Annotated[str, Text("a description", 2000, "a machine of pimsim-nn", may_be_empty=True)] = ""
    source: Annotated[str, Text("a source", 2000, "arch_136.json", may_be_empty=True)] = ""
    cores: Annotated[int, Whole("of cores", 1, MOST_CORES, 136)]
    period_ns: Period
    rob_size: Annotated[int, Whole("of instructions", 1, 4096, 1)]
    vector_width: Annotated[int, Whole("of elements", 1, 1 << 20, 32)]
    vector_ns: Nanoseconds
    vector_energy_pj: Energy
    fetch_power_mw: Power
    core_static_power_mw: Power
    sim_time_ms: Annotated[float, Real("of milliseconds", 1e6, 100.0, positive=True)]
    matrix: MatrixPart
    local_memory: MemoryPart
    global_memory: MemoryPart
    network: NetworkPart
    quirks: Quirks = Quirks()

    def __post_init__(self) -> None:
        """Checks that the network has a line for every switch."""
        for key in ("latency_ns", "energy_pj"):
            lines = getattr(self.network, key)
            if len(lines) != self.cores + 1:
                raise fault(list(lines), f"network.{key} with {self.cores + 1} lines (memory, then {self.cores} cores)", "correct 'cores'")
            for line in lines:
                _values(line, self.cores + 1)

    @property
    def clock_ghz(self) -> float:
        """The clock of the cores."""
        return 1 / self.period_ns

    @property
    def chips(self) -> int:
        """There is one chip."""
        return 1

    @property
    def precision(self) -> Precision:
        """Programs say themselves how wide elements are; PIMCOMP's are of 8 bits."""
        return Precision(weight_bits=8, activation_bits=8)

    @property
    def processors(self) -> int:
        """Instruction streams: cores."""
        return self.cores

    @property
    def processor_grid(self) -> tuple[int, int]:
        """A grid that is nearly square, for drawings: the network is a table and has no places."""
        columns = math.isqrt(self.cores - 1) + 1
        return -(-self.cores // columns), columns

    @property
    def memory_bytes(self) -> int:
        """Local memory of a core."""
        return self.local_memory.memory_bytes

    @property
    def shares_memory(self) -> bool:
        """Every core has its own memory."""
        return False

    @property
    def result_bits(self) -> int:
        """Sums keep all their bits."""
        return 0

    @property
    def global_memory_bytes(self) -> int:
        """Global memory of the chip."""
        return self.global_memory.memory_bytes

    @property
    def arrays(self) -> int:
        """Crossbars of all cores."""
        return self.cores * self.matrix.crossbars

    @property
    def arrays_per_processor(self) -> int:
        """Crossbars of a core."""
        return self.matrix.crossbars

    @property
    def are_arrays_rewritten(self) -> bool:
        """Weights stay."""
        return False

    @property
    def array_rows(self) -> int:
        """Rows of a crossbar."""
        return self.matrix.rows

    def array_weights_per_row(self, weight_bits: int) -> int:
        """Weights in a row of a crossbar: `floor(columns * cell_bits / weight_bits)`."""
        return self.matrix.columns * self.matrix.cell_bits // weight_bits

    def weights_capacity(self, weight_bits: int) -> int:
        """Weights that all crossbars hold."""
        return self.arrays * self.matrix.rows * self.array_weights_per_row(weight_bits)

    @property
    def static_mw_total(self) -> float:
        """Power at rest with all cores in use; a core without instructions has none."""
        return self.static_mw(self.cores)

    def static_mw(self, cores: int) -> float:
        """Power at rest of some cores, and of the global memory: of the crossbars pimsim-nn counts none."""
        return cores * (self.core_static_power_mw + self.local_memory.static_power_mw) + self.global_memory.static_power_mw


@functools.lru_cache(maxsize=4)
def network_tables(network: NetworkPart) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Tables of a network: ns and pJ of a flit from [switch] to [switch], and whether there is a path.

    Returns:
        float64[S, S], float64[S, S] and bool[S, S], read-only; 0 where there is no path.
    """
    size = len(network.latency_ns)
    latency, energy = (np.array([_values(line, size) for line in lines]) for lines in (network.latency_ns, network.energy_pj))
    known = ~np.isnan(latency)
    tables = np.where(known, latency, 0.0), np.where(np.isnan(energy), 0.0, energy), known
    for table in tables:
        table.flags.writeable = False
    return tables


def _values(line: str, size: int) -> list[float]:
    """The numbers of a line, NaN for `-`; a fault if they are not `size`."""
    found: list[float] = []
    for word in line.split():
        value, _, times = word.partition("*")
        try:
            number = math.nan if value == "-" else float(value)
            count = int(times) if times else 1
        except ValueError:
            raise fault(word, "a number, a number*times or -", "write e.g. 10*135") from None
        if count < 1 or len(found) + count > size or number < 0 or math.isinf(number):
            raise fault(word, f"numbers of at least 0 for {size} switches", "write e.g. 10*135")
        found += [number] * count
    if len(found) != size:
        raise fault(line, f"numbers for {size} switches", f"{len(found)} stand there; complete them")
    return found


def network_line(values: list[float], known: list[bool]) -> str:
    """A line of a `NetworkPart`."""
    words: list[str] = []
    at = 0
    while at < len(values):
        stop = at + 1
        while stop < len(values) and (values[stop], known[stop]) == (values[at], known[at]):
            stop += 1
        word = f"{values[at]:.17g}" if known[at] else "-"
        words.append(f"{word}*{stop - at}" if stop - at > 1 else word)
        at = stop
    return " ".join(words)
