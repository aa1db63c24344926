"""Distances on a machine as pimsim-nn's table of switches says them: time and energy of one flit from end to end."""

from __future__ import annotations

from typing import final

import numpy as np

from pimloom.hardware import CrossbarHardware
from pimloom.program.rows import Array


@final
class Distances:
    """Time and energy of a flit between cores, and between cores and the global memory.

    pimsim-nn has no links: every flit takes the time of the whole path. On a mesh that is `hops * hop_cycles +
    flit_cycles`; another chip adds its link. The memory of every chip is one memory there, and answers after
    `latency_cycles`.
    """

    def __init__(self, hardware: CrossbarHardware) -> None:
        """Takes the machine."""
        self.hardware = hardware
        self._ns = 1 / hardware.clock_ghz

    def flit_ns(self, source: int, target: int) -> float:
        """Time of one flit from core to core."""
        one, other = np.array([source]), np.array([target])
        return float(self.between(one, other)[0][0, 0])

    def between(self, sources: Array, targets: Array) -> tuple[Array, Array]:
        """float64[a, b] twice: ns and pJ of one flit between cores."""
        noc, link, cores = self.hardware.noc, self.hardware.chip_link, self.hardware.chip.cores
        hops = self._hops(sources % cores, targets % cores)
        far = (sources // cores)[:, None] != (targets // cores)[None, :]
        edge = np.zeros(1, np.int64)
        hops = np.where(far, self._hops(sources % cores, edge) + self._hops(edge, targets % cores), hops)
        cycles = hops * noc.hop_cycles + float(noc.flit_cycles)
        energy = hops * noc.energy_pj_per_flit_hop
        if link is not None:
            cycles = cycles + far * (link.latency_cycles + noc.flit_bytes / link.bytes_per_cycle)
            energy = energy + far * link.energy_pj_per_byte * noc.flit_bytes
        return cycles * self._ns, energy

    def to_memory(self) -> tuple[Array, Array]:
        """float64[cores] twice: ns and pJ of one flit between each core and the global memory."""
        noc, cores = self.hardware.noc, np.arange(self.hardware.chip.cores)
        # The memory lies along the first row of cores, as in `CoreResources.memory_router_of`.
        hops = np.diagonal(self._hops(cores, cores % self.hardware.chip.core_cols))
        cycles = hops * noc.hop_cycles + noc.flit_cycles + self.hardware.global_memory.latency_cycles
        chips = self.hardware.chips
        return np.tile(cycles * self._ns, chips), np.tile(hops * noc.energy_pj_per_flit_hop, chips)

    def _hops(self, sources: Array, targets: Array) -> Array:
        """int64[a, b]: links between routers of a chip, the last one's own port included."""
        if self.hardware.noc.topology == "bus":
            return np.ones((sources.size, targets.size), np.int64)
        columns = self.hardware.chip.core_cols
        rows_apart = np.abs((sources // columns)[:, None] - (targets // columns)[None, :])
        return rows_apart + np.abs((sources % columns)[:, None] - (targets % columns)[None, :]) + 1
