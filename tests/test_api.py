"""The Python interface from a name, a file or a graph to a verified result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pimloom import api
from pimloom.errors import CapacityError, HardwareError, ModelError, PimloomError, UsageError
from pimloom.frontends import to_onnx
from pimloom.frontends.zoo import build, input_example
from pimloom.ir.builder import GraphBuilder
from pimloom.targets import Mode, Request


def test_run_gives_time_energy_and_verified_numbers() -> None:
    result = api.run("tiny_cnn", "toy", effort=0)
    assert result.verification is not None and result.verification.ok
    assert result.latency_cycles > 0 and result.energy_pj["crossbars"] > 0 and result.compile_s > 0


def test_values_print_as_a_line_and_results_draw_themselves_in_notebooks() -> None:
    compiled = api.compile("lenet", "puma", effort=0)
    result = compiled.simulate()
    for value, part in (
        (compiled.source, "12 nodes, image: float32[1,1,28,28] -> classifier.2: float32[1,10]"),
        (compiled.program, f"{compiled.program.n_rows} rows on 138 processors"),
        (compiled, "<Program 'lenet' for 'puma' (crossbar, latency, 1 sample)"),
        (result, "per sample, not executed"),
    ):
        assert part in repr(value)
        assert len(repr(value)) < 200
        assert "\n" not in repr(value)
    drawn = result._repr_html_()
    assert drawn is not None
    assert "slowest layers" in drawn


def test_sources_of_a_network_are_the_same(tmp_path: Path) -> None:
    graph = build("tiny_mlp")
    path = tmp_path / "tiny.onnx"
    path.write_bytes(to_onnx(graph).SerializeToString())
    programs = [api.compile(source, "toy", effort=0).program for source in ("tiny_mlp", graph, str(path), path)]
    assert all(np.array_equal(p.rows, programs[0].rows) for p in programs)
    example = input_example(graph)
    outputs = [next(iter(api.compile(s, "toy", effort=0).execute(example).values())) for s in (graph, path)]
    assert np.array_equal(*outputs)


def test_hardware_comes_from_a_preset_a_record_or_overrides() -> None:
    larger = api.hardware("toy", ["core.crossbars=16"])
    assert larger.core.crossbars == 16 and api.hardware(larger) is larger
    assert api.hardware("toy", {"core.crossbars": 16}) == larger


def test_batch_defaults_by_mode() -> None:
    assert api.compile("tiny_mlp", "toy", effort=0).program.samples == 1
    assert api.compile("tiny_mlp", "toy", effort=0, mode="throughput").program.samples == 8
    assert api.compile("tiny_mlp", "toy", effort=0, mode="throughput", batch=3).program.samples == 3


def test_saved_programs_run_alike(tmp_path: Path) -> None:
    compiled = api.compile("tiny_cnn", "toy", effort=0)
    path = tmp_path / "tiny.pim"
    compiled.save(path)
    loaded = api.load_compiled(path)
    assert loaded.simulate().cycles == compiled.simulate().cycles
    example = input_example(build("tiny_cnn"), 5)
    mine, theirs = compiled.execute(example), loaded.execute(example)
    assert all(np.array_equal(mine[v], theirs[v]) for v in mine)
    assert loaded.verify(example).ok


def test_outputs_are_near_the_float_network() -> None:
    compiled = api.compile("tiny_mlp", "toy", effort=0)
    assert compiled.source is not None
    for reference in ("graph", "auto", "none"):
        assert compiled.verify(reference=reference).ok


def test_the_reference_is_the_network_as_it_is_written() -> None:
    """Zeros around what is all negative are the maxima at the edge; an optimised reference pads with -inf instead."""
    pytest.importorskip("onnxruntime")
    b = GraphBuilder("padded")
    h = b.add("Conv", b.input("x", (1, 2, 8, 8)), b.seeded("w", (4, 2, 1, 1), std=0.1), b.constant("b", np.full(4, -3.0, np.float32)))
    h = b.add("Pad", h, pads=(0, 0, 1, 1, 0, 0, 1, 1))
    result = api.run(b.finish(b.add("MaxPool", h, kernel_shape=(3, 3), strides=(2, 2))), "toy", effort=0)
    assert result.verification is not None
    assert result.verification.reference == "onnxruntime"
    assert result.verification.ok


def test_same_arguments_same_program() -> None:
    one, two = (api.compile("tiny_cnn", "toy", effort=1, seed=4).program for _ in range(2))
    assert np.array_equal(one.rows, two.rows) and np.array_equal(one.dep_row, two.dep_row)


def test_more_effort_is_never_slower() -> None:
    cycles = [api.compile("tiny_cnn", "isaac", effort=effort).simulate().latency_cycles for effort in (1, 2)]
    assert cycles[1] <= cycles[0]


def test_progress_names_the_steps() -> None:
    said: list[str] = []
    api.compile("tiny_mlp", "toy", effort=0, progress=said.append)
    assert said[:2] == ["loading", "quantising"] and len(said) >= 3


def test_wider_codes_are_closer_to_the_float_network() -> None:
    errors = []
    for bits in (8, 16):
        compiled = api.compile("tiny_mlp", api.hardware("toy", ["core.crossbars=32"]), effort=0, weight_bits=bits, activation_bits=bits)
        example = input_example(build("tiny_mlp"))
        real = api.evaluate(build("tiny_mlp"), {v: a.astype(np.float32) for v, a in example.items()})
        errors.append(max(np.abs(compiled.execute(example)[v] - a).max() for v, a in real.items()))
    assert errors[1] < errors[0] / 10


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"mode": "fast"}, UsageError, "mode: 'fast' found, 'latency' or 'throughput' expected"),
        ({"weight_bits": 4}, UsageError, "weight_bits: 4 found, 8 or 16 expected"),
        ({"activation_bits": 7}, UsageError, "activation_bits: 7 found, 8 or 16 expected"),
        ({"effort": 9}, UsageError, "effort: 9 found, 0, 1, 2 or 3 expected"),
        ({"batch": -2}, UsageError, "batch: -2 found, at least 1 expected"),
        ({"shapes": {"x": (1, 2)}}, UsageError, "'tiny_mlp' is a network of the zoo with fixed shapes"),
    ],
)
def test_wrong_options_are_said(options: dict[str, object], error: type[PimloomError], match: str) -> None:
    with pytest.raises(error, match=match):
        api.compile("tiny_mlp", "toy", **options)  # pyright: ignore


def test_unknown_names_are_said() -> None:
    with pytest.raises(ModelError, match="no network is called 'tiny_mpl'; did you mean tiny_mlp"):
        api.compile("tiny_mpl", "toy")
    with pytest.raises(HardwareError, match="toyy"):
        api.compile("tiny_mlp", "toyy")


def test_network_without_work_is_said() -> None:
    b = GraphBuilder("empty")
    b.input("x", (1, 4))
    graph = b.finish(b.add("Relu", b.constant("c", np.ones((1, 4), np.float32))))
    with pytest.raises(ModelError, match="network 'empty': nothing is left to compute"):
        api.compile(graph, "toy")


def test_too_small_a_machine_is_said() -> None:
    with pytest.raises(CapacityError, match=r"crossbars: \d+ needed, 32 available on 'toy'"):
        api.compile("lenet", "toy")


def test_wrong_inputs_are_said() -> None:
    compiled = api.compile("tiny_mlp", "toy", effort=0)
    with pytest.raises(ModelError, match=r"input 'x': found shape \[1, 3\], expected \[1, 16\]"):
        compiled.execute({"x": np.zeros((1, 3), np.float32)})
    with pytest.raises(ModelError, match="input 'x' is missing; the network takes x"):
        compiled.execute({})
    with pytest.raises(ModelError, match="input 'z' is not one of the network's: x"):
        compiled.execute({"z": np.zeros((1, 16), np.float32)})


def test_request_rejects_what_no_target_can_do() -> None:
    with pytest.raises(UsageError, match="batch: 0 found"):
        Request(Mode.LATENCY, 0)
    with pytest.raises(UsageError, match="effort: -1 found"):
        Request(effort=-1)
