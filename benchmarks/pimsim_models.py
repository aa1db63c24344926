"""What pimsim-nn's oversights cost PIMCOMP's programs, and the flit times of our preset beside those of PIMCOMP's network file.

python benchmarks/pimsim_models.py --reference ../shared/reference
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from pimloom.hardware import load_hardware
from pimloom.hardware.crossbar import CrossbarHardware
from pimloom.hardware.pimsim import NetworkPart, network_tables
from pimloom.program.pimsim import Architecture, PimsimProgram, Quirks, read_architecture, read_program
from pimloom.program.pimsim.convert import hardware_of, to_program
from pimloom.program.pimsim.export import machine_of
from pimloom.simulate import simulate

PROGRAMS = ("squeezenet_batch", "squeezenet_element", "alexnet_batch")
PRESET = "pimcomp-default"
MODELS = {
    "compat": Quirks(),
    "input read once": replace(Quirks(), reads_input_eightfold=False),
    "first flit alone pays": replace(Quirks(), flits_pay_full_path=False),
    "all off": Quirks.none(),
}


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, required=True, help="folder of pimsim/, with programs and architectures")
    folder = parser.parse_args().reference / "pimsim"
    architecture = replace(read_architecture(folder / "arch_136.json"), sim_mode=1)
    print("one pass, ms and uJ  " + "".join(f"{name:>24}" for name in MODELS))
    for name in PROGRAMS:
        table = read_program(folder / f"{name}.gz")
        print(f"{name:<21}" + "".join(f"{took(table, architecture, quirks):>24}" for quirks in MODELS.values()), flush=True)
    print("\nns per flit              between cores    mean    core and memory")
    theirs = hardware_of(architecture, "theirs", architecture.core_count, Quirks()).network
    hardware = load_hardware(PRESET)
    assert isinstance(hardware, CrossbarHardware)
    for name, network in (("PIMCOMP's network file", theirs), (PRESET, machine_of(hardware, 0).network)):
        print(f"{name:<25}{flit_times(network)}")


def took(table: PimsimProgram, architecture: Architecture, quirks: Quirks) -> str:
    """Time and energy of one pass."""
    result = simulate(to_program(table, architecture, name="program", machine="reference", quirks=quirks), trace=False)
    return f"{result.latency_cycles * architecture.period_ns * 1e-6:.3f}, {sum(result.energy_pj.values()) * 1e-6:.0f}"


def flit_times(network: NetworkPart) -> str:
    """Least, most and mean between cores; least and most between a core and the global memory."""
    latency, _, known = network_tables(network)
    is_way = known & ~np.eye(known.shape[0], dtype=bool)
    is_memory = np.zeros_like(is_way)
    is_memory[0] = is_memory[:, 0] = True  # the first switch is that of the global memory
    between, memory = latency[is_way & ~is_memory], latency[is_way & is_memory]
    cores = f"{between.min():g} to {between.max():g}"
    return f"{cores:>13}{between.mean():>8.1f}{f'{memory.min():g} to {memory.max():g}':>19}"


if __name__ == "__main__":
    main()
