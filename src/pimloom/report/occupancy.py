"""What macros do over time: writing, computing, idle, and how much of the link is used; strategies side by side.

One look explains generalized ping-pong: in situ and naive ping-pong leave the link idle while macros compute, or macros
idle while the link works; a staggered schedule keeps both busy.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np

from pimloom.errors import UsageError
from pimloom.report.files import write_whole

Array = np.ndarray[Any, np.dtype[Any]]

BINS: Final = 240
_COLOURS: Final = {"computing": "#2f7d4f", "writing": "#d9822b", "idle": "#d5d9de", "link": "#1f5fa8"}


@final
@dataclass(frozen=True, slots=True)
class Occupancy:
    """What macros and link do in equal steps of time. Arrays of length b.

    Attributes:
        title: what is shown.
        step_cycles: length of a step.
        cycles: of the whole run.
        writing: float64[b], macros that are written, mean over the step.
        computing: float64[b], macros that compute.
        idle: float64[b], macros in use that do neither.
        link: float64[b], share of the link's bytes that are used.
    """

    title: str
    step_cycles: float
    cycles: int
    writing: Array
    computing: Array
    idle: Array
    link: Array


@final
@dataclass(frozen=True, slots=True)
class OccupancyFigure:
    """Runs side by side, on a common axis of time.

    Attributes:
        heading: what is shown.
        shown: the runs.
    """

    heading: str
    shown: Sequence[Occupancy]

    @property
    def summary(self) -> str:
        """The runs with their cycles."""
        return " · ".join(f"{one.title}: {one.cycles:,} cycles" for one in self.shown)

    def data(self) -> dict[str, Any]:
        """Data and layout of a plotly figure: per run macros over time above, link load below."""
        return {"data": _traces(self.shown), "layout": _layout(self.shown)}


def occupancy(
    title: str, start_cycles: Array, end_cycles: Array, is_writing: Array, is_computing: Array, link_bytes: Array, *,
    macros: int, bytes_per_cycle: float, span_cycles: int, bins: int = BINS,
) -> Occupancy:  # fmt: skip
    """Sums up the rows of a run in steps of time.

    Args:
        title: what is shown.
        start_cycles: float64[n], start of each row.
        end_cycles: float64[n], its end.
        is_writing: bool[n], whether it writes a macro.
        is_computing: bool[n], whether a macro computes.
        link_bytes: float64[n], bytes that it brings over the link: even over its time, and where all rows together would then
            ask for more than the link carries, later.
        macros: macros in use.
        bytes_per_cycle: of the link.
        span_cycles: time that the figure shows, so that several share an axis.
        bins: steps.

    Raises:
        UsageError: no macros or no steps.
    """
    for name, value in (("macros", macros), ("bins", bins), ("span_cycles", span_cycles)):
        if value < 1:
            raise UsageError(f"occupancy: {name}: {value} found, at least 1 expected")
    step = span_cycles / bins
    edges = np.arange(bins + 1) * step
    length = np.maximum(end_cycles - start_cycles, 1e-9)
    writing = _mean(start_cycles, end_cycles, np.where(is_writing, 1.0, 0.0), edges)
    computing = _mean(start_cycles, end_cycles, np.where(is_computing, 1.0, 0.0), edges)
    link = _within(_mean(start_cycles, end_cycles, link_bytes / length, edges) / bytes_per_cycle)
    end = int(np.ceil(end_cycles.max(initial=0.0)))
    idle = np.clip(macros - writing - computing, 0.0, None)
    return Occupancy(title, step, end, writing, computing, np.where(edges[:-1] < end, idle, 0.0), link)


def _mean(start: Array, end: Array, rate: Array, edges: Array) -> Array:
    """Mean over each step of a sum of rates that hold from `start` to `end`: the slope of its integral at the edges."""
    at = np.concatenate([start, end])
    change = np.concatenate([rate, -rate])
    order = np.argsort(at, kind="stable")
    at, level = at[order], np.cumsum(change[order])
    integral = np.concatenate([[0.0], np.cumsum(level[:-1] * np.diff(at))])
    return np.diff(np.interp(edges, at, integral, left=0.0)) / np.diff(edges)


def _within(load: Array) -> Array:
    """A load of which nothing exceeds 1: what does moves to the next steps that have room, at the end to the last that had."""
    found, carried = load.copy(), 0.0
    for order in (range(load.size), range(load.size - 1, -1, -1)):
        for i in order:
            wanted = found[i] + carried
            found[i] = min(wanted, 1.0)
            carried = wanted - found[i]
    return found


def write_occupancy(path: str | Path, heading: str, shown: Sequence[Occupancy]) -> Path:
    """Writes a page with the runs side by side.

    Raises:
        UsageError: nothing to show, or the file cannot be written.
    """
    if not shown:
        raise UsageError("occupancy: nothing found to show, at least one run expected")
    return write_whole(path, occupancy_html(heading, shown).encode())


def occupancy_html(heading: str, shown: Sequence[Occupancy]) -> str:
    """The page as text: per run macros over time above, link load below, on common axes."""
    from plotly.offline import get_plotlyjs

    drawn = OccupancyFigure(heading, shown)
    figure, summary = json.dumps(drawn.data()), html.escape(drawn.summary)
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{html.escape(heading)}</title>"
        f"<body style='font:15px system-ui;margin:24px'><h1 style='font-size:20px'>{html.escape(heading)}</h1><p>{summary}</p>"
        f"<div id='figure' style='height:calc(100vh - 130px);min-height:480px'></div><script>{get_plotlyjs()}</script>"
        f"<script>const f={figure};Plotly.newPlot('figure',f.data,f.layout,{{responsive:true}});</script></body></html>"
    )


def _traces(shown: Sequence[Occupancy]) -> list[Mapping[str, Any]]:
    traces: list[Mapping[str, Any]] = []
    for i, one in enumerate(shown):
        time = [round((k + 0.5) * one.step_cycles, 2) for k in range(one.link.size)]
        for name, values in (("computing", one.computing), ("writing", one.writing), ("idle", one.idle)):
            traces.append({
                "x": time, "y": np.round(values, 2).tolist(), "name": name, "legendgroup": name, "showlegend": i == 0,
                "stackgroup": f"m{i}", "line": {"width": 0}, "fillcolor": _COLOURS[name], "xaxis": f"x{_axis(i)}", "yaxis": "y",
                "hovertemplate": "%{y:.0f} macros",
            })  # fmt: skip
        traces.append({
            "x": time, "y": np.round(100 * one.link, 2).tolist(), "name": "link", "legendgroup": "link", "showlegend": i == 0,
            "fill": "tozeroy", "line": {"width": 1, "color": _COLOURS["link"]}, "xaxis": f"x{_axis(i)}", "yaxis": "y2",
            "hovertemplate": "%{y:.0f} % of the link",
        })  # fmt: skip
    return traces


def _axis(run: int) -> str:
    """The number of a run's axis of time; the first has none."""
    return str(run + 1) if run else ""


