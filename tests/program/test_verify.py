"""Checks of programs: sound ones pass, and each way to break one is caught with a sentence that names the place."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from pimloom.errors import ProgramError
from pimloom.hardware import load_hardware
from pimloom.program import INSTRUCTIONS, OPCODES, ROW, Matrix, Program
from pimloom.program.accesses import NUMBERS, OPERANDS, PLACES, UNITS
from pimloom.program.checking import SHOWN_FAULTS, Faults
from pimloom.program.progress import check_progress
from pimloom.program.verify import RULES, verify_program

Array = np.ndarray[Any, np.dtype[Any]]
RowsOf = Callable[[Program, str], Array]


def first(program: Program, mnemonic: str) -> int:
    return int(np.flatnonzero(program.rows["opcode"] == OPCODES[mnemonic])[0])


def last(program: Program, mnemonic: str) -> int:
    return int(np.flatnonzero(program.rows["opcode"] == OPCODES[mnemonic])[-1])


def with_row(program: Program, row: int, **values: int) -> Program:
    rows = program.rows.copy()
    for name, value in values.items():
        rows[name][row] = value
    return replace(program, rows=rows)


def with_entry(program: Program, table: str, index: int, value: int) -> Program:
    array = getattr(program, table).copy()
    array[index] = value
    return replace(program, **{table: array})


def with_group(program: Program, index: int, **values: int) -> Program:
    columns = {f.name: getattr(program.groups, f.name).copy() for f in fields(program.groups)}
    for name, value in values.items():
        columns[name][index] = value
    return replace(program, groups=replace(program.groups, **columns))


def with_part(program: Program, table: str, index: int, **values: Any) -> Program:
    parts = list(getattr(program, table))
    parts[index] = replace(parts[index], **values)
    return replace(program, **{table: tuple(parts)})


def with_dependency(program: Program, row: int, source: int, distance: int = 0) -> Program:
    at = program.dep_ptr[row]
    pointer = program.dep_ptr.copy()
    pointer[row + 1 :] += 1
    return replace(
        program,
        dep_ptr=pointer,
        dep_row=np.insert(program.dep_row, at, source).astype(np.int32),
        dep_distance=np.insert(program.dep_distance, at, distance).astype(np.int32),
    )


def named(program: Program, row: int) -> str:
    """How messages call a row."""
    return f"row {row} ({INSTRUCTIONS[program.rows['opcode'][row]].name}) on core {program.rows['processor'][row]}: "


def refused(program: Program) -> str:
    with pytest.raises(ProgramError, match=rf"^program '{program.name}': \d+ faults? found, none expected") as caught:
        verify_program(program)
    return str(caught.value)


def test_compiled_programs_pass(program: Program) -> None:
    verify_program(program)


def test_every_meaning_of_an_operand_is_understood() -> None:
    """A word of the instruction table that the checks do not know would be skipped in silence."""
    for row in INSTRUCTIONS:
        for field in OPERANDS:
            meaning = row.operands.get(field)
            plain = (meaning or "").removesuffix(", -1 for none")
            known = plain in PLACES or plain in NUMBERS or plain.startswith(tuple(UNITS))
            assert meaning is None or known, (row.name, field, meaning)
        assert "length" in row.operands
        is_sized = row.operands["length"] != "bytes" and any(m.startswith(tuple(UNITS)) for m in row.operands.values())
        assert row.name in RULES or row.name == "preset" or not is_sized, f"state the rules of '{row.name}'"
        assert row.operands.get("arg") in (
            None, "array group", "array group to write", "region", "first column", "first channel", "part number",
        ), row.name  # fmt: skip


# -- fields of rows -------------------------------------------------------------------------------------------------

FIELD_FAULTS: dict[str, tuple[str, dict[str, int], str]] = {
    "unknown opcode": ("mvm", {"opcode": 200}, r"opcode 200 found, one of 0 to \d+ expected"),
    "another processor": ("load", {"processor": 7}, r"processor 7 found, \d expected by stream_ptr"),
    "no repetition": ("finish", {"count": 0}, "count 0 found, 1 or more expected"),
    "no element": ("send", {"length": 0}, "length 0 found, 1 or more expected"),
    "negative stage": ("mvm", {"stage": -1}, "stage -1 found, 0 or more expected"),
    "unknown node": ("vector", {"node": 999}, r"node 999 found, one of 0 to \d+ expected"),
    "no node": ("finish", {"node": -1}, r"node -1 found, one of 0 to \d+ expected"),
    "no such node": ("load", {"node": -2}, r"node -2 found, one of -1 to \d+ expected"),
    "unknown pattern": ("mvm", {"pattern": 10**6}, r"pattern 1000000 found, one of 0 to \d+ expected"),
    "no pattern": ("pool", {"pattern": -1}, r"pattern -1 found, one of 0 to \d+ expected"),
    "needless pattern": ("copy", {"pattern": 0}, "pattern 0 found, -1 for none expected"),
    "sums of no width": ("preset", {"src2": 5}, "src2 5 found, the 4 or 8 bytes of a sum expected"),
    "negative elements": ("pool", {"src2": -1}, "src2 -1 found, 0 or more expected"),
    "negative bytes": ("general", {"src1": -4}, "src1 -4 found, 0 or more expected"),
    "unknown group": ("mvm", {"arg": 9999}, r"array group 9999 found, one of 0 to \d+ expected"),
    "unknown region": ("load", {"arg": 99}, r"region 99 found, one of 0 to \d+ expected"),
    "negative region": ("store", {"arg": -1}, r"region -1 found, one of 0 to \d+ expected"),
    "channels beyond the output": (
        "finish",
        {"arg": 9999},
        r"channels 9999 to \d+ found, a range of the node's \d+ channels",
    ),
    "a node of another kind": (
        "vector",
        {"node": 0},
        r"node 'conv1' \(Conv\) found, one with the rule lookup or product or row or sum expected",
    ),
    "a sum that is no product": (
        "finish",
        {"node": 3},
        r"node 'add' \(Add\) found, one with the rule linear or mean expected",
    ),
    "columns beyond the group": ("mvm", {"length": 7}, r"length 7 found, the \d+ columns of array group \d+ expected"),
    "memory beyond its end": (
        "finish",
        {"dst": 16383},
        "dst spans bytes 16383 to .*, a range inside the local memory of 16384",
    ),
    "memory before its start": ("vector", {"src2": -3}, "src2 spans bytes -3 to .*, a range inside the local memory"),
    "address that overflows": ("copy", {"dst": 2**63 - 1}, "dst spans bytes .*, a range inside the local memory"),
    "address that underflows": ("send", {"src1": -(2**63)}, "src1 spans bytes .*, a range inside the local memory"),
    "step beyond the memory": (
        "finish",
        {"dst_step": 2**31 - 1, "count": 9},
        "dst spans bytes .*, a range inside the local",
    ),
    "step before the memory": (
        "mvm",
        {"src1_step": -(2**31), "count": 9},
        "src1 spans bytes .*, a range inside the local",
    ),
    "many repetitions": ("mvm", {"count": 2**31 - 1}, "dst spans bytes .*, a range inside the local memory"),
    "memory of no block": (
        "receive",
        {"dst": 16000},
        r"dst spans bytes 16000 to \d+, which no block of the core holds",
    ),
    "load beyond the region": (
        "load",
        {"src1": 10**6},
        r"src1 spans bytes 1000000 to \d+, a range inside the \d+ bytes of region '",
    ),
    "store before the region": (
        "store",
        {"dst": -1},
        r"dst spans bytes -1 to \d+, a range inside the \d+ bytes of region '",
    ),
    "step beyond the region": (
        "store",
        {"dst_step": 9999, "count": 3},
        r"dst spans bytes .*, a range inside the \d+ bytes of region '",
    ),
}


@pytest.mark.parametrize("fault", FIELD_FAULTS)
def test_a_wrong_field_is_told_with_row_and_core(fault: str, cnn: Program) -> None:
    mnemonic, values, expected = FIELD_FAULTS[fault]
    row = first(cnn, mnemonic)
    broken = with_row(cnn, row, **values)
    place = (
        named(cnn, row) if "opcode" not in values else f"row {row} (opcode 200) on core {cnn.rows['processor'][row]}: "
    )
    assert re.search(re.escape(place) + expected, refused(broken))


def test_a_group_of_another_core(cnn: Program) -> None:
    row = first(cnn, "mvm")
    group = int(np.flatnonzero(cnn.groups.processor != cnn.rows["processor"][row])[0])
    message = refused(with_row(cnn, row, arg=group))
    owner = cnn.groups.processor[group]
    assert f"{named(cnn, row)}array group {group} of core {owner} found, one of its own core expected" in message


def test_a_group_with_the_weight_of_another_node(cnn: Program) -> None:
    row = first(cnn, "mvm")
    held = cnn.matrices[cnn.groups.matrix[cnn.rows["arg"][row]]].name
    other = next(
        i for i, node in enumerate(cnn.graph.nodes) if len(node.inputs) > 1 and node.inputs[1] not in ("", held)
    )
    message = refused(with_row(cnn, row, node=other))
    assert f"{named(cnn, row)}array group {cnn.rows['arg'][row]} with weight '{held}' found, weight '" in message


def test_a_gather_of_the_wrong_size(cnn: Program) -> None:
    row = first(cnn, "mvm")
    segment = int(cnn.pattern_ptr[cnn.rows["pattern"][row]])
    length = int(cnn.pattern_length[segment])
    message = refused(with_entry(cnn, "pattern_length", segment, length - 1))
    assert re.search(
        re.escape(named(cnn, row)) + r"pattern \d+ of \d+ codes found, the \d+ rows of array group", message
    )
    row = first(cnn, "pool")
    segment = int(cnn.pattern_ptr[cnn.rows["pattern"][row]])
    message = refused(with_entry(cnn, "pattern_length", segment, 1))
    assert re.search(
        re.escape(named(cnn, row)) + r"pattern \d+ of \d+ codes found, whole vectors of 8 expected", message
    )


def test_a_gather_that_leaves_the_memory(cnn: Program) -> None:
    row = first(cnn, "mvm")
    low, high = cnn.pattern_ptr[cnn.rows["pattern"][row] :][:2]
    segment = int(low + np.flatnonzero(cnn.pattern_offset[low:high] >= 0)[0])
    message = refused(with_entry(cnn, "pattern_offset", segment, 2**31 - 1))
    assert f"{named(cnn, row)}src1 spans bytes" in message


def test_a_gather_that_splits_codes(make: Callable[[str], Program]) -> None:
    wide = make("wide codes")
    row = first(wide, "mvm")
    message = refused(with_row(wide, row, src1=int(wide.rows["src1"][row]) + 1))
    assert re.search(
        re.escape(named(wide, row)) + r"pattern \d+ at address \d+ found, whole codes of 2 bytes expected", message
    )


def test_masked_segments_are_not_read(cnn: Program) -> None:
    """A window that is all padding may lie anywhere."""
    row = first(cnn, "mvm")
    low, high = cnn.pattern_ptr[cnn.rows["pattern"][row] :][:2]
    offsets = cnn.pattern_offset.copy()
    offsets[low:high] = -1
    verify_program(replace(with_row(cnn, row, src1=0, src1_step=1), pattern_offset=offsets))


# -- tables ---------------------------------------------------------------------------------------------------------

TABLE_FAULTS: dict[str, tuple[Callable[[Program], Program], str]] = {
    "falling stream_ptr": (
        lambda p: with_entry(p, "stream_ptr", 1, 10**6),
        r"stream_ptr: offsets that do not rise from 0 to \d+ found",
    ),
    "short stream_ptr": (lambda p: replace(p, stream_ptr=p.stream_ptr[:-1]), "stream_ptr: 4 entries found, 5 expected"),
    "short partner": (lambda p: replace(p, partner=p.partner[1:]), r"partner: \d+ entries found, \d+ expected"),
    "dep_ptr of another size": (
        lambda p: replace(p, dep_ptr=p.dep_ptr[:-1]),
        r"dep_ptr: \d+ entries found, \d+ expected",
    ),
    "dep_ptr beyond its table": (
        lambda p: with_entry(p, "dep_ptr", -1, 10**6),
        "dep_ptr: offsets that do not rise from 0 to",
    ),
    "dep_distance of another size": (
        lambda p: replace(p, dep_distance=p.dep_distance[1:]),
        "dep_distance: .* entries found",
    ),
    "pattern_ptr that starts late": (
        lambda p: with_entry(p, "pattern_ptr", 0, 1),
        "pattern_ptr: offsets that do not rise",
    ),
    "pattern_length of another size": (
        lambda p: replace(p, pattern_length=p.pattern_length[1:]),
        "pattern_length: .* entries",
    ),
    "groups of two sizes": (
        lambda p: replace(p, groups=replace(p.groups, crossbars=p.groups.crossbars[1:])),
        "groups.crossbars: ",
    ),
    "negative pattern": (
        lambda p: with_entry(p, "pattern_offset", 1, -2),
        r"pattern \d: \d+ bytes at offset -2 found, 1 or more at 0",
    ),
    "empty segment": (
        lambda p: with_entry(p, "pattern_length", 1, 0),
        r"pattern \d: 0 bytes at offset -?\d+ found, 1 or more",
    ),
    "unknown matrix": (
        lambda p: with_part(p, "matrices", 0, name="w9"),
        "matrix 0: the name 'w9' found, a constant of the graph",
    ),
    "real matrix": (
        lambda p: replace(
            p, matrices=(*p.matrices[:-1], Matrix(p.matrices[-1].name, p.matrices[-1].codes.astype(np.float32)))
        ),
        r"matrix 3 'fc.*': float32\[128, 10\] found, signed integers",
    ),
    "group on no core": (lambda p: with_group(p, 5, processor=4), "group 5: core 4 found, one of 0 to 3 expected"),
    "group of no matrix": (
        lambda p: with_group(p, 5, matrix=4),
        r"group 5 on core \d: matrix 4 found, one of 4 expected",
    ),
    "group without crossbars": (
        lambda p: with_group(p, 5, crossbars=0),
        r"group 5 on core \d: 0 crossbars found, at least 1",
    ),
    "more crossbars than there are": (
        lambda p: with_group(p, 0, crossbars=9),
        r"core \d: \d+ crossbars in its groups found, at most 8",
    ),
    "columns beyond the matrix": (
        lambda p: with_group(p, 0, column_stop=11),
        r"group 0 on core \d: columns 0 to 11 found, a range of the \d+ of matrix '",
    ),
    "rows in the wrong order": (
        lambda p: with_group(p, 0, row_start=64),
        r"group 0 on core \d: rows 64 to \d+ found, a range of the",
    ),
    "rows beyond the crossbar": (
        lambda p: with_group(p, 0, row_start=0, row_stop=33),
        r"group 0 on core \d: 33 rows x \d+ columns found, at most 32 x 16 in 1",
    ),
}


@pytest.mark.parametrize("fault", TABLE_FAULTS)
def test_a_wrong_table_is_told(fault: str, cnn: Program) -> None:
    change, expected = TABLE_FAULTS[fault]
    assert re.search(expected, refused(change(cnn)))


def test_a_wide_weight_needs_wider_arrays(cnn: Program) -> None:
    """A weight code whose zero point is taken off has 9 bits and is laid out as 16: half as many columns fit."""
    group = int(np.flatnonzero(cnn.groups.matrix == 3)[0])
    name = cnn.matrices[3].name
    value_type = cnn.graph.types[name]
    assert value_type.quant is not None
    shifted = replace(value_type, quant=replace(value_type.quant, zero_point=1))
    graph = object.__new__(type(cnn.graph))  # the fault is in the program: the graph need not be whole
    for field in fields(cnn.graph):
        object.__setattr__(graph, field.name, getattr(cnn.graph, field.name))
    object.__setattr__(graph, "types", {**cnn.graph.types, name: shifted})
    message = refused(replace(cnn, graph=graph))
    assert f"group {group} on core {cnn.groups.processor[group]}: 32 rows x 10 columns found, at most 32 x 8" in message


# -- memory maps ----------------------------------------------------------------------------------------------------

MEMORY_FAULTS: dict[str, tuple[Callable[[Program], Program], str]] = {
    "overlapping blocks": (
        lambda p: with_part(p, "blocks", 1, address=p.blocks[0].address, processor=p.blocks[0].processor),
        r"block \d '.*' on core \d: first byte \d+ found, one outside block \d '.*' on core \d, which ends at \d+",
    ),
    "block beyond the memory": (
        lambda p: with_part(p, "blocks", 2, address=2**40),
        r"block 2 '.*' on core \d: bytes 1099511627776 to .* found, a range of the 16384",
    ),
    "block before the memory": (
        lambda p: with_part(p, "blocks", 2, address=-8),
        r"block 2 '.*' on core \d: bytes -8 to .* found, a range",
    ),
    "block of negative size": (
        lambda p: with_part(p, "blocks", 2, size_bytes=-8),
        "block 2 .*: -8 bytes found, 0 or more",
    ),
    "block of no core": (
        lambda p: with_part(p, "blocks", 2, processor=4),
        "block 2 .* on core 4: core 4 found, one of 0 to 3",
    ),
    "fill of no code": (lambda p: with_part(p, "blocks", 2, fill=200), "block 2 .*: the fill 200 of type 'int8' found"),
    "fill of no type": (
        lambda p: with_part(p, "blocks", 2, fill=1, dtype="float32"),
        "block 2 .*: the fill 1 of type 'float32'",
    ),
    "overlapping regions": (
        lambda p: with_part(p, "regions", 1, address=p.regions[0].address + 8),
        r"region 1 '.*': first byte \d+ found, one outside region 0 'image', which ends at \d+, expected",
    ),
    "region beyond the memory": (
        lambda p: with_part(p, "regions", 1, address=2**20),
        "region 1 '.*': bytes .* found, a range of the 1048576",
    ),
    "region of no chip": (
        lambda p: with_part(p, "regions", 1, chip=1),
        "region 1 '.*': chip 1 found, one of 0 to 0 expected",
    ),
    "region of no value": (
        lambda p: with_part(p, "regions", 1, value="q"),
        "region 1 'q': no value of the graph found under this name",
    ),
    "two regions of a value": (
        lambda p: with_part(p, "regions", 1, value="image"),
        "region 1 'image': a second region of the value found",
    ),
    "region that is too small": (
        lambda p: with_part(p, "regions", 0, size_bytes=64),
        "region 0 'image': 64 bytes found, at least 192",
    ),
    "layout of another value": (
        lambda p: with_part(p, "regions", 0, layout=replace(p.regions[0].layout, rows=16)),
        r"region 0 'image': the layout order \[0, 2, 3, 1\], 16 x 3 found",
    ),
    "layout that is no permutation": (
        lambda p: with_part(p, "regions", 0, layout=replace(p.regions[0].layout, order=(0, 1, 1, 2))),
        "region 0 'image': the layout order",
    ),
    "samples that do not fit": (
        lambda p: replace(p, samples=10**6),
        "region .*: bytes .* found, a range of the 1048576 bytes of the global",
    ),
}


@pytest.mark.parametrize("fault", MEMORY_FAULTS)
def test_a_wrong_memory_map_is_told(fault: str, cnn: Program) -> None:
    change, expected = MEMORY_FAULTS[fault]
    assert re.search(expected, refused(change(cnn)))


def test_every_sample_has_its_copy_of_a_region(make: Callable[[str], Program]) -> None:
    """Regions that are apart for one sample may overlap for three."""
    program = make("stages")
    assert program.samples == 3
    end = program.regions[0].address + program.regions[0].size_bytes
    message = refused(with_part(program, "regions", 1, address=end))
    assert re.search(
        rf"region 1 '.*': first byte {end} found, one outside region 0 'image', which ends at \d+", message
    )


def test_results_are_in_global_memory(cnn: Program, make: Callable[[str], Program]) -> None:
    used = [r for r in cnn.regions if r.value != "fc"]
    assert re.search(
        r"value 'fc' of node 'fc' \(\w+\): no region found, one expected", refused(replace(cnn, regions=tuple(used)))
    )
    view = make("view")
    without = tuple(r for r in view.regions if r.value != "x")
    assert "graph input 'x': no region found, one expected" in refused(replace(view, regions=without))


def test_a_node_in_global_memory_is_completed_once(cnn: Program) -> None:
    row = first(cnn, "general")
    expected = f"{named(cnn, row)}0 rows that complete node 'flatten' found, 1 expected"
    assert expected in refused(with_row(cnn, row, src2=0))


# -- messages and dependencies --------------------------------------------------------------------------------------


def test_partners(cnn: Program) -> None:
    send, mvm, n = first(cnn, "send"), first(cnn, "mvm"), cnn.n_rows
    receive = int(cnn.partner[send])
    other = int(cnn.partner[last(cnn, "send")])
    assert f"{named(cnn, send)}partner {n} found, one of {n} rows expected" in refused(
        with_entry(cnn, "partner", send, n)
    )
    assert f"{named(cnn, send)}partner -1 found" in refused(with_entry(cnn, "partner", send, -1))
    assert f"{named(cnn, mvm)}partner {send} found, -1 for none expected" in refused(
        with_entry(cnn, "partner", mvm, send)
    )
    crossed = refused(with_entry(cnn, "partner", send, other))
    assert f"{named(cnn, send)}partner row {other} found, which is no receive that names it back" in crossed
    assert f"{named(cnn, receive)}partner row {send} found, which is no send that names it back" in crossed
    longer = with_row(cnn, send, length=int(cnn.rows["length"][send]) - 1)
    assert re.search(
        re.escape(named(cnn, send)) + rf"\d+ bytes sent found, the \d+ bytes that row {receive} receives",
        refused(longer),
    )


def test_a_message_to_oneself(cnn: Program) -> None:
    send = first(cnn, "send")
    copy = int(next(r for r in np.flatnonzero(cnn.rows["processor"] == cnn.rows["processor"][send]) if r > send))
    looped = with_row(
        with_entry(with_entry(cnn, "partner", send, copy), "partner", copy, send), copy, opcode=OPCODES["receive"]
    )
    assert f"{named(cnn, send)}partner row {copy} on the same core found, another core expected" in refused(looped)


def test_dependencies(cnn: Program) -> None:
    row = first(cnn, "finish")
    edge = int(cnn.dep_ptr[row])
    n = cnn.n_rows
    assert f"{named(cnn, row)}waits for row {n}, one of 0 to {n - 1} expected" in refused(
        with_entry(cnn, "dep_row", edge, n)
    )
    assert f"{named(cnn, row)}waits for row -1, one of" in refused(with_entry(cnn, "dep_row", edge, -1))
    assert f"{named(cnn, row)}waits for -1 samples back, 0 or more" in refused(
        with_entry(cnn, "dep_distance", edge, -1)
    )
    assert f"{named(cnn, row)}waits for itself" in refused(with_dependency(cnn, row, row))
    verify_program(with_dependency(cnn, row, row, distance=1))
    later = with_dependency(cnn, row, row + 1)
    assert f"{named(cnn, row)}waits for row {row + 1}, which comes later on its core" in refused(later)


def test_a_deadlock_is_told_as_a_circle(cnn: Program) -> None:
    """A send's core waits at its first row for the last row of the receiving core."""
    send = first(cnn, "send")
    here, there = int(cnn.rows["processor"][send]), int(cnn.rows["processor"][cnn.partner[send]])
    begin, end = int(cnn.stream_ptr[here]), int(cnn.stream_ptr[there + 1]) - 1
    message = refused(with_dependency(cnn, begin, end))
    name = named(cnn, begin)[:-2]
    assert re.search(rf"deadlock: .*{re.escape(name)}.*, which waits for row .* on core {there}", message)
    assert message.endswith("; an order in which all rows end expected")


