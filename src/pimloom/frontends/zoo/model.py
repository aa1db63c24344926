"""The record of a known network, and the inputs that suit it."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np

from pimloom.ir.graph import Graph
from pimloom.ir.integer import encode
from pimloom.ir.types import TensorType

Array = np.ndarray[Any, np.dtype[Any]]
Family = Literal["cnn", "transformer", "mlp"]


@final
@dataclass(frozen=True, slots=True)
class Model:
    """A network that is built in code, with what was published about it.

    Attributes:
        name: what `build` and the command line call it; also the name of its graph.
        build: seed to Graph; the seed decides every weight.
        summary: one sentence for listings.
        source: the publication, and the implementation whose structure is followed.
        family: kind of network.
        tags: words to select networks by: "small" can be evaluated in well under a second, "tiny" is for tests.
        parameters: published number of trained parameters; None where nothing was published.
        macs: published multiply-accumulates of one inference at the input size used here; None likewise.
    """

    name: str
    build: Callable[[int], Graph]
    summary: str
    source: str
    family: Family
    tags: frozenset[str] = frozenset()
    parameters: int | None = None
    macs: int | None = None


def table(models: Iterable[Model]) -> dict[str, Model]:
    """Maps names to records."""
    return {model.name: model for model in models}


def input_example(graph: Graph, seed: int = 0) -> dict[str, Array]:
    """Random inputs that suit a network: standard normal reals, indices within the tables they select from.

    Images get structure at every size, as photographs have: of white noise, a global average pool would leave
    nothing, and a classifier would answer all images alike.

    Args:
        graph: any graph; a quantised input gets the codes of the reals that the float graph would get.
        seed: decides the numbers, together with each input's name.

    Returns:
        One array per graph input, of its shape and dtype.
    """
    return {name: _example(graph, name, seed) for name in graph.inputs}


def _example(graph: Graph, name: str, seed: int) -> Array:
    kind = graph.types[name]
    generator = np.random.Generator(np.random.Philox([seed, zlib.crc32(name.encode())]))
    if kind.dtype == "bool":
        return generator.integers(0, 2, kind.shape).astype(bool)
    if kind.quant is None and np.issubdtype(kind.dtype, np.integer):
        return generator.integers(0, _table_rows(graph, name, kind), kind.shape).astype(kind.dtype)
    reals = _image(generator, kind.shape) if kind.rank == 4 else generator.standard_normal(kind.shape)
    return reals.astype(kind.dtype) if kind.quant is None else encode(reals.astype(np.float32), kind)


def _image(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Sum of one noise per octave, of blocks of 1, 2, 4, ... pixels; each pixel is standard normal."""
    n, channels, height, width = shape
    n_octaves = max(height, width, 1).bit_length()
    total = np.zeros(shape)
    for octave in range(n_octaves):
        side = 1 << octave
        blocks = generator.standard_normal((n, channels, -(-height // side), -(-width // side)))
        total += blocks.repeat(side, axis=2).repeat(side, axis=3)[:, :, :height, :width]
    return total / math.sqrt(n_octaves)


def _table_rows(graph: Graph, name: str, kind: TensorType) -> int:
    """Rows of the smallest table that the indices select from; without one, what the integer type can hold."""
    rows = [_rows_of(graph.types[node.inputs[0]], node.attributes.get("axis", 0)) for node in graph.nodes
            if node.op == "Gather" and node.inputs[1] == name]  # fmt: skip
    return min(rows, default=min(int(np.iinfo(kind.dtype).max), 127) + 1)


def _rows_of(selected: TensorType, axis: object) -> int:
    return selected.shape[axis] if isinstance(axis, int) else selected.shape[0]
