"""Terminal tables: every figure with its unit, clear at 80 and 140 columns, plain where there is no terminal."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.console import Console

from pimloom.report import layers_table, summary_table
from pimloom.result import Result, Verification

Report = Callable[[Result, Console], None]


def printed(report: Report, result: Result, width: int, *, color: bool = False, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, newline="")
    report(result, Console(file=file, width=width, force_terminal=color, color_system="truecolor" if color else None))
    file.flush()
    return raw.getvalue().decode(encoding)


@pytest.mark.parametrize("width", [80, 140])
@pytest.mark.parametrize("report", [summary_table, layers_table])
def test_nothing_is_wider_than_the_console_and_no_figure_is_cut(result: Result, report: Report, width: int) -> None:
    text = printed(report, result, width)
    assert max(len(line) for line in text.splitlines()) <= width
    rows = [line for line in text.splitlines() if ".conv " in line]
    assert len(rows) == (8 if report is summary_table else 40)
    assert all("…" not in row and row.rstrip().endswith("%") for row in rows)


def test_summary_says_what_was_measured(result: Result) -> None:
    text = printed(summary_table, result, 80)
    for part in (
        "resnet18 on isaac · crossbar · throughput · 4 samples · 1.2 GHz",
        "288.4 k cycles, first sample", "12.48 k/s", "a sample every 80.1 us", "912 uJ", "11.4 W on average; 7.38 TOPS/W",
        "57 %  of 16,128 hold weights", "crossbars x16,128   21 %     83 %", "0.75 of it",
        "slowest layers: 8 of 40", "layer7.0.conv", "122.5 us  9.835 uJ       2  dependency 61 %",
        "numbers agree: codes are bit exact", "compile 1.31 s · simulate 240 ms · execute 920 ms",
    ):  # fmt: skip
        assert part in text, part
    assert "chip link" not in text  # unused parts are not listed


def test_bars_are_as_long_as_their_shares(result: Result) -> None:
    text = printed(summary_table, replace(result, energy_pj={"crossbars": 3.0, "network": 1.0}), 80)
    bars = {line.split()[0]: line.count("█") for line in text.splitlines() if "pJ" in line and "█" in line}
    assert bars == {"crossbars": 18, "network": 6}


def test_a_wide_console_shows_more(result: Result) -> None:
    wide, narrow = printed(summary_table, result, 140), printed(summary_table, result, 80)
    assert "critical path of one sample" in wide
    assert "critical path" not in narrow
    assert "arrays busy" in wide
    assert "arrays busy" not in narrow


def test_colour_only_for_a_terminal(result: Result) -> None:
    assert "\x1b[" not in printed(summary_table, result, 80)
    good, bad = replace(result), replace(result, verification=Verification("graph", False, 1.0, 1.0, 0.1, False))
    assert "\x1b[1;32mnumbers agree" in printed(summary_table, good, 80, color=True)
    assert "\x1b[1;31mnumbers DIFFER" in printed(summary_table, bad, 80, color=True)


def test_a_terminal_without_unicode_gets_ascii(result: Result) -> None:
    text = printed(summary_table, result, 80, encoding="ascii")
    assert "resnet18 on isaac - crossbar" in text
    assert "####" in text


def test_long_names_keep_both_ends(result: Result) -> None:
    node = replace(result.nodes[0], name="encoder.blocks.11.attention.projection.with.a.very.long.name.matmul")
    text = printed(layers_table, replace(result, nodes=(node,)), 80)
    assert ".long.name.matmul " in text
    assert "122.2 us" in text


def test_markup_in_names_is_text(result: Result) -> None:
    node = replace(result.nodes[0], name="[red]a[/red][link=x]")
    assert "[red]a[/red][link=x]" in printed(layers_table, replace(result, nodes=(node,)), 140)
    assert "[bold]m on" in printed(summary_table, replace(result, model="[bold]m"), 80)


def test_empty_results(make_result: Callable[..., Result]) -> None:
    empty = make_result(n_nodes=0, rows=0, energy_pj={}, utilisation={}, bounds=(), verification=None, waits_cycles={}, period_cycles=0.0)
    text = printed(summary_table, empty, 80)
    assert "0 pJ" in text
    assert "not executed" in text
    assert "slowest" not in text
    assert "energy per sample\n" not in text
    assert printed(layers_table, empty, 80).startswith("resnet18")
