"""Speed of the fast engine: rows a second on a large synthetic program and on a network, and its ratio to the reference.

python benchmarks/engine.py [--rows 200000] [--network resnet18] [--hardware isaac] [--json]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import final

import numpy as np

from pimloom import api
from pimloom.kernels.booking import COMPUTE
from pimloom.program import Program
from pimloom.program.pimsim.encoding import list_lengths
from pimloom.simulate import Times, Timing, cost, engine, reference
from pimloom.simulate.condense import condense


@final
@dataclass(frozen=True, slots=True)
class Speed:
    """One measurement.

    Attributes:
        name: of the program.
        rows: instances simulated.
        repetitions: instructions carried out.
        engine_s: seconds of the fast engine, best of three.
        reference_s: seconds of the reference machine, 0 where it was not run.
    """

    name: str
    rows: int
    repetitions: int
    engine_s: float
    reference_s: float = 0.0

    @property
    def rows_per_s(self) -> float:
        """Rows a second of the fast engine."""
        return self.rows / self.engine_s

    @property
    def ratio(self) -> float:
        """How many times faster than the reference."""
        return self.reference_s / self.engine_s


def synthetic(rows: int, cores: int = 64, seed: int = 0) -> Timing:
    """Cores that compute on local units and now and then reach a shared port, each row after the one before it."""
    rng = np.random.default_rng(seed)
    rows = rows // cores * cores
    local, ports = 4, 8
    processor = np.repeat(np.arange(cores), rows // cores)
    res, hold, passing = (np.zeros((rows, 4), np.int32) for _ in range(3))
    for phase in range(3):
        res[:, phase] = processor * local + rng.integers(0, local, rows)
        hold[:, phase] = rng.integers(1, 8, rows)
        passing[:, phase] = hold[:, phase] + rng.integers(0, 4, rows)
    is_far = rng.random(rows) < 0.05
    res[is_far, 1] = cores * local + rng.integers(0, ports, int(is_far.sum()))
    n_res = cores * local + ports
    shared = np.zeros(n_res, np.int8)
    shared[cores * local :] = 1
    has_dep = (rng.random(rows) < 0.6) & (np.arange(rows) % (rows // cores) > 0)
    dep_row = np.flatnonzero(has_dep) - 1
    none = np.zeros(0, np.int32)
    return Timing(
        stream_ptr=np.arange(cores + 1) * (rows // cores), samples=1, stage=np.zeros(rows), kind=np.full(rows, COMPUTE),
        detached=np.zeros(rows), partner=np.full(rows, -1), reps=rng.integers(1, 4, rows), n_phases=np.full(rows, 3), phase_res=res,
        phase_hold=hold, phase_pass=passing, dep_ptr=np.concatenate([[0], np.cumsum(has_dep)]), dep_row=dep_row,
        dep_distance=np.zeros(dep_row.size), shared=shared, route_ptr=np.zeros(1), route_link=none, gap_device=np.full(n_res, -1),
        gap_ptr=np.zeros(1), gap_before=none, gap_after=none, gap_cycles=none, window=16, queue=8,
    )  # fmt: skip


def seconds(run: Callable[[Timing], Times], timing: Timing, repeat: int) -> float:
    """The best of several runs."""
    found: list[float] = []
    for _ in range(repeat):
        begun = time.perf_counter()
        run(timing)
        found.append(time.perf_counter() - begun)
    return min(found)


def measure(name: str, timing: Timing, *, with_reference: bool) -> Speed:
    """Times both machines on a program."""
    fast = seconds(engine.run, timing, 3)
    slow = seconds(reference.run, timing, 1) if with_reference else 0.0
    return Speed(name, timing.n_rows * timing.samples, int(timing.reps[timing.form].sum()) * timing.samples, fast, slow)


def measure_lists(name: str, program: Program) -> Speed:
    """Times the engine on lists of pimsim-nn, with the joining of rows that `simulate` does; scalar instructions count."""
    timing = cost(program).timing

    def joined(whole: Timing) -> Times:
        shorter = condense(whole)
        return engine.run(whole if shorter is None else shorter.timing)

    return Speed(name, timing.n_rows, int(list_lengths(program).sum()), seconds(joined, timing, 5))


def main() -> None:
    """Prints one line per program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000, help="rows of the large synthetic program")
    parser.add_argument("--small", type=int, default=12_800, help="rows of the program that the reference runs too")
    parser.add_argument("--network", default="resnet18", help="network of the zoo; empty for none")
    parser.add_argument("--hardware", default="isaac")
    parser.add_argument("--lists", default="resnet18", help="network whose program for pimcomp-default is run as pimsim-nn's; or empty")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    engine.run(synthetic(640))  # compiles the kernel
    found = [
        measure("synthetic, small", synthetic(options.small), with_reference=True),
        measure("synthetic, large", synthetic(options.rows), with_reference=False),
    ]
    if options.network:
        program = api.compile(options.network, options.hardware, effort=0).program
        found.append(measure(f"{options.network} on {options.hardware}", cost(program).timing, with_reference=False))
    if options.lists:
        program = api.to_pimsim(api.compile(options.lists, "pimcomp-default").program)
        found.append(measure_lists(f"{options.lists} as lists of pimsim-nn", program))
    if options.json:
        print(json.dumps([{**asdict(s), "rows_per_s": s.rows_per_s, "ratio": s.ratio} for s in found], indent=2))
        return
    for s in found:
        ratio = f", {s.ratio:.0f} times the reference" if s.reference_s else ""
        speed = f"{s.rows_per_s / 1e6:.2f} M rows/s, {s.repetitions / s.engine_s / 1e6:.2f} M instructions/s"
        print(f"{s.name}: {s.rows} rows in {s.engine_s:.3f} s, {speed}{ratio}")


if __name__ == "__main__":
    main()
