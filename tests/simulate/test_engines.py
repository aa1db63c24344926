"""The fast engine against the reference machine, against closed forms, and on programs that cannot run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from simulate.random_timing import random_timing
from targets.crossbar.networks import quantised

from pimloom.errors import InternalError, SimulationError
from pimloom.hardware import load_hardware
from pimloom.kernels import booking
from pimloom.kernels.booking import COMPUTE, RECEIVE, SEND
from pimloom.program import Program
from pimloom.simulate import Times, Timing, cost, engine, reference, simulate
from pimloom.simulate.bounds import cycles_of_cores
from pimloom.simulate.simulate import describe_row, resource_busy
from pimloom.targets import TARGETS, Mode, Request

CHUNK = 50


def assert_same(timing: Timing) -> Times:
    """Both machines agree on every cycle; returns the times."""
    fast, slow = engine.run(timing), reference.run(timing)
    assert np.array_equal(fast.start, slow.start)
    assert np.array_equal(fast.done, slow.done)
    assert np.array_equal(fast.waits, slow.waits)
    return fast


@pytest.mark.parametrize("chunk", range(2000 // CHUNK))
def test_engine_equals_reference(chunk: int) -> None:
    for seed in range(chunk * CHUNK, (chunk + 1) * CHUNK):
        timing = random_timing(seed)
        if timing.n_rows:
            assert_same(timing)


@pytest.mark.parametrize("first", range(8000, 8400, 100))
def test_engines_agree_on_events_far_ahead(first: int) -> None:
    """Times beyond the ring of the agenda: some passes take thousands of cycles, others one."""
    for seed in range(first, first + 100):
        timing = random_timing(seed, 60)
        rng = np.random.default_rng(seed)
        if timing.n_rows:
            assert_same(replace(timing, phase_pass=timing.phase_pass * rng.choice([1, 150, 4000], timing.phase_pass.shape)))


def same_rounds(timing: Timing, seed: int) -> int:
    """Both machines agree on streams that repeat; returns the most rounds of a processor."""
    fast, slow = engine.run(timing), reference.run(timing)
    assert fast.rounds is not None and fast.place is not None
    assert np.array_equal(fast.rounds, slow.rounds), seed
    assert np.array_equal(fast.place, slow.place), seed
    assert np.array_equal(fast.waits, slow.waits), seed
    return int(fast.rounds.max())


@pytest.mark.parametrize("first", range(7000, 7300, 100))
def test_streams_that_repeat_equal_the_reference(first: int) -> None:
    most = 0
    for seed in range(first, first + 100):
        most = max(most, same_rounds(random_timing(seed, repeats=True), seed))
    assert most > 10


def one_in_flight(seed: int, *, repeats: bool = False) -> Timing:
    timing = random_timing(seed, 60, repeats=repeats)
    return replace(timing, window=1, issue_cycles=1, is_serial=True, detached=np.zeros(timing.n_forms))


@pytest.mark.parametrize("first", range(9000, 9800, 100))
def test_both_kernels_equal_the_reference_where_one_row_is_in_flight(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(first, first + 100):
        timing = one_in_flight(seed)
        if not timing.n_rows:
            continue
        assert engine.has_one_in_flight(timing)
        found = assert_same(timing)
        with monkeypatch.context() as patch:
            patch.setattr(engine, "has_one_in_flight", lambda _: False)
            general = engine.run(timing)
        assert np.array_equal(found.start, general.start) and np.array_equal(found.done, general.done), seed
        assert np.array_equal(found.waits, general.waits), seed


@pytest.mark.parametrize("first", range(9800, 10100, 100))
def test_streams_that_repeat_equal_the_reference_where_one_row_is_in_flight(first: int) -> None:
    most = 0
    for seed in range(first, first + 100):
        most = max(most, same_rounds(one_in_flight(seed, repeats=True), seed))
    assert most > 10


@pytest.mark.parametrize("change", [{"window": 2}, {"issue_cycles": 2}, {"is_serial": False}, {"detached": 1}])
def test_the_narrow_kernel_runs_nothing_that_it_cannot(change: dict[str, int]) -> None:
    timing = one_in_flight(9000)
    if "detached" in change:
        change = {"detached": np.ones(timing.n_forms)}  # pyright: ignore[reportAssignmentType]
    assert not engine.has_one_in_flight(replace(timing, **change))


def test_rows_of_other_processors_cannot_be_waited_for_without_end() -> None:
    timing = next(t for t in map(random_timing, range(100)) if t.dep_row.size and t.n_processors > 1 and _crosses(t))
    with pytest.raises(SimulationError, match="other processors cannot repeat"):
        engine.run(replace(timing, until_cycles=100))


def _crosses(timing: Timing) -> bool:
    processor = timing.processor()
    return bool((processor[np.repeat(np.arange(timing.n_rows), np.diff(timing.dep_ptr))] != processor[timing.dep_row]).any())


# -- closed forms ---------------------------------------------------------------------------------------------------


def longest_path(timing: Timing) -> int:
    """Cycles along dependencies and messages if nothing had to wait for anything else, in plain Python."""
    timing = timing.by_row()
    once = [int(timing.phase_pass[r, timing.posts[r] : timing.n_phases[r]].sum()) for r in range(timing.n_rows)]
    before = [int(timing.phase_pass[r, : timing.posts[r]].sum()) for r in range(timing.n_rows)]
    send_of = {int(timing.partner[r]): r for r in range(timing.n_rows) if timing.kind[r] == SEND}
    ends: dict[tuple[int, int], int] = {}

    def ready(row: int, sample: int) -> int:
        edges = range(timing.dep_ptr[row], timing.dep_ptr[row + 1])
        pairs = [(int(timing.dep_row[e]), sample - int(timing.dep_distance[e])) for e in edges]
        return max((end(source, at) for source, at in pairs if at >= 0), default=0) + before[row]

    def end(row: int, sample: int) -> int:
        if (row, sample) not in ends:
            begin = ready(row, sample)
            if row in send_of:
                begin = max(begin, end(send_of[row], sample))
            if timing.kind[row] == SEND:
                begin = max(begin, ready(int(timing.partner[row]), sample)) + timing.handshake_cycles
            ends[row, sample] = begin + once[row]
        return ends[row, sample]

    return max(end(row, sample) for row in range(timing.n_rows) for sample in range(timing.samples))


@pytest.mark.parametrize("first", range(5000, 5300, 100))
def test_no_program_beats_its_bounds(first: int) -> None:
    for seed in range(first, first + 100):
        timing = random_timing(seed)
        if not timing.n_rows:
            continue
        times = engine.run(timing)
        # A resource is held until `hold` after its last start, which may be later than the end of the program.
        overhang = int(timing.phase_hold.max(initial=0)) + timing.hop_cycles * len(timing.route_link)
        assert times.done.max() + overhang >= resource_busy(timing).max() * timing.samples, seed
        assert times.done.max() >= longest_path(timing), seed
        assert (times.start >= 0).all() and (times.done > times.start).all(), seed
        assert (times.waits >= 0).all(), seed


@pytest.mark.parametrize("first", range(6000, 6200, 100))
def test_dependencies_are_kept(first: int) -> None:
    """Nothing starts before what it waits for is done, whatever the window."""
    for seed in range(first, first + 100):
        timing = random_timing(seed)
        if not timing.n_rows:
            continue
        times = engine.run(timing)
        target = np.repeat(np.arange(timing.n_rows), np.diff(timing.dep_ptr))
        for source, row, back in zip(timing.dep_row, target, timing.dep_distance, strict=True):
            late = timing.samples - back
            if late > 0:
                assert (times.start[row, back:] >= times.done[source, :late]).all(), seed
        receives = np.flatnonzero(((timing.kind == RECEIVE) & (timing.posts == 0))[timing.form])
        assert (times.start[receives] >= times.done[timing.partner[receives]]).all(), seed


@pytest.mark.parametrize("first", range(7000, 7200, 100))
def test_more_window_never_deadlocks(first: int) -> None:
    for seed in range(first, first + 100):
        timing = random_timing(seed)
        if not timing.n_rows:
            continue
        engine.run(timing)
        for more in (1, 7, 60):
            larger = replace(timing, window=timing.window + more, queue=timing.queue + more)
            assert (engine.run(larger).done >= 0).all(), seed


def test_serial_single_stream_is_the_sum_of_its_parts() -> None:
    """One processor, window 1, one resource each, repetitions serial: every cycle is known."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        n = int(rng.integers(1, 12))
        passing, reps = rng.integers(1, 9, n), rng.integers(1, 5, n)
        timing = _chain(n, passing=passing, hold=passing, reps=reps, window=1, is_serial=True)
        assert assert_same(timing).done.max() == (passing * reps).sum()


