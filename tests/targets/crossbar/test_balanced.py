"""Balanced placements: windows find cores of their own, loads are counted, numbers stay, and rows do not race."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from oracles.timed_order import TimedOrder
from targets.conformance import assert_conforms, machine
from targets.crossbar.networks import codes, quantised

from pimloom import api
from pimloom.hardware import CrossbarHardware
from pimloom.ir.evaluate import evaluate
from pimloom.program import Program
from pimloom.simulate import cost, engine
from pimloom.targets import Mode, Request
from pimloom.targets.crossbar import compile as compile_module
from pimloom.targets.crossbar.bundles import LEAST_SLICE, Estimator, Wish, capacity_of, is_windowed
from pimloom.targets.crossbar.compile import _ROOMY, FAR, FREE_ROWS, GOOD, MANY_ROWS, Trial, _Search, compile_network, lower
from pimloom.targets.crossbar.compile import trials as search_trials
from pimloom.targets.crossbar.cores import Policy
from pimloom.targets.crossbar.lower import Options
from pimloom.targets.crossbar.mapper import BALANCED, NEIGHBOURS, Mapped, Mapper
from pimloom.targets.crossbar.scope import Scope
from pimloom.targets.crossbar.stages import Kind
from pimloom.targets.crossbar.tasks import Work

WITH_WINDOWS = ("tiny_cnn", "depthwise", "wide depthwise", "ceil-mode pools", "average pools")
NETWORKS = (*WITH_WINDOWS, "residual", "grouped", "dense block", "squeeze excite")


def balanced(name: str, where: str, fill: float = 0.9) -> tuple[Mapper, Mapped]:
    """A network with its copies balanced over cores, rows divided freely."""
    hardware = machine(where)
    graph = quantised(name, hardware.precision.weight_bits, hardware.precision.activation_bits)
    mapper = Mapper(graph, hardware, Mode.THROUGHPUT)
    mapped = mapper.map(fill, BALANCED, FREE_ROWS)
    assert mapped is not None
    return mapper, mapped


@pytest.mark.parametrize(
    ("name", "where", "fill"),
    [("tiny_cnn", "toy", 0.3), ("tiny_cnn", "toy", 0.6), ("tiny_cnn", "many small cores", 0.6), ("depthwise", "toy", 0.1)],
)
def test_arrays_that_nothing_waits_for_may_stay_free(name: str, where: str, fill: float) -> None:
    """Without spending the slowest layer is as fast, and no layer has more copies."""
    mapper, most = balanced(name, where, fill)
    least = mapper.map(fill, BALANCED, FREE_ROWS, spends=False)
    assert least is not None
    windows = {s.index: s.shape.rows * s.shape.width for s in most.flow.stages if s.kind is Kind.MATRIX}
    slowest = [max(size / mapped.copies[i] for i, size in windows.items()) for mapped in (most, least)]
    assert slowest[0] == slowest[1]
    assert all(least.copies[i] <= n for i, n in most.copies.items())
    assert sum(least.copies.values()) < sum(most.copies.values())


def program_of(name: str, where: str, samples: int) -> Program:
    mapper, mapped = balanced(name, where)
    return lower(mapper, mapped, Options(mode="throughput", samples=samples))


@pytest.mark.parametrize("where", ["toy", "many small cores", "isaac"])
@pytest.mark.parametrize("name", NETWORKS)
def test_balanced_programs_conform(name: str, where: str) -> None:
    program = program_of(name, where, 2)
    assert_conforms(program.graph, program)


@pytest.mark.parametrize("where", ["toy", "many small cores"])
@pytest.mark.parametrize("name", NETWORKS)
def test_balanced_programs_keep_their_order(name: str, where: str) -> None:
    """Three samples in flight: no two rows race, and each row carried out when it is done gives the numbers."""
    program = program_of(name, where, 3)
    graph = program.graph
    order = TimedOrder(program, engine.run(cost(program).timing), [codes(graph, seed) for seed in range(3)])
    assert order.races() == []
    for sample, outputs in enumerate(order.run(by="done")):
        meaning = evaluate(graph, codes(graph, sample))
        assert all(np.array_equal(outputs[v], meaning[v]) for v in graph.outputs), sample


def test_windows_do_not_follow_classes_of_rows() -> None:
    found = 0
    for name in WITH_WINDOWS:
        _, mapped = balanced(name, "many small cores")
        for stage in (s for s in mapped.flow.stages if is_windowed(s)):
            line = mapped.placement.clusters[stage.index]
            makers = [c for s in mapped.flow.stages if s.output == stage.inputs[0].value for c in mapped.placement.clusters[s.index]]
            if not makers or makers[0].row_class[1] == 1:
                continue
            found += 1
            assert {c.row_class for c in line} == {(0, 1)}
            for channels in {(c.c_start, c.c_stop) for c in line}:
                parts = sorted((c.x_start, c.x_stop) for c in line if (c.c_start, c.c_stop) == channels)
                assert parts[0][0] == 0 and parts[-1][1] == stage.shape.width
                assert all(a[1] == b[0] for a, b in itertools.pairwise(parts))
    assert found


@pytest.mark.parametrize("where", ["many small cores", "isaac"])
def test_depthwise_stages_are_cut_into_slices_of_channels_first(where: str) -> None:
    """A slice needs no column of its neighbours; slices are wide enough for lanes and memory, and the rest of the parts are columns."""
    _, mapped = balanced("wide depthwise", where)
    hardware = machine(where)
    (stage,) = (s for s in mapped.flow.stages if s.kind is Kind.STENCIL)
    line = mapped.placement.clusters[stage.index]
    slices, columns = ({(getattr(c, f"{axis}_start"), getattr(c, f"{axis}_stop")) for c in line} for axis in "cx")
    assert len(slices) == 2
    assert min(high - low for low, high in slices) >= LEAST_SLICE * hardware.core.vector_unit.lanes
    assert len(columns) <= stage.shape.width / 2
    assert len(line) == len(slices) * len(columns)
    done = np.zeros((stage.shape.width, stage.shape.channels), int)
    for c in line:
        done[c.x_start : c.x_stop, c.c_start : c.c_stop] += 1
    assert (done == 1).all()


@pytest.mark.parametrize(("rows", "cols"), [(2, 2), (1, 5), (3, 3)])
def test_slices_and_columns_need_no_more_cores_than_there_are(rows: int, cols: int) -> None:
    """Parts that are no multiple of the slices: rounded up they would be more than the machine has cores."""
    settings = (f"chip.core_rows={rows}", f"chip.core_cols={cols}", "core.crossbars=64", "core.local_memory.size_bytes=262144")
    hardware = api.hardware("toy", settings)
    mapped = Mapper(quantised("wide depthwise", 8, 8), hardware, Mode.THROUGHPUT).map(0.9, BALANCED, FREE_ROWS)
    assert mapped is not None
    (stage,) = (s for s in mapped.flow.stages if s.kind is Kind.STENCIL)
    line = mapped.placement.clusters[stage.index]
    assert len({c.core for c in line}) == len(line) <= rows * cols
    assert sum((c.x_stop - c.x_start) * (c.c_stop - c.c_start) for c in line) == stage.shape.width * stage.shape.channels


def test_a_bundle_asks_for_ports_and_places() -> None:
    """Twice the copies of a layer that share a row ask for as much of a port, and for twice the places."""
    mapper, mapped = balanced("tiny_cnn", "isaac")
    stage = next(s for s in mapped.flow.stages if s.kind is Kind.MATRIX)
    estimator = Estimator(mapped.flow, mapper.hardware, mapped.unfolded)
    split = mapped.splits[stage.index]
    one, two = (estimator.wish(stage, (1, 2), split, stage.shape.channels, 1, count) for count in (1, 2))
    assert two.places == 2 * one.places > 0
    assert two.port_cycles > 1.5 * one.port_cycles > 0
    most = capacity_of(mapper.hardware, 1e6)
    assert Wish(port_cycles=most.port_cycles / 2).strain(most) == pytest.approx(0.5)
    assert Wish(places=most.places / 4).strain(most) == pytest.approx(0.25)


def test_parts_of_a_row_follow_each_other_at_once() -> None:
    mapper, mapped = balanced("tiny_cnn", "isaac")
    shares = dict.fromkeys(range(mapper.hardware.total_cores), 0.001)
    work = Work(Scope(mapped.flow, mapper.hardware, mapped.unfolded, mapped.placement, Options(), shares))
    work.cut()
    has_parts = False
    for line in work.tasks:
        for before, after in itertools.pairwise(line):
            if before.row == after.row:
                has_parts = True
                assert before.pause == 0.0
    assert has_parts and any(task.pause > 0 for line in work.tasks for task in line)


def test_a_good_program_ends_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first trial whose period is near the compute bound is taken, if trials take long; others are tried further."""
    hardware = machine("toy")
    graph = quantised("tiny_cnn")
    bound = Mapper(graph, hardware, Mode.THROUGHPUT).bottleneck_cycles

    def trials(factor: float, many_rows: int) -> int:
        monkeypatch.setattr(compile_module, "MANY_ROWS", many_rows)
        request = Request(Mode.THROUGHPUT, 4, 1, 0, lambda _: (1, factor * bound), lambda _: None)
        return len(compile_network(graph, hardware, request).notes["tried"])

    assert trials(GOOD - 0.01, 0) == 1 < trials(GOOD + 0.01, 0)
    assert trials(GOOD - 0.01, MANY_ROWS) > 1


