"""Checks of a Program: whatever an engine or the interpreter relies on holds before one of them starts.

Most checks read the instruction table: an operand's entry in `Instruction.operands` says whether a field is an address, in which
memory and in what unit, a gather pattern, an array group or a region. A new instruction in the table's words is checked without
a line here. All faults are collected; a table of 200 000 rows takes well under a second.

Deadlock: one sample must pass the program when every core takes its rows strictly in order (stage by stage), which is what the
interpreter does; a core with a larger window only waits less. What a window too small for the stages of several samples does is
for the simulator to say.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final, final

import numpy as np

from pimloom.errors import ProgramError
from pimloom.ir import DTYPES, Graph, Node, TensorType
from pimloom.program.isa import INSTRUCTIONS, OPCODES, RECEIVE, SEND
from pimloom.program.program import Matrix, Program, Region
from pimloom.program.rows import MASKED, Array

SHOWN_FAULTS: Final = 10
OPERANDS: Final = ("dst", "src1", "src2")

_FAR: Final = 1 << 60  # addresses beyond are cut off, so that sums with them cannot overflow
_CORE_SPAN: Final = 1 << 45  # more than the largest local memory: (core, address) as one number

NOWHERE, LOCAL, REGION = 0, 1, 2
BYTES, SUMS, CODES = 0, 1, 2

PLACES: Final = {"local": LOCAL, "local: partial sums": LOCAL, "local: codes": LOCAL, "offset in the region": REGION}
UNITS: Final = {"local: partial sums": SUMS, "local: codes": CODES}
NUMBERS: Final = frozenset({
    "bytes read per block", "bytes written per block", "elements counted for an average", "1 in the row that completes the node",
})  # fmt: skip
"""What the fields of OPERANDS may mean: an address (`PLACES`, in elements of `UNITS` or in bytes), or one of these."""


def verify_program(program: Program) -> None:
    """Checks that a program can be carried out.

    Args:
        program: the program; its graph and hardware are taken to be valid.

    Raises:
        ProgramError: lists what is wrong, naming rows, cores, regions, blocks or groups; the first ten faults are shown.
    """
    faults = _Faults(program)
    _check_tables(faults)
    faults.raise_if_any()  # what follows needs tables of the right form
    _check_patterns(faults)
    _check_matrices(faults)
    _check_groups(faults)
    _check_regions(faults)
    _check_blocks(faults)
    _check_streams(faults)
    faults.raise_if_any()  # rows that name nothing have no operands
    _check_row_fields(faults)
    _check_products(faults)
    _check_accesses(faults)
    _check_completion(faults)
    is_linked = _check_partners(faults) & _check_dependencies(faults)
    if is_linked:
        _check_progress(faults)
    faults.raise_if_any()


@final
class _Faults:
    """Faults found so far, of which the first few are put into words."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.count = 0
        self.sentences: list[str] = []

    def add(self, sentence: str) -> None:
        self.count += 1
        if len(self.sentences) < SHOWN_FAULTS:
            self.sentences.append(sentence)

    def add_rows(self, is_bad: Array, sentence: Callable[[int], str]) -> None:
        """Adds a fault per row (bool[n]); `sentence` is asked only for those that are shown."""
        found = np.flatnonzero(is_bad)
        for row in found[: SHOWN_FAULTS - len(self.sentences)]:
            self.sentences.append(f"{self.name(int(row))}: {sentence(int(row))}")
        self.count += found.size

    def name(self, row: int) -> str:
        """`row 12 (mvm) on core 3`."""
        opcode = int(self.program.rows["opcode"][row])
        mnemonic = INSTRUCTIONS[opcode].name if opcode < len(INSTRUCTIONS) else f"opcode {opcode}"
        return f"row {row} ({mnemonic}) on core {self.core(row)}"

    def core(self, row: int) -> int:
        return int(np.searchsorted(self.program.stream_ptr, row, side="right")) - 1

    def raise_if_any(self) -> None:
        if not self.count:
            return
        shown = "".join(f"\n  {s}" for s in self.sentences)
        more = f"\n  and {self.count - len(self.sentences)} more" if self.count > len(self.sentences) else ""
        faults = "1 fault" if self.count == 1 else f"{self.count} faults"
        raise ProgramError(f"program '{self.program.name}': {faults} found, none expected; compile the network again:{shown}{more}")


# -- tables ---------------------------------------------------------------------------------------------------------


