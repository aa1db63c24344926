"""show: one of the four values as text."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from pimloom.cli.console import print_text
from pimloom.cli.files import load_machine, parsed_shapes
from pimloom.cli.options import HardwareOption, LayersOption, SeedOption, ShapeOption
from pimloom.cli.outcome import show_outcome
from pimloom.cli.process import app
from pimloom.cli.stored import read_result
from pimloom.errors import UsageError

if TYPE_CHECKING:
    from pimloom.result import Result


@app.command("show")
def show_command(
    thing: Annotated[str, typer.Argument(metavar="THING", help=(
        "ops, isa, a network (zoo or .onnx), a machine (preset or .yaml), a program (.npz) or a result (.json)."))],
    quantised: Annotated[bool, typer.Option("--quantised", help="Of a network: as it is given to a target.")] = False,
    hardware: HardwareOption = "isaac", shape: ShapeOption = None, seed: SeedOption = 0,
    core: Annotated[int | None, typer.Option("--core", min=0, help="Of a program: only this core.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Of a program: at most so many rows per core.")] = None,
    layers: LayersOption = False,
) -> None:  # fmt: skip
    """Prints one of the four values as text: a network, a machine, a program or a result; or the tables of ops."""
    if thing == "ops":
        print_text(_ops_text())
        return
    if thing == "isa":
        from pimloom.program.text import print_instruction_set

        print_text(print_instruction_set())
        return
    suffix = Path(thing).suffix.lower()
    if suffix in (".yaml", ".yml"):
        print_text(hardware_text(thing))
    elif suffix == ".npz":
        print_text(_program_text(thing, core, limit))
    elif suffix == ".json":
        _show_result(read_result(thing), layers=layers)
    elif suffix == ".onnx" or _is_network(thing):
        print_text(_network_text(thing, hardware, parsed_shapes(shape or ()), seed, quantised=quantised))
    else:
        _show_machine_or_fail(thing)


def _is_network(name: str) -> bool:
    from pimloom.frontends.zoo import ZOO

    return name in ZOO


def _show_machine_or_fail(name: str) -> None:
    from pimloom.hardware import preset_names

    if name not in preset_names():
        _fail_to_show(name)
    print_text(hardware_text(name))


def _fail_to_show(name: str) -> NoReturn:
    from pimloom.frontends.zoo import ZOO
    from pimloom.hardware import preset_names

    near = difflib.get_close_matches(name, [*ZOO, *preset_names(), "ops", "isa"], n=2, cutoff=0.6)
    hint = f"did you mean {' or '.join(near)}?" if near else "`pimloom models` and `pimloom hardware list` tell the names"
    expected = "a network, a preset, ops, isa or a file named .onnx, .yaml, .npz or .json"
    raise UsageError(f"show: '{name}' found, {expected} expected; {hint}")


def _ops_text() -> str:
    from pimloom.ir.ops import REQUIRED, find_op, op_names

    lines = [f"{'op':<26} {'on codes':<9} {'inputs':<7} attributes (= default, ! required)"]
    for name in op_names():
        op = find_op(name, "show")
        most = "any" if op.max_inputs < 0 else str(op.max_inputs)
        inputs = most if most == str(op.min_inputs) else f"{op.min_inputs}..{most}"
        attributes = ", ".join(f"{k}!" if v is REQUIRED else f"{k}={v}" for k, v in op.attributes.items())
        lines.append(f"{name:<26} {op.rule.value:<9} {inputs:<7} {attributes}".rstrip())
    return "\n".join(lines)


def _network_text(source: str, hardware: str, shapes: Mapping[str, tuple[int, ...]], seed: int, *, quantised: bool) -> str:
    from pimloom import api
    from pimloom.ir.text import print_graph

    graph = api.load(source, shapes, seed)
    return print_graph(api.quantise(graph, hardware, seed=seed) if quantised else graph)


def hardware_text(source: str, changes: Sequence[str] = ()) -> str:
    """A machine: derived figures, and all its values as YAML."""
    from pimloom.hardware import describe, to_yaml

    machine = load_machine(source, changes, None)
    return f"{describe(machine)}\n\n{to_yaml(machine)}"


def _program_text(path: str, core: int | None, limit: int | None) -> str:
    from pimloom.program.save import load_program
    from pimloom.program.text import print_program

    program = load_program(path)
    if core is not None and core >= program.n_processors:
        raise UsageError(f"--core: {core} found, 0 to {program.n_processors - 1} expected")
    return print_program(program, (core,) if core is not None else None, limit)


def _show_result(result: Result, *, layers: bool) -> None:
    show_outcome(result, None, layers=layers, written="")
