"""What is said where a network has no room."""

from __future__ import annotations

from pimloom.errors import CapacityError
from pimloom.hardware import CrossbarHardware


def capacity_error(needed: int, hardware: CrossbarHardware) -> CapacityError:
    """The network has more weights than the machine has crossbars."""
    chips = -(-needed // (hardware.total_crossbars // hardware.chips))
    more = f"use at least {chips} chips (--chips {chips})"
    if hardware.chip_link is None:
        more = f"use more cores (--set chip.core_rows=...), as this machine has no chip_link to put {chips} chips together"
    return CapacityError(
        "crossbars", needed, hardware.total_crossbars, hardware.name,
        f"{more}, fewer weight bits, or a larger machine",
    )  # fmt: skip


def packing_error(needed: int, hardware: CrossbarHardware) -> CapacityError:
    """There are crossbars enough, but columns of weights do not pack into cores."""
    more = f"use more chips (--chips {hardware.chips + 1}), fewer weight bits, or cores with more crossbars"
    if hardware.chip_link is None:
        more = "use more cores (--set chip.core_rows=...), fewer weight bits, or cores with more crossbars"
    return CapacityError(
        f"crossbars in pieces that fit cores of {hardware.core.crossbars}", needed, hardware.total_crossbars, hardware.name, more
    )
