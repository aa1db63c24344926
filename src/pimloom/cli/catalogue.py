"""What comes with pimloom: machines and networks; and warmup."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pimloom.cli.console import draw, new_table, print_text, stages
from pimloom.cli.files import Outputs, load_machine
from pimloom.cli.options import SeedOption, SetOption
from pimloom.cli.process import app
from pimloom.cli.run import COMPILING
from pimloom.cli.show import hardware_text
from pimloom.errors import ProgramError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from pimloom.ir.graph import Graph


hardware_app = typer.Typer(name="hardware", help="Machines: those that come with pimloom, and your own YAML files.")
app.add_typer(hardware_app)


@hardware_app.command("list")
def hardware_list_command() -> None:
    """Lists the machines that come with pimloom."""
    from pimloom.hardware import load_hardware, preset_names
    from pimloom.units import format_count

    def drawing(console: Console) -> None:
        table = new_table("name", "processors>", "arrays>", "weights>", "clock>", "description")
        for name in preset_names():
            machine = load_hardware(name)
            weights = format_count(machine.weights_capacity(machine.precision.weight_bits))
            table.add_row(name, f"{machine.processors:,}", f"{machine.arrays:,}", weights, f"{machine.clock_ghz:g} GHz",
                          machine.description)  # fmt: skip
        console.print(table)

    draw(drawing)


@hardware_app.command("show")
def hardware_show_command(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE")], changes: SetOption = None,
    source: Annotated[bool, typer.Option("--source", help="Prints a preset as it was written, with the source of each number.")] = False,
) -> None:  # fmt: skip
    """Prints a machine: derived figures, and all its values as YAML."""
    from pimloom.hardware import preset_text

    print_text(preset_text(name) if source else hardware_text(name, changes or ()))


@hardware_app.command("check")
def hardware_check_command(
    file: Annotated[str, typer.Argument(metavar="FILE")], changes: SetOption = None,
) -> None:  # fmt: skip
    """Checks a machine's YAML file and tells the figures that follow from it."""
    from pimloom.hardware import describe

    machine = load_machine(file, changes or (), None)
    print_text(f"{file}: well formed\n{describe(machine)}")


@hardware_app.command("schema")
def hardware_schema_command() -> None:
    """Prints the JSON schema of hardware files, for editors."""
    from pimloom.hardware import json_schema

    print_text(json.dumps(json_schema(), indent=2))


@app.command("models")
def models_command(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Of a network; all are listed if not given.")] = None,
    output: Annotated[str | None, typer.Option("--output", "-o", metavar="FILE.onnx", help="Writes the network as ONNX.")] = None,
    seed: SeedOption = 0,
) -> None:
    """Lists the networks of the zoo, tells about one, or writes it as an ONNX file."""
    if name is None:
        if output is not None:
            raise UsageError("--output: which network is to be written is not given; write e.g. pimloom models lenet -o lenet.onnx")
        draw(_draw_models)
        return
    from pimloom.frontends.zoo import ZOO, build

    graph = build(name, seed)
    with Outputs() as outputs:
        outputs.claim("--output", output)
        if output is not None:
            from pimloom.frontends import save_onnx

            with stages("writing"):
                outputs.write("--output", lambda path: save_onnx(graph, path))
    print_text(f"{_network_facts(graph, ZOO[name])}\n{outputs.names()}")


def _draw_models(console: Console) -> None:
    from pimloom.frontends.zoo import ZOO
    from pimloom.units import format_count

    table = new_table("name", "family", "parameters>", "MACs>", "summary")
    for model in ZOO.values():
        parameters, macs = _work(model.build(0))
        table.add_row(model.name, model.family, format_count(parameters), format_count(macs), model.summary)
    console.print(table)


def _network_facts(graph: Graph, model: Any) -> str:
    from pimloom.units import format_count

    parameters, macs = _work(graph)
    lines = [f"{model.name}: {model.summary}"]
    lines += [f"  input       {v} {graph.types[v]}" for v in graph.inputs]
    lines += [f"  output      {v} {graph.types[v]}" for v in graph.outputs]
    lines += [f"  parameters  {format_count(parameters)}", f"  MACs        {format_count(macs)}", f"  nodes       {len(graph.nodes)}"]
    return "\n".join([*lines, f"  source      {model.source}"])


def _work(graph: Graph) -> tuple[int, int]:
    """Numbers held in float constants, and multiply-accumulates of one inference."""
    from pimloom.ir.ops import full_attributes, op_of

    parameters = sum(c.type.size for c in graph.constants.values() if c.type.dtype.startswith("float"))
    macs = sum(op_of(n).macs(full_attributes(n), graph.input_types(n), graph.output_types(n)) for n in graph.nodes)
    return parameters, macs


@app.command("warmup")
def warmup_command() -> None:
    """Compiles the kernels, so that the next run starts at once."""
    import tempfile
    import time
    from pathlib import Path

    from pimloom import api
    from pimloom.program.pimsim import read_program
    from pimloom.program.pimsim.convert import to_table
    from pimloom.program.pimsim.writer import write_program

    begun = time.perf_counter()
    with stages(*COMPILING, "simulating", "executing", "programs of pimsim-nn") as begin:
        compiled = api.compile("tiny_mlp", "toy", progress=begin)
        begin("simulating")
        compiled.simulate()
        begin("executing")
        verification = compiled.verify(reference="none")
        begin("programs of pimsim-nn")
        lists = api.to_pimsim(api.compile("tiny_mlp", "pimcomp-default", effort=0).program)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "tiny_mlp.gz"
            write_program(to_table(lists), path)
            read_program(path)
    if not verification.ok:
        raise ProgramError("warmup: the numbers of the smallest program are wrong; reinstall pimloom")
    print_text(f"ready in {time.perf_counter() - begun:.1f} s")