def _layout(shown: Sequence[Occupancy]) -> dict[str, Any]:
    most = max(float((one.writing + one.computing + one.idle).max(initial=1.0)) for one in shown)
    span = shown[0].step_cycles * shown[0].link.size
    layout: dict[str, Any] = {
        "yaxis": {"domain": [0.4, 0.94], "title": {"text": "macros"}, "range": [0, most * 1.02]},
        "yaxis2": {"domain": [0.0, 0.3], "title": {"text": "link, %"}, "range": [0, 105]},
        "legend": {"orientation": "h", "y": 1.08}, "margin": {"l": 60, "r": 20, "t": 30, "b": 50}, "annotations": [], "autosize": True,
    }  # fmt: skip
    for i, one in enumerate(shown):
        left = i / len(shown)
        right = left + 0.94 / len(shown)
        layout[f"xaxis{_axis(i)}"] = {"domain": [left, right], "anchor": "y2", "range": [0, span], "title": {"text": "cycles"}}
        layout["annotations"].append({
            "text": f"<b>{html.escape(one.title)}</b>", "x": (left + right) / 2, "y": 0.98, "xref": "paper", "yref": "paper",
            "showarrow": False, "xanchor": "center",
        })  # fmt: skip
    return layout


__all__ = ["BINS", "Occupancy", "OccupancyFigure", "occupancy", "occupancy_html", "write_occupancy"]
