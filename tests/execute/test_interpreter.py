"""The interpreter finds broken programs instead of giving wrong numbers or a traceback."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from targets.conformance import compiled, machine
from targets.crossbar.networks import codes, quantised

from pimloom.errors import ProgramError
from pimloom.execute import Interpreter
from pimloom.ir.evaluate import evaluate
from pimloom.program import OPCODES, Program

CNN = quantised("tiny_cnn")


def program() -> Program:
    return compiled(CNN, machine("toy"))


def first(made: Program, mnemonic: str) -> int:
    return int(np.flatnonzero(made.rows["opcode"] == OPCODES[mnemonic])[0])


def changed(mnemonic: str, **fields: int) -> Program:
    """The program with fields of the first row of an instruction changed."""
    made = program()
    rows = made.rows.copy()
    for name, value in fields.items():
        rows[name][first(made, mnemonic)] = value
    return replace(made, rows=rows)


@pytest.mark.parametrize(
    ("mnemonic", "fields", "match"),
    [
        ("load", {"dst": 1 << 20}, r"core \d+ touches .* at address 1048576, beyond its local memory of 16384 bytes"),
        ("load", {"src1": 1 << 20}, r"row \d+ touches bytes beyond region '.*' of \d+ bytes"),
        ("store", {"dst": 1 << 20}, r"row \d+ touches bytes beyond region '.*' of \d+ bytes"),
        ("receive", {"count": 1, "length": 1}, r"row \d+ receives 1 bytes, \d+ were sent"),
    ],
)
def test_wrong_addresses_are_said(mnemonic: str, fields: dict[str, int], match: str) -> None:
    with pytest.raises(ProgramError, match=f"execute: {match}"):
        Interpreter(changed(mnemonic, **fields)).run(codes(CNN))


@pytest.mark.parametrize("mnemonic", ["load", "mvm", "finish", "copy", "send", "pool", "preset"])
def test_a_row_that_does_the_wrong_thing_shows_in_the_numbers(mnemonic: str) -> None:
    """Shift the address that a row in the middle writes or reads: the output is no longer the graph's."""
    made = program()
    at = np.flatnonzero(made.rows["opcode"] == OPCODES[mnemonic])
    rows = made.rows.copy()
    rows["src1" if mnemonic == "send" else "dst"][at] += 8
    inputs = codes(CNN)
    meaning = evaluate(CNN, inputs)
    executed = Interpreter(replace(made, rows=rows)).run(inputs)
    assert any(not np.array_equal(executed[v], meaning[v]) for v in meaning)


def test_waiting_forever_is_said() -> None:
    made = program()
    row, last = first(made, "load"), int(made.stream_ptr[-1]) - 1
    assert made.rows["processor"][row] != made.rows["processor"][last]
    receive = first(made, "receive")
    core = int(made.rows["processor"][made.partner[receive]])
    # The send waits for the last row of the core that waits for the send.
    end = int(made.stream_ptr[made.rows["processor"][receive] + 1]) - 1
    send = int(made.partner[receive])
    at = int(made.dep_ptr[send + 1])
    ptr = made.dep_ptr.copy()
    ptr[send + 1 :] += 1
    stuck = replace(made, dep_ptr=ptr, dep_row=np.insert(made.dep_row, at, end), dep_distance=np.insert(made.dep_distance, at, 0))
    with pytest.raises(ProgramError, match=r"core \d+ waits forever at row \d+ \(\w+\); \d+ rows were not reached"):
        Interpreter(stuck).run(codes(CNN))
    assert core >= 0


def test_one_sample_after_another_leaves_no_trace() -> None:
    for name in ("tiny_cnn", "tiny_transformer", "squeeze excite", "three images"):
        graph = quantised(name)
        machine_ = Interpreter(compiled(graph, machine("toy")))
        for seed in (0, 1, 2, 0):
            inputs = codes(graph, seed)
            executed, meaning = machine_.run(inputs), evaluate(graph, inputs)
            assert all(np.array_equal(executed[v], meaning[v]) for v in meaning), (name, seed)