# -- deadlock against a naive machine -------------------------------------------------------------------------------


def random_program(base: Program, rng: np.random.Generator) -> Program:
    """Rows on a few cores with random messages, dependencies and stages; often with a deadlock."""
    cores, n = 4, int(rng.integers(2, 26))
    rows = np.zeros(n, ROW)
    rows["processor"] = np.sort(rng.integers(cores, size=n))
    rows["opcode"], rows["count"], rows["length"] = OPCODES["copy"], 1, 8
    if rng.random() < 0.3:
        rows["stage"] = rng.integers(0, 3, n)
    partner = np.full(n, -1, np.int32)
    for _ in range(int(rng.integers(0, 7))):
        a, b = (int(r) for r in rng.integers(n, size=2))
        if partner[a] < 0 and partner[b] < 0 and rows["processor"][a] != rows["processor"][b]:
            partner[a], partner[b] = b, a
            rows["opcode"][a], rows["opcode"][b] = OPCODES["send"], OPCODES["receive"]
    is_chosen = rng.random((n, n)) < rng.choice([0.005, 0.02, 0.05])
    deps = [[int(d) for d in np.flatnonzero(is_chosen[r]) if d != r] for r in range(n)]
    pointer = np.cumsum([0, *map(len, deps)]).astype(np.int32)
    flat = np.array([d for line in deps for d in line], np.int32)
    return replace(
        base, rows=rows, partner=partner, dep_ptr=pointer, dep_row=flat,
        dep_distance=(rng.random(flat.size) < 0.2).astype(np.int32),
        stream_ptr=np.searchsorted(rows["processor"], np.arange(cores + 1)),
    )  # fmt: skip


