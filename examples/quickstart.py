"""Compiles a small network for two machines, in both modes, and prints what limits it.

Run it with `python examples/quickstart.py`; it takes a few seconds.
"""

from __future__ import annotations

from pathlib import Path

import pimloom
from pimloom.hardware import load_hardware

OWN_HARDWARE = Path(__file__).with_name("own_hardware.yaml")


def main() -> None:
    """Prints a line per machine and mode."""
    for machine in (load_hardware("isaac"), load_hardware(OWN_HARDWARE)):
        for mode in ("latency", "throughput"):
            result = pimloom.run("lenet", machine, mode=mode)
            assert result.verification is not None
            wanted = [bound for bound in result.bounds if bound.mode == mode]
            tightest = max(wanted, key=lambda bound: bound.cycles)
            time_cycles = result.latency_cycles if mode == "latency" else result.period_cycles
            print(
                f"{result.hardware:13} {mode:10}  {time_cycles:8.0f} cycles,"
                f" {tightest.cycles / time_cycles:4.2f} of the bound '{tightest.name}',"
                f" {sum(result.energy_pj.values()) * 1e-6:6.1f} uJ per sample,"
                f" bit exact: {result.verification.is_bit_exact}"
            )


if __name__ == "__main__":
    main()
