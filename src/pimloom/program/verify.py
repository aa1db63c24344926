"""Checks of a Program: whatever an engine or the interpreter relies on holds before one of them starts.

Here: tables, weights, memory maps and the fields of rows; `accesses` checks what rows read and write, `progress` what
they wait for. Checks read the instruction table: a new instruction in its words is checked without a line more. All
faults are collected.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np

from pimloom.ir import DTYPES, Graph, Node, Rule, TensorType, op_of
from pimloom.ir.quantised import rule_of
from pimloom.program.accesses import NUMBERS, OPERANDS, UNITS, check_accesses, output_type
from pimloom.program.checking import Faults
from pimloom.program.isa import INSTRUCTIONS, OPCODES
from pimloom.program.machines import MACHINES
from pimloom.program.program import Matrix, Program, Region
from pimloom.program.progress import check_progress
from pimloom.program.residency import check_residency, writes_arrays
from pimloom.program.rows import MASKED

RULES: Final[Mapping[str, frozenset[Rule]]] = {
    "mvm": frozenset({Rule.LINEAR}),
    "add_partial": frozenset({Rule.LINEAR}),
    "finish": frozenset({Rule.LINEAR, Rule.MEAN}),
    "vector": frozenset({Rule.LOOKUP, Rule.SUM, Rule.PRODUCT, Rule.ROW}),
    "pool": frozenset({Rule.MOVE, Rule.MEAN}),
    "stencil": frozenset({Rule.LINEAR}),
    "accumulate": frozenset({Rule.MEAN}),
}
"""How the nodes compute that an instruction may work for; any where none is given."""

_FIRST: Final = ("first column", "first channel")
_GENERAL: Final = "1 in the row that completes the node"


def verify_program(program: Program) -> None:
    """Checks that a program can be carried out.

    Args:
        program: the program; its graph and its machine are taken to be valid.

    Raises:
        ProgramError: lists what is wrong, naming rows, cores, regions, blocks or groups; the first ten are shown.
    """
    faults = Faults(program)
    _check_tables(faults)
    faults.raise_if_any()  # what follows needs tables of the right form
    if _is_timed_only(program):
        _check_streams(faults)
        faults.raise_if_any()
        MACHINES[program.hardware.kind].check(program)
        return
    _check_patterns(faults)
    _check_matrices(faults)
    _check_groups(faults)
    _check_regions(faults)
    _check_blocks(faults)
    _check_streams(faults)
    faults.raise_if_any()  # rows that name nothing have no operands
    _check_fields(faults)
    _check_products(faults)
    _check_writes(faults)
    _check_completion(faults)
    _check_results(faults)
    check_accesses(faults)
    check_progress(faults)
    faults.raise_if_any()


def _is_timed_only(program: Program) -> bool:
    """Whether the rows stand for no data, which could be checked."""
    timed_only = np.array([row.is_timed_only for row in INSTRUCTIONS])
    known = program.rows["opcode"] < timed_only.size
    return bool(program.n_rows) and bool((known & timed_only[np.where(known, program.rows["opcode"], 0)]).all())


# -- tables ---------------------------------------------------------------------------------------------------------


def _check_tables(faults: Faults) -> None:
    """Lengths and pointers: every table can be indexed as its docstring says."""
    program, groups = faults.program, faults.program.groups
    cores, n, segments = program.hardware.processors, program.n_rows, program.pattern_offset.size
    sizes = {
        "stream_ptr": cores + 1,
        "partner": n,
        "dep_ptr": n + 1,
        "dep_distance": program.dep_row.size,
        "pattern_length": segments,
    }
    for name, size in sizes.items():
        found = getattr(program, name).size
        if found != size:
            faults.add(f"{name}: {found} entries found, {size} expected")
    for name, end in (("stream_ptr", n), ("dep_ptr", program.dep_row.size), ("pattern_ptr", segments)):
        pointer = getattr(program, name)
        if not pointer.size or pointer[0] != 0 or pointer[-1] != end or (np.diff(pointer) < 0).any():
            faults.add(f"{name}: offsets that do not rise from 0 to {end} found, such offsets expected")
    for name in ("crossbars", "matrix", "row_start", "row_stop", "column_start", "column_stop"):
        found = getattr(groups, name).size
        if found != len(groups):
            faults.add(f"groups.{name}: {found} entries found, {len(groups)} expected")


def _check_patterns(faults: Faults) -> None:
    program = faults.program
    offset, length = program.pattern_offset, program.pattern_length
    owner = np.repeat(np.arange(program.pattern_ptr.size - 1), np.diff(program.pattern_ptr))
    faults.add_each(
        (offset < MASKED) | (length < 1),
        lambda s: (
            f"pattern {owner[s]}: {length[s]} bytes at offset {offset[s]} found, 1 or more at 0 or above expected "
            f"({MASKED} where masked)"
        ),
    )


def _check_matrices(faults: Faults) -> None:
    constants = faults.program.graph.constants
    for index, matrix in enumerate(faults.program.matrices):
        if matrix.name not in constants:
            faults.add(f"matrix {index}: the name '{matrix.name}' found, a constant of the graph expected")
        if matrix.codes.ndim != 2 or matrix.codes.dtype.kind != "i":
            found = f"{matrix.codes.dtype}{list(matrix.codes.shape)}"
            faults.add(f"matrix {index} '{matrix.name}': {found} found, signed integers[rows, columns] expected")


# -- array groups ---------------------------------------------------------------------------------------------------


def _check_groups(faults: Faults) -> None:
    program, groups, machine = faults.program, faults.program.groups, faults.program.hardware
    used: dict[int, int] = defaultdict(int)
    for g in range(len(groups)):
        core, index, arrays = int(groups.processor[g]), int(groups.matrix[g]), int(groups.crossbars[g])
        used[core] += max(arrays, 0)
        if not 0 <= core < machine.processors:
            faults.add(f"group {g}: core {core} found, one of 0 to {machine.processors - 1} expected")
        if arrays < 1:
            faults.add(f"group {g} on core {core}: {arrays} crossbars found, at least 1 expected")
        if index == -1 and machine.are_arrays_rewritten:
            _check_tile_size(faults, g, 8)  # its weights come from a region
        elif not 0 <= index < len(program.matrices):
            faults.add(f"group {g} on core {core}: matrix {index} found, one of {len(program.matrices)} expected")
        elif program.matrices[index].codes.ndim == 2 and program.matrices[index].name in program.graph.types:
            _check_group_shape(faults, g, program.matrices[index])
    most, rewrites = machine.arrays_per_processor, writes_arrays(program)
    for core, arrays in used.items():
        if arrays > most and not rewrites:
            faults.add(
                f"core {core}: {arrays} crossbars in its groups found, at most {most} expected on '{machine.name}'"
            )


def _check_group_shape(faults: Faults, g: int, matrix: Matrix) -> None:
    """A group's part lies inside its matrix and fits into its arrays."""
    groups = faults.program.groups
    where = f"group {g} on core {groups.processor[g]}"
    for name, size in zip(("row", "column"), matrix.codes.shape, strict=True):
        start, stop = int(getattr(groups, f"{name}_start")[g]), int(getattr(groups, f"{name}_stop")[g])
        if not 0 <= start < stop <= size:
            faults.add(
                f"{where}: {name}s {start} to {stop} found, a range of the {size} of matrix '{matrix.name}' expected"
            )
    _check_tile_size(faults, g, _weight_bits(faults.program.graph.types[matrix.name]))


