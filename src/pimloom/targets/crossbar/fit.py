"""Fitting: a mapped network is placed and planned again until every local memory has room."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from pimloom.errors import CapacityError
from pimloom.targets.crossbar.cores import BALANCING
from pimloom.targets.crossbar.lower import Lowering
from pimloom.targets.crossbar.mapper import Mapped, Mapper
from pimloom.targets.crossbar.scope import Options

PLACEMENTS: Final = 3  # tries to find room by placing again
SHRINK: Final = 0.3  # what is left of the buffers of a core that is too full, at each try
LEAST_SHARE: Final = 0.005


def fitted(mapper: Mapper, mapped: Mapped, options: Options, kept: Collection[str] = ()) -> tuple[Mapped, Lowering]:
    """A mapped network, placed again where that helps, and its plan, for which local memories have room.

    Raises:
        CapacityError: a local memory is too small for it.
    """
    hardware = mapper.hardware
    mapped, lowering, full = _with_room(mapper, mapped, options, kept)
    shares: dict[int, float] = {}
    windowed: set[int] = set()
    while True:
        if not full:
            return mapped, lowering
        # Windows on the cores that are too full; then smaller tasks, until they are single vectors.
        for core in full:
            if core in windowed:
                shares[core] = shares.get(core, 1.0) * SHRINK
            windowed.add(core)
        worst = max(full, key=full.__getitem__)
        if min(shares.get(core, 1.0) for core in full) < LEAST_SHARE:
            raise CapacityError(
                f"local memory of core {worst} (bytes)", full[worst], hardware.core.local_memory.size_bytes, hardware.name,
                "use a machine with more local memory per core, or more cores",
            )  # fmt: skip
        lowering = Lowering(mapped.flow, hardware, mapped.unfolded, mapped.placement, options, shares, windowed, kept)
        full = lowering.plan()


def has_least_room(mapper: Mapper, mapped: Mapped, options: Options) -> bool:
    """Whether local memories have room for tasks of single vectors: without it nothing of `fitted` can succeed with this placement."""
    try:
        Lowering(mapped.flow, mapper.hardware, mapped.unfolded, mapped.placement, options).memory.check_least_bytes()
    except CapacityError:
        return False
    return True


def _with_room(
    mapper: Mapper, mapped: Mapped, options: Options, kept: Collection[str]
) -> tuple[Mapped, Lowering, dict[int, int]]:  # fmt: skip
    """Places again, with what layers turned out to need, while cores are too full and that helps.

    Returns:
        The placement that overfills memories least, its plan, and the cores that it overfills with the bytes they need.

    Raises:
        CapacityError: single vectors are too much for a local memory.
    """
    tried: list[tuple[int, Mapped, Lowering, dict[int, int]]] = []
    factors: dict[int, float] = {}
    for _ in range(PLACEMENTS if mapped.policy in BALANCING else 1):
        lowering = Lowering(mapped.flow, mapper.hardware, mapped.unfolded, mapped.placement, options, kept=kept)
        if mapped.policy not in BALANCING:
            lowering.memory.check_least_bytes()  # nothing is placed again, so there is no need to time what cannot fit
        full = lowering.plan()
        excess = sum(used - mapper.hardware.core.local_memory.size_bytes for used in full.values())
        tried.append((excess, mapped, lowering, full))
        if not excess or mapped.policy not in BALANCING:
            break
        wished = mapped.placement.wished_bytes
        for stage, needed in lowering.memory.bytes_by_layer().items():
            if wished.get(stage):
                factors[stage] = min(max(needed / wished[stage], 0.25), 8.0)
        # Which core a piece is on decides how much it needs, where that core is does not: only what is taken is arranged.
        placed = mapper.place(mapped.copies, mapped.policy, factors, mapped.splits, arranges=False)
        if placed is None:
            break
        mapped = placed
    _, mapped, lowering, full = best = min(tried, key=lambda one: one[0])
    if best is not tried[0]:
        mapped = mapper.arranged(mapped)
        lowering = Lowering(mapped.flow, mapper.hardware, mapped.unfolded, mapped.placement, options, kept=kept)
        full = lowering.plan()
    return mapped, lowering, full
