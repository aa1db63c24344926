"""Numbers of programs: the interpreter and its comparison with the graph."""

from pimloom.execute.compare import compare, real_values
from pimloom.execute.interpreter import Interpreter, encode_inputs

__all__ = ["Interpreter", "compare", "encode_inputs", "real_values"]
