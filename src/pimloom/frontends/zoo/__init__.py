"""The zoo: known networks built in code, with seeded weights that are made only when their numbers are needed.

`build("resnet18")` takes milliseconds and no memory for weights. Structure, parameter counts and multiply-accumulates
are those of the publications; the numbers are random, drawn so that activations keep their spread through the depth.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from pimloom.errors import ModelError
from pimloom.frontends.zoo import dense, inception, mobile, plain, resnet, transformer
from pimloom.frontends.zoo.model import Model, input_example
from pimloom.ir.graph import Graph

__all__ = ["ZOO", "Model", "build", "input_example"]

ZOO: Mapping[str, Model] = MappingProxyType(
    {
        **plain.MODELS,
        **resnet.MODELS,
        **inception.MODELS,
        **mobile.MODELS,
        **dense.MODELS,
        **transformer.MODELS,
    }
)
"""All known networks by name."""


def build(name: str, seed: int = 0) -> Graph:
    """The graph of a known network.

    Args:
        name: a key of `ZOO`.
        seed: decides the weights; the same seed gives the same bytes on every machine.

    Returns:
        A float32 graph whose weights are not materialised.

    Raises:
        ModelError: no network has this name, or the seed is negative.
    """
    if name not in ZOO:
        close = difflib.get_close_matches(name, ZOO, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(ZOO)}"
        raise ModelError(f"zoo: no network is called '{name}'; {hint}")
    if seed < 0:
        raise ModelError(f"zoo: seed {seed} found, an integer of at least 0 expected; choose another seed")
    return ZOO[name].build(seed)
