"""Crossbar programs in pimsim-nn's instruction set.

Rows become instructions core by core, in the order of the streams, repetitions unrolled:

| row | instructions |
|---|---|
| mvm | `lmv`/`lldi` of the window's segments where they are not in one piece, `mvmul`, `vvadd` to the bias or the sums |
| preset | none: the bias is the second operand of the first addition; `lmv` or `lldi` where sums are read without one |
| finish | `vvmul` by the multipliers, `vvsra`, `vrsu` and `vrsl` to the bounds |
| add_partial | `vvadd` |
| vector, pool, stencil, accumulate | see `elementwise` |
| copy | `lmv` |
| load, store | `ld`, `st`; through a scratch buffer where only the local side is in pieces |
| send, receive | one message, pieces gathered and spread by `lmv`, or one message per piece, whichever is shorter |
| general | `ld`, a vector instruction, `st` per block |

Streams of a schedule over samples are lists as they are: a stage only says which sample a row works for. Both ends of a
message stand at one place of an order that all cores follow, so that cores which wait for each other at every message
come to their end; what a core leaves in global memory for another is announced by a message of one byte, where messages do not say it
already (`tokens`).

No data are stored in such a program. Constants (biases, multipliers, shifts, taps) and scratch buffers lie behind the
program's own part of the local memory and count to it.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, final

import numpy as np

from pimloom.errors import ProgramError
from pimloom.ir.steps import MeanStep
from pimloom.program.crossbar import crossbar_of
from pimloom.program.isa import INSTRUCTIONS, OPCODES
from pimloom.program.pimsim.assign import assign
from pimloom.program.pimsim.elementwise import SPAN_ELEMENTS, Elementwise, Span, refusal
from pimloom.program.pimsim.lists import InstructionList
from pimloom.program.pimsim.memory import CoreMemory
from pimloom.program.pimsim.network import Distances
from pimloom.program.pimsim.table import COLUMNS, PimsimProgram
from pimloom.program.pimsim.tokens import TOKEN_BYTES, after_all, find_tokens
from pimloom.program.pimsim.widths import NodeWidths
from pimloom.program.program import Program
from pimloom.program.rows import MASKED, Array
from pimloom.program.widths import sum_bytes

_SUM_OPERANDS: Final = (("mvm", "dst"), ("add_partial", "dst"), ("add_partial", "src1"), ("finish", "src1"), ("accumulate", "dst"))
_ISSUE_NS: Final = 5
"""What an instruction takes beside its work: dispatch, retirement, and a register or two."""

_GENERAL: Final[dict[str, str]] = {
    "Add": "vvadd", "Sum": "vvadd", "Mean": "vvadd", "Sub": "vvsub", "Mul": "vvmul", "Max": "vvmax", "Relu": "vrelu", "Sigmoid": "vsigm",
    "Tanh": "vtanh", "MatMul": "vvdmul", "Gemm": "vvdmul", "Linear": "vvdmul", "Conv": "vvdmul", "Einsum": "vvdmul", "MaxPool": "vvmax",
    "GlobalMaxPool": "vvmax", "ReduceMax": "vvmax", "AveragePool": "vvadd", "GlobalAveragePool": "vvadd", "ReduceMean": "vvadd",
    "ReduceSum": "vvadd", "Resize": "vvmul", "ConvTranspose": "vvdmul",
}  # fmt: skip
"""The instruction that does most of the work of a node with operands in global memory."""


@final
@dataclass(slots=True)
class Sums:
    """Partial sums in a block of local memory.

    Attributes:
        base: its first byte; sums lie closer together than in the program, as they are narrower.
        size_bytes: of the block.
        unit: bytes of a sum in the program.
        width: bytes of a sum here.
        length: sums of a vector.
        bias: address of a vector of constants that each vector begins with, -1 for none.
        is_set: which sums hold something; None where all do.
        row: the preset that began them.
    """

    base: int
    size_bytes: int
    unit: int
    width: int
    length: int = 0
    bias: int = -1
    is_set: bytearray | None = None
    row: int = -1

    def place(self, address: int) -> int:
        """Number of the sum at an address of the program."""
        return (address - self.base) // self.unit

    def address(self, place: int) -> int:
        """Where a sum lies here."""
        return self.base + place * self.width

    def mark(self, start: int, stop: int) -> None:
        """Notes that sums hold something."""
        if self.is_set is not None:
            self.is_set[start:stop] = b"\1" * (stop - start)

    def can_take(self, place: int, n: int) -> bool:
        """Whether n products may be written as the sums from a place on: these begin with nothing, and none is set yet."""
        if self.bias >= 0 or self.is_set is None or self.address(place + n) > self.base + self.size_bytes:
            return False
        return not any(self.is_set[place : place + n])


def runs(is_set: bytearray | None, start: int, stop: int, length: int) -> Iterator[tuple[int, int, bool]]:
    """Cuts places into (start, stop, whether they are set): alike within a run, and what is not set within one vector."""
    if is_set is None:
        yield start, stop, True
        return
    while start < stop:
        flag = is_set[start]
        end = is_set.find(1 - flag, start, stop)
        end = stop if end < 0 else end
        if not flag:
            end = min(end, start - start % length + length)
        yield start, end, bool(flag)
        start = end


@final
class Lowering:
    """Facts of a program that the lists of all cores share."""

    def __init__(self, program: Program) -> None:
        """Takes a program for a machine of kind `crossbar`."""
        self.program, self.hardware = program, crossbar_of(program)
        self.widths = NodeWidths(program)
        self.distances = Distances(self.hardware)
        self.column = {name: program.rows[name].tolist() for name in program.rows.dtype.names or ()}
        self.partner: list[int] = program.partner.tolist()
        self.segments = _merged_patterns(program)
        self.vectors = _pattern_lists(program)
        self.group_number, self.group_ptr, self.group_crossbars = _groups(program)
        self.weight_bits = _weight_bits(program)
        self.sums_of = self._sums()
        self.tokens = find_tokens(program)
        self.used_bytes = _used_bytes(program)

    def _sums(self) -> dict[int, dict[int, Sums]]:
        """Per core, blocks of partial sums by their first byte."""
        found: dict[int, dict[int, Sums]] = {}
        starts = _block_starts(self.program)
        rows = self.program.rows
        for name, field in _SUM_OPERANDS:
            at = np.flatnonzero(rows["opcode"] == OPCODES[name])
            places = np.unique(np.stack([rows["processor"][at], rows[field][at], rows["node"][at]], axis=1), axis=0)
            for core, address, node in places.tolist():
                base, size = _block_of(starts, core, address)
                width = self.widths.scaling(node).sum_bytes
                found.setdefault(core, {}).setdefault(base, Sums(base, size, sum_bytes(self.program.graph, self.widths.node(node)), width))
        return found

    def is_whole(self, pattern: int) -> bool:
        """Whether a gather pattern is one piece of memory."""
        segments = self.segments[pattern]
        return len(segments) == 1 and segments[0][0] != MASKED

    def results_of(self, group: int) -> int:
        """Numbers that an `mvmul` of a group writes: all columns of all its crossbars."""
        machine = self.hardware.crossbar
        return machine.cols * machine.cell_bits // self.weight_bits * int(self.program.groups.crossbars[group])

    def splits(self, row: int) -> bool:
        """Whether a message goes out segment by segment: where copying the segments together takes longer than meeting again."""
        send = row if self.column["opcode"][row] == OPCODES["send"] else self.partner[row]
        receive = self.partner[send]
        c, memory = self.column, self.hardware.core.local_memory
        count, length = c["count"][send], c["length"][send]
        if count == 1 or (c["count"][receive], c["length"][receive]) != (count, length):
            return False
        loose = (c["src1_step"][send] != length) + (c["dst_step"][receive] != length)
        beats = -(-length // memory.width_bytes)
        copy_ns = (_ISSUE_NS + beats * (memory.read_beat_cycles + memory.write_beat_cycles)) * loose * count
        flit_ns = self.distances.flit_ns(c["processor"][send], c["processor"][receive])
        return copy_ns > (count - 1) * 2 * (_ISSUE_NS + 3 * flit_ns)


def _block_starts(program: Program) -> dict[int, tuple[list[int], list[int]]]:
    """Per core, first bytes of its blocks, ascending, and their sizes."""
    found: dict[int, list[tuple[int, int]]] = {}
    for block in program.blocks:
        found.setdefault(block.processor, []).append((block.address, block.size_bytes))
    return {core: ([a for a, _ in sorted(blocks)], [s for _, s in sorted(blocks)]) for core, blocks in found.items()}


def _block_of(starts: dict[int, tuple[list[int], list[int]]], core: int, address: int) -> tuple[int, int]:
    addresses, sizes = starts.get(core, ([], []))
    at = bisect_right(addresses, address) - 1
    if at < 0 or address >= addresses[at] + sizes[at]:
        raise ProgramError(f"core {core}: sums at address {address} found, which lies in no block of its memory; compile the network again")
    return addresses[at], sizes[at]


def _used_bytes(program: Program) -> list[int]:
    """Per core, the end of its last block."""
    used = [0] * program.n_processors
    for block in program.blocks:
        used[block.processor] = max(used[block.processor], block.address + block.size_bytes)
    return used


def _pattern_lists(program: Program) -> list[tuple[tuple[int, int], ...]]:
    """(offset, bytes) of the segments of each gather pattern; offset `MASKED` where nothing is read."""
    ptr = program.pattern_ptr.tolist()
    pairs = list(zip(program.pattern_offset.tolist(), program.pattern_length.tolist(), strict=True))
    return [tuple(pairs[a:b]) for a, b in itertools.pairwise(ptr)]


def _merged_patterns(program: Program) -> list[tuple[tuple[int, int], ...]]:
    """The same with segments joined that follow each other in memory (or are masked both)."""
    found: list[tuple[tuple[int, int], ...]] = []
    for segments in _pattern_lists(program):
        merged: list[list[int]] = []
        for offset, length in segments:
            follows = merged and (offset == merged[-1][0] + merged[-1][1] if offset != MASKED and merged[-1][0] != MASKED else False)
            if merged and (follows or (offset == MASKED and merged[-1][0] == MASKED)):
                merged[-1][1] += length
            else:
                merged.append([offset, length])
        found.append(tuple((a, b) for a, b in merged))
    return found


def _groups(program: Program) -> tuple[list[int], Array, Array]:
    """Number of each array group on its core; int64[P + 1] and int32[g]: crossbars of the groups, core by core."""
    order = np.argsort(program.groups.processor, kind="stable")
    counts = np.bincount(program.groups.processor, minlength=program.n_processors)
    ptr = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    number = np.empty(order.size, np.int64)
    number[order] = np.arange(order.size) - ptr[program.groups.processor[order]]
    return number.tolist(), ptr, program.groups.crossbars[order].astype(np.int32)


def _weight_bits(program: Program) -> int:
    """`mbiw`: bits of cells that the machine spends on a weight, so that `columns * cell_bits / mbiw` sums leave a crossbar."""
    machine = crossbar_of(program).crossbar
    codes = (matrix.codes.dtype.itemsize for matrix in program.matrices)
    bits = 8 if max(codes, default=1) == 1 else 16
    return machine.cell_bits * machine.columns_per_weight(bits)


def lower_rows(program: Program) -> tuple[PimsimProgram, Array]:
    """Says a program in pimsim-nn's instruction set; also int64[n], how many instructions each of its rows became.

    Args:
        program: for a machine of kind `crossbar`, in either mode. Of several samples the list is one period, which every
            core repeats.

    Raises:
        ProgramError: the program holds something that the instruction set cannot say; the message names the node.
        CapacityError: constants and buffers do not fit into the 2 GiB that a register can address.
    """
    facts = Lowering(program)
    parts: list[dict[str, Array]] = []
    made: list[int] = []
    lengths = np.zeros(program.n_processors, np.int32)
    sizes = np.zeros(program.n_processors + 1, np.int64)
    for core in range(program.n_processors):
        lowered = _lowered(facts, core)
        columns = _columns(lowered.out)
        parts.append(columns)
        made += lowered.made
        sizes[core + 1] = columns["opcode"].size
        lengths[core] = columns["position"][-1] + 1 if columns["opcode"].size else 0
    table: dict[str, Any] = {name: np.concatenate([part[name] for part in parts]).astype(dtype) for name, dtype in COLUMNS.items()}
    ptr, crossbars = facts.group_ptr, facts.group_crossbars
    return PimsimProgram(program.name, np.cumsum(sizes), lengths, lengths > 0, ptr, crossbars, **table), np.array(made, np.int64)


def _lowered(facts: Lowering, core: int) -> CoreLowering:
    """One core's list; where sums begin at its end and go on at its start, they are written at once."""
    first = CoreLowering(facts, core, frozenset()).run()
    written = first.begun()
    return CoreLowering(facts, core, written).run() if written else first