def test_where_nothing_else_fits_columns_are_cut_and_copies_fill_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """One copy of each layer may take nearly all arrays (AlexNet on two chips): 88 % of them would then be for no further copy."""
    whole = Mapper.map

    def only_cut(self: Mapper, fill: float, policies: Sequence[Policy] = (), *more: float, spends: bool = True) -> Mapped | None:
        return whole(self, fill, (Policy.CUT,), *more, spends=spends) if Policy.CUT in policies else None

    monkeypatch.setattr(Mapper, "map", only_cut)
    program = compile_network(quantised("tiny_cnn"), machine("toy"), Request(Mode.THROUGHPUT, 4, 1, 0, api.cycles, lambda _: None))
    assert _fitting_trials(program)[0] == "copies on 98% of the crossbars, cut"
    assert max(program.notes["copies"].values()) > 1


@pytest.mark.parametrize(("gains", "wanted"), [((0.9, 0.8, 0.85), 3), ((0.9, 0.95), 2), ((1.6, 1.5, 1.5), 3)])
def test_where_whole_columns_leave_no_room_for_the_copies_that_were_asked_for_they_are_cut(
    monkeypatch: pytest.MonkeyPatch, gains: Sequence[float], wanted: int
) -> None:
    """AlexNet on three chips of puma: one copy of each layer fits in whole columns, which is no reason to be content with it."""
    whole, cycles = Mapper.map, iter([1.0, *gains])

    def few_whole(self: Mapper, fill: float, policies: Sequence[Policy] = (), *more: float, spends: bool = True) -> Mapped | None:
        is_wanted = (fill < 0.8 and Policy.CUT_BALANCED not in policies) or Policy.CUT in policies
        return whole(self, fill, policies, *more, spends=spends) if is_wanted else None

    monkeypatch.setattr(Mapper, "map", few_whole)
    request = Request(Mode.LATENCY, 1, 1, 0, lambda _: (int(1000 * next(cycles)), 0.0), lambda _: None)
    tried = compile_network(quantised("tiny_cnn"), machine("toy"), request).notes["tried"]
    assert next(one["what"] for one in tried if one["fits"]) == "copies on 75% of the crossbars, near each other"
    assert len([one for one in tried if one["fits"] and one["what"].endswith(", cut")]) == wanted


