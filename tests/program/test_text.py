"""The text form of programs: it parses back to the same program, and a person finds what is where."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from pimloom.errors import ProgramError
from pimloom.hardware import load_hardware
from pimloom.program import INSTRUCTIONS, Block, Matrix, Program
from pimloom.program.text import (
    ARGUMENTS,
    parse_program,
    print_instruction_set,
    print_program,
    weights_by_digest,
)

Array = np.ndarray[Any, np.dtype[Any]]


def parsed(text: str, program: Program) -> Program:
    return parse_program(text, program.graph, program.hardware, weights_by_digest(program))


def assert_equal(found: Program, expected: Program) -> None:
    for field in fields(Program):
        a, b = getattr(found, field.name), getattr(expected, field.name)
        if field.name == "matrices":
            assert [(m.name, m.codes.dtype, m.codes.shape) for m in a] == [
                (m.name, m.codes.dtype, m.codes.shape) for m in b
            ]
            assert all(np.array_equal(one.codes, other.codes) for one, other in zip(a, b, strict=True))
        elif field.name == "groups":
            assert all(np.array_equal(getattr(a, c.name), getattr(b, c.name)) for c in fields(b))
        elif isinstance(b, np.ndarray):
            assert a.dtype == b.dtype, field.name
            np.testing.assert_array_equal(a, b)
        else:
            assert a == b, field.name


def test_text_parses_back(program: Program) -> None:
    text = print_program(program)
    found = parsed(text, program)
    assert_equal(found, program)
    assert print_program(found) == text


def test_every_field_survives(cnn: Program) -> None:
    """Also fields that an instruction does not use, extreme numbers, odd names, and blocks of every kind."""
    rows = cnn.rows.copy()
    rng = np.random.default_rng(0)
    for name in (
        "dst",
        "src1",
        "src2",
        "dst_step",
        "src1_step",
        "src2_step",
        "length",
        "count",
        "arg",
        "pattern",
        "stage",
    ):
        limits = np.iinfo(rows.dtype[name])
        values = np.array([limits.min, limits.max, 0, -1, 1, 77])
        at = rng.choice(rows.size, 200)
        rows[name][at] = rng.choice(values, at.size)
    distance = cnn.dep_distance.copy()
    distance[::3] = 5
    odd = replace(
        cnn,
        name='a "b"\n; node 3 # c',
        mode="",
        rows=rows,
        dep_distance=distance,
        blocks=(*cnn.blocks, Block(1, 0, 0, 'x "y" \u2028', None, "int16"), Block(0, -5, 3, "", -7, "int16")),
        notes={"a b": {"c": [1.5, None, float("inf")]}, "d": "# e"},
    )
    assert_equal(parsed(print_program(odd), odd), odd)


def test_node_names_may_be_odd(make: Callable[[str], Program]) -> None:
    program = make("grouped")
    text = print_program(program)
    assert ' ; node 0 "a layer; of # two"' in text
    assert_equal(parsed(text, program), program)


def test_comments_blank_lines_and_spaces_mean_nothing(cnn: Program) -> None:
    lines = print_program(cnn).split("\n")
    spaced = "\n".join(f"\t {line}  \r\n\n  # a comment" for line in lines)
    assert_equal(parsed(spaced, cnn), cnn)


def test_a_row_reads_well(cnn: Program) -> None:
    text = print_program(cnn)
    assert re.search(
        r"\n   *\d+: mvm         dst=\d+\+32 src1=\d+\+\d+ length=8 count=\d group=\d+ pattern=\d+"
        r" ; node 0 conv1 ; after \d+\n",
        text,
    )
    assert re.search(
        r"\n   *\d+: load        dst=\d+(\+\d+)? src1=\d+(\+\d+)? length=\d+ count=\d+ region=0( ; after \d+@1( \d+@1)*)?\n",
        text,
    )
    send = re.search(r"\n   *(\d+): send .* ; to core (\d) row (\d+)", text)
    assert send
    assert re.search(rf"\n   *{send[3]}: receive .* ; from core \d row {send[1]}", text)
    assert re.search(r"\nregion 0 image: chip 0, 0 \+192, order 0 2 3 1, 64 x 3\n", text)
    assert re.search(r'\nblock \d+: core \d, \d+ \+\d+, "ring image", fill 0 int8\n', text)
    assert re.search(r"\nmatrix 0 \S+: int8\[27,8\] [0-9a-f]{16}\n", text)
    assert re.search(r"\ngroup 0: core \d, 1 crossbars, matrix \d, rows \d+:\d+, columns \d+:\d+\n", text)


# -- parts ----------------------------------------------------------------------------------------------------------


def test_a_part_of_the_cores(cnn: Program) -> None:
    text = print_program(cnn, [2])
    assert "# shortened to 1 of 4 cores, all rows; this text does not parse back" in text
    assert re.findall(r"^core (\d)", text, re.MULTILINE) == ["2"]
    assert set(re.findall(r"^(?:block|group) \d+: core (\d)", text, re.MULTILINE)) == {"2"}
    named = {int(i) for i in re.findall(r" pattern=(\d+)", text)}
    assert {int(i) for i in re.findall(r"^pattern (\d+):", text, re.MULTILINE)} == named
    assert text.count("\n  ") == cnn.stream_ptr[3] - cnn.stream_ptr[2]
    with pytest.raises(
        ProgramError, match=r"line \d+: block \d+ found|line \d+: .* found, .* expected; .*print the whole program"
    ):
        parsed(text, cnn)


def test_a_limit_of_rows(cnn: Program) -> None:
    text = print_program(cnn, limit=3)
    n = int(cnn.stream_ptr[1])
    assert f"core 0: {n} rows\n" in text
    assert f"\n  ... {n - 3} more rows\n" in text
    assert len(re.findall(r"^ +\d+: ", text, re.MULTILINE)) == 12
    with pytest.raises(ProgramError, match=r"expected; .*print the whole program"):
        parsed(text, cnn)


def test_a_limit_that_hides_nothing_is_the_whole(cnn: Program) -> None:
    assert print_program(cnn, range(4), limit=cnn.n_rows) == print_program(cnn)


def test_nothing_to_print(cnn: Program) -> None:
    assert "core 0: " not in print_program(cnn, [], 0).split("# shortened")[1]


def test_parts_that_do_not_exist(cnn: Program) -> None:
    with pytest.raises(ProgramError, match="print: core 4 found, one of 0 to 3 expected; name another core"):
        print_program(cnn, [0, 4])
    with pytest.raises(ProgramError, match="print: a limit of -1 rows found, 0 or more expected"):
        print_program(cnn, limit=-1)


# -- faults ---------------------------------------------------------------------------------------------------------

LINE_FAULTS: dict[str, tuple[str, str, str]] = {
    "an unknown word": ("mode latency", "mood latency", r"'mood latency' found, a row or one of program, target"),
    "a malformed statement": ("samples 1", "samples one", "'samples one' found, 'samples N' expected"),
    "a statement given twice": (
        "mode latency",
        "mode latency\nmode latency",
        "a second 'mode' found, it once expected",
    ),
    "another graph": (
        "graph tiny_cnn:",
        "graph tiny:",
        r"'graph tiny: \d+ nodes' found, 'tiny_cnn' of \d+ nodes expected; give the graph",
    ),
    "another machine": ("hardware toy: 4", "hardware toy: 5", "found, 'toy' of 4 cores expected; give the machine"),
    "a number without end": ("samples 1", "samples " + "1" * 5000, r"1+ found, a number of -9223372036854775808 to"),
    "a note that is no JSON": ("note crossbars_used = ", "note crossbars_used = =", "'=.*' found, JSON expected"),
    "a bad escape": ("target crossbar", r'target "\q"', r'"\\q" found, a string with JSON escapes expected'),
    "a region out of order": (
        "region 1 ",
        "region 2 ",
        "region 2 found, region 1 expected; number them from 0 in order",
    ),
    "a block given twice": ("block 1: ", "block 0: ", "a second block 0 found, another number expected"),
    "a matrix of another shape": (
        "int8[27,8] ",
        "int8[27,9] ",
        r"int8\[27, 9\] found, weights of int8\[27, 8\] expected",
    ),
    "a matrix of another type": ("int8[27,8] ", "word[27,8] ", r"word\[27, 8\] found, weights of int8"),
    "unknown weights": (
        "int8[27,8] ",
        "int8[27,8] 00",
        "weights with the digest 00[0-9a-f]+ found, one of those given expected; give matrices=",
    ),
    "a group out of order": ("group 0:", "group 1:", "group 1 found, group 0 expected"),
    "a pattern out of order": ("pattern 0:", "pattern 7:", "pattern 7 found, pattern 0 expected"),
    "a core that does not exist": ("\ncore 3: ", "\ncore 4: ", "core 4 found, a core after 2 and below 4 expected"),
    "an unknown mnemonic": (": mvm ", ": mul ", "'mul' found, one of mvm, preset"),
    "an unknown field": (" length=8", " width=8", "'width=8' found, one of stage, dst, .* with a number expected"),
    "a step of no address": (" length=8", " length=8+1", r"'length=8\+1' found, one of stage"),
    "a field that does not fit": (
        " length=8",
        " length=2147483648",
        "2147483648 found, a number of -2147483648 to 2147483647 expected",
    ),
    "a malformed row": (" ; node 0 conv1", " ; node", "found, 'N: MNEMONIC FIELD=NUMBER"),
    "another node": (" ; node 0 conv1", " ; node 0 conv2", "node 0 conv2 found, 'conv1' expected"),
    "an unknown node": (" ; node 0 conv1", " ; node 99 conv1", r"node 99 conv1 found, one of \d+ nodes expected"),
}


@pytest.mark.parametrize("fault", LINE_FAULTS)
def test_faults_are_told_with_their_line(fault: str, cnn: Program) -> None:
    before, after, expected = LINE_FAULTS[fault]
    text = print_program(cnn)
    at = text.index(before)
    line = (text[:at] + after).count("\n") + 1
    with pytest.raises(ProgramError, match=rf"^line {line}: .*{expected}"):
        parsed(text[:at] + after + text[at + len(before) :], cnn)


def test_rows_that_are_missing(cnn: Program) -> None:
    lines = print_program(cnn).split("\n")
    core = next(i for i, line in enumerate(lines) if line.startswith("core 1:"))
    rows = int(lines[core].split()[2])
    last = core + rows
    without = "\n".join(lines[:last] + lines[last + 1 :])
    expected = (
        rf"^line {core + 1}: {rows} rows of core 1 found, the {rows - 1} that follow expected; print the whole program"
    )
    with pytest.raises(ProgramError, match=expected):
        parsed(without, cnn)
    with pytest.raises(
        ProgramError, match=rf"^line {core + 2}: row {cnn.stream_ptr[1] + 1} found, row {cnn.stream_ptr[1]} expected"
    ):
        parsed("\n".join(lines[: core + 1] + lines[core + 2 :]), cnn)


def test_parts_that_are_missing(cnn: Program) -> None:
    lines = print_program(cnn).split("\n")

    def without(start: str) -> str:
        return "\n".join(line for line in lines if not line.startswith(start))

    with pytest.raises(ProgramError, match=r"^line \d+: the end of the text found, 'mode NAME' expected"):
        parsed(without("mode"), cnn)
    with pytest.raises(ProgramError, match=r"^line \d+: the end of the text found, block 0 expected"):
        parsed(without("block 0:"), cnn)
    with pytest.raises(ProgramError, match=r"^line \d+: row 0 found|'core N: N rows' before it expected"):
        parsed(without("core 0:"), cnn)
    with pytest.raises(ProgramError, match=r"^line 2: the end of the text found, 'program NAME' expected"):
        parse_program("", cnn.graph, cnn.hardware, {})
    last = next(i for i, line in enumerate(lines) if line.startswith("core 3:"))
    with pytest.raises(
        ProgramError, match=rf"the end after {cnn.stream_ptr[3]} rows found, {cnn.n_rows} rows expected"
    ):
        parsed("\n".join(lines[:last]), cnn)


def test_partners_that_are_elsewhere(cnn: Program) -> None:
    text = print_program(cnn)
    match = re.search(r"send .* ; to core (\d) row (\d+)", text)
    assert match
    line = text.count("\n", 0, match.start()) + 1
    core, row = int(match[1]), int(match[2])
    moved = text.replace(f"; to core {core} row {row}", f"; to core {(core + 1) % 4} row {row}", 1)
    with pytest.raises(
        ProgramError, match=rf"^line {line}: row {row} on core {(core + 1) % 4} found, on core {core} expected"
    ):
        parsed(moved, cnn)
    lost = text.replace(f"; to core {core} row {row}", f"; to core {core} row 99999", 1)
    with pytest.raises(
        ProgramError, match=rf"^line {line}: row 99999 on core {core} found, one of {cnn.n_rows} rows expected"
    ):
        parsed(lost, cnn)


def test_another_machine_is_refused(cnn: Program) -> None:
    with pytest.raises(ProgramError, match=r"^line 6: 'hardware toy: 4 cores' found, 'isaac' of \d+ cores expected"):
        parse_program(print_program(cnn), cnn.graph, load_hardware("isaac"), weights_by_digest(cnn))


def test_weights_are_checked(cnn: Program) -> None:
    given = weights_by_digest(cnn)
    key = next(iter(given))
    given[key] = given[key] + 1
    with pytest.raises(ProgramError, match=rf"line \d+: weights with the digest \w+ found, {key} expected"):
        parse_program(print_program(cnn), cnn.graph, cnn.hardware, given)


def test_equal_bytes_may_be_two_matrices(cnn: Program) -> None:
    """Weights are found by their bytes; shape and type are those of the text."""
    first = cnn.matrices[0]
    flat = Matrix(first.name, first.codes.reshape(first.codes.shape[::-1]))
    both = replace(cnn, matrices=(first, flat, *cnn.matrices[2:]))
    assert len(weights_by_digest(both)) == len(both.matrices) - 1
    assert_equal(parsed(print_program(both), both), both)


# -- the instruction set --------------------------------------------------------------------------------------------


def test_the_instruction_set_is_printed_whole() -> None:
    text = print_instruction_set()
    assert text.startswith(f"{len(INSTRUCTIONS)} instructions.")
    for row in INSTRUCTIONS:
        paragraph = next(p for p in text.split("\n\n") if p.startswith(f"{row.name} ("))
        assert row.unit in paragraph
        assert row.meaning in paragraph
        for field, meaning in row.operands.items():
            shown = ARGUMENTS.get(meaning, "arg") if field == "arg" else field
            assert re.search(rf"^  {shown} +{re.escape(meaning)}$", paragraph, re.MULTILINE)
    assert "send (network, one end of a message, a transfer): " in text
    assert "receive (network, the other end of a message, a transfer): " in text


def test_mutated_text_is_refused_or_parses(cnn: Program) -> None:
    """Whatever stands in a line, the answer is a program or a sentence that names the line."""
    lines, rng = print_program(cnn).split("\n"), np.random.default_rng(3)
    weights, signs = weights_by_digest(cnn), list('0123456789-+@:;,="#x []{}\\\t')
    n_refused = 0
    for _ in range(150):
        changed = list(lines)
        at = int(rng.integers(len(lines)))
        line = list(lines[at])
        for _ in range(int(rng.integers(1, 4))):
            line.insert(int(rng.integers(len(line) + 1)), str(rng.choice(signs)))
            del line[int(rng.integers(len(line)))]
        changed[at] = "".join(line)
        try:
            print_program(parse_program("\n".join(changed), cnn.graph, cnn.hardware, weights))
        except ProgramError as error:
            assert re.match(r"line \d+: .* expected", str(error))
            n_refused += 1
    assert n_refused > 80
