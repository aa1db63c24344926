"""The page in a headless Chromium: it draws, sorts, filters, zooms and answers clicks without a fault."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pimloom import api
from pimloom.report import page_html
from pimloom.report.occupancy import OccupancyFigure
from pimloom.result import Result

BROWSER = next((found for name in ("chromium", "chromium-browser", "google-chrome", "chrome") if (found := shutil.which(name))), None)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--enable-logging=stderr", "--virtual-time-budget=8000",
)  # fmt: skip
pytestmark = [pytest.mark.browser, pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome found")]
MakeResult = Callable[..., Result]

# Runs after the page's own script, in the page: gathers what a user would see, acts, and gathers again.
PROBE = """
const seen = { steps: {} };
const painted = (canvas) => {
  const d = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const colours = new Set();
  for (let i = 0; i < d.length; i += 4 * 7) colours.add((d[i] << 16) | (d[i + 1] << 8) | d[i + 2]);
  return colours.size;
};
const look = () => ({
  first: document.querySelector("#layer-table tbody tr")?.cells[1].textContent,
  shown: [...document.querySelectorAll("#layer-table tbody tr")].filter((row) => !row.hidden).length,
  detail: document.querySelector("#detail")?.hidden === false ? document.querySelector("#detail-title").textContent : "",
  canvases: [...document.querySelectorAll("canvas")].filter((c) => c.offsetParent && c.height > 1).map(painted),
  plots: document.querySelectorAll(".plot svg.main-svg").length,
  bars: document.querySelectorAll(".plot .bars path").length,
  theme: document.documentElement.dataset.theme, hash: location.hash, images: document.querySelectorAll("img").length,
  wide: document.documentElement.scrollWidth > document.documentElement.clientWidth,
});
const click = (selector) => document.querySelector(selector).click();
const pointer = (target, type, x, y) =>
  target.dispatchEvent(new PointerEvent(type, { clientX: x, clientY: y, button: 0, pointerId: 1, bubbles: true }));
