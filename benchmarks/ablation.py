"""What each stage of the crossbar compiler contributes: cycles with one stage replaced by something plainer.

python benchmarks/ablation.py [NETWORK ...] [--hardware isaac] [--mode latency throughput] [--effort 2] [--json]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from pimloom import api
from pimloom.errors import CapacityError
from pimloom.hardware import Hardware
from pimloom.ir.graph import Graph
from pimloom.program import Program
from pimloom.simulate import cycles
from pimloom.targets import Mode, Request
from pimloom.targets.crossbar.compile import compile_network, lower
from pimloom.targets.crossbar.cores import Policy
from pimloom.targets.crossbar.lower import Options
from pimloom.targets.crossbar.mapper import FILLS, NEIGHBOURS, Mapper

SAMPLES = 8  # in throughput mode


def quantised(network: str, machine: Hardware) -> Graph:
    """The integer form of a network at the machine's precision."""
    return api.quantise(api.load(network), machine)


def plain(
    graph: Graph, machine: Hardware, mode: Mode, *, fills: Sequence[float] = FILLS, policies: Sequence[Policy] = NEIGHBOURS,
    unfolding: str = "", arranges: bool = True, has_periods: bool = True,
) -> Program:  # fmt: skip
    """One mapping without search: the first share of the crossbars that fits."""
    mapper = Mapper(graph, machine, mode, unfolding, arranges=arranges)
    samples = SAMPLES if mode is Mode.THROUGHPUT else 1
    options = Options(mode=mode.value, samples=samples, has_periods=has_periods)
    failed: CapacityError | None = None
    for fill in fills:
        mapped = mapper.map(fill, policies)
        if mapped is None:
            continue
        try:
            return lower(mapper, mapped, options)
        except CapacityError as error:
            failed = error
    raise failed or CapacityError("crossbars in pieces that fit cores", mapper.needed, machine.total_crossbars, machine.name, "use more")


def searched(graph: Graph, machine: Hardware, mode: Mode, effort: int) -> Program:
    """What the compiler gives at an effort."""
    samples = SAMPLES if mode is Mode.THROUGHPUT else 1
    return compile_network(graph, machine, Request(mode, samples, effort, 0, cycles, lambda _: None))


def variants(mode: Mode, effort: int) -> Iterator[tuple[str, Callable[[Graph, Hardware, Mode], Program]]]:
    """Names and compilers: the whole compiler, then with one stage replaced."""
    yield "effort 0", plain
    yield "effort 0 with `line` unfolding only", partial(plain, unfolding="line")
    yield "effort 0 with `pixel` unfolding only", partial(plain, unfolding="pixel")
    yield "effort 0 without copies", partial(plain, fills=(0.0,))
    yield "effort 0 with largest-first packing", partial(plain, policies=(Policy.TIGHTEST,))
    yield "effort 0, balanced placement", partial(plain, policies=(Policy.BALANCED,))
    yield "effort 0 without arrangement on the chip", partial(plain, arranges=False)
    if mode is Mode.THROUGHPUT:
        yield "effort 0 without periods", partial(plain, has_periods=False)
    yield "effort 1 (default)", partial(searched, effort=1)
    for more in range(2, effort + 1):
        yield f"effort {more}", partial(searched, effort=more)


def measure(network: str, machine: Hardware, mode: Mode, effort: int) -> list[dict[str, Any]]:
    """Cycles of every variant: latency of one sample, or the time between samples."""
    graph = quantised(network, machine)
    found: list[dict[str, Any]] = []
    for name, build in variants(mode, effort):
        row: dict[str, Any] = {"network": network, "hardware": machine.name, "mode": mode.value, "variant": name}
        try:
            latency, period = cycles(replace(build(graph, machine, mode), notes={}))
            row["cycles"] = round(period if mode is Mode.THROUGHPUT else latency)
        except CapacityError as error:
            row["error"] = str(error)
        found.append(row)
    return found


def main() -> None:
    """Prints a Markdown table per network and mode, or everything as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=["resnet18", "squeezenet", "mobilenet_v2"])
    parser.add_argument("--hardware", default="isaac")
    parser.add_argument("--mode", nargs="+", choices=[m.value for m in Mode], default=[m.value for m in Mode])
    parser.add_argument("--effort", type=int, default=1, choices=[1, 2, 3], help="the highest to try; 2 and 3 take minutes")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    machine = api.hardware(options.hardware)
    rows = [row for network in options.networks for mode in options.mode for row in measure(network, machine, Mode(mode), options.effort)]
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    print("| network | mode | variant | cycles | over default |\n|---|---|---|---|---|")
    for row in rows:
        default = next(
            r.get("cycles", 0) for r in rows
            if (r["network"], r["mode"]) == (row["network"], row["mode"]) and r["variant"].startswith("effort 1")
        )  # fmt: skip
        if "cycles" not in row:
            print(f"| {row['network']} | {row['mode']} | {row['variant']} | does not fit | - |")
            continue
        ratio = row["cycles"] / default if default else float("nan")
        print(f"| {row['network']} | {row['mode']} | {row['variant']} | {row['cycles']:,} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