def _check_tables(faults: _Faults) -> None:
    """Lengths and pointers: every table can be indexed as its docstring says."""
    program = faults.program
    cores = program.hardware.total_cores
    if program.stream_ptr.size != cores + 1:
        faults.add(f"stream_ptr: {program.stream_ptr.size} offsets found, {cores + 1} expected for {cores} cores")
    for name, end in (("stream_ptr", program.n_rows), ("dep_ptr", program.dep_row.size), ("pattern_ptr", program.pattern_offset.size)):
        pointer = getattr(program, name)
        if pointer.ndim != 1 or not pointer.size or pointer[0] != 0 or pointer[-1] != end or (np.diff(pointer) < 0).any():
            faults.add(f"{name}: offsets that rise from 0 to {end} expected{_first_fall(pointer)}")
    for name, size in (
        ("partner", program.n_rows), ("dep_ptr", program.n_rows + 1), ("dep_distance", program.dep_row.size),
        ("pattern_length", program.pattern_offset.size),
    ):  # fmt: skip
        found = getattr(program, name).size
        if found != size:
            faults.add(f"{name}: {found} entries found, {size} expected")
    groups = program.groups
    for name in ("crossbars", "matrix", "row_start", "row_stop", "column_start", "column_stop"):
        if getattr(groups, name).size != len(groups):
            faults.add(f"groups.{name}: {getattr(groups, name).size} entries found, {len(groups)} expected")


def _first_fall(pointer: Array) -> str:
    falls = np.flatnonzero(np.diff(pointer) < 0) if pointer.ndim == 1 else np.zeros(0)
    return f", {pointer[falls[0] + 1]} after {pointer[falls[0]]} found at {falls[0] + 1}" if falls.size else ""


def _check_patterns(faults: _Faults) -> None:
    program = faults.program
    wrong = (program.pattern_offset < MASKED) | (program.pattern_length < 1)
    for segment in np.flatnonzero(wrong):
        pattern = int(np.searchsorted(program.pattern_ptr, segment, side="right")) - 1
        found = f"{program.pattern_length[segment]} bytes at offset {program.pattern_offset[segment]}"
        faults.add(f"pattern {pattern}: a segment of {found} found, 1 byte or more at 0 or above ({MASKED} if masked) expected")


def _check_matrices(faults: _Faults) -> None:
    constants = faults.program.graph.constants
    for index, matrix in enumerate(faults.program.matrices):
        if matrix.name not in constants:
            faults.add(f"matrix {index}: the name '{matrix.name}' found, a constant of the graph expected")
        if matrix.codes.ndim != 2 or matrix.codes.dtype.kind != "i":
            faults.add(f"matrix {index}: {matrix.codes.dtype}{list(matrix.codes.shape)} found, integers[rows, columns] expected")


def _check_groups(faults: _Faults) -> None:
    program, machine = faults.program, faults.program.hardware
    groups, cores = program.groups, machine.total_cores
    used: dict[int, int] = defaultdict(int)
    for g in range(len(groups)):
        core, index, arrays = int(groups.processor[g]), int(groups.matrix[g]), int(groups.crossbars[g])
        if not 0 <= core < cores:
            faults.add(f"group {g}: core {core} found, one of 0 to {cores - 1} expected")
        if arrays < 1:
            faults.add(f"group {g} on core {core}: {arrays} crossbars found, at least 1 expected")
        used[core] += max(arrays, 0)
        if not 0 <= index < len(program.matrices):
            faults.add(f"group {g} on core {core}: matrix {index} found, one of {len(program.matrices)} expected")
        elif program.matrices[index].codes.ndim == 2 and program.matrices[index].name in program.graph.types:
            _check_group_shape(faults, g, program.matrices[index])
    for core, arrays in used.items():
        if arrays > machine.core.crossbars:
            faults.add(f"core {core}: {arrays} crossbars in its groups found, at most {machine.core.crossbars} expected on '{machine.name}'")


def _check_group_shape(faults: _Faults, g: int, matrix: Matrix) -> None:
    """A group's part lies inside its matrix and fits its arrays."""
    groups, crossbar = faults.program.groups, faults.program.hardware.crossbar
    where, sizes = f"group {g} on core {groups.processor[g]}", {}
    for name, size in (("row", matrix.codes.shape[0]), ("column", matrix.codes.shape[1])):
        start, stop = int(getattr(groups, f"{name}_start")[g]), int(getattr(groups, f"{name}_stop")[g])
        sizes[name] = stop - start
        if not 0 <= start < stop <= size:
            faults.add(f"{where}: {name}s {start} to {stop} found, a range inside the {size} of matrix '{matrix.name}' expected")
    columns = int(groups.crossbars[g]) * crossbar.logical_cols(_weight_bits(faults.program.graph.types[matrix.name]))
    if sizes["row"] > crossbar.rows or sizes["column"] > columns:
        found = f"{sizes['row']} rows x {sizes['column']} columns"
        faults.add(f"{where}: {found} found, at most {crossbar.rows} x {columns} expected in {groups.crossbars[g]} crossbars")