seen.steps.start = look();
try { ACTIONS } catch (fault) { seen.fault = String(fault); }
setTimeout(() => {
  seen.faults = document.documentElement.dataset.faults || "";
  seen.ready = document.documentElement.dataset.ready;
  seen.alert = window.alerted || "";
  const out = document.createElement("pre");
  out.id = "probe";
  out.textContent = JSON.stringify(seen);
  document.body.append(out);
}, 600);
"""


def drive(
    result: Result, folder: Path, address: str = "", actions: str = "", width: int = 1280, occupancies: Sequence[OccupancyFigure] = ()
) -> dict[str, Any]:  # fmt: skip
    """Opens the page, runs `actions` in it, and returns what was seen; JavaScript faults fail the test."""
    text = page_html(result, occupancies).replace("<head>", "<head><script>window.alert = (m) => { window.alerted = m; };</script>", 1)
    head, tail = text.rsplit("</body>", 1)
    path = folder / "page.html"
    path.write_text(f"{head}<script>{PROBE.replace('ACTIONS', actions)}</script></body>{tail}", encoding="utf-8")
    assert BROWSER is not None
    own = (f"--window-size={width},1600", f"--user-data-dir={folder / 'profile'}")
    done = subprocess.run(
        [BROWSER, *FLAGS, *own, "--dump-dom", f"{path.as_uri()}{address}"],
        capture_output=True, text=True, timeout=90, check=True,
    )  # fmt: skip
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line and "Multiple readback" not in line]  # the probe reads back
    assert not console
    probe = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, re.DOTALL)
    assert probe is not None
    seen = json.loads(probe[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert (seen.get("fault"), seen["faults"], seen["ready"], seen["alert"]) == (None, "", "yes", "")
    return seen["steps"]


def test_everything_is_drawn_and_answers(result: Result, tmp_path: Path) -> None:
    steps = drive(result, tmp_path, actions="""
        click('th[data-key="energy"] button'); seen.steps.sorted = look();
        click('th[data-key="energy"] button'); seen.steps.reversed = look();
        const filter = document.querySelector("#filter");
        filter.value = "maxpool"; filter.dispatchEvent(new Event("input")); seen.steps.filtered = look();
        click('[data-view="core"]'); seen.steps.cores = look();
        const body = document.querySelector("#lanes .body canvas"), box = body.getBoundingClientRect();
        pointer(body, "pointermove", box.left + 500, box.top + 40); seen.steps.tip = document.querySelector("#tip").textContent;
        pointer(body, "pointerup", box.left + 500, box.top + 4); seen.steps.opened = look();
        for (let i = 0; i < 7; i += 1) click('[data-zoom="in"]');
        seen.steps.zoomed = look();
        click('[data-zoom="all"]');
        const chip = document.querySelector("#chips canvas"), place = chip.getBoundingClientRect();
        const cell = place.width / 14;
        chip.dispatchEvent(new MouseEvent("click", { clientX: place.left + 3.5 * cell, clientY: place.top + 2.5 * cell, bubbles: true }));
        seen.steps.chip = look();
        click("#detail-close"); click("#theme"); seen.steps.theme = look();
    """)  # fmt: skip
    assert steps["start"]["first"] == result.nodes[0].name
    assert steps["sorted"]["first"] == max(result.nodes, key=lambda node: node.energy_pj).name
    assert steps["reversed"]["first"] == min(result.nodes, key=lambda node: node.energy_pj).name
    assert steps["filtered"]["shown"] == sum(node.op == "MaxPool" for node in result.nodes)
    assert all(colours > 3 for colours in steps["start"]["canvases"])
    assert len(steps["start"]["canvases"]) == 3  # axis and body of the timeline, the chip
    assert steps["start"]["bars"] >= 6 + 40 + 5
    assert steps["cores"]["hash"].startswith("#view=core")
    assert re.search(r"core \d+\n.* us to .* us: .* % of the time under way", steps["tip"])
    assert steps["opened"]["detail"] == "Core 0"
    assert len(steps["opened"]["canvases"]) == 5
    assert steps["zoomed"]["canvases"] != steps["opened"]["canvases"]
    assert steps["chip"]["detail"] == "Core 31"  # row 2, column 3 of a chip with 14 columns
    assert "core=31" in steps["chip"]["hash"]
    assert steps["theme"]["detail"] == ""
    assert steps["theme"]["theme"] == "dark"
    assert not steps["start"]["wide"]


def test_an_address_restores_what_was_shown(make_result: MakeResult, tmp_path: Path) -> None:
    result = make_result(rows=2_000, chips=2)
    start = drive(result, tmp_path, "#sort=energy&core=3&view=core&theme=dark&colour=arrays&links=1&filter=conv", width=500)["start"]
    assert start["first"] == max(result.nodes, key=lambda node: node.energy_pj).name
    assert start["detail"] == "Core 3"
    assert start["theme"] == "dark"
    assert start["shown"] == 40
    assert len(start["canvases"]) == 6
    assert not start["wide"]  # a phone scrolls tables, never the page


def test_names_cannot_run(make_result: MakeResult, tmp_path: Path) -> None:
    names = ("<script>alert(1)</script>", "</script><img src=x onerror=alert(2)>", "<a href='javascript:alert(3)'>x</a>", "2020-01-01")
    result = make_result(n_nodes=6, rows=300, names=names, model=names[1], hardware=names[0], notes={names[0]: {names[1]: names[2]}})
    start = drive(result, tmp_path, "#core=1&sort=name")["start"]
    assert start["images"] == 0
    assert start["first"] == names[3]


def test_an_empty_result_has_no_faults(make_result: MakeResult, tmp_path: Path) -> None:
    empty = make_result(
        n_nodes=0, rows=0, energy_pj={}, utilisation={}, bounds=(), waits_cycles={}, notes={}, verification=None, core_nodes=(),
        core_busy={}, core_arrays=np.zeros(0, np.int32), link_load=np.zeros(0), chips=0, period_cycles=0.0,
    )  # fmt: skip
    start = drive(empty, tmp_path, "#core=5&sort=nonsense&colour=nonsense")["start"]
    assert start["canvases"] == []
    assert start["plots"] == 0


def test_a_range_of_the_timeline_can_be_linked(make_result: MakeResult, tmp_path: Path) -> None:
    steps = drive(make_result(rows=2_000), tmp_path, "#from=1000&to=41000", actions="""
        seen.steps.axis = painted(document.querySelector("#lanes .axis"));
        click('[data-zoom="in"]'); seen.steps.zoomed = look();
        setTimeout(() => { seen.steps.later = look(); }, 400);
    """)  # fmt: skip
    assert steps["later"]["hash"] == "#from=11000&to=31000"
    assert steps["start"]["canvases"] != steps["zoomed"]["canvases"]


def test_one_node_without_a_trace(make_result: MakeResult, tmp_path: Path) -> None:
    start = drive(make_result(n_nodes=1, rows=0), tmp_path, "#view=core&core=0")["start"]
    assert start["first"] == "layer0.0.conv"
    assert len(start["canvases"]) == 1


def test_strategies_are_drawn_side_by_side(tmp_path: Path) -> None:
    """Rewriting of macros: the whole program, then its heaviest product under each strategy."""
    compiled = api.compile("tiny_cnn", "gpp-256-b8", effort=0)
    figures = api.occupancy_figures(compiled.program)
    assert [len(figure.shown) for figure in figures] == [1, 3]
    look = """
        const areas = (id) => document.querySelectorAll(`#${id} .scatterlayer .trace path.js-fill`).length;
        const titles = (id) => [...document.querySelectorAll(`#${id} .annotation-text`)].map((one) => one.textContent);
        const axes = (id) => document.querySelectorAll(`#${id} .subplot.xy, #${id} .subplot.x2y, #${id} .subplot.x3y`).length;
        for (const id of ["occupancy-0", "occupancy-1"]) seen.steps[id] = { areas: areas(id), titles: titles(id), axes: axes(id) };
    """
    steps = drive(compiled.simulate(), tmp_path, actions=look, occupancies=figures)
    assert [steps[id]["axes"] for id in ("occupancy-0", "occupancy-1")] == [1, 3]
    assert [steps[id]["areas"] for id in ("occupancy-0", "occupancy-1")] == [4, 12]
    assert steps["occupancy-1"]["titles"] == [one.title for one in figures[1].shown]
    assert [title.split()[0] for title in steps["occupancy-1"]["titles"]] == ["in_situ", "naive_ping_pong", "generalized"]
