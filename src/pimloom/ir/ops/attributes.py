"""What kind of value each attribute holds: one name means one kind, in every op."""

from __future__ import annotations

from typing import Any

import numpy as np

from pimloom.ir.graph import Node

_NAMES_BY_KIND = {
    "an integer": (
        "align_corners", "axis", "batch_dims", "block_size", "blocksize", "ceil_mode", "code_high", "code_low",
        "count_include_pad", "depth", "detect_negative", "detect_positive", "exclude_outside", "exclusive", "fmod",
        "group", "k", "keepdims", "largest", "num_groups", "p", "reverse", "select_last_index", "size", "sorted",
        "transA", "transB", "upper",
    ),
    "a number": (
        "alpha", "beta", "bias", "cubic_coeff_a", "epsilon", "extrapolation_value", "gamma", "lambd", "max", "min",
        "value",
    ),
    "a string": (
        "approximate", "coordinate_transformation_mode", "direction", "equation", "mode", "nearest_mode",
        "output_dtype", "padding_mode", "reduction", "to",
    ),
    "a list of integers": (
        "axes", "dilations", "ends", "kernel_shape", "output_padding", "pads", "perm", "repeats", "shape", "sizes",
        "starts", "steps", "strides",
    ),
    "a list of numbers": ("roi", "scales"),
}  # fmt: skip

KINDS = {name: kind for kind, names in _NAMES_BY_KIND.items() for name in names}

_CHOICES = {"approximate": ("none", "tanh")}


def attribute_faults(node: Node) -> list[str]:
    """One sentence for each attribute whose value is not of its kind; unknown names are not looked at."""
    faults: list[str] = []
    for name, value in node.attributes.items():
        kind = KINDS.get(name)
        if kind is not None and not _is(kind, value):
            faults.append(f"attribute '{name}' is {value!r}, {kind} expected")
        elif name in _CHOICES and value not in _CHOICES[name]:
            faults.append(f"attribute '{name}' is {value!r}; known: {', '.join(_CHOICES[name])}")
    return faults


def _is(kind: str, value: Any) -> bool:
    match kind:
        case "an integer":
            return isinstance(value, int | np.integer)
        case "a number":
            return isinstance(value, int | float | np.integer | np.floating)
        case "a string":
            return isinstance(value, str)
        case "a list of integers":
            return isinstance(value, tuple) and all(_is("an integer", v) for v in value)  # pyright: ignore[reportUnknownVariableType]
        case _:
            return isinstance(value, tuple) and all(_is("a number", v) for v in value)  # pyright: ignore[reportUnknownVariableType]
