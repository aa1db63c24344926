"""Emission: instructions with their places in the global order, until they become the rows of a program."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import final

import numpy as np

from pimloom.program import ROW
from pimloom.program.rows import Array

FIELDS = ("opcode", "node", "dst", "src1", "src2", "dst_step", "src1_step", "src2_step", "length", "count", "arg", "pattern")


@final
@dataclass(frozen=True, slots=True)
class Table:
    """The rows of all cores, sorted, with what they wait for. Arrays are those of `Program`."""

    rows: Array
    stream_ptr: Array
    partner: Array
    dep_ptr: Array
    dep_row: Array
    dep_distance: Array


@final
@dataclass(slots=True)
class Emission:
    """Instructions so far.

    Attributes:
        cores: of each instruction.
        keys: of each instruction, its place in the global order.
        fields: of one instruction after the other, as in `FIELDS`.
        deps: instructions of the same sample that each waits for.
        back: instructions of the sample before that some wait for.
        partner: the other ends of messages.
    """

    cores: list[int] = field(default_factory=list[int])
    keys: list[float] = field(default_factory=list[float])
    fields: list[int] = field(default_factory=list[int])
    deps: list[list[int]] = field(default_factory=list[list[int]])
    back: defaultdict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    partner: dict[int, int] = field(default_factory=dict[int, int])

    def add(
        self, core: int, key: float, opcode: int, node: int, deps: list[int], *, dst: int = 0, src1: int = 0, src2: int = 0,
        dst_step: int = 0, src1_step: int = 0, src2_step: int = 0, length: int = 0, count: int = 1, arg: int = 0, pattern: int = -1,
    ) -> int:  # fmt: skip
        """Appends an instruction and returns its number."""
        self.cores.append(core)
        self.keys.append(key)
        self.fields += (opcode, node, dst, src1, src2, dst_step, src1_step, src2_step, length, count, arg, pattern)
        self.deps.append(deps)
        return len(self.deps) - 1

    def instructions(self) -> Iterator[tuple[int, ...]]:
        """The fields of each instruction."""
        return zip(*[iter(self.fields)] * len(FIELDS), strict=True)

    def pair(self, send: int, receive: int) -> None:
        """Makes a message of two instructions."""
        self.partner[send], self.partner[receive] = receive, send

    def table(self, cores: int, period: float) -> Table:
        """All instructions in the order of their cores.

        Args:
            cores: of the machine.
            period: time between samples; a place beyond n periods is stage n, and the order is that of what is left of it.
        """
        n = len(self.deps)
        core, key = np.array(self.cores, np.int64), np.array(self.keys, np.float64)
        lag = np.floor(key / period)  # 0 where the period is infinite
        within = key - lag * period if np.isfinite(period) else key
        order = np.lexsort((np.arange(n), within, core))
        number = np.empty(n, np.int64)
        number[order] = np.arange(n)
        fields = np.array(self.fields, np.int64).reshape(-1, len(FIELDS))[order]
        rows = np.zeros(n, ROW)
        for column, name in enumerate(FIELDS):
            rows[name] = fields[:, column]
        rows["processor"], rows["stage"] = core[order], lag[order]
        partner = np.full(n, -1, np.int32)
        partner[number[list(self.partner)]] = number[list(self.partner.values())]
        source, target, distance = self._edges()
        source, target = number[source], number[target]
        by_target = np.argsort(target, kind="stable")
        dep_ptr = np.zeros(n + 1, np.int32)
        np.cumsum(np.bincount(target, minlength=n), out=dep_ptr[1:])
        return Table(
            rows, np.searchsorted(core[order], np.arange(cores + 1)), partner, dep_ptr, source[by_target].astype(np.int32),
            distance[by_target],
        )  # fmt: skip

    def _edges(self) -> tuple[Array, Array, Array]:
        """Of every dependency: the instruction waited for, the one that waits, samples back."""
        parts: list[tuple[Array, Array, Array]] = []
        for distance, waiting, lists in (
            (0, np.arange(len(self.deps)), self.deps), (1, np.array(list(self.back), np.int64), list(self.back.values()))
        ):  # fmt: skip
            lengths = np.fromiter(map(len, lists), np.int64, len(lists))
            source = np.fromiter(itertools.chain.from_iterable(lists), np.int64, int(lengths.sum()))
            parts.append((source, np.repeat(waiting, lengths), np.full(source.size, distance, np.int32)))
        return tuple(np.concatenate(column) for column in zip(*parts, strict=True))  # pyright: ignore[reportReturnType]
