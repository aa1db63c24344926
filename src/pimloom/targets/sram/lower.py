"""Lowering: from a planned product to rows.

Streams: every macro runs `write_weights`, then per chunk `gather` and `mvm`; the SFU runs `preset` and `finish` of each
block of sums (a strip of a chunk), the loader `load` of inputs, the storer `store` of results, the conductor barriers.
Dependencies say what a strategy is:

| strategy | a write waits for |
|---|---|
| `in_situ` | nothing but its own macro |
| `naive_pairwise` | the pair's other macro to have written and fetched its inputs |
| `naive_lock_step` | the barrier at which the other half has written, and its own half has computed |
| `generalized` | the write that began `writers` writes before |

The activation memory is a ring: a load waits for the readers of what it overwrites. The result memory has slots, used in
turn: a block's `preset` waits until the block before in its slot is stored.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, final

import numpy as np

from pimloom.errors import CapacityError, InternalError
from pimloom.hardware import SramHardware
from pimloom.hardware.sram import SERVICES
from pimloom.ir.graph import Graph
from pimloom.program import Block
from pimloom.targets.sram.chunks import Chunk, chunks, segments
from pimloom.targets.sram.emission import Emission
from pimloom.targets.sram.plan import SUM_BYTES, Dataflow, Plan, rows_of, slot_bytes
from pimloom.targets.sram.products import Product
from pimloom.targets.sram.residencies import Generation, generations
from pimloom.targets.sram.strategies import STRATEGIES
from pimloom.targets.sram.work import ceil_div

Array = np.ndarray[Any, np.dtype[Any]]

MOST_ROWS: Final = 32_000_000
"""Rows of a program, each of which takes some 500 bytes until it is simulated."""


@final
@dataclass(slots=True)
class Piece:
    """A part of the activation memory that holds inputs.

    Attributes:
        start: first byte.
        stop: one past the last.
        load: row that brought it.
        readers: int64[macros], the last row of each macro that reads it, -1 for none.
    """

    start: int
    stop: int
    load: int
    readers: Array


@final
class Ring:
    """The activation memory: pieces are laid one behind the other, and again from its start."""

    def __init__(self, size_bytes: int, macros: int) -> None:
        """An empty memory."""
        self.size_bytes, self._macros = size_bytes, macros
        self._at = 0
        self._pieces: list[Piece] = []

    def place(self, size_bytes: int) -> tuple[Piece, Array]:
        """Room for a piece, and the rows that read what was there."""
        if size_bytes > self.size_bytes:
            raise InternalError(f"a piece of {size_bytes} bytes was planned for {self.size_bytes} bytes of activation memory")
        if self._at + size_bytes > self.size_bytes:
            self._at = 0
        piece = Piece(self._at, self._at + size_bytes, -1, np.full(self._macros, -1, np.int64))
        self._at = piece.stop
        gone = [p for p in self._pieces if p.start < piece.stop and piece.start < p.stop]
        self._pieces = [p for p in self._pieces if not any(p is one for one in gone)] + [piece]
        waits = np.concatenate([np.append(p.readers[p.readers >= 0], p.load) for p in gone]) if gone else np.zeros(0, np.int64)
        return piece, waits

    def holds(self, piece: Piece) -> bool:
        """Whether nothing was laid over a piece."""
        return any(piece is one for one in self._pieces)


@final
@dataclass(slots=True)
class Sums:
    """A block of sums: a strip of a chunk.

    Attributes:
        strip: over all parts.
        number: in the order of use.
        address: of its slot.
        preset: row that starts it.
        left: row tiles that have not added to it.
        added: rows that add to it.
    """

    strip: int
    number: int
    address: int
    preset: int
    left: int
    added: list[Array] = field(default_factory=list[Array])


@final
@dataclass(frozen=True, slots=True)
class Tiles:
    """What every pass of a generation needs to know of its g tiles, which belong to k strips.

    Attributes:
        macro: int64[g].
        row_tile: int64[g], place in the strip.
        rows: int64[g], rows of the matrix in each tile.
        cols: int64[g], columns.
        area: int64[g], address of each macro's input area.
        group: int64[g], array group.
        offset: int64[g], of what it reads from each vector or pixel.
        source: int64[g], set of input vectors that it reads.
        sources: those that occur.
        strips: strips, in the order of use.
        edges: k + 1 numbers; tiles `edges[i]` to `edges[i + 1]` belong to strip i.
        place: int64[g], index of each tile's strip in `strips`.
    """

    macro: Array
    row_tile: Array
    rows: Array
    cols: Array
    area: Array
    group: Array
    offset: Array
    source: Array
    sources: list[int]
    strips: list[int]
    edges: list[int]
    place: Array


@final
class Lowering:
    """Rows of a network, product by product and node by node."""

    def __init__(self, hardware: SramHardware, graph: Graph, regions: dict[str, int]) -> None:
        """Nothing yet; `regions` numbers the regions by value."""
        self.hardware, self.graph, self.regions = hardware, graph, regions
        self.emitted = Emission()
        self.ring = Ring(hardware.memories.activation_bytes, hardware.arrays)
        self.ready: dict[str, int] = {}  # value to the row after which it is outside the chip
        self.groups: list[Array] = []
        self.n_groups = 0
        self.last_store = -1  # row after which all results so far have left the chip
        self.first_users: list[int] = []  # rows that use a memory first: the next sample's wait for this one
        self.sfu_key = 0.0
        self.service = {name: np.array([hardware.arrays + i]) for i, name in enumerate(SERVICES)}
        self.contiguous = np.array([self.emitted.pattern(((0, n),)) for n in range(1, hardware.macro.rows + 1)])

    def blocks(self) -> tuple[Block, ...]:
        """The memories on the chip as one map."""
        h, m = self.hardware, self.hardware.memories
        found = [Block(0, 0, m.activation_bytes, "activation memory"), Block(0, h.result_address, m.result_bytes, "result memory")]
        return (*found, *(Block(i, h.scratch_address(i), m.input_area_bytes, "input area") for i in range(h.arrays)))

    def product(self, product: Product, plan: Plan, matrix: int) -> None:
        """Adds the rows of a product; `matrix` is the number of its weights, -1 where they are a value.

        Raises:
            CapacityError: a program of more than `MOST_ROWS`.
        """
        needed = self.emitted.count + rows_of(self.hardware, product.work, plan)
        if needed > MOST_ROWS:
            advice = "use fewer vectors, a smaller matrix, or larger macros"
            raise CapacityError("rows of a program", needed, MOST_ROWS, self.hardware.name, advice)
        _ProductRows(self, product, plan, matrix).run()

    def general(self, node: int, sources: tuple[str, ...], read_bytes: int, made_bytes: int, operations: int, block_bytes: int) -> None:
        """Adds the row of a node that the SFU computes with operands outside the chip."""
        blocks = max(1, ceil_div(read_bytes + made_bytes, block_bytes))
        self.sfu_key += 1
        row = self.emitted.add(
            "general", self.service["sfu"], node, key=self.sfu_key, src1=ceil_div(read_bytes, blocks),
            dst=ceil_div(made_bytes, blocks), length=max(ceil_div(operations, blocks), 1), count=blocks, src2=1,
        )  # fmt: skip
        self.emitted.wait(row, [self.ready[v] for v in sources if v in self.ready])
        self.ready.update(dict.fromkeys((v for v in self.graph.nodes[node].outputs if v), int(row[0])))


@final
class _ProductRows:
    """Emits one product."""

    def __init__(self, lowering: Lowering, product: Product, plan: Plan, matrix: int) -> None:
        self.to, self.emitted, self.hardware = lowering, lowering.emitted, lowering.hardware
        self.product, self.plan, self.matrix = product, plan, matrix
        self.strategy = STRATEGIES[plan.strategy]
        self.chunks: tuple[Chunk, ...] = chunks(product.work, plan.vectors)
        self.row_tiles = product.work.row_tiles(self.hardware)
        self.strips = product.work.part_strips(self.hardware)
        largest = max(chunk.count for chunk in self.chunks)
        self.slot_bytes = slot_bytes(self.hardware, product.work, largest)
        self.n_slots = self.hardware.memories.result_bytes // self.slot_bytes
        self.pieces: dict[tuple[int, int], Piece] = {}  # by source and chunk: those that may be read again
        self.sums: dict[tuple[int, int], Sums] = {}  # by strip and chunk: those that are not complete
        self.n_sums = 0  # blocks of sums so far
        self.stores: list[int] = []
        self.store_before = lowering.last_store
        self.key = lowering.sfu_key + self.n_slots + 1
        self.group_of: dict[int, int] = {}  # macro * tiles + tile to its group
        self.written = np.zeros(0, np.int64)  # the last writes, in their order, for which later ones wait
        self.fetched = np.full(self.hardware.arrays, -1, np.int64)  # last gather of each macro, for pairs
        self.swap = _Swap(self, max(plan.macros // 2, 1)) if plan.strategy == "naive_lock_step" else None
        self.out_bytes = lowering.graph.types[product.output].itemsize_bytes
        self.has_handshake = self.strategy.has_handshake and self.hardware.control.handshake_cycles > 0
        self._patterns: dict[tuple[Any, ...], Array] = {}
        self._seconds: list[tuple[int, int]] = []  # (write, macro) of the second of each pair, until the first has fetched

    def run(self) -> None:
        """All generations, then what the next product must know."""
        if self.plan.open_loop_cycles:
            self._start_apart()
        for generation in generations(self.hardware, self.product.work, self.plan):
            for part in self._cut(generation):
                self._generation(part)
        if self.swap is not None:
            self.swap.raise_barrier()
        if self.sums:
            raise InternalError(f"product of node {self.product.node}: sums without all their tiles")
        end = self.emitted.add("wait", self.to.service["storer"], self.product.node, length=1)
        self.emitted.wait(end, np.array(self.stores))
        self.to.last_store = self.to.ready[self.product.output] = int(end[0])
        self.to.sfu_key = self.key + len(self.stores)

    def _cut(self, g: Generation) -> list[Generation]:
        """Where halves swap, the parts that belong to one batch; all at once otherwise."""
        if self.swap is None:
            return [g]
        pieces = self.swap.pieces(g.strip.size)
        return [Generation(g.strip[p], g.row_tile[p], g.macro[p], g.is_written[p], g.chunks) for p in pieces]

    def _generation(self, g: Generation) -> None:
        tiles = self._tiles(g)
        self._write(g, tiles)
        if self.plan.dataflow is Dataflow.ACTIVATIONS:
            # Where weights stay, all chunks pass, and again for the weights that come after: each time they are loaded.
            self.pieces.clear()
        for chunk in g.chunks:
            self._pass(tiles, chunk, is_first=chunk == g.chunks[0], is_last=chunk == g.chunks[-1])
        if self.swap is not None:
            self.swap.advance(g.strip.size)

    def _tiles(self, g: Generation) -> Tiles:
        """The tiles of a generation, which lie in the order of their strips."""
        work, macro = self.product.work, self.hardware.macro
        rows = np.minimum(macro.rows, work.rows - g.row_tile * macro.rows)
        cols = np.minimum(macro.cols, work.cols - g.strip % self.strips * macro.cols)
        first = np.flatnonzero(np.diff(g.strip, prepend=-1))
        edges, part = np.append(first, g.strip.size), g.strip // self.strips
        source = np.zeros_like(part) if work.shares_inputs else part
        offset = part * work.slice_bytes if work.windows is not None else g.row_tile * macro.rows
        return Tiles(
            g.macro, g.row_tile, rows, cols, self.hardware.scratch_address(0) + g.macro * self.hardware.memories.scratch_bytes,
            self._groups(g, rows, cols), offset, source, np.unique(source[first]).tolist(), g.strip[first].tolist(), edges.tolist(),
            np.repeat(np.arange(first.size), np.diff(edges)),
        )  # fmt: skip

    # Weights ---------------------------------------------------------------------------------------------------

    def _groups(self, g: Generation, rows: Array, cols: Array) -> Array:
        """The array group of each residency; a tile that comes back to its macro has the one it had."""
        macro, tile = self.hardware.macro, g.strip * self.row_tiles + g.row_tile
        keys = (g.macro * self.product.work.tiles(self.hardware) + tile).tolist()
        is_new = np.array([key not in self.group_of for key in keys])
        for key in (key for key, new in zip(keys, is_new.tolist(), strict=True) if new):
            self.group_of[key] = self.to.n_groups
            self.to.n_groups += 1
        part, column = np.divmod(g.strip, self.strips)
        first_row, first_col = g.row_tile * macro.rows, part * self.product.work.cols + column * macro.cols
        ones = np.ones(tile.size, np.int64)
        columns = (g.macro, ones, ones * self.matrix, first_row, first_row + rows, first_col, first_col + cols)
        self.to.groups.append(np.stack([column[is_new] for column in columns]))
        return np.array([self.group_of[key] for key in keys], np.int64)

    def _write(self, g: Generation, tiles: Tiles) -> None:
        """Writes of the tiles that are not there yet, with what the strategy makes them wait for."""
        at = np.flatnonzero(g.is_written)
        if not at.size:
            return
        macros, size = g.macro[at], (tiles.rows * tiles.cols)[at]
        flags = self._handshake(macros, 2)
        lines = -(-size // self.hardware.macro.line_bytes)
        numbers = self.emitted.add(
            "write_weights", macros, self.product.node, arg=tiles.group[at], dst=self.plan.bytes_per_cycle, count=lines,
            length=-(-size // lines), **self._source_of(g, at),
        )  # fmt: skip
        if self.product.is_dynamic and self.product.weight in self.to.ready:
            self.emitted.wait(numbers, self.to.ready[self.product.weight])
        if self.strategy.is_staggered and not self.plan.open_loop_cycles:
            line = np.concatenate([self.written, numbers])
            self.emitted.wait(line[self.plan.writers :], line[: -self.plan.writers])
            self.written = line[-self.plan.writers :]
        elif self.strategy.name == "naive_pairwise":
            self._exclude(flags if flags.size else numbers, macros)
        elif self.swap is not None:
            self.swap.written(numbers)

    def _source_of(self, g: Generation, at: Array) -> dict[str, Any]:
        """Where the weights of a dynamic product come from."""
        if not self.product.is_dynamic:
            return {}
        work, macro = self.product.work, self.hardware.macro
        part, strip = g.strip[at] // self.strips, g.strip[at] % self.strips
        offset = part * work.rows * work.cols + g.row_tile[at] * macro.rows * work.cols + strip * macro.cols
        return {"src1": offset, "src1_step": work.cols, "src2_step": 1, "src2": self.to.regions[self.product.weight] + 1}

    def _exclude(self, numbers: Array, macros: Array) -> None:
        """Pairwise exclusion: the first of a pair waits for the other's last fetch; the second for the first's, when it is known."""
        self._seconds = [(n, m) for n, m in zip(numbers.tolist(), macros.tolist(), strict=True) if m % 2]
        firsts = [(n, m) for n, m in zip(numbers.tolist(), macros.tolist(), strict=True) if m % 2 == 0]
        before = [(n, int(self.fetched[m + 1])) for n, m in firsts if self.fetched[m + 1] >= 0]
        if before:
            self.emitted.wait(*(np.array(side) for side in zip(*before, strict=True)))

    def _exclude_seconds(self) -> None:
        before = [(n, int(self.fetched[m - 1])) for n, m in self._seconds if self.fetched[m - 1] >= 0]
        if before:
            self.emitted.wait(*(np.array(side) for side in zip(*before, strict=True)))

    def _handshake(self, macros: Array, instructions: int) -> Array:
        """What passing the start flag to and fro costs so many instructions."""
        if not self.has_handshake:
            return np.zeros(0, np.int64)
        return self.emitted.add("wait", macros, self.product.node, length=self.hardware.control.handshake_cycles * instructions)

    def _start_apart(self) -> None:
        """The open loop: every group of macros waits once, each a stagger longer than the one before."""
        macros = np.arange(self.plan.writers, self.plan.macros)
        if macros.size:
            cycles = macros // self.plan.writers * self.plan.open_loop_cycles
            self.emitted.add("wait", macros, self.product.node, length=cycles)

    # Passes ----------------------------------------------------------------------------------------------------

    def _pass(self, tiles: Tiles, number: int, *, is_first: bool, is_last: bool) -> None:
        """One chunk through the tiles of a generation."""
        chunk = self.chunks[number]
        last = self._gather(tiles, chunk, [self._piece(source, number) for source in tiles.sources])
        if self.strategy.name == "naive_pairwise" and is_first:
            self.fetched[tiles.macro] = last
            self._exclude_seconds()
            self._seconds = []
        sums = self._sums_of(tiles, number)
        mvm = self._multiply(tiles, chunk, sums)
        self._handshake(tiles.macro, 2 * chunk.count + 1)
        if self.swap is not None:
            self.swap.passed(last if is_first else last[:0], mvm if is_last else mvm[:0])
        self._add(tiles, number, sums, mvm)

    def _piece(self, source: int, number: int) -> Piece:
        """The inputs of a chunk in the activation memory, loaded when they are first wanted."""
        if (source, number) not in self.pieces:
            if self.plan.dataflow is Dataflow.WEIGHTS:
                self.pieces.clear()
            self.pieces[source, number] = self._load(source, self.chunks[number])
        return self.pieces[source, number]

    def _load(self, number: int, chunk: Chunk) -> Piece:
        """Brings the inputs of a chunk from one of the sets of input vectors."""
        load, source = chunk.load, self.product.source
        piece, waits = self.to.ring.place(load.size_bytes)
        offset = number * self.product.work.vectors * self.product.work.rows + load.offset
        row = self.emitted.add(
            "load", self.to.service["loader"], self.product.node, dst=piece.start, dst_step=load.length, src1=offset,
            src1_step=load.step, length=load.length, count=load.count, arg=self.to.regions[source],
        )  # fmt: skip
        piece.load = int(row[0])
        self.emitted.wait(row, waits)
        if not waits.size:
            self.to.first_users.append(piece.load)
        if source in self.to.ready:
            self.emitted.wait(row, self.to.ready[source])
        return piece

    def _gather(self, tiles: Tiles, chunk: Chunk, pieces: list[Piece]) -> Array:
        """Fetches the windows into each macro's input area; returns the last fetch of each."""
        if not all(self.to.ring.holds(piece) for piece in pieces):
            raise InternalError(f"product of node {self.product.node}: inputs of {len(pieces)} parts do not fit the activation memory")
        place = np.searchsorted(tiles.sources, tiles.source)
        start, load = np.array([(piece.start, piece.load) for piece in pieces]).T[:, place]
        last = np.zeros(0, np.int64)
        for i, run in enumerate(chunk.runs):
            last = self.emitted.add(
                "gather", tiles.macro, self.product.node, dst=tiles.area + run.first * tiles.rows, dst_step=tiles.rows,
                src1=start + tiles.offset + run.address, src1_step=run.step, length=tiles.rows, count=run.count,
                pattern=self._pattern_of(chunk, run)[tiles.row_tile],
            )  # fmt: skip
            if i == 0:
                self.emitted.wait(last, load)
        for i, piece in enumerate(pieces):
            piece.readers[tiles.macro[place == i]] = last[place == i]
        return last

    def _pattern_of(self, chunk: Chunk, run: Any) -> Array:
        """int64[row tiles]: the gather pattern of each row tile for a run."""
        work, macro = self.product.work, self.hardware.macro
        sizes = [min(macro.rows, work.rows - t * macro.rows) for t in range(self.row_tiles)]
        if work.windows is None:
            key: tuple[Any, ...] = ()
            make: Callable[[], list[int]] = lambda: [int(self.to.contiguous[size - 1]) for size in sizes]  # noqa: E731
        else:
            key = (run.taps_y, run.taps_x, run.pitch)

            def make() -> list[int]:
                starts = [t * macro.rows for t in range(self.row_tiles)]
                return [self.emitted.pattern(segments(work, run, s, s + n)) for s, n in zip(starts, sizes, strict=True)]

        if key not in self._patterns:
            self._patterns[key] = np.array(make(), np.int64)
        return self._patterns[key]

    def _multiply(self, tiles: Tiles, chunk: Chunk, sums: list[Sums]) -> Array:
        """Products of a chunk with every tile; `sums` is where each strip adds."""
        address, preset = np.array([(one.address, one.preset) for one in sums]).T[:, tiles.place]
        numbers = self.emitted.add(
            "mvm", tiles.macro, self.product.node, dst=address, dst_step=tiles.cols * SUM_BYTES, src1=tiles.area, src1_step=tiles.rows,
            length=tiles.cols, count=chunk.count, arg=tiles.group, pattern=self.to.contiguous[tiles.rows - 1],
        )  # fmt: skip
        self.emitted.wait(numbers, preset)
        return numbers

    # Sums ------------------------------------------------------------------------------------------------------

    def _sums_of(self, tiles: Tiles, number: int) -> list[Sums]:
        """The sums of the strips of a chunk, started when they are first wanted."""
        fresh = [strip for strip in tiles.strips if (strip, number) not in self.sums]
        if fresh:
            self._start(fresh, number)
        return [self.sums[strip, number] for strip in tiles.strips]

    def _start(self, strips: list[int], number: int) -> None:
        """Takes slots for sums of some strips and sets them to 0, when what was there is stored."""
        uses = np.arange(self.n_sums, self.n_sums + len(strips))
        self.n_sums += len(strips)
        before = uses - self.n_slots
        if before[-1] >= len(self.stores):
            raise InternalError(f"product of node {self.product.node}: {self.n_slots} blocks of sums are too few for its order")
        address, cols = self.hardware.result_address + uses % self.n_slots * self.slot_bytes, self._cols(strips)
        rows = self.emitted.add(
            "preset", self._on("sfu", len(strips)), self.product.node, key=self.key + before + 0.5, dst=address, dst_step=cols * SUM_BYTES,
            length=cols, count=self.chunks[number].count, arg=self._outputs_from(strips), src2=SUM_BYTES,
        )  # fmt: skip
        waits = np.array([self.stores[use] if use >= 0 else self.store_before for use in before.tolist()])
        self.emitted.wait(rows[waits >= 0], waits[waits >= 0])
        self.to.first_users += rows[waits < 0].tolist()
        for strip, use, at, preset in zip(strips, uses.tolist(), address.tolist(), rows.tolist(), strict=True):
            self.sums[strip, number] = Sums(strip, use, at, preset, self.row_tiles)

    def _on(self, service: str, rows: int) -> Array:
        """The processor of so many rows of a service."""
        return np.repeat(self.to.service[service], rows)

    def _cols(self, strips: list[int]) -> Array:
        """Columns of strips."""
        macro = self.hardware.macro
        return np.minimum(macro.cols, self.product.work.cols - np.array(strips) % self.strips * macro.cols)

    def _outputs_from(self, strips: list[int]) -> Array:
        """First output channel of strips."""
        part, column = np.divmod(np.array(strips), self.strips)
        return column * self.hardware.macro.cols + part * (self.product.work.cols if self.product.work.shares_inputs else 0)

    def _add(self, tiles: Tiles, number: int, sums: list[Sums], rows: Array) -> None:
        """Notes rows that added to sums; complete sums become codes and leave the chip."""
        complete: list[Sums] = []
        for one, (first, stop) in zip(sums, itertools.pairwise(tiles.edges), strict=True):
            one.added.append(rows[first:stop])
            one.left -= stop - first
            if not one.left:
                complete.append(self.sums.pop((one.strip, number)))
        if complete:
            self._finish(complete, self.chunks[number])

    def _finish(self, complete: list[Sums], chunk: Chunk) -> None:
        """Makes codes of complete sums and stores them."""
        node, size, n_sums = self.product.node, self.out_bytes, len(complete)
        strips, numbers = [one.strip for one in complete], np.array([one.number for one in complete])
        if not np.array_equal(numbers, np.arange(len(self.stores), len(self.stores) + n_sums)):
            raise InternalError(f"product of node {node}: blocks {numbers.tolist()} of its sums are complete out of order")
        address, cols = np.array([one.address for one in complete]), self._cols(strips)
        codes = address + chunk.count * cols * SUM_BYTES
        channel, work = self._outputs_from(strips), self.product.work
        finish = self.emitted.add(
            "finish", self._on("sfu", n_sums), node, key=self.key + numbers, dst=codes, dst_step=cols * size, src1=address,
            src1_step=cols * SUM_BYTES, length=cols, count=chunk.count, arg=channel,
        )  # fmt: skip
        added = [np.concatenate(one.added) for one in complete]
        self.emitted.wait(np.repeat(finish, [rows.size for rows in added]), np.concatenate(added))
        pitch = work.outputs // work.sources
        source = 0 if work.shares_inputs else np.array(strips) // self.strips
        store = self.emitted.add(
            "store", self._on("storer", n_sums), node, dst=((source * work.vectors + chunk.first) * pitch + channel) * size,
            dst_step=pitch * size, src1=codes, src1_step=cols * size, length=cols * size, count=chunk.count,
            arg=self.to.regions[self.product.output],
        )  # fmt: skip
        self.emitted.wait(store, finish)
        self.stores += store.tolist()


