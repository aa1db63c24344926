"""The machines that come with pimloom: complete, sourced, and true to what their publications state."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from pimloom.hardware import (
    Hardware,
    describe,
    load_hardware,
    parse_hardware,
    preset_names,
    preset_text,
    to_yaml,
)


def test_names() -> None:
    sram = ("", "-b16", "-b256", "-b32", "-b512", "-b64", "-b8", "-compat", "-dram")
    assert preset_names("sram") == tuple(f"gpp-256{variant}" for variant in sram)
    assert preset_names("crossbar") == ("isaac", "isscc23-16", "pimcomp-default", "pimsim-64", "puma", "toy")
    assert set(preset_names()) >= {*preset_names("sram"), *preset_names("crossbar")}


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_is_named_after_its_file_and_names_its_source(name: str) -> None:
    machine = load_hardware(name)
    assert machine.name == name
    assert machine.description
    assert machine.source


@pytest.mark.parametrize("name", preset_names())
def test_round_trip(name: str) -> None:
    machine = load_hardware(name)
    assert parse_hardware(to_yaml(machine)) == machine


@pytest.mark.parametrize("name", preset_names())
def test_every_number_has_a_comment_with_its_source(name: str) -> None:
    bare = [
        line
        for line in preset_text(name).splitlines()
        if re.search(r":\s*\{?.*\d", line.split("#")[0]) and not line.lstrip().startswith(("source:", "description:"))
        and len(line.partition("#")[2].strip()) < 6
    ]  # fmt: skip
    assert bare == []


@pytest.mark.parametrize("name", preset_names())
def test_lines_are_short(name: str) -> None:
    assert max(len(line) for line in preset_text(name).splitlines()) <= 120


def test_presets_are_package_data() -> None:
    folder = resources.files("pimloom.hardware").joinpath("presets")
    assert all(folder.joinpath(f"{name}.yaml").is_file() for name in preset_names())


def tile_mw(machine: Hardware) -> float:
    """Power of a core with everything busy: each crossbar, and one beat or flit per cycle in every other part."""
    core, noc = machine.core, machine.noc
    beats = core.local_memory.read_energy_pj_per_beat / core.local_memory.read_beat_cycles
    beats += core.vector_unit.energy_pj_per_beat / core.vector_unit.beat_cycles + noc.energy_pj_per_flit_hop
    crossbars = machine.peak_crossbar_mw(machine.precision.activation_bits) / machine.total_cores
    return crossbars + beats * machine.clock_ghz + machine.core_static_mw


def test_isaac_draws_what_its_table_states() -> None:
    isaac = load_hardware("isaac")
    in_situ_unit_mw = isaac.peak_crossbar_mw(16) / 168 / 12
    assert in_situ_unit_mw == pytest.approx(24.08, rel=1e-4)  # ISCA 2016, Table I
    assert tile_mw(isaac) == pytest.approx(330, rel=2e-3)
    assert (168 * tile_mw(isaac) + 10400) / 1000 == pytest.approx(65.8, rel=2e-3)


def test_isaac_computes_what_its_paper_states() -> None:
    # ISAAC-CE: 478.95 GOPS per mm2 on 85.4 mm2.
    assert load_hardware("isaac").peak_ops_per_s(16, 16) == pytest.approx(478.95e9 * 85.4, rel=0.02)


def test_puma_draws_what_its_papers_state() -> None:
    puma = load_hardware("puma")
    matrix_unit_mw = 8 * puma.peak_crossbar_mw(16) / puma.total_crossbars
    assert matrix_unit_mw == pytest.approx(1221.76 / 64, rel=1e-3)  # DAC 2023, Table I
    other_mw = tile_mw(puma) - 16 * matrix_unit_mw
    assert other_mw == pytest.approx(22.8 + 18 + 8 + 43.13, rel=1e-3)
    assert (138 * tile_mw(puma) + 257.72 + 10400) / 1000 == pytest.approx(62.5, rel=0.06)  # ASPLOS 2019


@pytest.mark.parametrize(("name", "megabytes"), [("isaac", 63), ("puma", 69), ("isscc23-16", 64)])
def test_capacities_of_pimcomp_table_v(name: str, megabytes: int) -> None:
    assert load_hardware(name).weights_capacity(16) * 2 == megabytes * 2**20


def test_bandwidths_of_pimcomps_evaluator() -> None:
    for name in ("isaac", "puma"):
        machine = load_hardware(name)
        assert machine.global_memory.read_bytes_per_cycle * machine.clock_ghz == pytest.approx(64)
    islands = load_hardware("isscc23-16")
    assert islands.chip_link is not None
    assert islands.chip_link.bytes_per_cycle * islands.clock_ghz == pytest.approx(6.4)


def test_describe_toy() -> None:
    assert describe(load_hardware("toy")) == TOY


TOY = """\
toy: four cores of eight small crossbars, for tests and first steps
  kind             crossbar, 1 GHz
  cores            4: 1 chip of 4 on a grid of 2 x 2
  crossbars        32: 8 per core of 32 x 32, 4-bit cells, offset weights
  issue            out_of_order, window 16, synchronous communication
  precision        8-bit weights, 8-bit activations
  weight capacity  16.38 k weights (16 KiB)
  rewriting        20 ns a row, 10 pJ a cell, arrays of a core at once; --rewrite
  one MVM          78 cycles (78 ns), one every 72 (72 ns), 158.2 pJ
  peak             444.4 M MVM/s, 0.4551 TOPS
  vector unit      8 lanes, 8 G elements/s per core
  local memory     16 KiB per core, 2 ports, read 16 GB/s, write 16 GB/s
  global memory    1 MiB per chip, 1 port, read 16 GB/s, write 16 GB/s
  network          mesh, 8 GB/s per link, 2 ns per hop
  power at rest    0.00492 W; 0.0703 W more with all crossbars busy
  source           assumed; no such machine was published"""


@pytest.mark.parametrize("name", preset_names())
def test_describe_has_one_line_per_fact(name: str) -> None:
    lines = describe(load_hardware(name)).splitlines()
    labels = [line[2:].split("  ")[0] for line in lines[1:]]
    assert lines[0].startswith(f"{name}: ")
    assert ("chip link" in labels) == (getattr(load_hardware(name), "chip_link", None) is not None)
    assert len(set(labels)) == len(labels) >= 14
