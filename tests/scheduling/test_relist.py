"""Orders made anew: the same rows, the same numbers, and fewer waits where a person can see them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, final

import numpy as np
import pytest
from oracles.timed_order import TimedOrder
from targets.conformance import MACHINES, assert_conforms, compiled, machine, with_stages
from targets.crossbar.networks import MADE, codes, quantised

import pimloom
from pimloom.errors import SimulationError
from pimloom.hardware import CrossbarHardware, load_hardware
from pimloom.ir.evaluate import evaluate
from pimloom.program import FIELDS, INSTRUCTIONS, OPCODES, Program, ragged
from pimloom.program.rows import DEFAULTS, ROW
from pimloom.scheduling import can_relist, idle_cycles, relist, split_rows
from pimloom.scheduling.relist import _in_order
from pimloom.simulate import cost, engine, simulate
from pimloom.targets import Mode

Array = np.ndarray[Any, np.dtype[Any]]

SPLIT = {"mvm", "preset", "finish", "add_partial", "vector", "pool", "stencil", "accumulate"}
SERIAL = ("one at a time", "pimcomp-default")
BOTH = ("tiny_cnn", "squeeze excite", "residual", "tiny_transformer", "concat split slice", "wide conv")
"""Networks that are compiled for every serial machine; the rest for one of them, each in one mode."""
CASES = [
    *((name, "one at a time", list(Mode)[i % 2]) for i, name in enumerate(MADE)),
    *((name, where, mode) for name in BOTH for where in SERIAL for mode in Mode),
]
CASES = list(dict.fromkeys(CASES))
TIMED = [case for case in CASES if case[0] in BOTH]


@cache
def lowered(name: str, where: str, mode: Mode, samples: int = 0) -> Program:
    """A program as it was lowered, without search: its rows are not split and stand in the compiler's order."""
    hardware = machine(where)
    if mode is Mode.THROUGHPUT and isinstance(hardware, CrossbarHardware) and hardware.core.issue.window == 1:
        return with_stages(quantised(name), hardware, samples or 3)
    return compiled(quantised(name), hardware, mode, samples or (1 if mode is Mode.LATENCY else 3))


def relisted(program: Program) -> Program:
    made = relist(program)
    assert made is not None
    return made.program


def contents(program: Program) -> Counter[tuple[int, ...]]:
    """All rows but for their stages, as often as they occur."""
    fields = [f for f in FIELDS if f != "stage"]
    return Counter(tuple(row) for row in program.rows[fields].tolist())


def links(program: Program) -> Counter[Any]:
    """All messages and dependencies, by the contents of the rows that they join."""
    rows = [tuple(row) for row in program.rows[[f for f in FIELDS if f != "stage"]].tolist()]
    target = np.repeat(np.arange(program.n_rows), np.diff(program.dep_ptr)).tolist()
    waits = zip(program.dep_row.tolist(), target, program.dep_distance.tolist(), strict=True)
    pairs = [(rows[r], rows[other]) for r, other in enumerate(program.partner.tolist()) if other >= 0]
    return Counter([*pairs, *((rows[a], rows[b], back) for a, b, back in waits)])


# -- which machines -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", MACHINES)
def test_only_serial_machines_with_memories_of_their_own_are_relisted(where: str) -> None:
    assert can_relist(compiled(quantised("tiny_mlp"), machine(where))) == (where in (*SERIAL, "pimsim-64"))


@pytest.mark.parametrize(("override", "is_serial"), [
    ("core.issue.window=1", True), ("core.issue.order=in_order", True), ("core.issue.window=2", False),
    ("core.communication=asynchronous", False),
])  # fmt: skip
def test_a_window_of_two_or_a_transfer_queue_is_another_machine(override: str, is_serial: bool) -> None:
    hardware = load_hardware("toy", ("core.crossbars=64", "core.issue.window=1", override))
    assert can_relist(compiled(quantised("tiny_mlp"), hardware)) is is_serial


