"""The planner: what it chooses is at least as good as every strategy, and what does not fit is said in numbers."""

from __future__ import annotations

import numpy as np
import pytest
from targets.crossbar.networks import quantised
from targets.sram.jobs import cycles, machine, plan, product_graph, program, request, simulated

from pimloom.errors import CapacityError, UsageError
from pimloom.hardware import SramHardware
from pimloom.simulate import simulate
from pimloom.targets.sram.compile import compile_network
from pimloom.targets.sram.plan import (
    Dataflow,
    Plan,
    candidates,
    check_setting,
    choose,
    evaluate,
    slot_bytes,
    slots,
    slots_needed,
    streams,
    useful_vectors,
)
from pimloom.targets.sram.single import single_product
from pimloom.targets.sram.strategies import BASELINES, FAMILIES, STRATEGIES
from pimloom.targets.sram.work import Windows, Work


def random_case(rng: np.random.Generator) -> tuple[SramHardware, Work]:
    """A matrix, a bandwidth, a result memory and a batch."""
    vectors, rows, cols = (int(2 ** rng.uniform(0, 9)), int(32 * 2 ** rng.uniform(0, 5)), int(32 * 2 ** rng.uniform(0, 5)))
    bandwidth, results = int(rng.choice([8, 16, 32, 64, 128, 256, 512])), int(rng.choice([65536, 131072, 262144]))
    return machine("gpp-256", f"link.bytes_per_cycle={bandwidth}", f"memories.result_bytes={results}"), Work(vectors, rows, cols)


def compared(cases: int, seed: int) -> tuple[list[float], list[str]]:
    """Speed-ups of `auto` over the best strategy, and what went wrong."""
    rng = np.random.Generator(np.random.Philox(seed))
    gains: list[float] = []
    slower: list[str] = []
    for _ in range(cases):
        hardware, work = random_case(rng)
        best = min(simulated(hardware, work, name)[1] for name in BASELINES)
        chosen, found = simulated(hardware, work, "auto")
        gains.append(best / found)
        if found > best:
            slower.append(f"{work} at {hardware.link.bytes_per_cycle} B/cycle: {found} with {chosen}, {best} expected at most")
    return gains, slower


def test_auto_is_never_slower_than_the_best_strategy() -> None:
    gains, slower = compared(10, 0)
    assert slower == []
    assert sum(gain > 1 for gain in gains) > len(gains) / 2


@pytest.mark.slow
def test_auto_is_never_slower_on_200_random_cases() -> None:
    gains, slower = compared(200, 1)
    assert slower == []
    assert sum(gain > 1 for gain in gains) > 0.6 * len(gains)


@pytest.mark.parametrize(("vectors", "rows", "cols"), [(12, 300, 500), (100, 128, 256), (1, 700, 300)])
def test_more_bandwidth_is_never_slower_under_auto(vectors: int, rows: int, cols: int) -> None:
    found = [simulated(machine("gpp-256", f"link.bytes_per_cycle={b}"), Work(vectors, rows, cols), "auto")[1] for b in (8, 32, 128, 512)]
    assert found == sorted(found, reverse=True)


@pytest.mark.parametrize(("preset", "vectors", "rows", "cols", "least"), [
    ("gpp-256", 4, 2048, 4096, 0.98), ("gpp-256", 16, 4096, 4096, 0.98), ("gpp-256-b16", 16, 1024, 2048, 0.98),
    ("gpp-256-b512", 8, 4096, 8192, 0.98), ("gpp-256-dram", 4, 2048, 4096, 0.96),
])  # fmt: skip
def test_long_jobs_come_close_to_the_bound_of_the_link(preset: str, vectors: int, rows: int, cols: int, least: float) -> None:
    """0.98 of `n min(N / (t_w + t_c), B / M)` and the link busy 0.95 of the time where it is the bound; the RTL's: 0.60 to 0.77."""
    hardware, work = machine(preset), Work(vectors, rows, cols)
    graph = product_graph(vectors, rows, cols)
    chosen = choose(hardware, work, "generalized")
    result = simulate(program(hardware, graph, chosen), trace=False)
    assert chosen.bound_cycles / result.cycles >= least
    assert result.utilisation["off-chip link"] >= 0.95