def _weight_bits(weight: TensorType) -> int:
    """Bits that a weight takes on arrays; an 8-bit code whose zero point is taken off needs the next wider type."""
    bits = 8 * weight.itemsize_bytes
    return 16 if bits == 8 and weight.quant is not None and weight.quant.zero_point != 0 else bits


# -- memory maps ----------------------------------------------------------------------------------------------------


def _check_regions(faults: _Faults) -> None:
    program, machine = faults.program, faults.program.hardware
    ranges: dict[int, list[tuple[int, int, str]]] = defaultdict(list)
    seen: set[str] = set()
    for index, region in enumerate(program.regions):
        where = f"region {index} '{region.value}'"
        if region.value in seen:
            faults.add(f"{where}: a second region of the value found, one expected")
        seen.add(region.value)
        if not 0 <= region.chip < machine.chips:
            faults.add(f"{where}: chip {region.chip} found, one of 0 to {machine.chips - 1} expected")
        fault = _layout_fault(program.graph, region)
        if fault:
            faults.add(f"{where}: {fault}")
        copies = 1 if region.value in program.graph.constants else program.samples
        ranges[region.chip].append((region.address, region.address + region.size_bytes * copies, where))
    for chip, pieces in ranges.items():
        _check_disjoint(faults, pieces, machine.global_memory.size_bytes, f"the global memory of chip {chip}")


def _layout_fault(graph: Graph, region: Region) -> str:
    value_type = graph.types.get(region.value)
    if value_type is None:
        return "no value of the graph has this name; a value of the graph expected"
    layout = region.layout
    if sorted(layout.order) != list(range(value_type.rank)) or layout.rows * layout.channels != value_type.size or layout.rows < 0:
        found = f"order {list(layout.order)}, {layout.rows} x {layout.channels}"
        return f"the layout {found} found, a permutation and a size that fit {value_type} expected"
    if region.size_bytes < value_type.size_bytes:
        return f"{region.size_bytes} bytes found, at least {value_type.size_bytes} expected for {value_type}"
    return ""


def _check_blocks(faults: _Faults) -> None:
    program, machine = faults.program, faults.program.hardware
    ranges: dict[int, list[tuple[int, int, str]]] = defaultdict(list)
    for index, block in enumerate(program.blocks):
        where = f"block {index} '{block.label}' on core {block.processor}"
        if not 0 <= block.processor < machine.total_cores:
            faults.add(f"{where}: one of the cores 0 to {machine.total_cores - 1} expected")
        if block.size_bytes < 0:
            faults.add(f"{where}: {block.size_bytes} bytes found, 0 or more expected")
        if block.fill is not None and not _holds(block.dtype, block.fill):
            faults.add(f"{where}: the fill {block.fill} of type '{block.dtype}' found, a code of an integer type expected")
        ranges[block.processor].append((block.address, block.address + block.size_bytes, where))
    for core, pieces in ranges.items():
        _check_disjoint(faults, pieces, machine.core.local_memory.size_bytes, f"the local memory of core {core}")


def _holds(dtype: str, fill: int) -> bool:
    if dtype not in DTYPES or np.dtype(dtype).kind not in "iu":
        return False
    limits = np.iinfo(dtype)
    return limits.min <= fill <= limits.max


def _check_disjoint(faults: _Faults, pieces: list[tuple[int, int, str]], size_bytes: int, memory: str) -> None:
    """Pieces (first byte, one past the last, name) lie inside a memory and apart from each other."""
    reach, owner = 0, ""
    for start, stop, where in sorted(pieces):
        if start < 0 or stop > size_bytes:
            faults.add(f"{where}: bytes {start} to {stop} found, a range inside the {size_bytes} bytes of {memory} expected")
        if start < reach and stop > start:
            faults.add(f"{where}: begins at byte {start}, inside {owner}, which ends at {reach}; disjoint ranges expected")
        if stop > reach:
            reach, owner = stop, where


# -- rows -----------------------------------------------------------------------------------------------------------


def _of_opcodes(fact: Callable[[int], Any], dtype: Any = bool) -> Array:
    """A fact per opcode."""
    return np.array([fact(code) for code in range(len(INSTRUCTIONS))], dtype)


def _means(field: str, meaning: str) -> Array:
    """bool[opcodes]: whether a field means something."""
    return _of_opcodes(lambda code: INSTRUCTIONS[code].operands.get(field) == meaning)


def _check_streams(faults: _Faults) -> None:
    """Opcodes and processors; the words for other faults rely on them."""
    program = faults.program
    rows = program.rows
    opcodes = len(INSTRUCTIONS)
    faults.add_rows(rows["opcode"] >= opcodes, lambda r: f"one of the opcodes 0 to {opcodes - 1} expected")
    owner = np.repeat(np.arange(program.n_processors), np.diff(program.stream_ptr))
    faults.add_rows(rows["processor"] != owner, lambda r: f"processor {rows['processor'][r]} found, {owner[r]} expected by stream_ptr")


