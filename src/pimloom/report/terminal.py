"""What a person reads in a terminal after a run: a summary of a page, and the table of all layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pimloom.report import figures
from pimloom.result import NodeResult, Result
from pimloom.units import format_count, format_pj

SLOWEST_SHOWN = 8
WIDE_COLUMNS = 110
_EIGHTHS = " ▏▎▍▌▋▊▉"
_TEXT_HEADS = ("layer", "op", "waits for")
_NARROW_HEADS = ("layer", "op", "time", "energy", "copies", "waits for")
_WIDE_HEADS = ("layer", "op", "time", "start", "end", "arrays busy", "MACs", "energy", "copies", "arrays", "cores", "waits for")
_VERDICT_STYLES = {"ok": "bold green", "bad": "bold red", "none": "yellow"}


def summary_table(result: Result, console: Console) -> None:
    """Prints what a run took and whether its numbers are right; fits 80 columns, without colour if not a terminal.

    Args:
        result: of the run.
        console: where to print; its width decides how much detail the tables show.
    """
    bar_width = 24 if console.width < WIDE_COLUMNS else 44
    plain = console.options.ascii_only
    blocks: list[RenderableType] = [_title(result, plain=plain), _headline(result)]
    if result.total_energy_pj > 0:
        blocks.append(_section("energy per sample", _energy(result, bar_width, plain=plain)))
    if result.utilisation:
        blocks.append(_section("utilisation: busy share of the time per sample", _utilisation(result, bar_width, plain=plain)))
    if result.bounds:
        title = "lower bounds: compute holds for any mapping, the others for this program"
        blocks.append(_section(title, _bounds(result, wide=console.width >= WIDE_COLUMNS)))
    shown = figures.slowest(result, SLOWEST_SHOWN)
    if shown:
        title = f"slowest layers: {len(shown)} of {len(result.nodes)}, by time from first to last activity"
        blocks.append(_section(title, _layers(result, shown, console.width - 2)))
    blocks.append(_footer(result, plain=plain))
    console.print(Group(*blocks))


def layers_table(result: Result, console: Console) -> None:
    """Prints all layers in graph order, with more columns on a wide console."""
    table = _layers(result, result.nodes, console.width)
    console.print(Group(_title(result, plain=console.options.ascii_only), Text(), table))


def _title(result: Result, *, plain: bool) -> Text:
    dot = " - " if plain else " · "
    facts = (result.target, result.mode, f"{result.samples} sample{'' if result.samples == 1 else 's'}", f"{result.clock_ghz:g} GHz")
    return Text.assemble((result.model, "bold"), " on ", (result.hardware, "bold"), (dot + dot.join(facts), "dim"))


def _section(title: str, body: RenderableType) -> Group:
    return Group(Text(), Text(title, "bold"), Padding(body, (0, 0, 0, 2)))


def _grid(*justify: str) -> Table:
    table = Table.grid(padding=(0, 2))
    for side in justify:
        table.add_column(justify="right" if side == "right" else "left", no_wrap=side == "right")
    return table


def _headline(result: Result) -> Padding:
    table = _grid("left", "right", "left")
    t = figures.time_text
    table.add_row("latency", Text(t(result, result.latency_cycles), "bold"), figures.latency_text(result))
    rate = f"{format_count(result.throughput_per_s)}/s"
    table.add_row("throughput", Text(rate, "bold"), f"a sample every {t(result, result.period_cycles)}")
    energy = f"per sample; {figures.power_text(figures.power_mw(result))} on average"
    if figures.macs(result) and result.total_energy_pj:
        energy += f"; {figures.tops_per_w(result):.3g} TOPS/W"
    table.add_row("energy", Text(format_pj(result.total_energy_pj), "bold"), energy)
    held = figures.percent(result.arrays_in_use)
    table.add_row(result.array_name, Text(held, "bold"), f"of {result.resources.get(result.array_name, 0):,} hold weights")
    rewriting = result.rewriting
    if rewriting is not None:
        table.add_row("rewritten", Text(f"{rewriting.writes:,}", "bold"), figures.rewriting_text(rewriting))
    table.add_row("program", Text(f"{result.rows:,}", "bold"), f"rows; {format_count(result.instructions)} instructions per sample")
    return Padding(table, (1, 0, 0, 2))


def _energy(result: Result, width: int, *, plain: bool) -> Table:
    table = _grid("left", "right", "right", "left")
    for part in figures.shares(result.energy_pj):
        bar = _bar(part.fraction, width, plain=plain)
        table.add_row(part.name, format_pj(part.value), figures.percent(part.fraction), Text(bar, "blue"))
    return table


def _utilisation(result: Result, width: int, *, plain: bool) -> Table:
    table = _grid("left", "right", "right", "left")
    table.add_row(*(Text(head, "dim") for head in ("", "mean", "busiest", "")))
    for name in sorted(result.utilisation, key=lambda n: -result.busiest.get(n, 0.0)):
        mean, busiest = result.utilisation[name], result.busiest.get(name, 0.0)
        if busiest > 0:
            bar = _bar(mean, width, busiest, plain=plain)
            table.add_row(_with_count(name, result.resources), figures.percent(mean), figures.percent(busiest), Text(bar, "cyan"))
    return table


def _with_count(name: str, resources: Mapping[str, int]) -> Text:
    count = resources.get(name, 0)
    return Text.assemble(name, (f" x{count:,}" if count else "", "dim"))


def _bar(fraction: float, width: int, mark: float = 0.0, *, plain: bool) -> str:
    """A bar of text; `mark` is a second value, shown as a tick."""
    eighths = round(8 * width * min(max(fraction, 0.0), 1.0))
    full, rest = divmod(eighths, 8)
    solid, tick = ("#", "|") if plain else ("█", "│")
    bar = solid * full + ("" if plain or not rest else _EIGHTHS[rest])
    at = round(min(mark, 1.0) * width) - 1
    return bar if at < len(bar) else bar.ljust(at) + tick


def _bounds(result: Result, *, wide: bool) -> Table:
    table = _grid("left", "left", "right", "right", *(["left"] if wide else []))
    heads = ["for", "bound", "at least", "achieved", *(["meaning"] if wide else [])]
    table.add_row(*(Text(head, "dim") for head in heads))
    tight = figures.tightest(result)
    for bound in figures.ordered_bounds(result):
        achieved = Text(f"{result.achieved(bound):.2f} of it", "bold" if bound in tight else "")
        row: list[RenderableType] = [bound.mode, bound.name, figures.time_text(result, bound.cycles), achieved]
        table.add_row(*row, *([Text(bound.explanation, "dim")] if wide else []))
    return table


def _layers(result: Result, nodes: Iterable[NodeResult], console_width: int) -> Table:
    """The table of layers: figures keep their width, names take what is left."""
    wide = console_width >= WIDE_COLUMNS
    heads = _WIDE_HEADS if wide else _NARROW_HEADS
    rows = [heads, *(_layer_row(result, node, wide=wide) for node in nodes)]
    widths = [max(cell_len(row[i]) for row in rows) for i in range(len(heads))]
    widths[1] = min(widths[1], 20 if wide else 11)
    widths[0] = max(min(widths[0], console_width - 2 * len(heads) - sum(widths[1:])), 8)
    table = Table.grid(padding=(0, 2))
    for head, width in zip(heads, widths, strict=True):
        table.add_column(justify="left" if head in _TEXT_HEADS else "right", width=width, no_wrap=True, overflow="ellipsis")
    table.add_row(*(Text(head, "dim") for head in heads))
    for row in rows[1:]:
        table.add_row(Text(figures.shortened(row[0], widths[0])), *(Text(cell) for cell in row[1:]))
    return table


def _layer_row(result: Result, node: NodeResult, *, wide: bool) -> tuple[str, ...]:
    def time(cycles: float) -> str:
        return figures.time_text(result, cycles) if cycles else "-"

    copies, energy = str(node.copies or "-"), format_pj(node.energy_pj)
    if not wide:
        return node.name, node.op, time(figures.layer_cycles(node)), energy, copies, figures.wait_text(node, 1)
    busy, macs = time(figures.array_cycles(node)), format_count(node.macs) if node.macs else "-"
    return (
        node.name, node.op, time(figures.layer_cycles(node)), figures.time_text(result, node.start_cycles), time(node.end_cycles),
        busy, macs, energy, copies, f"{node.arrays:,}" if node.arrays else "-", f"{node.cores:,}", figures.wait_text(node, 1),
    )  # fmt: skip


def _footer(result: Result, *, plain: bool) -> Group:
    verdict = figures.verdict(result)
    dot = " - " if plain else " · "
    steps = (("compile", result.compile_s), ("simulate", result.simulate_s), ("execute", result.execute_s))
    spent = dot.join(f"{name} {figures.seconds_text(seconds)}" for name, seconds in steps)
    line = Text.assemble((verdict.headline, _VERDICT_STYLES[verdict.state]), ": ", verdict.sentence)
    return Group(Text(), line, Text(spent, "dim"))