def _chain(n: int, *, passing: object = 3, hold: object = 3, reps: object = 1, **more: object) -> Timing:
    """n rows on one processor, each with one phase on one local resource."""
    phases = np.zeros((3, n, 4), np.int32)
    phases[1, :, 0], phases[2, :, 0] = hold, passing
    empty = np.zeros(0, np.int32)
    options: dict[str, object] = {"window": 4, "queue": 1, **more}
    return Timing(
        stream_ptr=np.array([0, n]), samples=1, stage=np.zeros(n), kind=np.full(n, COMPUTE), detached=np.zeros(n),
        partner=np.full(n, -1), reps=np.broadcast_to(np.asarray(reps), n), n_phases=np.ones(n), phase_res=phases[0],
        phase_hold=phases[1], phase_pass=phases[2], dep_ptr=np.zeros(n + 1), dep_row=empty, dep_distance=empty, shared=np.zeros(1),
        route_ptr=np.zeros(1), route_link=empty, gap_device=np.full(1, -1), gap_ptr=np.zeros(1), gap_before=empty, gap_after=empty,
        gap_cycles=empty, **options,
    )  # fmt: skip


def test_repetitions_are_pipelined_at_the_pace_of_the_hold() -> None:
    timing = _chain(1, passing=10, hold=3, reps=5)
    # The next repetition asks when this one has passed its only phase.
    assert assert_same(timing).done[0, 0] == 50


