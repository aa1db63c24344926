"""How close programs come to the bounds, and what the cores of those that miss a goal wait for: a Markdown table.

    python benchmarks/quality.py                                       # every CNN of the zoo on three machines: hours
    python benchmarks/quality.py resnet18 mobilenet_v2 --hardware isaac puma --mode throughput --json quality.json

Throughput mode is compared with the tightest of the bounds that are no matter of one resource: compute (perfect balance of all
crossbars), global memory and network; 1.00 is the bound itself and the goal 0.75. Latency mode is compared with the dependency
bound of the program; the goal is 1.8 times that or less. For a miss the table tells, of the busiest cores, how busy their parts
are and what their instructions wait for; on machines that do one instruction at a time, also how much of the time the busiest core has
something to do. With --json, cases that the file holds are not run again; nor are those that
`networks.py` has run, with --from-networks.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pimloom import api
from pimloom.errors import CapacityError
from pimloom.frontends.zoo import ZOO
from pimloom.program import Program
from pimloom.result import Result
from pimloom.simulate import engine, simulate
from pimloom.simulate.bounds import BUSIEST_CORE
from pimloom.simulate.costs import cost
from pimloom.simulate.simulate import resource_busy
from pimloom.simulate.timing import WAIT_NAMES, Times, Timing

LEAST_SHARE = 0.75  # of the tightest bound, in throughput mode
MOST_FACTOR = 1.8  # times the dependency bound, in latency mode
SHARED_BOUNDS = ("compute", "global memory", "network")
SHOWN_CORES = 3
SHOWN_LAYERS = 4
KEY = ("network", "hardware", "mode", "effort")
Record = dict[str, Any]


def quality(network: str, hardware: str, mode: str, effort: int) -> Record:
    """How one program compares with its goal, and for a miss why; the sentence of the CapacityError where it does not fit."""
    record: Record = dict(zip(KEY, (network, hardware, mode, effort), strict=True))
    try:
        program = api.compile(network, hardware, mode=mode, effort=effort).program
    except CapacityError as error:
        return {**record, "error": str(error)}
    return record | assessed(program)[1]


def assessed(program: Program) -> tuple[Result, Record]:
    """The simulation of a program, and how it compares with its goal."""
    seen: list[tuple[Timing, Times]] = []
    result = simulate(program, _watched(seen), trace=False)
    found: Record = {"latency_cycles": result.latency_cycles, "period_cycles": result.period_cycles, **compared(result)}
    found["busiest"] = busiest_resource(result)
    core = next((b for b in result.bounds if (b.name, b.mode) == (BUSIEST_CORE, result.mode)), None)
    if core is not None:
        found["core_share"] = result.achieved(core)
    if not found["is_met"]:
        found["cores"] = busiest_cores(program, result, *seen[0])
    return result, found


def _watched(seen: list[tuple[Timing, Times]]) -> Callable[..., Times]:
    """The engine, with what it was given and what it found kept for a look at single cores."""

    def run(timing: Timing, *rest: Any) -> Times:
        seen.append((timing, engine.run(timing, *rest)))
        return seen[-1][1]

    return run


def compared(result: Result) -> Record:
    """The bound that counts for the mode, the share of it that is achieved, and whether that meets the goal."""
    if result.mode == "latency":
        bound = next(b for b in result.bounds if b.name == "dependency")
        factor = 1.0 / result.achieved(bound)
        return {"bound": bound.name, "share": result.achieved(bound), "factor": factor, "is_met": factor <= MOST_FACTOR}
    bound = max((b for b in result.bounds if b.name in SHARED_BOUNDS), key=lambda b: b.cycles)
    share = result.achieved(bound)
    return {"bound": bound.name, "share": share, "is_met": share >= LEAST_SHARE}


def busiest_resource(result: Result) -> Record:
    """The component with the most loaded resource, and the busy share of that."""
    component = max(result.busiest, key=lambda name: result.busiest[name])
    return {"component": component, "share": result.busiest[component]}


def busiest_cores(program: Program, result: Result, timing: Timing, times: Times) -> list[Record]:
    """The cores with the most loaded parts.

    Returns:
        Per core the layers it works for, the busy share of its most loaded part of each kind, and what its instructions wait for
        (shares of all their waiting).
    """
    costed = cost(program)
    resources, span = costed.resources, result.period_cycles if result.mode == "throughput" else float(result.latency_cycles)
    busy = resource_busy(timing) / costed.ticks_per_cycle / max(span, 1.0)
    table = np.zeros((len(resources.of_processors), program.hardware.processors))
    for line, name in zip(table, resources.of_processors, strict=True):
        at = resources.at(name)
        np.maximum.at(line, resources.owner[at], busy[at])
    found: list[Record] = []
    for core in np.argsort(-table.max(axis=0), kind="stable")[:SHOWN_CORES].tolist():
        waits = times.waits[program.rows["processor"] == core].sum(axis=0).astype(np.float64)
        waits /= max(float(waits.sum()), 1.0)
        found.append({
            "core": core, "busy": dict(zip(resources.of_processors, table[:, core].tolist(), strict=True)),
            "waits": dict(zip(WAIT_NAMES, waits.tolist(), strict=True)), "layers": list(result.core_nodes[core]),
        })  # fmt: skip
    return found


# -- tables -----------------------------------------------------------------------------------------------------------


def markdown(records: Sequence[Record]) -> str:
    """A table of all cases, then the cores of those that miss their goal."""
    lines = ["| network | machine | mode | cycles | bound | share of it | goal | most loaded |", "|---|---|---|---:|---|---:|---|---|"]
    lines += [_row(record) for record in records]
    missed = [record for record in records if record.get("cores")]
    if missed:
        lines += ["", "| missed by | core | busy | its instructions wait for | layers |", "|---|---:|---|---|---|"]
        lines += [_core_row(record, core) for record in missed for core in record["cores"]]
    return "\n".join(lines)


def _row(record: Record) -> str:
    cells = [record["network"], record["hardware"], record["mode"]]
    if "error" in record:
        return "| " + " | ".join([*cells, "does not fit", "", "", "", ""]) + " |"
    cycles = record["period_cycles"] if record["mode"] == "throughput" else record["latency_cycles"]
    goal = "met" if record["is_met"] else "MISSED"
    share = f"{record['share']:.2f}" + (f" ({record['factor']:.2f} times it)" if "factor" in record else "")
    share += f", busiest core {record['core_share']:.2f}" if "core_share" in record else ""
    loaded = f"{record['busiest']['component']} {record['busiest']['share']:.0%}"
    return "| " + " | ".join([*cells, f"{cycles:,.0f}", record["bound"], share, goal, loaded]) + " |"


def _core_row(record: Record, core: Record) -> str:
    layers, more = ", ".join(core["layers"][:SHOWN_LAYERS]), len(core["layers"]) - SHOWN_LAYERS
    layers += f" and {more} more" if more > 0 else ""
    name = f"{record['network']}, {record['hardware']}, {record['mode']}"
    return f"| {name} | {core['core']} | {_shares(core['busy'])} | {_shares(core['waits'])} | {layers} |"


def _shares(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {share:.0%}" for name, share in sorted(values.items(), key=lambda item: -item[1]) if share >= 0.01)


def cnns() -> list[str]:
    """The CNNs of the zoo."""
    return [name for name, network in ZOO.items() if network.family == "cnn"]


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", help="every CNN of the zoo if none are given")
    parser.add_argument("--hardware", nargs="+", default=["isaac", "puma", "pimcomp-default"])
    parser.add_argument("--mode", nargs="+", default=["latency", "throughput"], choices=["latency", "throughput"])
    parser.add_argument("--effort", type=int, default=1, choices=range(4))
    parser.add_argument("--json", type=Path, help="file of the records; holds what need not run again")
    parser.add_argument("--from-networks", type=Path, help="file of `networks.py`, whose cases need not run again either")
    return parser.parse_args(arguments)


def read(path: Path) -> list[Record]:
    """The records of a file."""
    return json.loads(path.read_text())


def case_of(record: Record) -> tuple[Any, ...]:
    """What a case is known by."""
    return tuple(record[name] for name in KEY)


def main() -> None:
    """Runs the cases that the JSON file does not hold, and prints the table."""
    options = parsed()
    held: dict[tuple[Any, ...], Record] = {}
    if options.from_networks:
        held |= {case_of(r): dict(zip(KEY, case_of(r), strict=True)) | r["quality"] for r in read(options.from_networks) if "quality" in r}
    if options.json and options.json.exists():
        held |= {case_of(r): r for r in read(options.json)}
    wanted = [(n, h, m, options.effort) for n in options.networks or cnns() for h in options.hardware for m in options.mode]
    for case in wanted:
        if case not in held:
            held[case] = quality(*case)
            if options.json:
                options.json.write_text(json.dumps(list(held.values()), indent=1) + "\n")
    print(markdown([held[case] for case in wanted]))


if __name__ == "__main__":
    main()