def test_predictions_are_close_where_jobs_are_long() -> None:
    hardware, work = machine("gpp-256"), Work(48, 1024, 2048)
    graph = product_graph(48, 1024, 2048)
    for name in BASELINES:
        chosen = choose(hardware, work, name)
        found = cycles(program(hardware, graph, chosen))
        assert found <= 1.08 * chosen.cycles, name
        # Without a barrier, macros that write and compute together drift apart where the link is the bound: in situ gains by it.
        assert found >= (0.8 if name == "in_situ" else 0.92) * chosen.cycles, name


def test_every_family_names_strategies() -> None:
    assert set(FAMILIES["auto"]) == set(STRATEGIES)
    assert all(set(rows) <= set(STRATEGIES) for rows in FAMILIES.values())


def test_candidates_are_sorted_and_sound() -> None:
    hardware, work = machine("gpp-256"), Work(100, 500, 700)
    for wanted in FAMILIES:
        found = candidates(hardware, work, wanted)
        assert {plan.strategy for plan in found} == set(FAMILIES[wanted])
        for one in found:
            check_setting(hardware, work, one.macros, one.vectors, one.bytes_per_cycle)
            assert STRATEGIES[one.strategy].pairs <= (one.macros % 2 == 0)
            assert one.cycles >= 0.99 * one.bound_cycles or one.is_serpentine


def test_activations_stream_where_weights_would_cross_often() -> None:
    """Many tokens: each weight crosses the link once; a few: there is nothing to gain."""
    many = candidates(machine("gpp-256-b8"), Work(512, 1024, 512), "auto")[0]
    assert many.dataflow is Dataflow.ACTIVATIONS
    few = evaluate(machine("gpp-256-b8"), Work(4, 512, 512), STRATEGIES["generalized"], Dataflow.WEIGHTS).best()[0]
    assert few.vectors == 4


