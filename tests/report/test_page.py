"""The HTML page: complete, self-contained, inert to what names contain."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plotly.offline import get_plotlyjs

from pimloom import api, units
from pimloom.report import notebook_html, page_html, write_page
from pimloom.report.page import COLUMNS, MOST_HEAT_CELLS
from pimloom.report.timeline import MOST_SLICES
from pimloom.result import Result

EVIL = ("<script>alert(1)</script>", "</script><img src=x onerror=alert(2)>", "<!--<script>", 'it\'s "${x}" {{7*7}} &amp;')
MakeResult = Callable[..., Result]


class Page(HTMLParser):
    """Collects elements and the text of scripts and cells, as a browser would see them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text: list[str] = []
        self._open = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open == "script":
            self.scripts[-1] += data
        elif self._open != "style":
            self.text.append(data)

    @property
    def data(self) -> dict[str, Any]:
        return json.loads(self.scripts[1])


@pytest.fixture(scope="module")
def page(result: Result) -> Page:
    return Page(page_html(result))


def test_only_machines_that_rewrite_macros_have_a_section_for_it(page: Page) -> None:
    assert "rewriting" not in {attrs.get("id") for tag, attrs in page.tags if tag == "section"}
    assert api.occupancy_figures(api.compile("tiny_mlp", "toy", effort=0).program) == ()
    compiled = api.compile("tiny_mlp", "gpp-256", effort=0)
    found = Page(page_html(compiled.simulate(), api.occupancy_figures(compiled.program)))
    assert "rewriting" in {attrs.get("id") for tag, attrs in found.tags if tag == "section"}
    assert len(found.data["occupancies"]) == 2


def test_all_sections_are_there(page: Page) -> None:
    ids = {attrs.get("id") for tag, attrs in page.tags if tag == "section"}
    assert ids >= {"bounds", "timeline", "layers", "energy", "use", "chip", "numbers", "notes", "reading"}
    linked = {str(attrs["href"])[1:] for tag, attrs in page.tags if tag == "a"}
    assert linked <= ids


def test_figures_stand_in_the_page_without_scripts(page: Page) -> None:
    text = " ".join(page.text)
    for part in ("240.3 us", "12.48 k/s", "912 uJ", "7.38 TOPS/W", "0.75", "numbers agree", "layer3.2.conv", "crossbars_used", "9,213"):
        assert part in text, part