def naive_end(program: Program) -> bool:
    """Carries out row after row, wherever one can be, until nothing moves; True if all rows were done."""
    rows, one_at_a_time = program.rows, program.hardware.core.issue.window == 1
    lines = [
        sorted(np.flatnonzero(rows["processor"] == c).tolist(), key=lambda r: (rows["stage"][r], r)) for c in range(4)
    ]
    done: set[int] = set()

    def may_begin(row: int, without: int = -1) -> bool:
        edges = range(program.dep_ptr[row], program.dep_ptr[row + 1])
        wanted = {int(program.dep_row[e]) for e in edges if program.dep_distance[e] == 0}
        return wanted - {without} <= done

    has_moved = True
    while has_moved:
        has_moved = False
        heads = [line[0] for line in lines if line]
        for line in lines:
            if not line:
                continue
            row, other = line[0], int(program.partner[line[0]])
            if other < 0 or (rows["opcode"][row] == OPCODES["send"] and not one_at_a_time):
                is_free = may_begin(row)
            elif one_at_a_time:  # both ends meet; the receive may name its send as a dependency
                send, receive = (row, other) if rows["opcode"][row] == OPCODES["send"] else (other, row)
                is_free = send in done or (other in heads and may_begin(send) and may_begin(receive, send))
            else:
                is_free = other in done and may_begin(row)
            if is_free:
                done |= {row, other} if one_at_a_time and other >= 0 else {row}
                for side in lines:
                    if side and side[0] in done:
                        side.pop(0)
                has_moved = True
                break
    return len(done) == program.n_rows