# -- devices with gaps ----------------------------------------------------------------------------------------------


def test_commands_keep_the_gaps_of_their_table() -> None:
    """Rows of one command each: no two starts are closer than the table says, and the first start is immediate."""
    for seed in range(60):
        rng = np.random.default_rng(seed)
        n, kinds = 12, 3
        gaps = rng.integers(0, 30, (kinds, kinds))
        pairs = [(b, a) for b in range(kinds) for a in range(kinds)]
        chain = _chain(n, hold=rng.integers(0, kinds, n), passing=1, window=int(rng.integers(1, 13)))
        timing = replace(
            chain, gap_device=np.zeros(1), gap_ptr=np.array([0, len(pairs)]), gap_before=np.array([b for b, _ in pairs]),
            gap_after=np.array([a for _, a in pairs]), gap_cycles=np.array([gaps[b, a] for b, a in pairs]),
        )  # fmt: skip
        start, command = assert_same(timing).start[:, 0], timing.phase_hold[:, 0]
        order = np.argsort(start, kind="stable")
        for later in range(n):
            for earlier in range(later):
                before, after = order[earlier], order[later]
                assert start[after] - start[before] >= gaps[command[before], command[after]], seed
        assert start.min() == 0


# -- programs that cannot run ---------------------------------------------------------------------------------------


def _circle() -> Timing:
    """Two processors, each of which wants to receive before it sends."""
    phases = np.zeros((4, 4), np.int32)
    res = phases.copy()
    res[2:, 0] = 1
    passing = np.ones((4, 4), np.int32)
    chain = _chain(4)
    return replace(
        chain, stream_ptr=np.array([0, 2, 4]), kind=np.array([RECEIVE, SEND, RECEIVE, SEND]), partner=np.array([3, 2, 1, 0]),
        phase_res=res, phase_hold=phases, phase_pass=passing, shared=np.zeros(2), gap_device=np.full(2, -1), window=1,
    )  # fmt: skip


@pytest.mark.parametrize("is_serial", [False, True])
def test_deadlock_names_who_waits_for_whom(is_serial: bool) -> None:
    text = "deadlock: processor 0 waits at row 0 for row 3 of processor 1; processor 1 waits at row 2 for row 1 of processor 0"
    circle = replace(_circle(), is_serial=is_serial)
    assert engine.has_one_in_flight(circle) == is_serial
    with pytest.raises(SimulationError, match=text):
        engine.run(circle)
    with pytest.raises(SimulationError, match="deadlock"):
        reference.run(circle)


def test_deadlock_of_a_dependency_names_it() -> None:
    chain = _chain(3, window=1)
    timing = replace(chain, dep_ptr=np.array([0, 1, 1, 1]), dep_row=np.array([2]), dep_distance=np.array([0]))
    with pytest.raises(SimulationError, match=r"processor 0 waits at the first for the third of processor 0$"):
        engine.run(timing, ["the first", "the second", "the third"].__getitem__)


def test_a_larger_window_resolves_the_circle() -> None:
    assert assert_same(replace(_circle(), window=2)).done.min() > 0


@pytest.mark.parametrize("shared", [0, 1])
@pytest.mark.parametrize("reps", [2**14, 2**15])
def test_time_overflow_is_said(shared: int, reps: int) -> None:
    """Also where it passes in the middle of a row that would go on for longer than numbers reach."""
    timing = _chain(4, passing=2**31 - 1, hold=2**31 - 1, reps=reps, window=1, is_serial=True)
    timing = replace(timing, shared=np.full_like(timing.shared, shared))
    with pytest.raises(SimulationError, match=r"time passed 2\*\*44 cycles on processor 0; the program is too long"):
        engine.run(timing)


def test_absurd_window_is_refused() -> None:
    with pytest.raises(SimulationError, match=r"simulate: .* rows in flight on one processor found.* lower the issue window"):
        engine.run(_chain(2, window=1 << 29))


def test_full_event_queue_is_a_fault_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_pending_bound", lambda _: 1)
    with pytest.raises(InternalError, match=r"the event queue of processor \d+ overflowed.*please report"):
        engine.run(_chain(6))


