"""The planner: macros, vectors per residency, write speed and writers for a product, with the costs that the machine has.

Settings are tried all at once (`Grid`): every number of macros, every useful number of vectors, every write speed. What
a setting takes is the strategy's closed form (`strategies`) with overheads, start-up and tail, and with the link's share of inputs
and results. The simulator has the last word where a caller hands it in; see `choose`.

Ways to go through a matrix:

* `weights` streamed: for each chunk of vectors, all tiles pass through the macros; weights cross the link once per chunk.
* `activations` streamed: as many strips as fit are held while all chunks pass; weights cross the link once, inputs once
  per such wave.
* `resident`: all tiles fit. With `activations` every macro sees every chunk; with `weights` on N macros, a multiple of the
  tiles, each tile has N / tiles copies that take turns at the chunks, and the copies are written once.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np

from pimloom.errors import CapacityError, UsageError
from pimloom.hardware import SramHardware
from pimloom.targets.sram.strategies import BASELINES, FAMILIES, STRATEGIES, Job, Strategy
from pimloom.targets.sram.work import Work, ceil_div

Array = np.ndarray[Any, np.dtype[Any]]

SUM_BYTES = 4
WIDEST_CODE_BYTES = 2
SPARE_WRITERS = 3  # writers tried beyond those that fill the link: they hide the setup of the next write
EQUAL = 0.005  # predictions that differ by less are taken for the same
MANY_PASSES = 6000  # passes of a tile from which on a job is long
FAR_BEHIND = 1.3  # times the fastest prediction
MOST_STEPS = 16  # settings that are tried around the best
NEAR_BEST = 4  # settings of the staggered strategy that `auto` considers for each dataflow
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
        """Cycles from group to group: a write, where macros write in turn."""
        if self.open_loop_cycles:
            return self.open_loop_cycles
        return hardware.write_cycles(self.bytes_per_cycle) if STRATEGIES[self.strategy].is_staggered else 0


def streams(hardware: SramHardware, work: Work, plan: Plan) -> str:
    """What crosses the link again and again under a plan: `weights streamed`, `activations streamed`, or nothing: `resident`."""
    fits = work.tiles(hardware) <= plan.macros
    stays = plan.dataflow is Dataflow.ACTIVATIONS or work.chunks(plan.vectors) == 1 or _stays(hardware, work, plan.macros)
    return "resident" if fits and stays else plan.dataflow.value


def rows_of(hardware: SramHardware, work: Work, plan: Plan) -> int:
    """Rows of a program that a product needs at least: writes, then a fetch and a multiplication per pass, and three per sum."""
    tiles, chunks = work.tiles(hardware), work.chunks(plan.vectors)
    passes, is_once = tiles * chunks, plan.dataflow is Dataflow.ACTIVATIONS or bool(_stays(hardware, work, plan.macros))
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


# -- what a setting takes -------------------------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Grid:
    """Settings of one strategy and dataflow: arrays of equal shape.

    Attributes:
        strategy: the strategy.
        dataflow: what is streamed.
        macros: N.
        vectors: n.
        speed: s.
        writers: macros that write at once.
        cycles: predicted; infinite where the setting does not fit.
        bound: loads over the steady rate.
    """

    strategy: Strategy
    dataflow: Dataflow
    macros: Array
    vectors: Array
    speed: Array
    writers: Array
    cycles: Array
    bound: Array

    def plan(self, place: int) -> Plan:
        """One setting as a plan."""
        return Plan(
            self.strategy.name, self.dataflow, int(self.macros[place]), int(self.vectors[place]), int(self.speed[place]),
            int(self.writers[place]), float(self.cycles[place]), float(self.bound[place]),
        )  # fmt: skip

    def best(self, count: int = 1) -> list[Plan]:
        """The fastest settings, of different numbers of vectors or writers, each with many and with few macros.

        Among settings within `EQUAL` of the fastest, macros that take turns are better many, with as many writers as fill each
        other's gaps: what is written ahead bridges a late input. Others write together and are better few.

        Returns:
            At most 2 `count` plans, none if nothing fits.
        """
        fastest = self.cycles.min(initial=np.inf)
        cycles = np.where(self.cycles <= fastest * (1 + EQUAL), fastest, self.cycles)
        sign = -1 if self.strategy.is_staggered else 1
        found: dict[tuple[int, ...], Plan] = {}
        for n_macros in (sign * self.macros, -sign * self.macros):
            before = len(found)
            for place in np.lexsort((-self.vectors, -self.writers, n_macros, cycles)):
                if not np.isfinite(self.cycles[place]) or len(found) == before + count:
                    break
                key = (before, int(self.vectors[place]), int(self.writers[place]))
                found.setdefault(key, self.plan(int(place)))
            if not self.strategy.is_staggered:
                break
        return list(dict.fromkeys(found.values()))


def evaluate(
    hardware: SramHardware, work: Work, strategy: Strategy, dataflow: Dataflow, *,
    macros: Sequence[int] | None = None, vectors: Sequence[int] | None = None, speeds: Sequence[int] | None = None,
) -> Grid:  # fmt: skip
    """Predicts all settings; what is given is held fixed.

    Args:
        hardware: the machine.
        work: the product.
        strategy: a row of `STRATEGIES`.
        dataflow: what is streamed.
        macros: N to try; all by default.
        vectors: n to try; all useful ones by default.
        speeds: s to try; all by default.
    """
    macro = hardware.macro
    n_choices = vectors or useful_vectors(hardware, work)
    s_choices = speeds or range(macro.slowest_write_bytes_per_cycle, macro.fastest_write_bytes_per_cycle + 1)
    m_choices = macros or _macro_choices(hardware, work, strategy, dataflow)
    spare = np.arange(SPARE_WRITERS + 1 if strategy.is_staggered else 1)
    axes = np.meshgrid(np.array(m_choices), np.array(n_choices), np.array(s_choices), spare, indexing="ij")
    count, n, s, extra = (a.ravel().astype(np.int64) for a in axes)
    filling = -(-hardware.link.bytes_per_cycle // s)
    writers = np.clip(filling + extra, 1, count) if strategy.is_staggered else count
    job, link_cycles = _job(hardware, work, strategy, dataflow, count, n, s, writers)
    fits = _fits(hardware, work, dataflow, count, n)
    if strategy.pairs:
        fits &= count % 2 == 0
    least = np.maximum(link_cycles, _sfu_cycles(hardware, work, n))
    cycles = np.where(fits, np.maximum(strategy.cycles(job) + _tail_cycles(hardware, work, job, n), least), np.inf)
    rate = np.minimum(count / (job.write + job.compute), 1 / job.share)
    return Grid(strategy, dataflow, count, n, s, writers, cycles, np.maximum(job.loads / rate, link_cycles))


def _macro_choices(hardware: SramHardware, work: Work, strategy: Strategy, dataflow: Dataflow) -> Sequence[int]:
    """All numbers of macros; whole strips where activations are streamed."""
    if dataflow is Dataflow.WEIGHTS:
        step = 2 if strategy.pairs else 1
        return range(step, hardware.arrays + 1, step)
    whole = _whole_macros(work.row_tiles(hardware), strategy)
    return range(whole, hardware.arrays + 1, whole) or (hardware.arrays,)


def _whole_macros(row_tiles: int, strategy: Strategy) -> int:
    """Macros that hold whole strips: of two banks where banks swap, of pairs where macros are paired."""
    if strategy.name == "naive_lock_step":
        return 2 * row_tiles
    return row_tiles * (1 + row_tiles % 2) if strategy.pairs else row_tiles


def _per_chunking(n: Array, figure: Callable[[int], float]) -> Array:
    """A figure of each number of vectors, worked out once for each."""
    used = np.flatnonzero(np.bincount(n))
    table = np.zeros(int(used[-1]) + 1, np.int64)
    table[used] = [figure(int(v)) for v in used]
    return table[n]


def _fits(hardware: SramHardware, work: Work, dataflow: Dataflow, macros: Array, vectors: Array) -> Array:
    """bool: whether results and inputs have room."""
    memories = hardware.memories
    actual = _per_chunking(vectors, work.chunk_vectors)
    if memories.sums == "private":
        fits = macros * actual * memories.result_row_bytes <= memories.result_bytes
    else:
        room = memories.result_bytes // (actual * slot_bytes(hardware, work, 1))
        fits = slots_needed(hardware, work, macros) <= room
    size = _per_chunking(vectors, work.chunk_bytes)
    if dataflow is Dataflow.ACTIVATIONS:
        # Chunks pass while others are read: two of them at once, unless there is only one; each of every part that is held.
        held = _sources_held(hardware, work, macros)
        size = size * np.where(_per_chunking(vectors, work.chunks) > 1, 2, 1) * held
        fits = fits & (macros % work.row_tiles(hardware) == 0)
    return fits & (size <= memories.activation_bytes)


def _sources_held(hardware: SramHardware, work: Work, macros: Any) -> Any:
    """Most sets of input vectors that the strips on so many macros read."""
    strips = np.maximum(np.asarray(macros) // work.row_tiles(hardware), 1)
    in_part = work.part_strips(hardware)
    # Strips that begin inside a part reach one part more, unless parts are whole multiples of what is held or the reverse.
    is_even = (strips % in_part == 0) | (in_part % strips == 0)
    return np.minimum(-(-strips // in_part) + np.where(is_even, 0, 1), work.sources)


def _job(
    hardware: SramHardware, work: Work, strategy: Strategy, dataflow: Dataflow, macros: Array, n: Array, s: Array, writers: Array,
) -> tuple[Job, Array]:  # fmt: skip
    """The job that settings make of a product, and the cycles that all its bytes take on the link."""
    control, link = hardware.control, hardware.link
    tiles, strips = work.tiles(hardware), work.strips(hardware)
    chunks = _per_chunking(n, work.chunks)
    traffic = chunks * _per_chunking(n, work.chunk_bytes) * work.sources
    handshake = control.handshake_cycles if strategy.has_handshake else 0
    per_vector = work.vector_cycles(hardware) + 2 * handshake
    fixed = control.read_cycles + control.accumulate_cycles + handshake
    if dataflow is Dataflow.WEIGHTS:
        residencies = tiles * chunks
        loads, waves = np.where(_stays(hardware, work, macros), np.minimum(macros, residencies), residencies), 1.0
        passes = np.ceil(residencies / loads)
        vectors = work.vectors / chunks * passes
    else:
        held = np.maximum(macros // work.row_tiles(hardware), 1)
        # How often the inputs of each part pass: once for every wave of strips that it has some of.
        waves = -(-strips // held) if work.sources == 1 else np.maximum(work.part_strips(hardware) / held, 1.0)
        loads, passes, vectors = np.full_like(n, tiles), chunks, float(work.vectors)
    rate = link.bytes_per_cycle * (link.dram.available if link.dram else 1.0)
    weights = loads * (work.weight_bytes / tiles) / rate
    others = (traffic * waves + work.vectors * work.outputs) / rate if link.carries_activations else np.zeros(n.size)
    setup = control.write_setup_cycles + 2 * handshake
    # Where every macro is written once, inputs and results cross while it computes, behind the weights.
    share = np.where(loads <= macros, weights, weights + others) / loads
    job = Job(
        loads=loads, macros=macros, write=setup + np.ceil(work.weight_bytes / tiles / s), compute=passes * fixed + vectors * per_vector,
        share=share, setup=setup, writers=writers,
    )  # fmt: skip
    return job, weights + others


def _stays(hardware: SramHardware, work: Work, macros: Any) -> Any:
    """Whether each macro would be given the same tile again and again, while weights pass, so that it is written once."""
    return (macros % work.tiles(hardware) == 0) & (work.sources == 1)


def _sfu_cycles(hardware: SramHardware, work: Work, n: Array) -> Array:
    """Cycles of the SFU, which starts and finishes every strip of every chunk."""
    unit, chunks = hardware.sfu, _per_chunking(n, work.chunks)
    elements = work.vectors / chunks * min(hardware.macro.cols, work.cols)
    return chunks * work.strips(hardware) * (2 * unit.latency_cycles + (1 + np.ceil(elements / unit.lanes)) * unit.beat_cycles)


def _tail_cycles(hardware: SramHardware, work: Work, job: Job, n: Array) -> Array:
    """Cycles of the SFU behind the last pass, where all macros are written once and so end together: one chunk of each copy."""
    unit, chunks = hardware.sfu, _per_chunking(n, work.chunks)
    elements = work.vectors / chunks * min(hardware.macro.cols, work.cols)
    last = np.clip(job.macros // work.tiles(hardware), 1, chunks) * work.strips(hardware)
    return np.where(job.loads <= job.macros, last * (unit.latency_cycles + np.ceil(elements / unit.lanes) * unit.beat_cycles), 0.0)


# -- choosing -------------------------------------------------------------------------------------------------------


def grids(hardware: SramHardware, work: Work, wanted: str, **fixed: Sequence[int] | None) -> Iterator[Grid]:
    """The settings of every strategy of a family; weights may stay where all fit, and `auto` may stream activations."""
    if wanted not in FAMILIES:
        raise UsageError(f"strategy: '{wanted}' found, one of {', '.join(FAMILIES)} expected")
    fits_whole = work.tiles(hardware) <= hardware.arrays
    for name in FAMILIES[wanted]:
        yield evaluate(hardware, work, STRATEGIES[name], Dataflow.WEIGHTS, **fixed)
        whole = _whole_macros(work.row_tiles(hardware), STRATEGIES[name])
        if fits_whole and not fixed.get("macros") and work.tiles(hardware) % whole == 0:
            resident = {**fixed, "macros": (work.tiles(hardware),)}
            yield evaluate(hardware, work, STRATEGIES[name], Dataflow.ACTIVATIONS, **resident)
        if wanted == "auto":
            yield evaluate(hardware, work, STRATEGIES[name], Dataflow.ACTIVATIONS, **fixed)


def candidates(hardware: SramHardware, work: Work, wanted: str, **fixed: Sequence[int] | None) -> tuple[Plan, ...]:
    """The best setting of every strategy and dataflow of a family, fastest first; for `auto` its variants as well.

    Raises:
        CapacityError: nothing fits.
        UsageError: no such strategy.
    """
    found = [
        plan for grid in grids(hardware, work, wanted, **fixed)
        for plan in grid.best(NEAR_BEST if wanted == "auto" and grid.strategy.is_staggered else 1)
    ]  # fmt: skip
    if not found:
        one = work.chunk_vectors(1)
        advice = "use a machine with more result memory, or fewer macros"
        needed = int(slots_needed(hardware, work, 1)) * slot_bytes(hardware, work, one)
        raise CapacityError("result memory (bytes)", needed, hardware.memories.result_bytes, hardware.name, advice)
    if wanted == "auto":
        found += [
            replace(plan, is_serpentine=True, cycles=_serpentine_cycles(hardware, work, plan))
            for plan in found
            if plan.strategy == "generalized" and plan.dataflow is Dataflow.WEIGHTS and _may_turn_back(hardware, work, plan)
        ]
    fastest = min(plan.cycles for plan in found) * (1 + EQUAL)

    def place(plan: Plan) -> tuple[float, int]:
        return max(plan.cycles, fastest), plan.macros * (-1 if STRATEGIES[plan.strategy].is_staggered else 1)

    return tuple(sorted(dict.fromkeys(found), key=place))


def _may_turn_back(hardware: SramHardware, work: Work, plan: Plan) -> bool:
    """Whether the way back keeps all macros busy: more tiles than macros, and chunks to turn at."""
    return work.chunks(plan.vectors) > 1 and work.tiles(hardware) > plan.macros


def _serpentine_cycles(hardware: SramHardware, work: Work, plan: Plan) -> float:
    """Cycles where the last tiles of a chunk, still there, are the first of the next; computing takes what it took."""
    chunks, tiles = work.chunks(plan.vectors), work.tiles(hardware)
    saved = (chunks - 1) * plan.macros * work.weight_bytes / tiles / hardware.link.bytes_per_cycle
    writing = (tiles * chunks - (chunks - 1) * plan.macros) * hardware.write_cycles(plan.bytes_per_cycle)
    control = hardware.control
    compute = chunks * (control.read_cycles + control.accumulate_cycles) + work.vectors * work.vector_cycles(hardware)
    return max(plan.cycles - saved, (tiles * compute + writing) / plan.macros)


def choose(
    hardware: SramHardware, work: Work, wanted: str = "auto", cost: Callable[[Plan], float] | None = None, most: int = 8,
    **fixed: Sequence[int] | None,
) -> Plan:  # fmt: skip
    """The plan of a product.

    Args:
        hardware: the machine.
        work: the product.
        wanted: a strategy or family of `FAMILIES`.
        cost: simulated cycles of a plan; the prediction decides without it.
        most: candidates that are simulated, fastest prediction first; the best of each strategy is always among them.
        fixed: `macros`, `vectors`, `speeds` to hold fixed.
    """
    found = candidates(hardware, work, wanted, **fixed)
    if cost is None or len(found) == 1:
        return found[0]
    # One of each way to go through the matrix, since predictions leave out how inputs and results wait for each other; and all
    # that a strategy would try by itself, so that `auto` is never slower than one of them.
    firsts: dict[tuple[Any, ...], Plan] = {}
    for plan in found:
        firsts.setdefault((plan.strategy, plan.dataflow, plan.is_serpentine), plan)
    others = [plan for name in BASELINES if wanted == "auto" for plan in _candidates_or_none(hardware, work, name, fixed)]
    tried = dict.fromkeys((*found[:most], *firsts.values(), *others))
    steps = MOST_STEPS
    if work.tiles(hardware) * work.chunks(found[0].vectors) > MANY_PASSES:
        # Predictions of long jobs are within a few percent: what is far behind is not simulated.
        fastest = min(plan.cycles for plan in found if not plan.is_serpentine)
        tried = dict.fromkeys(plan for plan in tried if plan.cycles <= FAR_BEHIND * fastest)
        steps = 0
    timed = {plan: cost(plan) for plan in tried}
    best = min(timed, key=lambda plan: timed[plan])
    while wanted == "auto" and not any(fixed.values()) and len(timed) < most + steps:
        fresh = [plan for plan in _neighbours(hardware, work, best) if plan not in timed]
        timed |= {plan: cost(plan) for plan in fresh[: most + steps - len(timed)]}
        before, best = best, min(timed, key=lambda plan: timed[plan])
        if best == before:
            break
    return replace(best, cycles=timed[best])


def _candidates_or_none(hardware: SramHardware, work: Work, name: str, fixed: Mapping[str, Any]) -> tuple[Plan, ...]:
    try:
        return candidates(hardware, work, name, **fixed)
    except CapacityError:
        return ()


def _neighbours(hardware: SramHardware, work: Work, plan: Plan) -> list[Plan]:
    """Settings one step away from a plan, those that fit: another write speed, more or fewer writers, vectors or macros."""
    choices = useful_vectors(hardware, work)
    at = min(range(len(choices)), key=lambda i: abs(choices[i] - plan.vectors))
    macro, strategy = hardware.macro, STRATEGIES[plan.strategy]
    step = _whole_macros(work.row_tiles(hardware), strategy) if plan.dataflow is Dataflow.ACTIVATIONS else 1 + strategy.pairs
    writers = (plan.writers - 1, plan.writers + 1, plan.writers * 2, plan.writers * 3 // 4) if strategy.is_staggered else ()
    wanted = [
        *({"vectors": choices[i]} for i in (at - 1, at + 1, at // 2) if 0 <= i < len(choices)),
        *({"writers": w} for w in writers if 1 <= w <= plan.macros),
        *({"bytes_per_cycle": s} for s in (macro.fastest_write_bytes_per_cycle, plan.bytes_per_cycle - 1, plan.bytes_per_cycle // 2)),
        *({"macros": m // step * step} for m in (plan.macros * 3 // 4, plan.macros // 2, plan.macros * 5 // 4)),
    ]
    found = [replace(plan, **change) for change in wanted]
    return [p for p in dict.fromkeys(found) if p != plan and _is_sound(hardware, work, p)]


def _is_sound(hardware: SramHardware, work: Work, plan: Plan) -> bool:
    macro = hardware.macro
    if not macro.slowest_write_bytes_per_cycle <= plan.bytes_per_cycle <= macro.fastest_write_bytes_per_cycle:
        return False
    if not 1 <= plan.writers <= plan.macros <= hardware.arrays or (plan.is_serpentine and not _may_turn_back(hardware, work, plan)):
        return False
    if not STRATEGIES[plan.strategy].is_staggered and plan.writers != plan.macros:
        return False
    return bool(_fits(hardware, work, plan.dataflow, np.array([plan.macros]), np.array([plan.vectors]))[0])


__all__ = [
    "Dataflow", "Grid", "Plan", "candidates", "check_setting", "choose", "evaluate", "rows_of", "slot_bytes", "slots",
    "slots_needed", "streams", "useful_vectors",
]  # fmt: skip
