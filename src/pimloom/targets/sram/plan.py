"""Plans: macros, vectors per residency, write speed and writers of a product, and what of these a machine has room for.

`predict` says what a plan takes, `tune` chooses one. Ways to go through a matrix:

* `weights` streamed: for each chunk of vectors, all tiles pass through the macros; weights cross the link once per chunk.
* `activations` streamed: as many strips as fit are held while all chunks pass; weights cross the link once, inputs once
  per such wave.
* `resident`: all tiles fit. With `activations` every macro sees every chunk; with `weights` on N macros, a multiple of the
  tiles, each tile has N / tiles copies that take turns at the chunks, and the copies are written once.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from pimloom.errors import CapacityError, UsageError
from pimloom.hardware import SramHardware
from pimloom.targets.sram.strategies import STRATEGIES, Strategy
from pimloom.targets.sram.work import Work, ceil_div

Array = np.ndarray[Any, np.dtype[Any]]

SUM_BYTES = 4
WIDEST_CODE_BYTES = 2
SPARE_SLOTS = 1  # blocks of sums beyond those that macros work on, so that one can be emptied meanwhile


class Dataflow(enum.Enum):
    """What passes through the macros while the rest stays."""

    WEIGHTS = "weights streamed"
    ACTIVATIONS = "activations streamed"


@final
@dataclass(frozen=True, slots=True)
class Plan:
    """How a product is done.

    Attributes:
        strategy: name in `STRATEGIES`.
        dataflow: what is streamed.
        macros: N, macros in use.
        vectors: n, most vectors of one chunk; a residency is one chunk where weights are streamed, else all.
        bytes_per_cycle: s, write speed.
        writers: macros that write at once; all where the strategy has no turns.
        cycles: predicted.
        bound_cycles: loads / min(N / (t_w + t_c), link rate): what a job without start and end would take.
        is_serpentine: whether every other chunk takes the tiles backwards, so that the last ones need no rewriting.
        open_loop_cycles: where positive, macros do not take turns: groups of `writers` macros start this far apart and then run
            freely, as in the published RTL.
    """

    strategy: str
    dataflow: Dataflow
    macros: int
    vectors: int
    bytes_per_cycle: int
    writers: int
    cycles: float
    bound_cycles: float
    is_serpentine: bool = False
    open_loop_cycles: int = 0

    @property
    def groups(self) -> int:
        """Groups of macros that write one after another."""
        return ceil_div(self.macros, self.writers)

    def stagger_cycles(self, hardware: SramHardware) -> int:
        """Cycles from group to group: a write, where macros write in turn, and no less than the link needs for a group."""
        if self.open_loop_cycles:
            return self.open_loop_cycles
        if not STRATEGIES[self.strategy].is_staggered:
            return 0
        carried = ceil_div(min(self.writers, self.macros) * hardware.macro.size_bytes, hardware.link.bytes_per_cycle)
        return max(hardware.write_cycles(self.bytes_per_cycle), carried)


def streams(hardware: SramHardware, work: Work, plan: Plan) -> str:
    """What crosses the link again and again under a plan: `weights streamed`, `activations streamed`, or nothing: `resident`."""
    is_once = plan.dataflow is Dataflow.ACTIVATIONS or work.chunks(plan.vectors) == 1 or stays(hardware, work, plan.macros)
    return "resident" if is_once and work.tiles(hardware) <= plan.macros else plan.dataflow.value


def rows_of(hardware: SramHardware, work: Work, plan: Plan) -> int:
    """Rows of a program that a product needs at least: writes, then a fetch and a multiplication per pass, and three per sum."""
    tiles, chunks = work.tiles(hardware), work.chunks(plan.vectors)
    passes, is_once = tiles * chunks, plan.dataflow is Dataflow.ACTIVATIONS or bool(stays(hardware, work, plan.macros))
    return (tiles if is_once else passes) + 2 * passes + 3 * work.strips(hardware) * chunks


# -- what fits ------------------------------------------------------------------------------------------------------


def slot_bytes(hardware: SramHardware, work: Work, vectors: int) -> int:
    """Bytes of the result memory for the sums and the codes of one strip of one chunk."""
    return vectors * min(hardware.macro.cols, work.cols) * (SUM_BYTES + WIDEST_CODE_BYTES)


def slots(hardware: SramHardware, work: Work, vectors: int) -> int:
    """Strips of one chunk that the result memory holds."""
    return hardware.memories.result_bytes // slot_bytes(hardware, work, vectors)


def slots_needed(hardware: SramHardware, work: Work, macros: Any) -> Any:
    """Strips that so many macros work on at once, and one that is emptied meanwhile."""
    return np.minimum(-(-np.asarray(macros) // work.row_tiles(hardware)) + SPARE_SLOTS, work.strips(hardware) * 2)


def check_setting(hardware: SramHardware, work: Work, macros: int, vectors: int, bytes_per_cycle: int) -> None:
    """Refuses a setting that the machine or the batch has no room for.

    Raises:
        CapacityError: more macros, results or inputs than fit.
        UsageError: a number out of range, or more vectors than there are.
    """
    macro, memories, where = hardware.macro, hardware.memories, hardware.name
    if macros < 1 or vectors < 1:
        raise UsageError(f"{'macros' if macros < 1 else 'vectors'}: {min(macros, vectors)} found, at least 1 expected")
    if macros > hardware.arrays:
        raise CapacityError("macros", macros, hardware.arrays, where, "use fewer macros or a larger machine")
    if not macro.slowest_write_bytes_per_cycle <= bytes_per_cycle <= macro.fastest_write_bytes_per_cycle:
        allowed = f"{macro.slowest_write_bytes_per_cycle} to {macro.fastest_write_bytes_per_cycle}"
        raise UsageError(f"write speed: {bytes_per_cycle} bytes per cycle found, {allowed} expected on '{where}'")
    if vectors > work.vectors:
        raise UsageError(
            f"vectors per residency: {vectors} found, at most the {work.vectors} vectors that there are expected; "
            "use fewer per residency or a larger batch"
        )
    if vectors > hardware.vectors_per_pass:
        advice = f"keep at most {hardware.vectors_per_pass} vectors per residency"
        raise CapacityError("input area of a macro (bytes)", vectors * macro.rows, memories.input_area_bytes, where, advice)
    needed = work.chunk_bytes(vectors)
    if needed > memories.activation_bytes:
        advice = "keep fewer vectors per residency or use a larger activation memory"
        raise CapacityError("activation memory (bytes)", needed, memories.activation_bytes, where, advice)
    if memories.sums == "private":
        needed = macros * vectors * memories.result_row_bytes
    else:
        needed = int(slots_needed(hardware, work, macros)) * slot_bytes(hardware, work, vectors)
    if needed > memories.result_bytes:
        advice = "use fewer macros or fewer vectors per residency"
        raise CapacityError("result memory (bytes)", needed, memories.result_bytes, where, advice)


def useful_vectors(hardware: SramHardware, work: Work) -> tuple[int, ...]:
    """Numbers of vectors per chunk that differ in their chunks and fit the input area and the activation memory.

    Raises:
        CapacityError: not even one vector fits the activation memory.
    """
    if work.chunk_bytes(1) > hardware.memories.activation_bytes:
        advice = "use a machine with a larger activation memory"
        raise CapacityError("activation memory (bytes)", work.chunk_bytes(1), hardware.memories.activation_bytes, hardware.name, advice)
    most = min(hardware.vectors_per_pass, work.vectors)
    seen: dict[tuple[int, int], int] = {}
    for n in range(1, most + 1):
        if work.chunk_vectors(n) <= most and work.chunk_bytes(n) <= hardware.memories.activation_bytes:
            seen.setdefault((work.chunks(n), work.chunk_vectors(n)), n)
    return tuple(seen.values())


def whole_macros(row_tiles: int, strategy: Strategy) -> int:
    """Macros that hold whole strips: of two banks where banks swap, of pairs where macros are paired."""
    if strategy.name == "naive_lock_step":
        return 2 * row_tiles
    return row_tiles * (1 + row_tiles % 2) if strategy.pairs else row_tiles


def most_macros(hardware: SramHardware, work: Work, strategy: Strategy, dataflow: Dataflow, vectors: int) -> int:
    """Macros that a setting can use: one for each residency, and as many again in the other bank where macros are paired."""
    if dataflow is Dataflow.WEIGHTS:
        return work.tiles(hardware) * work.chunks(vectors) * (1 + strategy.pairs)
    whole = whole_macros(work.row_tiles(hardware), strategy)
    return ceil_div(work.tiles(hardware), whole) * whole * (1 + strategy.pairs)


def per_chunking(n: Array, figure: Callable[[int], float]) -> Array:
    """A figure of each number of vectors, worked out once for each."""
    used = np.flatnonzero(np.bincount(n))
    table = np.zeros(int(used[-1]) + 1, np.int64)
    table[used] = [figure(int(v)) for v in used]
    return table[n]


def fits(hardware: SramHardware, work: Work, strategy: Strategy, dataflow: Dataflow, macros: Array, vectors: Array) -> Array:
    """bool: whether results and inputs of settings have room, and macros come in the numbers that the strategy needs."""
    memories = hardware.memories
    actual = per_chunking(vectors, work.chunk_vectors)
    if memories.sums == "private":
        has_room = macros * actual * memories.result_row_bytes <= memories.result_bytes
    else:
        room = memories.result_bytes // (actual * slot_bytes(hardware, work, 1))
        has_room = slots_needed(hardware, work, macros) <= room
    size = per_chunking(vectors, work.chunk_bytes)
    if dataflow is Dataflow.ACTIVATIONS:
        # Chunks pass while others are read: two of them at once, unless there is only one; each of every part that is held.
        held = _sources_held(hardware, work, macros)
        size = size * np.where(per_chunking(vectors, work.chunks) > 1, 2, 1) * held
        has_room = has_room & (macros % whole_macros(work.row_tiles(hardware), strategy) == 0)
    elif strategy.pairs:
        has_room = has_room & (macros % 2 == 0)
    return has_room & (size <= memories.activation_bytes)


def _sources_held(hardware: SramHardware, work: Work, macros: Any) -> Any:
    """Most sets of input vectors that the strips on so many macros read."""
    strips = np.maximum(np.asarray(macros) // work.row_tiles(hardware), 1)
    in_part = work.part_strips(hardware)
    # Strips that begin inside a part reach one part more, unless parts are whole multiples of what is held or the reverse.
    is_even = (strips % in_part == 0) | (in_part % strips == 0)
    return np.minimum(-(-strips // in_part) + np.where(is_even, 0, 1), work.sources)


def stays(hardware: SramHardware, work: Work, macros: Any) -> Any:
    """Whether each macro would be given the same tile again and again, while weights pass, so that it is written once."""
    return (macros % work.tiles(hardware) == 0) & (work.sources == 1)


__all__ = [
    "SUM_BYTES", "Dataflow", "Plan", "check_setting", "fits", "most_macros", "per_chunking", "rows_of", "slot_bytes", "slots",
    "slots_needed", "stays", "streams", "useful_vectors", "whole_macros",
]  # fmt: skip
