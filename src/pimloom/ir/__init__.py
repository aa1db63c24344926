"""The graph: a static network in ONNX's vocabulary, its meaning in NumPy, its text form and its checks."""

from pimloom.ir.builder import GraphBuilder
from pimloom.ir.constants import ArrayConstant, Constant, FileConstant, FillConstant, SeededConstant
from pimloom.ir.evaluate import evaluate, evaluate_node
from pimloom.ir.graph import AttributeValue, Graph, Node, Phase
from pimloom.ir.integer import Rescaler, code_range, decode, encode, make_rescaler
from pimloom.ir.ops import Op, Rule, add_rows, average_counts, find_op, full_attributes, infer_types, op_names, op_of
from pimloom.ir.ops.cost import element_operations
from pimloom.ir.ops.windows import Window, window_of
from pimloom.ir.quantised import quantised_meaning
from pimloom.ir.text import digest, parse_graph, print_graph, print_node, print_type
from pimloom.ir.types import DTYPES, Quant, TensorType
from pimloom.ir.verify import verify

__all__ = [  # noqa: RUF022 (grouped by use)
    # values
    "DTYPES", "AttributeValue", "Graph", "GraphBuilder", "Node", "Phase", "Quant", "TensorType",
    # constants
    "ArrayConstant", "Constant", "FileConstant", "FillConstant", "SeededConstant",
    # ops
    "Op", "Rule", "Window", "add_rows", "average_counts", "element_operations", "find_op", "full_attributes",
    "infer_types", "op_names", "op_of", "window_of",
    # meaning
    "evaluate", "evaluate_node", "quantised_meaning",
    # integer arithmetic
    "Rescaler", "code_range", "decode", "encode", "make_rescaler",
    # text and checks
    "digest", "parse_graph", "print_graph", "print_node", "print_type", "verify",
]  # fmt: skip
