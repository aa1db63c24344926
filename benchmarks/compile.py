"""Seconds of quantising and compiling, seconds of simulating, and peak memory, each network in a process of its own.

python benchmarks/compile.py [resnet18 resnet50] [--hardware isaac] [--mode latency] [--effort 1] [--json]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

FIELDS = ("network", "hardware", "mode", "effort", "compile_s", "simulate_s", "rows", "peak_mib")


def measure(network: str, hardware: str, mode: str, effort: int) -> dict[str, object]:
    """Compiles and simulates in this process."""
    from pimloom import api

    api.compile("tiny_mlp", hardware, effort=0).simulate()  # compiles the kernels
    begun = time.perf_counter()
    compiled = api.compile(network, hardware, mode=mode, effort=effort)
    between = time.perf_counter()
    result = compiled.simulate(trace=False)
    ended = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    values = (network, hardware, mode, effort, between - begun, ended - between, result.rows, peak)
    return dict(zip(FIELDS, values, strict=True))


def main() -> None:
    """Prints a line per network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=["resnet18", "resnet50"])
    parser.add_argument("--hardware", default="isaac")
    parser.add_argument("--mode", default="latency", choices=["latency", "throughput"])
    parser.add_argument("--effort", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--here", action="store_true", help="measure one network in this process and print JSON")
    options = parser.parse_args()
    if options.here:
        print(json.dumps(measure(options.networks[0], options.hardware, options.mode, options.effort)))
        return
    shared = ["--hardware", options.hardware, "--mode", options.mode, "--effort", str(options.effort), "--here"]
    found: list[dict[str, object]] = []
    for network in options.networks:
        done = subprocess.run([sys.executable, __file__, network, *shared], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{network}: {done.stderr.strip().splitlines()[-1]}")
        found.append(json.loads(done.stdout.splitlines()[-1]))
    if options.json:
        print(json.dumps(found, indent=2))
        return
    for one in found:
        where = f"{one['network']} on {one['hardware']} ({one['mode']}, effort {one['effort']})"
        spent = f"compile {one['compile_s']:.2f} s, simulate {one['simulate_s']:.2f} s"
        print(f"{where}: {spent}, {one['rows']} rows, peak {one['peak_mib']:.0f} MiB")


if __name__ == "__main__":
    main()