def _check_row_fields(faults: _Faults) -> None:
    """Fields that are counts or indices."""
    program, rows, opcode = faults.program, faults.program.rows, faults.program.rows["opcode"]
    nodes, patterns = len(program.graph.nodes), program.pattern_ptr.size - 1
    faults.add_rows(rows["count"] < 1, lambda r: f"count {rows['count'][r]} found, at least 1 expected")
    faults.add_rows(rows["length"] < 1, lambda r: f"length {rows['length'][r]} found, at least 1 expected")
    faults.add_rows(rows["stage"] < 0, lambda r: f"stage {rows['stage'][r]} found, 0 or more expected")
    node = rows["node"]
    lowest = np.where(_of_opcodes(_needs_node)[opcode], 0, -1)
    faults.add_rows(
        (node < lowest) | (node >= nodes), lambda r: f"node {node[r]} found, one of {lowest[r]} to {nodes - 1} expected",
    )  # fmt: skip
    pattern, gathers = rows["pattern"], _of_opcodes(lambda code: "pattern" in INSTRUCTIONS[code].operands)[opcode]
    faults.add_rows(
        np.where(gathers, (pattern < 0) | (pattern >= patterns), pattern != -1),
        lambda r: f"pattern {pattern[r]} found, {f'one of 0 to {patterns - 1}' if gathers[r] else '-1 for none'} expected",
    )
    preset = (opcode == OPCODES["preset"]) & (rows["src2"] != 4) & (rows["src2"] != 8)
    faults.add_rows(preset, lambda r: f"src2 {rows['src2'][r]} found, the 4 or 8 bytes of a sum expected")
    _check_arg(faults)


def _needs_node(code: int) -> bool:
    """Whether the node decides what the row does; the sums of `preset` say themselves how wide they are."""
    units = (UNITS.get(_plain(meaning)) for meaning in INSTRUCTIONS[code].operands.values())
    is_sized = INSTRUCTIONS[code].operands["length"] != "bytes" and any(units)
    return INSTRUCTIONS[code].name != "preset" and (is_sized or INSTRUCTIONS[code].name == "general")


def _plain(meaning: str) -> str:
    """`local: codes of the second operand, -1 for none` -> `local: codes`."""
    return next((known for known in UNITS if meaning.startswith(known)), meaning)


def _check_arg(faults: _Faults) -> None:
    """`arg` is an array group on the row's core, a region, or the first channel or column of the node's output."""
    program, rows, opcode = faults.program, faults.program.rows, faults.program.rows["opcode"]
    arg = rows["arg"].astype(np.int64)
    for meaning, size in (("array group", len(program.groups)), ("region", len(program.regions))):
        wrong = _means("arg", meaning)[opcode] & ((arg < 0) | (arg >= size))
        faults.add_rows(wrong, lambda r, m=meaning, n=size: f"{m} {arg[r]} found, one of 0 to {n - 1} expected")
    sizes = np.array([_output_type(program.graph, node).size for node in program.graph.nodes] + [1 << 40], np.int64)
    limit = sizes[np.clip(rows["node"], -1, len(program.graph.nodes) - 1)]
    first = _means("arg", "first column") | _means("arg", "first channel")
    wrong = first[opcode] & ((arg < 0) | (arg + rows["length"] > limit))
    faults.add_rows(
        wrong, lambda r: f"channels {arg[r]} to {arg[r] + rows['length'][r]} found, inside the node's {limit[r]} elements expected",
    )  # fmt: skip


def _output_type(graph: Graph, node: Node) -> TensorType:
    return graph.types[next(v for v in node.outputs if v)]


def _check_products(faults: _Faults) -> None:
    """Rows that work on an array group: it is on their core, holds their node's weight, and its sizes are the row's."""
    program, rows, groups = faults.program, faults.program.rows, faults.program.groups
    arg, node = rows["arg"], rows["node"]
    is_named = (arg >= 0) & (arg < len(groups)) & (node >= 0) & (node < len(program.graph.nodes))
    at = np.flatnonzero(_means("arg", "array group")[rows["opcode"]] & is_named)
    if not at.size:
        return
    group = np.zeros(rows.size, np.int64)
    group[at] = arg[at]

    def check(is_bad: Array, sentence: Callable[[int], str]) -> None:
        mask = np.zeros(rows.size, bool)
        mask[at] = is_bad
        faults.add_rows(mask, sentence)

    g = group[at]
    check(groups.processor[g] != rows["processor"][at], lambda r: f"array group {arg[r]} of core {groups.processor[arg[r]]} found, one on its own core expected")
    width = groups.column_stop - groups.column_start
    check(rows["length"][at] != width[g], lambda r: f"length {rows['length'][r]} found, the {width[arg[r]]} columns of array group {arg[r]} expected")
    held, wanted = _weight_names(program)
    check(
        held[groups.matrix[g]] != wanted[node[at]],
        lambda r: f"array group {arg[r]} with weight '{_held_name(program, int(arg[r]))}' found, the weight of its node "
        f"'{program.graph.nodes[node[r]].name}' expected",
    )  # fmt: skip