@pytest.mark.parametrize("window", [1, 16])
def test_deadlocks_are_those_of_a_naive_machine(cnn: Program, window: int) -> None:
    base = replace(cnn, hardware=load_hardware("toy", [f"core.issue.window={window}", "core.issue.order=in_order"]))
    outcomes: list[bool] = []
    for seed in range(400):
        program = random_program(base, np.random.default_rng(seed))
        faults = Faults(program)
        check_progress(faults)
        outcomes.append(faults.count == 0)
        assert outcomes[-1] == naive_end(program), f"seed {seed}: {faults.sentences}"
    assert 60 < sum(outcomes) < 340


# -- the list of faults ---------------------------------------------------------------------------------------------


def test_all_faults_are_counted_and_the_first_ten_shown(cnn: Program) -> None:
    rows = cnn.rows.copy()
    rows["processor"][:50] += 1
    message = refused(replace(cnn, rows=rows))
    assert message.startswith(
        "program 'tiny_cnn': 50 faults found, none expected; compile the network again:\n  row 0 ("
    )
    assert message.count("expected by stream_ptr") == SHOWN_FAULTS
    assert message.endswith("\n  and 40 more")


def test_several_faults_are_told_at_once(cnn: Program) -> None:
    broken = with_part(with_row(cnn, first(cnn, "mvm"), processor=3), "blocks", 2, processor=4)
    message = refused(broken)
    assert "2 faults" in message
    assert "block 2 " in message
    assert "processor 3 found" in message
