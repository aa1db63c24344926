"""The Python interface: load, compile, simulate, execute, verify. Only this module joins targets and engines."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, final

import numpy as np

from pimloom.errors import ModelError, ProgramError, UsageError, VerificationError
from pimloom.execute import Analog, AnalogRun, Interpreter, compare, encode_inputs, real_values, run_analog
from pimloom.frontends import load_onnx, to_onnx
from pimloom.frontends.zoo import ZOO, build, input_example
from pimloom.hardware import Hardware, SramHardware, load_hardware
from pimloom.ir.evaluate import evaluate
from pimloom.ir.graph import Graph
from pimloom.passes import EliminateDeadNodes, default_pipeline, error_bound
from pimloom.program import OPCODES, Program
from pimloom.program.pimsim.export import as_repeated, export_program, export_with_cycles
from pimloom.program.residency import writes_arrays
from pimloom.program.save import load_program, save_program
from pimloom.report.occupancy import Occupancy, OccupancyFigure, occupancy
from pimloom.report.page import notebook_html
from pimloom.result import Result, Verification, shared_out
from pimloom.scheduling import can_relist, relist, split_rows
from pimloom.simulate import cost, cycles, engine
from pimloom.simulate import simulate as simulate_program
from pimloom.targets import TARGETS, Mode, Request
from pimloom.targets.sram.explain import heaviest_product
from pimloom.targets.sram.plan import Plan
from pimloom.targets.sram.single import single_product
from pimloom.targets.sram.work import Work

Array = np.ndarray[Any, np.dtype[Any]]
Inputs = Mapping[str, Array]


Result.drawn_by = notebook_html  # a Result lies below the reports and cannot know them


def _quiet(_: str) -> None:
    """Progress that nobody wants to see."""


def load(source: str | Path | Graph | Any, shapes: Mapping[str, tuple[int, ...]] | None = None, seed: int = 0) -> Graph:
    """Loads a network.

    Args:
        source: a name of the zoo (`pimloom models`), the path of an ONNX file, an `onnx.ModelProto`, or a Graph.
        shapes: shapes of inputs whose dimensions are symbolic.
        seed: of the weights of zoo networks.

    Raises:
        ModelError: the network is malformed or uses something unsupported.
    """
    if isinstance(source, Graph):
        return source
    if isinstance(source, str) and source in ZOO:
        if shapes:
            raise UsageError(f"'{source}' is a network of the zoo with fixed shapes; --shape is for ONNX files")
        return build(source, seed)
    if isinstance(source, str) and "/" not in source and not Path(source).suffix and not Path(source).exists():
        return build(source, seed)  # raises with the nearest names
    return load_onnx(source, shapes)


def hardware(source: str | Path | Hardware, overrides: Sequence[str] | Mapping[str, Any] = ()) -> Hardware:
    """Loads a machine: a preset, a YAML file, or one that is loaded already, with overrides such as `chips=2`."""
    if not isinstance(source, (str, Path)):
        return source
    return load_hardware(source, overrides)


@final
@dataclass(frozen=True, repr=False)
class Compiled:
    """A compiled network: its program, and the graphs it came from.

    Attributes:
        program: what is simulated and executed.
        source: the float graph, None for a program loaded from a file.
        calibration: the inputs it was quantised with.
        compile_s: seconds of compiling.
    """

    program: Program
    source: Graph | None = None
    calibration: Inputs = field(default_factory=dict[str, Array])
    compile_s: float = 0.0

    def __repr__(self) -> str:
        """A line: the program."""
        return f"<Compiled {self.program!r}>"

    @cached_property
    def _interpreter(self) -> Interpreter:
        return Interpreter(self.program)

    def simulate(self, *, trace: bool = True) -> Result:
        """Time and energy."""
        result = replace(simulate_program(self.program, trace=trace), compile_s=self.compile_s)
        return shared_out(result, result.rewriting.samples if result.rewriting is not None else 1)

    def execute(self, inputs: Inputs | None = None, *, analog: Analog | None = None) -> dict[str, Array]:
        """Real outputs (float64) for real inputs; the calibration inputs if none are given.

        Args:
            inputs: real inputs by name.
            analog: conditions under which the crossbars compute; exact integers if not given.
        """
        if analog is None:
            return real_values(self.program.graph, self.execute_codes(inputs))
        codes = encode_inputs(self.program, self._given(inputs))
        return real_values(self.program.graph, Interpreter(self.program, analog).run(codes))

    def execute_analog(self, analog: Analog, samples: Sequence[Inputs] = ()) -> AnalogRun:
        """Executes samples under analog conditions: outputs, their error against exact arrays, and what the ADCs saw.

        Args:
            analog: the conditions.
            samples: real inputs by name, one mapping per sample; the calibration inputs if there are none.

        Raises:
            UsageError: the machine has no analog arrays.
        """
        codes = [encode_inputs(self.program, sample) for sample in samples or (self._given(None),)]
        return run_analog(self._interpreter, analog, codes)

    def execute_codes(self, inputs: Inputs | None = None) -> dict[str, Array]:
        """Output codes for real inputs."""
        return self._interpreter.run(encode_inputs(self.program, self._given(inputs)))

    def verify(self, inputs: Inputs | None = None, *, reference: str = "auto") -> Verification:
        """Executes the program and compares: bit by bit with the graph, within the stated bound with the float network.

        Args:
            inputs: real inputs; the calibration inputs if none are given.
            reference: "onnxruntime", "graph" (our own float meaning), "none", or "auto" for the first that is there.
        """
        given = self._given(inputs)
        codes = encode_inputs(self.program, given)
        executed = self._interpreter.run(codes)
        meaning = evaluate(self.program.graph, codes)
        name, real, bounds = self._reference(given, reference)
        return compare(self.program.graph, executed, meaning, real, name, bounds)

    def save(self, path: str | Path) -> None:
        """Writes the program to a file."""
        save_program(self.program, path)

    def _given(self, inputs: Inputs | None) -> Inputs:
        if inputs is not None:
            return inputs
        return self.calibration or input_example(self.program.graph)

    def _reference(self, inputs: Inputs, wanted: str) -> tuple[str, Inputs, dict[str, float]]:
        if wanted == "none" or self.source is None:
            return "graph" if self.source is None else "none", {}, {}
        real = {v: np.asarray(inputs[v]).astype(self.source.types[v].dtype) for v in self.source.inputs}
        quantised = _with_outputs(self.program.graph, self.source.outputs)
        bounds = {v: b.bound for v, b in error_bound(self.source, quantised, (real,)).items()}
        if wanted in ("auto", "onnxruntime"):
            found = _onnxruntime(self.source, real)
            if found is not None:
                return "onnxruntime", found, bounds
            if wanted == "onnxruntime":
                raise VerificationError(
                    "onnxruntime is not installed or does not run this network; pip install 'pimloom[verify]', or use --reference graph"
                )
        return "graph", evaluate(self.source, real), bounds


def _with_outputs(graph: Graph, outputs: tuple[str, ...]) -> Graph:
    """The graph, without what only other outputs need: one network, where there is one per sample."""
    if graph.outputs == outputs:
        return graph
    kept = EliminateDeadNodes()(replace(graph, outputs=outputs))
    read = {value for node in kept.nodes for value in node.inputs}.union(outputs)
    return replace(kept, inputs=tuple(v for v in kept.inputs if v in read))


def _onnxruntime(graph: Graph, inputs: Inputs) -> dict[str, Array] | None:
    """Outputs of the float network from ONNX Runtime; None where it is not installed or refuses the network."""
    try:
        import onnxruntime  # pyright: ignore[reportMissingTypeStubs]
    except ImportError:
        return None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # A reference computes what is written: of its fusions, that of a padding with zeros into a pool of maxima pads with -inf (1.31).
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(to_onnx(graph).SerializeToString(), options, providers=["CPUExecutionProvider"])
        outputs = session.run(list(graph.outputs), dict(inputs))
    except Exception:  # ONNX Runtime raises types of its own without a common base; what it refuses, our own meaning checks
        return None
    return dict(zip(graph.outputs, (np.asarray(o) for o in outputs), strict=True))


def quantise(
    graph: Graph, machine: str | Path | Hardware = "isaac", weight_bits: int = 0, activation_bits: int = 0,
    calibration: Sequence[Inputs] = (), seed: int = 0,
) -> Graph:  # fmt: skip
    """The form of a network that a target is given: cleaned up, its weights and activations integers.

    Args:
        graph: a loaded network.
        machine: see `hardware`.
        weight_bits: 8 or 16; 0 for the machine's own.
        activation_bits: 8 or 16; 0 for the machine's own.
        calibration: real inputs to choose the scales with; seeded random ones if there are none.
        seed: of those.

    Raises:
        ModelError: something in the network cannot be quantised, or nothing is left to compute.
    """
    bits, samples = hardware(machine).precision, tuple(calibration) or (input_example(graph, seed),)
    quantised = default_pipeline(weight_bits or bits.weight_bits, activation_bits or bits.activation_bits, samples, seed)(graph)
    if not quantised.nodes:
        raise ModelError(f"network '{graph.name}': nothing is left to compute; its outputs are constants or inputs")
    return quantised


def compile(
    model: str | Path | Graph | Any, machine: str | Path | Hardware = "isaac", *, mode: str = "latency", batch: int = 0, effort: int = 1,
    seed: int = 0, weight_bits: int = 0, activation_bits: int = 0, calibration: Sequence[Inputs] = (),
    shapes: Mapping[str, tuple[int, ...]] | None = None, progress: Callable[[str], None] = _quiet, strategy: str = "",
    rewrite: bool = False,
) -> Compiled:  # fmt: skip
    """Compiles a network for a machine.

    Args:
        model: see `load`.
        machine: see `hardware`.
        mode: "latency" (one sample as early as possible) or "throughput" (samples per second).
        batch: samples per run; 0 for 1 in latency mode and 8 in throughput mode.
        effort: 0 to 3, how long to search for a better mapping.
        seed: of the weights of zoo networks, of random calibration inputs and of the search.
        weight_bits: 8 or 16; 0 for the machine's own.
        activation_bits: 8 or 16; 0 for the machine's own.
        calibration: real inputs to choose the scales with; seeded random ones if there are none.
        shapes: see `load`.
        progress: called with a word when a step begins.
        strategy: which array is written when, on machines of kind `sram` (docs/targets/sram.md), and with `rewrite`; "" for the fastest.
        rewrite: whether a network that does not fit may have its arrays rewritten while it runs, on machines of kind `crossbar`.

    Raises:
        ModelError: the network cannot be loaded or compiled.
        HardwareError: the machine cannot be loaded.
        CapacityError: the machine is too small.
        UsageError: an argument is out of range.
    """
    chosen = hardware(machine)
    if mode not in [m.value for m in Mode]:
        raise UsageError(f"mode: '{mode}' found, 'latency' or 'throughput' expected")
    for name, bits in (("weight_bits", weight_bits), ("activation_bits", activation_bits)):
        if bits not in (0, 8, 16):
            raise UsageError(f"{name}: {bits} found, 8 or 16 expected")
    request = Request(Mode(mode), batch or (8 if mode == "throughput" else 1), effort, seed, cycles, progress, strategy, rewrite)
    if rewrite and chosen.kind != "crossbar":
        raise UsageError(f"rewrite: found on '{chosen.name}' of kind '{chosen.kind}', a machine of kind 'crossbar' expected; leave it out")
    if strategy and not TARGETS[chosen.kind].has_strategies:
        raise UsageError(f"strategy: '{strategy}' found, none expected on '{chosen.name}': machines of kind '{chosen.kind}' have no choice")
    progress("loading")
    begun = time.perf_counter()
    graph = load(model, shapes, seed)
    samples = tuple(calibration) or (input_example(graph, seed),)
    progress("quantising")
    quantised = quantise(graph, chosen, weight_bits, activation_bits, samples, seed)
    program = TARGETS[chosen.kind].compile(quantised, chosen, request)
    return Compiled(program, graph, _calibration(program, samples, seed), time.perf_counter() - begun)


def _calibration(program: Program, samples: Sequence[Inputs], seed: int) -> Inputs:
    """The first sample; for a network that stands there once per sample, each with inputs of its own."""
    own = input_example(program.graph, seed) if any(v not in samples[0] for v in program.graph.inputs) else {}
    return {**own, **samples[0]}


def product_cycles(machine: SramHardware, work: Work, plan: Plan) -> int:
    """Simulated cycles of one product on a machine of kind `sram`, without a network."""
    return cycles(single_product(machine, work, plan))[0]


def product_occupancies(machine: SramHardware, work: Work, plans: Mapping[str, Plan]) -> tuple[Occupancy, ...]:
    """What macros and link do over time under some plans, by title, on a common axis."""
    return _occupancies({title: (single_product(machine, work, plan), plan.macros) for title, plan in plans.items()})


def occupancy_figures(program: Program) -> tuple[OccupancyFigure, ...]:
    """What macros and link do over time in a program for a machine of kind `sram`, for `write_page`; nothing for others.

    First the whole program, then its heaviest product alone under each of the paper's strategies side by side.
    """
    machine = program.hardware
    if not isinstance(machine, SramHardware):
        return ()
    name, compared = heaviest_product(program)
    title = str(program.notes.get("strategy", ""))
    whole = OccupancyFigure(f"The whole of {program.name}", _occupancies({title: (program, machine.arrays)}))
    if not compared:
        return (whole,)
    told = {f"{strategy} (N {plan.macros}, n {plan.vectors})": (made, plan.macros) for strategy, (made, plan) in compared.items()}
    return whole, OccupancyFigure(f"'{name}', its heaviest product, alone under each strategy as predicted best", _occupancies(told))


def _occupancies(programs: Mapping[str, tuple[Program, int]]) -> tuple[Occupancy, ...]:
    """Programs and how many macros each uses, by title."""
    runs = {title: (costed := cost(program), engine.run(costed.timing)) for title, (program, _) in programs.items()}
    span = max(math.ceil(times.done.max(initial=0) / costed.ticks_per_cycle) for costed, times in runs.values())
    found: list[Occupancy] = []
    for title, (costed, times) in runs.items():
        program, macros = programs[title]
        assert isinstance(program.hardware, SramHardware)
        opcode, ticks = program.rows["opcode"], costed.ticks_per_cycle
        found.append(occupancy(
            title, times.start[:, 0] / ticks, times.done[:, 0] / ticks, opcode == OPCODES["write_weights"], opcode == OPCODES["mvm"],
            costed.costs.moved_bytes.get("off-chip link", np.zeros(opcode.size))[costed.forms.of_row], macros=macros,
            bytes_per_cycle=program.hardware.link.bytes_per_cycle, span_cycles=max(span, 1),
        ))  # fmt: skip
    return tuple(found)


def load_compiled(path: str | Path) -> Compiled:
    """A program saved by `Compiled.save` or `pimloom compile`."""
    return Compiled(load_program(path))


def run(
    model: str | Path | Graph | Any, machine: str | Path | Hardware = "isaac", *, verify: bool = True, inputs: Inputs | None = None,
    **options: Any,
) -> Result:  # fmt: skip
    """Compiles, simulates, executes and verifies; `options` are those of `compile`."""
    compiled = compile(model, machine, **options)
    result = compiled.simulate()
    if not verify:
        return result
    begun = time.perf_counter()
    verification = compiled.verify(inputs)
    return replace(result, verification=verification, execute_s=time.perf_counter() - begun)


STEADY_PASSES: Final = 20
"""Passes that lists of pimsim-nn are repeated for, to see how they do."""


def to_pimsim(program: Program) -> Program:
    """A program for crossbars in pimsim-nn's instruction set, to be simulated here or written for that simulator.

    Where a core does one thing at a time, its list is put in an order in which cores wait less for each other, by pimsim-nn's
    durations; if that is no gain, it keeps the order of the program.

    Args:
        program: for a machine of kind `crossbar`; one of kind `pimsim` is returned as it is.

    Raises:
        ProgramError: the program holds something that pimsim-nn cannot run.
    """
    if writes_arrays(program) and program.hardware.kind == "crossbar":
        name = f"program '{program.name}'"
        raise ProgramError(f"{name}: arrays are rewritten while it runs, which pimsim-nn cannot say; compile it without --rewrite")
    if program.hardware.kind != "crossbar" or not can_relist(program):
        return export_program(program)
    pieces = split_rows(as_repeated(program))
    plain, row_cycles = export_with_cycles(pieces)
    ordered = relist(pieces, row_cycles)
    if ordered is None:
        return plain
    return min((export_program(ordered.program), plain), key=_pimsim_cycles)


def _pimsim_cycles(program: Program) -> float:
    """Cycles of a program for pimsim-nn by which its mode is judged: of one pass, or between passes when lists repeat."""
    once = simulate_program(program, trace=False, until_cycles=0).latency_cycles
    if program.mode != "throughput":
        return once
    return simulate_program(program, trace=False, until_cycles=STEADY_PASSES * once).period_cycles
