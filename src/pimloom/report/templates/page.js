"use strict";
// Drawings of a result page. All data comes from the element #data; text reaches the page as text, never as markup.
(() => {
  const root = document.documentElement;
  const faults = [];
  window.addEventListener("error", (event) => { faults.push(event.message); root.dataset.faults = faults.join("; "); });

  const $ = (selector) => document.querySelector(selector);
  const $$ = (selector) => [...document.querySelectorAll(selector)];
  const D = JSON.parse($("#data").textContent);
  const T = D.timeline;
  const LABELS = { small: 12, gap: 8 };

  // -- text of quantities --------------------------------------------------------------------------------------------
  const digits = (value) => String(Number(value.toPrecision(4)));
  const scaleOf = (value, steps) => steps.find(([factor]) => Math.abs(value) >= factor) || steps[steps.length - 1];
  const quantity = (value, steps) => { const [factor, unit] = scaleOf(value, steps); return `${digits(value / factor)} ${unit}`; };
  const ns = (cycles) => cycles / D.clock_ghz;
  const time = (cycles) => quantity(ns(cycles), D.units.time);
  const energy = (pj) => quantity(pj, D.units.energy);
  const percent = (value) => `${value > 0 && value < 0.1 ? "<0.1" : value < 9.95 ? value.toFixed(1) : value.toFixed(0)} %`;
  /** Names differ at their ends: the middle is left out, and more is kept of the tail. */
  function shorten(text, most) {
    const tail = Math.floor((most * 2) / 3);
    return text.length <= most ? text : `${text.slice(0, most - tail - 1)}…${text.slice(text.length - tail)}`;
  }
  // Plotly reads a small part of HTML in its texts: names must not be read so.
  const inert = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const layerName = (i) => (i >= 0 ? D.layers[i].name : "no layer");

  // -- colours -------------------------------------------------------------------------------------------------------
  const css = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const isDark = () => root.dataset.theme === "dark";
  const COMPONENT_HUES = { "crossbars": 212, "macros": 212, "local memory": 172, "vector unit": 262, "network": 32, "global memory": 340, "chip link": 95, "static": -1 };
  const CAUSE_HUES = { "dependency": 212, "resource": 32, "message": 172, "window": 262 };
  function hued(hue, k = 0) {
    return hue < 0 ? (isDark() ? "#7c8694" : "#9aa3af") : `hsl(${(hue + 41 * k) % 360} ${isDark() ? 42 : 46}% ${isDark() ? 60 : 48}%)`;
  }
  const componentColour = (name, k) => hued(name in COMPONENT_HUES ? COMPONENT_HUES[name] : 20, name in COMPONENT_HUES ? 0 : k + 1);
  // Layers go from blue to red along the graph; neighbours differ in lightness, so that they can be told apart.
  const STOPS = [[47, 93, 155], [47, 138, 160], [84, 155, 126], [172, 158, 74], [203, 127, 66], [165, 68, 66]];
  function layerColour(i) {
    if (i < 0) return isDark() ? "#5d6673" : "#a9b1bc";
    const along = (D.layers.length > 1 ? i / (D.layers.length - 1) : 0) * (STOPS.length - 1);
    const at = Math.min(Math.floor(along), STOPS.length - 2), part = along - at;
    const paler = [0, 0.3, 0.15][i % 3] + (isDark() ? 0.12 : 0);
    const mixed = STOPS[at].map((low, k) => Math.round((low + (STOPS[at + 1][k] - low) * part) * (1 - paler) + 255 * paler));
    return `rgb(${mixed.join(" ")})`;
  }
  /** Ink that can be read on a colour of `layerColour`. */
  function inkOn(colour) {
    const [r, g, b] = colour.startsWith("#") ? [160, 160, 160] : colour.match(/\d+/g).map(Number);
    return 0.3 * r + 0.59 * g + 0.11 * b > 150 ? "#1d2127" : "#ffffff";
  }
  const ramp = (share) => `color-mix(in srgb, ${css("--accent")} ${Math.round(100 * Math.min(Math.max(share, 0), 1))}%, ${css("--idle")})`;

  // -- tooltip -------------------------------------------------------------------------------------------------------
  const tip = $("#tip");
  function showTip(event, text) {
    tip.hidden = !text;
    if (!text) return;
    tip.textContent = text;
    const { offsetWidth: w, offsetHeight: h } = tip;
    tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, window.innerWidth - w - 8))}px`;
    tip.style.top = `${event.clientY + h + 24 > window.innerHeight ? event.clientY - h - 10 : event.clientY + 16}px`;
  }

  function element(tag, className, parent) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (parent) parent.append(made);
    return made;
  }
  /** Sizes a canvas in CSS pixels and returns its context, scaled for the screen. */
  function sized(canvas, width, height) {
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.font = `${LABELS.small}px ${getComputedStyle(document.body).fontFamily}`;
    return context;
  }

  // -- state, kept in the address --------------------------------------------------------------------------------------
  const window_ = { from: 0, to: T ? T.span : 1 }; // the range of cycles that all lanes show
  const state = { view: "layer", core: null, sort: "order", dir: "", filter: "", colour: "layer", links: false, theme: "" };
  function readAddress() {
    if (!location.hash.includes("=")) return; // a link to a section
    const given = new URLSearchParams(location.hash.slice(1));
    const core = Number(given.get("core"));
    state.core = given.has("core") && Number.isInteger(core) && core >= 0 && core < D.chip.cores ? core : null;
    state.view = given.get("view") === "core" ? "core" : "layer";
    state.sort = given.get("sort") || "order";
    state.dir = given.get("dir") || "";
    state.filter = given.get("filter") || "";
    state.colour = given.get("colour") || "layer";
    state.links = given.get("links") === "1";
    const [from, to] = [Number(given.get("from") || 0), Number(given.get("to") || NaN)];
    if (T) Object.assign(window_, from >= 0 && from < to && to <= T.span ? { from, to } : { from: 0, to: T.span });
    if (["dark", "light"].includes(given.get("theme"))) state.theme = given.get("theme");
  }
  function writeAddress() {
    const kept = new URLSearchParams();
    if (state.view !== "layer") kept.set("view", state.view);
    if (state.core !== null) kept.set("core", state.core);
    if (state.sort !== "order" || state.dir) kept.set("sort", state.sort);
    if (state.dir) kept.set("dir", state.dir);
    if (state.filter) kept.set("filter", state.filter);
    if (state.colour !== "layer") kept.set("colour", state.colour);
    if (state.links) kept.set("links", "1");
    if (state.theme) kept.set("theme", state.theme);
    if (T && window_.to - window_.from < T.span) { kept.set("from", Math.round(window_.from)); kept.set("to", Math.round(window_.to)); }
    try { history.replaceState(null, "", `#${kept}`); } catch { /* an address that cannot be changed is no loss */ }
  }
  function applyTheme() {
    const system = window.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    root.dataset.theme = state.theme || system;
  }

  // -- layer table ---------------------------------------------------------------------------------------------------
  const table = $("#layer-table");
  const columns = table ? [...table.querySelectorAll("th")].map((head) => head.dataset.key) : [];
  function sortTable() {
    if (!table) return;
    const at = Math.max(columns.indexOf(state.sort), 0);
    const isNumber = table.querySelectorAll("th")[at].classList.contains("number");
    const descending = state.dir ? state.dir === "desc" : isNumber && at !== 0;
    const value = (row) => (isNumber ? Number(row.cells[at].dataset.value) : row.cells[at].textContent.toLowerCase());
    const rows = [...table.tBodies[0].rows].map((row) => [value(row), Number(row.dataset.layer), row]);
    rows.sort((a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0) * (descending ? -1 : 1) || a[1] - b[1]);
    table.tBodies[0].append(...rows.map((entry) => entry[2]));
    table.querySelectorAll("th").forEach((head, i) => head.setAttribute("aria-sort", i !== at ? "none" : descending ? "descending" : "ascending"));
  }
  function filterTable() {
    if (!table) return;
    const wanted = state.filter.toLowerCase();
    let shown = 0;
    for (const row of table.tBodies[0].rows) {
      const text = [1, 2, 3].map((i) => row.cells[i].textContent).join(" ").toLowerCase();
      row.hidden = !text.includes(wanted);
      shown += row.hidden ? 0 : 1;
    }
    $("#shown").textContent = `${shown} of ${D.layers.length} layers. A click on a head sorts.`;
  }
  function startTable() {
    if (!table) return;
    table.querySelectorAll("th").forEach((head) => head.addEventListener("click", () => {
      const isNumber = head.classList.contains("number") && head.dataset.key !== "order";
      const current = state.dir || (isNumber ? "desc" : "asc");
      state.dir = state.sort === head.dataset.key ? (current === "desc" ? "asc" : "desc") : "";
      state.sort = head.dataset.key;
      sortTable();
      writeAddress();
    }));
    $("#filter").addEventListener("input", (event) => { state.filter = event.target.value; filterTable(); writeAddress(); });
  }

  // -- timeline ------------------------------------------------------------------------------------------------------
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const S = T && T.slices;
  const groupSlices = (keys) => {
    const found = new Map();
    keys.forEach((key, i) => { if (!found.has(key)) found.set(key, []); found.get(key).push(i); });
    for (const list of found.values()) list.sort((a, b) => S.start[a] - S.start[b]);
    return found;
  };

  /** A stack of rows over time: heat maps when the whole run is seen, slices when zoomed in. */
  class Lanes {
    constructor(host, most) {
      this.host = host;
      this.most = most;
      this.rows = [];
      this.labelWidth = 168;
      this.axis = element("canvas", "axis", host);
      this.body = element("div", "body", host);
      this.spacer = element("div", "", this.body);
      this.canvas = element("canvas", "", this.spacer);
      this.canvas.tabIndex = 0;
      this.canvas.setAttribute("role", "img");
      this.range = element("div", "range", host);
      this.range.hidden = true;
      this.body.addEventListener("scroll", () => this.draw());
      this.listen();
    }
    get gutter() { return this.host.clientWidth < 620 ? 84 : this.labelWidth; }
    get plotWidth() { return Math.max(this.host.clientWidth - this.gutter - 12, 50); }
    x(cycle) { return this.gutter + ((cycle - window_.from) / (window_.to - window_.from)) * this.plotWidth; }
    cycle(x) { return window_.from + ((x - this.gutter) / this.plotWidth) * (window_.to - window_.from); }
    show(rows, rowHeight, label, leastLabel = 72) {
      this.rows = rows;
      this.rowHeight = rowHeight;
      this.canvas.setAttribute("aria-label", label);
      const c = sized(this.axis, 1, 1);
      const longest = rows.reduce((found, row) => (row.label.length > found.length ? row.label : found), "");
      this.labelWidth = Math.ceil(Math.max(leastLabel, c.measureText(shorten(longest, 24)).width + 2 * LABELS.gap + 4));
      const total = rows.length * rowHeight + 4;
      this.viewport = Math.min(total, this.most);
      this.body.style.height = `${this.viewport}px`;
      this.spacer.style.height = `${total}px`;
      this.draw();
    }
    draw() {
      this.drawAxis();
      const width = this.body.clientWidth;
      const c = sized(this.canvas, width, this.viewport);
      const top = this.body.scrollTop;
      const first = Math.max(Math.floor(top / this.rowHeight), 0);
      const last = Math.min(Math.ceil((top + this.viewport) / this.rowHeight), this.rows.length);
      this.colours = { muted: css("--muted"), faint: css("--faint"), ink: css("--ink"), accent: css("--accent") };
      for (let i = first; i < last; i += 1) this.drawRow(c, this.rows[i], i * this.rowHeight - top + 2, i);
    }
    drawAxis() {
      const c = sized(this.axis, this.host.clientWidth, 30);
      const span = ns(window_.to - window_.from);
      const [factor, unit] = scaleOf(Math.max(ns(window_.to), 1), D.units.time);
      const rough = span / factor / Math.max(this.plotWidth / 110, 2);
      const power = 10 ** Math.floor(Math.log10(rough));
      const step = [1, 2, 5, 10].find((m) => m * power >= rough) * power;
      c.fillStyle = css("--muted");
      c.strokeStyle = css("--line");
      c.textAlign = "center";
      c.textBaseline = "middle";
      const decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
      for (let k = Math.ceil(ns(window_.from) / factor / step); k * step * factor <= ns(window_.to) + 1e-9; k += 1) {
        const x = this.x(k * step * factor * D.clock_ghz);
        c.beginPath(); c.moveTo(x, 23); c.lineTo(x, 30); c.stroke();
        if (x < this.host.clientWidth - 22) c.fillText((k * step).toFixed(decimals), x, 13);
      }
      c.textAlign = "left";
      c.fillText(`time (${unit})`, LABELS.gap, 13);
    }
    drawRow(c, row, y, i) {
      const h = this.rowHeight - (this.rowHeight > 6 ? 2 : 0);
      const every = Math.ceil(14 / this.rowHeight);
      if (i % every === 0) {
        c.fillStyle = row.isMarked ? this.colours.ink : this.colours.muted;
        c.textAlign = "right";
        c.textBaseline = "middle";
        c.fillText(shorten(row.label, this.host.clientWidth < 620 ? 10 : 24), this.gutter - LABELS.gap, y + h / 2 + 0.5);
      }
      c.save();
      c.beginPath(); c.rect(this.gutter, y, this.plotWidth, h); c.clip();
      c.fillStyle = this.colours.faint;
      c.fillRect(this.gutter, y, this.plotWidth, h);
      if (row.heat && !this.isClose(row)) this.drawHeat(c, row, y, h);
      else this.drawSlices(c, row, y, h);
      c.restore();
    }
    /** Whether a heat map would be coarser than about two pixels a bin. */
    isClose(row) { return this.plotWidth / ((window_.to - window_.from) / T.span * row.heat.bins) > 4; }
    drawHeat(c, row, y, h) {
      const { levels, bins, offset } = row.heat;
      const binCycles = T.span / bins;
      if (row.extent) {
        c.fillStyle = row.colour(-1);
        c.globalAlpha = 0.22;
        const from = this.x(row.extent[0]);
        c.fillRect(from, y, Math.max(this.x(row.extent[1]) - from, 1), h);
      }
      c.fillStyle = row.colour(-1);
      const first = Math.max(Math.floor(window_.from / binCycles), 0);
      const last = Math.min(Math.ceil(window_.to / binCycles), bins);
      for (let b = first; b < last; b += 1) {
        const level = levels[offset + b];
        if (!level) continue;
        let next = b + 1;
        while (next < last && levels[offset + next] === level) next += 1;
        const x = this.x(b * binCycles);
        c.globalAlpha = 0.12 + 0.88 * (level / 255);
        c.fillRect(x, y, this.x(next * binCycles) - x + 0.3, h);
        b = next - 1;
      }
    }
    drawSlices(c, row, y, h) {
      for (const i of row.slices) {
        const from = S.start[i], to = from + S.length[i];
        if (to < window_.from || from > window_.to) continue;
        c.fillStyle = row.colour(i);
        c.globalAlpha = 0.35 + 0.65 * (S.length[i] ? S.busy[i] / S.length[i] : 1);
        const x = this.x(from);
        c.fillRect(x, y, Math.max(this.x(to) - x - 0.4, 0.8), h);
      }
    }
    at(event) {
      const box = this.body.getBoundingClientRect();
      const x = event.clientX - box.left;
      const i = Math.floor((event.clientY - box.top + this.body.scrollTop - 2) / this.rowHeight);
      return { x, cycle: this.cycle(x), row: this.rows[i], isInside: x >= this.gutter && x <= this.gutter + this.plotWidth };
    }
    describe({ row, cycle, isInside }) {
      if (!row) return "";
      if (!isInside) return row.title;
      const reach = (2 * (window_.to - window_.from)) / this.plotWidth;
      if (!row.heat || this.isClose(row)) {
        let best = -1;
        for (const i of row.slices) if (S.start[i] - reach <= cycle && cycle <= S.start[i] + S.length[i] + reach && (best < 0 || S.length[i] < S.length[best])) best = i;
        return best < 0 ? row.title : this.describeSlice(best);
      }
      const { levels, bins, offset } = row.heat;
      const bin = Math.min(Math.max(Math.floor((cycle / T.span) * bins), 0), bins - 1);
      const [from, to] = [bin, bin + 1].map((b) => (b * T.span) / bins);
      return `${row.title}\n${time(from)} to ${time(to)}: ${percent((100 * levels[offset + bin]) / 255)} of the time under way`;
    }
    describeSlice(i) {
      const share = S.length[i] ? percent((100 * S.busy[i]) / S.length[i]) : "100 %";
      const rows = S.rows[i] === 1 ? "1 row" : `${S.rows[i]} rows, under way ${share} of it`;
      return `${layerName(S.layer[i])}\n${T.opcodes[S.opcode[i]]} on core ${S.core[i]}\n${time(S.start[i])} to ${time(S.start[i] + S.length[i])} (${time(S.length[i])})\n${rows}`;
    }
    listen() {
      let begun = null;
      this.canvas.addEventListener("pointermove", (event) => {
        const spot = this.at(event);
        showTip(event, begun === null ? this.describe(spot) : "");
        if (begun !== null) this.mark(begun, spot.x);
      });
      this.canvas.addEventListener("pointerleave", (event) => showTip(event, ""));
      this.canvas.addEventListener("pointerdown", (event) => {
        if (event.button !== 0 || !this.at(event).isInside || event.pointerType === "touch") return;
        begun = this.at(event).x;
        this.canvas.setPointerCapture(event.pointerId);
      });
      this.canvas.addEventListener("pointerup", (event) => {
        const spot = this.at(event);
        if (begun !== null && Math.abs(spot.x - begun) > 4) zoomTo(...[this.cycle(begun), spot.cycle].sort((a, b) => a - b));
        else if (spot.row && spot.row.core !== undefined) openCore(spot.row.core);
        begun = null;
        this.range.hidden = true;
      });
      this.canvas.addEventListener("pointercancel", () => { begun = null; this.range.hidden = true; });
      this.canvas.addEventListener("dblclick", () => zoomTo(0, T.span));
      this.canvas.addEventListener("wheel", (event) => {
        if (!(event.ctrlKey || event.metaKey || event.shiftKey)) return;
        event.preventDefault();
        zoomAround(this.at(event).cycle, (event.deltaY || event.deltaX) > 0 ? 1.25 : 0.8);
      }, { passive: false });
      this.canvas.addEventListener("keydown", (event) => {
        const act = { ArrowLeft: "left", ArrowRight: "right", "+": "in", "=": "in", "-": "out", 0: "all" }[event.key];
        if (act) { event.preventDefault(); zoomBy(act); }
      });
    }
    mark(from, to) {
      const [a, b] = [from, to].sort((p, q) => p - q).map((x) => Math.min(Math.max(x, this.gutter), this.gutter + this.plotWidth));
      this.range.hidden = false;
      this.range.style.left = `${a}px`;
      this.range.style.width = `${b - a}px`;
    }
  }

  let lanes = null, coreLanes = null, byCore = null, byLayer = null, coreHeat = null, layerHeat = null, settling = 0;
  function zoomTo(from, to) {
    const least = Math.max(T.span / 1e5, 4);
    const middle = (from + to) / 2;
    const half = Math.min(Math.max(to - from, least), T.span) / 2;
    window_.from = Math.min(Math.max(middle - half, 0), T.span - 2 * half);
    window_.to = window_.from + 2 * half;
    lanes.draw();
    if (state.core !== null) coreLanes.draw();
    clearTimeout(settling);
    settling = setTimeout(writeAddress, 250); // browsers refuse hundreds of changes of the address
  }
  function zoomAround(cycle, factor) {
    zoomTo(cycle - (cycle - window_.from) * factor, cycle + (window_.to - cycle) * factor);
  }
  function zoomBy(act) {
    const span = window_.to - window_.from, middle = (window_.from + window_.to) / 2;
    if (act === "in") zoomAround(middle, 0.5);
    else if (act === "out") zoomAround(middle, 2);
    else if (act === "all") zoomTo(0, T.span);
    else { const by = (act === "left" ? -0.3 : 0.3) * span; zoomTo(window_.from + by, window_.to + by); }
  }
  function showView() {
    if (!lanes) return;
    $$("[data-view]").forEach((b) => b.setAttribute("aria-pressed", String(b.dataset.view === state.view)));
    if (state.view === "layer") {
      lanes.show(D.layers.map((layer, i) => ({
        label: layer.name, title: `${layer.name} (${layer.op})\n${time(layer.start)} to ${time(layer.end)}, ${layer.cores} cores`,
        extent: [layer.start, layer.end], slices: byLayer.get(i) || [], colour: () => layerColour(i),
        heat: { levels: layerHeat, bins: T.layer_heat.bins, offset: i * T.layer_heat.bins },
      })), Math.max(14, Math.min(20, Math.floor(560 / Math.max(D.layers.length, 1)))), "Timeline by layer");
    } else {
      const height = Math.max(3, Math.min(18, Math.floor(560 / T.cores.length)));
      lanes.show(T.cores.map((core, i) => ({
        label: `core ${core}`, title: `core ${core}`, core, isMarked: core === state.core, slices: byCore.get(core) || [],
        colour: (slice) => (slice < 0 ? lanes.colours.accent : layerColour(S.layer[slice])),
        heat: { levels: coreHeat, bins: T.core_heat.bins, offset: i * T.core_heat.bins },
      })), height, "Timeline by core");
    }
  }
  /** Slices of one core, a lane per opcode and more where slices of an opcode overlap. */
  function opcodeLanes(core) {
    const rows = [], most = 8;
    T.opcodes.forEach((name, opcode) => {
      const own = (byCore.get(core) || []).filter((i) => S.opcode[i] === opcode);
      const ends = [];
      own.forEach((i) => {
        let lane = ends.findIndex((end) => end <= S.start[i]);
        if (lane < 0) lane = Math.min(ends.length, most - 1);
        ends[lane] = S.start[i] + S.length[i];
        const key = `${opcode}/${lane}`;
        let row = rows.find((r) => r.key === key);
        if (!row) { row = { key, label: lane ? "" : name, title: name, slices: [], colour: (s) => layerColour(S.layer[s]) }; rows.push(row); }
        row.slices.push(i);
      });
    });
    return rows;
  }
  function showCore() {
    if (!lanes) return;
    $("#detail").hidden = state.core === null;
    if (state.core === null) return;
    const core = state.core;
    $("#detail-title").textContent = `Core ${core}`;
    $("#detail-facts").textContent = coreFacts(core).slice(1).join(" · ");
    const rows = opcodeLanes(core);
    if (!rows.length) rows.push({ label: "idle", title: `core ${core} ran nothing in the first sample`, slices: [], colour: () => "" });
    coreLanes.show(rows, 16, `Slices of core ${core}`, lanes.labelWidth); // both share one time axis
  }
  function openCore(core) {
    state.core = core;
    writeAddress();
    showView();
    showCore();
    drawChips();
  }
  function startTimeline() {
    if (!T) return;
    byCore = groupSlices(S.core);
    byLayer = groupSlices(S.layer);
    coreHeat = bytes(T.core_heat.levels);
    layerHeat = bytes(T.layer_heat.levels);
    lanes = new Lanes($("#lanes"), 566);
    coreLanes = new Lanes($("#core-lanes"), 360);
    $$("[data-view]").forEach((b) => b.addEventListener("click", () => { state.view = b.dataset.view; lanes.body.scrollTop = 0; writeAddress(); showView(); }));
    $$("[data-zoom]").forEach((b) => b.addEventListener("click", () => zoomBy(b.dataset.zoom)));
    $("#detail-close").addEventListener("click", () => openCore(null));
  }

  // -- chip ----------------------------------------------------------------------------------------------------------
  const chip = D.chip;
  const perChip = Math.ceil(chip.cores / chip.chips) || 1;
  const gridCols = chip.cols || Math.ceil(Math.sqrt(perChip));
  const gridRows = chip.rows || Math.ceil(perChip / gridCols);
  let litLayer = -1;
  function coreFacts(core) {
    const names = chip.layers[core].map(layerName);
    const more = names.length > 6 ? ` and ${names.length - 6} more` : "";
    const busy = Object.entries(chip.busy).map(([name, values]) => `${name} busy ${percent(values[core])}`);
    return [`core ${core}`, names.length ? `works for ${names.slice(0, 6).join(", ")}${more}` : "no layer", `${chip.arrays[core]} ${chip.array_name} in use`, ...busy];
  }
  function chipValues() {
    const name = state.colour;
    const values = name === "arrays" ? chip.arrays : chip.busy[name.replace(/^busy:/, "")];
    return values ? { values, most: values.reduce((a, b) => Math.max(a, b), 0), unit: name === "arrays" ? "" : " %" } : null;
  }
  class ChipView {
    constructor(host, number) {
      this.number = number;
      this.figure = element("figure", "", host);
      if (chip.chips > 1) element("figcaption", "", this.figure).textContent = `chip ${number}`;
      this.canvas = element("canvas", "", this.figure);
      this.canvas.setAttribute("role", "img");
      this.canvas.setAttribute("aria-label", `Cores of chip ${number}, ${gridRows} rows of ${gridCols}`);
      this.canvas.addEventListener("pointermove", (event) => { const core = this.coreAt(event); showTip(event, core < 0 ? "" : coreFacts(core).join("\n")); });
      this.canvas.addEventListener("pointerleave", (event) => showTip(event, ""));
      this.canvas.addEventListener("click", (event) => {
        const core = this.coreAt(event);
        if (core < 0) return;
        openCore(core);
        if (T) $("#detail").scrollIntoView({ behavior: "smooth", block: "center" });
      });
    }
    coreAt(event) {
      const box = this.canvas.getBoundingClientRect();
      const col = Math.floor((event.clientX - box.left) / this.cell), row = Math.floor((event.clientY - box.top) / this.cell);
      const place = row * gridCols + col;
      const core = this.number * perChip + place;
      return col >= 0 && col < gridCols && place >= 0 && place < perChip && core < chip.cores ? core : -1;
    }
    centre(place) { return [(place % gridCols + 0.5) * this.cell, (Math.floor(place / gridCols) + 0.5) * this.cell]; }
    draw(cell) {
      this.cell = cell;
      const c = sized(this.canvas, gridCols * cell, gridRows * cell);
      const shown = chipValues(), gap = cell > 9 ? 1.5 : cell > 4 ? 0.5 : 0;
      c.textAlign = "center";
      c.textBaseline = "middle";
      c.font = c.font.replace(/^\d+px/, `${Math.min(11, Math.round(cell / 3))}px`);
      for (let place = 0; place < gridRows * gridCols; place += 1) {
        const core = this.number * perChip + place;
        const [x, y] = this.centre(place);
        if (place >= perChip || core >= chip.cores) continue;
        const layer = chip.layer[core];
        c.globalAlpha = litLayer >= 0 && !chip.layers[core].includes(litLayer) ? 0.18 : state.links && chip.links ? 0.4 : 1;
        c.fillStyle = shown ? ramp(shown.most ? shown.values[core] / shown.most : 0) : layer < 0 ? css("--idle") : layerColour(layer);
        c.fillRect(x - cell / 2 + gap, y - cell / 2 + gap, cell - 2 * gap, cell - 2 * gap);
        c.globalAlpha = 1;
        if (core === state.core) { c.strokeStyle = css("--ink"); c.lineWidth = 2; c.strokeRect(x - cell / 2 + gap, y - cell / 2 + gap, cell - 2 * gap, cell - 2 * gap); }
        if (cell >= 24 && !(state.links && chip.links)) {
          const isStrong = shown && shown.most && shown.values[core] / shown.most > 0.5;
          c.fillStyle = shown ? css(isStrong ? "--surface" : "--muted") : layer < 0 ? css("--muted") : inkOn(layerColour(layer));
          c.fillText(String(core), x, y + 0.5);
        }
      }
      if (state.links && chip.links) this.drawLinks(c);
    }
    /** Links run beside the line between two cores: the one there on its right, the one back on the other side. */
    drawLinks(c) {
      const nodes = gridRows * gridCols, base = this.number * 5 * nodes;
      const most = chip.links.reduce((a, b) => Math.max(a, b), 0) || 1;
      const steps = [[1, 0], [-1, 0], [0, 1], [0, -1]];
      c.strokeStyle = css("--bad");
      c.lineCap = "round";
      for (let place = 0; place < nodes; place += 1) {
        const [x, y] = this.centre(place);
        steps.forEach(([dx, dy], k) => {
          const share = chip.links[base + 4 * place + k] / most;
          if (share <= 0) return;
          const off = this.cell * 0.1;
          c.globalAlpha = 0.25 + 0.75 * share;
          c.lineWidth = Math.max(0.6, share * this.cell * 0.17);
          c.beginPath();
          c.moveTo(x - dy * off + dx * this.cell * 0.12, y + dx * off + dy * this.cell * 0.12);
          c.lineTo(x - dy * off + dx * this.cell * 0.88, y + dx * off + dy * this.cell * 0.88);
          c.stroke();
        });
      }
      c.globalAlpha = 1;
    }
  }
  let chipViews = [];
  function drawChips() {
    if (!chipViews.length) return;
    const area = $(".chip-area").clientWidth;
    const width = (area < 900 ? area : area - 260) - 24;
    const beside = chip.chips === 1 ? 1 : Math.max(1, Math.min(chip.chips, Math.floor(width / (chip.chips > 6 ? 140 : 240))));
    const cell = Math.max(3, Math.min(46, Math.floor((width / beside - (beside > 1 ? 40 : 0)) / gridCols), Math.max(18, Math.floor(620 / gridRows))));
    chipViews.forEach((view) => view.draw(cell));
    drawScale();
  }
  function drawScale() {
    const shown = chipValues(), scale = $("#chip-scale");
    $("#chip-legend").hidden = Boolean(shown);
    scale.replaceChildren();
    if (!shown && !(state.links && chip.links)) return;
    const linksShown = state.links && chip.links;
    const title = linksShown ? "busy share of links (width of the lines)" : state.colour === "arrays" ? `${chip.array_name} in use` : `busy share of the time per sample, ${state.colour.slice(5)}`;
    element("span", "", scale).textContent = title;
    const most = linksShown ? chip.links.reduce((a, b) => Math.max(a, b), 0) : shown.most;
    const unit = linksShown ? " %" : shown.unit;
    element("div", "", scale).style.background = linksShown ? `linear-gradient(90deg, transparent, ${css("--bad")})` : `linear-gradient(90deg, ${ramp(0)}, ${ramp(1)})`;
    const ends = element("p", "", scale);
    element("span", "", ends).textContent = `0${unit}`;
    element("span", "", ends).textContent = `${digits(most)}${unit}`;
  }
  function drawLegend() {
    const used = [...new Set(chip.layer)].filter((i) => i >= 0).sort((a, b) => a - b);
    $("#chip-legend").replaceChildren(...used.map((i) => {
      const item = element("li");
      element("i", "", item).style.background = layerColour(i);
      element("span", "", item).textContent = D.layers[i].name;
      item.title = D.layers[i].name;
      item.addEventListener("pointerenter", () => { litLayer = i; drawChips(); });
      item.addEventListener("pointerleave", () => { litLayer = -1; drawChips(); });
      return item;
    }));
  }
  function startChips() {
    const host = $("#chips");
    if (!host) return;
    chipViews = Array.from({ length: chip.chips }, (_, i) => new ChipView(host, i));
    $("#chip-colour").addEventListener("change", (event) => { state.colour = event.target.value; writeAddress(); drawChips(); });
    const links = $("#chip-links");
    if (links) links.addEventListener("change", () => { state.links = links.checked; writeAddress(); drawChips(); });
  }

  // -- plots ---------------------------------------------------------------------------------------------------------
  const CONFIG = { displaylogo: false, responsive: false, displayModeBar: false, showSendToCloud: false, showLink: false };
  function frame(changes) {
    const axis = { gridcolor: css("--line"), zerolinecolor: css("--line"), linecolor: css("--line"), tickfont: { color: css("--muted") }, automargin: true, title: { font: { size: 12.5 } }, fixedrange: true };
    const layout = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: css("--muted") },
      margin: { l: 10, r: 14, t: 6, b: 36 }, bargap: 0.3, showlegend: false, hoverlabel: { bgcolor: css("--ink"), bordercolor: css("--ink"), font: { color: css("--surface"), size: 12.5 }, align: "left", namelength: -1 },
      dragmode: false, ...changes,
    };
    layout.xaxis = { ...axis, ...changes.xaxis, title: { ...axis.title, ...(changes.xaxis || {}).title } };
    layout.yaxis = { ...axis, ...changes.yaxis, title: { ...axis.title, ...(changes.yaxis || {}).title } };
    return layout;
  }
  function plot(id, traces, layout) {
    const host = document.getElementById(id);
    if (host) Plotly.react(host, traces, { ...frame(layout), width: host.clientWidth, height: host.clientHeight }, CONFIG);
  }
  function plotOccupancies() {
    D.occupancies.forEach(({ data, layout }, i) => {
      const { xaxis, yaxis } = frame({});
      const axes = Object.entries(layout).filter(([key]) => /^[xy]axis/.test(key));
      const styled = axes.map(([key, axis]) => [key, { ...(key[0] === "x" ? xaxis : yaxis), ...axis, automargin: false }]);
      plot(`occupancy-${i}`, data, { ...layout, autosize: false, showlegend: true, ...Object.fromEntries(styled) });
    });
  }
  // Names stand on numbered places: Plotly would read a layer named "12" or "2020-01-01" as a number or a date.
  const named = (names, most = 22) => ({ tickvals: names.map((_, i) => i), ticktext: names.map((n) => inert(shorten(n, most))), range: [names.length - 0.5, -0.5], showgrid: false, zeroline: false, ticks: "outside", ticklen: 6, tickcolor: "rgba(0,0,0,0)" });
  const narrow = () => document.documentElement.clientWidth < 620;

  function plotEnergy() {
    const parts = D.energy, total = parts.reduce((sum, part) => sum + part[1], 0);
    if (!parts.length) return;
    const [factor, unit] = scaleOf(parts[0][1], D.units.energy);
    const texts = parts.map(([, pj]) => `${energy(pj)}, ${percent((100 * pj) / total)}`);
    plot("plot-energy", [{
      type: "bar", orientation: "h", x: parts.map((p) => p[1] / factor), y: parts.map((_, i) => i), text: texts, textposition: "outside", cliponaxis: false,
      textfont: { color: css("--muted") }, marker: { color: parts.map(([name], k) => componentColour(name, k)) },
      customdata: parts.map((p, i) => [inert(p[0]), texts[i]]), hovertemplate: "%{customdata[0]}: %{customdata[1]}<extra></extra>",
    }], { xaxis: { title: { text: `energy per sample (${unit})` }, range: [0, (parts[0][1] / factor) * (narrow() ? 1.9 : 1.45)] }, yaxis: named(parts.map((p) => p[0])) });
  }
  function plotLayers() {
    const all = D.layers, most = Math.max(0, ...all.map((l) => l.energy));
    if (!$("#plot-layers")) return;
    const [factor, unit] = scaleOf(most, D.units.energy);
    plot("plot-layers", [{
      type: "bar", x: all.map((_, i) => i + 1), y: all.map((l) => l.energy / factor), marker: { color: all.map((_, i) => layerColour(i)) },
      customdata: all.map((l) => [inert(l.name), inert(l.op), energy(l.energy)]), hovertemplate: "%{customdata[0]} (%{customdata[1]}): %{customdata[2]}<extra></extra>",
    }], { bargap: all.length > 60 ? 0.05 : 0.25, xaxis: { title: { text: "layer, in graph order" }, showgrid: false, tickformat: "d", nticks: 12, rangemode: "nonnegative" }, yaxis: { title: { text: `energy per sample (${unit})` }, rangemode: "tozero" } });
  }
  function plotUse() {
    const parts = D.utilisation.filter((p) => p[2] > 0).sort((a, b) => b[2] - a[2]);
    if (!parts.length) return;
    const names = parts.map(([name, , , count]) => (count ? `${name} ×${count.toLocaleString("en")}` : name));
    const y = parts.map((_, i) => i);
    const hover = parts.map(([name, mean, busiest]) => [inert(name), percent(mean), percent(busiest)]);
    const text = "%{customdata[0]}<br>mean %{customdata[1]}, busiest %{customdata[2]}<extra></extra>";
    plot("plot-use", [
      { type: "bar", orientation: "h", name: "mean", x: parts.map((p) => p[1]), y, marker: { color: css("--accent") }, customdata: hover, hovertemplate: text },
      { type: "scatter", mode: "markers", name: "busiest", x: parts.map((p) => p[2]), y, marker: { color: css("--ink"), symbol: "line-ns", size: 16, line: { width: 2.5, color: css("--ink") } }, customdata: hover, hovertemplate: text },
    ], { showlegend: true, legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" }, margin: { l: 10, r: 14, t: 26, b: 36 }, xaxis: { title: { text: "busy share (%)" }, range: [0, Math.max(100, ...parts.map((p) => p[2])) * 1.02] }, yaxis: named(names, 28) });
  }
  function plotWaits() {
    if (!$("#plot-waits")) return;
    const sum = (layer) => Object.values(layer.waits).reduce((a, b) => a + b, 0);
    const top = D.layers.slice().sort((a, b) => sum(b) - sum(a)).slice(0, 14).filter((l) => sum(l) > 0);
    const [factor, unit] = scaleOf(ns(top.length ? sum(top[0]) : 0), D.units.time);
    plot("plot-waits", D.causes.map((cause, k) => ({
      type: "bar", orientation: "h", name: inert(cause), x: top.map((l) => ns(l.waits[cause] || 0) / factor), y: top.map((_, i) => i),
      marker: { color: cause in CAUSE_HUES ? hued(CAUSE_HUES[cause]) : hued(340, k) },
      customdata: top.map((l) => [inert(l.name), inert(cause), time(l.waits[cause] || 0)]), hovertemplate: "%{customdata[0]}<br>%{customdata[1]}: %{customdata[2]}<extra></extra>",
    })), { barmode: "stack", showlegend: true, legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", traceorder: "normal" }, margin: { l: 10, r: 14, t: 26, b: 36 }, xaxis: { title: { text: `waiting per sample, all instructions added (${unit})` } }, yaxis: named(top.map((l) => l.name), narrow() ? 12 : 22) });
  }
  function plotLinks() {
    const load = chip.sorted_links;
    if (!$("#plot-links") || !load.length) return;
    plot("plot-links", [{ type: "scatter", mode: "lines", x: [...load, 0].map((_, i) => (100 * i) / load.length), y: [...load, load[load.length - 1]], fill: "tozeroy", line: { color: css("--accent"), shape: "hv", width: 1.5 }, hovertemplate: "%{x:.0f} % of the links in use are busier than %{y:.2f} %<extra></extra>" }],
      { xaxis: { title: { text: "links in use, busiest first (%)" }, range: [0, 100], showgrid: false }, yaxis: { title: { text: "busy share (%)" }, rangemode: "tozero" } });
  }

  // -- start ---------------------------------------------------------------------------------------------------------
  function drawAll() {
    showView();
    showCore();
    if (chipViews.length) { drawLegend(); drawChips(); }
    plotEnergy();
    plotLayers();
    plotUse();
    plotWaits();
    plotLinks();
    plotOccupancies();
  }
  function applyState() {
    applyTheme();
    const filter = $("#filter"), colour = $("#chip-colour"), links = $("#chip-links");
    if (filter) filter.value = state.filter;
    if (colour) { colour.value = state.colour; if (!colour.value) { state.colour = "layer"; colour.value = "layer"; } }
    if (links) links.checked = state.links;
    sortTable();
    filterTable();
    drawAll();
  }
  $("#theme").addEventListener("click", () => { state.theme = isDark() ? "light" : "dark"; writeAddress(); applyTheme(); drawAll(); });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { applyTheme(); drawAll(); });
  window.addEventListener("hashchange", () => { if (location.hash.includes("=")) { readAddress(); applyState(); } });
  let resizing = 0;
  window.addEventListener("resize", () => { cancelAnimationFrame(resizing); resizing = requestAnimationFrame(drawAll); });

  readAddress();
  startTable();
  startTimeline();
  startChips();
  applyState();
  root.dataset.ready = "yes";
})();
