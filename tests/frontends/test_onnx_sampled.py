"""Regions of interest, deformable convolutions and computed branches: right numbers, exact programs, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from pimloom import api
from pimloom.errors import ModelError
from pimloom.frontends import load_onnx
from pimloom.hardware import load_hardware
from pimloom.ir.evaluate import evaluate

Array = Any
REGIONS = np.array([[0.5, 1.0, 9.0, 6.5], [-6.0, -9.0, 4.0, 5.0], [3.0, 3.0, 3.2, 3.1], [8.0, 2.0, 30.0, 12.0]], np.float32)


def reals(*shape: int, seed: int = 3) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def model(nodes: list[onnx.NodeProto], feeds: dict[str, Array], constants: dict[str, Array], opset: int = 19) -> onnx.ModelProto:
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, a.shape) for name, a in feeds.items()]
    held = [numpy_helper.from_array(np.asarray(a), name) for name, a in constants.items()]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "sampled", inputs, outputs, held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def assert_same(made: onnx.ModelProto, feeds: dict[str, Array], wanted: Array) -> None:
    found = evaluate(load_onnx(made), feeds)["y"]
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def regions(images: Array, owners: list[int], **attributes: Any) -> tuple[onnx.ModelProto, dict[str, Array]]:
    opset = attributes.pop("opset", 19)
    given = {"output_height": 3, "output_width": 2, "sampling_ratio": 2, "spatial_scale": 0.5, **attributes}
    node = helper.make_node("RoiAlign", ["x", "r", "owners"], ["y"], "heads", **given)
    feeds = {"x": images, "r": REGIONS}
    return model([node], feeds, {"owners": np.array(owners)}, opset), feeds


@pytest.mark.parametrize(("n_images", "owners"), [(1, [0, 0, 0, 0]), (3, [2, 0, 1, 2])])
@pytest.mark.parametrize("attributes", [{}, {"coordinate_transformation_mode": "output_half_pixel"}, {"opset": 13}, {"sampling_ratio": 3}])
def test_regions_give_what_onnx_runtime_gives(n_images: int, owners: list[int], attributes: dict[str, Any]) -> None:
    runtime = pytest.importorskip("onnxruntime")
    made, feeds = regions(reals(n_images, 5, 4, 6), owners, **attributes)
    session = runtime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    assert_same(made, feeds, session.run(None, feeds)[0])


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ({"sampling_ratio": 0}, r"node 'heads' \(RoiAlign\): sampling_ratio is 0 for 3 x 2 bins: .*; export with sampling_ratio=2"),
        ({"mode": "max"}, "mode 'max' is not supported; export the model with mode 'avg'"),
    ],
)
def test_regions_that_static_shapes_cannot_say_are_refused(attributes: dict[str, Any], text: str) -> None:
    with pytest.raises(ModelError, match=text):
        load_onnx(regions(reals(1, 2, 4, 6), [0] * 4, **attributes)[0])
    with pytest.raises(ModelError, match=r"images are .*, regions .* of images int64\[3\]; expected"):
        load_onnx(regions(reals(1, 2, 4, 6), [0] * 3)[0])


def deformed(group: int, offset_group: int, *, has_mask: bool, **window: Any) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """Four channels, a kernel of 3 by 2, and offsets of up to a few elements, some of them out of the image."""
    stride, (top, left, bottom, right), dilation = window["strides"], window["pads"], window["dilations"]
    height = (7 + top + bottom - 2 * dilation[0] - 1) // stride[0] + 1
    width = (6 + left + right - dilation[1] - 1) // stride[1] + 1
    feeds = {"x": reals(2, 4, 7, 6), "o": 1.5 * reals(2, offset_group * 12, height, width, seed=4)}
    names = ["x", "w", "o", "b"]
    if has_mask:
        feeds["m"] = reals(2, offset_group * 6, height, width, seed=6)
        names.append("m")
    node = helper.make_node("DeformConv", names, ["y"], "dcn", group=group, offset_group=offset_group, **window)
    return model([node], feeds, {"w": reals(8, 4 // group, 3, 2), "b": reals(8)}), feeds


WINDOWS = [
    {"strides": [1, 1], "pads": [1, 0, 1, 1], "dilations": [1, 1]},
    {"strides": [2, 1], "pads": [2, 1, 1, 1], "dilations": [1, 2]},
]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(("group", "offset_group"), [(1, 1), (2, 1), (1, 2), (2, 4)])
@pytest.mark.parametrize("has_mask", [False, True])
def test_deformable_convolutions_give_what_onnx_defines(group: int, offset_group: int, has_mask: bool, window: dict[str, Any]) -> None:
    made, feeds = deformed(group, offset_group, has_mask=has_mask, **window)
    assert_same(made, feeds, ReferenceEvaluator(made).run(None, feeds)[0])


def test_offsets_that_do_not_fit_are_refused() -> None:
    made, _ = deformed(1, 1, has_mask=False, **WINDOWS[0])
    made.graph.node[0].attribute.append(helper.make_attribute("offset_group", 2))
    del made.graph.node[0].attribute[1]
    with pytest.raises(ModelError, match=r"node 'dcn' \(DeformConv\): offsets are .*, expected 24 channels: two per place"):
        load_onnx(made)
    made, _ = deformed(1, 1, has_mask=False, **WINDOWS[0])
    made.graph.input[1].type.tensor_type.shape.dim[2].dim_value = 5
    with pytest.raises(ModelError, match="their size along axis 2 is not that of the output"):
        load_onnx(made)


@pytest.mark.parametrize("where", ["toy", "isaac"])
def test_programs_of_both_are_bit_exact(where: str) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "v"], ["o"], kernel_shape=[3, 2], pads=[1, 0, 1, 1]),
        helper.make_node("DeformConv", ["x", "w", "o"], ["h"], pads=[1, 0, 1, 1]),
        helper.make_node("RoiAlign", ["h", "r", "owners"], ["y"], output_height=2, output_width=2, sampling_ratio=2),
    ]
    feeds = {"x": reals(1, 3, 6, 6), "r": REGIONS}
    constants = {"v": 0.2 * reals(12, 3, 3, 2), "w": reals(4, 3, 3, 2, seed=8), "owners": np.zeros(4, np.int64)}
    graph = load_onnx(model(nodes, feeds, constants))
    machine = load_hardware(where, ("core.crossbars=64",) if where == "toy" else ())
    verdict = api.compile(graph, machine, effort=0, calibration=(feeds,)).verify(feeds, reference="graph")
    assert verdict.is_bit_exact
    assert verdict.details["y"]["rms_error"] <= verdict.details["y"]["rms_bound"]


def branching(then: list[int], otherwise: list[int]) -> onnx.ModelProto:
    """Where the sum of x is positive, x times 2 in one shape, else the negative of x in another one."""
    info = helper.make_tensor_value_info
    bodies: dict[str, Any] = {}
    for branch, op, shape in (("then_branch", "Add", then), ("else_branch", "Neg", otherwise)):
        held = [numpy_helper.from_array(np.array(shape), f"{branch}_shape")]
        inner = [
            helper.make_node(op, ["x"] * (2 if op == "Add" else 1), [f"{branch}_h"]),
            helper.make_node("Reshape", [f"{branch}_h", f"{branch}_shape"], [f"{branch}_y"]),
        ]
        bodies[branch] = helper.make_graph(inner, branch, [], [info(f"{branch}_y", TensorProto.FLOAT, None)], held)
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["s"], keepdims=1),
        helper.make_node("Greater", ["s", "zero"], ["c"]),
        helper.make_node("If", ["c"], ["y"], "fork", **bodies),
    ]
    return model(nodes, {"x": reals(2, 3)}, {"zero": np.zeros((1, 1), np.float32)})


def test_a_computed_condition_chooses_between_the_values_of_both_branches() -> None:
    graph = load_onnx(branching([3, 2], [3, 2]))
    x = np.abs(reals(2, 3))
    np.testing.assert_array_equal(evaluate(graph, {"x": x})["y"], 2 * x.reshape(3, 2))
    np.testing.assert_array_equal(evaluate(graph, {"x": -x})["y"], x.reshape(3, 2))


def test_branches_of_different_shapes_are_refused_where_the_condition_is_computed() -> None:
    with pytest.raises(ModelError, match=r"node 'fork' \(If\): its condition depends .*, and its branches make values of different"):
        load_onnx(branching([3, 2], [6]))
