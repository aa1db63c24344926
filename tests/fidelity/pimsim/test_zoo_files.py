"""A network of the zoo as files for pimsim-nn: they keep its rules, and the event machine takes as long on them as we say.

All networks: `benchmarks/pimsim_zoo.py`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from oracles.pimsim_machine import run
from program.pimsim.file_rules import violations

import pimloom
from pimloom import api
from pimloom.hardware.pimsim import PimsimHardware
from pimloom.program.pimsim import read_architecture, read_program
from pimloom.program.pimsim.convert import to_program, to_table
from pimloom.program.pimsim.export import write_configuration
from pimloom.program.pimsim.writer import write_program
from pimloom.simulate import simulate

pytestmark = [pytest.mark.fidelity, pytest.mark.slow]

TOLERANCE = 0.03


@pytest.mark.parametrize("mode", ["latency", "throughput"])
@pytest.mark.parametrize("network", ["lenet", "squeezenet1_1", "shufflenet"])
def test_files_of_a_network(network: str, mode: str, tmp_path: Path) -> None:
    exported = api.to_pimsim(pimloom.compile(network, "pimcomp-default", mode=mode, effort=0).program)
    machine = exported.hardware
    assert isinstance(machine, PimsimHardware)
    program, architecture = tmp_path / "p.gz", tmp_path / "c.json"
    write_program(to_table(exported), program)
    ours = simulate(exported, trace=False, until_cycles=0).latency_cycles * machine.period_ns
    write_configuration(replace(machine, sim_time_ms=2 * ours * 1e-6), architecture, tmp_path / "n.json", sim_mode=int(mode == "latency"))
    assert violations(program, architecture) == []
    table, said = read_program(program), read_architecture(architecture)
    assert np.array_equal(to_program(table, said, name="p", machine=machine.name).rows, exported.rows)
    assert ours == pytest.approx(run(table, said, sim_mode=1).latency_ns, rel=TOLERANCE)