def test_where_pieces_leave_room_for_one_copy_only_columns_are_cut_closely(monkeypatch: pytest.MonkeyPatch) -> None:
    """VGG-16 on five chips: pieces that fill 0.8 of a core fit once, pieces that fill 0.9 leave room for many copies of small layers."""
    whole = Mapper.map

    def crowded(self: Mapper, fill: float, policies: Sequence[Policy] = (), *more: float, spends: bool = True) -> Mapped | None:
        if Policy.CUT_CLOSELY in policies:
            return whole(self, fill, (Policy.CUT_CLOSELY,), *more, spends=spends)
        return whole(self, 0.0, (Policy.CUT,), *more, spends=spends) if Policy.CUT in policies and fill < 0.9 else None

    monkeypatch.setattr(Mapper, "map", crowded)
    program = compile_network(quantised("tiny_cnn"), machine("toy"), Request(Mode.LATENCY, 1, 1, 0, api.cycles, lambda _: None))
    ways = [what.rpartition(", ")[2] for what in _fitting_trials(program)]
    assert ways[0] == "cut" and set(ways[1:]) == {"cut closely"}
    assert max(program.notes["copies"].values()) > 1


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("room", [1.0, 0.8])
def test_pieces_of_columns_go_where_they_strain_cores_least(monkeypatch: pytest.MonkeyPatch, mode: Mode, room: float) -> None:
    """What packs tighter is tried, too, on 98, 94, 91, 88 and 75 % of the crossbars if each is better than the one before.

    In throughput mode no layer has copies beyond what the slowest one's time takes.
    """
    whole, spending, costs = Mapper.map, set[bool](), itertools.count(1000, -1)

    def only_cut(self: Mapper, fill: float, policies: Sequence[Policy] = (), *more: float, spends: bool = True) -> Mapped | None:
        if Policy.CUT_BALANCED in policies:
            spending.add(spends)
            return whole(self, fill, policies, *more, spends=spends) if fill <= room else None
        # Another share gives other copies, so that each is lowered.
        return whole(self, 0.4 * fill, policies, *more, spends=spends) if Policy.CUT in policies else None

    def cost(_: Program) -> tuple[int, float]:
        """Each is better than the one before."""
        cycles = next(costs)
        return cycles, float(cycles)

    monkeypatch.setattr(Mapper, "map", only_cut)
    monkeypatch.setattr(_Search, "_lower_once", _Search._lower)
    program = compile_network(quantised("tiny_cnn"), machine("toy"), Request(mode, 1, 1, 0, cost, lambda _: None))
    ways = [what.partition("crossbars, ")[2] for what in _fitting_trials(program)]
    assert ways[0] == "cut closely, balanced" and ways.count("cut") == 5
    assert spending == {mode is Mode.LATENCY}


