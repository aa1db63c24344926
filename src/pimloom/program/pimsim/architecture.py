"""pimsim-nn's configuration files: the architecture (units, memories, powers) and the network table.

Missing keys take pimsim-nn's defaults. Keys that it does not know or that have no effect on its results are listed in
`Architecture.without_effect`, so that a misspelt one is seen.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NoReturn, final

import numpy as np

from pimloom.errors import HardwareError
from pimloom.hardware.pimsim import MatrixPart, MemoryPart
from pimloom.program.rows import Array

_ONE_MIB: Final = 1 << 20


@final
@dataclass(frozen=True, slots=True)
class NetworkTable:
    """Times and energies from switch to switch. S switches.

    Attributes:
        switch: int64[S], id of each switch, ascending.
        latency_ns: float64[S, S], time of one flit from [row] to [column]; 0 where the file has no such pair.
        energy_pj: float64[S, S], energy of one flit.
        is_known: bool[S, S], whether the file has the pair.
    """

    switch: Array
    latency_ns: Array
    energy_pj: Array
    is_known: Array

    def index(self, switch: int) -> int:
        """Row of a switch, -1 if the file has none of that id."""
        at = int(np.searchsorted(self.switch, switch))
        return at if at < self.switch.size and self.switch[at] == switch else -1


@final
@dataclass(frozen=True, slots=True)
class Architecture:
    """What a pimsim-nn architecture file says, as far as it has an effect there.

    Attributes:
        source: the file, for messages.
        core_count: cores stated; the program decides how many there are.
        period_ns: clock of all cores.
        rob_size: matrix, vector and transfer instructions of a core in flight.
        vector_width: elements of a vector beat.
        vector_ns: time of a vector beat.
        memory_switch: switch of the global memory.
        bus_bytes: bytes of a flit.
        matrix: the crossbars of a core.
        local_memory: of each core.
        global_memory: of the chip.
        core_static_power_mw: fetch, decode, register file, scalar, vector and transfer units of one core at rest,
            without its local memory.
        vector_energy_pj: of a vector beat: the unit, two register reads and one register write.
        fetch_power_mw: at work, per instruction fetched and clock period.
        sim_mode: 1 for one sample, 0 for the steady state.
        sim_time_ms: time simulated.
        network: times from switch to switch.
        without_effect: keys found that change nothing, dotted.
    """

    source: str
    core_count: int
    period_ns: float
    rob_size: int
    vector_width: int
    vector_ns: float
    memory_switch: int
    bus_bytes: int
    matrix: MatrixPart
    local_memory: MemoryPart
    global_memory: MemoryPart
    core_static_power_mw: float
    vector_energy_pj: float
    fetch_power_mw: float
    sim_mode: int
    sim_time_ms: float
    network: NetworkTable
    without_effect: tuple[str, ...]


_STATIC: Final = (
    "inst_fetch", "inst_decode", "inst_decode_offset", "scalar", "reg_file", "vector_alu", "vector_reg", "transfer",
)  # fmt: skip
_UNUSED_POWERS: Final = (
    "inst_decode_dynamic_power", "inst_decode_offset_dynamic_power", "scalar_dynamic_power",
    "reg_file_read_dynamic_power", "reg_file_write_dynamic_power",
)  # fmt: skip
"""pimsim-nn charges these per process wake-up, which no model of the hardware can follow: refused unless 0."""


@final
class _Section:
    """One object of a configuration file; remembers which keys were read."""

    def __init__(self, source: str, path: str, value: Any) -> None:
        if not isinstance(value, dict):
            raise HardwareError(f"{source}: {path or 'the file'} is {_shown(value)}, an object expected")
        self.source, self.path = source, path
        self.value: dict[str, Any] = value
        self.sections: list[_Section] = []
        self._read: set[str] = set()

    def section(self, key: str) -> _Section:
        self._read.add(key)
        found = _Section(self.source, self._name(key), self.value.get(key, {}))
        self.sections.append(found)
        return found

    def number(self, key: str, default: float, *, least: float = 0) -> float:
        self._read.add(key)
        found: Any = self.value.get(key, default)
        if isinstance(found, bool) or not isinstance(found, (int, float)) or not math.isfinite(found) or found < least:
            self.fail(key, found, f"a number of at least {least:g}")
        return float(found)

    def integer(self, key: str, default: int, *, least: int = 0) -> int:
        found = self.number(key, default, least=least)
        if found != int(found) or abs(found) >= 1 << 31:
            self.fail(key, found, f"an integer of at least {least}")
        return int(found)

    def boolean(self, key: str, default: bool) -> bool:
        self._read.add(key)
        found: Any = self.value.get(key, default)
        if not isinstance(found, bool):
            self.fail(key, found, "true or false")
        return bool(found)

    def text(self, key: str, default: str) -> str:
        self._read.add(key)
        found: Any = self.value.get(key, default)
        if not isinstance(found, str):
            self.fail(key, found, "a text")
        return str(found)

    def pair(self, key: str, default: tuple[int, int]) -> tuple[int, int]:
        self._read.add(key)
        found: list[Any] = self.value.get(key, list(default))
        if type(found) is not list or len(found) != 2 or not all(type(v) is int and 0 < v < 1 << 31 for v in found):
            self.fail(key, found, "[rows, columns]")
        return int(found[0]), int(found[1])

    def fail(self, key: str, found: Any, expected: str) -> NoReturn:
        raise HardwareError(f"{self.source}: {self._name(key)} is {_shown(found)}, {expected} expected")

    def leftovers(self) -> list[str]:
        own = [self._name(key) for key in self.value if key not in self._read]
        return own + [name for one in self.sections for name in one.leftovers()]

    def _name(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def read_architecture(path: str | os.PathLike[str], *, network: str | os.PathLike[str] | None = None) -> Architecture:
    """Reads an architecture file and the network file that it names.

    Args:
        path: the JSON file.
        network: network file to take instead; the file's own name is relative to the folder of `path`.

    Raises:
        HardwareError: a file is missing or malformed; the message names file, key, found and expected.
    """
    source = str(path)
    root = _Section(source, "", _load(Path(path)))
    chip, simulation = root.section("chip_config"), root.section("sim_config")
    core, links = chip.section("core_config"), chip.section("network_config")
    named = links.text("net_config_file_path", "")
    if network is None and not named:
        raise HardwareError(
            f"{source}: chip_config.network_config.net_config_file_path is not stated; name a network file in it or with the call"
        )
    _refuse_unused(core)
    found = Architecture(
        source=source, core_count=chip.integer("core_cnt", 1, least=1),
        period_ns=_positive(core, "period", 1.0), rob_size=core.integer("rob_size", 1, least=1),
        vector_width=core.integer("vector_width", 16, least=1), vector_ns=core.number("vector_latency_cycle", 8),
        memory_switch=core.integer("global_memory_switch_id", -10, least=-(1 << 31)),
        bus_bytes=links.integer("bus_width", 16, least=1), matrix=_matrix(core.section("matrix_config")),
        local_memory=_memory(core.section("local_memory_config")), global_memory=_memory(chip.section("global_memory_config")),
        core_static_power_mw=sum(core.number(f"{unit}_static_power", 0) for unit in _STATIC),
        vector_energy_pj=core.number("vector_alu_dynamic_energy", 0) + 2 * core.number("vector_reg_read_dynamic_energy", 0)
        + core.number("vector_reg_write_dynamic_energy", 0),
        fetch_power_mw=core.number("inst_fetch_dynamic_power", 0),
        sim_mode=simulation.integer("sim_mode", 0), sim_time_ms=_positive(simulation, "sim_time", 1.0),
        network=read_network(network if network is not None else Path(path).parent / named),
        without_effect=(),
    )  # fmt: skip
    if found.sim_mode > 1:
        simulation.fail("sim_mode", found.sim_mode, "0 (steady state) or 1 (one sample)")
    if chip.integer("global_memory_switch_id", -10, least=-(1 << 31)) != found.memory_switch:
        chip.fail("global_memory_switch_id", chip.value["global_memory_switch_id"], f"{found.memory_switch}, as in core_config,")
    return replace(found, without_effect=tuple(root.leftovers()))


def _refuse_unused(core: _Section) -> None:
    for key in _UNUSED_POWERS:
        if core.number(key, 0) != 0:
            core.fail(key, core.value[key], "0 (pimsim-nn charges it per wake-up of a process, which cannot be reproduced)")


def _positive(section: _Section, key: str, default: float) -> float:
    found = section.number(key, default)
    if found == 0:
        section.fail(key, found, "a number above 0")
    return found


def _memory(section: _Section) -> MemoryPart:
    period = _positive(section, "period", 1.0)
    return MemoryPart(
        width_bytes=section.integer("data_width", 16, least=1),
        read_ns=section.integer("read_latency_cycle", 8) * period,
        write_ns=section.integer("write_latency_cycle", 10) * period,
        static_power_mw=section.number("static_power", 1.0),
        read_energy_pj=section.number("read_dynamic_energy", 0), write_energy_pj=section.number("write_dynamic_energy", 0),
        memory_bytes=section.integer("memory_size", _ONE_MIB, least=1),
    )  # fmt: skip


def _matrix(section: _Section) -> MatrixPart:
    rows, columns = section.pair("xbar_size", (128, 128))
    return MatrixPart(
        crossbars=section.integer("xbar_array_count", 0),
        period_ns=_positive(section, "period", 1 / 1.28), is_pipelined=section.boolean("pipeline_mode", True),
        rows=rows, columns=columns, cell_bits=section.integer("cell_precision", 2, least=1),
        dac_bits=section.integer("dac_resolution", 1, least=1), dac_count=section.integer("dac_count", 128, least=1),
        dac_cycles=section.integer("dac_latency_cycle", 1), crossbar_ns=section.number("xbar_latency", 30),
        sample_hold_cycles=section.integer("sample_hold_latency_cycle", 1),
        adc_count=section.integer("adc_count", 1, least=1), adc_cycles=section.integer("adc_latency_cycle", 1),
        shift_adder_cycles=section.integer("shift_adder_latency_cycle", 1),
        output_buffer_cycles=section.integer("output_buffer_latency_cycle", 1),
        dac_power_mw=section.number("dac_dynamic_power", 0), crossbar_power_mw=section.number("xbar_read_power", 0),
        sample_hold_power_mw=section.number("sample_hold_dynamic_power", 0), adc_power_mw=section.number("adc_dynamic_power", 0),
        shift_adder_power_mw=section.number("shift_adder_dynamic_power", 0),
        output_buffer_power_mw=section.number("output_buffer_dynamic_power", 0),
    )  # fmt: skip


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise HardwareError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, RecursionError) as error:
        raise HardwareError(f"{path}: not JSON ({error})") from None


def read_network(path: str | os.PathLike[str]) -> NetworkTable:
    """Reads a network file: latency and energy of a flit, by source and destination.

    Raises:
        HardwareError: the file is missing or malformed.
    """
    source = str(path)
    root = _Section(source, "", _load(Path(path)))
    tables = {key: _pairs(source, key, root.value.get(key, {})) for key in ("latency", "energy")}
    ids = sorted({end for table in tables.values() for pair in table for end in pair})
    place = {switch: i for i, switch in enumerate(ids)}
    arrays = {key: np.zeros((len(ids), len(ids))) for key in tables}
    is_known = np.zeros((len(ids), len(ids)), bool)
    for key, table in tables.items():
        for (start, end), value in table.items():
            arrays[key][place[start], place[end]] = value
            is_known[place[start], place[end]] |= key == "latency"
    for array in (*arrays.values(), is_known):
        array.flags.writeable = False
    return NetworkTable(np.array(ids, np.int64), arrays["latency"], arrays["energy"], is_known)


def _pairs(source: str, key: str, table: Any) -> dict[tuple[int, int], float]:
    found: dict[tuple[int, int], float] = {}
    rows = _Section(source, key, table)
    for start in rows.value:
        row = rows.section(start)
        for end in row.value:
            found[_switch(source, key, start), _switch(source, key, end)] = row.number(end, 0)
    return found


def _switch(source: str, key: str, name: str) -> int:
    try:
        return int(name)
    except ValueError:
        raise HardwareError(f"{source}: {key} names switch {_shown(name)}, a whole number expected") from None