@final
class _Swap:
    """The swaps of the lock step: a half is written while the other computes, and both wait for each other.

    Batch b is the b-th half of the macros: its residencies are written together. Behind its writes, and behind what batch
    b - 1 computes, comes a barrier; then batch b computes and batch b + 1 is written.
    """

    def __init__(self, rows: _ProductRows, half: int) -> None:
        self._rows, self.half = rows, half
        self._count = 0  # residencies so far
        self._barrier = -1  # behind the batch before
        self._written: list[Array] = []
        self._passes: list[Array] = []  # first rows of passes, which wait for the barrier to come
        self._computed: list[Array] = []
        self._before: list[Array] = []  # products of the batch before

    def pieces(self, size: int) -> list[slice]:
        """Cuts the next `size` residencies where batches end."""
        found: list[slice] = []
        start = 0
        while start < size:
            stop = min(size, start + self.half - (self._count + start) % self.half)
            found.append(slice(start, stop))
            start = stop
        return found

    def written(self, rows: Array) -> None:
        """Makes writes wait for the barrier behind the batch before."""
        if self._barrier >= 0:
            self._rows.emitted.wait(rows, self._barrier)
        self._written.append(rows)

    def passed(self, first: Array, last: Array) -> None:
        """Notes the first and last rows of passes."""
        self._passes.append(first)
        self._computed.append(last)

    def advance(self, residencies: int) -> None:
        """Counts residencies; raises the barrier where a batch is complete."""
        self._count += residencies
        if self._count % self.half == 0:
            self.raise_barrier()

    def raise_barrier(self) -> None:
        """A barrier behind the writes of this batch and the products of the one before; nothing if the batch is empty."""
        if not self._passes and not self._written:
            return
        to = self._rows
        row = to.emitted.add("wait", to.to.service["conductor"], to.product.node, length=1)
        to.emitted.wait(row, np.concatenate([*self._written, *self._before]) if self._written or self._before else [])
        to.emitted.wait(np.concatenate(self._passes), row[0])
        self._barrier, self._before, self._computed = int(row[0]), self._computed, []
        self._written, self._passes = [], []


__all__ = ["Lowering", "Piece", "Ring", "Sums", "Tiles"]
