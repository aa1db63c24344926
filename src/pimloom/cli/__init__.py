"""The command line: a thin layer over `pimloom.api`.

Whatever is heavy (Numba, ONNX, NumPy) is imported by the command that needs it: `--help` answers at once.
"""

from pimloom.cli import catalogue, convert, plan, run, show  # each adds its commands
from pimloom.cli.process import app, main

__all__ = ["app", "catalogue", "convert", "main", "plan", "run", "show"]