def _held_name(program: Program, group: int) -> str:
    return program.matrices[int(program.groups.matrix[group])].name


def _weight_names(program: Program) -> tuple[Array, Array]:
    """Numbers that are equal where names are: of each matrix, and of each node's second input."""
    number: dict[str, int] = {}
    held = [number.setdefault(m.name, len(number)) for m in program.matrices]
    wanted = [number.get(node.inputs[1], -1) if len(node.inputs) > 1 else -1 for node in program.graph.nodes]
    return np.array(held, np.int64), np.array(wanted, np.int64)


# -- accesses to memory ---------------------------------------------------------------------------------------------


def place_and_unit(code: int, field: str) -> tuple[int, int]:
    """Which memory an operand is an address of, and what one element of it is: NOWHERE, LOCAL, REGION; BYTES, SUMS, CODES."""
    operands = INSTRUCTIONS[code].operands
    meaning = _plain(operands.get(field, ""))
    unit = BYTES if operands.get("length") == "bytes" else UNITS.get(meaning, BYTES)
    return PLACES.get(meaning, NOWHERE), unit


def _check_accesses(faults: _Faults) -> None:
    program, rows = faults.program, faults.program.rows
    gathers = _of_opcodes(lambda code: "pattern" in INSTRUCTIONS[code].operands)[rows["opcode"]]
    patterns = program.pattern_ptr.size - 1
    is_held = gathers & (rows["pattern"] >= 0) & (rows["pattern"] < patterns)
    is_node = rows["node"] < len(program.graph.nodes)
    for operand, field in enumerate(OPERANDS):
        place = _of_opcodes(lambda code, f=field: place_and_unit(code, f)[0], np.int8)[rows["opcode"]]
        skips = _of_opcodes(lambda code, f=field: "-1 for none" in INSTRUCTIONS[code].operands.get(f, ""))[rows["opcode"]]
        place = np.where((skips & (rows[field] == -1)) | (rows["length"] < 1) | (rows["count"] < 1) | ~is_node, NOWHERE, place)
        item = _item_bytes(program, operand)
        low, high = _reach(program, field, rows["length"] * item)
        if field == "src1":
            place = np.where(gathers & ~is_held, NOWHERE, place)
            at = np.flatnonzero(is_held & (place == LOCAL))
            _check_gather(faults, at, item[at])
            low[at], high[at] = _gathered(program, at)
        _check_local(faults, field, np.flatnonzero((place == LOCAL) & (low < high)), low, high)
        _check_region(faults, field, np.flatnonzero(place == REGION), low, high)


def _item_bytes(program: Program, operand: int) -> Array:
    """int64[n]: bytes of one element of an operand."""
    rows = program.rows
    unit = _of_opcodes(lambda code: place_and_unit(code, OPERANDS[operand])[1], np.int8)[rows["opcode"]]
    node = np.clip(rows["node"], -1, len(program.graph.nodes) - 1)
    sums = np.array([_sum_bytes(program.graph, n) for n in program.graph.nodes] + [8], np.int64)[node]
    codes = np.array([_code_bytes(program, n)[operand] for n in program.graph.nodes] + [1], np.int64)[node]
    sums = np.where(rows["opcode"] == OPCODES["preset"], np.where(rows["src2"] == 4, 4, 8), sums)
    return np.select([unit == SUMS, unit == CODES], [sums, codes], 1)


def _sum_bytes(graph: Graph, node: Node) -> int:
    """Bytes of a partial sum: 4 where 32 bits hold any sum of products, else 8."""
    coded = [t for t in graph.input_types(node)[:2] if t is not None and t.quant is not None]
    return 4 if sum(8 * t.itemsize_bytes for t in coded) <= 16 else 8


def _code_bytes(program: Program, node: Node) -> tuple[int, int, int]:
    """Bytes of a code of the output and of the first and second operand that is not built into the instruction."""
    graph, held = program.graph, {region.value for region in program.regions}
    streamed = [
        graph.types[v].itemsize_bytes
        for i, v in enumerate(node.inputs) if v and (v not in graph.constants or (i > 0 and v in held))
    ]  # fmt: skip
    first, second, *_ = [*streamed, 1, 1]
    return _output_type(graph, node).itemsize_bytes, first, second


def _reach(program: Program, field: str, size_bytes: Array) -> tuple[Array, Array]:
    """int64[n] each: first byte, and one past the last, of `count` pieces of `size_bytes`."""
    base, travel = _travel(program.rows, field)
    return base + np.minimum(travel, 0), base + np.maximum(travel, 0) + size_bytes


