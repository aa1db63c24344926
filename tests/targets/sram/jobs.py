"""Single products for tests: a Linear node of given size, its program under a given plan, and what the simulator says."""

from __future__ import annotations

from functools import cache, lru_cache

import numpy as np

from pimloom.hardware import SramHardware, load_hardware
from pimloom.ir import Graph, Node
from pimloom.ir.constants import ArrayConstant
from pimloom.ir.types import Quant, TensorType
from pimloom.program import Program
from pimloom.simulate import engine
from pimloom.simulate.costs import cost
from pimloom.targets import Request
from pimloom.targets.sram.compile import build
from pimloom.targets.sram.plan import Dataflow, Plan
from pimloom.targets.sram.products import Product, analyse
from pimloom.targets.sram.tune import choose
from pimloom.targets.sram.work import Work


@cache
def product_graph(vectors: int, rows: int, cols: int, seed: int = 0) -> Graph:
    """`vectors` x `rows` codes times a random matrix of `rows` x `cols`, already quantised."""
    rng = np.random.Generator(np.random.Philox(seed))
    weights = rng.integers(-127, 128, (rows, cols)).astype(np.int8)
    bias = rng.integers(-1000, 1000, cols).astype(np.int32)
    types = {
        "x": TensorType("int8", (vectors, rows), Quant((0.02,), 0)),
        "w": TensorType("int8", (rows, cols), Quant((0.01,), 0)),
        "b": TensorType("int32", (cols,), Quant((0.0002,), 0)),
        "y": TensorType("int8", (vectors, cols), Quant((0.02 * rows**0.5,), 0)),
    }
    constants = {"w": ArrayConstant(weights, types["w"]), "b": ArrayConstant(bias, types["b"])}
    node = Node("Linear", ("x", "w", "b"), ("y",), name="dense")
    return Graph(f"product_{vectors}x{rows}x{cols}", ("x",), ("y",), (node,), types, constants)


@cache
def heads_graph(heads: int, vectors: int, rows: int, cols: int) -> Graph:
    """Two values multiplied head by head: [heads, vectors, rows] x [heads, rows, cols], already quantised."""
    types = {
        "x": TensorType("int8", (heads, vectors, rows), Quant((0.02,), 0)),
        "w": TensorType("int8", (heads, rows, cols), Quant((0.01,), 0)),
        "y": TensorType("int8", (heads, vectors, cols), Quant((0.02 * rows**0.5,), 0)),
    }
    return Graph("heads", ("x", "w"), ("y",), (Node("MatMul", ("x", "w"), ("y",), name="heads"),), types, {})


def machine(name: str = "gpp-256", *overrides: str) -> SramHardware:
    """A preset with overrides."""
    hardware = load_hardware(name, list(overrides))
    assert isinstance(hardware, SramHardware)
    return hardware


def request(strategy: str = "auto") -> Request:
    """A request without search and without a word."""
    return Request(effort=0, progress=lambda _: None, strategy=strategy)


def program(hardware: SramHardware, graph: Graph, plan: Plan) -> Program:
    """The program of a graph of one product under a plan."""
    network = analyse(graph, hardware.macro)
    (step,) = network.steps
    assert isinstance(step, Product)
    return build(network, hardware, [(step, plan)], request(), {})


def plan(strategy: str, macros: int, vectors: int, speed: int, writers: int = 0, **more: object) -> Plan:
    """A plan with given settings; all macros write at once unless said otherwise."""
    return Plan(strategy, Dataflow.WEIGHTS, macros, vectors, speed, writers or macros, 0.0, 0.0, **more)  # type: ignore[arg-type]


def macro_cycles(made: Program) -> int:
    """Cycles until the last macro is done, which is what the counter of the published RTL tells; the SFU comes after."""
    costed = cost(made)
    times = engine.run(costed.timing).in_cycles(costed.ticks_per_cycle)
    return int(times.done[made.rows["processor"] < made.hardware.arrays].max())


def cycles(made: Program) -> int:
    """Cycles until everything is done."""
    costed = cost(made)
    return int(engine.run(costed.timing).in_cycles(costed.ticks_per_cycle).done.max())


def simulated(hardware: SramHardware, work: Work, strategy: str, steps: int = 8) -> tuple[Plan, int]:
    """The plan of a strategy for a product, tuned with the simulator, and its cycles."""
    chosen = choose(hardware, work, strategy, lambda machine, one: float(_product_cycles(machine, work, one)), steps)
    return chosen, cycles(program(hardware, product_graph(work.vectors, work.rows, work.cols), chosen))


@lru_cache(maxsize=65536)
def _product_cycles(hardware: SramHardware, work: Work, one: Plan) -> int:
    """Cycles of a product under a plan, which searches of several families ask for."""
    return cycles(program(hardware, product_graph(work.vectors, work.rows, work.cols), one))
