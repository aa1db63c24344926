"""Programs of pimloom on pimsim-nn's terms, beside PIMCOMP's: exported, read back, timed by the compat model.

    python benchmarks/pimsim.py --reference ../shared/reference [--networks resnet18 ...] [--keep FOLDER]

Both run on the machine of `pimsim/arch_136.json` and its network file. Latency is one pass of a program compiled for
latency, throughput the steady state over 100 ms of one compiled for throughput, energy is per sample of each. "exported" are
the same two figures with the network file that is exported with a program. Then: where the time of the cores goes in one pass, in
parts of all cores' time until the end.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import pimloom
from pimloom import api
from pimloom.hardware import load_hardware
from pimloom.hardware.pimsim import network_tables
from pimloom.program import INSTRUCTIONS, Program, load_program
from pimloom.program.pimsim import Architecture, read_architecture
from pimloom.program.pimsim.convert import to_program, to_table
from pimloom.simulate import cost, engine, simulate

NETWORKS = {
    "squeezenet1_1": "squeezenet", "alexnet": "alexnet", "resnet18": "resnet18", "googlenet": "googlenet",
    "mobilenet_v2": "mobilenetv2", "resnet50": "resnet50",
}  # fmt: skip
"""Network of the zoo to its name in the table of PIMCOMP's figures."""

PRESET = "pimcomp-default"
STEADY_MS = 100.0
PARTS = {
    "crossbars": ("mvmul",), "additions": ("vvadd",), "to codes": ("vvmul", "vvsra", "vrsu", "vrsl"), "copies": ("lmv", "lldi"),
    "memory": ("ld", "st"), "messages": ("send", "recv"), "pooling": ("vvmax",),
}  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """One program.

    Attributes:
        latency_ms: of one pass.
        throughput_per_s: in the steady state.
        exported_ms: of one pass with the network file that is exported.
        exported_per_s: in the steady state with that.
        energy_uj: per sample, of one pass.
        steady_energy_uj: per sample in the steady state.
        instructions: beside scalar ones.
        shares: of all cores' time in one pass, by what they do; "waiting" is for messages and the memory.
        compile_s: seconds of compiling.
        lower_s: seconds of saying it in pimsim-nn's instructions.
    """

    latency_ms: float
    throughput_per_s: float
    exported_ms: float
    exported_per_s: float
    energy_uj: float
    steady_energy_uj: float
    instructions: int
    shares: Mapping[str, float]
    compile_s: float
    lower_s: float


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, required=True, help="folder of pimcomp_baselines.csv and pimsim/")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--keep", type=Path, help="folder in which compiled programs are kept and looked for")
    options = parser.parse_args()
    architecture = read_architecture(options.reference / "pimsim" / "arch_136.json")
    compare_machines(architecture)
    with (options.reference / "pimcomp_baselines.csv").open(encoding="utf-8") as file:
        theirs = {(row["model"], row["mode"]): row for row in csv.DictReader(file)}
    found: dict[tuple[str, str], Measured] = {}
    heading = "network        mode         latency ms  theirs  ratio   per s   theirs  ratio     uJ   theirs  ratio  compile s"
    print(heading + "  exported ms   per s")
    for network in options.networks:
        for mode in ("latency", "throughput"):
            found[network, mode] = one = measure(network, mode, architecture, options.keep)
            print(line(network, mode, one, theirs[NETWORKS[network], mode]), flush=True)
    print("\nnetwork        mode        " + "".join(f"{part:>11}" for part in (*PARTS, "waiting", "idle")))
    for (network, mode), one in found.items():
        shares = "".join(f"{100 * one.shares.get(part, 0.0):>10.1f}%" for part in (*PARTS, "waiting", "idle"))
        print(f"{network:<14} {mode:<12}{shares}")


def line(network: str, mode: str, one: Measured, theirs: Mapping[str, str]) -> str:
    """A line of the first table."""
    latency, energy = float(theirs["pimsim_one_pass_latency_ms"]), float(theirs["pimsim_energy_one_pass_uj"])
    rate = float(theirs["pimsim_throughput_per_s"] or 0)
    beside = f"{rate:8.1f} {one.throughput_per_s / rate:6.2f}" if rate else " " * 15
    return (
        f"{network:<14} {mode:<12} {one.latency_ms:9.3f} {latency:7.2f} {one.latency_ms / latency:6.3f} {one.throughput_per_s:7.1f} "
        f"{beside} {one.energy_uj:7.0f} {energy:7.0f} {one.energy_uj / energy:6.2f} {one.compile_s:9.1f} "
        f"{one.exported_ms:12.3f} {one.exported_per_s:7.1f}"
    )


