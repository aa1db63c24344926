"""Figures measured with pimsim-nn, met by our engine: latency, throughput and energy, and how long that takes.

The measured cases lie in `../shared/reference` beside the checkout and are skipped where it is missing.
"""

from __future__ import annotations

import csv
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pimloom.program import Program
from pimloom.program.pimsim import Quirks, read_architecture, read_program
from pimloom.program.pimsim.convert import to_program
from pimloom.simulate import simulate

pytestmark = pytest.mark.fidelity

_ROOTS = [parent / "shared" / "reference" for parent in Path(__file__).resolve().parents]
REFERENCE = next((root for root in _ROOTS if (root / "pimsim").is_dir()), None)
CASES = list(csv.DictReader((REFERENCE / "pimsim_cases.csv").read_text().splitlines())) if REFERENCE is not None else []
needs_reference = pytest.mark.skipif(
    REFERENCE is None, reason="../shared/reference/pimsim, with programs and figures of pimsim-nn, is missing"
)
STEADY_MS = 100.0
TOLERANCE = 0.02
LEAST_GAIN = 25
"""A floor that holds on a busy machine; docs/pimsim.md has the figures of a quiet one."""

LEAST_READING_GAIN = 3


def program_of(row: dict[str, str], quirks: Quirks | None = None) -> Program:
    assert REFERENCE is not None
    architecture = replace(read_architecture(REFERENCE / row["architecture"]), sim_mode=int(row["sim_mode"]), sim_time_ms=STEADY_MS)
    return to_program(read_program(REFERENCE / row["program"]), architecture, name="case", machine="reference", quirks=quirks)


def _cases() -> list[Any]:
    return [pytest.param(row, id=f"{Path(row['program']).stem}-mode{row['sim_mode']}") for row in CASES] or [{}]


@needs_reference
@pytest.mark.parametrize("row", _cases())
def test_measured_case(row: dict[str, str]) -> None:
    result = simulate(program_of(row), trace=False)
    energy_uj = sum(result.energy_pj.values()) * 1e-6
    if row["sim_mode"] == "1":
        assert result.latency_cycles * 1e-6 == pytest.approx(float(row["latency_ms"]), rel=TOLERANCE)
    else:
        assert 1e9 / result.period_cycles == pytest.approx(float(row["throughput_per_s"]), rel=TOLERANCE)
    assert energy_uj == pytest.approx(float(row["energy_uj"]), rel=TOLERANCE)


@needs_reference
def test_small_case_is_exact() -> None:
    row = next(row for row in CASES if "tiny" in row["program"])
    result = simulate(program_of(row))
    assert (result.latency_cycles, round(sum(result.energy_pj.values()))) == (6029, 21169)


@needs_reference
def test_it_takes_a_small_part_of_the_time() -> None:
    row = next(row for row in CASES if row["pimsim_cpu_s_without_load"] and "squeezenet_batch" in row["program"])
    program = program_of(row)
    simulate(program, trace=False)  # compiles
    taken: list[float] = []
    for _ in range(5):
        begun = time.process_time()
        simulate(program, trace=False)
        taken.append(time.process_time() - begun)
    assert min(taken) * LEAST_GAIN < float(row["pimsim_cpu_s_without_load"])


@needs_reference
@pytest.mark.parametrize("name", sorted({row["program"] for row in CASES if row["pimsim_load_cpu_s"]}))
def test_reading_takes_a_third_of_the_time_at_most(name: str) -> None:
    assert REFERENCE is not None
    theirs = next(float(row["pimsim_load_cpu_s"]) for row in CASES if row["program"] == name)
    taken: list[float] = []
    for _ in range(5):
        begun = time.process_time()
        read_program(REFERENCE / name)
        taken.append(time.process_time() - begun)
    assert min(taken) * LEAST_READING_GAIN < theirs


@needs_reference
def test_without_the_oversights_products_are_faster_and_loads_slower() -> None:
    row = next(row for row in CASES if "squeezenet_batch" in row["program"] and row["sim_mode"] == "1")
    compat = simulate(program_of(row), trace=False).latency_cycles
    eight = simulate(program_of(row, replace(Quirks(), reads_input_eightfold=False)), trace=False).latency_cycles
    # The network file names no way from the memory to a core, so that way must not be free either.
    paying = replace(Quirks(), load_response_is_free=False, missing_path_is_free=False)
    answers = simulate(program_of(row, paying), trace=False).latency_cycles
    assert eight <= compat < answers
    normal = program_of(row, Quirks.none())
    assert simulate(normal, trace=False).latency_cycles > 0
