"""Machines of kind `sram`: derived figures, and faults of a description."""

from __future__ import annotations

import pytest

from pimloom.errors import HardwareError
from pimloom.hardware import Hardware, SramHardware, describe, load_hardware, preset_names


def machine(*overrides: str) -> SramHardware:
    hardware = load_hardware("gpp-256", list(overrides))
    assert isinstance(hardware, SramHardware)
    return hardware


def test_it_is_the_machine_of_the_rtl() -> None:
    hardware = load_hardware("gpp-256-compat")
    assert isinstance(hardware, SramHardware)
    assert isinstance(hardware, Hardware)
    assert (hardware.arrays, hardware.macro.size_bytes, hardware.macro.vector_cycles) == (256, 1024, 32)
    assert hardware.vectors_per_pass == 64
    assert hardware.memories.result_bytes // hardware.memories.result_row_bytes == 512
    # Costs of instructions: RDS 5, RWM 1024 / s + 4, PIM and WRM 41 together, WMS 4.
    assert [hardware.write_cycles(s) for s in (1, 4, 8)] == [1028, 260, 132]
    assert hardware.compute_cycles(1) == 5 + 37 + 4 + 4
    assert hardware.compute_cycles(24) == 9 + 24 * 41
    assert not hardware.link.carries_activations
    assert hardware.result_bits == 8


def test_memories_are_one_address_space() -> None:
    hardware = machine()
    assert hardware.shares_memory
    assert hardware.result_address == 32768
    assert hardware.scratch_address(0) == 32768 + 262144
    assert hardware.memory_bytes == hardware.scratch_address(256)


@pytest.mark.parametrize("name", preset_names("sram"))
def test_lines_are_whole_ticks(name: str) -> None:
    hardware = load_hardware(name)
    assert isinstance(hardware, SramHardware)
    assert hardware.macro.line_bytes * hardware.ticks_per_cycle % hardware.link.bytes_per_cycle == 0


def test_description_tells_the_link() -> None:
    assert "128 B/cycle (64 GB/s), an ideal memory; carries weights, activations and results" in describe(machine())
    assert "a DRAM channel of 16 banks" in describe(load_hardware("gpp-256-dram"))


FAULTS = {
    "macro.rows=4096 macro.cols=4096": "found 16777216, expected a macro of at most memories.result_bytes = 262144; reduce macro.rows",
    "link.bytes_per_cycle=0": "link.bytes_per_cycle: found 0, expected a positive integer of bytes per cycle; write e.g. 128",
    "macro.line_bytes=2048": "found 2048, expected a line_bytes of at most rows * cols = 1024; shorten the line",
    "macro.slowest_write_bytes_per_cycle=9": "found 9, expected a slowest_write_bytes_per_cycle of at most fastest",
    "memories.input_area_bytes=40000": "found 40000, expected at most scratch_bytes = 32000; enlarge the scratch memory",
    "memories.input_area_bytes=16": "found 16, expected memories.input_area_bytes of at least macro.rows = 32, one input vector",
    "cores=65536": "found 1048576, expected cores * macros_per_core of at most 65536; reduce one of them",
    "precision.weight_bits=16": "found 16, expected 8 bits for weights and activations, which is what a macro multiplies; write 8",
    "result_bits=16": "found 16, expected one of 8, 32",
}


@pytest.mark.parametrize("changes", FAULTS)
def test_faults_are_told_in_numbers(changes: str) -> None:
    with pytest.raises(HardwareError) as caught:
        machine(*changes.split())
    assert FAULTS[changes] in str(caught.value)


def test_a_channel_that_only_refreshes_is_refused() -> None:
    with pytest.raises(HardwareError, match="found 1950, expected refresh_cycles of less than refresh_interval_cycles = 1950; shorten"):
        load_hardware("gpp-256-dram", ["link.dram.refresh_cycles=1950"])