WAYS = {
    "resident": ("gpp-256", Work(512, 128, 128)),
    "weights streamed": ("gpp-256", Work(8, 1024, 2048)),
    "activations streamed": ("gpp-256-b8", Work(384, 768, 512)),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_way_through_a_matrix_is_chosen_by_what_it_costs(way: str) -> None:
    """Each way is chosen somewhere, and is there simulated to be faster than the best settings of the others."""
    preset, work = WAYS[way]
    hardware, graph = machine(preset), product_graph(work.vectors, work.rows, work.cols)
    chosen, found = simulated(hardware, work, "auto")
    assert streams(hardware, work, chosen) == way
    others = {one: cycles(program(hardware, graph, one)) for other in WAYS if other != way for one in best_settings(hardware, work, other)}
    assert others
    assert found < 0.98 * min(others.values()), others


def best_settings(hardware: SramHardware, work: Work, way: str) -> list[Plan]:
    """The best settings of every strategy that go one way through a matrix."""
    tiles, row_tiles = work.tiles(hardware), work.row_tiles(hardware)
    dataflow, macros = {
        "resident": (Dataflow.WEIGHTS, [m for m in range(tiles, hardware.arrays + 1, tiles) if m % 2 == 0]),
        "weights streamed": (Dataflow.WEIGHTS, [m for m in range(2, hardware.arrays + 1, 2) if m % tiles]),
        "activations streamed": (Dataflow.ACTIVATIONS, list(range(2 * row_tiles, min(tiles, hardware.arrays + 1), 2 * row_tiles))),
    }[way]
    if not macros:
        return []
    found = [plan for row in STRATEGIES.values() for plan in evaluate(hardware, work, row, dataflow, macros=macros).best()]
    assert {streams(hardware, work, plan) for plan in found} == {way}
    return found


def test_layers_of_one_network_go_different_ways() -> None:
    plans = compile_network(quantised("squeezenet"), machine("gpp-256"), request()).notes["plans"].values()
    assert {"resident", "weights streamed"} <= {one["dataflow"] for one in plans}


def test_a_program_that_no_memory_holds_is_refused() -> None:
    hardware, work = machine("gpp-256"), Work(1, 32, 10**9)
    with pytest.raises(CapacityError, match=r"rows of a program: 187500000 needed, 32000000 available on 'gpp-256'; use fewer vectors"):
        single_product(hardware, work, choose(hardware, work, "generalized"))


def test_private_sums_bound_macros_times_vectors() -> None:
    hardware = machine("gpp-256-compat")
    found = evaluate(hardware, Work(64, 2048, 512), STRATEGIES["generalized"], Dataflow.WEIGHTS)
    fitting = np.isfinite(found.cycles)
    assert (found.macros * found.vectors)[fitting].max() <= 512
    assert (found.macros * found.vectors)[~fitting].min() > 512


def test_slots_hold_what_macros_work_on() -> None:
    hardware, work = machine("gpp-256"), Work(64, 64, 4096)
    assert slot_bytes(hardware, work, 64) == 64 * 32 * 6
    assert slots(hardware, work, 64) == 262144 // (64 * 32 * 6)
    assert int(slots_needed(hardware, work, 40)) == 21
    with pytest.raises(CapacityError, match=r"result memory \(bytes\): 503808 needed, 262144 available on 'gpp-256'; use fewer macros"):
        check_setting(hardware, work, 80, 64, 8)


REFUSED = {
    "macros": ((300, 4, 8), CapacityError, "macros: 300 needed, 256 available on 'gpp-256'; use fewer macros or a larger machine"),
    "batch": ((16, 25, 8), UsageError, "vectors per residency: 25 found, at most the 24 vectors that there are expected; use fewer"),
    "no macro": ((0, 4, 8), UsageError, "macros: 0 found, at least 1 expected"),
    "no vector": ((4, 0, 8), UsageError, "vectors: 0 found, at least 1 expected"),
    "speed": ((4, 4, 9), UsageError, "write speed: 9 bytes per cycle found, 1 to 8 expected on 'gpp-256'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_settings_that_do_not_fit_are_refused_in_numbers(case: str) -> None:
    setting, error, sentence = REFUSED[case]
    with pytest.raises(error, match=sentence.replace("(", r"\(").replace(")", r"\)")):
        check_setting(machine("gpp-256"), Work(24, 512, 512), *setting)


def test_inputs_that_do_not_fit_are_refused_in_numbers() -> None:
    hardware = machine("gpp-256")
    with pytest.raises(CapacityError, match=r"input area of a macro \(bytes\): 2080 needed, 2048 available .* at most 64 vectors"):
        check_setting(hardware, Work(100, 32, 32), 4, 65, 8)
    with pytest.raises(CapacityError, match=r"activation memory \(bytes\): 50000 needed, 32768 available on 'gpp-256'; keep fewer"):
        check_setting(hardware, Work(100, 1000, 32), 4, 64, 8)
    with pytest.raises(CapacityError, match=r"activation memory \(bytes\): 40000 needed, 32768 available on 'gpp-256'; use a machine"):
        useful_vectors(hardware, Work(2, 40000, 32))
    with pytest.raises(CapacityError, match=r"result memory \(bytes\): 131072 needed, 65536 available"):
        check_setting(machine("gpp-256-compat", "memories.result_bytes=65536"), Work(64, 512, 512), 4, 64, 8)
    with pytest.raises(UsageError, match="strategy: 'fast' found, one of in_situ, naive_ping_pong, generalized, auto"):
        candidates(hardware, Work(1, 1, 1), "fast")
    with pytest.raises(UsageError, match="cols: 0 found, at least 1 expected"):
        Work(1, 1, 0)


@pytest.mark.parametrize("most", [1, 3, 7, 8, 20, 63])
def test_chunks_of_windows_cover_the_image(most: int) -> None:
    from pimloom.targets.sram.chunks import chunks

    windows = Windows((7, 9), (15, 18), 5, (3, 2), (2, 2), (1, 1), (1, 0))
    work = Work(2 * 63, 30, 8, windows)
    found = chunks(work, most)
    covered = sorted(v for chunk in found for v in range(chunk.first, chunk.first + chunk.count))
    assert covered == list(range(2 * 63))
    assert len(found) == work.chunks(most)
    assert max(chunk.count for chunk in found) <= max(most, 1)
    assert max(chunk.load.size_bytes for chunk in found) <= work.chunk_bytes(most)
    assert all(sum(run.count for run in chunk.runs) == chunk.count for chunk in found)


def test_the_stagger_of_a_plan() -> None:
    hardware = machine("gpp-256")
    chosen: Plan = plan("generalized", 100, 8, 8, 20)
    assert (chosen.groups, chosen.stagger_cycles(hardware)) == (5, 132)
    assert plan("in_situ", 100, 8, 8).stagger_cycles(hardware) == 0
    assert plan("generalized", 100, 8, 8, 20, open_loop_cycles=64).stagger_cycles(hardware) == 64
