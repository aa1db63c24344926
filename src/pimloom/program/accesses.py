"""Checks of what rows read and write: every byte lies in a local memory's block or in a region of global memory.

An operand's words in the instruction table say which memory its address is of and what one element is. The reach of a
row is worked out for all rows at once: `count` pieces of `length` elements, `step` bytes apart, or the windows of a
gather pattern.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from pimloom.ir import Graph, Node, TensorType
from pimloom.program.checking import Faults, marked
from pimloom.program.isa import INSTRUCTIONS, OPCODES
from pimloom.program.program import Program
from pimloom.program.rows import MASKED, Array
from pimloom.program.widths import code_bytes, sum_bytes

OPERANDS: Final = ("dst", "src1", "src2")
NOWHERE, LOCAL, REGION = 0, 1, 2
BYTES, SUMS, CODES = 0, 1, 2

PLACES: Final = {"local": LOCAL, "local: partial sums": LOCAL, "local: codes": LOCAL, "offset in the region": REGION}
UNITS: Final = {"local: partial sums": SUMS, "local: codes": CODES}
NUMBERS: Final = frozenset({
    "bytes read per block",
    "bytes written per block",
    "elements counted for an average",
    "bytes of a sum",
    "1 in the row that completes the node",
    "value of rd",
    "value of rs1, and the offset in the upper half",
    "value of rs2, value waited for or filled in",
    "bytes per cycle",
    "offset in the weights' region",
    "1 + region of the weights, 0 for constants",
})  # fmt: skip
"""What a field of OPERANDS may mean: an address (`PLACES`; in elements of `UNITS`, or in bytes), or one of these."""

_NONE: Final = ", -1 for none"
_FAR: Final = 1 << 60  # addresses beyond are cut off, so that sums with them cannot overflow
_CORE_SPAN: Final = 1 << 45  # more than the largest local memory: (core, address) as one number


def place_and_unit(code: int, field: str) -> tuple[int, int]:
    """What an operand is an address of (NOWHERE, LOCAL, REGION), and what one element is (BYTES, SUMS, CODES)."""
    operands = INSTRUCTIONS[code].operands
    meaning = operands.get(field, "").removesuffix(_NONE)
    known = next((known for known in UNITS if meaning.startswith(known)), meaning)
    unit = BYTES if operands.get("length") == "bytes" else UNITS.get(known, BYTES)
    return PLACES.get(known, NOWHERE), unit


def check_accesses(faults: Faults) -> None:
    """Checks all operands that are addresses."""
    program, rows = faults.program, faults.rows
    is_sound = (rows["length"] >= 1) & (rows["count"] >= 1) & (rows["node"] < len(program.graph.nodes))
    is_gather = faults.gathers()
    has_pattern = is_gather & (rows["pattern"] >= 0) & (rows["pattern"] < program.pattern_ptr.size - 1)
    for operand, field in enumerate(OPERANDS):
        place = np.where(is_sound, faults.of_opcode(lambda code, f=field: place_and_unit(code, f)[0], np.int8), NOWHERE)
        may_lack = faults.of_opcode(lambda code, f=field: INSTRUCTIONS[code].operands.get(f, "").endswith(_NONE))
        place[may_lack & (rows[field] == -1)] = NOWHERE
        item = _item_bytes(faults, operand)
        low, high = _reach(rows, field, rows["length"] * item)
        if field == "src1":
            place[is_gather & ~has_pattern] = NOWHERE
            at = np.flatnonzero(is_gather & (place == LOCAL))
            _check_windows(faults, at, item)
            low[at], high[at] = _gathered(program, at)
        _check_local(faults, field, np.flatnonzero((place == LOCAL) & (low < high)), low, high)
        _check_region(faults, field, np.flatnonzero(place == REGION), low, high)


# -- elements -------------------------------------------------------------------------------------------------------


def _item_bytes(faults: Faults, operand: int) -> Array:
    """int64[n]: bytes of one element of an operand."""
    program, rows = faults.program, faults.rows
    unit = faults.of_opcode(lambda code: place_and_unit(code, OPERANDS[operand])[1], np.int8)
    node = np.clip(rows["node"], -1, len(program.graph.nodes) - 1)
    sums = np.array([sum_bytes(program.graph, n) for n in program.graph.nodes] + [8], np.int64)[node]
    held = frozenset(region.value for region in program.regions)
    codes = np.array([code_bytes(program.graph, n, held)[operand] for n in program.graph.nodes] + [1], np.int64)[node]
    # A preset may work for another core and then names no node; it says itself how wide its sums are.
    sums = np.where(rows["opcode"] == OPCODES["preset"], np.where(rows["src2"] == 4, 4, 8), sums)
    return np.select([unit == SUMS, unit == CODES], [sums, codes], 1)


def output_type(graph: Graph, node: Node) -> TensorType:
    """The type of a node's first output."""
    return graph.types[next(v for v in node.outputs if v)]


