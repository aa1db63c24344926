"""run, compile, simulate, execute, verify."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, final

import typer

from pimloom.cli.console import DISAGREES, DONE, print_text, stages
from pimloom.cli.files import Outputs, is_file, load_machine, parsed_shapes, read_inputs, write_arrays
from pimloom.cli.options import (
    FILES_PANEL,
    NETWORK_PANEL,
    ActivationBitsOption,
    AdcBitsOption,
    AdcRangeOption,
    AnalogOption,
    BatchOption,
    CellNoiseOption,
    ChipsOption,
    EffortOption,
    HardwareOption,
    InputOption,
    JsonOption,
    LayersOption,
    ModelArgument,
    ModeName,
    ModeOption,
    ProgramArgument,
    ReadNoiseOption,
    ReferenceName,
    ReferenceOption,
    ReportOption,
    RewriteOption,
    SeedOption,
    SetOption,
    ShapeOption,
    StrategyOption,
    TraceOption,
    WeightBitsOption,
)
from pimloom.cli.outcome import analog_facts, program_facts, show_outcome, verification_facts
from pimloom.cli.process import app
from pimloom.errors import ModelError, UsageError

if TYPE_CHECKING:
    from pimloom import api
    from pimloom.execute import Analog
    from pimloom.ir.graph import Graph
    from pimloom.program import Program
    from pimloom.result import Result


MOST_ELEMENTS = 2**28


@final
@dataclass(frozen=True, slots=True)
class _Order:
    """What `run` and `compile` are asked to compile; the names are those of the options."""

    model: str
    hardware: str
    changes: Sequence[str]
    chips: int | None
    mode: str
    batch: int | None
    effort: int
    seed: int
    weight_bits: int | None
    activation_bits: int | None
    shapes: Sequence[str]
    input: str | None
    strategy: str | None
    rewrite: bool

    def sources(self) -> dict[str, str]:
        """Files that are read."""
        named = {"model": self.model, "hardware file": self.hardware, "input file": self.input}
        return {what: path for what, path in named.items() if path is not None and is_file(path)}

    def check(self) -> None:
        """Refuses at once what does not need the network to be refused."""
        parsed_shapes(self.shapes)
        for option, bits in (("--weight-bits", self.weight_bits), ("--activation-bits", self.activation_bits)):
            if bits not in (None, 8, 16):
                raise UsageError(f"{option}: {bits} found, 8 or 16 expected")

    def compile(self, begin: Callable[[str], None]) -> api.Compiled:
        """Compiles; `begin` is told the steps."""
        from pimloom import api

        self.check()
        machine = load_machine(self.hardware, self.changes, self.chips)
        shapes = parsed_shapes(self.shapes)
        begin("loading")
        network = api.load(self.model, shapes, self.seed)
        _check_sizes(network)
        samples = read_inputs(self.input, network) if self.input is not None else ()
        return api.compile(
            network, machine, mode=self.mode, batch=self.batch or 0, effort=self.effort, seed=self.seed,
            weight_bits=self.weight_bits or 0, activation_bits=self.activation_bits or 0, calibration=samples,
            progress=begin, strategy=self.strategy or "", rewrite=self.rewrite,
        )  # fmt: skip


def _conditions(
    adc_bits: int | None, adc_range: float | None, cell_noise: float | None, read_noise: float | None, seed: int, *, is_analog: bool,
) -> Analog | None:  # fmt: skip
    """The conditions of an analog execution, None where none is asked for; refuses options that would have no effect."""
    given = {"--adc-bits": adc_bits, "--adc-range": adc_range, "--cell-noise": cell_noise, "--read-noise": read_noise}
    if not is_analog:
        idle = next((option for option, value in given.items() if value is not None), None)
        if idle is not None:
            raise UsageError(f"{idle}: given without --analog, without which it has no effect; add --analog")
        return None
    from pimloom.execute import Analog

    return Analog(adc_bits or 0, 1.0 if adc_range is None else adc_range, cell_noise or 0.0, read_noise or 0.0, seed)


def _check_sizes(graph: Graph) -> None:
    """Refuses what would exhaust the memory of this computer when the scales are chosen."""
    for name, kind in graph.types.items():
        if kind.size > MOST_ELEMENTS and name not in graph.constants:
            found = f"{kind.size:,} elements found in a value of shape {list(kind.shape)}"
            raise ModelError(f"value '{name}': {found}, at most {MOST_ELEMENTS:,} expected; use smaller inputs")


COMPILING = ("loading", "quantising", "mapping")


@app.command("run")
def run_command(
    model: ModelArgument, hardware: HardwareOption = "isaac", changes: SetOption = None, chips: ChipsOption = None,
    mode: ModeOption = ModeName.LATENCY, batch: BatchOption = None, effort: EffortOption = 1, seed: SeedOption = 0,
    strategy: StrategyOption = None, rewrite: RewriteOption = False,
    weight_bits: WeightBitsOption = None, activation_bits: ActivationBitsOption = None, shape: ShapeOption = None,
    input_file: InputOption = None, reference: ReferenceOption = ReferenceName.AUTO,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Neither executes the program nor compares numbers.")] = False,
    analog: AnalogOption = False,
    adc_bits: AdcBitsOption = None, adc_range: AdcRangeOption = None, cell_noise: CellNoiseOption = None,
    read_noise: ReadNoiseOption = None,
    json_file: JsonOption = None, report: ReportOption = None, trace: TraceOption = None,
    save: Annotated[str | None, typer.Option("--save", metavar="FILE.npz", rich_help_panel=FILES_PANEL, help="Writes the program.")] = None,
    layers: LayersOption = False,
) -> int:  # fmt: skip
    """Compiles a network, simulates the program, executes it, and compares its numbers with a reference."""
    order = _Order(model, hardware, changes or (), chips, mode.value, batch, effort, seed, weight_bits, activation_bits,
                   shape or (), input_file, strategy, rewrite)  # fmt: skip
    order.check()
    conditions = _conditions(adc_bits, adc_range, cell_noise, read_noise, seed, is_analog=analog)
    if no_verify and conditions is not None:
        raise UsageError("--no-verify: given with --analog, which executes the program; give one of them")
    with Outputs(order.sources()) as outputs:
        _claim_results(outputs, json_file, report, trace)
        outputs.claim("--save", save)
        with stages(*COMPILING, "simulating", "executing", "writing") as begin:
            compiled = order.compile(begin)
            begin("simulating")
            result = compiled.simulate(trace=report is not None or trace is not None)
            if not no_verify:
                begin("executing")
                result = _verified(compiled, result, reference.value, conditions)
            begin("writing")
            _write_results(outputs, result, compiled.program)
            outputs.write("--save", compiled.save)
    return show_outcome(result, json_file, layers=layers, written=outputs.names())


@app.command("compile")
def compile_command(
    model: ModelArgument,
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE.npz", rich_help_panel=FILES_PANEL, help="Where the program goes.")],
    hardware: HardwareOption = "isaac", changes: SetOption = None, chips: ChipsOption = None,
    mode: ModeOption = ModeName.LATENCY, batch: BatchOption = None, effort: EffortOption = 1, seed: SeedOption = 0,
    strategy: StrategyOption = None, rewrite: RewriteOption = False,
    weight_bits: WeightBitsOption = None, activation_bits: ActivationBitsOption = None, shape: ShapeOption = None,
    input_file: InputOption = None,
) -> None:  # fmt: skip
    """Compiles a network into a program file."""
    order = _Order(model, hardware, changes or (), chips, mode.value, batch, effort, seed, weight_bits, activation_bits,
                   shape or (), input_file, strategy, rewrite)  # fmt: skip
    order.check()
    with Outputs(order.sources()) as outputs:
        outputs.claim("--output", output)
        with stages(*COMPILING, "writing") as begin:
            compiled = order.compile(begin)
            begin("writing")
            outputs.write("--output", compiled.save)
    print_text(f"{program_facts(compiled.program)}\noutput: {output} ({_size(output)}, compiled in {compiled.compile_s:.2f} s)")


@app.command("simulate")
def simulate_command(
    program: ProgramArgument, json_file: JsonOption = None, report: ReportOption = None, trace: TraceOption = None,
    layers: LayersOption = False,
) -> int:  # fmt: skip
    """Simulates a program file: time and energy."""
    from pimloom import api

    with Outputs({"program": program}) as outputs:
        _claim_results(outputs, json_file, report, trace)
        with stages("loading", "simulating", "writing") as begin:
            compiled = api.load_compiled(program)
            begin("simulating")
            result = compiled.simulate(trace=report is not None or trace is not None)
            begin("writing")
            _write_results(outputs, result, compiled.program)
    return show_outcome(result, json_file, layers=layers, written=outputs.names())


@app.command("execute")
def execute_command(
    program: ProgramArgument, input_file: InputOption = None, seed: SeedOption = 0, analog: AnalogOption = False,
    adc_bits: AdcBitsOption = None, adc_range: AdcRangeOption = None, cell_noise: CellNoiseOption = None,
    read_noise: ReadNoiseOption = None,
    output: Annotated[str | None, typer.Option("--output", "-o", metavar="FILE.npz", rich_help_panel=FILES_PANEL,
                                               help="Writes the outputs by name.")] = None,
) -> None:  # fmt: skip
    """Executes a program file: its outputs for given inputs, or for random ones."""
    import numpy as np

    from pimloom import api

    conditions = _conditions(adc_bits, adc_range, cell_noise, read_noise, seed, is_analog=analog)
    with Outputs({"program": program, **({"input file": input_file} if input_file else {})}) as outputs:
        outputs.claim("--output", output)
        with stages("loading", "executing", "writing") as begin:
            compiled = api.load_compiled(program)
            samples = _samples(compiled.program.graph, input_file, seed)
            begin("executing")
            run = compiled.execute_analog(conditions, samples) if conditions is not None else None
            results = list(run.outputs) if run is not None else [compiled.execute(sample) for sample in samples]
            stacked = {v: np.stack([r[v] for r in results]) if len(results) > 1 else results[0][v] for v in results[0]}
            begin("writing")
            outputs.write("--output", write_arrays(stacked))
    lines = [_array_facts(name, array) for name, array in stacked.items()] + ([analog_facts(run.to_dict())] if run is not None else [])
    print_text("\n".join([f"outputs for {len(samples)} sample{'s' * (len(samples) > 1)}", *lines]) + f"\n{outputs.names()}")


@app.command("verify")
def verify_command(
    program: ProgramArgument, input_file: InputOption = None, seed: SeedOption = 0,
    model: Annotated[str | None, typer.Option("--model", metavar="MODEL", rich_help_panel=NETWORK_PANEL,
                                              help="The network it was compiled from, to compare with its float numbers.")] = None,
    shape: ShapeOption = None, reference: ReferenceOption = ReferenceName.AUTO, analog: AnalogOption = False,
    adc_bits: AdcBitsOption = None, adc_range: AdcRangeOption = None, cell_noise: CellNoiseOption = None,
    read_noise: ReadNoiseOption = None,
) -> int:  # fmt: skip
    """Checks a program file: that it is well formed, and that its numbers are those of its network."""
    from pimloom import api

    shapes = parsed_shapes(shape or ())
    conditions = _conditions(adc_bits, adc_range, cell_noise, read_noise, seed, is_analog=analog)
    with stages("loading", "executing") as begin:
        compiled = api.load_compiled(program)
        graph = compiled.program.graph
        if model is not None:
            compiled = replace(compiled, source=_source(api.load(model, shapes, seed), graph))
        samples = _samples(compiled.source or graph, input_file, seed)
        begin("executing")
        found = [compiled.verify(sample, reference=reference.value) for sample in samples]
        facts = [verification_facts(verification) for verification in found]
        if conditions is not None:
            facts.append(analog_facts(compiled.execute_analog(conditions, samples).to_dict()))
    print_text("\n".join([program_facts(compiled.program), "well formed: yes", *facts]))
    return DONE if all(v.ok for v in found) else DISAGREES


def _claim_results(outputs: Outputs, json_file: str | None, report: str | None, trace: str | None) -> None:
    outputs.claim("--json", json_file if json_file != "-" else None)
    outputs.claim("--report", report)
    outputs.claim("--trace", trace)


def _write_results(outputs: Outputs, result: Result, program: Program) -> None:
    if not outputs.claims:
        return
    from pimloom import api
    from pimloom.report import write_json, write_page, write_trace

    outputs.write("--json", lambda path: write_json(result, path))
    outputs.write("--report", lambda path: write_page(result, path, api.occupancy_figures(program)))
    outputs.write("--trace", lambda path: write_trace(result, path))


def _verified(compiled: api.Compiled, result: Result, reference: str, conditions: Analog | None) -> Result:
    import time

    begun = time.perf_counter()
    verification, notes = compiled.verify(reference=reference), dict(result.notes)
    if conditions is not None:
        notes["analog"] = compiled.execute_analog(conditions).to_dict()
    return replace(result, verification=verification, notes=notes, execute_s=time.perf_counter() - begun)


def _samples(graph: Graph, path: str | None, seed: int) -> list[dict[str, Any]]:
    from pimloom.frontends.zoo import input_example

    return read_inputs(path, graph) if path is not None else [input_example(graph, seed)]


def _source(source: Graph, quantised: Graph) -> Graph:
    """The float network of a program, if it can be that."""
    for what, own, other in (("inputs", source.inputs, quantised.inputs), ("outputs", source.outputs, quantised.outputs)):
        shapes = [(v, source.types[v].shape) for v in own]
        wanted = [(v, quantised.types[v].shape) for v in other]
        if shapes != wanted:
            raise UsageError(f"--model: {what} {shapes} found, the program has {wanted}; give the network it was compiled from")
    return source


def _array_facts(name: str, array: Any) -> str:
    shape = ", ".join(map(str, array.shape))
    if not array.size:
        return f"  {name} [{shape}]: empty"
    first = " ".join(f"{v:.4g}" for v in array.ravel()[:6].tolist()) + (" ..." if array.size > 6 else "")
    return f"  {name} [{shape}]: from {array.min():.4g} to {array.max():.4g}, mean {array.mean():.4g}; {first}"


def _size(path: str) -> str:
    from pimloom.units import format_bytes

    return format_bytes(Path(path).stat().st_size)
