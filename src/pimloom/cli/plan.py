"""`plan`: how macros would be rewritten, for one matrix without a network, or for every layer of a network."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pimloom.cli.console import draw, new_table
from pimloom.cli.files import Outputs, load_machine
from pimloom.cli.options import FILES_PANEL, MACHINE_PANEL, HardwareOption, SetOption, ShapeOption
from pimloom.cli.process import app
from pimloom.errors import CapacityError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from pimloom.hardware import SramHardware
    from pimloom.targets.sram.plan import Plan
    from pimloom.targets.sram.tune import Timer
    from pimloom.targets.sram.work import Work

_SIZES, _HELD = "The product", "Held fixed"

Held = tuple[int | None, int | None, int | None]


@app.command("plan")
def plan_command(
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="A network of the zoo or an ONNX file; without, --rows, --cols and --vectors."),
    ] = None,
    rows: Annotated[
        int | None, typer.Option("--rows", min=1, rich_help_panel=_SIZES, help="Rows of the matrix: length of an input vector."),
    ] = None,
    cols: Annotated[
        int | None, typer.Option("--cols", min=1, rich_help_panel=_SIZES, help="Columns of the matrix: outputs per vector."),
    ] = None,
    vectors: Annotated[
        int | None, typer.Option("--vectors", min=1, rich_help_panel=_SIZES, help="Input vectors: tokens, pixels, a batch."),
    ] = None,
    shapes: ShapeOption = None, hardware: HardwareOption = "gpp-256", changes: SetOption = None,
    bandwidth: Annotated[
        int | None, typer.Option("--bandwidth", rich_help_panel=MACHINE_PANEL, help="Bytes per cycle of the off-chip link."),
    ] = None,
    strategy: Annotated[
        str | None, typer.Option("--strategy", metavar="NAME", show_default="auto", help="in_situ, naive_ping_pong, generalized or auto."),
    ] = None,
    macros: Annotated[int | None, typer.Option("--macros", rich_help_panel=_HELD, help="N, macros in use.")] = None,
    residency: Annotated[int | None, typer.Option("--residency", rich_help_panel=_HELD, help="n, vectors per residency.")] = None,
    speed: Annotated[int | None, typer.Option("--write-speed", rich_help_panel=_HELD, help="s, bytes per cycle of a rewrite.")] = None,
    is_simulated: Annotated[bool, typer.Option("--simulate", help="Simulates every plan shown instead of predicting its cycles.")] = False,
    ablate: Annotated[
        bool, typer.Option("--ablate", help="Simulates where a gain over naive ping-pong comes from; needs --macros and --residency."),
    ] = False,
    is_phased: Annotated[
        bool, typer.Option("--phases", help="Prints the paper's two phases with ideal costs, for no matrix: macros for the link, and "
                                            "settings of this machine when its link drops (by halves, or to --bandwidth)."),
    ] = False,
    figure: Annotated[
        str | None, typer.Option("--figure", metavar="FILE.html", rich_help_panel=FILES_PANEL,
                                 help="Draws macros and link over time, the plans of the strategies side by side."),
    ] = None,
) -> None:  # fmt: skip
    """Plans the rewriting of macros for a matrix, or for each layer of MODEL: macros, vectors per residency, write speed, stagger."""
    from pimloom.targets.sram.plan import check_setting
    from pimloom.targets.sram.predict import candidates
    from pimloom.targets.sram.work import Work

    sizes, held = (vectors, rows, cols), (macros, residency, speed)
    if is_phased:
        _check_phases(
            {"MODEL": model, "--vectors": vectors, "--rows": rows, "--cols": cols, "--shape": shapes or None, "--strategy": strategy,
             "--macros": macros, "--simulate": is_simulated or None, "--ablate": ablate or None, "--figure": figure}
        )  # fmt: skip
        _draw_phases(hardware, changes, bandwidth, residency, speed)
        return
    strategy = "auto" if strategy is None else strategy
    _check_given(model, sizes, held, figure, ablate=ablate)
    if shapes and model is None:
        raise UsageError("--shape: given without a network, whose inputs it is for; add a MODEL or leave it out")
    machine = _sram(hardware, changes, bandwidth)
    if ablate:
        _check_ablation(held, strategy, figure, is_simulated=is_simulated)
    if model is not None:
        from pimloom.cli.plan_network import draw_network_plans, draw_network_steps

        if ablate:
            draw_network_steps(machine, model, shapes or (), _or(macros, 1), _or(residency, 1))
        else:
            draw_network_plans(machine, model, shapes or (), strategy, is_simulated=is_simulated)
        return
    work = Work(_or(vectors, 1), _or(rows, 1), _or(cols, 1))
    if any(value is not None for value in held):
        fastest = machine.macro.fastest_write_bytes_per_cycle
        check_setting(machine, work, _or(macros, 1), _or(residency, 1), _or(speed, fastest))
    if ablate:
        draw(lambda console: _draw_steps(console, machine, work, _or(macros, 1), _or(residency, 1)))
        return
    fixed: dict[str, Any] = dict(zip(("macros", "vectors", "speeds"), ([v] if v is not None else None for v in held), strict=True))
    found = _distinct(candidates(machine, work, strategy, **fixed))
    with Outputs({}) as outputs:
        outputs.claim("--figure", figure)
        if is_simulated:
            found = _simulated(machine, work, found, strategy, fixed)
        if figure is not None:
            outputs.write("--figure", lambda path: _write_figure(path, machine, work, found))
    draw(lambda console: _draw(console, machine, work, found, held, is_simulated=is_simulated))


def _simulated(machine: SramHardware, work: Work, found: Sequence[Plan], strategy: str, fixed: Mapping[str, Any]) -> list[Plan]:
    """Plans with their simulated cycles, fastest first: those that are predicted to be best, and for each strategy what tuning finds."""
    from pimloom.targets.sram.strategies import BASELINES
    from pimloom.targets.sram.tune import choose

    timer = _timer(work)
    tuned: list[Plan] = []
    for family in (*(BASELINES if strategy == "auto" else ()), strategy):
        with contextlib.suppress(CapacityError, UsageError):
            tuned.append(choose(machine, work, family, timer, **fixed))
    timed = (replace(plan, cycles=timer(machine, plan)) for plan in found)
    return _distinct(sorted((*tuned, *timed), key=lambda plan: plan.cycles))


def _timer(work: Work) -> Timer:
    """Simulated cycles of plans of a product, each simulated once for each bandwidth: `auto` tries what the strategies tried, too."""
    from pimloom import api

    timed: dict[tuple[int, Plan], float] = {}

    def timer(hardware: SramHardware, plan: Plan) -> float:
        # What a plan is predicted to take is no part of what is simulated.
        bare = replace(plan, cycles=0.0, bound_cycles=0.0)
        key = (hardware.link.bytes_per_cycle, bare)
        if key not in timed:
            timed[key] = float(api.product_cycles(hardware, work, bare))
        return timed[key]

    return timer


def _distinct(found: Sequence[Plan]) -> list[Plan]:
    """The best plan of each strategy and way to go through the matrix."""
    kept: dict[tuple[Any, ...], Plan] = {}
    for plan in found:
        kept.setdefault((plan.strategy, plan.dataflow, plan.is_serpentine), plan)
    return list(kept.values())


def _write_figure(path: str | Path, machine: SramHardware, work: Work, found: Sequence[Plan]) -> None:
    """The first plan of each strategy, in the order of the table of strategies."""
    from pimloom import api
    from pimloom.report.occupancy import write_occupancy
    from pimloom.targets.sram.strategies import STRATEGIES

    firsts = {plan.strategy: plan for plan in reversed(found)}
    titles = {f"{name} (N {firsts[name].macros}, n {firsts[name].vectors})": firsts[name] for name in STRATEGIES if name in firsts}
    heading = f"{work.vectors} vectors x {work.rows} x {work.cols} on {machine.name}, {machine.link.bytes_per_cycle} bytes per cycle"
    write_occupancy(path, heading, api.product_occupancies(machine, work, titles))


def _check_given(model: str | None, sizes: Held, held: Held, figure: str | None, *, ablate: bool) -> None:
    """Refuses half a matrix, and beside a network what only a matrix has."""
    given = dict(zip(("--vectors", "--rows", "--cols"), sizes, strict=True))
    missing = [name for name, size in given.items() if size is None]
    if model is None:
        if missing:
            what = "neither a network nor a matrix" if len(missing) == len(given) else f"no {' and no '.join(missing)}"
            raise UsageError(f"plan: {what} found, a MODEL or --rows, --cols and --vectors expected")
        return
    if not ablate:
        given |= dict(zip(("--macros", "--residency", "--write-speed"), held, strict=True))
    for name, value in (*given.items(), ("--figure", figure)):
        if value is not None:
            raise UsageError(f"{name}: given with the network '{model}', whose layers have settings of their own; leave it out")


def _check_phases(given: Mapping[str, object]) -> None:
    """Refuses what only a matrix or a network has."""
    for option, value in given.items():
        if value is not None:
            raise UsageError(f"{option}: given with --phases, which is for no matrix in particular; leave one of them out")


def _draw_phases(hardware: str, changes: Sequence[str] | None, bandwidth: int | None, residency: int | None, speed: int | None) -> None:
    from pimloom.cli.plan_phases import draw_phases

    draw_phases(_sram(hardware, changes, bandwidth), residency, speed, bandwidth)


def _check_ablation(held: Held, strategy: str, figure: str | None, *, is_simulated: bool) -> None:
    """Refuses what an ablation needs or would ignore."""
    if held[0] is None or held[1] is None:
        raise UsageError("--ablate: no design point found, --macros and --residency expected; give e.g. --macros 128 --residency 4")
    if is_simulated:
        raise UsageError("--simulate: given with --ablate, which always simulates; leave it out")
    for option, is_given in (("--write-speed", held[2] is not None), ("--strategy", strategy != "auto"), ("--figure", figure is not None)):
        if is_given:
            raise UsageError(f"{option}: given with --ablate, which goes through all of them; leave it out")


def _draw_steps(console: Console, machine: SramHardware, work: Work, macros: int, vectors: int) -> None:
    """The steps from naive ping-pong at a design point to `auto`, with what each one gains."""
    from pimloom.targets.sram.explain import ablate

    steps = ablate(machine, work, macros, vectors, _timer(work))
    console.print(f"{work.vectors:,} vectors x {work.rows:,} x {work.cols:,} on {machine.name}, {machine.link.bytes_per_cycle} B/cycle")
    _draw_chunks(console, work, vectors)
    table = new_table("freedom", "strategy", "streams", "N>", "n>", "s>", "cycles>", "gain>", "in all>")
    before = steps[0].cycles
    for step in steps:
        cells = _cells(machine, step.plan)
        gains = (f"{before / step.cycles:.2f}x", f"{steps[0].cycles / step.cycles:.2f}x")
        table.add_row(step.name, *cells[:5], f"{step.cycles:,.0f}", *gains)
        before = step.cycles
    console.print(table)


def _or(value: int | None, default: int) -> int:
    return default if value is None else value


def _sram(hardware: str, changes: Sequence[str] | None, bandwidth: int | None) -> SramHardware:
    """The machine, its link of another bandwidth if one is given."""
    from pimloom.hardware import SramHardware

    if bandwidth is not None and any(change.split("=")[0].strip() == "link.bytes_per_cycle" for change in changes or ()):
        raise UsageError("--bandwidth: given with --set link.bytes_per_cycle, which says the same; leave one of them out")
    machine = load_machine(hardware, [*(changes or ()), *([f"link.bytes_per_cycle={bandwidth}"] if bandwidth is not None else [])], None)
    if not isinstance(machine, SramHardware):
        raise UsageError(f"hardware '{machine.name}': kind {machine.kind} found, sram expected; choose e.g. gpp-256")
    return machine


def _draw(console: Console, machine: SramHardware, work: Work, found: Sequence[Plan], held: Held, *, is_simulated: bool) -> None:
    """The plans as a table, with what its letters mean."""
    from pimloom.targets.sram.lower import MOST_ROWS
    from pimloom.targets.sram.plan import rows_of

    names = [name for name, value in zip("Nns", held, strict=True) if value is not None]
    tiles = f"{work.tiles(machine):,} tiles of {machine.macro.rows} x {machine.macro.cols}, {work.strips(machine):,} strips"
    console.print(
        f"{work.vectors:,} vectors x {work.rows:,} x {work.cols:,} on {machine.name}, {machine.link.bytes_per_cycle} B/cycle: {tiles}"
        + (f"; held fixed: {', '.join(names)}" if names else "")
    )
    if held[1] is not None:
        _draw_chunks(console, work, held[1])
    table = new_table("strategy", "streams", "N>", "n>", "s>", "a>", "sigma>", "G>", "cycles>", "bound>", "of it>")
    for plan in found:
        table.add_row(*_cells(machine, plan))
    console.print(table)
    rows = rows_of(machine, work, found[0])
    if rows > MOST_ROWS:
        console.print(
            f"a program would have {rows:,} rows, {MOST_ROWS:,} at most are expected: it is planned, but cannot be compiled", soft_wrap=True
        )
    console.print(_LEGEND.format("simulated" if is_simulated else "predicted"), soft_wrap=True)


def _draw_chunks(console: Console, work: Work, vectors: int) -> None:
    """Says how the vectors are cut if chunks are not of the size asked for."""
    chunks, largest = work.chunks(vectors), work.chunk_vectors(vectors)
    if largest != vectors:
        console.print(f"n {vectors}: {work.vectors:,} vectors make {chunks} chunks of at most {largest}")


_LEGEND = """
N macros, n vectors per chunk, s bytes per cycle of a rewrite, a macros that
write at once; groups G of them start sigma cycles apart. weights: all tiles
pass for each chunk (<> back and forth); inputs: all chunks pass for each tile.
cycles: {}. bound: loads / min(N / (write + compute), rate of the link)"""


def _cells(machine: SramHardware, plan: Plan) -> list[str]:
    from pimloom.targets.sram.plan import Dataflow

    stagger = plan.stagger_cycles(machine)
    streams = "inputs" if plan.dataflow is Dataflow.ACTIVATIONS else "weights <>" if plan.is_serpentine else "weights"
    return [
        plan.strategy, streams, str(plan.macros), str(plan.vectors), str(plan.bytes_per_cycle), str(plan.writers),
        str(stagger) if stagger else "-", str(plan.groups), _cycles_text(plan.cycles), _cycles_text(plan.bound_cycles),
        f"{plan.bound_cycles / plan.cycles:.2f}",
    ]  # fmt: skip


def _cycles_text(cycles: float) -> str:
    """Cycles with all digits, as far as a table has room for them."""
    return f"{cycles:,.0f}" if cycles < _MANY_CYCLES else f"{cycles:.3e}"


_MANY_CYCLES = 1e8


__all__ = ["plan_command"]
