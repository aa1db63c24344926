"""The HTML page of a result: one file that works offline and asks the network for nothing.

The template holds the tables, so that they can be read without scripts; `page.js` draws the rest from one JSON value.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from pimloom.report import figures
from pimloom.report.files import plain, write_whole
from pimloom.report.occupancy import OccupancyFigure
from pimloom.report.timeline import MOST_SLICES, Array, coverage, merge_slices
from pimloom.result import NodeResult, Result, Trace
from pimloom.units import format_bytes, format_count, format_ns, format_pj

MOST_HEAT_CELLS = 1_000_000
FEWEST_BINS, MOST_BINS = 60, 480
LINKS_PER_ROUTER = 5  # east, west, south, north for each router in row order, then the local port of each router


def write_page(result: Result, path: str | Path, occupancies: Sequence[OccupancyFigure] = ()) -> Path:
    """Writes the page of a result.

    Args:
        result: of the run.
        path: of the file; it is replaced as a whole.
        occupancies: what arrays that are rewritten do over time, for a section of its own.

    Raises:
        UsageError: the file cannot be written.
    """
    return write_whole(path, page_html(result, occupancies).encode())


def page_html(result: Result, occupancies: Sequence[OccupancyFigure] = ()) -> str:
    """The page as text, about 5 MB, most of it plotly.js."""
    timeline = _timeline(result)
    template = environment().get_template("page.html.j2")
    return template.render(
        r=result, f=figures, cards=_cards(result), columns=COLUMNS, verdict=figures.verdict(result), timeline=timeline,
        notes=_notes(result.notes), links_are_placed=_links_are_placed(result), energy_text=format_pj, count_text=format_count,
        style=_source("page.css"), script=_source("page.js"), plotly=Markup(get_plotlyjs()),
        data=_script_json({**_data(result, timeline), "occupancies": [one.data() for one in occupancies]}), most_slices=MOST_SLICES,
        occupancies=occupancies,
    )  # fmt: skip


def environment() -> Environment:
    """The templates of this folder, which escape every value."""
    return Environment(
        loader=PackageLoader("pimloom.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def _source(name: str) -> Markup:
    return Markup((Path(__file__).parent / "templates" / name).read_text(encoding="utf-8"))


def _script_json(value: object) -> Markup:
    """JSON that can stand in a script element: nothing in it can end the element or open a comment."""
    text = json.dumps(plain(value), separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


# -- cards and tables -----------------------------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Card:
    """One figure at the top of the page.

    Attributes:
        title: what it is.
        value: the figure with its unit.
        detail: one line about it.
        state: "ok", "bad", "none" or "" for a figure that is neither good nor bad.
    """

    title: str
    value: str
    detail: str
    state: str = ""


def _cards(result: Result) -> tuple[Card, ...]:
    verdict, macs = figures.verdict(result), figures.macs(result)
    period = f"a sample every {figures.time_text(result, result.period_cycles)}, steady state"
    efficiency = f"{figures.tops_per_w(result):.3g} TOPS/W" if macs and result.total_energy_pj else "no efficiency: no MACs or no energy"
    arrays = result.resources.get(result.array_name, 0)
    v = result.verification
    detail = "not known to be right" if v is None else "bit exact" if v.is_bit_exact else "not bit exact"
    if v is not None and v.details:
        detail += f"; largest difference {figures.percent(v.max_relative_error)}"
    return (
        Card("Latency", figures.time_text(result, result.latency_cycles), figures.latency_text(result)),
        Card("Throughput", f"{format_count(result.throughput_per_s)}/s", period),
        Card("Energy per sample", format_pj(result.total_energy_pj), efficiency),
        Card("Mean power", figures.power_text(figures.power_mw(result)), "energy over time per sample"),
        Card(f"{result.array_name.capitalize()} in use", figures.percent(result.arrays_in_use), f"of {arrays:,} hold weights"),
        *_rewriting_cards(result),
        Card("Numbers", {"ok": "agree", "bad": "differ", "none": "not run"}[verdict.state], detail, verdict.state),
    )


def _rewriting_cards(result: Result) -> tuple[Card, ...]:
    """What is written into arrays while the program runs; nothing where weights stay."""
    found = result.rewriting
    if found is None:
        return ()
    run = f"{found.samples} samples" if found.samples > 1 else "sample"
    moved = f"{format_bytes(found.written_bytes)} of weights per {run}, {format_bytes(found.resident_bytes)} stay; {found.strategy}"
    lasts = format_count(found.inferences_until_worn) if found.inferences_until_worn else "none worn"
    each = f"{found.writes_per_array_mean:.3g} writes per array and {run}, {found.writes_per_array_max} at most"
    return (
        Card("Groups written", f"{found.writes:,}", moved),
        Card("Samples until worn", lasts, f"{each}; an array bears {format_count(found.endurance_writes)}"),
    )


@final
@dataclass(frozen=True, slots=True)
class Column:
    """A column of the layer table.

    Attributes:
        key: its name in deep links (`#sort=energy`).
        title: its head.
        meaning: shown on the head.
        is_text: sorted as text, aligned to the left.
    """

    key: str
    title: str
    meaning: str
    is_text: bool = False

    def value(self, node: NodeResult, order: int) -> str | float:
        """What rows are sorted by."""
        return _LAYER_VALUES[self.key](node, order)

    def text(self, result: Result, node: NodeResult, order: int) -> str:
        """What a cell shows."""
        value = self.value(node, order)
        if isinstance(value, str):
            return value
        if not value and self.key not in ("order", "start"):
            return "-"
        if self.key in ("start", "end", "span", "busy", "waits"):
            return figures.time_text(result, value)
        return {"energy": format_pj, "macs": format_count, "moved": format_bytes}.get(self.key, lambda v: f"{int(v):,}")(value)


_LAYER_VALUES: Mapping[str, Any] = {
    "order": lambda node, order: order + 1,
    "name": lambda node, order: node.name,
    "op": lambda node, order: node.op,
    "kind": lambda node, order: node.kind,
    "start": lambda node, order: node.start_cycles,
    "end": lambda node, order: node.end_cycles,
    "span": lambda node, order: figures.layer_cycles(node),
    "busy": lambda node, order: figures.array_cycles(node),
    "energy": lambda node, order: node.energy_pj,
    "macs": lambda node, order: node.macs,
    "arrays": lambda node, order: node.arrays,
    "copies": lambda node, order: node.copies,
    "cores": lambda node, order: node.cores,
    "moved": lambda node, order: float(sum(node.moved_bytes.values())),
    "waits": lambda node, order: float(sum(node.waits_cycles.values())),
    "cause": lambda node, order: figures.wait_text(node, 1),
}

COLUMNS = (
    Column("order", "#", "place in the graph"),
    Column("name", "layer", "name of the graph node", is_text=True),
    Column("op", "op", "operator", is_text=True),
    Column("kind", "kind", "how it is computed", is_text=True),
    Column("start", "start", "first activity in the first sample"),
    Column("end", "end", "last activity in the first sample"),
    Column("span", "time", "from first to last activity"),
    Column("busy", "arrays busy", "time that its array groups compute, all added, per sample"),
    Column("energy", "energy", "per sample, without static energy"),
    Column("macs", "MACs", "multiply-accumulates per sample"),
    Column("arrays", "arrays", "arrays that hold its weights"),
    Column("copies", "copies", "copies of its weights"),
    Column("cores", "cores", "cores that work for it"),
    Column("moved", "moved", "bytes moved over all memories and links per sample"),
    Column("waits", "waiting", "time its instructions waited, all added, per sample"),
    Column("cause", "waits for", "main cause of waiting", is_text=True),
)


def _notes(notes: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """Single values under "", mappings under their name."""
    found: dict[str, list[tuple[str, str]]] = {"": []}
    for name, value in notes.items():
        if isinstance(value, Mapping):
            found[str(name)] = [(str(k), _note_text(v)) for k, v in plain(value).items()]
        else:
            found[""].append((str(name), _note_text(plain(value))))
    return found


def _note_text(value: object) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"
    return value if isinstance(value, str) else json.dumps(value)


# -- data of the drawings -------------------------------------------------------------------------------------------


def _data(result: Result, timeline: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        "clock_ghz": result.clock_ghz,
        "latency_cycles": result.latency_cycles,
        # The page prints new times and energies when it is zoomed: with the steps of `pimloom.units`.
        "units": {
            "time": [[10.0**e, format_ns(10.0**e).split()[1]] for e in (9, 6, 3, 0)],
            "energy": [[10.0**e, format_pj(10.0**e).split()[1]] for e in (12, 9, 6, 3, 0)],
        },
        "layers": [_layer(node) for node in result.nodes],
        "energy": [[part.name, part.value] for part in figures.shares(result.energy_pj)],
        "utilisation": [
            [name, 100 * mean, 100 * result.busiest.get(name, mean), result.resources.get(name, 0)]
            for name, mean in result.utilisation.items()
        ],
        "waits": [[part.name, part.value] for part in figures.shares(result.waits_cycles)],
        "causes": list(result.waits_cycles),
        "chip": _chip(result),
        "timeline": timeline,
    }  # fmt: skip


def _layer(node: NodeResult) -> dict[str, Any]:
    return {
        "name": node.name, "op": node.op, "start": node.start_cycles, "end": node.end_cycles, "energy": node.energy_pj,
        "waits": dict(node.waits_cycles), "arrays": node.arrays, "copies": node.copies, "cores": node.cores,
    }  # fmt: skip


def _links_are_placed(result: Result) -> bool:
    """Whether the loads are those of all links of a mesh, in order, so that each has a place on the chip."""
    return result.link_load.size == result.chips * LINKS_PER_ROUTER * result.chip_rows * result.chip_cols > 0


def _chip(result: Result) -> dict[str, Any]:
    index = {node.name: i for i, node in enumerate(result.nodes)}
    cores = len(result.core_nodes)
    load = np.round(100 * np.asarray(result.link_load, np.float64), 2)
    return {
        "rows": result.chip_rows, "cols": result.chip_cols, "chips": max(result.chips, 1), "cores": cores,
        "layer": figures.dominant_layers(result), "arrays": _arrays_held(result), "array_name": result.array_name,
        "layers": [[index[name] for name in names if name in index] for names in result.core_nodes],
        "busy": {name: _busy_percent(result, name, busy) for name, busy in result.core_busy.items()},
        "links": load if _links_are_placed(result) else None, "sorted_links": _thinned(np.sort(load[load > 0])[::-1]),
    }  # fmt: skip


def _arrays_held(result: Result) -> Array:
    """int32[cores]: arrays that hold weights at some time; groups that take turns on arrays count once."""
    held = np.asarray(result.core_arrays)
    most = result.resources.get(result.array_name, 0) // max(held.size, 1)
    return np.minimum(held, most) if result.rewriting is not None and most else held


def _busy_percent(result: Result, name: str, busy: Array) -> Array:
    """float64[cores]: busy share of the time per sample, averaged over the resources of the core."""
    if name == result.array_name:
        per_core: Array = np.maximum(_arrays_held(result).astype(np.float64), 1.0)
    else:
        per_core = np.full(busy.size, max(result.resources.get(name, 0) / max(busy.size, 1), 1.0))
    return np.round(100 * busy / (per_core * max(figures.span_cycles(result), 1.0)), 2)


def _thinned(values: Array, most: int = 2_000) -> Array:
    return values if values.size <= most else values[np.linspace(0, values.size - 1, most).astype(np.int64)]


def _timeline(result: Result) -> dict[str, Any] | None:
    """Slices and heat maps of the trace; None where there is nothing to draw."""
    trace = result.trace
    if trace is None or not (trace.end_cycles > trace.start_cycles).any():
        return None
    index = {node.name: i for i, node in enumerate(result.nodes)}
    layer_of = np.array([index.get(name, -1) for name in trace.node_names] + [-1], np.int32)
    slices = merge_slices(trace)
    cores = np.unique(trace.processor)
    span = max(int(trace.end_cycles.max()), result.latency_cycles)
    return {
        "span": span, "rows": int(trace.start_cycles.size), "count": int(slices.core.size),
        "gap": slices.gap_cycles, "gap_text": figures.time_text(result, slices.gap_cycles), "dropped": slices.dropped,
        "opcodes": list(trace.opcode_names), "cores": cores,
        "core_heat": _heat(trace, np.searchsorted(cores, trace.processor), cores.size, span),
        "layer_heat": _heat(trace, layer_of[trace.node], len(result.nodes), span),
        "slices": {
            "core": slices.core, "opcode": slices.opcode, "layer": layer_of[slices.node], "start": slices.start_cycles,
            "length": slices.end_cycles - slices.start_cycles, "busy": slices.busy_cycles, "rows": slices.rows,
        },
    }  # fmt: skip


def _heat(trace: Trace, group: Array, n_groups: int, span: int) -> dict[str, Any]:
    """A byte per group and time bin, 255 for a bin that is covered wholly."""
    bins = int(np.clip(MOST_HEAT_CELLS // max(n_groups, 1), FEWEST_BINS, MOST_BINS))
    bins = max(min(bins, span), 1)
    share = coverage(group, n_groups, trace.start_cycles, trace.end_cycles, span_cycles=span, bins=bins)
    # Rounded up, so that a short activity does not vanish.
    levels = np.ceil(255 * np.clip(share, 0.0, 1.0)).astype(np.uint8)
    return {"bins": bins, "levels": base64.b64encode(levels.tobytes()).decode()}


def notebook_html(result: Result) -> str:
    """A small summary as HTML for notebooks (`_repr_html_`): no scripts, no styles outside it."""
    shown: Sequence[NodeResult] = figures.slowest(result, 5)
    return environment().get_template("notebook.html.j2").render(
        r=result, f=figures, cards=_cards(result), verdict=figures.verdict(result), slowest=shown, energy_text=format_pj
    )  # fmt: skip
