"""The figure of macros and link over time."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from pimloom.errors import UsageError
from pimloom.report.occupancy import Occupancy, occupancy, occupancy_html, write_occupancy


def example(title: str = "a <b>") -> Occupancy:
    """Two macros: written from 0 to 10 and 10 to 20, computing from 10 to 30 and 20 to 40; 40 bytes each on 4 bytes per cycle."""
    start, end = np.array([0.0, 10, 10, 20]), np.array([10.0, 20, 30, 40])
    return occupancy(
        title, start, end, np.array([True, True, False, False]), np.array([False, False, True, True]), np.array([40.0, 40, 0, 0]),
        macros=2, bytes_per_cycle=4.0, span_cycles=50, bins=5,
    )  # fmt: skip


def test_steps_hold_means() -> None:
    one = example()
    assert one.cycles == 40
    assert one.step_cycles == 10
    assert one.writing.tolist() == [1, 1, 0, 0, 0]
    assert one.computing.tolist() == [0, 1, 2, 1, 0]
    assert one.idle.tolist() == [1, 0, 0, 1, 0]  # nothing is idle after the end
    assert one.link.tolist() == pytest.approx([1, 1, 0, 0, 0])


def test_steps_need_not_divide_rows() -> None:
    one = occupancy(
        "x", np.array([3.0]), np.array([17.0]), np.array([True]), np.array([False]), np.array([28.0]), macros=1, bytes_per_cycle=4.0,
        span_cycles=20, bins=4,
    )  # fmt: skip
    assert one.writing.tolist() == pytest.approx([0.4, 1, 1, 0.4])
    assert (one.link * one.step_cycles * 4).sum() == pytest.approx(28)


def test_the_link_is_never_more_than_full() -> None:
    """Two rows whose bytes cannot all come at their even rate: the total stays, and no step is above 1."""
    one = occupancy(
        "x", np.array([0.0, 10]), np.array([30.0, 30]), np.array([True, True]), np.array([False, False]), np.array([60.0, 60]), macros=2,
        bytes_per_cycle=4.0, span_cycles=40, bins=4,
    )  # fmt: skip
    assert one.link.tolist() == pytest.approx([0.5, 1.0, 1.0, 0.5])
    late = occupancy(
        "x", np.array([10.0]), np.array([20.0]), np.array([True]), np.array([False]), np.array([60.0]), macros=1, bytes_per_cycle=4.0,
        span_cycles=20, bins=2,
    )  # fmt: skip
    assert late.link.tolist() == pytest.approx([0.5, 1.0])


def test_page_shows_the_runs_side_by_side(tmp_path: Path) -> None:
    path = write_occupancy(tmp_path / "o.html", "two & two", [example(), example("other")])
    text = path.read_text()
    assert "<title>two &amp; two</title>" in text
    assert "a &lt;b&gt;: 40 cycles" in text
    found = json.loads(re.search(r"const f=(\{.*?\});Plotly", text, re.DOTALL).group(1))  # type: ignore[union-attr]
    assert [trace["name"] for trace in found["data"]] == ["computing", "writing", "idle", "link"] * 2
    assert {trace["xaxis"] for trace in found["data"]} == {"x", "x2"}
    assert found["layout"]["xaxis2"]["range"] == [0, 50]
    assert found["data"][3]["y"] == [100, 100, 0, 0, 0]
    assert occupancy_html("t", [example()]).count("<script>") == 2


def test_nothing_to_show_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="occupancy: nothing found to show, at least one run expected"):
        write_occupancy(tmp_path / "o.html", "none", [])
    with pytest.raises(UsageError, match="occupancy: bins: 0 found, at least 1 expected"):
        occupancy("x", *(np.zeros(1) for _ in range(5)), macros=1, bytes_per_cycle=1.0, span_cycles=1, bins=0)