def _travel(rows: Array, field: str) -> tuple[Array, Array]:
    """int64[n] each: address of the first repetition, and from there to the last one."""
    base = np.clip(rows[field], -_FAR, _FAR)
    return base, rows[f"{field}_step"].astype(np.int64) * np.maximum(rows["count"].astype(np.int64) - 1, 0)


def _gathered(program: Program, at: Array) -> tuple[Array, Array]:
    """First byte read, and one past the last, by the gathers of the rows `at`; equal where all is masked."""
    base, travel = _travel(program.rows[at], "src1")
    is_read = program.pattern_offset != MASKED
    offset = program.pattern_offset.astype(np.int64)
    ends = _by_pattern(program, np.maximum, np.where(is_read, offset + program.pattern_length, 0), 0)
    starts = _by_pattern(program, np.minimum, np.where(is_read, offset, _FAR), _FAR)
    pattern = program.rows["pattern"][at]
    low = base + np.minimum(travel, 0) + np.minimum(starts, ends)[pattern]
    return low, np.where(ends[pattern] > 0, base + np.maximum(travel, 0) + ends[pattern], low)


def _by_pattern(program: Program, reduce: np.ufunc, values: Array, empty: int) -> Array:
    """Reduces values of segments to values of patterns."""
    result = np.full(program.pattern_ptr.size - 1, empty, np.int64)
    full = np.flatnonzero(np.diff(program.pattern_ptr))
    if full.size:
        result[full] = reduce.reduceat(values, program.pattern_ptr[full])
    return result


def _check_gather(faults: _Faults, at: Array, item: Array) -> None:
    """A window's elements are whole codes, as many as the array group has rows (or whole vectors of `length`)."""
    program, rows = faults.program, faults.program.rows
    total = _by_pattern(program, np.add, program.pattern_length.astype(np.int64), 0)[rows["pattern"][at]]
    odd = _by_pattern(program, np.bitwise_or, program.pattern_length | np.maximum(program.pattern_offset, 0), 0)[rows["pattern"][at]]
    step = np.where(rows["count"][at] > 1, rows["src1_step"][at], 0)
    split = ((odd | rows["src1"][at] | step) & (item - 1)) != 0
    group = rows["arg"][at]
    uses_group = _means("arg", "array group")[rows["opcode"][at]]
    height = np.append(program.groups.row_stop - program.groups.row_start, 0)
    expected = np.where(uses_group, height[np.clip(group, 0, len(program.groups))], rows["length"][at])
    unlike = np.where(uses_group, total != expected * item, (total % np.maximum(expected * item, 1) != 0) | (total == 0))
    place = {int(row): i for i, row in enumerate(at[split | unlike])}
    found, kind, bytes_each = total[split | unlike], expected[split | unlike], item[split | unlike]

    def unaligned(row: int) -> str:
        return f"gather pattern {rows['pattern'][row]} at address {rows['src1'][row]} found, whole codes of {bytes_each[place[row]]} bytes expected"

    def misfitting(row: int) -> str:
        i = place[row]
        what = f"the {kind[i]} rows of array group {rows['arg'][row]}" if _means("arg", "array group")[rows["opcode"][row]] else f"whole vectors of {kind[i]}"
        return f"gather pattern {rows['pattern'][row]} of {found[i] // bytes_each[i]} codes found, {what} expected"

    faults.add_rows(_mask(rows.size, at[split]), unaligned)
    faults.add_rows(_mask(rows.size, at[unlike]), misfitting)


def _mask(size: int, at: Array) -> Array:
    mask = np.zeros(size, bool)
    mask[at] = True
    return mask


def _check_local(faults: _Faults, field: str, at: Array, low: Array, high: Array) -> None:
    """Accesses lie inside the local memory and inside one block of the core."""
    program, rows = faults.program, faults.program.rows
    size = program.hardware.core.local_memory.size_bytes
    outside = (low[at] < 0) | (high[at] > size)
    faults.add_rows(
        _mask(rows.size, at[outside]), lambda r: f"{field} spans bytes {low[r]} to {high[r]}, a range inside the local memory of {size} bytes expected",
    )  # fmt: skip
    at = at[~outside]
    blocks = sorted((b.processor * _CORE_SPAN + b.address, b.processor * _CORE_SPAN + b.address + b.size_bytes) for b in program.blocks if b.size_bytes > 0)
    edges = np.array([(-1, -1), *blocks], np.int64)
    base = rows["processor"][at].astype(np.int64) * _CORE_SPAN
    found = np.searchsorted(edges[:, 0], base + low[at], side="right") - 1
    homeless = base + high[at] > edges[found, 1]
    faults.add_rows(
        _mask(rows.size, at[homeless]), lambda r: f"{field} spans bytes {low[r]} to {high[r]}, which no block of the core's memory map holds; one block expected",
    )  # fmt: skip