# -- reach ----------------------------------------------------------------------------------------------------------


def _travel(rows: Array, field: str) -> tuple[Array, Array]:
    """int64[n] each: address of the first piece, and the way from there to the last one."""
    base = np.clip(rows[field], -_FAR, _FAR)
    return base, rows[f"{field}_step"].astype(np.int64) * np.maximum(rows["count"].astype(np.int64) - 1, 0)


def _reach(rows: Array, field: str, size_bytes: Array) -> tuple[Array, Array]:
    """int64[n] each: first byte, and one past the last, of pieces of `size_bytes`."""
    base, travel = _travel(rows, field)
    return base + np.minimum(travel, 0), base + np.maximum(travel, 0) + size_bytes


def _gathered(program: Program, at: Array) -> tuple[Array, Array]:
    """First byte, and one past the last, that the gathers of the rows `at` read; equal where all is masked."""
    base, travel = _travel(program.rows[at], "src1")
    is_read, offset = program.pattern_offset != MASKED, program.pattern_offset.astype(np.int64)
    ends = _by_pattern(program, np.maximum, np.where(is_read, offset + program.pattern_length, 0))
    starts = _by_pattern(program, np.minimum, np.where(is_read, offset, _FAR))
    pattern = program.rows["pattern"][at]
    low = base + np.minimum(travel, 0) + np.minimum(starts, ends)[pattern]
    return low, np.where(ends[pattern] > 0, base + np.maximum(travel, 0) + ends[pattern], low)


def _by_pattern(program: Program, reduce: np.ufunc, values: Array) -> Array:
    """int64[k]: values of segments reduced to one of each pattern; 0 where a pattern has no segment."""
    result = np.zeros(program.pattern_ptr.size - 1, np.int64)
    full = np.flatnonzero(np.diff(program.pattern_ptr))
    if full.size:
        result[full] = reduce.reduceat(values, program.pattern_ptr[full])
    return result


def local_accesses(program: Program) -> tuple[Array, Array, Array, Array]:
    """What rows touch in the local memories of their processors.

    Args:
        program: a program that `verify_program` finds no fault with.

    Returns:
        Of each access, sorted by row with reads before writes: the row, first byte, one past the last byte (int64), and whether
        it is written (bool). Strided and gathered operands count from their first to their last byte.
    """
    faults, rows, found = Faults(program), program.rows, list[tuple[Array, Array, Array, Array]]()
    for operand, field in enumerate(OPERANDS):
        place = faults.of_opcode(lambda code, f=field: place_and_unit(code, f)[0], np.int8)
        may_lack = faults.of_opcode(lambda code, f=field: INSTRUCTIONS[code].operands.get(f, "").endswith(_NONE))
        low, high = _reach(rows, field, rows["length"] * _item_bytes(faults, operand))
        if field == "src1":
            gathers = np.flatnonzero(faults.gathers() & (rows["pattern"] >= 0) & (place == LOCAL))
            low[gathers], high[gathers] = _gathered(program, gathers)
        at = np.flatnonzero((place == LOCAL) & ~(may_lack & (rows[field] == -1)) & (low < high))
        found.append((at, low[at], high[at], np.full(at.size, field == "dst")))
    row, low, high, is_write = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.lexsort((is_write, row))
    return row[order], low[order], high[order], is_write[order]