def _check_tile_size(faults: Faults, g: int, weight_bits: int) -> None:
    """A group's part fits into its arrays."""
    groups, machine = faults.program.groups, faults.program.hardware
    rows, columns = int(groups.row_stop[g] - groups.row_start[g]), int(groups.column_stop[g] - groups.column_start[g])
    width = int(groups.crossbars[g]) * machine.array_weights_per_row(weight_bits)
    if not 0 < rows <= machine.array_rows or not 0 < columns <= width:
        most = f"at most {machine.array_rows} x {width} in {groups.crossbars[g]} crossbars"
        faults.add(f"group {g} on core {groups.processor[g]}: {rows} rows x {columns} columns found, {most} expected")


def _weight_bits(weight: TensorType) -> int:
    """Bits that a weight takes on arrays; an 8-bit code whose zero point is taken off needs the next wider type."""
    bits = 8 * weight.itemsize_bytes
    return 16 if bits == 8 and weight.quant is not None and weight.quant.zero_point != 0 else bits


# -- memory maps ----------------------------------------------------------------------------------------------------


def _check_regions(faults: Faults) -> None:
    program, machine = faults.program, faults.program.hardware
    pieces: dict[int, list[tuple[int, int, str]]] = defaultdict(list)
    seen: set[str] = set()
    for index, region in enumerate(program.regions):
        where = f"region {index} '{region.value}'"
        if region.value in seen:
            faults.add(f"{where}: a second region of the value found, one expected")
        seen.add(region.value)
        if not 0 <= region.chip < machine.chips:
            faults.add(f"{where}: chip {region.chip} found, one of 0 to {machine.chips - 1} expected")
        for fault in _region_faults(program.graph, region):
            faults.add(f"{where}: {fault}")
        copies = 1 if region.value in program.graph.constants else program.samples
        pieces[region.chip].append((region.address, region.address + region.size_bytes * copies, where))
    for chip, held in pieces.items():
        _check_disjoint(faults, held, machine.global_memory_bytes, f"the global memory of chip {chip}")


