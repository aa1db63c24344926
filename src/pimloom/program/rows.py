"""The instruction table: one structured row per instruction, and builders for it."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

ROW = np.dtype([
    ("dst", "i8"),  # byte addresses; the instruction says in which memory
    ("src1", "i8"),
    ("src2", "i8"),
    ("length", "i4"),  # elements or bytes of one repetition, as the instruction says
    ("count", "i4"),  # repetitions
    ("arg", "i4"),  # array group, region, first channel, ... as the instruction says
    ("pattern", "i4"),  # gather pattern of src1, -1 for contiguous
    ("processor", "i4"),
    ("node", "i4"),  # index of the graph node it works for, -1 for none
    ("dst_step", "i4"),  # bytes from one repetition to the next
    ("src1_step", "i4"),
    ("src2_step", "i4"),
    ("stage", "i2"),  # iterations this row lags behind
    ("opcode", "u1"),  # index into pimloom.program.isa.INSTRUCTIONS
    ("spare", "u1"),  # a row is one cache line
])  # fmt: skip
assert ROW.itemsize == 64

FIELDS: tuple[str, ...] = (
    "opcode", "stage", "processor", "node", "dst", "src1", "src2", "dst_step", "src1_step", "src2_step", "length", "count", "arg",
    "pattern",
)  # fmt: skip
"""What a row says, in the order of texts and files."""
DEFAULTS = {name: -1 if name in ("node", "pattern") else 0 for name in FIELDS} | {"count": 1}


MASKED = -1
"""Offset of a gather segment that is not read: the instruction fills in the code that stands for nothing."""


def ragged(lists: list[list[int]], dtype: str = "i4") -> tuple[Array, Array]:
    """CSR form of lists: (ptr int32[n + 1], values)."""
    ptr = np.zeros(len(lists) + 1, np.int32)
    np.cumsum([len(one) for one in lists], out=ptr[1:])
    return ptr, np.array([v for one in lists for v in one], dtype)