def test_a_shared_memory_is_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of another core may touch the same bytes then; `local_hazards` looks at one core after the other."""
    assert not can_relist(compiled(quantised("tiny_mlp"), load_hardware("gpp-256", ())))
    program = lowered("tiny_mlp", "one at a time", Mode.LATENCY)
    assert can_relist(program)
    monkeypatch.setattr(type(program.hardware), "shares_memory", property(lambda _: True))
    assert not can_relist(program)


# -- pieces ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "where", "mode"), CASES)
def test_pieces_are_the_same_work(name: str, where: str, mode: Mode) -> None:
    whole = lowered(name, where, mode)
    split = split_rows(whole)
    is_cut = np.isin(whole.rows["opcode"], [OPCODES[one] for one in SPLIT])
    assert split.instructions() == whole.instructions()
    assert split.n_rows == int(np.where(is_cut, whole.rows["count"], 1).sum())
    assert {INSTRUCTIONS[code].name for code in split.rows["opcode"][split.rows["count"] > 1]}.isdisjoint(SPLIT)
    assert idle_cycles(split).sum() == idle_cycles(whole).sum()
    assert_conforms(whole.graph, split, (0,))


@pytest.mark.parametrize("most", [1, 330, 350, 400, 450, 499, 500])
def test_pieces_grow_where_rows_are_too_many(most: int) -> None:
    """A network whose 321 rows become 500; a row is never longer than it was."""
    whole = lowered("squeeze excite", "one at a time", Mode.LATENCY)
    assert (whole.n_rows, split_rows(whole).n_rows) == (321, 500)
    split = split_rows(whole, most)
    assert whole.n_rows <= split.n_rows <= max(most, whole.n_rows)
    assert split.instructions() == whole.instructions()
    assert_conforms(whole.graph, split, (0,))


def test_pieces_are_as_short_as_the_limit_allows() -> None:
    whole = lowered("squeeze excite", "one at a time", Mode.LATENCY)
    is_cut = np.isin(whole.rows["opcode"], [OPCODES[one] for one in SPLIT])
    counts = np.where(is_cut, whole.rows["count"], 1)
    sizes = {length: int((-(-counts // length)).sum()) for length in range(1, counts.max() + 1)}
    assert len(set(sizes.values())) > 2
    for most in range(whole.n_rows, 501):
        assert split_rows(whole, most).n_rows == next(n for n in sizes.values() if n <= most)


def test_the_first_piece_waits_and_the_last_is_waited_for() -> None:
    program = made_by_hand([
        [Made("preset", dst=0, length=40, count=3, step=160), Made("copy", src=0, dst=800, length=16, after=((0, 0), (3, 0)))],
        [Made("copy", src=0, dst=16, length=16), Made("preset", dst=320, length=4, count=2, step=16, after=((0, 1), (2, 1)))],
    ])  # fmt: skip
    split = split_rows(program)
    assert split.stream_ptr.tolist() == [0, 4, 7, 7, 7]
    assert split.rows["dst"].tolist() == [0, 160, 320, 800, 16, 320, 336]
    assert np.diff(split.dep_ptr).tolist() == [0, 0, 0, 2, 0, 2, 0]
    assert split.dep_row.tolist() == [2, 6, 2, 4]
    assert split.dep_distance.tolist() == [0, 0, 1, 1]


# -- order ----------------------------------------------------------------------------------------------------------


def assert_same_rows(before: Program, after: Program) -> None:
    """The same rows on the same cores, joined by the same messages and dependencies."""
    assert contents(after) == contents(before)
    assert links(after) == links(before)
    assert np.array_equal(after.stream_ptr, before.stream_ptr)
    assert after.instructions() == before.instructions()


@pytest.mark.parametrize(("name", "where", "mode"), CASES)
def test_relisted_pieces_conform_and_are_the_same_rows(name: str, where: str, mode: Mode) -> None:
    before = split_rows(lowered(name, where, mode))
    after = relisted(before)
    assert_same_rows(before, after)
    assert_conforms(before.graph, after)


@pytest.mark.parametrize(("name", "where", "mode"), TIMED)
def test_relisted_whole_rows_conform_and_are_the_same_rows(name: str, where: str, mode: Mode) -> None:
    before = lowered(name, where, mode)
    after = relisted(before)
    assert_same_rows(before, after)
    assert_conforms(before.graph, after, (0,))


def assert_numbers_in_the_order_of_times(program: Program) -> None:
    """Three samples: each row carried out when it is done gives the graph's numbers, and no two rows race."""
    inputs = [codes(program.graph, seed) for seed in range(3)]
    order = TimedOrder(program, engine.run(cost(program).timing), inputs)
    for sample, outputs in enumerate(order.run(by="done")):
        meaning = evaluate(program.graph, inputs[sample])
        assert all(np.array_equal(outputs[value], meaning[value]) for value in program.graph.outputs), sample
    assert order.races() == []


@pytest.mark.parametrize(("name", "where", "mode"), TIMED)
def test_relisted_programs_give_the_numbers_in_the_order_of_their_times(name: str, where: str, mode: Mode) -> None:
    """Three samples in flight: each row carried out when it is done, and no two that race."""
    assert_numbers_in_the_order_of_times(relisted(split_rows(lowered(name, where, mode, 3))))