def _region_faults(graph: Graph, region: Region) -> Iterator[str]:
    value_type, layout = graph.types.get(region.value), region.layout
    if value_type is None:
        yield "no value of the graph found under this name, one expected"
        return
    is_permuted = sorted(layout.order) == list(range(value_type.rank))
    if not is_permuted or layout.rows < 0 or layout.rows * layout.channels != value_type.size:
        found = f"order {list(layout.order)}, {layout.rows} x {layout.channels}"
        yield f"the layout {found} found, a permutation and sizes that fit {value_type} expected"
    if region.size_bytes < value_type.size_bytes:
        yield f"{region.size_bytes} bytes found, at least {value_type.size_bytes} expected for {value_type}"


def _check_blocks(faults: Faults) -> None:
    program, machine = faults.program, faults.program.hardware
    pieces: dict[int, list[tuple[int, int, str]]] = defaultdict(list)
    for index, block in enumerate(program.blocks):
        where = f"block {index} '{block.label}' on core {block.processor}"
        if not 0 <= block.processor < machine.processors:
            faults.add(f"{where}: core {block.processor} found, one of 0 to {machine.processors - 1} expected")
        if block.size_bytes < 0:
            faults.add(f"{where}: {block.size_bytes} bytes found, 0 or more expected")
        if block.fill is not None and not _holds(block.dtype, block.fill):
            faults.add(
                f"{where}: the fill {block.fill} of type '{block.dtype}' found, a code of an integer type expected"
            )
        owner = 0 if machine.shares_memory else block.processor
        pieces[owner].append((block.address, block.address + block.size_bytes, where))
    for core, held in pieces.items():
        _check_disjoint(faults, held, machine.memory_bytes, f"the local memory of core {core}")


def _holds(dtype: str, code: int) -> bool:
    if dtype not in DTYPES or np.dtype(dtype).kind not in "iu":
        return False
    limits = np.iinfo(dtype)
    return limits.min <= code <= limits.max


def _check_disjoint(faults: Faults, pieces: list[tuple[int, int, str]], size_bytes: int, memory: str) -> None:
    """Pieces (first byte, one past the last, name) lie inside a memory and apart from each other."""
    reach, owner = 0, ""
    for start, stop, where in sorted(pieces):
        if start < 0 or stop > size_bytes:
            faults.add(
                f"{where}: bytes {start} to {stop} found, a range of the {size_bytes} bytes of {memory} expected"
            )
        if start < reach and stop > start:
            faults.add(f"{where}: first byte {start} found, one outside {owner}, which ends at {reach}, expected")
        if stop > reach:
            reach, owner = stop, where


# -- rows -----------------------------------------------------------------------------------------------------------


def _check_streams(faults: Faults) -> None:
    """Opcodes and processors; the words for other faults rely on them."""
    program, rows = faults.program, faults.rows
    faults.add_rows(
        rows["opcode"] >= len(INSTRUCTIONS),
        lambda r: f"opcode {rows['opcode'][r]} found, one of 0 to {len(INSTRUCTIONS) - 1} expected",
    )
    owner = np.repeat(np.arange(program.n_processors), np.diff(program.stream_ptr))
    faults.add_rows(
        rows["processor"] != owner,
        lambda r: f"processor {rows['processor'][r]} found, {owner[r]} expected by stream_ptr",
    )


