"""Machines of kind `sram`: small SRAM macros that multiply in place and are rewritten while others compute.

A chip of cores with macros, a shared off-chip link that brings weights, an activation memory, a result memory, and one
special-function unit (SFU). A macro holds a tile of a weight matrix, takes one input vector after another from its
scratch memory, and cannot compute while it is written.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, final

from pimloom.hardware.crossbar import Precision
from pimloom.hardware.parts import Energy, Latency, Power, Size, VectorUnit
from pimloom.hardware.quantity import Choice, Flag, Real, Text, Whole, fault
from pimloom.hardware.record import record

MOST_MACROS = 65536
FINER_PARTS = 16
SERVICES = ("sfu", "loader", "storer", "conductor")
"""Processors behind the macros: the special-function unit, what moves data on and off the chip, and what holds barriers."""

Few = Annotated[int, Whole("of cycles", 0, 10**6, 4)]
Lines = Annotated[int, Whole("of macro lines", 1, 4096, 32)]
WriteSpeed = Annotated[int, Whole("of bytes per cycle", 1, 4096, 8)]


@final
@record
class Macro:
    """One SRAM macro.

    Attributes:
        rows: weights of a column, one input element each.
        cols: columns; one output each.
        column_cycles: cycles to multiply an input vector with one column; a vector takes `cols * column_cycles`.
        slowest_write_bytes_per_cycle: least rate at which it can be rewritten.
        fastest_write_bytes_per_cycle: largest rate at which it can be rewritten.
        line_bytes: bytes that the link grants to a macro at a time.
        vector_energy_pj: energy of one input vector times all columns.
        write_energy_pj_per_byte: energy of one byte written.
        static_mw: power at rest.
    """

    rows: Lines
    cols: Lines
    column_cycles: Annotated[int, Whole("of cycles", 1, 10**6, 1)]
    slowest_write_bytes_per_cycle: WriteSpeed
    fastest_write_bytes_per_cycle: WriteSpeed
    line_bytes: Annotated[int, Whole("of bytes", 1, 65536, 32)]
    vector_energy_pj: Energy
    write_energy_pj_per_byte: Energy
    static_mw: Power

    def __post_init__(self) -> None:
        """Refuses a range of write speeds without an inside and a line larger than the macro."""
        if self.slowest_write_bytes_per_cycle > self.fastest_write_bytes_per_cycle:
            expected = f"at most fastest_write_bytes_per_cycle = {self.fastest_write_bytes_per_cycle}"
            raise fault(self.slowest_write_bytes_per_cycle, f"a slowest_write_bytes_per_cycle of {expected}", "exchange the two")
        if self.line_bytes > self.size_bytes:
            raise fault(self.line_bytes, f"a line_bytes of at most rows * cols = {self.size_bytes}", "shorten the line")

    @property
    def size_bytes(self) -> int:
        """Bytes of a tile: `rows * cols`, 8 bits a weight."""
        return self.rows * self.cols

    @property
    def vector_cycles(self) -> int:
        """Cycles of one input vector: `cols * column_cycles`."""
        return self.cols * self.column_cycles


@final
@record
class Control:
    """What a macro's control takes beside writing and multiplying.

    Attributes:
        read_cycles: fetching a pass's input vectors (RDS).
        write_setup_cycles: before the first byte of a rewrite (RWM).
        multiply_cycles: per input vector, beside the multiplication (PIM).
        result_cycles: per input vector, moving its result to the scratch memory (WRM).
        accumulate_cycles: adding a pass's results to the result memory (WMS).
        handshake_cycles: per instruction, under strategies that pass a start flag to and fro.
    """

    read_cycles: Few
    write_setup_cycles: Few
    multiply_cycles: Few
    result_cycles: Few
    accumulate_cycles: Few
    handshake_cycles: Few


@final
@record
class Memories:
    """The memories on the chip.

    Attributes:
        activation_bytes: input vectors, shared by all macros.
        result_bytes: partial sums and results, shared by all macros.
        result_row_bytes: of the result memory, per vector and macro, where sums are `private`.
        sums: `shared`: macros add to common sums; `private`: each macro owns `result_row_bytes` for every vector it keeps.
        scratch_bytes: of each macro.
        input_area_bytes: of the scratch, for the input vectors of one pass: at most `input_area_bytes / rows` of them.
    """

    activation_bytes: Size
    result_bytes: Size
    result_row_bytes: Size
    sums: Annotated[Literal["shared", "private"], Choice(("shared", "private"))]
    scratch_bytes: Size
    input_area_bytes: Size

    def __post_init__(self) -> None:
        """Refuses an input area larger than the scratch."""
        if self.input_area_bytes > self.scratch_bytes:
            raise fault(self.input_area_bytes, f"at most scratch_bytes = {self.scratch_bytes}", "enlarge the scratch memory")


@final
@record
class Dram:
    """What lies behind a link of model `dram`: banks whose rows are opened for every line and closed behind it.

    Attributes:
        banks: banks that work side by side.
        activate_cycles: from opening a row to its first byte (tRCD).
        precharge_cycles: to close a row (tRP).
        activate_gap_cycles: between openings in different banks (tRRD).
        refresh_interval_cycles: between refreshes (tREFI).
        refresh_cycles: of a refresh, during which the channel stands still (tRFC).
    """

    banks: Annotated[int, Whole("of banks", 1, 1024, 8)]
    activate_cycles: Few
    precharge_cycles: Few
    activate_gap_cycles: Few
    refresh_interval_cycles: Annotated[int, Whole("of cycles", 1, 10**9, 7800)]
    refresh_cycles: Few

    def __post_init__(self) -> None:
        """Refuses a channel that does nothing but refresh."""
        if self.refresh_cycles >= self.refresh_interval_cycles:
            expected = f"less than refresh_interval_cycles = {self.refresh_interval_cycles}"
            raise fault(self.refresh_cycles, f"refresh_cycles of {expected}", "shorten the refresh")

    @property
    def available(self) -> float:
        """Share of the time that refreshes leave: `1 - refresh_cycles / refresh_interval_cycles`."""
        return 1.0 - self.refresh_cycles / self.refresh_interval_cycles


@final
@record
class Link:
    """The one link between the chip and the memory outside.

    Attributes:
        bytes_per_cycle: bandwidth, reads and writes together.
        latency_cycles: before the first byte of a load arrives, during which the link is free for others.
        transfers: loads under way at once, and as many stores.
        energy_pj_per_byte: energy of one byte, memory outside included.
        carries_activations: whether inputs and results use it too; without, they are free and only weights count.
        outside_bytes: memory behind it.
        static_mw: power at rest.
        dram: the channel behind it; null for an ideal one.
    """

    bytes_per_cycle: Annotated[int, Whole("of bytes per cycle", 1, 65536, 128)]
    latency_cycles: Latency
    transfers: Annotated[int, Whole("of transfers", 1, 65536, 16)]
    energy_pj_per_byte: Energy
    carries_activations: Annotated[bool, Flag()]
    outside_bytes: Size
    static_mw: Power
    dram: Dram | None = None


@final
@record
class SramHardware:
    """A machine of kind `sram`.

    Attributes:
        name: what it is called in messages and reports.
        kind: `sram`.
        description: one sentence.
        source: publication or file that the numbers come from.
        clock_ghz: the one clock that all `_cycles` count.
        cores: groups of macros.
        macros_per_core: macros of one core.
        macro: every macro.
        control: every macro's control.
        memories: the memories on the chip.
        link: the off-chip link.
        sfu: the special-function unit.
        result_bits: bits that a sum keeps: 32, or 8 where the machine truncates every result.
        precision: defaults of the compiler.
    """

    name: Annotated[str, Text("a name", 100, "gpp-256")]
    kind: Annotated[Literal["sram"], Choice(("sram",))]
    description: Annotated[str, Text("a description", 2000, "a small machine for tests", may_be_empty=True)] = ""
    source: Annotated[str, Text("a source", 2000, "arXiv 2411.13054", may_be_empty=True)] = ""
    clock_ghz: Annotated[float, Real("of gigahertz", 100.0, 1.0, positive=True)]
    cores: Annotated[int, Whole("of cores", 1, MOST_MACROS, 16)]
    macros_per_core: Annotated[int, Whole("of macros", 1, MOST_MACROS, 16)]
    macro: Macro
    control: Control
    memories: Memories
    link: Link
    sfu: VectorUnit
    result_bits: Annotated[int, Choice((8, 32))]
    precision: Precision

    def __post_init__(self) -> None:
        """Checks what one part alone cannot know."""
        if self.arrays > MOST_MACROS:
            raise fault(self.arrays, f"cores * macros_per_core of at most {MOST_MACROS}", "reduce one of them")
        if self.precision.weight_bits != 8 or self.precision.activation_bits != 8:
            found = max(self.precision.weight_bits, self.precision.activation_bits)
            raise fault(found, "8 bits for weights and activations, which is what a macro multiplies", "write 8")
        if self.macro.size_bytes > self.memories.result_bytes:
            expected = f"at most memories.result_bytes = {self.memories.result_bytes}"
            raise fault(self.macro.size_bytes, f"a macro of {expected}", "reduce macro.rows or macro.cols")
        if self.vectors_per_pass < 1:
            expected = f"at least macro.rows = {self.macro.rows}, one input vector"
            raise fault(self.memories.input_area_bytes, f"memories.input_area_bytes of {expected}", "enlarge the input area")

    # As every machine says it (see `Hardware`).

    @property
    def chips(self) -> int:
        """One chip."""
        return 1

    @property
    def processors(self) -> int:
        """One stream per macro, and one for each of `SERVICES`."""
        return self.arrays + len(SERVICES)

    @property
    def processor_grid(self) -> tuple[int, int]:
        """Cores by macros; rows enough for the services behind them."""
        return self.cores + math.ceil(len(SERVICES) / self.macros_per_core), self.macros_per_core

    @property
    def memory_bytes(self) -> int:
        """The memories on the chip as one address space: activations, results, then the scratch of each macro."""
        m = self.memories
        return m.activation_bytes + m.result_bytes + self.arrays * m.scratch_bytes

    @property
    def shares_memory(self) -> bool:
        """All processors see one address space."""
        return True

    @property
    def global_memory_bytes(self) -> int:
        """Memory behind the link."""
        return self.link.outside_bytes

    @property
    def arrays(self) -> int:
        """Macros of the chip."""
        return self.cores * self.macros_per_core

    @property
    def arrays_per_processor(self) -> int:
        """A stream drives one macro."""
        return 1

    @property
    def are_arrays_rewritten(self) -> bool:
        """Macros get other weights while a program runs."""
        return True

    @property
    def array_rows(self) -> int:
        """Rows of one macro."""
        return self.macro.rows

    def array_weights_per_row(self, weight_bits: int) -> int:
        """Weights in one row of a macro."""
        return self.macro.cols * 8 // max(weight_bits, 8)

    def weights_capacity(self, weight_bits: int) -> int:
        """Weights that all macros hold at once."""
        return self.arrays * self.macro.rows * self.array_weights_per_row(weight_bits)

    @property
    def static_mw_total(self) -> float:
        """Power at rest of all macros, the SFU and the link."""
        return self.arrays * self.macro.static_mw + self.sfu.static_mw + self.link.static_mw

    # What follows from the numbers.

    @property
    def vectors_per_pass(self) -> int:
        """Most input vectors of one pass: what the input area holds."""
        return self.memories.input_area_bytes // self.macro.rows

    @property
    def result_address(self) -> int:
        """First byte of the result memory."""
        return self.memories.activation_bytes

    def scratch_address(self, macro: int) -> int:
        """First byte of a macro's scratch memory."""
        return self.memories.activation_bytes + self.memories.result_bytes + macro * self.memories.scratch_bytes

    @property
    def ticks_per_cycle(self) -> int:
        """Parts of a cycle in which the link is granted, so that one line is a whole number of them.

        Parts are finer still: a control issues one tick after the row before, and refreshes of a DRAM make lines longer.
        """
        parts = self.link.bytes_per_cycle // math.gcd(self.macro.line_bytes, self.link.bytes_per_cycle)
        return parts * FINER_PARTS

    @property
    def vector_pass_cycles(self) -> int:
        """Cycles of one input vector with its control: multiply and move the result."""
        return self.macro.vector_cycles + self.control.multiply_cycles + self.control.result_cycles

    def compute_cycles(self, n_vectors: int, n_passes: int = 1) -> int:
        """Cycles of `n_vectors` in `n_passes`: fetch, multiply, accumulate."""
        fixed = self.control.read_cycles + self.control.accumulate_cycles
        return n_passes * fixed + n_vectors * self.vector_pass_cycles

    def write_cycles(self, bytes_per_cycle: int, size_bytes: int = 0) -> int:
        """Cycles to rewrite a macro (or `size_bytes` of it) at a rate, if the link does not hold it up."""
        return self.control.write_setup_cycles + math.ceil((size_bytes or self.macro.size_bytes) / bytes_per_cycle)


__all__ = ["MOST_MACROS", "SERVICES", "Control", "Dram", "Link", "Macro", "Memories", "SramHardware"]
