"""Engines that put rows in order, shared by targets."""

from pimloom.scheduling.hazards import local_hazards
from pimloom.scheduling.relist import can_relist, idle_cycles, relist, split_rows

__all__ = ["can_relist", "idle_cycles", "local_hazards", "relist", "split_rows"]