def _columns(out: InstructionList) -> dict[str, Array]:
    """Columns of a table for one core."""
    found = out.columns()
    n = found["opcode"].size
    nothing = np.zeros(n, np.int64)
    found |= {"event": nothing - 1, "offset": nothing, "selection": nothing}
    chosen = assign(
        found["opcode"], np.stack([found[name] for name in ("rd", "rs1", "rs2")], axis=1), found["low"],
        np.stack([found["input_bits"], found["output_bits"]], axis=1),
    )  # fmt: skip
    found["position"] = np.arange(n) + np.cumsum(chosen.scalars_before())
    return found


@final
class CoreLowering:
    """One core's list while it is made.

    Attributes:
        out: the instructions so far.
        memory: the core's local memory.
        made: instructions of each row; what comes after the last one counts to it.
    """

    def __init__(self, facts: Lowering, core: int, written: frozenset[int]) -> None:
        """Starts behind what the program itself holds of the core's memory; sums of the presets `written` are written at once."""
        self.facts, self.core, self.program = facts, core, facts.program
        self.out, self.made, self._written = InstructionList(), list[int](), written
        self.memory = CoreMemory(core, facts.used_bytes[core], facts.hardware.name)
        self._elementwise = Elementwise(self.out, self.memory, facts.widths)
        self._sums = {base: replace(sums) for base, sums in facts.sums_of.get(core, {}).items()}
        self._bases = sorted(self._sums)
        self._rows = range(int(facts.program.stream_ptr[core]), int(facts.program.stream_ptr[core + 1]))
        self._means = self._sums_of_means()
        self._window_bytes, self._windows = self._reserve_windows()
        self._held: dict[int, tuple[int, int]] = {}  # buffer of a window to the (pattern, address) that it was copied from
        self._actions: dict[int, Callable[[int], None]] = {
            code: getattr(self, f"_{row.name}") for code, row in enumerate(INSTRUCTIONS) if hasattr(self, f"_{row.name}")
        }

    def run(self) -> CoreLowering:
        """Lowers all rows of the core."""
        opcode, mvm = self.facts.column["opcode"], OPCODES["mvm"]
        for row in self._rows:
            before = len(self.out.rows)
            self._pass_tokens(row)
            if opcode[row] != mvm:
                self._held.clear()
            self._actions[opcode[row]](row)
            if row == self._rows.stop - 1:
                self._pass_tokens(after_all(self.core))
            self.made.append(len(self.out.rows) - before)
        return self

    def begun(self) -> frozenset[int]:
        """Presets whose sums still hold nothing at the end of the list."""
        return frozenset(sums.row for sums in self._sums.values() if sums.is_set is not None and not all(sums.is_set))

    def _pass_tokens(self, row: int) -> None:
        for sends, other in self.facts.tokens.get(row, ()):
            place = self.memory.buffer("token", TOKEN_BYTES)
            (self.out.send if sends else self.out.receive)(place, other, TOKEN_BYTES)

    # Sums --------------------------------------------------------------------------------------------------

    def _sums_of_means(self) -> frozenset[int]:
        """Addresses of sums that `accumulate` adds to: all along the sample, so that they must hold their start."""
        rows = self.program.rows[self._rows.start : self._rows.stop]
        return frozenset(rows["dst"][rows["opcode"] == OPCODES["accumulate"]].tolist())

    def _find_sums(self, address: int) -> Sums | None:
        at = bisect_right(self._bases, address) - 1
        if at < 0:
            return None
        found = self._sums[self._bases[at]]
        return found if address < found.base + found.size_bytes else None

    def _sums_at(self, address: int) -> Sums:
        found = self._find_sums(address)
        if found is None:
            raise ProgramError(f"core {self.core}: sums at address {address} found, to which nothing is added; compile the network again")
        return found

    def _add(self, sums: Sums, place: int, source: int, n: int) -> None:
        """Adds n sums at `source` to those at a place; what holds nothing yet begins with the bias."""
        bits = (8 * sums.width, 8 * sums.width)
        for start, stop, is_set in runs(sums.is_set, place, place + n, sums.length):
            target, one = sums.address(start), source + (start - place) * sums.width
            if is_set:
                self.out.vector("vvadd", target, one, target, stop - start, bits)
            elif sums.bias < 0:
                self.out.copy(target, one, (stop - start) * sums.width)
            else:
                self.out.vector("vvadd", target, one, sums.bias + start % sums.length * sums.width, stop - start, bits)
        sums.mark(place, place + n)

    def _complete(self, sums: Sums, place: int, n: int) -> None:
        """Gives sums that nothing was added to their bias."""
        for start, stop, is_set in runs(sums.is_set, place, place + n, sums.length):
            if not is_set and sums.bias < 0:
                self.out.fill(sums.address(start), (stop - start) * sums.width, 0)
            elif not is_set:
                self.out.copy(sums.address(start), sums.bias + start % sums.length * sums.width, (stop - start) * sums.width)
        sums.mark(place, place + n)

    # Products ----------------------------------------------------------------------------------------------

    def _preset(self, row: int) -> None:
        """Only notes what sums begin with, where they are products; a mean needs it written."""
        c = self.facts.column
        node, length, count = c["node"][row], c["length"][row], c["count"][row]
        sums = self._sums_at(c["dst"][row])
        sums.length, sums.bias = length, -1
        if node >= 0:
            sums.bias = self.memory.constant(("bias", node, c["arg"][row], length), length * sums.width)
        place = sums.place(c["dst"][row])
        is_set = bytearray(b"\1") * max(place + length * count, sums.size_bytes // sums.unit)
        is_set[place : place + length * count] = bytes(length * count)
        sums.is_set = is_set
        sums.row = row
        if c["dst"][row] in self._means or row in self._written:
            self._complete(sums, place, length * count)

    def _mvm(self, row: int) -> None:
        c, facts = self.facts.column, self.facts
        group, n = c["arg"][row], c["length"][row]
        sums = self._sums_at(c["dst"][row])
        bits = (8 * facts.widths.input_bytes(c["node"][row]), 8 * sums.width)
        results, number = facts.results_of(group), facts.group_number[group]
        partial = self.memory.buffer("product of weights", results * sums.width)
        for v in range(c["count"][row]):
            window = self._window(row, v)
            place = sums.place(c["dst"][row] + v * c["dst_step"][row])
            if sums.can_take(place, results):
                self.out.mvmul(sums.address(place), window, number, facts.weight_bits, bits)
                sums.mark(place, place + n)
            else:
                self.out.mvmul(partial, window, number, facts.weight_bits, bits)
                self._add(sums, place, partial, n)

    def _reserve_windows(self) -> tuple[int, int]:
        """Bytes of a buffer for a window, and the address of buffers for all windows of the longest row."""
        rows = self.program.rows[self._rows.start : self._rows.stop]
        rows = rows[rows["opcode"] == OPCODES["mvm"]]
        sizes = [sum(n for _, n in self.facts.segments[p]) for p in np.unique(rows["pattern"]).tolist() if not self.facts.is_whole(p)]
        if not sizes:
            return 0, 0
        # An `mvmul` reads as many bytes as its arrays have rows, whether the window fills them or not.
        size = max(*sizes, 2 * self.facts.hardware.crossbar.rows)
        return size, self.memory.buffer("windows", size * int(rows["count"].max()))

    def _window(self, row: int, v: int) -> int:
        """Address of a window in one piece, copied together if it is not; groups that share a window share the copy."""
        c = self.facts.column
        pattern, base = c["pattern"][row], c["src1"][row] + v * c["src1_step"][row]
        segments = self.facts.segments[pattern]
        if self.facts.is_whole(pattern):
            return base + segments[0][0]
        place = at = self._windows + v * self._window_bytes
        if self._held.get(v) == (pattern, base):
            return place
        self._held[v] = pattern, base
        for offset, length in segments:
            if offset == MASKED:
                self.out.fill(at, length, self.facts.widths.step(c["node"][row]).input_zero & 0xFF)
            else:
                self.out.copy(at, base + offset, length)
            at += length
        return place

    def _add_partial(self, row: int) -> None:
        c = self.facts.column
        sums, landed = self._sums_at(c["dst"][row]), self._sums_at(c["src1"][row])
        n, steps = c["length"][row], (c["dst_step"][row], c["src1_step"][row])
        count = c["count"][row]
        if steps == (n * sums.unit, n * landed.unit):
            n, count = n * count, 1
        for v in range(count):
            place, source = (s.place(c[f][row] + v * c[f"{f}_step"][row]) for s, f in ((sums, "dst"), (landed, "src1")))
            self._add(sums, place, landed.address(source), n)

    def _finish(self, row: int) -> None:
        c = self.facts.column
        node, first, n, count = c["node"][row], c["arg"][row], c["length"][row], c["count"][row]
        sums = self._sums_at(c["src1"][row])
        targets: list[tuple[int, int]] = []
        for v in range(count):
            place = sums.place(c["src1"][row] + v * c["src1_step"][row])
            self._complete(sums, place, n)
            targets.append((c["dst"][row] + v * c["dst_step"][row], sums.address(place)))
        self._elementwise.rescale(("linear", node, first), self.facts.widths.scaling(node), targets, n)

    # Vectors -----------------------------------------------------------------------------------------------

    def _vector(self, row: int) -> None:
        c, widths = self.facts.column, self.facts.widths
        node = c["node"][row]
        made, taken = widths.output_bytes(node), widths.input_bytes(node)
        self._elementwise.node(node, c["arg"][row], self._spans(row, made, taken))

    def _spans(self, row: int, made: int, taken: int) -> list[Span]:
        """Vectors of a row, joined where they follow each other in all operands."""
        c = self.facts.column
        n, count, second = c["length"][row], c["count"][row], c["src2"][row]
        follows = c["dst_step"][row] == n * made and c["src1_step"][row] == n * taken
        joined = max(1, SPAN_ELEMENTS // n) if follows and (second < 0 or c["src2_step"][row] == n * taken) else 1
        if second < 0 and self._has_constant_operand(c["node"][row]):
            joined = 1  # its constant is one vector
        return [
            (c["dst"][row] + v * c["dst_step"][row], c["src1"][row] + v * c["src1_step"][row],
             second + v * c["src2_step"][row] if second >= 0 else -1, n * min(joined, count - v))
            for v in range(0, count, joined)
        ]  # fmt: skip

    def _has_constant_operand(self, node: int) -> bool:
        return any(v in self.program.graph.constants for v in self.program.graph.nodes[node].inputs)

    def _taps(self, row: int, v: int) -> list[tuple[int, int]]:
        """(number, address) of the vectors of window v that lie in the image."""
        c = self.facts.column
        base = c["src1"][row] + v * c["src1_step"][row]
        return [(i, base + offset) for i, (offset, _) in enumerate(self.facts.vectors[c["pattern"][row]]) if offset != MASKED]

    def _joined_windows(self, row: int, made: int, taken: int) -> int:
        """Windows of a row whose vectors all follow each other, so that one instruction does them."""
        c = self.facts.column
        n = c["length"][row]
        follows = c["dst_step"][row] == n * made and c["src1_step"][row] == n * taken
        return max(1, SPAN_ELEMENTS // n) if follows else 1

    def _pool(self, row: int) -> None:
        c, widths = self.facts.column, self.facts.widths
        node, n, count = c["node"][row], c["length"][row], c["count"][row]
        made, taken = widths.output_bytes(node), widths.input_bytes(node)
        step = self._joined_windows(row, made, taken)
        is_mean = isinstance(widths.step(node), MeanStep)
        for v in range(0, count, step):
            dst, sources = c["dst"][row] + v * c["dst_step"][row], [address for _, address in self._taps(row, v)]
            size = n * min(step, count - v)
            if is_mean:
                self._elementwise.mean(node, c["src2"][row], [(dst, sources)], size)
            else:
                self._elementwise.largest(dst, sources, size, 8 * taken)

    def _stencil(self, row: int) -> None:
        c, widths = self.facts.column, self.facts.widths
        node, n, count = c["node"][row], c["length"][row], c["count"][row]
        step = self._joined_windows(row, widths.output_bytes(node), widths.input_bytes(node))
        for v in range(0, count, step):
            dst = c["dst"][row] + v * c["dst_step"][row]
            self._elementwise.stencil(node, c["arg"][row], [(dst, self._taps(row, v))], n * min(step, count - v), n)

    def _accumulate(self, row: int) -> None:
        c = self.facts.column
        sums = self._sums_at(c["dst"][row])
        sources = [c["src1"][row] + v * c["src1_step"][row] for v in range(c["count"][row])]
        self._elementwise.accumulate(c["node"][row], sums.address(sums.place(c["dst"][row])), sources, c["length"][row])

    # Transfers ---------------------------------------------------------------------------------------------

    def _pieces(self, row: int, field: str) -> list[int]:
        """Addresses of the segments of one side of a transfer; one where they follow each other."""
        c = self.facts.column
        if c[f"{field}_step"][row] == c["length"][row]:
            return [c[field][row]]
        return [c[field][row] + v * c[f"{field}_step"][row] for v in range(c["count"][row])]

    def _copy(self, row: int) -> None:
        c = self.facts.column
        targets, sources = self._pieces(row, "dst"), self._pieces(row, "src1")
        length, count = c["length"][row], c["count"][row]
        if len(targets) == len(sources) == 1:
            self.out.copy(targets[0], sources[0], length * count)
            return
        for v in range(count):
            self.out.copy(c["dst"][row] + v * c["dst_step"][row], c["src1"][row] + v * c["src1_step"][row], length)

    def _gather(self, sources: Sequence[int], length: int) -> int:
        """Address of segments in one piece."""
        if len(sources) == 1:
            return sources[0]
        place = self.memory.buffer("message", len(sources) * length)
        for v, source in enumerate(sources):
            self.out.copy(place + v * length, source, length)
        return place

    def _landing(self, targets: Sequence[int], length: int) -> int:
        """Where a message lands before it is spread."""
        return targets[0] if len(targets) == 1 else self.memory.buffer("message", len(targets) * length)

    def _spread(self, targets: Sequence[int], length: int) -> None:
        """Copies segments from the landing place to where they belong."""
        if len(targets) > 1:
            place = self.memory.buffer("message", len(targets) * length)
            for v, target in enumerate(targets):
                self.out.copy(target, place + v * length, length)

    def _send(self, row: int) -> None:
        c = self.facts.column
        other = c["processor"][self.facts.partner[row]]
        length, count = c["length"][row], c["count"][row]
        sums = self._find_sums(c["src1"][row])
        if sums is not None:
            place, n = sums.place(c["src1"][row]), length * count // sums.unit
            self._complete(sums, place, n)
            self.out.send(sums.address(place), other, n * sums.width)
        elif self.facts.splits(row):
            for v in range(count):
                self.out.send(c["src1"][row] + v * c["src1_step"][row], other, length)
        else:
            self.out.send(self._gather(self._pieces(row, "src1"), length), other, length * count)

    def _receive(self, row: int) -> None:
        c = self.facts.column
        other = c["processor"][self.facts.partner[row]]
        length, count = c["length"][row], c["count"][row]
        sums = self._find_sums(c["dst"][row])
        if sums is not None:
            place, n = sums.place(c["dst"][row]), length * count // sums.unit
            self.out.receive(sums.address(place), other, n * sums.width)
        elif self.facts.splits(row):
            for v in range(count):
                self.out.receive(c["dst"][row] + v * c["dst_step"][row], other, length)
        else:
            targets = self._pieces(row, "dst")
            self.out.receive(self._landing(targets, length), other, length * count)
            self._spread(targets, length)

    def _load(self, row: int) -> None:
        c = self.facts.column
        address = self.program.regions[c["arg"][row]].address
        length, count = c["length"][row], c["count"][row]
        sources, targets = self._pieces(row, "src1"), self._pieces(row, "dst")
        if len(sources) > 1:
            for v in range(count):
                self.out.load(c["dst"][row] + v * c["dst_step"][row], address + sources[v], length)
            return
        self.out.load(self._landing(targets, length), address + sources[0], length * count)
        self._spread(targets, length)

    def _store(self, row: int) -> None:
        c = self.facts.column
        address = self.program.regions[c["arg"][row]].address
        length, count = c["length"][row], c["count"][row]
        sources, targets = self._pieces(row, "src1"), self._pieces(row, "dst")
        if len(targets) > 1:
            for v in range(count):
                self.out.store(address + targets[v], c["src1"][row] + v * c["src1_step"][row], length)
            return
        self.out.store(address + targets[0], self._gather(sources, length), length * count)

    # Nodes in global memory --------------------------------------------------------------------------------

    def _general(self, row: int) -> None:
        """Blocks of a node whose operands stay in global memory: taken in, worked on, put back."""
        c = self.facts.column
        node = self.program.graph.nodes[c["node"][row]]
        mnemonic = "" if self.facts.widths.moves(c["node"][row]) else _GENERAL.get(node.op)
        if mnemonic is None:
            raise refusal(node, "its operands lie in global memory and no vector instruction does what it means")
        region = self._result_region(node.outputs)
        taken, made, n = c["src1"][row], c["dst"][row], c["length"][row]
        place = self.memory.buffer("block", max(taken, made, 1))
        code = 8 * self.facts.widths.output_bytes(c["node"][row])
        for _ in range(c["count"][row]):
            if taken:
                self.out.load(place, region, taken)
            if mnemonic:
                self.out.vector(mnemonic, place, place, place, n, (code, code))
            if made:
                self.out.store(region, place, made)

    def _result_region(self, outputs: Sequence[str]) -> int:
        return next((region.address for region in self.program.regions if region.value in outputs), 0)
