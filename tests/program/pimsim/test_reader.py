"""The reader of pimsim-nn programs: same table from any layout, and one clear sentence for every broken file."""

from __future__ import annotations

import gzip
import itertools
import json
import random
import re
import tracemalloc
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from program.pimsim.pimsim_files import document, meaning, print_freely, table, write_architecture, write_program
from program.pimsim.random_programs import random_lists

from pimloom.errors import ProgramError
from pimloom.program.pimsim import (
    PimsimProgram,
    Quirks,
    check_addresses,
    pair_messages,
    read_architecture,
    read_program,
    records,
    scan,
    textstream,
)
from pimloom.program.pimsim.check import remarks
from pimloom.program.pimsim.convert import to_program
from pimloom.program.pimsim.immediates import Template

SETBW = {"op": "setbw", "ibiw": 8, "obiw": 8}
GROUPS = {k: [1, 2, 3] for k in range(3)}


def expected(lists: dict[int, list[dict[str, Any]]], cores: int) -> list[list[dict[str, int]]]:
    return [meaning(lists.get(k, [])) for k in range(cores)]


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10**6), style=st.sampled_from(["free", "tight", "indented", "mixed"]),
    piece=st.sampled_from([7, 64, 1000, 1 << 20]), is_general=st.booleans(),
)  # fmt: skip
def test_any_layout_gives_the_same_table(
    seed: int, style: str, piece: int, is_general: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = random.Random(seed)
    lists = random_lists(rng, 3, rng.randrange(200))
    content = document(lists, GROUPS, 3)
    if style == "tight":
        text = json.dumps(content, separators=(",", ":"))
    elif style == "indented":
        text = json.dumps(content, indent="\t", separators=(",", " : "), sort_keys=True)
    elif style == "free":
        text = print_freely(content, rng, gaps=["", " ", "\n\t", "\r\n  "])
    else:  # laid out alike for long stretches, each core in its own way
        parts = [f'"config":{json.dumps(content["config"])}']
        parts += [f'"core{k}":{json.dumps(content[f"core{k}"], indent=rng.choice([None, 0, 3]))}' for k in (2, 0, 1)]
        text = "{" + ",\n".join(parts) + "}"
    path = tmp_path_factory.mktemp("layout") / "program.json"
    path.write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(textstream, "PIECE_BYTES", piece)
        assert table(read(path, is_general=is_general)) == expected(lists, 3)


with_and_without = pytest.mark.parametrize("is_general", [False, True], ids=["kernel", "general"])


def read(path: Path, *, is_general: bool) -> PimsimProgram:
    """Reads a program; every instruction by the general parser, if so wanted."""
    with pytest.MonkeyPatch.context() as patch:
        if is_general:
            patch.setattr(records.Records, "_alike", lambda *_: None)
        return read_program(path)


def in_two_members(text: bytes) -> bytes:
    return gzip.compress(text[:50]) + gzip.compress(text[50:])


@pytest.mark.parametrize("piece", [4, 16, 1 << 20])
def test_what_lies_behind_packed_data_is_counted(piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(textstream, "PIECE_BYTES", piece)
    path = tmp_path / "program.gz"
    for rest in (b"\x1f", b"\x1fx", b"x", b"a remark", b"\0\0a remark"):
        path.write_bytes(gzip.compress(_GOOD.encode()) + rest)
        count = len(rest.lstrip(b"\0"))
        with pytest.raises(
            ProgramError, match=f": {count} bytes? behind the compressed data found, behind the list of core 0; cut the file"
        ):
            read_program(path)


def padded(text: bytes) -> bytes:
    return gzip.compress(text[:50]) + bytes(3) + gzip.compress(text[50:]) + bytes(100)


@pytest.mark.parametrize("piece", [4, 1 << 20])  # of one byte of packed data, or all of it
@pytest.mark.parametrize("pack", [in_two_members, padded])
def test_members_may_be_cut_anywhere(pack: Callable[[bytes], bytes], piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(textstream, "PIECE_BYTES", piece)
    lists = random_lists(random.Random(3), 2, 100)
    path = tmp_path / "program"
    path.write_bytes(pack(json.dumps(document(lists, GROUPS, 3)).encode()))
    assert table(read_program(path)) == expected(lists, 3)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zlib.compress, in_two_members])
def test_plain_and_compressed_files_are_told_apart(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    lists = random_lists(random.Random(3), 2, 100)
    path = tmp_path / "program"
    path.write_bytes(pack(json.dumps(document(lists, GROUPS, 3)).encode()))
    assert table(read_program(path)) == expected(lists, 3)


def test_byte_order_mark_and_sections_in_any_order(tmp_path: Path) -> None:
    lists = random_lists(random.Random(4), 3, 60)
    content = document(lists, GROUPS, 3)
    path = tmp_path / "program.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps({"remark": [1, {"core0": "]"}], **dict(reversed(content.items()))}).encode())
    assert table(read_program(path)) == expected(lists, 3)


@with_and_without
def test_strings_that_look_like_structure_do_not_mislead(is_general: bool, tmp_path: Path) -> None:
    odd = [
        {"op": "sldi", "rd": 1, "imm": 5, "note": "},{"},
        {"op": "lldi", "rd": 1, "len": 3, "note": "]}]"},
        {"op": "lmv", "x": [{"a": 1}, {}]},
    ]
    lists = {0: [SETBW, *odd * 50], 1: [{"op": "lldi", "rd": 0, "note": "\u00e9},{\\"}] * 20}
    assert table(read(write_program(tmp_path, lists), is_general=is_general))[:2] == expected(lists, 2)


def test_numbers_are_read_as_pimsim_reads_them(tmp_path: Path) -> None:
    lists = {0: [{"op": "sldi", "rd": 1.0, "imm": 64.9}, {"op": "lldi", "rd": 1, "len": 12.0, "imm": True}]}
    program = read_program(write_program(tmp_path, lists))
    assert (program.rd.tolist(), program.length.tolist(), program.value.tolist()) == ([64], [12], [1])


@with_and_without
def test_fields_that_an_operation_does_not_use_say_nothing(is_general: bool, tmp_path: Path) -> None:
    loose = {"len": -1, "size": -1, "group": -1, "mbiw": -1, "core": -1, "event_register": -1, "ibiw": -1, "wait_value": -1}
    used: list[dict[str, Any]] = [
        SETBW, {"op": "sldi", "rd": 1, "imm": -7}, {"op": "lldi", "rd": 1, "len": 3}, {"op": "ld", "size": 4},
        {"op": "mvmul", "mbiw": 8, "group": 0},
        {"op": "vrelu", "len": 5}, {"op": "send", "core": 1, "size": 6}, {"op": "sync", "core": 1, "event_register": 9},
        {"op": "sldi", "rd": 1, "offset": {"offset_select": -1}},
    ]  # fmt: skip
    other: list[dict[str, Any]] = [{"op": "recv", "core": 0, "size": 6}, {"op": "wait", "event_register": 9, "wait_value": 1}]
    lists = {0: [loose | one for one in used] * 40, 1: [loose | one for one in other] * 40}
    found = read(write_program(tmp_path, lists, cores=2), is_general=is_general)
    assert table(found) == expected({0: used * 40, 1: other * 40}, 2)


def test_scalars_are_counted_and_their_effect_kept(tmp_path: Path) -> None:
    lists = {
        1: [
            SETBW,
            {"op": "sldi", "rd": 3, "imm": 7},
            {"op": "saddi", "rd": 4, "rs1": 3, "imm": 2**31 - 1},
            {"op": "lmv", "rd": 4, "rs1": 3},
        ],
        2: [{"op": "lmv"}, {"op": "sldi", "rd": 0, "imm": 9}, {"op": "lmv"}, {"op": "sldi"}, SETBW],
    }
    program = read_program(write_program(tmp_path, lists))
    assert program.scalars_before().tolist() == [3, 0, 1]
    assert program.scalars_after().tolist() == [0, 0, 2, 0]
    assert program.length_of_core.tolist() == [0, 4, 5, 0]
    assert program.is_present.tolist() == [False, True, True, False]
    assert program.rd.tolist() == [7 + 2**31 - 1 - 2**32, 0, 9]
    assert program.input_bits.tolist() == [8, 0, 0]


@with_and_without
def test_more_texts_than_are_kept_are_parsed_again(is_general: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_MOST_TEXTS", 10)
    monkeypatch.setattr(scan, "_MOST_POOL_BYTES", 1000)
    monkeypatch.setattr(textstream, "PIECE_BYTES", 500)
    lists = random_lists(random.Random(5), 2, 400)
    assert table(read(write_program(tmp_path, lists), is_general=is_general))[:2] == expected(lists, 2)


@with_and_without
def test_many_texts_are_all_told_apart(is_general: bool, tmp_path: Path) -> None:
    rng = random.Random(6)
    lists = {0: [{"op": "lmv", "rd": rng.randrange(32), "rs1": rng.randrange(32), "len": rng.randrange(9999)} for _ in range(9000)] * 2}
    lists[0][0] = {"op": "sldi", "rd": 17, "imm": 5}
    assert table(read(write_program(tmp_path, lists), is_general=is_general))[:1] == expected(lists, 1)


@with_and_without
@pytest.mark.parametrize("first", ["rd", "imm"])
def test_registers_and_constants_of_any_length(first: str, is_general: bool, tmp_path: Path) -> None:
    rng = random.Random(7)
    lists: dict[int, list[dict[str, Any]]] = {0: [], 1: []}
    for instructions in lists.values():
        for _ in range(2000):
            fields = {"rd": rng.randrange(32), "imm": rng.choice([0, 7, 2**31 - 1, -(2**31), rng.randrange(10 ** rng.randrange(1, 10))])}
            order = ("op", first, "imm" if first == "rd" else "rd")
            instructions.append({key: ({"op": "sldi"} | fields)[key] for key in order})
            instructions.append({"op": "vvadd", "rd": rng.randrange(32), "rs1": rng.randrange(32), "rs2": 31, "len": 4})
    assert table(read(write_program(tmp_path, lists), is_general=is_general))[:2] == expected(lists, 2)


def test_memory_stays_near_the_size_of_the_table(tmp_path: Path) -> None:
    path = tmp_path / "long.gz"
    body = ",".join(f'{{"op":"sldi","rd":0,"imm":{k % 999}}},{{"op":"lmv","rd":0,"rs1":0,"len":{k % 7}}}' for k in range(150_000))
    path.write_bytes(gzip.compress(f'{{"config":{{"core_cnt":1,"array_group_map":{{}}}},"core0":[{body}]}}'.encode(), 1))
    tracemalloc.start()
    try:
        program = read_program(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    size = sum(getattr(program, name).nbytes for name in program.__dataclass_fields__ if name not in ("source", "remarks"))
    assert program.n_instructions == 150_000
    assert peak < 2 * size + 12 * textstream.PIECE_BYTES < len(body) + 12 * textstream.PIECE_BYTES + 2 * size


@pytest.mark.parametrize(
    ("text", "is_right"),
    [
        ('"imm":0007,"op":"sldi","rd":1', False),  # no JSON number
        ('"imm":1.5,"op":"sldi","rd":1', True),
        ('"imm":-7,"op":"sldi","rd":1', True),
        ('"imm":1e3,"op":"sldi","rd":1', True),
        ('"imm":,"op":"sldi","rd":1', False),
        ('"imm":2147483647,"op":"sldi","rd":1', True),
        ('"imm":2147483648,"op":"sldi","rd":1', False),
        ('"imm":12345678901,"op":"sldi","rd":1', False),
        ('"imm":1234567,"op":"sldi","rd":x', False),
        ('"imm":1234567,"op":"slDi","rd":1', False),
        ('"imm":0,"op":"sldi","rd":1', True),
        ('"imm":00,"op":"sldi","rd":1', False),
        ('"imm":12345678,"op":"sldi","rd":9', True),
        ('"imm":123456789,"op":"sldi","rd":31', True),
        ('"imm":5,"op":"sldi","rd":32', False),
        ('"imm":5,"op":"sldi","rd":07', False),
        ('"imm":5,"op":"sldi","rd":', False),
        ('"imm":5,"op":"sldi","rd":1 ', True),
        ('"imm":5,"op":"sldi","rd":1,"rd":2', False),
        ('"imm":5,"op":"sldi","rd":1}, {"op":"lmv"', True),
        ('"op":"lmv","rs1":32', False),
        ('"op":"lmv","rs1":31', True),
        ('"op":"lmv","rs1":01', False),
        ('"op":"ld","rs1":30', True),
        ('"op":"ld","rs1":31', False),
    ],
)
def test_what_is_near_a_known_text_is_not_taken_for_it(text: str, is_right: bool, tmp_path: Path) -> None:
    before = ['{"imm":42,"op":"sldi","rd":0}', '{"op":"lmv","rs1":1}', '{"op":"ld","rs1":2}'] * 50
    path = tmp_path / "program.json"
    lists = ",".join([*before, "{" + text + "}", '{"op":"lmv","rd":1}', *before])
    path.write_text('{"config":{"core_cnt":1,"array_group_map":{}},"core0":[' + lists + "]}")
    if is_right:
        found = json.loads(path.read_text())["core0"]
        assert table(read_program(path)) == expected({0: found}, 1)
    else:
        with pytest.raises(ProgramError):
            read_program(path)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ('"imm":4,"op":"sldi","rd":1', ['"imm":', ',"op":"sldi","rd":', ""]),
        ('"rs1" : 3, "imm": 77 ', ['"rs1" : ', ', "imm": ', " "]),
        ('"imm":4,"op":"sldi","rd":1,"rd":2', None),
        ('"imm":-4,"rd":1', ['"imm":-4,"rd":', ""]),
        ('"imm":4.5,"rd":1', None),
        ('"imm":4e1', None),
        ('"imm":123456789', ['"imm":', ""]),
        ('"imm":1234567890', ['"imm":1234567890']),
        ('"imm":"\\"rd\\":5"', None),
        ('"x":{"rd":7}', None),
        ('"rd":"1"', ['"rd":"1"']),
        ('"core":4', ['"core":4']),
    ],
)
def test_texts_are_cut_at_plain_numbers_alone(text: str, pieces: list[str] | None) -> None:
    found = Template.of(text.encode(), ("rd", "rs1", "imm"))
    assert [piece.decode() for piece in found.pieces] == (pieces or [text])
    assert found.with_numbers(json.loads("{" + text + "}")) == text.encode()


def test_a_value_without_an_end_is_not_taken_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(textstream, "_MOST_BYTES", 1 << 22)
    path = tmp_path / "endless.gz"
    path.write_bytes(gzip.compress(b'{"core0": [{"op": "' + b"x" * (1 << 26), 1))
    tracemalloc.start()
    try:
        with pytest.raises(ProgramError, match="a value of more than 4 MiB at byte 11"):
            read_program(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1 << 25


@pytest.mark.parametrize("piece", [1, 2, 3])
def test_a_character_in_a_wrong_place_may_be_cut(piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(textstream, "PIECE_BYTES", piece)
    path = tmp_path / "more.json"
    path.write_text(_GOOD + "\U0001f600", encoding="utf-8")
    with pytest.raises(ProgramError, match=rf"text after the last closing brace at byte {len(_GOOD)}, behind the list of core 0$"):
        read_program(path)


def test_a_number_ends_at_a_byte_that_is_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much there is behind it."""
    monkeypatch.setattr(textstream, "_MOST_BYTES", 1 << 12)
    path = tmp_path / "number.json"
    path.write_bytes(b'{"a": 12\xff' + b" " * 10_000)
    with pytest.raises(ProgramError, match=r"text that is not UTF-8 at byte 8$"):
        read_program(path)


# Broken files ------------------------------------------------------------------------------------------------------

_FINE: list[dict[str, Any]] = [SETBW, *[{"op": "sldi", "rd": 0, "imm": k} for k in range(200)]]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"op": "vsoftmax"}, r"core 1, instruction 201: unknown operation 'vsoftmax'; known: sldi, .*"),
        ({"op": "nop"}, r"core 1, instruction 201: unknown operation 'nop'; known: .*"),
        ({"op": ["ld"]}, r"core 1, instruction 201: unknown operation \['ld'\]; known: .*"),
        ({"rd": 3}, r"core 1, instruction 201: unknown operation None; known: .*"),
        ({"op": "sldi", "rd": 32, "imm": 1}, r"core 1, instruction 201: sldi with rd 32; a register from 0 to 31 expected"),
        ({"op": "lmv", "rs1": -1}, r"core 1, instruction 201: lmv with rs1 -1; a register from 0 to 31 expected"),
        ({"op": "ld", "rs1": 31}, r"core 1, instruction 201: ld with rs1 31; the first of a pair of registers from 0 to 30 expected"),
        ({"op": "sldi", "imm": 2**31}, r"core 1, instruction 201: sldi with imm 2147483648, which does not fit 32 bits"),
        ({"op": "sldi", "imm": "7"}, r"core 1, instruction 201: sldi with imm '7', a number expected"),
        ({"op": "lmv", "offset": 3}, r"core 1, instruction 201: lmv with offset 3, an object expected"),
        ({"op": "lmv", "len": -4}, r"core 1, instruction 201: lmv with len -4, at least 0 expected"),
        ({"op": "lmv", "size": -4}, r"core 1, instruction 201: lmv with size -4, at least 0 expected"),
        ({"op": "st", "size": -1}, r"core 1, instruction 201: st with size -1, at least 0 expected"),
        ({"op": "send", "core": -1}, r"core 1, instruction 201: send with core -1, at least 0 expected"),
        ({"op": "mvmul", "group": -1, "mbiw": 8}, r"core 1, instruction 201: mvmul with group -1, at least 0 expected"),
        ({"op": "mvmul", "mbiw": 65}, r"core 1, instruction 201: mvmul with mbiw 65, 1 to 64 expected"),
        (
            {"op": "lmv", "offset": {"offset_select": -1}},
            r"core 1, instruction 201: lmv with offset_select -1, at least 0 expected",
        ),
        ({"op": "setbw", "ibiw": 8}, r"core 1, instruction 201: setbw with obiw 0, 1 to 64 expected"),
        ({"op": "mvmul", "group": 0}, r"core 1, instruction 201: mvmul with mbiw 0, 1 to 64 expected"),
        ({"op": "mvmul", "group": 3, "mbiw": 8}, r"core 1, instruction 201 \(mvmul\): array group 3 found, the core has 3 of them"),
        ({"op": "sync", "core": 0, "event_register": 32}, r"core 1, instruction 201: sync with event_register 32, 0 to 31 expected"),
        ({"op": "wait", "wait_value": -1}, r"core 1, instruction 201: wait with wait_value -1, at least 0 expected"),
        ({"op": "wait", "wait_value": 2**31}, r"core 1, instruction 201: wait with wait_value 2147483648, which does not fit 32 bits"),
        (
            {"op": "sync", "core": 1, "event_register": 2},
            r"core 1, instruction 201 \(sync\): core 1 found, which is the core itself; it would tell itself what it did; leave it out, "
            "and what waits for it",
        ),
        ({"op": "send", "core": 3, "size": 4}, r"core 1, instruction 201 \(send\): core 3 found, which has no instructions"),
        ({"op": "recv", "core": 99, "size": 4}, r"core 1, instruction 201 \(recv\): core 99 found, which has no instructions"),
        ({"op": "send", "core": 1, "size": 4}, r"core 1, instruction 201 \(send\): core 1 found, which is the core itself; .*"),
        (
            {"op": "send", "core": 0, "size": 4},
            r"core 1, instruction 201 \(send\): core 0 has no recv for it; from core 1 to core 0 there are 1 send and 0 recv",
        ),
        (
            {"op": "recv", "core": 0, "size": 4},
            r"core 1, instruction 201 \(recv\): core 0 has no send for it; from core 0 to core 1 there are 0 send and 1 recv",
        ),
    ],
)
@pytest.mark.parametrize("indent", [None, 1])
@with_and_without
def test_a_bad_instruction_is_named(bad: dict[str, Any], message: str, indent: int | None, is_general: bool, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(document({0: _FINE, 1: [*_FINE, bad, *_FINE]}, GROUPS, 4), indent=indent))
    with pytest.raises(ProgramError, match=rf"^.*bad\.json: {message}$"):
        read(path, is_general=is_general)


_GOOD = json.dumps(document({0: _FINE}, GROUPS, 4))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "an empty file at byte 0"),
        (b"\x89PNG\r\n", "text that is not UTF-8 at byte 0"),
        (b"[1, 2]", r"'\[' found, '{' expected at byte 0"),
        (_GOOD[: _GOOD.index("150")].encode(), "not the JSON of a pimsim-nn program: .*"),
        (_GOOD.encode() + b"\xc3", rf"text that is not UTF-8 at byte {len(_GOOD)}, behind the list of core 0"),
        (_GOOD.encode() + b"\xc3\xa9", rf"text after the last closing brace at byte {len(_GOOD)}, behind the list of core 0"),
        (b'{"a": \xc3\xa9', r"no value \(Expecting value\) at byte 6"),
        (b'{"a": 12\xff', "text that is not UTF-8 at byte 8"),
        (_GOOD.encode() + b"x", r"text after the last closing brace at byte \d+, behind the list of core 0"),
        (_GOOD.replace('"imm": 150', '"imm": NaN').encode(), r"no value \(NaN is no JSON\) at byte \d+, in core 0 behind instruction 150"),
        (_GOOD.replace('"imm": 150}, ', '"imm": 150} ').encode(), r"'{' found, ',' expected at byte \d+, in core 0 behind instruction 151"),
        (_GOOD.replace('"imm": 150}, ', '"imm": 150}, 7, ').encode(), "core 0, instruction 152: 7 found, an object expected"),
        (
            _GOOD.replace('"imm": 150}, ', '"imm": 150}, [{"op": 1}, 2], ').encode(),
            r"core 0, instruction 152: \[.*\] found, an object expected",
        ),
        (_GOOD.replace('"imm": 150}, ', '"imm": 150}, "},{", ').encode(), "core 0, instruction 152: '},{' found, an object expected"),
        (_GOOD.replace("150", "9" * 6000).encode(), r"core 0, instruction 151: sldi with imm 9+\.\.\., which does not fit 32 bits"),
        (_GOOD.replace("150", "-" + "9" * 400).encode(), r"core 0, instruction 151: sldi with imm -9+\.\.\., which does not fit 32 bits"),
        (b'{"config": {"core_cnt": 1' + b"0" * 6000 + b"}}", r"config.core_cnt is 10+\.\.\., a number of cores from 1 to 4096 expected"),
        (
            _GOOD.replace('"imm": 150}', '"imm": 150, "rd": 1}').encode(),
            "core 0, instruction 151: sldi states rd more than once",
        ),
        (
            _GOOD.replace('"imm": 150}', '"imm": 150, "offset": {"offset_value": 1, "offset_value": 2}}').encode(),
            "core 0, instruction 151: sldi states offset_value more than once",
        ),
        (b'{"config": {"core_cnt": 1, "core_cnt": 2, "array_group_map": {}}}', "config states core_cnt more than once"),
        (
            b'{"config": {"core_cnt": 1, "array_group_map": {"core0": [], "core0": [1]}}}',
            "config.array_group_map states core0 more than once",
        ),
        (b'{"config": {"core_cnt": 1, "array_group_map": {}}, "config": {}}', "two sections 'config' found, one expected"),
        (b"{" + b'"a":' + b"[" * 100_000, "values nested too deep at byte 5"),
        (_GOOD.replace("150", "[" * 100_000).encode(), r"values nested too deep at byte \d+, in core 0 behind instruction 150"),
        (_GOOD.replace('"imm": 150', '"imm: 150').encode(), r"no value \(.*\) at byte \d+, in core 0 behind instruction 150"),
        (b'{"core0": []}', "no section 'config' with core_cnt and array_group_map found; .*"),
        (b'{"config": {"core_cnt": 0}}', "config.core_cnt is 0, a number of cores from 1 to 4096 expected"),
        (b'{"config": {"core_cnt": 136000}}', "config.core_cnt is 136000, a number of cores from 1 to 4096 expected"),
        (b'{"config": {"core_cnt": 1}}', "config.array_group_map not found; .*"),
        (
            b'{"config": {"core_cnt": 1, "array_group_map": {"core0": [0]}}}',
            "config.array_group_map of core0 is no list of crossbar counts .*",
        ),
        (
            b'{"config": {"core_cnt": 1, "array_group_map": {"core1": [1]}}}',
            "config.array_group_map names 'core1', core0 to core0 expected",
        ),
        (b'{"config": {"core_cnt": 1, "array_group_map": {}}, "core1": []}', "core 1 has instructions, but config.core_cnt is 1"),
        (
            b'{"core0": [{"op": "lmv"}, {"op": "lmv"}, {"op": "lmv"}], "core1": [x"op": "lmv"}]}',
            r"no value \(Expecting value\) at byte 67, in core 1 before its first instruction",
        ),
        (
            b'{"core0": [{"op": "lmv"}, {"op": "lmv"}, {"op": "lmv"}], "core1": [{"op": "lmv"}, ]}',
            r"'\]' found, '{' expected at byte 82, in core 1 behind instruction 0",
        ),
        (b'{"core2": [], "core0": [], "core1": [] x', r"'x' found, ',' or '}' expected at byte 39, behind the list of core 1"),
        (b'{"core0": [], "core0": []}', "core 0 has two lists of instructions, one expected"),
        (
            gzip.compress(_GOOD.encode())[:-30],
            r"the compressed file ends in the middle, in core 0 behind instruction \d+; it was cut off, copy it again",
        ),
        (
            gzip.compress(_GOOD.encode())[:-3],
            "the compressed file ends in the middle, behind the list of core 0; it was cut off, copy it again",
        ),
        (
            gzip.compress(_GOOD.encode()) + b"\n",
            "1 byte behind the compressed data found, behind the list of core 0; cut the file there, or copy it again",
        ),
        (
            gzip.compress(_GOOD.encode()) + b"\0\0remark",
            "6 bytes behind the compressed data found, behind the list of core 0; cut the file there, or copy it again",
        ),
        (
            gzip.compress(_GOOD.replace("150", "x", 1).encode()) + b"remark",
            r"no value \(Expecting value\) at byte \d+, in core 0 behind instruction 150; the compressed file is damaged, copy it again",
        ),
        (
            gzip.compress(_GOOD.encode())[:-8] + b"\0" * 8,
            r"the compressed file is damaged \(.*incorrect data check\), behind the list of core 0; copy it again",
        ),
    ],
)
@with_and_without
def test_a_bad_file_is_named(data: bytes, message: str, is_general: bool, tmp_path: Path) -> None:
    path = tmp_path / "bad.gz"
    path.write_bytes(data)
    with pytest.raises(ProgramError, match=rf"^.*bad\.gz: (not the JSON of a pimsim-nn program: )?{message}$"):
        read(path, is_general=is_general)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 10**6), is_packed=st.booleans())
def test_damage_ends_in_the_same_table_or_one_sentence(seed: int, is_packed: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    rng = random.Random(seed)
    data = bytearray(_GOOD.encode())
    data = bytearray(gzip.compress(bytes(data))) if is_packed else data
    for _ in range(rng.randrange(1, 4)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    path = tmp_path_factory.mktemp("damage") / "program"
    path.write_bytes(bytes(data[: rng.randrange(len(data))] if rng.random() < 0.3 else data))
    said: list[Any] = []
    for is_general in (False, True):
        try:
            said.append(table(read(path, is_general=is_general)))
        except ProgramError as error:
            assert "\n" not in str(error) and str(path) in str(error)
            said.append("refused")  # for the first of several faults, which may be another one
    assert said[0] == said[1]


def whole_before_the_end(text: str) -> str:
    """Where a text that is cut off ends, found by taking one value after the other."""
    *_, match = re.finditer(r'"core(\d+)"\s*:\s*\[?', text)
    core, at, count = match.group(1), match.end(), 0
    while True:
        at += len(text[at:]) - len(text[at:].lstrip(", \n"))
        if text[at : at + 1] == "]":
            return f"behind the list of core {core}"
        try:
            at = json.JSONDecoder().raw_decode(text, at)[1]
        except ValueError:
            return f"in core {core} " + (f"behind instruction {count - 1}" if count else "before its first instruction")
        count += 1


@with_and_without
@pytest.mark.parametrize("indent", [None, 1])
def test_a_cut_off_file_names_core_and_instruction(
    indent: int | None, is_general: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(textstream, "PIECE_BYTES", 700)
    text = json.dumps(document(random_lists(random.Random(8), 3, 100), GROUPS, 3), indent=indent)
    begin = text.index('"core0"', text.index('"core0"') + 1)  # the first one is that of the array groups
    path, said = tmp_path / "cut", set[str]()
    for end in range(text.index("[", begin) + 1, len(text) - 1, 101):
        cut, packer = text[:end].encode(), zlib.compressobj()
        place = whole_before_the_end(text[:end])
        said.add(place)
        path.write_bytes(cut)
        with pytest.raises(ProgramError, match=rf"cut: .* at byte \d+, {place}$"):
            read(path, is_general=is_general)
        path.write_bytes(packer.compress(cut) + packer.flush(zlib.Z_SYNC_FLUSH))
        with pytest.raises(ProgramError, match=f"cut: the compressed file ends in the middle, {place}; it was cut off, copy it again$"):
            read(path, is_general=is_general)
    assert {place.split()[2] for place in said} >= {"0", "1", "2"}


@with_and_without
@pytest.mark.parametrize("indent", [None, 1])
def test_a_byte_that_is_no_text_is_named(indent: int | None, is_general: bool, tmp_path: Path) -> None:
    """Wherever it stands in the text: in front of the instruction behind the last that is whole before it."""
    text = json.dumps(document(random_lists(random.Random(9), 3, 60), GROUPS, 3), indent=indent)
    begin = text.index('"core0"', text.index('"core0"') + 1)
    path = tmp_path / "bytes"
    for bad in (b"\xff", b"\xc3", b"\xe2\x82"):
        for at in range(text.index("[", begin) + 1, len(text) - 1, 89):
            path.write_bytes(text[:at].encode() + bad + text[at:].encode())
            with pytest.raises(ProgramError, match=rf"bytes: .*text that is not UTF-8 at byte {at}, {whole_before_the_end(text[:at])}$"):
                read(path, is_general=is_general)


@with_and_without
@pytest.mark.parametrize("piece", [3, 1000, 1 << 20])
def test_characters_of_several_bytes_may_be_cut_anywhere(
    piece: int, is_general: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(textstream, "PIECE_BYTES", piece)
    notes = [c * n for c in "\u00e9\u20ac\U0001f600" for n in (1, 2, 255, 256, 341, 342, 511, 512, 600)]
    lists = {0: [{"op": "lldi", "len": len(note), "note": "x" * at + note} for at in range(4) for note in notes]}
    path = tmp_path / "program.json"
    path.write_text(json.dumps(document(lists, GROUPS, 3), ensure_ascii=False), encoding="utf-8")
    assert table(read(path, is_general=is_general))[:1] == expected(lists, 1)


def unpacked_before_the_fault(data: bytes) -> bytes:
    """What a damaged file still yields, byte by byte."""
    unpacker, found = zlib.decompressobj(47), b""
    try:
        for at in range(len(data)):
            found += unpacker.decompress(data[at : at + 1], 1)
            while piece := unpacker.decompress(unpacker.unconsumed_tail, 1):
                found += piece
    except zlib.error:
        pass
    return found


def json_before_the_fault(data: bytes) -> str:
    """The text up to the first byte that is no text, or no JSON."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        text = data[: error.start].decode()
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return text[: error.pos]
    return text


def packed_densely() -> bytes:
    """A file in which one byte holds several hundred characters and the head of the next part."""
    packer = zlib.compressobj(9)
    return packer.compress(b"x" * 3000) + packer.flush(zlib.Z_SYNC_FLUSH) + packer.compress(_GOOD.encode()) + packer.flush()


@pytest.mark.parametrize(
    ("packed", "places"),
    [(gzip.compress(_GOOD.encode(), mtime=0), range(20, 400, 9)), (packed_densely(), range(packed_densely().index(b"\0\0\xff\xff") + 1))],
    ids=["program", "densely"],
)
def test_all_is_unpacked_that_comes_before_the_damage(packed: bytes, places: range, tmp_path: Path) -> None:
    path, faults = tmp_path / "damaged.gz", 0
    for at, change in itertools.product(places, (1, 2, 4, 8, 16, 32, 64, 128, 6, 12, 24, 48, 96)):
        data = bytearray(packed)
        data[at] ^= change
        path.write_bytes(data)
        found = b""
        try:
            for piece in textstream.pieces(path):
                found += piece
        except textstream.TextError as fault:
            faults += "data check" not in str(fault)  # seen before the end
            assert found == unpacked_before_the_fault(bytes(data))
    assert faults > 20


@with_and_without
@pytest.mark.parametrize("level", [0, 6])
def test_a_damaged_file_names_the_last_instruction_that_is_whole(level: int, is_general: bool, tmp_path: Path) -> None:
    text = json.dumps(document(random_lists(random.Random(10), 3, 300), GROUPS, 3))
    begin = text.index('"core1": [{') + 12
    packed, path, placed = gzip.compress(text.encode(), level, mtime=0), tmp_path / "damaged.gz", 0
    for at in range(60, len(packed) - 8, len(packed) // 60):
        data = bytearray(packed)
        data[at] ^= 0x55
        path.write_bytes(data)
        whole = json_before_the_fault(unpacked_before_the_fault(bytes(data)))
        with pytest.raises(
            ProgramError, match=r"damaged\.gz: .*(file is damaged|it was cut off).*; copy it again$|damaged, copy it"
        ) as caught:
            read(path, is_general=is_general)
        if re.search(r"instruction \d+(:| \()", str(caught.value)):
            continue  # what is left is JSON, but an instruction of it is wrong
        if whole.startswith(text[:begin]):
            assert re.search(f", {whole_before_the_end(whole)}(;|$)", str(caught.value))
            placed += 1
    assert placed > 10


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match=r"nothing\.gz: cannot be read \(No such file or directory\)$"):
        read_program(tmp_path / "nothing.gz")


# Quirks and checks -------------------------------------------------------------------------------------------------


def test_without_its_quirks_missing_widths_and_loaded_registers_are_refused(tmp_path: Path) -> None:
    lists: dict[int, Sequence[dict[str, Any]]] = {0: [{"op": "lmv"}, *[{"op": "vrelu", "len": 4}] * 2]}
    path = write_program(tmp_path, lists)
    assert read_program(path).input_bits.tolist() == [0, 0, 0]
    with pytest.raises(ProgramError, match=r"core 0, instruction 1 \(vrelu\): no setbw before it on its core"):
        read_program(path, quirks=Quirks.none())
    path = write_program(tmp_path, {0: [SETBW, {"op": "sld", "rd": 1}, {"op": "lmv"}]})
    assert read_program(path).n_instructions == 1
    with pytest.raises(ProgramError, match="core 0, instruction 1: sld takes a register from global memory"):
        read_program(path, quirks=Quirks.none())


@pytest.mark.parametrize(
    ("instruction", "message"),
    [
        ({"op": "lldi", "rd": 1, "len": 97}, r"\(lldi\): bytes 4000 to 4097 of local memory found, which has 4096"),
        ({"op": "vrelu", "rd": 0, "rs1": 1, "len": 49}, r"\(vrelu\): bytes 4000 to 4098 of local memory found"),
        ({"op": "vvadd", "rs2": 1, "len": 49}, r"\(vvadd\): bytes 4000 to 4098 of local memory found"),
        ({"op": "send", "rd": 1, "rs1": 0, "core": 1, "size": 97}, r"\(send\): bytes 4000 to 4097 of local memory found"),
        (
            {"op": "mvmul", "rd": 2, "mbiw": 8},
            r"\(mvmul\): bytes -1 to 0 of local memory found, which begins at 0; correct what the register of that address is given$",
        ),
    ],
)
def test_an_address_outside_local_memory_is_named(instruction: dict[str, Any], message: str, tmp_path: Path) -> None:
    before = [{"op": "setbw", "ibiw": 16, "obiw": 8}, {"op": "sldi", "rd": 1, "imm": 4000}, {"op": "sldi", "rd": 2, "imm": -1}]
    lists = {0: [*before, instruction], 1: [{"op": "recv", "rd": 0, "core": 0, "size": 97}] if instruction["op"] == "send" else []}
    program, architecture = read_program(write_program(tmp_path, lists)), read_architecture(write_architecture(tmp_path))
    with pytest.raises(ProgramError, match=rf"program\.json: core 0, instruction 3 {message}"):
        check_addresses(program, architecture)
    check_addresses(read_program(write_program(tmp_path, {0: before})), architecture)


@pytest.mark.parametrize(
    ("peers", "sentence"),
    [
        ((1, 9), r"core 0, instruction 1 \(send\): core 9 found, which has no instructions"),
        ((1, 3), r"core 0, instruction 1 \(send\): core 3 found, which has no instructions"),
        ((1, 0), r"core 0, instruction 1 \(send\): core 0 found, which is the core itself; it would wait forever"),
    ],
)
def test_the_first_wrong_peer_is_named(peers: tuple[int, int], sentence: str, tmp_path: Path) -> None:
    lists = {0: [{"op": "send", "core": peer, "size": 4} for peer in peers], 1: [{"op": "recv", "core": 0, "size": 4}]}
    with pytest.raises(ProgramError, match=sentence):
        read_program(write_program(tmp_path, lists))


def test_messages_pair_in_order_of_their_path(tmp_path: Path) -> None:
    def send(core: int) -> dict[str, Any]:
        return {"op": "send", "core": core, "size": 4}

    def receive(core: int) -> dict[str, Any]:
        return {"op": "recv", "core": core, "size": 4}

    lists = {0: [send(1), send(2), send(1)], 1: [receive(0), receive(2), receive(0)], 2: [send(1), receive(0)]}
    partner = pair_messages(read_program(write_program(tmp_path, lists)))
    assert partner.tolist() == [3, 7, 5, 0, 6, 2, 4, 1]


@pytest.mark.parametrize("cut", [1, 2])
def test_lists_without_work_are_refused(cut: int, tmp_path: Path) -> None:
    """An empty list, or one of `setbw` alone, beside array groups: what would be written could not be loaded."""
    lists: dict[int, Sequence[dict[str, Any]]] = {0: [SETBW, {"op": "lldi", "len": 4}], 2: [SETBW, SETBW][cut:]}
    table, architecture = read_program(write_program(tmp_path, lists)), read_architecture(write_architecture(tmp_path))
    with pytest.raises(
        ProgramError, match=rf"program\.json: core 2 has a list of {2 - cut} instructions without one that is not scalar, which pimsim-nn"
    ):
        to_program(table, architecture, name="p", machine="m")


def test_a_program_without_any_list_is_refused(tmp_path: Path) -> None:
    table, architecture = read_program(write_program(tmp_path, {})), read_architecture(write_architecture(tmp_path))
    with pytest.raises(ProgramError, match=r"program\.json: no list of instructions found; give one core's at least, as section"):
        to_program(table, architecture, name="p", machine="m")


WAIT = {"op": "wait", "event_register": 0, "wait_value": 1}
SYNC = {"op": "sync", "core": 1, "event_register": 0}
LOOSE = "with len 1.5 read as 1"


def early(wait: str, value: int, register: int, sync: str) -> str:
    """The remark of a `wait` that may find too much."""
    place = wait if wait.endswith(")") else f"{wait} (wait)"
    return (
        f"{place} may find more than the {value} that it waits for in event register {register}, as {sync} (sync) need not come after it; "
        "pimsim-nn, which compares for equality, would wait forever then, and we go on"
    )


REMARKS: list[tuple[dict[int, list[dict[str, Any]]], list[str]]] = [
    ({0: [SETBW, {"op": "lldi", "len": 4}], 1: [SETBW, {"op": "vrelu", "len": 4}]}, []),
    ({0: [SETBW, {"op": "vrelu", "len": 1.5}]}, [f"core 0, instruction 1: vrelu {LOOSE}"]),
    ({0: [SETBW, {"op": "vrelu", "len": 4.0}]}, []),
    ({0: [SETBW, {"op": "lldi", "len": True}]}, ["core 0, instruction 1: lldi with len true read as 1"]),
    ({0: [SETBW, {"op": "sldi", "rd": 1, "imm": -2.5}, {"op": "lldi", "len": 4}]},
     ["core 0, instruction 1: sldi with imm -2.5 read as -2"]),
    ({0: [SETBW, {"op": "vrelu"}, {"op": "lmv", "size": 4}, {"op": "st", "size": 4}]},
     ["core 0, instruction 1 (vrelu) (and 1 more) works on nothing, as its len or size is 0 or missing"]),
    ({0: [{"op": "lldi", "len": 4}, {"op": "vrelu", "len": 4}, SETBW, {"op": "vrelu", "len": 4}]},
     ["core 0, instruction 1 (vrelu) comes before any setbw, so its elements have no bytes and it is nearly free"]),
    ({0: [SETBW, {"op": "send", "core": 1, "size": 256}], 1: [SETBW, {"op": "recv", "core": 0, "size": 128}]},
     ["core 0, instruction 1 (send) states another size than its recv; each end is timed by its own"]),
    ({0: [SETBW, {"op": "lldi", "len": 4}, {"op": "sldi"}]},
     ["a scalar instruction at the end of core 0; pimsim-nn would see no end of one pass and report latency 0"]),
    ({0: [SETBW, *[SYNC] * 3, {"op": "lldi", "len": 4}], 1: [SETBW, {"op": "lldi", "len": 4}]}, []),
    ({0: [SETBW, SYNC, SYNC, SYNC | {"event_register": 3}], 1: [SETBW, WAIT | {"wait_value": 2}, WAIT | {"event_register": 3}]}, []),
    ({0: [SETBW, SYNC, {"op": "recv", "core": 1, "size": 4}, SYNC],
      1: [SETBW, WAIT, {"op": "send", "core": 0, "size": 4}, WAIT]}, []),
    ({0: [SETBW, SYNC | {"core": 2}, WAIT | {"event_register": 2}, SYNC | {"core": 2}],  # core 0 knows of core 2 by core 1
      1: [SETBW, WAIT | {"event_register": 1}, SYNC | {"core": 0, "event_register": 2}],
      2: [SETBW, WAIT, SYNC | {"core": 1, "event_register": 1}, WAIT]}, []),
    ({0: [SETBW, WAIT, {"op": "send", "core": 1, "size": 4}, WAIT],  # core 1 comes to its recv last
      1: [SETBW, SYNC | {"core": 0}, WAIT | {"event_register": 9}, {"op": "recv", "core": 0, "size": 4}, SYNC | {"core": 0}],
      2: [SETBW, SYNC | {"event_register": 9}]}, []),
    ({0: [SETBW, SYNC, {"op": "wait", "event_register": 9, "wait_value": 1}, SYNC, SYNC],
      1: [SETBW, WAIT, {"op": "sync", "core": 0, "event_register": 9}, WAIT | {"wait_value": 2}]}, []),
    ({0: [SETBW, SYNC, {"op": "recv", "core": 1, "size": 4}, SYNC],
      1: [SETBW, {"op": "send", "core": 0, "size": 4}, WAIT, WAIT]}, [early("core 1, instruction 2", 1, 0, "core 0, instruction 3")]),
    ({0: [SETBW, SYNC, SYNC], 1: [SETBW, WAIT, WAIT]}, [early("core 1, instruction 1", 1, 0, "core 0, instruction 2")]),
    ({0: [SETBW, {"op": "sync", "core": 1, "event_register": 2}] + [SYNC | {"event_register": 3}] * 3,
      1: [SETBW, WAIT | {"event_register": 2}, WAIT | {"event_register": 3}]},
     [early("core 1, instruction 2", 1, 3, "core 0, instruction 3")]),
    ({0: [SETBW, *[SYNC | {"event_register": k} for k in (7, 7, 0, 7, 0)]],
      1: [SETBW, WAIT | {"wait_value": 0}, WAIT | {"event_register": 7}, WAIT | {"event_register": 7}]},
     [early("core 1, instruction 1 (wait) (and 1 more)", 0, 0, "core 0, instruction 3")]),
    ({0: [SETBW, SYNC | {"core": 2}], 1: [SETBW, SYNC | {"core": 2}], 2: [SETBW, WAIT | {"wait_value": 2}]}, []),
    ({0: [SETBW, SYNC | {"core": 2}], 1: [SETBW, SYNC | {"core": 2}], 2: [SETBW, WAIT, WAIT]},
     [early("core 2, instruction 1", 1, 0, "core 1, instruction 1"),
      "core 2, instruction 1 (wait) and others of its event register take sync of several cores in no order that the program states; we "
      "take them as they come when nothing else waits"]),
    ({0: [SETBW, SYNC | {"core": 2}], 1: [SETBW, SYNC | {"core": 2}], 2: [SETBW, WAIT]},
     [early("core 2, instruction 1", 1, 0, "core 1, instruction 1")]),
]  # fmt: skip


@with_and_without
@pytest.mark.parametrize(("lists", "expected_remarks"), REMARKS)
def test_what_is_hardly_meant_is_remarked(
    lists: dict[int, list[dict[str, Any]]], expected_remarks: list[str], is_general: bool, tmp_path: Path
) -> None:
    assert remarks(read(write_program(tmp_path, lists, cores=len(lists)), is_general=is_general)) == expected_remarks


def test_cores_without_a_list_are_remarked(tmp_path: Path) -> None:
    one = [SETBW, {"op": "lldi", "len": 4}]
    assert remarks(read_program(write_program(tmp_path, {0: one}, cores=2))) == ["no list for core 1, so no power is taken there"]
    assert remarks(read_program(write_program(tmp_path, {3: one}, cores=9))) == [
        "no list for cores 0, 1, 2 and 5 more, so no power is taken there"
    ]


@with_and_without
def test_remarks_name_core_and_instruction_and_only_the_first_are_shown(is_general: bool, tmp_path: Path) -> None:
    fill = [{"op": "lldi", "rd": k % 7, "len": 4} for k in range(300)]
    odd = [{"op": "vrelu", "len": 4 + k / 8, "rd": 1} for k in range(1, 6)]
    lists = {0: [SETBW, *fill, odd[0], *fill], 1: [SETBW, *fill, odd[1], odd[1], {"op": "sld"}, odd[2], *fill, *odd]}
    found = read(write_program(tmp_path, lists, cores=2), is_general=is_general)
    places = ((0, 301), (1, 301), (1, 304), (1, 608), (1, 609))
    said = [f"core {core}, instruction {n}: vrelu with len {4 + k / 8} read as 4" for k, (core, n) in enumerate(places, 1)]
    loaded = "core 1, instruction 303: sld writes 0 to register 0, whichever register it names"
    assert list(found.remarks) == [loaded, *said]
    assert remarks(found) == [loaded, *said[:2], "3 more like that"]


def test_remarks_keep_their_place_where_text_is_read_again(tmp_path: Path) -> None:
    """What looks like the end of an instruction within a string makes a block be read once more, one instruction at a time."""
    fill = [{"op": "lldi", "rd": k % 7, "len": 4} for k in range(300)]
    lists = {0: [SETBW, *fill, {"op": "vrelu", "len": 1.5}, *fill, {"op": "lldi", "len": 4, "note": "}, {"}, *fill]}
    found = read_program(write_program(tmp_path, lists, cores=1))
    assert list(found.remarks) == ["core 0, instruction 301: vrelu with len 1.5 read as 1"]
    assert table(found) == expected(lists, 1)
