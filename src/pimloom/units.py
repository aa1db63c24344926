"""Physical quantities: how they are named, converted and printed.

Names carry their unit as a suffix: `_cycles _ns _ghz _pj _bytes _bits _bytes_per_cycle _mw`.
Energies are floats in picojoules, times inside the engines are integer cycles.
"""

from __future__ import annotations

_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_NS_STEPS = ((1e9, "s"), (1e6, "ms"), (1e3, "us"), (1.0, "ns"))
_PJ_STEPS = ((1e12, "J"), (1e9, "mJ"), (1e6, "uJ"), (1e3, "nJ"), (1.0, "pJ"))
_BYTE_STEPS = ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B"))


def _scaled(value: float, steps: tuple[tuple[float, str], ...]) -> str:
    for factor, unit in steps:
        if abs(value) >= factor:
            return f"{value / factor:.4g} {unit}"
    return f"{value:.4g} {steps[-1][1]}"


def format_ns(time_ns: float) -> str:
    """Prints a time with the unit that suits it: `format_ns(1500.0) == '1.5 us'`."""
    return _scaled(time_ns, _NS_STEPS)


def format_pj(energy_pj: float) -> str:
    """Prints an energy with the unit that suits it: `format_pj(2e6) == '2 uJ'`."""
    return _scaled(energy_pj, _PJ_STEPS)


def format_bytes(size_bytes: float) -> str:
    """Prints a size in binary units: `format_bytes(2048) == '2 KiB'`."""
    return _scaled(size_bytes, _BYTE_STEPS)


def format_count(value: float) -> str:
    """Prints a large count with an SI prefix: `format_count(12000) == '12 k'`."""
    for factor, prefix in _PREFIXES:
        if abs(value) >= factor:
            return f"{value / factor:.4g} {prefix}".rstrip()
    return f"{value:.4g}"


def cycles_to_ns(time_cycles: float, clock_ghz: float) -> float:
    """Converts cycles of a clock in GHz to nanoseconds."""
    return time_cycles / clock_ghz