def _check_fields(faults: Faults) -> None:
    """Fields that are counts or indices."""
    program, rows = faults.program, faults.rows
    for field, least in (("count", 1), ("length", 1), ("stage", 0)):
        found = rows[field]
        faults.add_rows(found < least, lambda r, v=found, f=field, n=least: f"{f} {v[r]} found, {n} or more expected")
    for field in OPERANDS:
        found = rows[field]
        is_bad = faults.means(field, *NUMBERS) & (found < 0)
        faults.add_rows(is_bad, lambda r, v=found, f=field: f"{f} {v[r]} found, 0 or more expected")
    nodes, node, least = len(program.graph.nodes), rows["node"], np.where(faults.of_opcode(_needs_node), 0, -1)
    faults.add_rows(
        (node < least) | (node >= nodes), lambda r: f"node {node[r]} found, one of {least[r]} to {nodes - 1} expected"
    )
    _check_rules(faults)
    patterns, pattern, gathers = program.pattern_ptr.size - 1, rows["pattern"], faults.gathers()
    faults.add_rows(
        np.where(gathers, (pattern < 0) | (pattern >= patterns), pattern != -1),
        lambda r: (
            f"pattern {pattern[r]} found, {f'one of 0 to {patterns - 1}' if gathers[r] else '-1 for none'} expected"
        ),
    )
    faults.add_rows(
        (rows["opcode"] == OPCODES["preset"]) & ~np.isin(rows["src2"], (4, 8)),
        lambda r: f"src2 {rows['src2'][r]} found, the 4 or 8 bytes of a sum expected",
    )
    _check_arg(faults)


def _check_rules(faults: Faults) -> None:
    """An instruction works for nodes of the kinds it can compute."""
    graph, rows = faults.program.graph, faults.rows
    kinds = list(Rule)
    rules = [rule_of(node, graph.input_types(node), graph.output_types(node)) for node in graph.nodes]
    kind = np.array([kinds.index(rule) for rule in rules] + [0])[np.where(faults.has_node(), rows["node"], -1)]
    fits = np.array([[rule in RULES.get(row.name, kinds) for rule in kinds] for row in INSTRUCTIONS])
    faults.add_rows(
        faults.has_node() & ~fits[rows["opcode"], kind],
        lambda r: (
            f"node '{graph.nodes[rows['node'][r]].name}' ({graph.nodes[rows['node'][r]].op}) found, one with the rule "
            f"{' or '.join(sorted(rule.value for rule in RULES[INSTRUCTIONS[rows['opcode'][r]].name]))} expected"
        ),
    )


def _needs_node(code: int) -> bool:
    """Whether the node decides what the row does; the sums of `preset` say themselves how wide they are."""
    row = INSTRUCTIONS[code]
    if row.name == "preset" or row.operands["length"] == "bytes":
        return False
    return any(meaning == _GENERAL or meaning.startswith(tuple(UNITS)) for meaning in row.operands.values())


def _check_arg(faults: Faults) -> None:
    """`arg` is an array group, a region, or the first channel or column of the node's output."""
    program, rows = faults.program, faults.rows
    arg = rows["arg"].astype(np.int64)
    groups, regions = len(program.groups), len(program.regions)
    for meaning, size in (("array group", groups), ("array group to write", groups), ("region", regions)):
        is_bad = faults.means("arg", meaning) & ((arg < 0) | (arg >= size))
        faults.add_rows(is_bad, lambda r, m=meaning, n=size: f"{m} {arg[r]} found, one of 0 to {n - 1} expected")
    widths = {matrix.name: 0 for matrix in program.matrices}
    for matrix in program.matrices:
        widths[matrix.name] += matrix.codes.shape[1]
    channels = np.array([_channels(program.graph, node, widths) for node in program.graph.nodes] + [1 << 40], np.int64)
    most = channels[np.where(faults.has_node(), rows["node"], -1)]
    last = arg + rows["length"]
    faults.add_rows(
        faults.means("arg", *_FIRST) & ((arg < 0) | (last > most)),
        lambda r: f"channels {arg[r]} to {last[r]} found, a range of the node's {most[r]} channels expected",
    )


def _channels(graph: Graph, node: Node, widths: Mapping[str, int]) -> int:
    """Channels of a node's output: the columns of its weight, else no more than its operands by channel have."""
    if _weight(node) in widths:
        return widths[_weight(node)]
    constants = [graph.types[v] for v in node.inputs if v in graph.constants and graph.types[v].size > 1]
    sizes = [t.shape[0] if t.rank > 2 and node.op == "Conv" else t.size for t in constants]
    return min([output_type(graph, node).size, *sizes])