def measure(network: str, mode: str, architecture: Architecture, keep: Path | None) -> Measured:
    """Compiles, lowers and times one program."""
    begun = time.perf_counter()
    program, compile_s = compiled(network, mode, keep)
    compile_s = compile_s or time.perf_counter() - begun
    begun = time.perf_counter()
    exported = api.to_pimsim(program)
    table = to_table(exported)
    lower_s = time.perf_counter() - begun
    once = to_program(table, replace(architecture, sim_mode=1), name=network, machine="arch_136")
    steady = to_program(table, replace(architecture, sim_mode=0, sim_time_ms=STEADY_MS), name=network, machine="arch_136")
    one, many = simulate(once, trace=False), simulate(steady, trace=False)
    until = round(STEADY_MS * 1e6 / architecture.period_ns)
    ours = simulate(exported, trace=False, until_cycles=0), simulate(exported, trace=False, until_cycles=until)
    return Measured(
        one.latency_cycles * architecture.period_ns * 1e-6, 1e9 / (many.period_cycles * architecture.period_ns),
        ours[0].latency_cycles * architecture.period_ns * 1e-6, 1e9 / (ours[1].period_cycles * architecture.period_ns),
        sum(one.energy_pj.values()) * 1e-6, sum(many.energy_pj.values()) * 1e-6, once.n_rows, shares(once), compile_s, lower_s,
    )  # fmt: skip


def compiled(network: str, mode: str, keep: Path | None) -> tuple[Program, float]:
    """The program and the seconds that compiling took (0 if it was kept)."""
    path = keep / f"{network}_{mode}.npz" if keep is not None else None
    if path is not None and path.exists():
        return load_program(path), 0.0
    made = pimloom.compile(network, PRESET, mode=mode)
    if path is not None:
        made.save(path)
    return made.program, made.compile_s


def shares(program: Program) -> dict[str, float]:
    """Parts of all cores' time until the end, by what they do.

    What an instruction takes beyond its work on an idle machine is waiting.
    """
    costed = cost(program)
    t, times = costed.timing.by_row(), engine.run(costed.timing)
    done = times.done[:, 0]
    before = np.concatenate(([0], done[:-1]))
    first = program.stream_ptr[:-1][np.diff(program.stream_ptr) > 0]
    before[first] = 0
    taken = (done - before).astype(np.float64)
    phases = np.arange(t.phase_pass.shape[1]) < t.n_phases[:, None]
    work = np.where(phases, t.phase_pass, 0).sum(axis=1) + t.lead
    names = np.array([row.name.removeprefix("pimsim.") for row in INSTRUCTIONS])[program.rows["opcode"]]
    total = float(done.max(initial=1)) * first.size
    found = {part: float(np.minimum(work, taken)[np.isin(names, members)].sum()) / total for part, members in PARTS.items()}
    found["waiting"] = float(np.maximum(taken - work, 0).sum()) / total
    ends = done[program.stream_ptr[1:][np.diff(program.stream_ptr) > 0] - 1]
    found["idle"] = float((done.max(initial=0) - ends).sum()) / total
    return found


def compare_machines(architecture: Architecture) -> None:
    """Prints where the preset, said in pimsim-nn's terms, differs from its file."""
    from pimloom.program.pimsim.convert import hardware_of
    from pimloom.program.pimsim.export import machine_of

    preset: Any = load_hardware(PRESET)
    ours, file = machine_of(preset, 0), hardware_of(architecture, "arch_136", preset.total_cores, machine_of(preset, 0).quirks)
    skipped = ("name", "description", "source", "network", "sim_time_ms")
    for part in (name for name in type(ours).__dataclass_fields__ if name not in skipped):
        mine, theirs = getattr(ours, part), getattr(file, part)
        for name in type(mine).__dataclass_fields__ if hasattr(mine, "__dataclass_fields__") else [""]:
            a, b = (getattr(one, name) if name else one for one in (mine, theirs))
            if a != b:
                print(f"{PRESET} and arch_136.json differ in {part}{'.' if name else ''}{name}: {a} and {b}")
    for title, network in (("the network that is exported", ours.network), ("its network file", file.network)):
        latency = network_tables(network)[0]
        between, memory = latency[1:, 1:][~np.eye(preset.total_cores, dtype=bool)], latency[1:, 0]
        print(
            f"{title}: a flit takes {between.min():g} to {between.max():g} ns between cores, {between.mean():.3g} on average, "
            f"and {memory.min():g} to {memory.max():g} ns to the global memory"
        )
    print()


if __name__ == "__main__":
    main()
