"""The CNNs inside the onnx wheel, whose weights one number fills, simplified."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import pytest

from pimloom.frontends import load_onnx
from pimloom.passes import simplify_pipeline

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


@pytest.mark.parametrize("path", sorted(LIGHT.glob("light_*.onnx")), ids=lambda path: path.stem)
def test_no_two_layers_share_their_weights(path: Path) -> None:
    """Equal weights that stand for others would put their layers on the same arrays."""
    simple = simplify_pipeline()(load_onnx(path))
    readers = Counter(node.inputs[1] for node in simple.nodes if node.op in ("Conv", "Linear"))
    assert readers
    assert {weight for weight, count in readers.items() if count > 1 and simple.types[weight].size > 4096} == set()


def test_a_normalisation_and_the_scaling_behind_it_are_one_operation() -> None:
    """`light_densenet121` has a Caffe Scale behind each of its 121 normalisations; every second follows a convolution."""
    simple = simplify_pipeline()(load_onnx(LIGHT / "light_densenet121.onnx"))
    counts = Counter(node.op for node in simple.nodes)
    assert (counts["Mul"], counts["Add"], counts["BatchNormalization"]) == (62, 62, 0)