def _check_region(faults: _Faults, field: str, at: Array, low: Array, high: Array) -> None:
    """Accesses to global memory lie inside their region."""
    program, rows = faults.program, faults.program.rows
    at = at[(rows["arg"][at] >= 0) & (rows["arg"][at] < len(program.regions))]
    sizes = np.array([region.size_bytes for region in program.regions], np.int64)[rows["arg"][at]]
    outside = at[(low[at] < 0) | (high[at] > sizes)]

    def sentence(row: int) -> str:
        region = program.regions[int(rows["arg"][row])]
        return f"{field} spans bytes {low[row]} to {high[row]}, a range inside the {region.size_bytes} bytes of region '{region.value}' expected"

    faults.add_rows(_mask(rows.size, outside), sentence)


def _check_completion(faults: _Faults) -> None:
    """A node whose operands stay in global memory is completed by exactly one row."""
    program, rows = faults.program, faults.program.rows
    general = rows["opcode"] == OPCODES["general"]
    faults.add_rows(general & ((rows["src1"] < 0) | (rows["dst"] < 0)), lambda r: "a negative number of bytes found, 0 or more expected")
    nodes = rows["node"][general]
    completed = np.bincount(nodes[(nodes >= 0) & (rows["src2"][general] == 1)], minlength=len(program.graph.nodes))
    for node in np.unique(nodes[(nodes >= 0) & (nodes < len(program.graph.nodes))]):
        if completed[node] != 1:
            row = int(np.flatnonzero(general & (rows["node"] == node))[-1])
            faults.add(f"{faults.name(row)}: node '{program.graph.nodes[node].name}' is completed by {completed[node]} rows, 1 expected")


# -- messages, dependencies, deadlock -------------------------------------------------------------------------------


def _check_partners(faults: _Faults) -> bool:
    """Sends and receives come in pairs on two cores and agree in size; True if they do."""
    program, rows, before = faults.program, faults.program.rows, faults.count
    kind = _of_opcodes(lambda code: INSTRUCTIONS[code].kind, np.int8)[rows["opcode"]]
    partner = program.partner.astype(np.int64)
    is_message = (kind == SEND) | (kind == RECEIVE)
    stray = np.where(is_message, (partner < 0) | (partner >= rows.size), partner != -1)
    faults.add_rows(stray, lambda r: f"partner {partner[r]} found, {'a row' if is_message[r] else '-1 for none'} expected")
    at = np.flatnonzero(is_message & ~stray)
    other = partner[at]
    lost = (partner[other] != at) | (kind[other] + kind[at] != SEND + RECEIVE) | (kind[other] == kind[at])
    faults.add_rows(_mask(rows.size, at[lost]), lambda r: f"partner row {partner[r]} found, which is no {_opposite(r, kind)} that names it back; a pair expected")
    sends = at[~lost & (kind[at] == SEND)]
    other = partner[sends]
    alone = rows["processor"][sends] == rows["processor"][other]
    faults.add_rows(_mask(rows.size, sends[alone]), lambda r: f"partner row {partner[r]} on the same core found, another core expected")
    size = rows["length"].astype(np.int64) * rows["count"]
    unequal = size[sends] != size[other]
    faults.add_rows(_mask(rows.size, sends[unequal]), lambda r: f"{size[r]} bytes sent found, the {size[partner[r]]} that row {partner[r]} receives expected")
    return faults.count == before


def _opposite(row: int, kind: Array) -> str:
    return "receive" if kind[row] == SEND else "send"


def _check_dependencies(faults: _Faults) -> bool:
    """Dependencies name other rows, of this sample or an earlier one; True if they do."""
    program, before = faults.program, faults.count
    target = np.repeat(np.arange(program.n_rows), np.diff(program.dep_ptr))
    wrong = (program.dep_row < 0) | (program.dep_row >= program.n_rows)
    for e in np.flatnonzero(wrong)[:SHOWN_FAULTS]:
        faults.add(f"{faults.name(int(target[e]))}: waits for row {program.dep_row[e]}, one of 0 to {program.n_rows - 1} expected")
    for e in np.flatnonzero(program.dep_distance < 0)[:SHOWN_FAULTS]:
        faults.add(f"{faults.name(int(target[e]))}: waits {program.dep_distance[e]} samples back, 0 or more expected")
    itself = (program.dep_row == target) & (program.dep_distance == 0)
    for e in np.flatnonzero(itself)[:SHOWN_FAULTS]:
        faults.add(f"{faults.name(int(target[e]))}: waits for itself, another row or an earlier sample expected")
    return faults.count == before