def _check_products(faults: Faults) -> None:
    """Rows that work on an array group: it is on their core, has their columns and holds their node's weight."""
    program, rows, groups = faults.program, faults.rows, faults.program.groups
    if not len(groups):
        return
    arg = rows["arg"]
    is_product = faults.means("arg", "array group") & (arg >= 0) & (arg < len(groups)) & faults.has_node()
    group, node = np.where(is_product, arg, 0), np.where(is_product, rows["node"], 0)
    owner, width = groups.processor[group], (groups.column_stop - groups.column_start)[group]
    faults.add_rows(
        is_product & (owner != rows["processor"]),
        lambda r: f"array group {arg[r]} of core {owner[r]} found, one of its own core expected",
    )
    faults.add_rows(
        is_product & (width != rows["length"]),
        lambda r: f"length {rows['length'][r]} found, the {width[r]} columns of array group {arg[r]} expected",
    )
    number = {matrix.name: i for i, matrix in enumerate(program.matrices)}
    held = np.array([number[matrix.name] for matrix in program.matrices] + [-1])[groups.matrix[group]]
    wanted = np.array([number.get(_weight(n), -1) for n in program.graph.nodes])[node]
    faults.add_rows(
        is_product & (held != wanted),
        lambda r: (
            f"array group {arg[r]} with weight '{program.matrices[held[r]].name}' found, weight "
            f"'{_weight(program.graph.nodes[node[r]])}' of node '{program.graph.nodes[node[r]].name}' expected"
        ),
    )


def _check_writes(faults: Faults) -> None:
    """Where arrays are rewritten, a product uses what its arrays hold; weights come from inside a region."""
    program, rows, groups = faults.program, faults.rows, faults.program.groups
    if not program.hardware.are_arrays_rewritten or not len(groups) or not rows.size:
        return
    is_write = rows["opcode"] == OPCODES["write_weights"]
    group = np.clip(rows["arg"], 0, len(groups) - 1)
    is_stray = is_write & (groups.processor[group] != rows["processor"])
    faults.add_rows(
        is_stray,
        lambda r: f"array group {rows['arg'][r]} of core {groups.processor[group[r]]} found, one of its own core expected",
    )
    if not is_stray.any():
        check_residency(faults)
    region = rows["src2"] - 1
    sizes = np.array([one.size_bytes for one in program.regions] + [0], np.int64)[np.clip(region, -1, len(program.regions) - 1)]
    height, width = (groups.row_stop - groups.row_start)[group], (groups.column_stop - groups.column_start)[group]
    travel = (height - 1) * rows["src1_step"].astype(np.int64), (width - 1) * rows["src2_step"].astype(np.int64)
    end = rows["src1"] + travel[0] + travel[1] + 1
    is_read = is_write & (region >= 0)
    faults.add_rows(
        is_read & ((region >= len(program.regions)) | (np.minimum(*travel) < 0) | (end > sizes)),
        lambda r: f"weights up to byte {end[r]} of region {region[r]} found, a range inside its {sizes[r]} bytes expected",
    )
    faults.add_rows(
        is_write & ((region >= 0) != (groups.matrix[group] < 0)),
        lambda r: f"region {region[r]} found for array group {rows['arg'][r]} of matrix {groups.matrix[group[r]]}, one of the two expected",
    )


def _weight(node: Node) -> str:
    return node.inputs[1] if len(node.inputs) > 1 else ""


# -- values in global memory ----------------------------------------------------------------------------------------


def _check_completion(faults: Faults) -> None:
    """A node whose operands stay in global memory is completed by exactly one row."""
    nodes, rows = faults.program.graph.nodes, faults.rows
    is_part = faults.means("src2", _GENERAL) & faults.has_node()
    completed = np.bincount(rows["node"][is_part & (rows["src2"] == 1)], minlength=len(nodes))
    last = dict(zip(rows["node"][is_part].tolist(), np.flatnonzero(is_part).tolist(), strict=True))
    for node, row in last.items():
        if completed[node] != 1:
            faults.add(
                f"{faults.name(row)}: {completed[node]} rows that complete node '{nodes[node].name}' found, 1 expected"
            )


def _check_results(faults: Faults) -> None:
    """What is read from global memory as a whole is in a region, constant, or a rearrangement of such."""
    program, graph = faults.program, faults.program.graph
    held, makers = {region.value for region in program.regions} | set(graph.constants), graph.producers()
    whole = np.unique(faults.rows["node"][faults.means("src2", _GENERAL) & faults.has_node()])
    wanted = [*graph.outputs, *(v for node in whole for v in graph.nodes[node].inputs if v)]
    seen: set[str] = set()
    while wanted:
        value = wanted.pop()
        if value in held or value in seen:
            continue
        seen.add(value)
        maker = makers.get(value)
        if maker is None:
            faults.add(f"graph input '{value}': no region found, one expected")
        elif op_of(maker).rule is not Rule.MOVE:
            faults.add(f"value '{value}' of node '{maker.name}' ({maker.op}): no region found, one expected")
        else:
            wanted += [v for v in maker.inputs if v]
