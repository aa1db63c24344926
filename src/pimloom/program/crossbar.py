"""Machines of kind `crossbar`: their resources, issue rules and costs.

Per core a local memory port (or a read and a write port) and a vector unit, per array group the arrays, per chip the
directed links of the network and the ports of the global memory, per pair of chips a link. Programs that rewrite arrays
also have the write drivers, per array group or per core, and per core a control that waits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, final

import numpy as np

from pimloom.errors import ProgramError
from pimloom.hardware import CrossbarHardware
from pimloom.program.isa import OPCODES
from pimloom.program.machine import CostContext, IssueRules, Machine, Resources, per_pattern
from pimloom.program.program import Groups, Program
from pimloom.program.rows import MASKED, Array, ragged

COMPONENTS = ("local memory", "vector unit", "crossbars", "network", "global memory", "chip link")
REWRITING = (*COMPONENTS, "array writing", "control")
"""Components of machines that rewrite arrays in a program."""


@final
@dataclass
class CoreResources(Resources):
    """Numbers of all resources of a machine of cores, and the routes used so far.

    Attributes:
        hardware: the machine.
        read_port: int32[cores].
        write_port: int32[cores], equal to `read_port` where the memory has one port.
        vector_unit: int32[cores].
        group: int32[groups], the arrays of each group.
        memory_port: int32[chips, ports].
        chip_link: int32[chips, chips], -1 on the diagonal.
        driver: int32[groups], the write drivers of each group's arrays; nothing where nothing is rewritten.
        control: int32[cores], what waits; nothing where nothing is rewritten.
        component: int8[R], index into COMPONENTS.
        owner: int32[R], core, group or chip it belongs to.
        weight: float64[R], crossbars of a group, 1 for everything else.
    """

    hardware: CrossbarHardware
    read_port: Array
    write_port: Array
    vector_unit: Array
    group: Array
    memory_port: Array
    chip_link: Array
    driver: Array
    control: Array
    component: Array
    owner: Array
    weight: Array
    _mesh_base: int
    _routes: dict[int, int] = field(default_factory=dict[int, int])
    _links: list[list[int]] = field(default_factory=list[list[int]])

    @property
    def components(self) -> tuple[str, ...]:
        """Names of the components."""
        return REWRITING if self.driver.size else COMPONENTS

    @property
    def shared(self) -> Array:
        """int8[R]: 1 where processors contend."""
        return np.isin(self.component, [COMPONENTS.index(name) for name in ("network", "global memory", "chip link")]).astype(np.int8)

    @property
    def units(self) -> Mapping[str, int]:
        """Units of each component; all crossbars, whether they hold weights or not, and as many drivers as they have."""
        counts = np.bincount(self.component, minlength=len(self.components))
        units = {name: int(counts[i]) for i, name in enumerate(self.components)} | {"crossbars": self.hardware.total_crossbars}
        if self.driver.size:
            units["array writing"] = self.hardware.total_cores if _shares_drivers(self.hardware) else self.hardware.total_crossbars
        return units

    @property
    def arrays(self) -> str:
        """Crossbars hold the weights."""
        return "crossbars"

    @property
    def of_processors(self) -> tuple[str, ...]:
        """What belongs to cores."""
        return "local memory", "vector unit", "crossbars"

    @property
    def cores_per_chip(self) -> int:
        """Cores of one chip."""
        return self.hardware.chip.cores

    def router_of(self, core: Array) -> Array:
        """The router of each core: row * columns + column on its chip."""
        return core % self.cores_per_chip

    def memory_router_of(self, core: Array) -> Array:
        """Where each core's traffic with the global memory enters the network.

        The memory spans the first row of cores and each column has its own way in (assumed; papers give the memory's
        bandwidth, not its place).
        """
        return core % self.cores_per_chip % self.hardware.chip.core_cols

    def routes_between(self, chip: Array, source: Array, target: Array) -> Array:
        """The numbers of the routes between routers of chips; x first, then y (no cycles among links)."""
        cols, routers = self.hardware.chip.core_cols, self.hardware.chip.core_rows * self.hardware.chip.core_cols
        code = (chip.astype(np.int64) * routers + source) * routers + target
        found, inverse = np.unique(code, return_inverse=True)
        numbers = np.empty(found.size, np.int64)
        for i, one in enumerate(found.tolist()):
            if one not in self._routes:
                ends, to = divmod(one, routers)
                on, start = divmod(ends, routers)
                self._routes[one] = len(self._links)
                self._links.append(self._path(on, divmod(start, cols), divmod(to, cols)))
            numbers[i] = self._routes[one]
        return numbers[inverse]

    def _path(self, chip: int, source: tuple[int, int], target: tuple[int, int]) -> list[int]:
        shape = self.hardware.chip
        base = self._mesh_base + chip * self._links_per_chip(self.hardware)
        if self.hardware.noc.topology == "bus":
            return [base]
        (row, col), links = source, list[int]()
        while col != target[1]:
            step = 1 if target[1] > col else -1
            links.append(base + 4 * (row * shape.core_cols + col) + (0 if step > 0 else 1))
            col += step
        while row != target[0]:
            step = 1 if target[0] > row else -1
            links.append(base + 4 * (row * shape.core_cols + col) + (2 if step > 0 else 3))
            row += step
        # The local port of the last router: two messages for one core do not arrive at once.
        links.append(base + 4 * shape.core_rows * shape.core_cols + row * shape.core_cols + col)
        return links

    @staticmethod
    def _links_per_chip(hardware: CrossbarHardware) -> int:
        nodes = hardware.chip.core_rows * hardware.chip.core_cols
        return 1 if hardware.noc.topology == "bus" else 5 * nodes

    def hops(self, routes: Array) -> Array:
        """Links of each of some routes."""
        return np.array([len(links) for links in self._links], np.int64)[routes]

    def routes(self) -> tuple[Array, Array]:
        """All routes used so far in CSR form."""
        return ragged(self._links)

    @staticmethod
    def of(hardware: CrossbarHardware, groups: Groups, *, rewrites: bool = False) -> CoreResources:
        """Numbers the resources of a machine with these array groups; with `rewrites`, those too that only rewriting takes."""
        cores = hardware.chips * hardware.chip.cores
        drivers = cores if _shares_drivers(hardware) else len(groups)
        counts: list[tuple[str, int]] = [
            ("local memory", cores),
            ("local memory", cores if hardware.core.local_memory.ports == 2 else 0),
            ("vector unit", cores),
            ("crossbars", len(groups)),
            ("network", hardware.chips * CoreResources._links_per_chip(hardware)),
            ("global memory", hardware.chips * hardware.global_memory.ports),
            ("chip link", hardware.chips * hardware.chips),
            ("array writing", drivers if rewrites else 0),
            ("control", cores if rewrites else 0),
        ]
        bases = np.cumsum([0] + [n for _, n in counts])
        numbers = [np.arange(bases[i], bases[i + 1], dtype=np.int32) for i in range(len(counts))]
        links = numbers[6].reshape(hardware.chips, hardware.chips).copy()
        np.fill_diagonal(links, -1)
        per_chip = CoreResources._links_per_chip(hardware)
        owner = np.concatenate([
            np.arange(cores), np.arange(cores) if counts[1][1] else np.zeros(0, np.int64), np.arange(cores), groups.processor,
            np.repeat(np.arange(hardware.chips), per_chip),
            np.repeat(np.arange(hardware.chips), hardware.global_memory.ports),
            np.repeat(np.arange(hardware.chips), hardware.chips),
            (np.arange(cores) if _shares_drivers(hardware) else groups.processor)[: numbers[7].size],
            np.arange(numbers[8].size),
        ]).astype(np.int32)  # fmt: skip
        component = np.repeat([REWRITING.index(name) for name, _ in counts], [n for _, n in counts]).astype(np.int8)
        weight = np.ones(component.size)
        weight[numbers[3]] = groups.crossbars
        if rewrites and not _shares_drivers(hardware):
            weight[numbers[7]] = groups.crossbars
        return CoreResources(
            hardware=hardware,
            read_port=numbers[0],
            write_port=numbers[1] if counts[1][1] else numbers[0],
            vector_unit=numbers[2],
            group=numbers[3],
            memory_port=numbers[5].reshape(hardware.chips, -1),
            chip_link=links,
            driver=numbers[7][groups.processor] if rewrites and _shares_drivers(hardware) else numbers[7],
            control=numbers[8],
            component=component,
            owner=owner,
            weight=weight,
            _mesh_base=int(bases[4]),
        )


def _shares_drivers(hardware: CrossbarHardware) -> bool:
    """Whether a core programs its arrays one after the other."""
    return hardware.crossbar.rewriting is not None and hardware.crossbar.rewriting.drivers == "core"


CrossbarCosts = CostContext[CrossbarHardware, CoreResources]


# -- cost formulas --------------------------------------------------------------------------------------------------


def _beats(size_bytes: Array, width_bytes: int) -> Array:
    return -(-size_bytes // width_bytes)


def _read(c: CrossbarCosts, at: Array, beats: Array, moved: Array, extra: Array | int = 0) -> None:
    """A phase at the read port of the local memory: `beats * read_beat_cycles`."""
    memory, rows = c.hardware.core.local_memory, c.rows[at]
    hold = beats * memory.read_beat_cycles
    c.costs.add_phase(at, c.resources.read_port[rows["processor"]], hold, hold + extra)
    c.costs.add_energy("local memory", at, beats * c.costs.reps[at] * memory.read_energy_pj_per_beat)
    c.costs.add_bytes("local memory", at, moved * c.costs.reps[at])


def _write(c: CrossbarCosts, at: Array, moved: Array, read_back: Array | int = 0) -> None:
    """A phase at the write port; `read_back` bytes are read first through the same phase (accumulation)."""
    memory, rows = c.hardware.core.local_memory, c.rows[at]
    beats, back = _beats(moved, memory.width_bytes), _beats(np.asarray(read_back), memory.width_bytes)
    hold = beats * memory.write_beat_cycles + back * memory.read_beat_cycles
    c.costs.add_phase(at, c.resources.write_port[rows["processor"]], hold, hold)
    energy = beats * memory.write_energy_pj_per_beat + back * memory.read_energy_pj_per_beat
    c.costs.add_energy("local memory", at, energy * c.costs.reps[at])
    c.costs.add_bytes("local memory", at, (moved + read_back) * c.costs.reps[at])


def _vector(c: CrossbarCosts, at: Array, operations: Array) -> None:
    """A phase at the vector unit: `ceil(operations / lanes) * beat_cycles`, its latency on top of the pass."""
    unit, rows = c.hardware.core.vector_unit, c.rows[at]
    beats = np.maximum(np.ceil(operations / unit.lanes).astype(np.int64), 1)
    hold = beats * unit.beat_cycles
    c.costs.add_phase(at, c.resources.vector_unit[rows["processor"]], hold, hold + unit.latency_cycles)
    c.costs.add_energy("vector unit", at, beats * c.costs.reps[at] * unit.energy_pj_per_beat)


def _gather_beats(c: CrossbarCosts) -> Array:
    """int64[patterns]: beats of the local memory for each gather pattern; what is masked is not read."""
    held = np.where(c.program.pattern_offset != MASKED, c.program.pattern_length, 0).astype(np.int64)
    return per_pattern(c.program, _local_beats(c, held))


def _local_beats(c: CrossbarCosts, size_bytes: Array) -> Array:
    return _beats(size_bytes, c.hardware.core.local_memory.width_bytes)


def _mvm(c: CrossbarCosts, at: Array) -> None:
    rows, machine = c.rows[at], c.hardware.crossbar
    bits = 8 * c.code_bytes[rows["node"], 1]
    sums = rows["length"] * c.sum_bytes[rows["node"]]
    c.costs.reps[at] = rows["count"]
    _read(c, at, _gather_beats(c)[rows["pattern"]], c.gather_bytes[rows["pattern"]])
    latency = np.array([machine.mvm_cycles(int(b)) for b in (8, 16)])[(bits > 8).astype(int)]
    interval = np.array([machine.mvm_interval_cycles(int(b)) for b in (8, 16)])[(bits > 8).astype(int)]
    c.costs.add_phase(at, c.resources.group[rows["arg"]], interval, latency)
    energy = np.array([machine.mvm_energy_pj(int(b)) for b in (8, 16)])[(bits > 8).astype(int)]
    c.costs.add_energy("crossbars", at, energy * c.program.groups.crossbars[rows["arg"]] * rows["count"])
    _vector(c, at, rows["length"])
    _write(c, at, sums, read_back=sums)


def _preset(c: CrossbarCosts, at: Array) -> None:
    rows = c.rows[at]
    c.costs.reps[at] = rows["count"]
    _write(c, at, rows["length"] * c.sum_bytes[rows["node"]])


def _add_partial(c: CrossbarCosts, at: Array) -> None:
    rows = c.rows[at]
    sums = rows["length"] * c.sum_bytes[rows["node"]]
    c.costs.reps[at] = rows["count"]
    _read(c, at, 2 * _local_beats(c, sums), 2 * sums)
    _vector(c, at, rows["length"])
    _write(c, at, sums)


def _finish(c: CrossbarCosts, at: Array) -> None:
    rows = c.rows[at]
    sums = rows["length"] * c.sum_bytes[rows["node"]]
    c.costs.reps[at] = rows["count"]
    _read(c, at, _local_beats(c, sums), sums)
    _vector(c, at, rows["length"])
    _write(c, at, rows["length"] * c.code_bytes[rows["node"], 0])


def _elementwise(c: CrossbarCosts, at: Array) -> None:
    rows = c.rows[at]
    first = rows["length"] * c.code_bytes[rows["node"], 1]
    second = np.where(rows["src2"] >= 0, rows["length"] * c.code_bytes[rows["node"], 2], 0)
    c.costs.reps[at] = rows["count"]
    _read(c, at, _local_beats(c, first) + _local_beats(c, second), first + second)
    _vector(c, at, rows["length"] * c.work[rows["node"]])
    _write(c, at, rows["length"] * c.code_bytes[rows["node"], 0])


def _pool(c: CrossbarCosts, at: Array) -> None:
    rows = c.rows[at]
    moved = c.gather_bytes[rows["pattern"]]
    c.costs.reps[at] = rows["count"]
    _read(c, at, _gather_beats(c)[rows["pattern"]], moved)
    _vector(c, at, moved / c.code_bytes[rows["node"], 1])
    _write(c, at, rows["length"] * c.code_bytes[rows["node"], 0])


def _stencil(c: CrossbarCosts, at: Array) -> None:
    """As a pool, but the weights of every tap are read with the data."""
    rows = c.rows[at]
    moved, beats = c.gather_bytes[rows["pattern"]], _gather_beats(c)[rows["pattern"]]
    c.costs.reps[at] = rows["count"]
    _read(c, at, 2 * beats, 2 * moved)
    _vector(c, at, moved / c.code_bytes[rows["node"], 1] + rows["length"])
    _write(c, at, rows["length"] * c.code_bytes[rows["node"], 0])


def _accumulate(c: CrossbarCosts, at: Array) -> None:
    rows = c.rows[at]
    moved = rows["length"] * c.code_bytes[rows["node"], 1]
    c.costs.reps[at] = rows["count"]
    _read(c, at, _local_beats(c, moved), moved)
    _vector(c, at, rows["length"])
    sums = rows["length"] * c.sum_bytes[rows["node"]]
    _write(c, at, sums, read_back=sums)


def _copy(c: CrossbarCosts, at: Array) -> None:
    rows = c.rows[at]
    c.costs.reps[at] = rows["count"]
    _read(c, at, _local_beats(c, rows["length"]), rows["length"])
    _write(c, at, rows["length"])


def _flits(c: CrossbarCosts, size_bytes: Array) -> Array:
    return np.maximum(_beats(size_bytes, c.hardware.noc.flit_bytes), 1)


def _network(c: CrossbarCosts, at: Array, routes: Array, size_bytes: Array) -> None:
    """A phase on a route: the message takes each link `flits * flit_cycles`, the head needs `hop_cycles` a link."""
    noc = c.hardware.noc
    flits = _flits(c, size_bytes)
    hops = c.resources.hops(routes)
    hold = flits * noc.flit_cycles
    c.costs.add_phase(at, -1 - routes, hold, hops * noc.hop_cycles + hold)
    c.costs.add_energy("network", at, flits * hops * noc.energy_pj_per_flit_hop)
    c.costs.add_bytes("network", at, size_bytes)


def _chip_link(c: CrossbarCosts, at: Array, source: Array, target: Array, size_bytes: Array) -> None:
    link = c.hardware.chip_link
    if link is None:
        raise ProgramError(f"program '{c.program.name}': a row crosses chips, but '{c.hardware.name}' has no chip_link")
    hold = np.maximum(np.ceil(size_bytes / link.bytes_per_cycle).astype(np.int64), 1)
    c.costs.add_phase(at, c.resources.chip_link[source, target], hold, hold + link.latency_cycles)
    c.costs.add_energy("chip link", at, size_bytes * link.energy_pj_per_byte)
    c.costs.add_bytes("chip link", at, size_bytes)


def _segments(c: CrossbarCosts, at: Array) -> tuple[Array, Array]:
    """Bytes and local memory beats of strided transfers: `count` segments of `length` bytes, merged where they touch."""
    rows = c.rows[at]
    size_bytes = rows["length"].astype(np.int64) * rows["count"]
    step = np.where(rows["opcode"] == OPCODES["send"], rows["src1_step"], rows["dst_step"])
    step = np.where(rows["opcode"] == OPCODES["store"], rows["src1_step"], step)
    touching = (rows["count"] == 1) | (step == rows["length"])
    beats = np.where(touching, _local_beats(c, size_bytes), rows["count"] * _local_beats(c, rows["length"]))
    return size_bytes, beats


def _send(c: CrossbarCosts, at: Array) -> None:
    rows = c.rows[at]
    target = c.beside[at]
    size_bytes, beats = _segments(c, at)
    chips = c.hardware.chip.cores
    local = rows["processor"] // chips == target // chips
    _read(c, at, beats, size_bytes)
    for group, is_local in ((at[local], True), (at[~local], False)):
        if group.size:
            mask = local if is_local else ~local
            _across(c, group, rows["processor"][mask], target[mask], size_bytes[mask])


def _across(c: CrossbarCosts, at: Array, source: Array, target: Array, size_bytes: Array) -> None:
    """Route within a chip; or route to the chip's edge, link, and route from the other chip's edge."""
    r, per_chip = c.resources, c.resources.cores_per_chip
    here, there = source // per_chip, target // per_chip
    if here[0] == there[0]:
        _network(c, at, r.routes_between(here, r.router_of(source), r.router_of(target)), size_bytes)
        return
    edge = np.zeros(at.size, np.int64)
    _network(c, at, r.routes_between(here, r.router_of(source), edge), size_bytes)
    _chip_link(c, at, here, there, size_bytes)
    _network(c, at, r.routes_between(there, edge, r.router_of(target)), size_bytes)


def _receive(c: CrossbarCosts, at: Array) -> None:
    size_bytes, beats = _segments(c, at)
    memory, rows = c.hardware.core.local_memory, c.rows[at]
    hold = beats * memory.write_beat_cycles
    c.costs.add_phase(at, c.resources.write_port[rows["processor"]], hold, hold)
    c.costs.add_energy("local memory", at, beats * memory.write_energy_pj_per_beat)
    c.costs.add_bytes("local memory", at, size_bytes)


def _memory_port(c: CrossbarCosts, at: Array, chip: Array, port: Array, size_bytes: Array, *, is_read: bool) -> None:
    memory = c.hardware.global_memory
    beats = _beats(size_bytes, memory.width_bytes)
    per_beat = memory.read_beat_cycles if is_read else memory.write_beat_cycles
    energy = memory.read_energy_pj_per_beat if is_read else memory.write_energy_pj_per_beat
    c.costs.add_phase(at, c.resources.memory_port[chip, port], beats * per_beat, beats * per_beat + memory.latency_cycles)
    c.costs.add_energy("global memory", at, beats * energy)
    c.costs.add_bytes("global memory", at, size_bytes)


def _region_chip(c: CrossbarCosts, at: Array) -> Array:
    chips = np.array([region.chip for region in c.program.regions], np.int32)
    return chips[c.rows["arg"][at]]


def _ports(c: CrossbarCosts, at: Array) -> Array:
    """Rows of a value are spread over the memory's ports by their address."""
    rows, memory = c.rows[at], c.hardware.global_memory
    offset = np.where(rows["opcode"] == OPCODES["load"], rows["src1"], rows["dst"])
    return (offset // max(memory.width_bytes * 16, 1) % memory.ports).astype(np.int64)


def _load(c: CrossbarCosts, at: Array) -> None:
    _by_chip(c, at, _load_near, _load_far)


def _store(c: CrossbarCosts, at: Array) -> None:
    _by_chip(c, at, _store_near, _store_far)


def _by_chip(c: CrossbarCosts, at: Array, near: Callable[..., None], far: Callable[..., None]) -> None:
    home = _region_chip(c, at)
    own = c.rows["processor"][at] // c.hardware.chip.cores
    for group, cost in ((at[home == own], near), (at[home != own], far)):
        if group.size:
            cost(c, group)


def _memory_routes(c: CrossbarCosts, at: Array, *, to_core: bool) -> Array:
    r, core = c.resources, c.rows["processor"][at].astype(np.int64)
    ends = (r.memory_router_of(core), r.router_of(core))
    return r.routes_between(core // r.cores_per_chip, *(ends if to_core else ends[::-1]))


def _load_near(c: CrossbarCosts, at: Array) -> None:
    size_bytes, beats = _segments(c, at)
    ports = _ports(c, at)
    _memory_port(c, at, _region_chip(c, at), ports, size_bytes, is_read=True)
    routes = _memory_routes(c, at, to_core=True)
    # The request travels to the memory before the port is asked: its hops are part of the first pass.
    hops = c.resources.hops(routes)
    c.costs.passing[at, 0] += (hops * c.hardware.noc.hop_cycles).astype(np.int32)
    _network(c, at, routes, size_bytes)
    _write_beats(c, at, beats, size_bytes)


def _load_far(c: CrossbarCosts, at: Array) -> None:
    size_bytes, beats = _segments(c, at)
    home, own = _region_chip(c, at), c.rows["processor"][at] // c.hardware.chip.cores
    _memory_port(c, at, home, _ports(c, at), size_bytes, is_read=True)
    _chip_link(c, at, home, own, size_bytes)
    _network(c, at, _memory_routes(c, at, to_core=True), size_bytes)
    _write_beats(c, at, beats, size_bytes)


def _store_near(c: CrossbarCosts, at: Array) -> None:
    size_bytes, beats = _segments(c, at)
    ports = _ports(c, at)
    _read(c, at, beats, size_bytes)
    _network(c, at, _memory_routes(c, at, to_core=False), size_bytes)
    _memory_port(c, at, _region_chip(c, at), ports, size_bytes, is_read=False)


def _store_far(c: CrossbarCosts, at: Array) -> None:
    size_bytes, beats = _segments(c, at)
    home, own = _region_chip(c, at), c.rows["processor"][at] // c.hardware.chip.cores
    _read(c, at, beats, size_bytes)
    _network(c, at, _memory_routes(c, at, to_core=False), size_bytes)
    _chip_link(c, at, own, home, size_bytes)
    _memory_port(c, at, home, _ports(c, at), size_bytes, is_read=False)


def _write_beats(c: CrossbarCosts, at: Array, beats: Array, size_bytes: Array) -> None:
    memory, rows = c.hardware.core.local_memory, c.rows[at]
    hold = beats * memory.write_beat_cycles
    c.costs.add_phase(at, c.resources.write_port[rows["processor"]], hold, hold)
    c.costs.add_energy("local memory", at, beats * memory.write_energy_pj_per_beat)
    c.costs.add_bytes("local memory", at, size_bytes)


def _general(c: CrossbarCosts, at: Array) -> None:
    """Blocks of `length` element operations with operands in global memory: src1 bytes in, dst bytes out per block."""
    rows = c.rows[at]
    chip = rows["processor"] // c.hardware.chip.cores
    port = rows["arg"] % c.hardware.global_memory.ports
    c.costs.reps[at] = rows["count"]
    memory, reps = c.hardware.global_memory, rows["count"]
    read_beats = _beats(rows["src1"], memory.width_bytes)
    write_beats = _beats(rows["dst"], memory.width_bytes)
    routes = _memory_routes(c, at, to_core=True)
    flits = _flits(c, rows["src1"] + rows["dst"])
    hops = c.resources.hops(routes)
    noc = c.hardware.noc
    hold = read_beats * memory.read_beat_cycles
    c.costs.add_phase(at, c.resources.memory_port[chip, port], hold, hold + memory.latency_cycles)
    c.costs.add_phase(at, -1 - routes, flits * noc.flit_cycles, hops * noc.hop_cycles + flits * noc.flit_cycles)
    _vector(c, at, rows["length"])
    hold = write_beats * memory.write_beat_cycles
    c.costs.add_phase(at, c.resources.memory_port[chip, port], hold, hold + memory.latency_cycles)
    c.costs.add_energy("network", at, flits * hops * noc.energy_pj_per_flit_hop * reps)
    energy = read_beats * memory.read_energy_pj_per_beat + write_beats * memory.write_energy_pj_per_beat
    c.costs.add_energy("global memory", at, energy * reps)
    c.costs.add_bytes("global memory", at, (rows["src1"] + rows["dst"]) * reps)
    c.costs.add_bytes("network", at, (rows["src1"] + rows["dst"]) * reps)


def _write_weights(c: CrossbarCosts, at: Array) -> None:
    """One repetition per line, some rows of the group: the chip's global memory, the way to the core, the write drivers.

    A line asks for the memory when the line before has left it, so that at most one line of a group waits at its drivers.
    """
    rows, groups, rewriting = c.rows[at], c.program.groups, c.hardware.crossbar.rewriting
    if rewriting is None:
        name = f"program '{c.program.name}'"
        raise ProgramError(f"{name}: a row writes weights, but '{c.hardware.name}' has no crossbar.rewriting; use a machine that has it")
    group, reps = rows["arg"], rows["count"].astype(np.int64)
    c.costs.reps[at] = rows["count"]
    size_bytes = -(-rows["length"].astype(np.int64) // reps)
    memory, noc = c.hardware.global_memory, c.hardware.noc
    beats, flits = _beats(size_bytes, memory.width_bytes), _flits(c, size_bytes)
    routes = _memory_routes(c, at, to_core=True)
    hops = c.resources.hops(routes)
    port = c.resources.memory_port[rows["processor"] // c.hardware.chip.cores, group % memory.ports]
    c.costs.add_phase(at, port, beats * memory.read_beat_cycles, beats * memory.read_beat_cycles + memory.latency_cycles)
    c.costs.add_phase(at, -1 - routes, flits * noc.flit_cycles, hops * noc.hop_cycles + flits * noc.flit_cycles)
    height = (groups.row_stop - groups.row_start)[group].astype(np.int64)
    in_turn = groups.crossbars[group].astype(np.int64) if _shares_drivers(c.hardware) else np.ones_like(reps)
    hold = -(-height // reps) * rewriting.row_cycles * in_turn
    c.costs.add_phase(at, c.resources.driver[group], hold, hold)
    c.costs.add_energy("global memory", at, beats * reps * memory.read_energy_pj_per_beat)
    c.costs.add_energy("network", at, flits * hops * reps * noc.energy_pj_per_flit_hop)
    c.costs.add_energy("array writing", at, _cells_per_row(c, group) * height * rewriting.cell_energy_pj)
    for component in ("global memory", "network", "array writing"):
        c.costs.add_bytes(component, at, size_bytes * reps)


def _cells_per_row(c: CrossbarCosts, group: Array) -> Array:
    """Cells in use in a row of each group."""
    groups = c.program.groups
    bits = np.array([8 * matrix.codes.dtype.itemsize for matrix in c.program.matrices])[groups.matrix[group]]
    per_weight = np.array([c.hardware.crossbar.columns_per_weight(b) for b in (8, 16)])[(bits > 8).astype(int)]
    return (groups.column_stop - groups.column_start)[group].astype(np.int64) * per_weight


def _gather(c: CrossbarCosts, at: Array) -> None:
    """As a copy, of which what is masked is written only."""
    rows = c.rows[at]
    c.costs.reps[at] = rows["count"]
    _read(c, at, _gather_beats(c)[rows["pattern"]], c.gather_bytes[rows["pattern"]])
    _write(c, at, rows["length"])


def _wait(c: CrossbarCosts, at: Array) -> None:
    rows = c.rows[at]
    length = rows["length"].astype(np.int64)
    c.costs.add_phase(at, c.resources.control[rows["processor"]], np.zeros_like(length), length)


# -- the machine ----------------------------------------------------------------------------------------------------


def _resources(program: Program) -> CoreResources:
    rewrites = bool(np.isin(program.rows["opcode"], (OPCODES["write_weights"], OPCODES["wait"])).any())
    return CoreResources.of(crossbar_of(program), program.groups, rewrites=rewrites)


def crossbar_of(program: Program) -> CrossbarHardware:
    """The machine of a program for machines of kind `crossbar`; ProgramError if it is another."""
    machine = program.hardware
    if not isinstance(machine, CrossbarHardware):
        raise ProgramError(f"program '{program.name}': a machine of kind {machine.kind} found, crossbar expected")
    return machine


def _rules(machine: CrossbarHardware) -> IssueRules:
    issue, noc = machine.core.issue, machine.noc
    return IssueRules(
        window=issue.window, queue=issue.transfers, cycles=issue.cycles, in_order=issue.order == "in_order",
        is_serial=issue.window == 1, detaches_transfers=machine.core.communication == "asynchronous",
        handshake_cycles=max(2 * noc.hop_cycles, 1), hop_cycles=noc.hop_cycles, is_wormhole=noc.switching == "wormhole",
    )  # fmt: skip


_BURST: Final = ("processor", "node", "length", "count")
_READS: Final[dict[str, tuple[str, ...]]] = {
    "mvm": (*_BURST, "arg", "pattern"), "preset": _BURST, "add_partial": _BURST, "finish": _BURST, "vector": (*_BURST, "src2"),
    "pool": (*_BURST, "pattern"), "stencil": (*_BURST, "pattern"), "accumulate": _BURST, "copy": _BURST,
    "load": (*_BURST, "arg", "src1", "dst_step"), "store": (*_BURST, "arg", "dst", "src1_step"), "send": (*_BURST, "src1_step"),
    "receive": (*_BURST, "dst_step"), "general": (*_BURST, "arg", "src1", "dst"),
}  # fmt: skip


def _peers(program: Program) -> Array:
    """int64[n]: the processor at the other end of a message, -1 for none."""
    return np.where(program.partner >= 0, program.rows["processor"][program.partner], -1).astype(np.int64)


CROSSBAR = Machine("crossbar", _resources, _rules, {
    "mvm": _mvm, "preset": _preset, "add_partial": _add_partial, "finish": _finish, "vector": _elementwise, "pool": _pool,
    "stencil": _stencil, "accumulate": _accumulate, "copy": _copy, "load": _load, "store": _store, "send": _send,
    "receive": _receive, "general": _general, "write_weights": _write_weights, "gather": _gather, "wait": _wait,
}, _READS, _peers)  # fmt: skip
