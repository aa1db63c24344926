"""Carries out a program in the order of its simulated times, all samples at once, and looks for races.

The interpreter runs the rows of a core in the order of the stream. The machine does not: it runs them out of order, samples
overlapping. If the dependencies of the rows are sufficient, then carrying out each instance at the moment when it starts, or
at the moment when it is done, gives the same numbers; and no two instances whose times overlap touch the same bytes, unless
both only read or both add to sums.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pimloom.execute import Interpreter
from pimloom.program import INSTRUCTIONS, OPCODES, Program
from pimloom.simulate import Times

Array = np.ndarray[Any, np.dtype[Any]]
Codes = Mapping[str, Array]
Access = tuple[tuple[str, int], str, Array]  # (memory, "read", "write" or "add", bytes)

_ADDS = frozenset(OPCODES[name] for name in ("mvm", "accumulate", "add_partial"))


class TimedOrder:
    """One program, its times and its inputs."""

    def __init__(self, program: Program, times: Times, inputs: Sequence[Codes]) -> None:
        """Takes one set of input codes per sample."""
        assert len(inputs) == program.samples == times.start.shape[1]
        self.program, self.times = program, times
        self._machine: Any = Interpreter(program)
        self._globals: list[list[Array]] = []
        self._mail: list[dict[int, bytes]] = [{} for _ in inputs]
        for sample in inputs:
            self._machine._start(sample)
            self._globals.append(self._machine._global)

    def run(self, *, by: str) -> list[dict[str, Array]]:
        """Carries out all instances in the order of their `start` or `done` times; rows of equal time backwards."""
        keys = self.times.start if by == "start" else self.times.done
        rows, samples = keys.shape
        order = sorted((int(keys[r, s]), -r, -s) for r in range(rows) for s in range(samples))
        for _, row, sample in order:
            self.step(-row, -sample)
        return [self._outputs(sample) for sample in range(samples)]

    def step(self, row: int, sample: int) -> None:
        """Carries out one instance."""
        self._focus(sample)
        self._machine._actions[int(self.program.rows["opcode"][row])](row)

    def _focus(self, sample: int) -> None:
        self._machine._global, self._machine._mail = self._globals[sample], self._mail[sample]

    def _outputs(self, sample: int) -> dict[str, Array]:
        self._focus(sample)
        return {value: self._machine._value(value) for value in self.program.graph.outputs}

    # Races -------------------------------------------------------------------------------------------------

    def races(self) -> list[str]:
        """Pairs of instances that touch the same bytes at the same time, the one writing; in words, ten at most."""
        events: list[tuple[int, int, int, int]] = []
        rows, samples = self.times.start.shape
        for row in range(rows):
            for sample in range(samples):
                events.append((int(self.times.start[row, sample]), 1, row, sample))
                events.append((int(self.times.done[row, sample]), 0, row, sample))
        active: dict[tuple[str, int], dict[tuple[int, int], list[tuple[str, Array]]]] = defaultdict(dict)
        found: list[str] = []
        seen: dict[tuple[int, int], list[Access]] = {}
        for time, begins, row, sample in sorted(events):
            me = (row, sample)
            if not begins:
                for memory, _, _ in seen.pop(me, []):
                    active[memory].pop(me, None)
                continue
            seen[me] = self._accesses(row, sample)
            for memory, how, at in seen[me]:
                for other, theirs in active[memory].items():
                    if other != me and any(_clash(how, at, kind, held) for kind, held in theirs):
                        found.append(f"cycle {time}: {self._name(me)} and {self._name(other)} meet in {memory}")
                active[memory].setdefault(me, []).append((how, at))
            if len(found) >= 10:
                break
        return found

    def _name(self, instance: tuple[int, int]) -> str:
        row, sample = instance
        record = self.program.rows[row]
        node = self.program.graph.nodes[record["node"]].name if record["node"] >= 0 else "-"
        return f"{INSTRUCTIONS[record['opcode']].name} (row {row}, sample {sample}, node {node})"

    def _memory(self, core: int) -> tuple[str, int]:
        return "core", 0 if self.program.hardware.shares_memory else core

    def _accesses(self, row: int, sample: int) -> list[Access]:
        """Carries out an instance and notes every byte that it touches."""
        found: list[Access] = []
        machine, is_adding = self._machine, int(self.program.rows["opcode"][row]) in _ADDS
        view, vectors, gathered, region = machine._view, machine._vectors, machine._gathered, machine._region_bytes
        how = ["add"]

        def noted_view(core: int, address: int, shape: tuple[int, ...], dtype: Any, strides: tuple[int, ...]) -> Array:
            starts = np.zeros((), np.int64)
            for n, stride in zip(shape, strides, strict=True):
                starts = np.add.outer(starts, np.arange(n) * stride)
            found.append((self._memory(core), how[0], _bytes(address + starts.ravel(), np.dtype(dtype).itemsize)))
            return view(core, address, shape, dtype, strides)

        def noted_vectors(row: int, field: str, dtype: Any) -> Array:
            how[0] = "read" if field != "dst" else "add" if is_adding else "write"
            made = vectors(row, field, dtype)
            how[0] = "add"
            return made

        def noted_gather(row: int, dtype: Any, fill: int) -> Array:
            record, item = self.program.rows[row], np.dtype(dtype).itemsize
            offsets = machine._pattern(int(record["pattern"]), item)
            starts = int(record["src1"]) + int(record["src1_step"]) * np.arange(int(record["count"]))
            at = (starts[:, None] + offsets[offsets >= 0] * item).ravel()
            found.append((self._memory(int(record["processor"])), "read", _bytes(at, item)))
            return gathered(row, dtype, fill)

        def noted_region(row: int, field: str) -> Array:
            record = self.program.rows[row]
            count, length = int(record["count"]), int(record["length"])
            step = int(record[f"{field}_step"]) if count > 1 else length
            at = (int(record[field]) + np.arange(count)[:, None] * step + np.arange(length)).ravel()
            memory = (f"region of sample {sample}", int(record["arg"]))
            found.append((memory, "read" if field == "src1" else "write", np.unique(at)))
            return region(row, field)

        hooks = {"_view": noted_view, "_vectors": noted_vectors, "_gathered": noted_gather, "_region_bytes": noted_region}
        vars(machine).update(hooks)
        try:
            self.step(row, sample)
        finally:
            for name in hooks:
                delattr(machine, name)
        return found + self._general_accesses(row, sample)

    def _general_accesses(self, row: int, sample: int) -> list[Access]:
        """What a node in global memory reads, and writes in the row that completes it."""
        record = self.program.rows[row]
        if int(record["opcode"]) == OPCODES["write_weights"] and record["src2"]:
            region = int(record["src2"]) - 1
            return [((f"region of sample {sample}", region), "read", np.arange(self.program.regions[region].size_bytes))]
        if int(record["opcode"]) != OPCODES["general"]:
            return []
        node, region_of = self.program.graph.nodes[record["node"]], self._machine._region_of
        sides: list[tuple[str, Iterable[str]]] = [("read", node.inputs)]
        if record["src2"] == 1:
            sides.append(("write", node.outputs))
        return [
            ((f"region of sample {sample}", region_of[value]), how, np.arange(self.program.regions[region_of[value]].size_bytes))
            for how, values in sides for value in values if value in region_of
        ]  # fmt: skip


def _bytes(starts: Array, item: int) -> Array:
    return np.unique((starts[:, None] + np.arange(item)).ravel())


def _clash(how: str, mine: Array, kind: str, theirs: Array) -> bool:
    if (how == kind and how != "write") or not mine.size or not theirs.size:
        return False
    if mine[-1] < theirs[0] or theirs[-1] < mine[0]:
        return False
    return bool(np.isin(mine, theirs, assume_unique=True).any())