def test_event_queue_is_large_enough_for_what_is_asked() -> None:
    """The bound on pending events holds at the extremes: passes much longer than holds, deep windows."""
    for hold, passing, reps, window in ((0, 40, 30, 6), (1, 40, 30, 6), (7, 400, 60, 2), (1, 1, 60, 9)):
        chain = _chain(8, reps=reps, window=window)
        phases = np.zeros((8, 4), np.int32)
        timing = replace(chain, n_phases=np.full(8, 4), phase_res=phases, phase_hold=phases + hold, phase_pass=phases + passing)
        assert_same(timing)
    assert booking.QUEUE_OVERFLOW != booking.OK


# -- real programs --------------------------------------------------------------------------------------------------


def compiled(name: str, machine: str, mode: Mode, samples: int) -> Program:
    overrides = {"toy": ["core.crossbars=64"], "one at a time": ["core.crossbars=64", "core.issue.window=1"]}.get(machine, [])
    hardware = load_hardware("toy" if machine == "one at a time" else machine, overrides)
    bits = hardware.precision
    graph = quantised(name, bits.weight_bits, bits.activation_bits)
    return TARGETS["crossbar"].compile(graph, hardware, Request(mode, samples, 0, 0, None, lambda _: None))


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("machine", ["toy", "isaac"])
@pytest.mark.parametrize("name", ["tiny_cnn", "tiny_mlp", "tiny_transformer", "squeeze excite"])
def test_engines_agree_on_lowered_networks(name: str, machine: str, mode: Mode, samples: int) -> None:
    program = compiled(name, machine, mode, samples)
    assert_same(cost(program).timing)


@pytest.mark.parametrize("name", ["tiny_cnn", "tiny_transformer"])
@pytest.mark.parametrize("machine", ["toy", "isaac", "pimcomp-default"])
def test_result_is_the_same_from_both_machines(name: str, machine: str) -> None:
    program = compiled(name, machine, Mode.THROUGHPUT, 3)
    fast, slow = simulate(program), simulate(program, reference.run)
    assert (fast.cycles, fast.latency_cycles, fast.period_cycles) == (slow.cycles, slow.latency_cycles, slow.period_cycles)
    assert fast.waits_cycles == slow.waits_cycles
    assert fast.energy_pj == slow.energy_pj


@pytest.mark.parametrize("name", ["tiny_cnn", "tiny_mlp", "tiny_transformer", "residual", "wide", "shared weight"])
@pytest.mark.parametrize("machine", ["toy", "isaac", "puma", "isscc23-16", "pimcomp-default", "one at a time"])
@pytest.mark.parametrize("mode", list(Mode))
def test_programs_respect_their_bounds(name: str, machine: str, mode: Mode) -> None:
    result = simulate(compiled(name, machine, mode, 4))
    for bound in result.bounds:
        assert bound.cycles > 0 or bound.name in ("compute", "network", "global memory"), bound
        if bound.mode == "latency":
            assert result.latency_cycles >= bound.cycles, bound
        else:
            # Four samples take at least four times what any resource is held per sample, less what hangs over the end.
            assert result.cycles * 1.0 >= bound.cycles * 0.99, bound


def test_no_core_that_does_one_thing_at_a_time_is_done_before_its_work() -> None:
    found = 0
    for seed in range(400):
        timing = replace(random_timing(seed), window=1)
        work = cycles_of_cores(timing) * timing.samples
        if timing.n_rows == 0 or not work.any():
            continue
        ends = np.full(timing.n_processors, 0)
        np.maximum.at(ends, timing.processor(), engine.run(timing).done.max(axis=1))
        assert (ends >= work).all(), seed
        found += int((ends == work).any())
    assert found > 20  # the bound is reached
    assert not cycles_of_cores(replace(random_timing(1), window=2)).any()


def test_commands_of_devices_are_no_times_of_a_bound() -> None:
    """Repetitions on a device whose commands have higher numbers than anything there takes cycles."""
    timing = random_timing(876, 30)
    timing = replace(
        timing, gap_cycles=np.ones_like(timing.gap_cycles), phase_pass=np.ones_like(timing.phase_pass), is_serial=False, window=1,
        samples=1,
    )  # fmt: skip
    ends = np.zeros(timing.n_processors, np.int64)
    np.maximum.at(ends, timing.processor(), engine.run(timing).done.max(axis=1))
    assert (ends >= cycles_of_cores(timing)).all()


def test_rows_are_named_by_mnemonic_and_node() -> None:
    program = compiled("tiny_mlp", "toy", Mode.LATENCY, 1)
    described = {describe_row(program)(row) for row in range(program.n_rows)}
    assert "row 0 (load)" in described
    assert any("(mvm of 'classifier." in name for name in described)
