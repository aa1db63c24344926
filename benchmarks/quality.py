"""How close programs come to the bounds that no mapping can beat: a Markdown table, 1.00 is the bound itself.

python benchmarks/quality.py tiny_cnn lenet resnet18 [--hardware isaac ...] [--mode latency throughput] [--effort 1] [--json]
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from pimloom import api
from pimloom.errors import CapacityError


def quality(network: str, hardware: str, mode: str, effort: int) -> dict[str, Any]:
    """Achieved share of each bound of one program; the sentence of the CapacityError where it does not fit."""
    row: dict[str, Any] = {"network": network, "hardware": hardware, "mode": mode}
    try:
        result = api.compile(network, hardware, mode=mode, effort=effort).simulate(trace=False)
    except CapacityError as error:
        return {**row, "error": str(error)}
    achieved = {bound.name.split(" (")[0]: result.achieved(bound) for bound in result.bounds}
    return {**row, "latency_cycles": result.latency_cycles, "period_cycles": result.period_cycles, "achieved": achieved}


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table."""
    bounds = list(dict.fromkeys(name for row in rows for name in row.get("achieved", {})))
    header = ["network", "hardware", "mode", "latency (cycles)", "period (cycles)", *bounds]
    lines = ["| " + " | ".join(header) + " |", "|" + "|".join(["---"] * 3 + ["---:"] * (len(header) - 3)) + "|"]
    for row in rows:
        cells = [row["network"], row["hardware"], row["mode"]]
        if "error" in row:
            cells += ["does not fit", *[""] * (len(header) - 4)]
        else:
            cells += [f"{row['latency_cycles']:,}", f"{row['period_cycles']:,.0f}"]
            cells += [f"{row['achieved'][b]:.2f}" if b in row["achieved"] else "" for b in bounds]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Prints the table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+")
    parser.add_argument("--hardware", nargs="+", default=["isaac"])
    parser.add_argument("--mode", nargs="+", default=["latency", "throughput"], choices=["latency", "throughput"])
    parser.add_argument("--effort", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = [quality(n, h, m, options.effort) for n in options.networks for h in options.hardware for m in options.mode]
    print(json.dumps(rows, indent=2) if options.json else markdown(rows))


if __name__ == "__main__":
    main()