def test_nothing_is_fetched(page: Page) -> None:
    for tag, attrs in page.tags:
        for name in ("src", "href", "action", "data", "srcset", "poster"):
            value = str(attrs.get(name) or "")
            assert not value or value.startswith("#") or value == "data:,", (tag, name, value)
    policy = next(str(attrs["content"]) for _, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy
    assert len(page.scripts) == 3
    assert page.scripts[0] == get_plotlyjs().replace("\r", "")
    own = page.scripts[1] + page.scripts[2]
    assert not re.search(r"https?://|fetch\(|XMLHttpRequest|import\(|@import", own)


def test_names_are_inert(make_result: MakeResult) -> None:
    result = make_result(
        n_nodes=6, rows=200, names=EVIL, model=EVIL[1], hardware="<b>chip</b>", notes={EVIL[0]: EVIL[1], "</dl>": {EVIL[2]: [EVIL[0]]}}
    )
    text = page_html(result)
    page = Page(text)
    assert len(page.scripts) == 3
    assert not [tag for tag, _ in page.tags if tag in ("img", "b")]
    assert [layer["name"] for layer in page.data["layers"]][:4] == list(EVIL)
    cells = " ".join(page.text)
    assert all(name in cells for name in EVIL)
    assert "<" not in page.scripts[1]
    small = Page(notebook_html(result))
    assert not [tag for tag, _ in small.tags if tag in ("script", "img", "b")]


def test_layer_table_has_values_to_sort_by(page: Page, result: Result) -> None:
    rows = sum(1 for tag, attrs in page.tags if tag == "tr" and "data-layer" in attrs)
    assert rows == len(result.nodes)
    values = [float(str(attrs["data-value"])) for tag, attrs in page.tags if tag == "td" and "data-value" in attrs]
    numeric = [column.key for column in COLUMNS if not column.is_text]
    energies = values[numeric.index("energy") :: len(numeric)]
    assert energies == [node.energy_pj for node in result.nodes]


def test_units_of_the_drawings_are_those_of_the_tables(page: Page) -> None:
    for value in (0.5, 3.0, 1.5e4, 2.2e7, 3e9, 4.4e13):
        for kind, text in (("time", units.format_ns), ("energy", units.format_pj)):
            steps = page.data["units"][kind]
            factor, unit = next((step for step in steps if value >= step[0]), steps[-1])
            assert f"{value / factor:.4g} {unit}" == text(value)


def test_the_timeline_is_small_and_true(make_result: MakeResult) -> None:
    result = make_result(rows=60_000)
    text = page_html(result)
    timeline = Page(text).data["timeline"]
    assert timeline["rows"] == 60_000
    assert timeline["count"] == len(timeline["slices"]["core"]) <= MOST_SLICES
    assert sum(timeline["slices"]["rows"]) == 60_000
    assert f"{timeline['count']:,} slices (at most 40,000)" in text
    assert "apart" in text
    bins = timeline["core_heat"]["bins"]
    heat = np.frombuffer(base64.b64decode(timeline["core_heat"]["levels"]), np.uint8).reshape(-1, bins)
    assert heat.shape[0] == len(timeline["cores"])
    assert heat.size <= MOST_HEAT_CELLS
    trace = result.trace
    assert trace is not None
    first = trace.start_cycles[trace.processor == timeline["cores"][5]].min()
    assert np.flatnonzero(heat[5])[0] == first * bins // timeline["span"]


def test_the_chip_shows_shares_of_the_time_per_sample(make_result: MakeResult) -> None:
    busy = {"crossbars": np.full(168, 5_000.0), "local memory": np.full(168, 500.0)}
    result = make_result(
        core_busy=busy, core_arrays=np.full(168, 10, np.int32), period_cycles=1_000.0, resources={"local memory": 336, "crossbars": 1}
    )
    chip = Page(page_html(result)).data["chip"]
    assert chip["busy"]["crossbars"][0] == 50.0  # ten arrays for 1000 cycles
    assert chip["busy"]["local memory"][0] == 25.0  # two ports a core
    assert (chip["rows"], chip["cols"], chip["cores"]) == (12, 14, 168)


def test_links_are_drawn_only_where_each_has_a_place(make_result: MakeResult, page: Page) -> None:
    assert len(page.data["chip"]["links"]) == 5 * 168
    text = page_html(make_result(link_load=np.array([0.5, 0.25, 0.0])))
    assert Page(text).data["chip"]["links"] is None
    assert Page(text).data["chip"]["sorted_links"] == [50.0, 25.0]
    assert "load of the network" not in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trace": None, "rows": 500_000}, "the result keeps no times of single rows (500,000 rows)"),
        ({"energy_pj": {}}, "No energy was counted"),
        ({"bounds": ()}, "This result states no bounds"),
        ({"notes": {}}, "The compiler left no notes"),
        ({"waits_cycles": {}}, "No instruction waited"),
        ({"utilisation": {}}, "No resource was counted"),
        ({"verification": None}, "timed but not executed"),
        ({"n_nodes": 0}, "No layer was computed"),
        ({"core_nodes": (), "core_busy": {}, "core_arrays": np.zeros(0, np.int32)}, "no cores to draw"),
    ],
)
def test_what_is_missing_is_said(make_result: MakeResult, changes: dict[str, Any], message: str) -> None:
    text = page_html(make_result(**{"rows": 100, **changes}))
    assert message in text
    Page(text).data  # noqa: B018


def test_a_trace_of_rows_without_length_has_no_timeline(make_result: MakeResult) -> None:
    result = make_result(rows=100)
    trace = result.trace
    assert trace is not None
    trace.end_cycles[:] = trace.start_cycles
    assert "no row took any time" in page_html(result)


def test_the_same_result_gives_the_same_bytes(make_result: MakeResult, tmp_path: Path) -> None:
    one, two = (write_page(make_result(rows=500), tmp_path / name).read_bytes() for name in ("a.html", "b.html"))
    assert one == two


def test_notebook_summary(result: Result) -> None:
    text = notebook_html(result)
    for part in ("240.3 us", "912 uJ", "layer7.0.conv", "numbers agree", "crossbars 45 %"):
        assert part in text
    assert "<script" not in text
    assert len(text) < 8_000