@pytest.mark.parametrize(("name", "mode"), [("squeeze excite", Mode.THROUGHPUT), ("tiny_cnn", Mode.LATENCY), ("tiny_cnn", Mode.THROUGHPUT)])
def test_the_search_relists_what_it_tries_and_keeps_the_best(name: str, mode: Mode) -> None:
    program = pimloom.compile(quantised(name), "pimcomp-default", mode=mode.value).program
    tried = program.notes["tried"]
    scheduled = [one["what"] for one in tried if "scheduled_cycles" in one]
    assert scheduled
    cycles = {one["what"]: one["cycles"] for one in tried if "cycles" in one}
    assert {what.removeprefix("the best of them in the order of ") for what in cycles} == {
        "single instructions",
        "its rows",
        "the timetable",
    }
    result = simulate(program)
    assert min(cycles.values()) == (result.latency_cycles if mode is Mode.LATENCY else result.period_cycles)
    assert_conforms(program.graph, program)


def test_samples_overlap_in_throughput_mode_only() -> None:
    """Where the latency of a sample counts, samples follow one another in the order that is best for one."""
    one, three = (relisted(split_rows(lowered("squeeze excite", "pimcomp-default", Mode.LATENCY, n))) for n in (1, 3))
    assert np.array_equal(one.rows, three.rows)
    assert three.rows["stage"].max() == 0


def test_durations_that_are_given_count() -> None:
    """Core 1 is said to be busy for 5 or 50 cycles before it can receive: core 0 has the message between its pieces, or after them."""
    program = made_by_hand([
        [Made("preset", dst=1024), Made("preset", dst=1040), Made("preset", dst=1056), Made("send", src=0, to=5)],
        [Made("copy", src=0, dst=512), Made("receive", dst=0)],
    ])  # fmt: skip
    orders = {}
    for before in (5, 50):
        made = relist(program, np.array([10, 10, 10, 7, before, 1]))
        assert made is not None
        orders[before] = names(made.program, 0)
    assert orders == {5: ["preset", "send", "preset", "preset"], 50: ["preset", "preset", "preset", "send"]}


# -- by hand --------------------------------------------------------------------------------------------------------


@final
@dataclass(frozen=True)
class Made:
    """A row of a program made by hand; rows are numbered over all cores. `after` has (row, samples back)."""

    what: str
    src: int = 0
    dst: int = 0
    length: int = 16
    count: int = 1
    step: int = 0
    to: int | None = None
    after: tuple[tuple[int, int], ...] = ()
    stage: int = 0


def made_by_hand(streams: Sequence[Sequence[Made]], samples: int = 1) -> Program:
    """Rows for cores of a toy that do one thing at a time; they stand for no network.

    There a beat of 16 bytes takes a cycle to read and one to write, so a copy of 16 n bytes takes 2 n cycles and a preset of 4 n columns n.
    A message of 16 bytes between neighbours: 4 cycles of handshake, 1 to read, 2 links of 2 cycles, 2 flits; then 1 to write.
    """
    frame = lowered("tiny_mlp", "one at a time", Mode.LATENCY)
    flat = [one for stream in streams for one in stream]
    rows, partner = np.zeros(len(flat), ROW), np.full(len(flat), -1, np.int32)
    for name, value in DEFAULTS.items():
        rows[name] = value
    core = [c for c, stream in enumerate(streams) for _ in stream]
    for r, one in enumerate(flat):
        rows["opcode"][r], rows["processor"][r], rows["stage"][r] = OPCODES[one.what], core[r], one.stage
        rows["src1"][r], rows["dst"][r], rows["dst_step"][r] = one.src, one.dst, one.step
        rows["length"][r], rows["count"][r] = one.length, one.count
        rows["src2"][r] = 4 if one.what == "preset" else 0
        if one.to is not None:
            partner[r], partner[one.to] = one.to, r
    dep_ptr, dep_row = ragged([[row for row, _ in one.after] for one in flat])
    sizes = [len(stream) for stream in streams] + [0] * (frame.n_processors - len(streams))
    return replace(
        frame, samples=samples, mode="throughput" if samples > 1 else "latency",
        rows=rows, partner=partner, stream_ptr=np.cumsum([0, *sizes]), dep_ptr=dep_ptr, dep_row=dep_row,
        dep_distance=ragged([[back for _, back in one.after] for one in flat])[1],
    )  # fmt: skip


def names(program: Program, core: int) -> list[str]:
    rows = program.rows[program.stream_ptr[core] : program.stream_ptr[core + 1]]
    return [INSTRUCTIONS[code].name for code in rows["opcode"]]