# -- checks ---------------------------------------------------------------------------------------------------------


def _check_windows(faults: Faults, at: Array, item: Array) -> None:
    """A window holds whole codes, as many as the array group has rows, or else whole vectors of `length`."""
    program, rows = faults.program, faults.rows
    pattern, groups = rows["pattern"], program.groups
    total = _by_pattern(program, np.add, program.pattern_length.astype(np.int64))
    odd = _by_pattern(program, np.bitwise_or, program.pattern_length | np.maximum(program.pattern_offset, 0))
    step = np.where(rows["count"][at] > 1, rows["src1_step"][at], 0)
    is_split = ((odd[pattern[at]] | rows["src1"][at] | step) & (item[at] - 1)) != 0
    faults.add_rows(
        marked(rows.size, at[is_split]),
        lambda r: f"pattern {pattern[r]} at address {rows['src1'][r]} found, whole codes of {item[r]} bytes expected",
    )
    codes = total[pattern[at]] // item[at]
    uses_group = faults.means("arg", "array group")[at]
    height = np.append(groups.row_stop - groups.row_start, 0)[np.clip(rows["arg"], -1, len(groups))]
    faults.add_rows(
        marked(rows.size, at[uses_group & (codes != height[at])]),
        lambda r: (
            f"pattern {pattern[r]} of {total[pattern[r]] // item[r]} codes found, the {height[r]} rows of array group "
            f"{rows['arg'][r]} expected"
        ),
    )
    length = np.maximum(rows["length"][at], 1)
    faults.add_rows(
        marked(rows.size, at[~uses_group & ((codes == 0) | (codes % length != 0))]),
        lambda r: (
            f"pattern {pattern[r]} of {total[pattern[r]] // item[r]} codes found, whole vectors of {rows['length'][r]} "
            "expected"
        ),
    )


def _check_local(faults: Faults, field: str, at: Array, low: Array, high: Array) -> None:
    """Accesses lie inside the local memory, and inside one block of the core's memory map."""
    program, rows = faults.program, faults.rows
    size = program.hardware.memory_bytes
    is_outside = (low[at] < 0) | (high[at] > size)
    faults.add_rows(
        marked(rows.size, at[is_outside]),
        lambda r: (
            f"{field} spans bytes {low[r]} to {high[r]}, a range inside the local memory of {size} bytes expected"
        ),
    )
    at = at[~is_outside]
    span = 0 if program.hardware.shares_memory else _CORE_SPAN
    starts = sorted((b.processor * span + b.address, b.size_bytes) for b in program.blocks if b.size_bytes > 0)
    edges = np.array([(-1, 0), *starts], np.int64)
    base = rows["processor"][at].astype(np.int64) * span
    found = np.searchsorted(edges[:, 0], base + low[at], side="right") - 1
    faults.add_rows(
        marked(rows.size, at[base + high[at] > edges[found].sum(axis=1)]),
        lambda r: (
            f"{field} spans bytes {low[r]} to {high[r]}, which no block of the core holds; bytes of one block expected"
        ),
    )


def _check_region(faults: Faults, field: str, at: Array, low: Array, high: Array) -> None:
    """Accesses to global memory lie inside their region."""
    regions, arg = faults.program.regions, faults.rows["arg"]
    at = at[(arg[at] >= 0) & (arg[at] < len(regions))]
    sizes = np.array([region.size_bytes for region in regions], np.int64)
    faults.add_rows(
        marked(arg.size, at[(low[at] < 0) | (high[at] > sizes[arg[at]])]),
        lambda r: (
            f"{field} spans bytes {low[r]} to {high[r]}, a range inside the {sizes[arg[r]]} bytes of region "
            f"'{regions[arg[r]].value}' expected"
        ),
    )
