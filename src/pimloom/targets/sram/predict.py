"""Predictions: what settings of a product take by the closed form of their strategy, and the most promising of them.

Settings are tried all at once (`Grid`): every number of macros, every useful number of vectors, write speeds. What a setting takes
is the strategy's closed form (`strategies`) with overheads, start-up and tail, and with the link's share of inputs and results.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final, final

import numpy as np

from pimloom.errors import CapacityError, UsageError
from pimloom.hardware import SramHardware
from pimloom.targets.sram.plan import (
    Dataflow,
    Plan,
    fits,
    most_macros,
    per_chunking,
    slot_bytes,
    slots_needed,
    stays,
    useful_vectors,
    whole_macros,
)  # fmt: skip
from pimloom.targets.sram.strategies import FAMILIES, STRATEGIES, Job, Strategy
from pimloom.targets.sram.work import Work

Array = np.ndarray[Any, np.dtype[Any]]

SPARE_WRITERS: Final = 3
"""Writers tried beyond those that fill the link: they hide the setup of the next write."""

EQUAL: Final = 0.005
"""Predictions that differ by less are taken for the same."""

NEAR_BEST: Final = 4
"""Settings of the staggered strategy that `auto` considers for each dataflow."""

_LOOKED_AT: Final = 4096
"""Fastest settings of a grid that are put in order."""


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

    @property
    def least_bound(self) -> float:
        """Cycles that no setting that fits can do without; infinite if none fits."""
        return float(self.bound[np.isfinite(self.cycles)].min(initial=np.inf))

    def best(self) -> list[Plan]:
        """The fastest settings; where macros take turns, of different numbers of vectors or writers, with many and with few macros.

        Among settings within `EQUAL` of the fastest, macros that take turns are better many, with as many writers as fill each
        other's gaps: what is written ahead bridges a late input. Others write together and are better few.

        Returns:
            One plan, or at most 2 `NEAR_BEST` where macros take turns; none if nothing fits.
        """
        is_staggered = self.strategy.is_staggered
        fastest, looked_at = self.cycles.min(initial=np.inf), min(_LOOKED_AT, self.cycles.size)
        least = max(fastest * (1 + EQUAL), np.partition(self.cycles, looked_at - 1)[looked_at - 1])
        at = np.flatnonzero((self.cycles <= least) & np.isfinite(self.cycles))
        cycles = np.where(self.cycles[at] <= fastest * (1 + EQUAL), fastest, self.cycles[at])
        found: dict[tuple[int, ...], Plan] = {}
        for sign in (-1, 1) if is_staggered else (1,):
            before = len(found)
            for place in at[np.lexsort((-self.vectors[at], -self.writers[at], sign * self.macros[at], cycles))]:
                if len(found) == before + (NEAR_BEST if is_staggered else 1):
                    break
                found.setdefault((before, int(self.vectors[place]), int(self.writers[place])), self.plan(int(place)))
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
        speeds: s to try; the fastest and halves of it by default.
    """
    macro = hardware.macro
    n_choices = vectors or useful_vectors(hardware, work)
    s_choices = speeds or _speeds(macro.slowest_write_bytes_per_cycle, macro.fastest_write_bytes_per_cycle)
    m_choices = macros or _macro_choices(hardware, work, strategy, dataflow)
    spare = np.arange(SPARE_WRITERS + 1 if strategy.is_staggered else 1)
    axes = np.meshgrid(np.array(m_choices), np.array(n_choices), np.array(s_choices), spare, indexing="ij")
    count, n, s, extra = (a.ravel().astype(np.int64) for a in axes)
    filling = -(-hardware.link.bytes_per_cycle // s)
    writers = np.clip(filling + extra, 1, count) if strategy.is_staggered else count
    if not macros:
        count = np.minimum(count, per_chunking(n, lambda one: most_macros(hardware, work, strategy, dataflow, one)))
        writers = np.minimum(writers, count)
    job, link_cycles = _job(hardware, work, strategy, dataflow, count, n, s, writers)
    has_room = fits(hardware, work, strategy, dataflow, count, n)
    least = np.maximum(link_cycles, _sfu_cycles(hardware, work, n))
    cycles = np.where(has_room, np.maximum(strategy.cycles(job) + _tail_cycles(hardware, work, job, n), least), np.inf)
    mean_write = job.setup + work.weight_bytes / work.tiles(hardware) / s
    rate = np.minimum(count / (mean_write + job.compute), 1 / job.share)
    return Grid(strategy, dataflow, count, n, s, writers, cycles, np.maximum(job.loads / rate, link_cycles))


def _speeds(slowest: int, fastest: int) -> list[int]:
    """The fastest, halves of it, and the slowest."""
    halves = [fastest >> i for i in range(fastest.bit_length()) if fastest >> i > slowest]
    return [*halves, slowest]


def _macro_choices(hardware: SramHardware, work: Work, strategy: Strategy, dataflow: Dataflow) -> Sequence[int]:
    """All numbers of macros; whole strips where activations are streamed."""
    if dataflow is Dataflow.WEIGHTS:
        step = 2 if strategy.pairs else 1
        return range(step, hardware.arrays + 1, step) or (hardware.arrays,)
    whole = whole_macros(work.row_tiles(hardware), strategy)
    return range(whole, hardware.arrays + 1, whole) or (hardware.arrays,)


def _job(
    hardware: SramHardware, work: Work, strategy: Strategy, dataflow: Dataflow, macros: Array, n: Array, s: Array, writers: Array,
) -> tuple[Job, Array]:  # fmt: skip
    """The job that settings make of a product, and the cycles that all its bytes take on the link."""
    control, link = hardware.control, hardware.link
    tiles, strips = work.tiles(hardware), work.strips(hardware)
    chunks = per_chunking(n, work.chunks)
    traffic = per_chunking(n, work.loaded_bytes) * work.sources
    handshake = control.handshake_cycles if strategy.has_handshake else 0
    per_vector = work.vector_cycles(hardware) + 2 * handshake
    fixed = control.read_cycles + control.accumulate_cycles + handshake
    if dataflow is Dataflow.WEIGHTS:
        residencies = tiles * chunks
        loads, waves = np.where(stays(hardware, work, macros), np.minimum(macros, residencies), residencies), 1.0
        passes = np.ceil(residencies / loads)
        vectors = work.vectors / chunks * passes
    else:
        held = np.maximum(macros // work.row_tiles(hardware), 1)
        # How often the inputs of each part pass: once for every wave of strips that it has some of.
        waves = -(-strips // held) if work.sources == 1 else np.maximum(work.part_strips(hardware) / held, 1.0)
        loads, passes, vectors = np.full_like(n, tiles), chunks, float(work.vectors)
    rate = _link_rate(hardware)
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


def _link_rate(hardware: SramHardware) -> float:
    """Bytes per cycle of the link, refreshes taken off."""
    link = hardware.link
    return link.bytes_per_cycle * (link.dram.available if link.dram else 1.0)


def _sfu_cycles(hardware: SramHardware, work: Work, n: Array) -> Array:
    """Cycles of the SFU, which starts and finishes every strip of every chunk."""
    unit, chunks = hardware.sfu, per_chunking(n, work.chunks)
    elements = work.vectors / chunks * min(hardware.macro.cols, work.cols)
    return chunks * work.strips(hardware) * (2 * unit.latency_cycles + (1 + np.ceil(elements / unit.lanes)) * unit.beat_cycles)


def _tail_cycles(hardware: SramHardware, work: Work, job: Job, n: Array) -> Array:
    """Cycles of the SFU behind the last pass, where all macros are written once and so end together: one chunk of each copy."""
    unit, chunks = hardware.sfu, per_chunking(n, work.chunks)
    elements = work.vectors / chunks * min(hardware.macro.cols, work.cols)
    last = np.clip(job.macros // work.tiles(hardware), 1, chunks) * work.strips(hardware)
    return np.where(job.loads <= job.macros, last * (unit.latency_cycles + np.ceil(elements / unit.lanes) * unit.beat_cycles), 0.0)


# -- the most promising ---------------------------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Promising:
    """Settings that may be the fastest.

    Attributes:
        plans: fastest prediction first.
        least_bound: cycles that no setting of the family can do without.
    """

    plans: tuple[Plan, ...]
    least_bound: float


def promising(hardware: SramHardware, work: Work, wanted: str, **fixed: Sequence[int] | None) -> Promising:
    """The best settings of every strategy and dataflow of a family; for `auto` its variants as well.

    Raises:
        CapacityError: nothing fits.
        UsageError: no such strategy, or a number of macros that it cannot do with.
    """
    if wanted not in FAMILIES:
        raise UsageError(f"strategy: '{wanted}' found, one of {', '.join(FAMILIES)} expected")
    held = tuple((name, tuple(values)) for name, values in fixed.items() if values)
    grids = [_summary(hardware, work, *one, held) for one in _ways(hardware, work, wanted, "macros" in dict(held))]
    found = [plan for plans, _ in grids for plan in plans]
    if not found:
        raise _nothing_fits(hardware, work, wanted, fixed.get("macros") or ())
    least = min(bound for _, bound in grids)
    if wanted == "auto":
        backwards = [
            turned_back(hardware, work, plan) for plan in found if plan.strategy == "generalized" and may_turn_back(hardware, work, plan)
        ]
        found, least = found + backwards, min([least, *(plan.bound_cycles for plan in backwards)])
    fastest = min(plan.cycles for plan in found) * (1 + EQUAL)

    def place(plan: Plan) -> tuple[float, int]:
        return max(plan.cycles, fastest), plan.macros * (-1 if STRATEGIES[plan.strategy].is_staggered else 1)

    return Promising(tuple(sorted(dict.fromkeys(found), key=place)), least)


def candidates(hardware: SramHardware, work: Work, wanted: str, **fixed: Sequence[int] | None) -> tuple[Plan, ...]:
    """The plans of `promising`."""
    return promising(hardware, work, wanted, **fixed).plans


def _ways(hardware: SramHardware, work: Work, wanted: str, is_held: bool) -> Iterator[tuple[str, Dataflow, bool]]:
    """(strategy, dataflow, whether all tiles are held) of a family: weights may stay where all fit; `auto` may stream activations."""
    for name in FAMILIES[wanted]:
        yield name, Dataflow.WEIGHTS, False
        tiles = work.tiles(hardware)
        if not is_held and tiles <= hardware.arrays and tiles % whole_macros(work.row_tiles(hardware), STRATEGIES[name]) == 0:
            yield name, Dataflow.ACTIVATIONS, True
        if wanted == "auto":
            yield name, Dataflow.ACTIVATIONS, False


@lru_cache(maxsize=1024)
def _summary(
    hardware: SramHardware, work: Work, name: str, dataflow: Dataflow, is_resident: bool, held: tuple[tuple[str, tuple[int, ...]], ...]
) -> tuple[list[Plan], float]:  # fmt: skip
    """The best settings of a strategy and dataflow, and the least bound of all its settings."""
    fixed = {**dict(held), **({"macros": (work.tiles(hardware),)} if is_resident else {})}
    grid = evaluate(hardware, work, STRATEGIES[name], dataflow, **fixed)
    return grid.best(), grid.least_bound


def _nothing_fits(hardware: SramHardware, work: Work, wanted: str, macros: Sequence[int]) -> UsageError | CapacityError:
    are_paired = all(STRATEGIES[name].pairs for name in FAMILIES[wanted])
    if are_paired and hardware.arrays == 1:
        advice = f"macros of '{wanted}' work in pairs; choose another strategy or a larger machine"
        return CapacityError("macros", 2, 1, hardware.name, advice)
    if are_paired and macros and all(count % 2 for count in macros):
        return UsageError(f"macros: {macros[0]} found, an even number expected by '{wanted}', whose macros work in pairs")
    advice = "use a machine with more result memory, or fewer macros"
    needed = int(slots_needed(hardware, work, 1)) * slot_bytes(hardware, work, work.chunk_vectors(1))
    return CapacityError("result memory (bytes)", needed, hardware.memories.result_bytes, hardware.name, advice)


def may_turn_back(hardware: SramHardware, work: Work, plan: Plan) -> bool:
    """Whether the way back keeps all macros busy: weights are streamed, more tiles than macros, and chunks to turn at."""
    return plan.dataflow is Dataflow.WEIGHTS and work.chunks(plan.vectors) > 1 and work.tiles(hardware) > plan.macros


def turned_back(hardware: SramHardware, work: Work, plan: Plan) -> Plan:
    """A plan that goes there and back: the last tiles of a chunk, still there, are the first of the next."""
    chunks, tiles, rate = work.chunks(plan.vectors), work.tiles(hardware), _link_rate(hardware)
    written = tiles * chunks - (chunks - 1) * plan.macros
    tile_bytes, control = work.weight_bytes / tiles, hardware.control
    saved = (tiles * chunks - written) * tile_bytes / rate
    others = work.loaded_bytes(plan.vectors) * work.sources + work.vectors * work.outputs if hardware.link.carries_activations else 0
    compute = chunks * (control.read_cycles + control.accumulate_cycles) + work.vectors * work.vector_cycles(hardware)
    of_macros = (tiles * compute + written * (control.write_setup_cycles + tile_bytes / plan.bytes_per_cycle)) / plan.macros
    bound = max((written * tile_bytes + others) / rate, of_macros)
    return replace(plan, is_serpentine=True, cycles=max(plan.cycles - saved, bound), bound_cycles=bound)


def priced(hardware: SramHardware, work: Work, plan: Plan, cycles: float | None = None) -> Plan:
    """A plan with what it takes on a machine: as predicted, or as given, and its bound there."""
    held = {"macros": (plan.macros,), "vectors": (plan.vectors,), "speeds": (plan.bytes_per_cycle,)}
    grid = evaluate(hardware, work, STRATEGIES[plan.strategy], plan.dataflow, **held)
    place = int(np.argmin(np.abs(grid.writers - plan.writers)))
    straight = replace(plan, cycles=float(grid.cycles[place]), bound_cycles=float(grid.bound[place]), is_serpentine=False)
    found = turned_back(hardware, work, straight) if plan.is_serpentine else straight
    return found if cycles is None else replace(found, cycles=cycles)


__all__ = ["EQUAL", "Grid", "Promising", "candidates", "evaluate", "may_turn_back", "priced", "promising", "turned_back"]
