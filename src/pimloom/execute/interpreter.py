"""The interpreter: carries out a Program over real memories and gives its numbers.

Every core has its local memory as bytes, every region of global memory its copy per sample; instructions read and write at
the addresses they name, so a wrong address, an overlapping buffer or a missing transfer shows up in the output. Rows of
a core run in order; a receive waits for its message and a row for its dependencies on other cores.

Weights are exact integers: array groups multiply in float32 or float64 only where every partial sum fits exactly. Under
analog conditions `pimloom.execute.analog` multiplies in their place, and all else stays exact.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Any, final

import numpy as np

from pimloom.errors import InternalError, ModelError, ProgramError
from pimloom.execute.analog import Analog, AnalogArrays, Load
from pimloom.ir.evaluate import evaluate_node
from pimloom.ir.graph import Node
from pimloom.ir.integer import decode, encode
from pimloom.ir.quantised import norm_parameter, step_of
from pimloom.ir.steps import LinearStep, LookupStep, MeanStep, NormStep, ProductStep, SoftmaxStep, SumStep
from pimloom.program import INSTRUCTIONS, MASKED, OPCODES, Program
from pimloom.program.residency import Holdings, holds_from_start, initial_holdings, writes_arrays
from pimloom.program.rows import Array
from pimloom.program.widths import sum_bytes

Codes = dict[str, Array]


@final
class Interpreter:
    """Runs a program sample by sample."""

    def __init__(self, program: Program, analog: Analog | None = None) -> None:
        """Prepares weights, steps and the order of rows.

        Args:
            program: what is carried out.
            analog: conditions under which its crossbars compute; exact integers if not given.
        """
        _refuse_timed_only(program)
        self.program, self.graph = program, program.graph
        self._arrays = AnalogArrays(program, analog) if analog is not None else None
        self._column = {name: program.rows[name].tolist() for name in program.rows.dtype.names or ()}
        self._matrices = self._exact_matrices() if analog is None else []
        self._steps: dict[int, Any] = {}
        self._extras: dict[int, dict[int, Array]] = {}
        self._pattern_cache: dict[tuple[int, int], Array] = {}
        self._order = self._rows_in_order()
        self._outside_deps = self._dependencies_on_others()
        self._views = self._view_nodes()
        bits = program.hardware.result_bits
        self._kept_bits = bits if bits < 32 else 0
        self._actions: dict[int, Callable[[int], None]] = {
            code: getattr(self, f"_{row.name}") for code, row in enumerate(INSTRUCTIONS) if not row.is_timed_only
        }

    # Preparation -------------------------------------------------------------------------------------------

    def _exact_matrices(self) -> list[Array]:
        """Weights as floats in which every sum of products of one array group is exact."""
        groups = self.program.groups
        most_rows = int((groups.row_stop - groups.row_start).max(initial=1))
        input_bits: dict[str, int] = {}
        for node in self.graph.nodes:
            if len(node.inputs) > 1 and node.inputs[1] in self.graph.constants and node.inputs[0]:
                bits = 8 * self.graph.types[node.inputs[0]].itemsize_bytes
                input_bits[node.inputs[1]] = max(input_bits.get(node.inputs[1], 0), bits)
        found: list[Array] = []
        for matrix in self.program.matrices:
            # A centred code of b bits is at most 2**b in magnitude, whatever its zero point.
            largest = max(1, int(np.abs(matrix.codes.astype(np.int64)).max(initial=0)))
            bound = most_rows * largest << input_bits.get(matrix.name, 16)
            found.append(matrix.codes.astype(np.float32 if bound <= 1 << 24 else np.float64))
        return found

    def _rows_in_order(self) -> list[list[int]]:
        """Rows of each core in the order in which one sample passes them."""
        stage = self.program.rows["stage"]
        lines: list[list[int]] = []
        for p in range(self.program.n_processors):
            rows = np.arange(self.program.stream_ptr[p], self.program.stream_ptr[p + 1])
            lines.append(rows[np.argsort(stage[rows], kind="stable")].tolist())
        return lines

    def _dependencies_on_others(self) -> list[list[int]]:
        program, owner = self.program, self._column["processor"]
        found: list[list[int]] = [[] for _ in range(program.n_rows)]
        for row in range(program.n_rows):
            for e in range(program.dep_ptr[row], program.dep_ptr[row + 1]):
                source = int(program.dep_row[e])
                if program.dep_distance[e] == 0 and owner[source] != owner[row]:
                    found[row].append(source)
        return found

    def _view_nodes(self) -> dict[str, Node]:
        held = {region.value for region in self.program.regions}
        return {v: node for node in self.graph.nodes for v in node.outputs if v not in held}

    # Running -----------------------------------------------------------------------------------------------

    def run(self, inputs: Mapping[str, Array]) -> Codes:
        """Carries out one sample. Under analog conditions each call draws new noise of conversions, and cells stay as they are.

        Args:
            inputs: per graph input its codes (or plain integers), of the graph's type.

        Returns:
            Per graph output its codes.
        """
        self._start(inputs)
        self._go()
        return {value: self._value(value) for value in self.graph.outputs}

    def loads(self) -> tuple[Load, ...]:
        """What the ADCs saw of each node in all samples so far; nothing where arrays are exact."""
        return self._arrays.loads() if self._arrays is not None else ()

    def _start(self, inputs: Mapping[str, Array]) -> None:
        size = self.program.hardware.memory_bytes
        if not hasattr(self, "_local"):
            used = np.diff(self.program.stream_ptr) > 0
            if self.program.hardware.shares_memory:
                self._local = [np.zeros(size, np.uint8)] * used.size
            else:
                self._local = [np.zeros(size if is_used else 0, np.uint8) for is_used in used]
            for block in self.program.blocks:
                if block.fill is not None:
                    item = np.dtype(block.dtype).itemsize
                    count = block.size_bytes // item
                    self._view(block.processor, block.address, (count,), block.dtype, (item,))[:] = block.fill
        self._global = [np.zeros(region.size_bytes, np.uint8) for region in self.program.regions]
        self._region_of = {region.value: i for i, region in enumerate(self.program.regions)}
        self._mail: dict[int, bytes] = {}
        self._done = bytearray(self.program.n_rows)
        self._holdings = self._first_holdings()  # of each processor whose arrays rows write
        self._written: dict[int, Array] = {}  # group to weights that came from a region
        for value, i in self._region_of.items():
            if value in self.graph.inputs:
                self._write_region(i, inputs[value])
            elif value in self.graph.constants:
                self._write_region(i, self.graph.constants[value].array())

    def _go(self) -> None:
        place = [0] * len(self._order)
        waiting: defaultdict[int, list[int]] = defaultdict(list)  # row to cores that wait for it
        ready = deque(p for p, line in enumerate(self._order) if line)
        opcode, partner = self._column["opcode"], self.program.partner
        receive = OPCODES["receive"]
        left = sum(len(line) for line in self._order)
        while ready:
            p = ready.popleft()
            line = self._order[p]
            while place[p] < len(line):
                row = line[place[p]]
                wanted = next((d for d in self._outside_deps[row] if not self._done[d]), -1)
                if wanted < 0 and opcode[row] == receive and not self._done[partner[row]]:
                    wanted = int(partner[row])
                if wanted >= 0:
                    waiting[wanted].append(p)
                    break
                self._actions[opcode[row]](row)
                self._done[row] = 1
                place[p] += 1
                left -= 1
                if row in waiting:
                    ready.extend(waiting.pop(row))
        if left:
            stuck = next(p for p, line in enumerate(self._order) if place[p] < len(line))
            row = self._order[stuck][place[stuck]]
            name = INSTRUCTIONS[opcode[row]].name
            raise ProgramError(f"execute: core {stuck} waits forever at row {row} ({name}); {left} rows were not reached")

    # Memory ------------------------------------------------------------------------------------------------

    def _view(self, core: int, address: int, shape: tuple[int, ...], dtype: Any, strides: tuple[int, ...]) -> Array:
        try:
            return np.ndarray(shape, dtype, self._local[core].data, address, strides)
        except (ValueError, TypeError) as error:
            size = self._local[core].size
            raise ProgramError(
                f"execute: core {core} touches {list(shape)} elements of {np.dtype(dtype)} at address {address}, "
                f"beyond its local memory of {size} bytes"
            ) from error

    def _vectors(self, row: int, field: str, dtype: Any) -> Array:
        """The operand `field` of a row as [count, length] elements."""
        c, item = self._column, np.dtype(dtype).itemsize
        count, length = c["count"][row], c["length"][row]
        step = c[f"{field}_step"][row] if count > 1 else length * item
        return self._view(c["processor"][row], c[field][row], (count, length), dtype, (step, item))

    def _bytes(self, row: int, field: str) -> Array:
        return self._vectors(row, field, np.uint8)

    def _gathered(self, row: int, dtype: Any, fill: int) -> Array:
        """The gathered windows of a row: [count, elements]; masked elements are `fill`."""
        c, item = self._column, np.dtype(dtype).itemsize
        offsets = self._pattern(c["pattern"][row], item)
        memory = self._local[c["processor"][row]].view(dtype)
        starts = (c["src1"][row] + c["src1_step"][row] * np.arange(c["count"][row])) // item
        windows = memory[starts[:, None] + np.maximum(offsets, 0)]
        if offsets.size and offsets.min() < 0:
            windows[:, offsets < 0] = fill
        return windows

    def _pattern(self, pattern: int, item: int) -> Array:
        key = (pattern, item)
        if key not in self._pattern_cache:
            program = self.program
            low, high = int(program.pattern_ptr[pattern]), int(program.pattern_ptr[pattern + 1])
            parts = [
                np.arange(offset // item, (offset + length) // item) if offset >= 0 else np.full(length // item, MASKED)
                for offset, length in zip(program.pattern_offset[low:high], program.pattern_length[low:high], strict=True)
            ]
            self._pattern_cache[key] = np.concatenate(parts) if parts else np.zeros(0, np.int64)
        return self._pattern_cache[key]

    def _write_region(self, index: int, array: Array) -> None:
        region = self.program.regions[index]
        dtype = self.graph.types[region.value].dtype
        flat = region.layout.to_rows(np.asarray(array, dtype)).reshape(-1).view(np.uint8)
        self._global[index][: flat.size] = flat

    def _value(self, value: str) -> Array:
        """A value as it stands in global memory (or a constant, or a view of such)."""
        value_type = self.graph.types[value]
        if value in self.graph.constants:
            return self.graph.constants[value].array()
        index = self._region_of.get(value)
        if index is None:
            node = self._views[value]
            outputs = self._evaluate(node)
            return outputs[node.outputs.index(value)]
        region = self.program.regions[index]
        flat = self._global[index][: value_type.size_bytes].view(value_type.dtype)
        return region.layout.from_rows(flat.reshape(region.layout.rows, region.layout.channels), value_type.shape)

    def _evaluate(self, node: Node) -> tuple[Array, ...]:
        arrays = tuple(self._value(v) if v else None for v in node.inputs)
        return evaluate_node(node, arrays, self.graph.input_types(node), self.graph.output_types(node))

    # Nodes -------------------------------------------------------------------------------------------------

    def _step(self, index: int) -> Any:
        if index not in self._steps:
            self._steps[index] = step_of(self.graph, self.graph.nodes[index])
        return self._steps[index]

    def _in_type(self, index: int, operand: int = 0) -> Any:
        return self.graph.types[self.graph.nodes[index].inputs[operand]]

    def _out_dtype(self, index: int) -> str:
        return self.graph.types[self.graph.nodes[index].outputs[0]].dtype

    def _node_sum_dtype(self, index: int) -> Any:
        return np.int32 if sum_bytes(self.graph, self.graph.nodes[index]) == 4 else np.int64

    # Instructions ------------------------------------------------------------------------------------------

    def _mvm(self, row: int) -> None:
        c = self._column
        index, g = c["node"][row], c["arg"][row]
        step = self._step(index)
        codes = self._gathered(row, self._in_type(index).dtype, step.input_zero)
        dtype = self._node_sum_dtype(index)
        sums = self._vectors(row, "dst", dtype)
        if self._arrays is not None:
            limits = np.iinfo(dtype)  # noise may exceed what the width was chosen for
            sums[:] = np.clip(sums + self._arrays.multiply(g, index, codes, step.input_zero), limits.min, limits.max)
            return
        weights = self._weights_of(row, g)
        inputs = codes.astype(weights.dtype)
        if step.input_zero:
            inputs -= step.input_zero
        sums += (inputs @ weights).astype(dtype)
        if self._kept_bits:
            half = 1 << (self._kept_bits - 1)
            sums[:] = ((sums + half) & (2 * half - 1)) - half

    def _weights_of(self, row: int, g: int) -> Array:
        """The weights of a group, which its array must hold where arrays are rewritten."""
        groups = self.program.groups
        if self._holdings is not None:
            core = self._column["processor"][row]
            if not self._holdings[core].has(g):
                held = ", ".join(map(str, self._holdings[core].groups())) or "none"
                raise ProgramError(f"execute: row {row} uses array group {g}, but the arrays of core {core} hold {held}")
            if g in self._written:
                return self._written[g]
        matrix = self._matrices[groups.matrix[g]]
        return matrix[groups.row_start[g] : groups.row_stop[g], groups.column_start[g] : groups.column_stop[g]]

    def _first_holdings(self) -> dict[int, Holdings] | None:
        """What arrays hold before the first row; None where no row changes that."""
        hardware = self.program.hardware
        if holds_from_start(hardware):
            return initial_holdings(self.program) if writes_arrays(self.program) else None
        return {p: Holdings([-1]) for p in range(hardware.processors)} if hardware.are_arrays_rewritten else None

    def _write_weights(self, row: int) -> None:
        c, groups = self._column, self.program.groups
        g, region = c["arg"][row], c["src2"][row] - 1
        assert self._holdings is not None
        self._holdings[c["processor"][row]].write(g, c["dst_step"][row], int(groups.crossbars[g]))
        if region < 0:
            return
        shape = int(groups.row_stop[g] - groups.row_start[g]), int(groups.column_stop[g] - groups.column_start[g])
        value_type = self._in_type(c["node"][row], 1)
        steps = c["src1_step"][row], c["src2_step"][row]
        codes = np.ndarray(shape, value_type.dtype, self._global[region].data, c["src1"][row], steps)
        self._written[g] = codes.astype(np.float64) - self._step(c["node"][row]).weight_zero

    def _wait(self, row: int) -> None:
        pass

    def _gather(self, row: int) -> None:
        index = self._column["node"][row]
        dtype = self._in_type(index).dtype
        step = self._step(index)
        fill = step.input_zero if isinstance(step, LinearStep | MeanStep) else int(np.iinfo(dtype).min)
        windows = self._gathered(row, dtype, fill)
        self._bytes(row, "dst")[:] = windows.view(np.uint8)

    def _preset(self, row: int) -> None:
        c = self._column
        index, first, length = c["node"][row], c["arg"][row], c["length"][row]
        sums = self._vectors(row, "dst", np.int32 if c["src2"][row] == 4 else np.int64)
        bias = self.graph.nodes[index].inputs[2:3] if index >= 0 else ()
        sums[:] = self.graph.constants[bias[0]].array()[first : first + length] if bias and bias[0] else 0

    def _add_partial(self, row: int) -> None:
        dtype = self._node_sum_dtype(self._column["node"][row])
        sums = self._vectors(row, "dst", dtype)
        sums += self._vectors(row, "src1", dtype)

    def _finish(self, row: int) -> None:
        c = self._column
        index, first, length = c["node"][row], c["arg"][row], c["length"][row]
        step = self._step(index)
        sums = self._vectors(row, "src1", self._node_sum_dtype(index)).astype(np.int64)
        if isinstance(step, LinearStep):
            codes = step.channels(first, first + length).rescaler(sums)
        else:
            shape = self._in_type(index).shape
            codes = step.rescaler(int(np.prod(shape[2:])))(sums)
        self._vectors(row, "dst", codes.dtype)[:] = codes

    def _vector(self, row: int) -> None:
        c = self._column
        index, first, length = c["node"][row], c["arg"][row], c["length"][row]
        step, node = self._step(index), self.graph.nodes[index]
        streamed = [i for i, v in enumerate(node.inputs) if v and (v not in self.graph.constants or v in self._region_of)]
        operands: list[Array] = []
        for place, operand in enumerate(streamed[:2]):
            field = "src1" if place == 0 else "src2"
            operands.append(self._vectors(row, field, self._in_type(index, operand).dtype))
        codes = self._apply(step, index, streamed, operands, first, length)
        self._vectors(row, "dst", self._out_dtype(index))[:] = codes

    def _apply(self, step: Any, index: int, streamed: list[int], operands: list[Array], first: int, length: int) -> Array:
        match step:
            case LookupStep() | SoftmaxStep():
                return step(operands[0])
            case SumStep() | ProductStep():
                count = len([v for v in self.graph.nodes[index].inputs if v])
                given = dict(zip(streamed, operands, strict=True))
                return step(*(given[i] if i in given else self._constant(index, i, first, length) for i in range(count)))
            case NormStep():
                return step(operands[0], *self._norm_parameters(index))
            case _:
                raise InternalError(f"no vector instruction for {type(step).__name__}")

    def _constant(self, index: int, operand: int, first: int, length: int) -> Array:
        """A constant operand as one vector of channels."""
        held = self._extras.setdefault(index, {})
        if operand not in held:
            held[operand] = self.graph.constants[self.graph.nodes[index].inputs[operand]].array().reshape(-1)
        flat = held[operand]
        return flat if flat.size == 1 else flat[first : first + length]

    def _norm_parameters(self, index: int) -> list[Array | None]:
        node = self.graph.nodes[index]
        shape = self.graph.types[node.inputs[0]].shape
        parameters: list[Array | None] = []
        for value in node.inputs[1:3]:
            if not value:
                parameters.append(None)
                continue
            real = decode(self.graph.constants[value].array(), self.graph.types[value])
            parameters.append(np.asarray(norm_parameter(node, real, shape)).reshape(1, -1))
        return parameters

    def _pool(self, row: int) -> None:
        c = self._column
        index, length = c["node"][row], c["length"][row]
        step = self._step(index)
        dtype = self._in_type(index).dtype
        fill = step.input_zero if isinstance(step, MeanStep) else int(np.iinfo(dtype).min)
        windows = self._gathered(row, dtype, fill).reshape(c["count"][row], -1, length)
        if isinstance(step, MeanStep):
            sums = (windows.astype(np.int64) - step.input_zero).sum(axis=1)
            codes = step.rescaler(c["src2"][row])(sums)
        else:
            codes = windows.max(axis=1)
        self._vectors(row, "dst", self._out_dtype(index))[:] = codes

    def _stencil(self, row: int) -> None:
        c = self._column
        index, first, length = c["node"][row], c["arg"][row], c["length"][row]
        step = self._step(index)
        windows = self._gathered(row, self._in_type(index).dtype, step.input_zero).reshape(c["count"][row], -1, length)
        sums = ((windows.astype(np.int64) - step.input_zero) * self._taps(index)[:, first : first + length]).sum(axis=1)
        bias = self.graph.nodes[index].inputs[2:3]
        if bias and bias[0]:
            sums += self.graph.constants[bias[0]].array()[first : first + length]
        codes = step.channels(first, first + length).rescaler(sums)
        self._vectors(row, "dst", codes.dtype)[:] = codes

    def _taps(self, index: int) -> Array:
        """Centred weights of a depthwise convolution: int64[taps, channels]."""
        held = self._extras.setdefault(index, {})
        if -1 not in held:
            codes = self.graph.constants[self.graph.nodes[index].inputs[1]].array()
            held[-1] = codes.astype(np.int64).reshape(codes.shape[0], -1).T - self._step(index).weight_zero
        return held[-1]

    def _accumulate(self, row: int) -> None:
        c = self._column
        index = c["node"][row]
        dtype = self._node_sum_dtype(index)
        sums = self._view(c["processor"][row], c["dst"][row], (c["length"][row],), dtype, (np.dtype(dtype).itemsize,))
        codes = self._vectors(row, "src1", self._in_type(index).dtype)
        sums += (codes.astype(np.int64) - self._step(index).input_zero).sum(axis=0).astype(dtype)

    def _copy(self, row: int) -> None:
        self._bytes(row, "dst")[:] = self._bytes(row, "src1")

    def _load(self, row: int) -> None:
        self._bytes(row, "dst")[:] = self._region_bytes(row, "src1")

    def _store(self, row: int) -> None:
        self._region_bytes(row, "dst")[:] = self._bytes(row, "src1")

    def _region_bytes(self, row: int, field: str) -> Array:
        c = self._column
        memory = self._global[c["arg"][row]]
        count, length = c["count"][row], c["length"][row]
        step = c[f"{field}_step"][row] if count > 1 else length
        try:
            return np.ndarray((count, length), np.uint8, memory.data, c[field][row], (step, 1))
        except (ValueError, TypeError) as error:
            name = self.program.regions[c["arg"][row]].value
            raise ProgramError(f"execute: row {row} touches bytes beyond region '{name}' of {memory.size} bytes") from error

    def _send(self, row: int) -> None:
        self._mail[int(self.program.partner[row])] = self._bytes(row, "src1").tobytes()

    def _receive(self, row: int) -> None:
        target = self._bytes(row, "dst")
        data = np.frombuffer(self._mail.pop(row), np.uint8)
        if data.size != target.size:
            raise ProgramError(f"execute: row {row} receives {target.size} bytes, {data.size} were sent")
        target[:] = data.reshape(target.shape)

    def _general(self, row: int) -> None:
        c = self._column
        if c["src2"][row] != 1:
            return
        node = self.graph.nodes[c["node"][row]]
        for value, array in zip((v for v in node.outputs), self._evaluate(node), strict=False):
            if value and value in self._region_of:
                self._write_region(self._region_of[value], array)


def _refuse_timed_only(program: Program) -> None:
    """Rows that stand for no data cannot be carried out."""
    timed_only = np.array([row.is_timed_only for row in INSTRUCTIONS])[program.rows["opcode"]]
    if timed_only.any():
        name = INSTRUCTIONS[int(program.rows["opcode"][np.argmax(timed_only)])].name
        raise ProgramError(f"program '{program.name}': it holds no data ({name} only takes time), so it can be simulated but not executed")


def encode_inputs(program: Program, inputs: Mapping[str, Array]) -> Codes:
    """Codes of real inputs; ModelError names a missing, unknown or misshapen one."""
    graph = program.graph
    unknown = set(inputs) - set(graph.inputs)
    if unknown:
        raise ModelError(f"input '{min(unknown)}' is not one of the network's: {', '.join(graph.inputs)}")
    codes: Codes = {}
    for value in graph.inputs:
        if value not in inputs:
            raise ModelError(f"input '{value}' is missing; the network takes {', '.join(graph.inputs)}")
        value_type, array = graph.types[value], np.asarray(inputs[value])
        if array.shape != value_type.shape:
            raise ModelError(f"input '{value}': found shape {list(array.shape)}, expected {list(value_type.shape)}")
        is_coded = value_type.quant is not None and str(array.dtype) != value_type.dtype
        codes[value] = encode(array, value_type) if is_coded else array.astype(value_type.dtype)
    return codes


__all__ = ["Interpreter", "encode_inputs"]
