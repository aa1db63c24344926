"""What a run yields."""

from pimloom.result.result import SCHEMA_VERSION, Bound, NodeResult, Result, Trace, Verification

__all__ = ["SCHEMA_VERSION", "Bound", "NodeResult", "Result", "Trace", "Verification"]
