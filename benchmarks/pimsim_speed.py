"""CPU time of reading and simulating PIMCOMP's programs, beside pimsim-nn's own.

python benchmarks/pimsim_speed.py --reference ../shared/reference
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable
from pathlib import Path

from pimloom.program.pimsim import read_architecture, read_program
from pimloom.program.pimsim.convert import to_program
from pimloom.simulate import cost, engine, simulate
from pimloom.simulate.condense import condense

REPEATS = 7


def main() -> None:
    """Prints a line per program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, required=True, help="folder of pimsim_cases.csv and pimsim/")
    reference = parser.parse_args().reference
    print("program                      read s   theirs  ratio   simulate s  engine s   theirs  ratio")
    with (reference / "pimsim_cases.csv").open(encoding="utf-8") as file:
        cases = [row for row in csv.DictReader(file) if row["pimsim_cpu_s_without_load"]]
    for row in cases:
        measure(reference, row)


def measure(reference: Path, row: dict[str, str]) -> None:
    """Prints the line of one program."""
    path = reference / row["program"]
    read_s = best(lambda: read_program(path), 3)
    program = to_program(read_program(path), read_architecture(reference / row["architecture"]), name=path.stem, machine="reference")
    simulate(program, trace=False)  # compiles
    timing = cost(program).timing

    def carry() -> None:
        shorter = condense(timing)
        engine.run(timing if shorter is None else shorter.timing)

    simulate_s, engine_s = best(lambda: simulate(program, trace=False), REPEATS), best(carry, REPEATS)
    load_s, cpu_s = float(row["pimsim_load_cpu_s"]), float(row["pimsim_cpu_s_without_load"])
    print(
        f"{path.stem:<26} {read_s:8.3f} {load_s:8.1f} {load_s / read_s:6.1f} {simulate_s:12.3f} {engine_s:9.3f} {cpu_s:8.1f} "
        f"{cpu_s / simulate_s:6.0f}"
    )


def best(work: Callable[[], object], repeats: int) -> float:
    """The least CPU seconds of several calls."""
    found: list[float] = []
    for _ in range(repeats):
        begun = time.process_time()
        work()
        found.append(time.process_time() - begun)
    return min(found)


if __name__ == "__main__":
    main()
