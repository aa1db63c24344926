"""Time and energy of programs: a fast engine, a reference machine, costs and bounds."""

from pimloom.simulate.costs import CostedProgram, cost
from pimloom.simulate.simulate import cycles, simulate
from pimloom.simulate.timing import Times, Timing

__all__ = ["CostedProgram", "Times", "Timing", "cost", "cycles", "simulate"]
