"""A program of one product, to time a plan without a network: a Linear node whose weights are all 0."""

from __future__ import annotations

from pimloom.hardware import SramHardware
from pimloom.ir.constants import FillConstant
from pimloom.ir.graph import Graph, Node
from pimloom.ir.types import Quant, TensorType
from pimloom.program import Program
from pimloom.targets import Request
from pimloom.targets.sram.compile import build
from pimloom.targets.sram.plan import Plan
from pimloom.targets.sram.products import Product, analyse
from pimloom.targets.sram.work import Work


def single_product(hardware: SramHardware, work: Work, plan: Plan) -> Program:
    """The program of a product under a plan; times do not depend on the weights, which are 0."""
    name = f"{work.vectors}x{work.rows}x{work.cols}"
    unit = Quant((1.0,), 0)
    types = {
        "x": TensorType("int8", (work.vectors, work.rows), unit),
        "w": TensorType("int8", (work.rows, work.cols), unit),
        "y": TensorType("int8", (work.vectors, work.cols), unit),
    }
    graph = Graph(name, ("x",), ("y",), (Node("Linear", ("x", "w"), ("y",), name="product"),), types, {"w": FillConstant(types["w"], 0)})
    network = analyse(graph, hardware.macro)
    (step,) = network.steps
    assert isinstance(step, Product)
    return build(network, hardware, [(step, plan)], Request(progress=lambda _: None), {})


__all__ = ["single_product"]
