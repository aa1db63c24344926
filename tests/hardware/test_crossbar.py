"""Derived figures against hand computation, and rules that one part alone cannot check."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pimloom.errors import HardwareError
from pimloom.hardware import Chip, ChipLink, Crossbar, Hardware, Issue, load_hardware, preset_names


def toy_crossbar(**changes: object) -> Crossbar:
    return dataclasses.replace(load_hardware("toy").crossbar, **changes)


def test_isaac_starts_a_16_bit_mvm_every_1600_ns() -> None:
    isaac = load_hardware("isaac")
    assert isaac.crossbar.mvm_interval_cycles(16) / isaac.clock_ghz == 1600.0
    assert isaac.crossbar.mvm_cycles(16) / isaac.clock_ghz == 1700.0  # one more 100 ns stage
    assert isaac.crossbar.mvm_interval_cycles(8) / isaac.clock_ghz == 800.0


def test_isaac_columns() -> None:
    crossbar = load_hardware("isaac").crossbar
    assert crossbar.columns_per_weight(16) == 8
    assert crossbar.logical_cols(16) == 16
    assert crossbar.logical_cols(8) == 32


def test_pimcomp_default_mvm_is_that_of_pimsim() -> None:
    crossbar = load_hardware("pimcomp-default").crossbar
    assert (crossbar.input_slices(8), crossbar.front_cycles, crossbar.back_cycles) == (8, 9, 162)
    assert crossbar.mvm_cycles(8) == 1305
    assert crossbar.mvm_interval_cycles(8) == 8 * 162
    assert crossbar.mvm_energy_pj(8) == pytest.approx(24490.24)
    assert crossbar.logical_cols(16) == crossbar.logical_cols(8) == 128


def test_pimsim_example_mvm() -> None:
    crossbar = load_hardware("pimsim-64").crossbar
    assert (crossbar.front_cycles, crossbar.back_cycles, crossbar.mvm_cycles(8)) == (32, 642, 5168)


def test_puma_mvm_takes_2304_ns_and_43970_pj() -> None:
    puma = load_hardware("puma")
    assert puma.crossbar.mvm_cycles(16) == puma.crossbar.mvm_interval_cycles(16) == 2304
    assert 8 * puma.crossbar.mvm_energy_pj(16) == pytest.approx(43970, rel=1e-6)


def test_toy_by_hand() -> None:
    crossbar = load_hardware("toy").crossbar
    # front 1 + 4 + 1; four conversions per ADC; back 1 + 2 + 3 * max(1, 2)
    assert (crossbar.front_cycles, crossbar.conversions_per_adc, crossbar.back_cycles) == (6, 4, 9)
    assert crossbar.mvm_cycles(8) == 6 + 9 + 7 * 9
    assert crossbar.mvm_interval_cycles(8) == 72
    per_slice = 1.0 + 0.5 + 32 * (0.001 + 0.5 + 0.02)
    assert crossbar.mvm_energy_pj(8) == pytest.approx(8 * 32 * 0.05 + 8 * per_slice)


def test_divisions_round_up() -> None:
    crossbar = toy_crossbar(adc_count=3, dac_count=12, dac_bits=3)
    assert crossbar.conversions_per_adc == 11
    assert crossbar.bit_slices(8) == 3
    assert crossbar.input_slices(8) == 3 * 3
    assert crossbar.back_cycles == 1 + 2 + 10 * 2


def test_each_row_is_converted_once_per_bit_slice() -> None:
    whole = toy_crossbar(array_read_energy_pj=0, register_energy_pj=0, adc_energy_pj=0, shift_add_energy_pj=0)
    whole = dataclasses.replace(whole, sample_hold_energy_pj=0)
    parts = dataclasses.replace(whole, dac_count=12)  # three groups of rows, the last one of 8
    assert whole.mvm_energy_pj(8) == parts.mvm_energy_pj(8) == pytest.approx(8 * 32 * 0.05)


def test_without_pipeline_latency_and_interval_are_the_same() -> None:
    crossbar = toy_crossbar(pipelined=False)
    assert crossbar.mvm_cycles(8) == crossbar.mvm_interval_cycles(8) == 8 * (6 + 9)


@pytest.mark.parametrize(
    ("signed", "cell_bits", "weight_bits", "columns"),
    [
        ("offset", 2, 8, 4),
        ("offset", 3, 8, 3),
        ("offset", 16, 8, 1),
        ("differential", 2, 8, 8),
        ("differential", 8, 8, 2),
        ("logical", 1, 16, 1),
    ],
)
def test_columns_per_weight(signed: str, cell_bits: int, weight_bits: int, columns: int) -> None:
    crossbar = toy_crossbar(signed=signed, cell_bits=cell_bits)
    assert crossbar.columns_per_weight(weight_bits) == columns
    assert crossbar.logical_cols(weight_bits) == 32 // columns


def test_columns_that_do_not_fill_a_weight_are_left() -> None:
    assert toy_crossbar(cols=33, cell_bits=3).logical_cols(8) == 11
    assert toy_crossbar(cols=35, cell_bits=3).logical_cols(8) == 11


def test_totals_count_all_chips() -> None:
    machine = load_hardware("isscc23-16")
    assert machine.total_cores == 16 * 4
    assert machine.total_crossbars == 16 * 4 * 8
    assert machine.weights_capacity(16) == 512 * 512 * 1024 // 8
    core = 1.46 + 0.05 + 0.0 + 0.0 + 0.208
    assert machine.core_static_mw == pytest.approx(core)
    assert machine.chip_static_mw == pytest.approx(4 * core + 0.0 + 50.0)
    assert machine.static_mw_total == pytest.approx(16 * machine.chip_static_mw)


def test_crossbars_add_to_the_power_at_rest() -> None:
    machine = load_hardware("pimcomp-default")
    assert machine.core_static_mw == pytest.approx(1.0 + 64 * 5.152)
    assert machine.static_mw_total == pytest.approx(136 * machine.core_static_mw + 1.0)


def test_peak_rates_of_toy() -> None:
    toy = load_hardware("toy")
    assert toy.peak_mvm_per_s(8) == pytest.approx(32 / 72e-9)
    assert toy.peak_ops_per_s(8, 8) == pytest.approx(2 * 32 * 16 * 32 / 72e-9)
    assert toy.peak_crossbar_mw(8) == pytest.approx(158.176 * 32 / 72)  # pJ / ns = mW


def test_vector_unit_and_noc_round_up() -> None:
    toy = load_hardware("toy")
    assert [toy.core.vector_unit.cycles(n) for n in (0, 1, 8, 9)] == [2, 3, 3, 4]
    assert toy.core.vector_unit.energy_pj(9) == 2.0
    assert [toy.noc.flits(n) for n in (0, 1, 8, 9)] == [0, 1, 1, 2]


def test_bandwidths() -> None:
    machine = load_hardware("pimcomp-default", ["global_memory.ports=2"])
    assert machine.global_memory.read_bytes_per_cycle == 2 * 32 / 40
    assert machine.global_memory.write_bytes_per_cycle == 2 * 32 / 50
    assert machine.core.local_memory.read_bytes_per_cycle == 64 / 20
    assert machine.core.local_memory.write_bytes_per_cycle == 64 / 30


def test_cores_fill_the_grid_unless_given() -> None:
    assert Chip(core_rows=3, core_cols=5).cores == 15
    assert Chip(core_rows=3, core_cols=5, cores=7).cores == 7


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Chip(core_rows=2, core_cols=2, cores=5), "Chip: found 5, expected cores of at most .* = 4; enlarge"),
        (lambda: Chip(core_rows=2, core_cols=2, cores=0), "Chip: cores: found 0, expected a positive integer of cores"),
        (lambda: Chip(core_rows=65536, core_cols=2), "Chip: found 131072, expected core_rows .* at most 65536; make"),
        (lambda: Issue(order="in_order", window=True, cycles=1), r"Issue: window: found true \(a boolean\), expected"),
        (lambda: Issue(order="in_order", window=1), "Issue: cycles: missing, expected a positive integer"),  # type: ignore[call-arg]
        (lambda: toy_crossbar(dac_count=33), "Crossbar: found 33, expected a dac_count of at most rows = 32; write"),
        (lambda: toy_crossbar(adc_count=33), "Crossbar: found 33, expected an adc_count of at most cols = 32; write"),
    ],
)
def test_an_invalid_value_cannot_be_built(build: object, message: str) -> None:
    with pytest.raises(HardwareError, match=message):
        build()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chips": 2}, "found 2, expected a chip_link where chips > 1; describe chip_link, or write chips: 1"),
        ({"chips": 1024, "core": None}, "core: found nothing, expected a mapping with local_memory"),
    ],
)
def test_replacing_a_part_checks_the_whole(changes: dict[str, object], message: str) -> None:
    with pytest.raises(HardwareError, match=message):
        dataclasses.replace(load_hardware("toy"), **changes)


def test_too_many_cores_and_crossbars_in_all() -> None:
    isaac = load_hardware("isaac")
    with pytest.raises(HardwareError, match="found 67200, expected at most 65536 cores on all chips; reduce chips"):
        dataclasses.replace(isaac, chips=400)
    with pytest.raises(HardwareError, match="found 20160000, expected at most 16777216 crossbars in all; reduce"):
        dataclasses.replace(isaac, chips=300, core=dataclasses.replace(isaac.core, crossbars=400))


def test_values_are_frozen_hashable_and_copyable() -> None:
    toy = load_hardware("toy")
    with pytest.raises(dataclasses.FrozenInstanceError):
        toy.chips = 3  # type: ignore[misc]
    assert hash(toy) == hash(load_hardware("toy"))
    assert pickle.loads(pickle.dumps(toy)) == copy.deepcopy(toy) == toy
    assert not hasattr(toy, "__dict__")


def test_a_chip_link_is_a_part_of_its_own() -> None:
    link = ChipLink(bytes_per_cycle=6.4, latency_cycles=1, energy_pj_per_byte=1, static_mw=10)
    machine = dataclasses.replace(load_hardware("toy"), chips=3, chip_link=link)
    assert machine.total_cores == 12
    assert machine.static_mw_total == pytest.approx(3 * (load_hardware("toy").static_mw_total + 10))


lines = st.integers(1, 300)
delays = st.integers(0, 40)


@settings(deadline=None, max_examples=200)
@given(
    rows=lines, cols=lines, dacs=lines, adcs=lines, dac_bits=st.integers(1, 16), bits=st.sampled_from([1, 8, 16]),
    dac=delays, read=st.integers(1, 200), hold=delays, adc=st.integers(1, 40), add=delays, out=delays,
    pipelined=st.booleans(),
)  # fmt: skip
def test_mvm_time_is_that_of_a_pipeline_stepped_by_hand(
    rows: int, cols: int, dacs: int, adcs: int, dac_bits: int, bits: int, dac: int, read: int, hold: int, adc: int,
    add: int, out: int, pipelined: bool,
) -> None:  # fmt: skip
    crossbar = toy_crossbar(
        rows=rows, cols=cols, dac_count=min(dacs, rows), adc_count=min(adcs, cols), dac_bits=dac_bits, dac_cycles=dac,
        read_cycles=read, sample_hold_cycles=hold, adc_cycles=adc, shift_add_cycles=add, output_buffer_cycles=out,
        pipelined=pipelined,
    )  # fmt: skip
    slices = math.ceil(bits / dac_bits) * math.ceil(rows / min(dacs, rows))
    back, converted = 0, 0
    for _ in range(math.ceil(cols / min(adcs, cols))):  # the tail of each conversion waits for the one before it
        converted = converted + adc
        back = max(converted, back) + add + out
    array_free = converter_free = end = 0
    for _ in range(slices):
        start = max(array_free, 0 if pipelined else end)
        held = start + dac + read + hold
        begin = max(held, converter_free)
        # The array keeps its sums until the converters take them, so the next read ends no earlier than that.
        array_free = max(held, converter_free) if pipelined else held
        end = converter_free = begin + back
    assert crossbar.mvm_cycles(bits) == end
    assert crossbar.mvm_interval_cycles(bits) <= crossbar.mvm_cycles(bits)


@pytest.mark.parametrize("name", preset_names("crossbar"))
def test_more_converters_are_never_slower(name: str) -> None:
    crossbar = load_hardware(name).crossbar
    for bits in (8, 16):
        times = [dataclasses.replace(crossbar, adc_count=n).mvm_cycles(bits) for n in range(1, crossbar.cols + 1)]
        assert times == sorted(times, reverse=True)


def test_hardware_is_the_type_of_every_machine() -> None:
    assert all(isinstance(load_hardware(name), Hardware) for name in preset_names())
