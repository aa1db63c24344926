"""Messages that announce what lies in global memory: no reader is ever ahead of the writer that it needs, and nothing blocks."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oracles.pimsim_machine import run
from program.pimsim.file_rules import violations
from targets.crossbar.networks import quantised

import pimloom
from pimloom import api
from pimloom.errors import ProgramError
from pimloom.program import OPCODES, Program
from pimloom.program.pimsim.convert import architecture_of, to_table
from pimloom.program.pimsim.export import export_program, write_configuration
from pimloom.program.pimsim.lower import lower_rows
from pimloom.program.pimsim.opcodes import CODE
from pimloom.program.pimsim.tokens import find_tokens
from pimloom.program.pimsim.writer import write_program
from pimloom.scheduling import relist, split_rows
from pimloom.simulate import simulate

NETWORKS = ("transposed", "resized", "shuffle")
"""Networks with a node whose operands are in global memory, between convolutions."""


@cache
def compiled(name: str, mode: str, *, is_relisted: bool = False) -> Program:
    program = pimloom.compile(quantised(name), "pimcomp-default", mode=mode).program
    if not is_relisted:
        return program
    found = relist(split_rows(program))
    assert found is not None
    return found.program


def waits(program: Program) -> list[tuple[int, int, int]]:
    """(row, row of another core that waits for it, rounds of the lists in between)."""
    target = np.repeat(np.arange(program.n_rows), np.diff(program.dep_ptr))
    stage, processor = program.rows["stage"].astype(int), program.rows["processor"]
    return [
        (s, t, int(stage[t] - stage[s] + d))
        for s, t, d in zip(program.dep_row.tolist(), target.tolist(), program.dep_distance.tolist(), strict=True)
        if processor[s] != processor[t]
    ]


class Lists:
    """What counts of the lists: messages, and accesses to global memory; run without times, each core as far as it can go."""

    def __init__(self, program: Program) -> None:
        table, made = lower_rows(program)
        self.core = table.core().tolist()
        self.peer = np.where(np.isin(table.opcode, [CODE["send"], CODE["recv"]]), table.peer, -1).tolist()
        self.sends = (table.opcode == CODE["send"]).tolist()
        is_access = np.isin(table.opcode, [CODE["ld"], CODE["st"]])
        ends = np.cumsum(made)
        self.rows = [np.flatnonzero(is_access[end - n : end]) + end - n for end, n in zip(ends.tolist(), made.tolist(), strict=True)]
        used = np.flatnonzero(is_access | (np.array(self.peer) >= 0)).tolist()
        self.lists: dict[int, list[int]] = defaultdict(list)
        for one in used:
            self.lists[self.core[one]].append(one)

    def times_done(self, held: int, rounds_before: int, most_rounds: int) -> Counter[int]:
        """How often each instruction can be carried out while one core waits forever before `held`, after some rounds."""
        left = {core: deque(line * most_rounds) for core, line in self.lists.items()}
        keeper, line = left[self.core[held]], self.lists[self.core[held]]
        while len(keeper) > rounds_before * len(line) + line.index(held):
            keeper.pop()
        done: Counter[int] = Counter()
        ready = deque(left)
        while ready:
            core = ready.popleft()
            while left[core]:
                one = left[core][0]
                other = self.peer[one]
                if other >= 0:
                    if not left[other] or self.peer[left[other][0]] != core or self.sends[left[other][0]] == self.sends[one]:
                        break
                    done[left[other].popleft()] += 1
                    ready.append(other)
                done[left[core].popleft()] += 1
        return done


BEFORE, MOST = 3, 7
"""Rounds that a writer has done when it stops, and that others may do."""


def assert_nobody_is_ahead(program: Program) -> None:
    lists = Lists(program)
    targets: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for source, target, back in waits(program):
        targets[source].append((target, back))
    assert targets
    for source, readers in targets.items():
        done = lists.times_done(int(lists.rows[source][-1]), BEFORE, MOST)
        for target, back in readers:
            assert done[int(lists.rows[target][0])] <= BEFORE + back, (source, target, back)
        assert max(done.values()) > 1


@pytest.mark.parametrize("is_relisted", [False, True], ids=["as compiled", "relisted"])
@pytest.mark.parametrize("name", NETWORKS)
def test_no_reader_can_be_ahead_of_its_writer(name: str, is_relisted: bool) -> None:
    """However long a writer takes, nobody reads what it has not written yet: in the same round, or in those before."""
    program = compiled(name, "throughput", is_relisted=is_relisted)
    assert {back for *_, back in waits(program)} >= {0} and any(back for *_, back in waits(program))
    assert_nobody_is_ahead(program)


def with_waits(program: Program, more: Sequence[tuple[int, int, int]]) -> Program:
    """The program with more dependencies: (row waited for, row that waits, samples back)."""
    target = np.repeat(np.arange(program.n_rows), np.diff(program.dep_ptr))
    columns = [program.dep_row, target, program.dep_distance]
    source, target, distance = (np.concatenate([a, np.array(b, np.int64)]) for a, b in zip(columns, zip(*more, strict=True), strict=True))
    order = np.argsort(target, kind="stable")
    ptr = np.concatenate(([0], np.cumsum(np.bincount(target, minlength=program.n_rows))))
    return replace(
        program, dep_ptr=ptr.astype(np.int32), dep_row=source[order].astype(np.int32), dep_distance=distance[order].astype(np.int32)
    )


@pytest.mark.parametrize("samples", [2, 4])
def test_room_that_is_used_again_waits_for_its_readers(samples: int) -> None:
    """A writer that may write again only when a sample before it has been read."""
    program = compiled("transposed", "throughput")
    again = [(target, source, samples) for source, target, back in waits(program) if back]
    assert again
    assert_nobody_is_ahead(with_waits(program, again))


def test_a_row_that_waits_for_a_later_round_is_refused() -> None:
    program = compiled("transposed", "throughput")
    source, target, _ = next(one for one in waits(program) if one[2])
    with pytest.raises(ProgramError, match=rf"row {source} waits for a later round of its list"):
        find_tokens(with_waits(program, [(target, source, 0)]))


@pytest.mark.parametrize("name", NETWORKS)
def test_rounds_of_readers_and_writers_keep_together(name: str) -> None:
    """Lists repeated in time, by the plain event machine: cores that share global memory stay within a round of each other."""
    program = compiled(name, "throughput")
    exported = export_program(program)
    hardware: Any = exported.hardware
    once = simulate(exported, trace=False, until_cycles=0).latency_cycles
    rounds = np.array(
        run(to_table(exported), architecture_of(hardware), sim_mode=0, sim_time_ms=40 * once * hardware.period_ns * 1e-6).rounds
    )
    processor = program.rows["processor"]
    ahead = [int(rounds[processor[target]] - rounds[processor[source]]) for source, target, _ in waits(program)]
    assert rounds.max() > 20
    assert max(ahead) <= 1


@pytest.mark.parametrize("mode", ["latency", "throughput"])
@pytest.mark.parametrize("name", NETWORKS)
def test_files_with_tokens_keep_the_rules(name: str, mode: str, tmp_path: Path) -> None:
    exported = api.to_pimsim(compiled(name, mode))
    hardware: Any = exported.hardware
    write_program(to_table(exported), tmp_path / "p.gz")
    write_configuration(hardware, tmp_path / "c.json", tmp_path / "n.json", sim_mode=int(mode == "latency"))
    assert violations(tmp_path / "p.gz", tmp_path / "c.json") == []


def test_what_messages_say_needs_no_token() -> None:
    """A reader that met somebody who met the writer after it wrote knows enough."""
    program = compiled("shuffle", "latency")
    needed = {(int(program.rows["processor"][source]), target) for source, target, _ in waits(program)}
    tokens = sum(sends for line in find_tokens(program).values() for sends, _ in line)
    assert 0 < tokens < len(needed)


def test_programs_without_global_memory_in_between_have_no_tokens() -> None:
    program = compiled("residual", "throughput")
    assert program.rows["opcode"].tolist().count(OPCODES["send"])
    assert find_tokens(program) == {}