def ends(program: Program) -> list[int]:
    """When each sample ends."""
    return engine.run(cost(program).timing).done.max(axis=0).tolist()


def cycles(program: Program) -> int:
    return max(ends(program))


def test_cycles_of_rows_by_hand() -> None:
    program = made_by_hand([
        [Made("copy", src=0, dst=512, length=80), Made("preset", dst=0, length=40, count=3, step=160), Made("send", to=3)],
        [Made("receive")],
    ])  # fmt: skip
    assert idle_cycles(program).tolist() == [10, 30, 7, 1]
    assert cycles(program) == 10 + 30 + 4 + 7 + 1


def test_work_comes_before_a_message_that_is_not_ready() -> None:
    """Core 1 copies for 20 cycles what the message will overwrite. Core 0 waited so long with the message before its 10 cycles of work."""
    before = made_by_hand([
        [Made("send", src=0, to=3), Made("copy", src=64, dst=512, length=80)],
        [Made("copy", src=0, dst=512, length=160), Made("receive", dst=0)],
    ])  # fmt: skip
    after = relisted(before)
    assert (names(before, 0), names(after, 0)) == (["send", "copy"], ["copy", "send"])
    assert names(after, 1) == ["copy", "receive"]
    assert cycles(before) == 20 + 4 + 7 + 10
    assert cycles(after) == 20 + 4 + 7 + 1


def test_a_message_comes_between_pieces() -> None:
    """The message is ready at 12; core 0 has three presets of 10 cycles in one row, core 1 then 20 cycles of work with what it received."""
    whole = made_by_hand([
        [Made("preset", dst=1024, length=40, count=3, step=160), Made("send", src=0, to=3)],
        [Made("copy", src=0, dst=512, length=96), Made("receive", dst=0), Made("copy", src=0, dst=2048, length=160)],
    ])  # fmt: skip
    pieces = relisted(split_rows(whole))
    assert names(pieces, 0) == ["preset", "preset", "send", "preset"]
    assert cycles(whole) == cycles(relisted(whole)) == 30 + 4 + 7 + 1 + 20
    assert cycles(pieces) == 20 + 4 + 7 + 1 + 20
    assert pieces.rows["dst"][[0, 1, 3]].tolist() == [1024, 1184, 1344]


def test_rows_of_the_next_sample_fill_a_wait() -> None:
    """Core 0 copies for 20 cycles, sends, receives what core 1 made of it in 60, and copies for 40: 20 + 12 + 60 + 12 + 40 = 144.

    One sample after the other, core 0 waits while core 1 copies. With samples that overlap it copies for 40 cycles then what it
    has of the sample before: 20 + 12 + 60 + 12.
    """
    before = made_by_hand([
        [
            Made("copy", src=0, dst=512, length=160), Made("send", src=512, to=4), Made("receive", dst=1024),
            Made("copy", src=1024, dst=2048, length=320),
        ],
        [Made("receive", dst=0), Made("copy", src=0, dst=512, length=480), Made("send", src=512, to=2)],
    ], samples=16)  # fmt: skip
    after = relisted(before)
    assert before.rows["stage"].max() == 0 < after.rows["stage"].max()
    assert np.diff(ends(before)).tolist() == [144] * 15
    assert np.diff(ends(after)).tolist()[:-1] == [104] * 14


def test_messages_of_one_place_have_one_order_on_all_cores() -> None:
    """Two cores name two messages the other way round: each waits for the other. At equal places one numbering decides for both."""
    crossed = made_by_hand([[Made("send", src=0, to=3), Made("send", src=64, to=2)], [Made("receive", dst=0), Made("receive", dst=64)]])
    with pytest.raises(SimulationError, match="deadlock"):
        cycles(crossed)
    after = _in_order(crossed, np.zeros(4, np.int64), 1)
    assert cycles(after) == 2 * (4 + 7) + 1 + 1
    assert cycles(relisted(crossed)) == cycles(after)


def test_no_order_is_made_from_rows_that_wait_for_each_other() -> None:
    circle = made_by_hand([[Made("copy", dst=512, after=((1, 0),))], [Made("copy", dst=512, after=((0, 0),))]])
    assert relist(circle) is None


def test_no_order_is_made_if_memory_asks_for_a_later_sample() -> None:
    """Row 1 works two samples behind row 0 and overwrites what that has read: it comes after a sample that lies ahead."""
    streams = [[Made("copy", src=0, dst=512), Made("copy", src=64, dst=0, stage=2)]]
    assert relist(made_by_hand(streams, samples=4)) is None
