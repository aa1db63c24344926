"""Writes tables as programs that pimsim-nn runs: JSON, one core after the other, packed as it is written.

What pimsim-nn asks of a list beyond its grammar: `setbw` before anything else, no `nop`, and an instruction that is not
scalar at the end.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from pimloom.program.pimsim.assign import SPARE, Assignment, assign
from pimloom.program.pimsim.opcodes import BY_CODE, CODE
from pimloom.program.pimsim.table import PimsimProgram

_LEVEL: Final = 6
_PIECE: Final = 1 << 14
"""Instructions put together before they are packed."""

_NUMBERS: Final = ("length", "size", "group", "weight_bits", "peer", "event", "value", "offset", "selection")


def write_program(table: PimsimProgram, path: str | os.PathLike[str]) -> None:
    """Writes a table.

    The positions of the table are kept where that is possible: what registers do not need in issue slots is filled with a
    scalar instruction that changes nothing.

    Args:
        table: the program.
        path: the file, gzip. Equal tables give equal bytes.
    """
    with open(path, "wb") as raw, gzip.GzipFile("", "wb", _LEVEL, raw, mtime=0) as file:
        for text in _texts(table):
            file.write(text.encode("ascii"))


def _texts(table: PimsimProgram) -> Iterator[str]:
    ptr = table.group_ptr
    groups = {f"core{k}": table.group_crossbars[ptr[k] : ptr[k + 1]].tolist() for k in range(table.n_cores)}
    config = {"core_cnt": table.n_cores, "array_group_map": groups}
    yield f'{{"config":{json.dumps(config, separators=(",", ":"))}'
    for core in np.flatnonzero(table.is_present).tolist():
        yield f',\n"core{core}":['
        yield from _list(table, core)
        yield "]"
    yield "}\n"


def _list(table: PimsimProgram, core: int) -> Iterator[str]:
    """The list of one core, in pieces."""
    low, high = int(table.core_ptr[core]), int(table.core_ptr[core + 1])
    part = {name: getattr(table, name)[low:high] for name in ("opcode", "position", "low", "input_bits", "output_bits", *_NUMBERS)}
    chosen = assign(
        part["opcode"], np.stack([getattr(table, name)[low:high] for name in ("rd", "rs1", "rs2")], axis=1), part["low"],
        np.stack([part["input_bits"], part["output_bits"]], axis=1),
    )  # fmt: skip
    padding = table.scalars_before()[low:high] - chosen.scalars_before()
    texts: list[str] = []
    is_first = True
    for text in _instructions(part, chosen, np.maximum(padding, 0).tolist()):
        texts.append(text)
        if len(texts) == _PIECE:
            yield ("" if is_first else ",\n") + ",\n".join(texts)
            texts, is_first = [], False
    texts += [_NOTHING] * int(table.scalars_after()[core])
    if texts:
        yield ("" if is_first else ",\n") + ",\n".join(texts)


_NOTHING: Final = f'{{"op":"sldi","rd":{SPARE},"imm":0}}'
"""Fills an issue slot."""


def _instructions(part: dict[str, Any], chosen: Assignment, padding: list[int]) -> Iterator[str]:
    loads = list(zip(chosen.load_register.tolist(), chosen.load_value.tolist(), strict=True))
    bounds, sets_width = chosen.load_ptr.tolist(), chosen.sets_width.tolist()
    bits = list(zip(part["input_bits"].tolist(), part["output_bits"].tolist(), strict=True))
    rows = zip(part["opcode"].tolist(), chosen.register.tolist(), *(part[name].tolist() for name in _NUMBERS), strict=True)
    known: dict[Any, str] = {}
    for i, (code, registers, *numbers) in enumerate(rows):
        if sets_width[i]:
            yield f'{{"op":"setbw","ibiw":{bits[i][0]},"obiw":{bits[i][1]}}}'
        for _ in range(padding[i]):
            yield _NOTHING
        for register, value in loads[bounds[i] : bounds[i + 1]]:
            yield f'{{"op":"sldi","rd":{register},"imm":{value}}}'
        key = (code, *registers, *numbers)
        text = known.get(key)
        if text is None:
            text = known[key] = _text(code, registers, dict(zip(_NUMBERS, numbers, strict=True)))
        yield text


def _text(code: int, registers: list[int], numbers: dict[str, int]) -> str:
    """One instruction; fields that are 0 or not used are left out, as pimsim-nn takes 0 for them."""
    operation = BY_CODE[code]
    fields: dict[str, Any] = {"op": operation.name}
    fields |= {name: register for name, register in zip(("rd", "rs1", "rs2"), registers, strict=True) if register >= 0}
    fields |= {key: numbers[name] for key, name in (("len", "length"), ("size", "size"), ("mbiw", "weight_bits")) if numbers[name]}
    fields |= {
        key: numbers[name] for key, name in (("group", "group"), ("core", "peer"), ("event_register", "event")) if numbers[name] >= 0
    }
    if numbers["value"] or code == CODE["wait"]:
        fields["wait_value" if code == CODE["wait"] else "imm"] = numbers["value"]
    if numbers["offset"] or numbers["selection"]:
        fields["offset"] = {"offset_value": numbers["offset"], "offset_select": numbers["selection"]}
    return json.dumps(fields, separators=(",", ":"))