def _check_progress(faults: _Faults) -> None:
    """One sample passes when each core takes its rows in order."""
    order = _Order(faults.program)
    source, target = order.edges()
    same = order.core[source] == order.core[target]
    late = same & (order.place[source] >= order.place[target])
    for s, t in zip(source[late], target[late], strict=True):
        faults.add(f"{faults.name(int(t))}: waits for row {s}, which comes later on the same core; an earlier row expected")
    if not late.any():
        circle = order.circle(source[~same], target[~same])
        if circle:
            steps = ", which waits for ".join(faults.name(row) for row in circle)
            faults.add(f"deadlock: {steps}; an order in which all rows end expected")


@final
class _Order:
    """The order in which one sample passes the rows of each core, and what makes cores wait for each other."""

    def __init__(self, program: Program) -> None:
        rows = program.rows
        self.program = program
        self.core = rows["processor"]
        self.line = np.lexsort((rows["stage"], self.core))  # stable: by core, stage, row
        self.place = np.empty(rows.size, np.int64)
        self.place[self.line] = np.arange(rows.size) - program.stream_ptr[self.core[self.line]]

    def edges(self) -> tuple[Array, Array]:
        """(source, target): rows that must end before others begin, besides the order on each core."""
        program = self.program
        target = np.repeat(np.arange(program.n_rows), np.diff(program.dep_ptr))
        now = program.dep_distance == 0
        source, target = program.dep_row[now].astype(np.int64), target[now]
        kind = _of_opcodes(lambda code: INSTRUCTIONS[code].kind, np.int8)[program.rows["opcode"]]
        receives = np.flatnonzero(kind == RECEIVE)
        sends = program.partner[receives].astype(np.int64)
        if program.hardware.core.issue.window == 1:
            source, target = self._with_meetings(source, target, sends, receives)
        return np.concatenate([source, sends]), np.concatenate([target, receives])

    def _with_meetings(self, source: Array, target: Array, sends: Array, receives: Array) -> tuple[Array, Array]:
        """A core that does one thing at a time stays at a send until the other core is at the receive, and has what that needs."""
        partner = self.program.partner[target].astype(np.int64)
        shared = (partner >= 0) & (partner != source)
        before = self.place[receives] > 0
        earlier = self.line[self.program.stream_ptr[self.core[receives]] + self.place[receives] - 1]
        sources = np.concatenate([source, source[shared], earlier[before]])
        return sources, np.concatenate([target, partner[shared], sends[before]])

    def circle(self, source: Array, target: Array) -> list[int]:
        """Walks all cores; if they stop early, rows that wait for each other, the first one again at the end.

        A core advances to its next row with something to wait for and stops there until the other core is past that.
        """
        inbound = self._inbound(source, target)
        cores = self.program.n_processors
        done = [0] * cores  # rows that a core has passed
        next_edge = [0] * cores
        sleepers: dict[int, list[int]] = defaultdict(list)
        ready = [core for core in range(cores) if self.program.stream_ptr[core] < self.program.stream_ptr[core + 1]]
        length = np.diff(self.program.stream_ptr).tolist()
        while ready:
            core = ready.pop()
            edges, at = inbound.get(core, ()), next_edge[core]
            while at < len(edges) and done[edges[at][1]] > edges[at][2]:
                at += 1
            next_edge[core] = at
            done[core] = edges[at][0] if at < len(edges) else length[core]
            ready += sleepers.pop(core, ())
            if at < len(edges):
                sleepers[edges[at][1]].append(core)
        return self._waiting(inbound, next_edge)

    def _inbound(self, source: Array, target: Array) -> dict[int, list[tuple[int, int, int]]]:
        """Per core, in its order: (its place, the other core, the place there that must be passed)."""
        sorting = np.lexsort((self.place[target], self.core[target]))
        source, target = source[sorting], target[sorting]
        table = np.stack([self.place[target], self.core[source], self.place[source]], axis=1)
        bounds = np.searchsorted(self.core[target], np.arange(self.program.n_processors + 1))
        used = np.flatnonzero(np.diff(bounds)).tolist()
        return {core: list(map(tuple, table[bounds[core] : bounds[core + 1]].tolist())) for core in used}

    def _waiting(self, inbound: dict[int, list[tuple[int, int, int]]], next_edge: list[int]) -> list[int]:
        stuck = [core for core, edges in inbound.items() if next_edge[core] < len(edges)]
        if not stuck:
            return []
        seen: list[int] = []
        core = stuck[0]
        while core not in seen:
            seen.append(core)
            core = inbound[core][next_edge[core]][1]
        return [self._row(c, inbound[c][next_edge[c]][0]) for c in [*seen[seen.index(core) :], core]]

    def _row(self, core: int, place: int) -> int:
        return int(self.line[int(self.program.stream_ptr[core]) + place])
