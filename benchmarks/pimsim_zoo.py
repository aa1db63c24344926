"""Every CNN of the zoo as files for pimsim-nn: written, checked against its rules, read back, timed by two models.

    python benchmarks/pimsim_zoo.py [--networks vgg16 ...] [--keep FOLDER] [--no-oracle]

The machine is `pimcomp-default`, which is `pimsim/arch_136.json`; a network that does not fit its 136 cores gets all 144 places of
its mesh, or a larger mesh: pimsim-nn takes any number of cores. "rules" are those of `tests/program/pimsim/file_rules.py`; "same" says
whether what is read back is the table that was written and takes as long; "oracle" is the latency by the plain event machine of
`tests/oracles/pimsim_machine.py`, on the file that was written.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from oracles.pimsim_machine import run  # pyright: ignore[reportMissingImports]
from program.pimsim.file_rules import violations  # pyright: ignore[reportMissingImports]

import pimloom
from pimloom import api
from pimloom.errors import CapacityError
from pimloom.hardware import load_hardware
from pimloom.program import Program, load_program
from pimloom.program.pimsim import read_architecture, read_program
from pimloom.program.pimsim.convert import to_program, to_table
from pimloom.program.pimsim.export import write_configuration
from pimloom.program.pimsim.writer import write_program
from pimloom.simulate import simulate

NETWORKS = (
    "lenet", "alexnet", "squeezenet", "squeezenet1_1", "shufflenet", "mnasnet", "mobilenet_v2", "efficientnet_b0", "googlenet", "resnet18",
    "resnet34", "resnet50", "densenet121", "inception_v3", "vgg16", "vgg19",
)  # fmt: skip
PRESET = "pimcomp-default"
SIZES = ((), ("chip.cores=144",), ("chip.core_rows=16", "chip.core_cols=16", "chip.cores=256"))
"""What is set on the machine, the smallest first."""

ROOM = 1.25
STEADY_MS = 100.0
STEADY_PASSES = 4
"""The steady state is looked at for `STEADY_MS`, or for as many passes where these take longer."""


def main() -> None:
    """Prints a line per program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--modes", nargs="+", default=["latency", "throughput"], choices=["latency", "throughput"])
    parser.add_argument("--keep", type=Path, help="folder in which compiled programs are kept and looked for")
    parser.add_argument("--no-oracle", action="store_true", help="leaves out the event machine, which takes most of the time")
    options = parser.parse_args()
    print("network         mode       cores   k instr     MB rules same latency ms  oracle ms      %  per s   export s  read s oracle s")
    for network in options.networks:
        for mode in options.modes:
            with tempfile.TemporaryDirectory() as folder:
                measure(network, mode, compiled(network, mode, options.keep), Path(folder), has_oracle=not options.no_oracle)


def compiled(network: str, mode: str, keep: Path | None) -> Program:
    """The program, on the smallest machine that it fits."""
    path = keep / f"{network}_{mode}.npz" if keep is not None else None
    if path is not None and path.exists():
        return load_program(path)
    for settings in SIZES:
        try:
            made = pimloom.compile(network, load_hardware(PRESET, settings), mode=mode)
        except CapacityError:
            continue
        if path is not None:
            made.save(path)
        return made.program
    raise SystemExit(f"{network}: fits no machine of {SIZES}")


def measure(network: str, mode: str, program: Program, folder: Path, *, has_oracle: bool) -> None:
    """Writes, checks, reads and times one program; prints its line."""
    begun = time.process_time()
    exported = api.to_pimsim(program)
    machine: Any = exported.hardware
    once = simulate(exported, trace=False, until_cycles=0).latency_cycles * machine.period_ns * 1e-6
    files = [folder / name for name in ("program.gz", "arch.json", "network.json")]
    write_program(to_table(exported), files[0])
    steady_ms = max(STEADY_MS, STEADY_PASSES * once)
    machine = replace(machine, sim_time_ms=once * ROOM if mode == "latency" else steady_ms)
    write_configuration(machine, files[1], files[2], sim_mode=int(mode == "latency"))
    export_s = time.process_time() - begun
    architecture = read_architecture(files[1])
    begun = time.process_time()
    table = read_program(files[0])
    read_s = time.process_time() - begun
    back = to_program(table, architecture, name=exported.name, machine=machine.name)
    again = simulate(back, trace=False, until_cycles=0).latency_cycles * machine.period_ns * 1e-6
    is_same = np.array_equal(back.rows, exported.rows) and again == once
    broken = violations(files[0], files[1])
    steady = simulate(repeated(back, architecture, table, steady_ms), trace=False)
    rate = 1e9 / (steady.period_cycles * machine.period_ns)
    begun = time.process_time()
    oracle = run(table, architecture, sim_mode=1).latency_ns * 1e-6 if has_oracle else float("nan")
    oracle_s = time.process_time() - begun
    print(
        f"{network:<15} {mode:<10} {machine.cores:>5} {int(table.length_of_core.sum()) / 1000:>9.0f} "
        f"{files[0].stat().st_size / 1e6:>6.1f} {'kept' if not broken else 'BROKEN':>5} {'yes' if is_same else 'NO':>4} {once:>10.4f} "
        f"{oracle:>10.4f} {100 * (once / oracle - 1):>6.2f} {rate:>6.1f} {export_s:>10.1f} {read_s:>7.2f} {oracle_s:>8.1f}",
        flush=True,
    )
    for line in broken[:10]:
        print(f"    {line}")


def repeated(program: Program, architecture: Any, table: Any, steady_ms: float) -> Program:
    """The same lists, repeated for a time."""
    steady = replace(architecture, sim_mode=0, sim_time_ms=steady_ms)
    return to_program(table, steady, name=program.name, machine=program.hardware.name)


if __name__ == "__main__":
    main()
