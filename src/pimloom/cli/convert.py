"""convert: between pimloom's program files and those of pimsim-nn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pimloom.cli.console import print_text, stages
from pimloom.cli.files import Outputs
from pimloom.cli.options import FILES_PANEL, ModeName
from pimloom.cli.process import app
from pimloom.errors import UsageError

if TYPE_CHECKING:
    from pimloom.program import Program

_ROOM = 1.25
"""Time that pimsim-nn simulates over the latency that we predict: it goes on to the end of that time."""

_STEADY_MS = 100.0
_PASSES = 50
"""The steady state is looked at for as many passes, or for `_STEADY_MS`, whichever is shorter."""

_ZIP = b"PK"

SourceArgument = Annotated[str, typer.Argument(metavar="FILE", help="A program of pimsim-nn (.gz or JSON), or a program file of pimloom.")]
ConfigOption = Annotated[
    str | None, typer.Option("--config", metavar="FILE.json", rich_help_panel=FILES_PANEL,
                             help="pimsim-nn's architecture file, to import; it names the network file."),
]  # fmt: skip
NetworkOption = Annotated[
    str | None, typer.Option("--network", metavar="FILE.json", rich_help_panel=FILES_PANEL,
                             help="A network file instead of the one that the architecture names."),
]  # fmt: skip
ConfigOutOption = Annotated[
    str | None, typer.Option("--config-out", metavar="FILE.json", rich_help_panel=FILES_PANEL,
                             help="Where the architecture file goes, to export; the network file goes beside it."),
]  # fmt: skip
ImportModeOption = Annotated[
    ModeName | None, typer.Option("--mode", help="One pass over the lists, or lists that repeat; as the configuration says if not given."),
]  # fmt: skip
NormalOption = Annotated[
    bool, typer.Option("--normal", help="Leaves pimsim-nn's oversights out of the imported machine; see docs/pimsim.md."),
]  # fmt: skip


@app.command("convert")
def convert_command(
    source: SourceArgument,
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE", rich_help_panel=FILES_PANEL, help="Where the program goes.")],
    config: ConfigOption = None, network: NetworkOption = None, config_out: ConfigOutOption = None, mode: ImportModeOption = None,
    normal: NormalOption = False,
) -> None:  # fmt: skip
    """Converts a program of pimsim-nn into a program file, or a program file into one of pimsim-nn."""
    if _is_program_file(source):
        if config_out is None or config is not None or network is not None or mode is not None or normal:
            raise UsageError(
                f"convert: '{source}' is a program of pimloom, which is exported with --output and --config-out alone; give these"
            )
        _export(source, output, config_out)
        return
    if config is None or config_out is not None:
        raise UsageError(f"convert: '{source}' is no program of pimloom; to import one of pimsim-nn give --config and --output")
    _import(source, output, config, network, mode.value if mode is not None else "", normal=normal)


def _is_program_file(path: str) -> bool:
    with Path(path).open("rb") as file:
        return file.read(len(_ZIP)) == _ZIP


def _import(source: str, output: str, config: str, network: str | None, mode: str, *, normal: bool) -> None:
    from pimloom.program import save_program
    from pimloom.program.pimsim import Quirks, read_architecture, read_program
    from pimloom.program.pimsim.check import remarks
    from pimloom.program.pimsim.convert import to_program

    sources = {"program": source, "configuration": config} | ({"network": network} if network is not None else {})
    with Outputs(sources) as outputs:
        outputs.claim("--output", output)
        with stages("reading", "converting", "writing") as begin:
            quirks = Quirks.none() if normal else Quirks()
            architecture = read_architecture(config, network=network)
            if mode:
                architecture = replace(architecture, sim_mode=int(mode == ModeName.LATENCY.value))
            table = read_program(source, quirks=quirks)
            begin("converting")
            program = to_program(table, architecture, name=_stem(source), machine=_stem(config), quirks=quirks)
            begin("writing")
            outputs.write("--output", lambda path: save_program(program, path))
    unused = f"\nwithout effect in {config}: {', '.join(architecture.without_effect)}" if architecture.without_effect else ""
    told = "".join(f"\nnote: {remark}" for remark in remarks(table))
    print_text(f"{_facts(program)}{told}{unused}\noutput: {output}")


def _export(source: str, output: str, config_out: str) -> None:
    from pimloom import api
    from pimloom.program import load_program
    from pimloom.program.pimsim.convert import to_table
    from pimloom.program.pimsim.export import write_configuration
    from pimloom.program.pimsim.machine import pimsim_of
    from pimloom.program.pimsim.writer import write_program
    from pimloom.simulate import simulate

    network = Path(config_out).with_name(f"{_stem(config_out)}_network.json")
    with Outputs({"program": source}) as outputs:
        outputs.claim("--output", output)
        outputs.claim("--config-out", config_out)
        with stages("loading", "lowering", "simulating", "writing") as begin:
            given = load_program(source)
            begin("lowering")
            program = api.to_pimsim(given)
            begin("simulating")
            result = simulate(program, trace=False, until_cycles=0)
            machine, is_once = pimsim_of(program), program.mode == "latency"
            latency_ms = result.latency_cycles * machine.period_ns * 1e-6
            if given.hardware.kind != "pimsim":
                time_ms = latency_ms * _ROOM if is_once else max(min(_STEADY_MS, latency_ms * _PASSES), latency_ms)
                machine = replace(machine, sim_time_ms=time_ms)
            if not is_once:
                result = simulate(program, trace=False, until_cycles=round(machine.sim_time_ms * 1e6 / machine.period_ns))
            begin("writing")
            outputs.write("--output", lambda path: write_program(to_table(program), path))
            outputs.write(
                "--config-out", lambda path: write_configuration(machine, path, path.with_name(network.name), sim_mode=int(is_once))
            )
    predicted = f"{latency_ms:.4g} ms" if is_once else f"{1e9 / (result.period_cycles * machine.period_ns):.4g} samples/s"
    print_text(f"{_facts(program)}\nour prediction of its result: {predicted}\noutput: {output}, {config_out}, {network}")


def _facts(program: Program) -> str:
    machine = program.hardware
    return (
        f"{program.name} on {machine.name} · pimsim-nn · {program.mode}\n"
        f"{program.n_rows:,} instructions beside scalar ones on {machine.processors} cores"
    )


def _stem(path: str) -> str:
    return Path(path).name.split(".")[0]
