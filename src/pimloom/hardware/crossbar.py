"""Machines of kind `crossbar`: chips of cores, each with crossbar arrays, a vector unit and a local memory.

The memory cells of a crossbar hold the weights; applying an input vector to its rows yields all dot products on its
columns. Digital inputs enter `dac_bits` at a time, column sums leave through shared ADCs and are shifted and added.
"""

from __future__ import annotations

from typing import Annotated, Literal, final

from pimloom.hardware.parts import (
    ChipLink,
    Communication,
    Energy,
    GlobalMemory,
    Issue,
    LocalMemory,
    Noc,
    Power,
    VectorUnit,
)
from pimloom.hardware.quantity import Choice, Flag, Real, Text, Whole, fault
from pimloom.hardware.record import record

MOST_CORES = 65536
MOST_CROSSBARS = 2**24

Cycles = Annotated[int, Whole("of cycles", 0, 10**6, 1)]
PositiveCycles = Annotated[int, Whole("of cycles", 1, 10**6, 10)]
Lines = Annotated[int, Whole("of crossbar lines", 1, 65536, 128)]


def _ceil(a: int, b: int) -> int:
    return -(-a // b)


@final
@record
class Chip:
    """The grid of cores of one chip. Core `i` sits in row `i // core_cols`, column `i % core_cols`.

    Attributes:
        core_rows: rows of the grid.
        core_cols: columns of the grid.
        cores: cores that exist, the first ones in row order; all positions if not given.
    """

    core_rows: Annotated[int, Whole("of rows", 1, MOST_CORES, 12)]
    core_cols: Annotated[int, Whole("of columns", 1, MOST_CORES, 14)]
    cores: Annotated[int, Whole("of cores", 1, MOST_CORES, 168)] = 0

    def __post_init__(self) -> None:
        """Fills in `cores` and refuses more cores than positions."""
        positions = self.core_rows * self.core_cols
        if positions > MOST_CORES:
            raise fault(positions, f"core_rows * core_cols of at most {MOST_CORES}", "make the grid smaller")
        if self.cores == 0:
            object.__setattr__(self, "cores", positions)
        if self.cores > positions:
            expected = f"cores of at most core_rows * core_cols = {positions}"
            raise fault(self.cores, expected, "enlarge the grid, or leave out 'cores' to fill it")


@final
@record
class Core:
    """One core: memory, vector unit, crossbars, control.

    Attributes:
        local_memory: the scratchpad.
        vector_unit: the element-wise unit.
        crossbars: number of crossbar arrays.
        issue: how instructions are issued.
        communication: `synchronous`: send and receive wait for each other; `asynchronous`: a send only waits for space.
        control_static_mw: power of the control unit.
    """

    local_memory: LocalMemory
    vector_unit: VectorUnit
    crossbars: Annotated[int, Whole("of crossbars", 1, 65536, 96)]
    issue: Issue
    communication: Communication
    control_static_mw: Power


@final
@record
class Rewriting:
    """What it takes to give arrays other weights while a program runs.

    Rows are programmed one after the other, all cells of a row together, until reading them back shows the wanted levels.

    Attributes:
        row_cycles: cycles that programming a row takes, pulses and reads back.
        cell_energy_pj: energy of programming one cell, pulses and reads back.
        drivers: who has the write drivers. `array`: each array, so that all arrays of a core may be programmed at once;
            `core`: each core has one set, which programs its arrays one after the other.
        endurance_writes: times that a cell can be programmed.
    """

    row_cycles: Annotated[int, Whole("of cycles", 1, 10**9, 1000)]
    cell_energy_pj: Energy
    drivers: Annotated[Literal["array", "core"], Choice(("array", "core"))]
    endurance_writes: Annotated[int, Whole("of writes", 1, 10**18, 10**6)]


@final
@record
class Crossbar:
    """One crossbar array with its converters.

    Attributes:
        rows: word lines; one input element each.
        cols: bit lines.
        cell_bits: bits a cell stores.
        signed: how cells hold a signed weight. `offset`: biased by half the range, no extra columns, one subtraction
            of the bias; `flipped`: as `offset`, and a column whose cells add up to more than half of what they can is
            stored as its complement, which halves the largest sum that an ADC meets (ISAAC, section V);
            `differential`: two sets of columns, one for each sign; `logical`: a column is one whole signed weight of
            any precision, slices and signs being hidden below (PIMCOMP's "logical array").
        dac_bits: bits of an input element applied at once.
        dac_count: rows driven at once.
        dac_cycles: cycles of one conversion.
        adc_bits: resolution of the ADCs.
        adc_count: ADCs of this array.
        adc_cycles: cycles of one conversion.
        read_cycles: cycles of one analog read of the array.
        sample_hold_cycles: cycles to hold the column sums.
        shift_add_cycles: cycles to add a conversion to the running sum.
        output_buffer_cycles: cycles to write a result to the output register.
        pipelined: whether the read of an input slice overlaps with the conversion of the one before.
        dac_energy_pj: energy per DAC conversion.
        array_read_energy_pj: energy of the array per input slice.
        sample_hold_energy_pj: energy per column and input slice.
        adc_energy_pj: energy per ADC conversion.
        shift_add_energy_pj: energy per ADC conversion, of the shift-and-add behind it.
        register_energy_pj: energy of the input and output registers per input slice.
        static_mw: power at rest.
        rewriting: what writing weights takes; arrays without it are written before the first sample and never again.
    """

    rows: Lines
    cols: Lines
    cell_bits: Annotated[int, Whole("of bits", 1, 16, 2)]
    signed: Annotated[Literal["offset", "flipped", "differential", "logical"], Choice(("offset", "flipped", "differential", "logical"))]
    dac_bits: Annotated[int, Whole("of bits", 1, 16, 1)]
    dac_count: Lines
    dac_cycles: Cycles
    adc_bits: Annotated[int, Whole("of bits", 1, 32, 8)]
    adc_count: Lines
    adc_cycles: PositiveCycles
    read_cycles: PositiveCycles
    sample_hold_cycles: Cycles
    shift_add_cycles: Cycles
    output_buffer_cycles: Cycles
    pipelined: Annotated[bool, Flag()]
    dac_energy_pj: Energy
    array_read_energy_pj: Energy
    sample_hold_energy_pj: Energy
    adc_energy_pj: Energy
    shift_add_energy_pj: Energy
    register_energy_pj: Energy
    static_mw: Power
    rewriting: Rewriting | None = None

    def __post_init__(self) -> None:
        """Refuses more converters than lines."""
        if self.dac_count > self.rows:
            raise fault(self.dac_count, f"a dac_count of at most rows = {self.rows}", "write one DAC per row")
        if self.adc_count > self.cols:
            raise fault(self.adc_count, f"an adc_count of at most cols = {self.cols}", "write one ADC per column")

    def columns_per_weight(self, weight_bits: int) -> int:
        """Columns that one weight occupies.

        offset, flipped: `ceil(bits / cell_bits)` (ISAAC, section V); differential: `2 * ceil(bits / cell_bits)`, with all bits
        on each side, so that every code of two's complement can be stored; logical: 1 (PIMCOMP, section III).
        """
        if self.signed == "logical":
            return 1
        slices = _ceil(weight_bits, self.cell_bits)
        return 2 * slices if self.signed == "differential" else slices

    def logical_cols(self, weight_bits: int) -> int:
        """Weights in one row: `floor(cols / columns_per_weight)`; the columns of a weight are never split."""
        return self.cols // self.columns_per_weight(weight_bits)

    def bit_slices(self, activation_bits: int) -> int:
        """Slices an input element is applied in: `ceil(bits / dac_bits)`."""
        return _ceil(activation_bits, self.dac_bits)

    def input_slices(self, activation_bits: int) -> int:
        """Array reads of one MVM: `bit_slices * ceil(rows / dac_count)`."""
        return self.bit_slices(activation_bits) * _ceil(self.rows, self.dac_count)

    @property
    def flips_columns(self) -> bool:
        """Whether columns that add up to more than half are stored as their complement."""
        return self.signed == "flipped"

    @property
    def largest_column_sum(self) -> int:
        """Largest sum of one conversion, in units of one input level times one cell level.

        `dac_count * (2**dac_bits - 1) * (2**cell_bits - 1)`, half of that (rounded down) where columns are flipped.
        """
        most = self.dac_count * ((1 << self.dac_bits) - 1) * ((1 << self.cell_bits) - 1)
        return most // 2 if self.flips_columns else most

    @property
    def conversions_per_adc(self) -> int:
        """Conversions each ADC makes per array read: `ceil(cols / adc_count)`."""
        return _ceil(self.cols, self.adc_count)

    @property
    def front_cycles(self) -> int:
        """Cycles of the analog part of one slice: `dac + read + sample_hold`."""
        return self.dac_cycles + self.read_cycles + self.sample_hold_cycles

    @property
    def back_cycles(self) -> int:
        """Cycles of the digital part of one slice.

        `adc + tail + (m - 1) * max(adc, tail)` with `tail = shift_add + output_buffer`, `m = conversions_per_adc`: the
        conversions of an ADC follow each other at the pace of the slower of ADC and tail (pimsim-nn).
        """
        tail = self.shift_add_cycles + self.output_buffer_cycles
        return self.adc_cycles + tail + (self.conversions_per_adc - 1) * max(self.adc_cycles, tail)

    def mvm_cycles(self, activation_bits: int) -> int:
        """Latency of one matrix-vector multiplication in one array.

        With `n = input_slices`: pipelined `front + back + (n - 1) * max(front, back)`, else `n * (front + back)`: the
        two-stage pipeline of ISAAC (section VI) in the form that pimsim-nn gives it, but with ceilings where that
        rounds down, so that 3 ADCs for 128 columns take 43 conversions each and not 42.
        """
        n, front, back = self.input_slices(activation_bits), self.front_cycles, self.back_cycles
        return front + back + (n - 1) * max(front, back) if self.pipelined else n * (front + back)

    def mvm_interval_cycles(self, activation_bits: int) -> int:
        """Cycles from the start of one MVM to the earliest start of the next on the same array.

        Pipelined `n * max(front, back)`, else `n * (front + back)`.
        """
        n, front, back = self.input_slices(activation_bits), self.front_cycles, self.back_cycles
        return n * max(front, back) if self.pipelined else n * (front + back)

    def mvm_energy_pj(self, activation_bits: int) -> float:
        """Energy of one MVM in one array, all rows and columns in use.

        `bit_slices * rows` DAC conversions, and per input slice one array read, `cols` samples, `cols` ADC conversions
        each with its shift-and-add, and the registers once.
        """
        per_column = self.sample_hold_energy_pj + self.adc_energy_pj + self.shift_add_energy_pj
        per_slice = self.array_read_energy_pj + self.register_energy_pj + self.cols * per_column
        dacs = self.bit_slices(activation_bits) * self.rows
        return dacs * self.dac_energy_pj + self.input_slices(activation_bits) * per_slice


@final
@record
class Precision:
    """What the compiler quantises to when the user does not say.

    Attributes:
        weight_bits: bits of a weight.
        activation_bits: bits of an activation, also of the inputs of a crossbar.
    """

    weight_bits: Annotated[int, Choice((8, 16))]
    activation_bits: Annotated[int, Choice((8, 16))]


@final
@record
class CrossbarHardware:
    """A machine of kind `crossbar`.

    Attributes:
        name: what it is called in messages and reports.
        kind: `crossbar`; other kinds of machine have other records.
        description: one sentence.
        source: publication or file that the numbers come from.
        clock_ghz: the one clock that all `_cycles` count.
        chips: number of identical chips.
        chip: the grid of cores of a chip.
        noc: the network of a chip.
        global_memory: the shared memory of a chip.
        chip_link: the link between chips; needed if there are several.
        core: every core.
        crossbar: every crossbar.
        precision: defaults of the compiler.
    """

    name: Annotated[str, Text("a name", 100, "isaac")]
    kind: Annotated[Literal["crossbar"], Choice(("crossbar",))]
    description: Annotated[str, Text("a description", 2000, "a small machine for tests", may_be_empty=True)] = ""
    source: Annotated[str, Text("a source", 2000, "Shafiee et al., ISCA 2016", may_be_empty=True)] = ""
    clock_ghz: Annotated[float, Real("of gigahertz", 100.0, 1.0, positive=True)]
    chips: Annotated[int, Whole("of chips", 1, 1024, 1)] = 1
    chip: Chip
    noc: Noc
    global_memory: GlobalMemory
    chip_link: ChipLink | None = None
    core: Core
    crossbar: Crossbar
    precision: Precision

    def __post_init__(self) -> None:
        """Checks what one part alone cannot know."""
        if self.chips > 1 and self.chip_link is None:
            raise fault(self.chips, "a chip_link where chips > 1", "describe chip_link, or write chips: 1")
        if self.total_cores > MOST_CORES:
            raise fault(self.total_cores, f"at most {MOST_CORES} cores on all chips", "reduce chips or cores")
        if self.total_crossbars > MOST_CROSSBARS:
            raise fault(self.total_crossbars, f"at most {MOST_CROSSBARS} crossbars in all", "reduce core.crossbars")
        needed = self.crossbar.columns_per_weight(self.precision.weight_bits)
        if needed > self.crossbar.cols:
            expected = f"crossbar.cols of at least {needed}, the columns of one {self.precision.weight_bits}-bit weight"
            raise fault(self.crossbar.cols, expected, "widen the crossbar or use cells of more bits")

    @property
    def total_cores(self) -> int:
        """Cores of all chips."""
        return self.chips * self.chip.cores

    @property
    def total_crossbars(self) -> int:
        """Crossbars of all cores of all chips."""
        return self.total_cores * self.core.crossbars

    # As every machine says it (see `Hardware`).

    @property
    def processors(self) -> int:
        """One instruction stream per core."""
        return self.total_cores

    @property
    def processor_grid(self) -> tuple[int, int]:
        """Rows and columns of cores of one chip."""
        return self.chip.core_rows, self.chip.core_cols

    @property
    def memory_bytes(self) -> int:
        """Local memory of one core."""
        return self.core.local_memory.size_bytes

    @property
    def shares_memory(self) -> bool:
        """Every core has its own."""
        return False

    @property
    def result_bits(self) -> int:
        """Sums keep all their bits."""
        return 0

    @property
    def global_memory_bytes(self) -> int:
        """Global memory of one chip."""
        return self.global_memory.size_bytes

    @property
    def arrays(self) -> int:
        """Crossbars of all chips."""
        return self.total_crossbars

    @property
    def arrays_per_processor(self) -> int:
        """Crossbars of one core."""
        return self.core.crossbars

    @property
    def are_arrays_rewritten(self) -> bool:
        """Whether `crossbar.rewriting` says how; else cells are written before the first input, and then never again."""
        return self.crossbar.rewriting is not None

    @property
    def array_rows(self) -> int:
        """Rows of one crossbar."""
        return self.crossbar.rows

    def array_weights_per_row(self, weight_bits: int) -> int:
        """Weights in one row of a crossbar."""
        return self.crossbar.logical_cols(weight_bits)

    @property
    def core_static_mw(self) -> float:
        """Power at rest of one core: its memory, vector unit, control, crossbars and router."""
        core = self.core
        parts = core.local_memory.static_mw + core.vector_unit.static_mw + core.control_static_mw
        return parts + core.crossbars * self.crossbar.static_mw + self.noc.router_static_mw

    @property
    def chip_static_mw(self) -> float:
        """Power at rest of one chip: its cores, its global memory and its link."""
        link = self.chip_link.static_mw if self.chip_link else 0.0
        return self.chip.cores * self.core_static_mw + self.global_memory.static_mw + link

    @property
    def static_mw_total(self) -> float:
        """Power at rest of all chips."""
        return self.chips * self.chip_static_mw

    def weights_capacity(self, weight_bits: int) -> int:
        """Weights that all crossbars hold: `crossbars * rows * logical_cols`."""
        return self.total_crossbars * self.crossbar.rows * self.crossbar.logical_cols(weight_bits)

    def row_write_cycles(self, crossbars: int) -> int:
        """Cycles that programming one row of a group of arrays holds the drivers: in turn where a core has one set of them."""
        rewriting = self.crossbar.rewriting
        if rewriting is None:
            return 0
        return rewriting.row_cycles * (crossbars if rewriting.drivers == "core" else 1)

    def peak_mvm_per_s(self, activation_bits: int) -> float:
        """MVMs per second with every crossbar busy: `crossbars * clock / mvm_interval_cycles`."""
        return self.total_crossbars * self.clock_ghz * 1e9 / self.crossbar.mvm_interval_cycles(activation_bits)

    def peak_ops_per_s(self, weight_bits: int, activation_bits: int) -> float:
        """Operations per second with every crossbar busy; a multiply and an add count as two."""
        weights = self.crossbar.rows * self.crossbar.logical_cols(weight_bits)
        return 2.0 * weights * self.peak_mvm_per_s(activation_bits)

    def peak_crossbar_mw(self, activation_bits: int) -> float:
        """Power of the MVMs alone with every crossbar busy: energy per MVM times MVMs per second."""
        return self.crossbar.mvm_energy_pj(activation_bits) * self.peak_mvm_per_s(activation_bits) * 1e-9
