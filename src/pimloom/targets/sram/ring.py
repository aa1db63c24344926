"""The activation memory: inputs are laid one behind the other, and again from its start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np

from pimloom.errors import InternalError

Array = np.ndarray[Any, np.dtype[Any]]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A part of the activation memory that holds inputs of a product that is emitted.

    Attributes:
        start: first byte.
        stop: one past the last.
        rows: int64[k], the row that brought it and the last ones that read it.
    """

    start: int
    stop: int
    rows: Array


@final
@dataclass(frozen=True, slots=True)
class Placing:
    """Where the loads of a product put what they bring.

    Attributes:
        start: int64[l], first byte.
        load: int64[k], of k pairs: a load,
        gone: int64[k], and an earlier one of the same product whose inputs it overwrites.
        before: for each load that overwrites inputs of earlier products, those.
        left: loads whose inputs are still there at the end.
    """

    start: Array
    load: Array
    gone: Array
    before: dict[int, list[Piece]]
    left: list[int]


@final
class Ring:
    """What lies in the activation memory, over all products."""

    def __init__(self, size_bytes: int) -> None:
        """An empty memory."""
        self.size_bytes = size_bytes
        self._at = 0
        self._pieces: list[Piece] = []

    def place(self, sizes: list[int], steps: list[int]) -> Placing:
        """Room for the loads of a product, in their order.

        Args:
            sizes: bytes of each.
            steps: step for which each is loaded: loads of one step are there together.

        Raises:
            InternalError: a load that has no room beside those of its step.
        """
        starts: list[int] = []
        pairs: list[tuple[int, int]] = []
        before: dict[int, list[Piece]] = {}
        alive: list[tuple[int, int, int]] = []  # (start, stop, load)
        for load, (size, step) in enumerate(zip(sizes, steps, strict=True)):
            if size > self.size_bytes:
                raise InternalError(f"a piece of {size} bytes was planned for {self.size_bytes} bytes of activation memory")
            start = self._at if self._at + size <= self.size_bytes else 0
            stop = self._at = start + size
            gone = [one for one in alive if one[0] < stop and start < one[1]]
            if any(steps[one[2]] == step for one in gone):
                raise InternalError(f"inputs of step {step} do not fit the activation memory of {self.size_bytes} bytes")
            if gone:
                alive = [one for one in alive if not (one[0] < stop and start < one[1])]
                pairs += [(load, one[2]) for one in gone]
            if older := [piece for piece in self._pieces if piece.start < stop and start < piece.stop]:
                self._pieces = [piece for piece in self._pieces if piece not in older]
                before[load] = older
            alive.append((start, stop, load))
            starts.append(start)
        load, gone = np.array(pairs, np.int64).reshape(-1, 2).T
        return Placing(np.array(starts, np.int64), load, gone, before, [one[2] for one in alive])

    def keep(self, pieces: list[Piece]) -> None:
        """Notes what is left of a product's inputs, for the products behind it."""
        self._pieces += pieces


__all__ = ["Piece", "Placing", "Ring"]