@pytest.mark.parametrize(("effort", "factor", "crowds", "expected"), [
    (1, FAR + 0.01, True, True), (1, FAR - 0.01, True, False), (1, FAR + 0.01, False, False), (2, 1.0, True, True),
])  # fmt: skip
def test_columns_are_cut_where_some_trial_had_no_room_and_all_stay_far_from_the_bound(
    monkeypatch: pytest.MonkeyPatch, effort: int, factor: float, crowds: bool, expected: bool
) -> None:
    """VGG-16 on six chips of puma: copies on 94 and 88 % of the crossbars do not fit in whole columns, those on 80 % do."""
    whole, graph, hardware = Mapper.map, quantised("tiny_cnn"), machine("toy")
    bound = Mapper(graph, hardware, Mode.THROUGHPUT).bottleneck_cycles

    def crowded(self: Mapper, fill: float, policies: Sequence[Policy] = (), *more: float, spends: bool = True) -> Mapped | None:
        if crowds and fill > 0.8 and Policy.CUT_BALANCED not in policies:
            return None
        return whole(self, fill, policies, *more, spends=spends)

    monkeypatch.setattr(Mapper, "map", crowded)
    request = Request(Mode.THROUGHPUT, 4, effort, 0, lambda _: (1, factor * bound), lambda _: None)
    tried = compile_network(graph, hardware, request).notes["tried"]
    assert any(one["what"].endswith("cut closely, balanced") for one in tried) == expected


def test_less_than_one_copy_of_each_layer_is_no_share_that_a_trial_had_room_for() -> None:
    """VGG on machines that it nearly fills: 88 % of the arrays are fewer than one copy of each takes, so no copies were tried yet."""
    graph, hardware = quantised("tiny_cnn"), machine("toy")
    assert isinstance(hardware, CrossbarHardware)
    for needed, expected in ((None, True), (0.9 * hardware.total_crossbars, False)):
        search = _Search(Mapper(graph, hardware), Request(Mode.LATENCY, 1, 1, 0, lambda _: (1, 1.0), lambda _: None))
        search.mapper.needed = int(needed) if needed else search.mapper.needed
        search.add(Trial(0.88, NEIGHBOURS))
        assert search.best is not None
        assert search.has_room is expected


def _fitting_trials(program: Program) -> list[str]:
    return [one["what"] for one in program.notes["tried"] if one["fits"]]


@pytest.mark.parametrize(("effort", "wanted"), [(1, False), (2, True)])
def test_larger_efforts_compare_all_samples(monkeypatch: pytest.MonkeyPatch, effort: int, wanted: bool) -> None:
    """What is compared on few samples may be worse on all of them, as queues fill."""
    hardware, seen = machine("toy"), set[int]()
    monkeypatch.setattr(compile_module, "MANY_ROWS", 0)

    def timed(program: Program) -> tuple[int, float]:
        seen.add(program.samples)
        return 1, 1.0

    compile_network(quantised("tiny_cnn"), hardware, Request(Mode.THROUGHPUT, 64, effort, 0, timed, lambda _: None))
    assert (seen == {64}) is wanted
    assert seen


@pytest.mark.parametrize("is_serial", [False, True])
@pytest.mark.parametrize("mode", list(Mode))
def test_what_a_small_effort_may_try_a_larger_one_tries(mode: Mode, is_serial: bool) -> None:
    of = [set(search_trials(mode, effort, is_serial=is_serial)) for effort in range(4)]
    if mode is Mode.THROUGHPUT:
        of[1] |= set(() if is_serial else _ROOMY)  # if all else stays far from the bound
    assert of[0] <= of[1] <= of[2] <= of[3]
