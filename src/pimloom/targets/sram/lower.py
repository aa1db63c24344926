"""Lowering: from a planned product to rows.

Streams: every macro runs `write_weights`, then per chunk `gather` and `mvm`; the SFU runs `preset` and `finish` of each
block of sums (a strip of a chunk), the loader `load` of inputs, the storer `store` of results, the conductor barriers.
What a strategy is, is in `turns`: who waits for whom.

The activation memory is a ring: a load waits for the readers of what it overwrites. The result memory has slots, used in
turn: a block's `preset` waits until the block before in its slot is stored.

All rows of one kind are made at once, from tables of residencies and passes (`residencies`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, final

import numpy as np

from pimloom.errors import CapacityError, InternalError
from pimloom.hardware import SramHardware
from pimloom.hardware.sram import SERVICES
from pimloom.ir.graph import Graph
from pimloom.program import Block
from pimloom.targets.sram.chunks import ChunkTable, Run, chunk_table, segments
from pimloom.targets.sram.emission import Emission
from pimloom.targets.sram.plan import SUM_BYTES, Dataflow, Plan, rows_of, slot_bytes
from pimloom.targets.sram.products import Product
from pimloom.targets.sram.residencies import Passes, Residencies, passes, residencies
from pimloom.targets.sram.ring import Piece, Placing, Ring
from pimloom.targets.sram.strategies import STRATEGIES
from pimloom.targets.sram.turns import in_turn, paired, swapped
from pimloom.targets.sram.work import ceil_div

Array = np.ndarray[Any, np.dtype[Any]]

MOST_ROWS: Final = 32_000_000
"""Rows of a program, each of which takes some 500 bytes until it is simulated."""


@final
class Lowering:
    """Rows of a network, product by product and node by node."""

    def __init__(self, hardware: SramHardware, graph: Graph, regions: dict[str, int]) -> None:
        """Nothing yet; `regions` numbers the regions by value."""
        self.hardware, self.graph, self.regions = hardware, graph, regions
        self.emitted = Emission()
        self.ring = Ring(hardware.memories.activation_bytes)
        self.ready: dict[str, int] = {}  # value to the row after which it is outside the chip
        self.groups: list[Array] = []
        self.n_groups = 0
        self.last_store = -1  # row after which all results so far have left the chip
        self.first_users: list[int] = []  # rows that use a memory first: the next sample's wait for this one
        self.service = {name: np.array([hardware.arrays + i]) for i, name in enumerate(SERVICES)}
        self.contiguous = np.array([self.emitted.pattern(((0, n),)) for n in range(1, hardware.macro.rows + 1)])

    def blocks(self) -> tuple[Block, ...]:
        """The memories on the chip as one map."""
        return _blocks(self.hardware)

    def product(self, product: Product, plan: Plan, matrix: int) -> None:
        """Adds the rows of a product; `matrix` is the number of its weights, -1 where they are a value.

        Raises:
            CapacityError: a program of more than `MOST_ROWS`.
        """
        needed = self.emitted.count + rows_of(self.hardware, product.work, plan)
        if needed > MOST_ROWS:
            advice = "use fewer vectors, a smaller matrix, or larger macros"
            raise CapacityError("rows of a program", needed, MOST_ROWS, self.hardware.name, advice)
        _ProductRows(self, product, plan, matrix).emit()

    def general(self, node: int, sources: tuple[str, ...], read_bytes: int, made_bytes: int, operations: int, block_bytes: int) -> None:
        """Adds the row of a node that the SFU computes with operands outside the chip."""
        blocks = max(1, ceil_div(read_bytes + made_bytes, block_bytes))
        row = self.emitted.add(
            "general", self.service["sfu"], node, key=0, src1=ceil_div(read_bytes, blocks), dst=ceil_div(made_bytes, blocks),
            length=max(ceil_div(operations, blocks), 1), count=blocks, src2=1,
        )  # fmt: skip
        self.emitted.close(1)
        self.emitted.wait(row, [self.ready[v] for v in sources if v in self.ready])
        self.ready.update(dict.fromkeys((v for v in self.graph.nodes[node].outputs if v), int(row[0])))


@lru_cache(maxsize=16)
def _blocks(h: SramHardware) -> tuple[Block, ...]:
    m = h.memories
    found = [Block(0, 0, m.activation_bytes, "activation memory"), Block(0, h.result_address, m.result_bytes, "result memory")]
    return (*found, *(Block(i, h.scratch_address(i), m.input_area_bytes, "input area") for i in range(h.arrays)))


@final
@dataclass(frozen=True, slots=True)
class Tiles:
    """What rows need to know of the tiles of r residencies.

    Attributes:
        strip: int64[r], over all parts.
        row_tile: int64[r], place in the strip.
        rows: int64[r], rows of the matrix in each tile.
        cols: int64[r], columns.
        area: int64[r], address of the macro's input area.
        group: int64[r], array group.
        offset: int64[r], of what it reads from each vector or pixel.
        source: int64[r], set of input vectors that it reads.
    """

    strip: Array
    row_tile: Array
    rows: Array
    cols: Array
    area: Array
    group: Array
    offset: Array
    source: Array


@final
@dataclass(frozen=True, slots=True)
class Sums:
    """Blocks of sums in the order of their use: a strip of a chunk each, to which its row tiles add in passes that follow one another.

    Attributes:
        first: int64[b], the first pass that adds to each.
        of_pass: int64[p], block to which each pass adds.
        strip: int64[b], over all parts.
        cols: int64[b], columns.
        channel: int64[b], first output channel.
        count: int64[b], vectors.
        address: int64[b], of its slot.
        preset: int64[b], row that starts it.
    """

    first: Array
    of_pass: Array
    strip: Array
    cols: Array
    channel: Array
    count: Array
    address: Array
    preset: Array


@final
@dataclass(frozen=True, slots=True)
class Loads:
    """Inputs that are brought, in their order: a chunk of a set of input vectors each.

    Attributes:
        row: int64[l], row of each.
        of_pass: int64[p], which inputs each pass reads.
        start: int64[l], where they lie.
        placing: what they overwrite.
    """

    row: Array
    of_pass: Array
    start: Array
    placing: Placing


@final
class _ProductRows:
    """Emits one product."""

    def __init__(self, lowering: Lowering, product: Product, plan: Plan, matrix: int) -> None:
        self.to, self.emitted, self.hardware = lowering, lowering.emitted, lowering.hardware
        self.product, self.work, self.plan, self.matrix = product, product.work, plan, matrix
        self.strategy = STRATEGIES[plan.strategy]
        if plan.is_serpentine and plan.strategy == "naive_lock_step":
            # Batches of halves that meet at the turn would wait for each other.
            raise InternalError(f"product of node {product.node}: a way back was planned for halves that swap")
        self.chunks: ChunkTable = chunk_table(product.work, plan.vectors)
        self.row_tiles, self.strips = self.work.row_tiles(self.hardware), self.work.part_strips(self.hardware)
        self.half = max(plan.macros // 2, 1) if plan.strategy == "naive_lock_step" else 0
        self.slot_bytes = slot_bytes(self.hardware, self.work, int(self.chunks.count.max()))
        self.n_slots = self.hardware.memories.result_bytes // self.slot_bytes
        self.out_bytes = lowering.graph.types[product.output].itemsize_bytes
        self.has_handshake = self.strategy.has_handshake and self.hardware.control.handshake_cycles > 0
        self.runs_of = np.diff(self.chunks.run_ptr)
        # Places of a macro's rows within a step: handshake, write, fetches, product, handshake.
        self.places = int(self.runs_of.max()) + 4

    def emit(self) -> None:
        """All rows of the product, then what the next product must know."""
        found = residencies(self.hardware, self.work, self.plan, self.half)
        tiles, seen = self._tiles(found), passes(found)
        if self.plan.open_loop_cycles:
            self._start_apart()
        written, flags = self._write(found, seen, tiles)
        loads = self._load(seen, tiles)
        fetched = self._gather(found, seen, tiles, loads)
        sums = self._start(seen, tiles)
        computed = self._multiply(found, seen, tiles, sums)
        stores = self._finish(seen, sums, computed)
        self._take_turns(found, seen, written, flags, fetched, computed)
        self._release(found, seen, loads, fetched)
        self._end(stores, seen.steps)

    def _end(self, stores: Array, steps: int) -> None:
        """A row behind all results, and the end of the product's keys."""
        last = stores.size + self.n_slots + 1
        end = self.emitted.add("wait", self.to.service["storer"], self.product.node, key=last, length=1)
        self.emitted.wait(end, stores)
        self.emitted.close(max(last, (steps + 1) * self.places) + 1)
        self.to.last_store = self.to.ready[self.product.output] = int(end[0])

    def _tiles(self, found: Residencies) -> Tiles:
        """The tiles of all residencies, with their array groups."""
        work, macro = self.work, self.hardware.macro
        strip, row_tile = np.divmod(found.tile, self.row_tiles)
        rows = np.minimum(macro.rows, work.rows - row_tile * macro.rows)
        part, column = np.divmod(strip, self.strips)
        cols = np.minimum(macro.cols, work.cols - column * macro.cols)
        source = np.zeros_like(part) if work.shares_inputs else part
        offset = part * work.slice_bytes if work.windows is not None else row_tile * macro.rows
        area = self.hardware.scratch_address(0) + found.macro * self.hardware.memories.scratch_bytes
        first_row, first_col = row_tile * macro.rows, part * work.cols + column * macro.cols
        bounds = (first_row, first_row + rows, first_col, first_col + cols)
        return Tiles(strip, row_tile, rows, cols, area, self._groups(found, bounds), offset, source)

    def _groups(self, found: Residencies, bounds: tuple[Array, ...]) -> Array:
        """The array group of each residency; a tile that comes back to its macro has the one it had."""
        _, first, same = np.unique(found.macro * (found.tile.max() + 1) + found.tile, return_index=True, return_inverse=True)
        at = np.sort(first)
        ones = np.ones(at.size, np.int64)
        self.to.groups.append(np.stack([found.macro[at], ones, ones * self.matrix, *(bound[at] for bound in bounds)]))
        number = self.to.n_groups + np.searchsorted(at, first[same])
        self.to.n_groups += at.size
        return number

    # Weights ---------------------------------------------------------------------------------------------------

    def _write(self, found: Residencies, seen: Passes, tiles: Tiles) -> tuple[Array, Array]:
        """Writes of the tiles that are not there yet: row of each residency, -1 for none; and of what comes before it at a handshake."""
        at = np.flatnonzero(found.is_written)
        key, macros, size = self._key(seen.first_step[at], 1), found.macro[at], (tiles.rows * tiles.cols)[at]
        flags = self._handshake(macros, key - 1, 2)
        lines = -(-size // self.hardware.macro.line_bytes)
        numbers = self.emitted.add(
            "write_weights", macros, self.product.node, key=key, arg=tiles.group[at], dst=self.plan.bytes_per_cycle, count=lines,
            length=-(-size // lines), **self._source_of(tiles, at),
        )  # fmt: skip
        if self.product.is_dynamic and self.product.weight in self.to.ready:
            self.emitted.wait(numbers, self.to.ready[self.product.weight])
        written, before = np.full((2, found.tile.size), -1, np.int64)
        written[at], before[at] = numbers, flags if flags.size else numbers
        return written, before

    def _key(self, step: Array, place: Any) -> Array:
        """Keys of rows of macros at a place within their steps."""
        return (step + 1) * self.places + place

    def _source_of(self, tiles: Tiles, at: Array) -> dict[str, Any]:
        """Where the weights of a dynamic product come from."""
        if not self.product.is_dynamic:
            return {}
        work, macro = self.work, self.hardware.macro
        part, strip = np.divmod(tiles.strip[at], self.strips)
        offset = part * work.rows * work.cols + tiles.row_tile[at] * macro.rows * work.cols + strip * macro.cols
        return {"src1": offset, "src1_step": work.cols, "src2_step": 1, "src2": self.to.regions[self.product.weight] + 1}

    def _handshake(self, macros: Array, key: Array, instructions: Any) -> Array:
        """What passing the start flag to and fro costs so many instructions."""
        if not self.has_handshake:
            return np.zeros(0, np.int64)
        length = self.hardware.control.handshake_cycles * instructions
        return self.emitted.add("wait", macros, self.product.node, key=key, length=length)

    def _start_apart(self) -> None:
        """The open loop: every group of macros waits once, each a stagger longer than the one before."""
        macros = np.arange(self.plan.writers, self.plan.macros)
        if macros.size:
            cycles = macros // self.plan.writers * self.plan.open_loop_cycles
            self.emitted.add("wait", macros, self.product.node, key=0, length=cycles)

    def _take_turns(self, found: Residencies, seen: Passes, written: Array, flags: Array, fetched: Array, computed: Array) -> None:
        """What the strategy makes rows wait for."""
        first_fetch = fetched[seen.first]
        if self.strategy.is_staggered and not self.plan.open_loop_cycles:
            self.emitted.wait(*in_turn(written[written >= 0], self.plan.writers))
        elif self.strategy.name == "naive_pairwise":
            at, rows = paired(found, first_fetch)
            self.emitted.wait(flags[at], rows)
        elif self.half:
            batch = np.arange(found.tile.size) // self.half
            batches = int(batch[-1]) + 1
            rows = self.emitted.add("wait", self._on("conductor", batches), self.product.node, key=np.arange(batches), length=1)
            self.emitted.wait(*swapped(batch, rows, written, first_fetch, computed[seen.is_last]))

    # Inputs ----------------------------------------------------------------------------------------------------

    def _load(self, seen: Passes, tiles: Tiles) -> Loads:
        """Brings inputs when they are first wanted.

        Where weights stay, all chunks pass, and again for the weights that come after: each time they are loaded.
        """
        work, loads, value = self.work, self.chunks.load, self.product.source
        source = tiles.source[seen.residency]
        unit = seen.step if self.plan.dataflow is Dataflow.ACTIVATIONS else seen.chunk
        is_new = (np.diff(unit, prepend=-1) != 0) | (np.diff(source, prepend=-1) != 0)
        first = np.flatnonzero(is_new)
        chunk, offset = seen.chunk[first], source[first] * work.vectors * work.rows
        placing = self.to.ring.place((loads[1] * loads[2])[chunk].tolist(), seen.step[first].tolist())
        rows = self.emitted.add(
            "load", self._on("loader", first.size), self.product.node, key=np.arange(first.size), dst=placing.start,
            dst_step=loads[1, chunk], src1=offset + loads[0, chunk], src1_step=loads[3, chunk], length=loads[1, chunk],
            count=loads[2, chunk], arg=self.to.regions[value],
        )  # fmt: skip
        if value in self.to.ready:
            self.emitted.wait(rows, self.to.ready[value])
        return Loads(rows, np.cumsum(is_new) - 1, placing.start, placing)

    def _gather(self, found: Residencies, seen: Passes, tiles: Tiles, loads: Loads) -> Array:
        """Fetches the windows into each macro's input area; returns the last fetch of each pass."""
        chunks, n_runs = self.chunks, self.runs_of[seen.chunk]
        ends = np.cumsum(n_runs)
        of = np.repeat(np.arange(n_runs.size), n_runs)  # pass of each fetch
        number = np.arange(of.size) - (ends - n_runs)[of]
        run, at = chunks.run_ptr[seen.chunk[of]] + number, seen.residency[of]
        rows = self.emitted.add(
            "gather", found.macro[at], self.product.node, key=self._key(seen.step[of], 2 + number),
            dst=tiles.area[at] + chunks.run[0, run] * tiles.rows[at], dst_step=tiles.rows[at],
            src1=loads.start[loads.of_pass[of]] + tiles.offset[at] + chunks.run[2, run], src1_step=chunks.run[3, run],
            length=tiles.rows[at], count=chunks.run[1, run], pattern=self._patterns()[chunks.kind[run], tiles.row_tile[at]],
        )  # fmt: skip
        self.emitted.wait(rows[ends - n_runs], loads.row[loads.of_pass])
        return rows[ends - 1]

    def _patterns(self) -> Array:
        """int64[kinds of runs, row tiles]: the gather pattern of each row tile."""
        work, macro = self.work, self.hardware.macro
        cuts = [(start, min(start + macro.rows, work.rows)) for start in range(0, work.rows, macro.rows)]
        if work.windows is None:
            return np.array([[int(self.to.contiguous[stop - start - 1]) for start, stop in cuts]])

        def line(run: Run) -> list[int]:
            return [self.emitted.pattern(segments(work, run, start, stop)) for start, stop in cuts]

        return np.array([line(run) for run in self.chunks.kinds])

    def _release(self, found: Residencies, seen: Passes, loads: Loads, fetched: Array) -> None:
        """Makes loads wait for the readers of what they overwrite, and notes the readers of what is left."""
        macros, placing = self.hardware.arrays, loads.placing
        # The last fetch of each macro from each load's inputs: streams are in order.
        keys, back = np.unique((loads.of_pass * macros + found.macro[seen.residency])[::-1], return_index=True)
        reader = fetched[fetched.size - 1 - back]
        ends = np.searchsorted(keys // macros, np.arange(loads.row.size + 1))
        self.emitted.wait(loads.row[placing.load], loads.row[placing.gone])
        count = np.diff(ends)[placing.gone]
        if count.size:
            at = np.repeat(ends[placing.gone], count) + np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
            self.emitted.wait(np.repeat(loads.row[placing.load], count), reader[at])
        for load, pieces in placing.before.items():
            self.emitted.wait(loads.row[load], np.concatenate([piece.rows for piece in pieces]))
        waits = np.ones(loads.row.size, np.bool_)
        waits[placing.load], waits[list(placing.before)] = False, False
        self.to.first_users += loads.row[waits].tolist()
        sizes = (self.chunks.load[1] * self.chunks.load[2])[seen.chunk[np.searchsorted(loads.of_pass, placing.left)]]
        self.to.ring.keep([
            Piece(int(loads.start[one]), int(loads.start[one] + size), np.append(reader[ends[one] : ends[one + 1]], loads.row[one]))
            for one, size in zip(placing.left, sizes.tolist(), strict=True)
        ])  # fmt: skip

    # Sums ------------------------------------------------------------------------------------------------------

    def _start(self, seen: Passes, tiles: Tiles) -> Sums:
        """Takes slots for blocks of sums and sets them to 0, when what was there is stored."""
        strips = tiles.strip[seen.residency]
        is_new = (np.diff(seen.chunk, prepend=-1) != 0) | (np.diff(strips, prepend=-1) != 0)
        first, of_pass = np.flatnonzero(is_new), np.cumsum(is_new) - 1
        if not (np.diff(np.append(first, strips.size)) == self.row_tiles).all():
            raise InternalError(f"product of node {self.product.node}: sums whose tiles do not follow one another")
        last_step = seen.step[first + self.row_tiles - 1]
        if (last_step[: -self.n_slots] >= seen.step[first[self.n_slots :]]).any():
            raise InternalError(f"product of node {self.product.node}: {self.n_slots} blocks of sums are too few for its order")
        strip, count, use = strips[first], self.chunks.count[seen.chunk[first]], np.arange(first.size)
        part, column = np.divmod(strip, self.strips)
        channel = column * self.hardware.macro.cols + part * (self.work.cols if self.work.shares_inputs else 0)
        cols, address = tiles.cols[seen.residency[first]], self.hardware.result_address + use % self.n_slots * self.slot_bytes
        preset = self.emitted.add(
            "preset", self._on("sfu", use.size), self.product.node, key=use + 0.5, dst=address, dst_step=cols * SUM_BYTES,
            length=cols, count=count, arg=channel, src2=SUM_BYTES,
        )  # fmt: skip
        return Sums(first, of_pass, strip, cols, channel, count, address, preset)

    def _on(self, service: str, rows: int) -> Array:
        """The processor of so many rows of a service."""
        return np.repeat(self.to.service[service], rows)

    def _multiply(self, found: Residencies, seen: Passes, tiles: Tiles, sums: Sums) -> Array:
        """The product of every pass, which adds to its block of sums."""
        at, macro, place = seen.residency, found.macro[seen.residency], self.places - 2
        numbers = self.emitted.add(
            "mvm", macro, self.product.node, key=self._key(seen.step, place), dst=sums.address[sums.of_pass],
            dst_step=tiles.cols[at] * SUM_BYTES, src1=tiles.area[at], src1_step=tiles.rows[at], length=tiles.cols[at],
            count=self.chunks.count[seen.chunk], arg=tiles.group[at], pattern=self.to.contiguous[tiles.rows[at] - 1],
        )  # fmt: skip
        self.emitted.wait(numbers, sums.preset[sums.of_pass])
        self._handshake(macro, self._key(seen.step, place + 1), 2 * self.chunks.count[seen.chunk] + 1)
        return numbers

    def _finish(self, seen: Passes, sums: Sums, computed: Array) -> Array:
        """Makes codes of complete sums and stores them; presets wait for the stores of what was in their slots."""
        node, size, work, n_sums = self.product.node, self.out_bytes, self.work, sums.first.size
        codes = sums.address + sums.count * sums.cols * SUM_BYTES
        finish = self.emitted.add(
            "finish", self._on("sfu", n_sums), node, key=np.arange(n_sums) + self.n_slots, dst=codes, dst_step=sums.cols * size,
            src1=sums.address, src1_step=sums.cols * SUM_BYTES, length=sums.cols, count=sums.count, arg=sums.channel,
        )  # fmt: skip
        self.emitted.wait(finish[sums.of_pass], computed)
        pitch = work.outputs // work.sources
        source = 0 if work.shares_inputs else sums.strip // self.strips
        first = self.chunks.first[seen.chunk[sums.first]]
        target = ((source * work.vectors + first) * pitch + sums.channel) * size
        store = self.emitted.add(
            "store", self._on("storer", n_sums), node, key=np.arange(n_sums), dst=target,
            dst_step=pitch * size, src1=codes, src1_step=sums.cols * size, length=sums.cols * size, count=sums.count,
            arg=self.to.regions[self.product.output],
        )  # fmt: skip
        self.emitted.wait(store, finish)
        self.emitted.wait(sums.preset[self.n_slots :], store[: -self.n_slots])
        fresh = sums.preset[: self.n_slots]
        if self.to.last_store >= 0:
            self.emitted.wait(fresh, self.to.last_store)
        else:
            self.to.first_users += fresh.tolist()
        return store


__all__ = ["Loads", "Lowering", "Sums", "Tiles"]
