"""What a run yields."""

from pimloom.result.batch import shared_out
from pimloom.result.result import SCHEMA_VERSION, Bound, NodeResult, Result, Rewriting, Trace, Verification

__all__ = ["SCHEMA_VERSION", "Bound", "NodeResult", "Result", "Rewriting", "Trace", "Verification", "shared_out"]
