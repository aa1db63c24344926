"""Hostile input: each command ends in a result or in one sentence and code 2, soon, in little memory, leaving no file."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pimloom.cli import main
from pimloom.hardware import preset_text

MOST_SECONDS = 10.0
MOST_SENTENCE = 2100
NUMBERS = (0, 1, -1, 3, -2, 1000, 2**20, 2**31, 2**40, 2**62, -(2**63), 2**63 - 1)


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


def command(*arguments: object) -> Outcome:
    """Runs the command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    begun = time.monotonic()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(a) for a in arguments])
    assert time.monotonic() - begun < MOST_SECONDS, arguments
    return Outcome(code, out.getvalue(), err.getvalue())


def sentence(outcome: Outcome) -> str:
    """The one sentence of a refusal; fails if it is anything else."""
    assert outcome.code == 2, outcome
    assert outcome.out == "", outcome.out
    assert outcome.err.startswith("pimloom: "), outcome.err
    assert outcome.err.endswith("\n")
    assert outcome.err.count("\n") == 1, outcome.err
    assert outcome.err[:-1].isprintable()
    assert "Traceback" not in outcome.err
    assert "internal error" not in outcome.err, outcome.err
    assert 20 < len(outcome.err) < MOST_SENTENCE, outcome.err
    return outcome.err


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for outputs, with a check that nothing is left in it unless the test takes it away."""
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    yield outputs
    assert list(outputs.iterdir()) == []


def refused(folder: Path, *arguments: object) -> str:
    """Runs a command that must be refused and must leave nothing."""
    said = sentence(command(*arguments))
    assert list(folder.iterdir()) == [], "a refused command left a file"
    return said


# -- ONNX files ----------------------------------------------------------------------------------------------------


def info(name: str, shape: Any, dtype: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def model(nodes: list[onnx.NodeProto], inputs: Any = None, held: Any = None, output: str = "y", opset: int = 18) -> onnx.ModelProto:
    inputs = [info("x", (1, 2, 6, 6))] if inputs is None else inputs
    graph = helper.make_graph(nodes, "g", inputs, [info(output, None)], [numpy_helper.from_array(a, n) for n, a in (held or {}).items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def small_cnn() -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    return model(
        [
            helper.make_node("Conv", ["x", "w", "b"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c"], ["r"]),
            helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
            helper.make_node("Reshape", ["p", "to"], ["f"]),
            helper.make_node("Gemm", ["f", "v"], ["y"], transB=1),
        ],
        held={
            "w": rng.normal(size=(4, 2, 3, 3)).astype(np.float32),
            "b": rng.normal(size=4).astype(np.float32),
            "to": np.array([1, -1]),
            "v": rng.normal(size=(3, 36)).astype(np.float32),
        },
    )


CNN = small_cnn().SerializeToString()


def run_model(path: Path, folder: Path) -> str:
    """`loaded` or `refused`; a result must be whole and a refusal must leave nothing."""
    written = folder / "result.json"
    outcome = command("run", path, "-H", "toy", "--no-verify", "--json", written)
    if outcome.code == 0:
        assert json.loads(written.read_text())["latency_cycles"] > 0
        written.unlink()
        assert outcome.err == ""
        return "loaded"
    sentence(outcome)
    return "refused"


def mutated_bytes(content: bytes, rng: random.Random) -> bytes:
    data = bytearray(content)
    kind, place = rng.random(), rng.randrange(len(data))
    if kind < 0.25:
        return bytes(data[:place])
    if kind < 0.7:
        data[place] = rng.randrange(256)
    elif kind < 0.85:
        del data[place : place + rng.randrange(1, 9)]
    else:
        data[place:place] = rng.randbytes(rng.randrange(1, 9))
    return bytes(data)


def mutated_model(content: bytes, rng: random.Random) -> bytes:
    """The model with one meaning changed."""
    changed = onnx.ModelProto.FromString(content)
    graph = changed.graph
    node, tensor, kind = rng.choice(graph.node), rng.choice(graph.initializer), rng.randrange(8)
    if kind == 0 and node.attribute and node.attribute[0].ints:
        node.attribute[0].ints[rng.randrange(len(node.attribute[0].ints))] = rng.choice(NUMBERS)
    elif kind == 1:
        node.input[rng.randrange(len(node.input))] = rng.choice(["", "nowhere", "y", "x", "w", "f"])
    elif kind == 2:
        node.op_type = rng.choice(["Conv", "Loop", "If", "LSTM", "Expand", "Scan", "NoSuchOp", "ConvTranspose", "Softmax"])
    elif kind == 3:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(NUMBERS)
    elif kind == 4:
        tensor.data_type = rng.randrange(30)
    elif kind == 5:
        rng.choice(graph.input[0].type.tensor_type.shape.dim).dim_value = rng.choice(NUMBERS)
    elif kind == 6:
        graph.node.remove(node) if rng.random() < 0.5 else graph.node.append(node)
    else:
        tensor.raw_data = tensor.raw_data[: rng.randrange(len(tensor.raw_data))]
    return changed.SerializeToString()


@pytest.mark.parametrize(("mutate", "count", "least"), [(mutated_bytes, 120, 40), (mutated_model, 120, 80)])
def test_mutated_models_run_or_are_refused(mutate: Callable[..., bytes], count: int, least: int, tmp_path: Path, folder: Path) -> None:
    rng = random.Random(21)
    path = tmp_path / "m.onnx"
    results: list[str] = []
    for _ in range(count):
        path.write_bytes(mutate(CNN, rng))
        results.append(run_model(path, folder))
    assert results.count("refused") >= least
    assert results.count("loaded") >= 3


def external(location: str, offset: str = "0") -> onnx.ModelProto:
    broken = onnx.ModelProto.FromString(CNN)
    tensor = broken.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", "288")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return broken


def with_weights(value: float) -> onnx.ModelProto:
    changed = onnx.ModelProto.FromString(CNN)
    changed.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.full((4, 2, 3, 3), value, np.float32), "w"))
    return changed


def node(op: str, inputs: list[str], outputs: list[str], **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, outputs, **attributes)


IMAGE = np.ones((4, 2, 3, 3), np.float32)

# What is wrong -> (the model, a part of the sentence)
WRONG_MODELS: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "a cycle": (lambda: model([node("Add", ["x", "z"], ["y"]), node("Relu", ["y"], ["z"])]), "z"),
    "a cycle of one": (lambda: model([node("Add", ["x", "y"], ["y"])]), "y"),
    "defined twice": (lambda: model([node("Relu", ["x"], ["y"]), node("Abs", ["x"], ["y"])]), "y"),
    "undefined input": (lambda: model([node("Relu", ["q"], ["y"])]), "'q'"),
    "undefined output": (lambda: model([node("Relu", ["x"], ["z"])]), "'y'"),
    "unknown op": (lambda: model([node("Frobnicate", ["x"], ["y"])]), "Frobnicate"),
    "unknown domain": (lambda: model([node("Relu", ["x"], ["y"], domain="com.example")]), "com.example"),
    "no nodes": (lambda: model([]), "no nodes"),
    "channels differ": (lambda: model([node("Conv", ["x", "w"], ["y"])], [info("x", (1, 3, 6, 6))], {"w": IMAGE}), "y"),
    "kernel too large": (lambda: model([node("Conv", ["x", "w"], ["y"])], [info("x", (1, 2, 2, 2))], {"w": IMAGE}), "y"),
    "shapes that do not add": (lambda: model([node("Add", ["x", "w"], ["y"])], held={"w": IMAGE}), "y"),
    "matrices that do not fit": (
        lambda: model([node("MatMul", ["x", "w"], ["y"])], [info("x", (1, 7))], {"w": np.ones((8, 2), np.float32)}),
        "y",
    ),
    "text input": (lambda: model([node("Identity", ["x"], ["y"])], [info("x", (1,), TensorProto.STRING)]), "x"),
    "complex input": (lambda: model([node("Identity", ["x"], ["y"])], [info("x", (1,), TensorProto.COMPLEX64)]), "x"),
    "symbolic shape": (lambda: model([node("Relu", ["x"], ["y"])], [info("x", (1, "channels", 6, 6))]), "--shape x="),
    "no shape": (lambda: model([node("Relu", ["x"], ["y"])], [info("x", None)]), "--shape x="),
    "negative size": (lambda: model([node("Relu", ["x"], ["y"])], [info("x", (1, -4, 6, 6))]), "x"),
    "absurd size": (lambda: model([node("Relu", ["x"], ["y"])], [info("x", (2**31, 2**31))]), "x"),
    "absurd padding": (lambda: model([node("Conv", ["x", "w"], ["y"], pads=[2**30] * 4)], held={"w": IMAGE}), "y"),
    "absurd tiling": (lambda: model([node("Tile", ["x", "n"], ["y"])], held={"n": np.array([2**20] * 4)}), "y"),
    "absurd stride": (lambda: model([node("Conv", ["x", "w"], ["y"], strides=[0, -1])], held={"w": IMAGE}), "y"),
    "zero groups": (lambda: model([node("Conv", ["x", "w"], ["y"], group=0)], held={"w": IMAGE}), "y"),
    "old opset": (lambda: model([node("Relu", ["x"], ["y"])], opset=3), "opset 3"),
    "opset of the future": (lambda: model([node("Relu", ["x"], ["y"])], opset=9999), "opset 9999"),
    "data outside of the folder": (lambda: external("../../../../etc/passwd"), "w"),
    "data at an absolute path": (lambda: external("/etc/passwd"), "w"),
    "data in a missing file": (lambda: external("nowhere.bin"), "w"),
    "data at no number": (lambda: external("m.onnx", "x"), "w"),
    "data beyond the end": (lambda: external("m.onnx", str(2**60)), "w"),
    "NaN weights": (lambda: with_weights(float("nan")), "NaN"),
    "infinite weights": (lambda: with_weights(float("inf")), "finite"),
    "output is an input": (lambda: model([node("Relu", ["x"], ["z"])], output="x"), "g"),
    "too large for the machine": (
        lambda: model([node("Gemm", ["x", "w"], ["y"])], [info("x", (1, 512))], {"w": np.ones((512, 512), np.float32)}),
        "crossbars",
    ),
    "names that move the cursor": (lambda: model([node("Fro\x1b[2J\nb", ["x\r"], ["y"])]), "Fro"),
}


@pytest.mark.parametrize("case", WRONG_MODELS)
def test_a_wrong_model_is_told_in_a_sentence(case: str, tmp_path: Path, folder: Path) -> None:
    made, part = WRONG_MODELS[case]
    path = tmp_path / "m.onnx"
    path.write_bytes(made().SerializeToString())
    assert part in refused(folder, "run", path, "-H", "toy", "--json", folder / "r.json", "--save", folder / "p.npz")


def test_sums_that_overflow_do_not_pass_for_numbers(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(with_weights(3e38).SerializeToString())
    outcome = command("run", path, "-H", "toy")
    assert outcome.code == 1 or sentence(outcome)
    assert "numbers agree" not in outcome.out


@pytest.mark.parametrize("content", [b"", b"\0", b"not a model", b"\x08" * 999, b"\xff" * 99, b"PK\x03\x04", CNN[:-1] + b"\xff"])
def test_no_model_at_all(content: bytes, tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    for arguments in (("run", path), ("show", path), ("compile", path, "-o", folder / "p.npz")):
        assert "m" in refused(folder, *arguments)


def test_what_is_no_file(tmp_path: Path, folder: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    (tmp_path / "dir.onnx").mkdir()
    for name in ("pipe.onnx", "dir.onnx", "missing.onnx", "a/b.onnx", "\0.onnx", "x" * 5000 + ".onnx", "\udcff.onnx"):
        refused(folder, "run", f"{tmp_path}/{name}", "-H", "toy", "--json", folder / "r.json")
        refused(folder, "show", f"{tmp_path}/{name}")


# -- machines ------------------------------------------------------------------------------------------------------

WRONG_MACHINES = {
    "nothing": "",
    "a list": "[1, 2]",
    "a text": "isaac",
    "no YAML": "a: [",
    "a tab": "a:\n\t- b",
    "binary": "\0\1\2",
    "two": "a: 1\n---\nb: 2",
    "unknown key": "inherits: toy\nfrobs: 3",
    "unknown kind": "kind: quantum",
    "no kind": "chips: 1",
    "only a kind": "kind: crossbar",
    "kind is a list": "kind: [crossbar]",
    "inherits nothing": "inherits: nosuch",
    "inherits a number": "inherits: 3",
    "inherits itself": "inherits: m.yaml",
    "inherits a far file": "inherits: ../../../etc/passwd.yaml",
    "double key": "inherits: toy\nchips: 1\nchips: 2",
    "negative memory": "inherits: toy\ncore: {local_memory: {size_bytes: -64}}",
    "memory of nothing": "inherits: toy\ncore: {local_memory: {size_bytes: 0}}",
    "memory in words": "inherits: toy\ncore: {local_memory: {size_bytes: 16 KiB}}",
    "memory in floats": "inherits: toy\ncore: {local_memory: {size_bytes: 1.5}}",
    "endless memory": "inherits: toy\nglobal_memory: {size_bytes: 1e400}",
    "huge memory": f"inherits: toy\nglobal_memory: {{size_bytes: {2**70}}}",
    "a clock in words": "inherits: toy\nclock_ghz: fast",
    "no clock": "inherits: toy\nclock_ghz: 0",
    "a NaN clock": "inherits: toy\nclock_ghz: .nan",
    "an endless clock": "inherits: toy\nclock_ghz: .inf",
    "a clock in MHz": "inherits: toy\nclock_ghz: 1000 MHz",
    "a clock of true": "inherits: toy\nclock_ghz: true",
    "no chips": "inherits: toy\nchips: 0",
    "half a chip": "inherits: toy\nchips: 0.5",
    "minus a chip": "inherits: toy\nchips: -1",
    "chips as text": "inherits: toy\nchips: '2'",
    "a million chips": "inherits: toy\nchips: 1000000000",
    "a grid of nothing": "inherits: toy\nchip: {core_rows: 0}",
    "an endless grid": "inherits: toy\nchip: {core_rows: 99999999, core_cols: 99999999}",
    "core is a number": "inherits: toy\ncore: 3",
    "core is a list": "inherits: toy\ncore: [1]",
    "no core": "inherits: toy\ncore: null",
    "minus crossbars": "inherits: toy\ncore: {crossbars: -8}",
    "odd topology": "inherits: toy\nnoc: {topology: klein bottle}",
    "flits of nothing": "inherits: toy\nnoc: {flit_bytes: 0}",
    "negative energy": "inherits: toy\nnoc: {energy_pj_per_flit_hop: -1.0}",
    "odd weights": "inherits: toy\ncrossbar: {signed: maybe}",
    "no rows": "inherits: toy\ncrossbar: {rows: 0}",
    "cells of 99 bits": "inherits: toy\ncrossbar: {cell_bits: 99}",
    "no converters": "inherits: toy\ncrossbar: {adc_count: 0}",
    "odd precision": "inherits: toy\nprecision: {weight_bits: 7}",
    "precision of nothing": "inherits: toy\nprecision: {weight_bits: 0}",
    "no window": "inherits: toy\ncore: {issue: {window: 0}}",
    "odd order": "inherits: toy\ncore: {issue: {order: sideways}}",
    "an unquoted yes": "inherits: toy\ncrossbar: {pipelined: yes}",
    "code": "!!python/object/apply:os.system ['true']",
    "an alias bomb": "a: &a [x]\nb: &b [*a, *a]\nc: [*b, *b]",
    "deep": "a: " + "[" * 3000,
    "deep mappings": "{a: " * 3000,
    "long line": "inherits: " + "x" * 100_000,
    "no UTF-8": "inherits: \udcff\udcfe",
    "control characters": 'inherits: toy\n"\\e[2J": 1',
    "a date": "inherits: toy\nclock_ghz: 2020-01-01",
}


@pytest.mark.parametrize("case", WRONG_MACHINES)
def test_a_wrong_machine_is_told_in_a_sentence(case: str, tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_bytes(WRONG_MACHINES[case].encode("utf-8", "surrogateescape"))
    said = {
        refused(folder, *arguments)
        for arguments in (
            ("hardware", "check", path),
            ("show", path),
            ("run", "tiny_mlp", "-H", path, "--json", folder / "r.json"),
        )
    }
    assert len(said) == 1  # the same sentence wherever the file is used
    assert "m.yaml" in said.pop()


def test_mutated_machines_are_read_or_refused(tmp_path: Path, folder: Path) -> None:
    rng = random.Random(22)
    path = tmp_path / "m.yaml"
    codes: list[int] = []
    for _ in range(60):
        path.write_bytes(mutated_bytes(preset_text("toy").encode(), rng))
        outcome = command("hardware", "check", path)
        codes.append(outcome.code)
        assert outcome.code == 0 or sentence(outcome)
    assert codes.count(2) > 10


# -- options -------------------------------------------------------------------------------------------------------

RUN = ("run", "tiny_mlp", "-H", "toy")

# Arguments, and a part of the sentence
WRONG_OPTIONS: list[tuple[tuple[str, ...], str]] = [
    (("frobnicate",), "frobnicate"),
    (("--frobnicate",), "--frobnicate"),
    (("run",), "MODEL"),
    (("run", "a", "b"), "b"),
    (("run", "nosuchnet"), "nosuchnet"),
    (("run", ""), "directory"),
    (("run", "resnet19"), "resnet18"),
    (("run", "--", "--help"), "--help"),
    ((*RUN[:2], "-H", "nosuch"), "nosuch"),
    ((*RUN[:2], "-H", ""), "hardware"),
    ((*RUN[:2], "-H"), "-H"),
    ((*RUN[:2], "-H", "/etc/passwd"), "passwd"),
    ((*RUN, "--mode", "fast"), "fast"),
    ((*RUN, "--mode", ""), "mode"),
    ((*RUN, "--mode", "LATENCY"), "LATENCY"),
    ((*RUN, "--batch", "0"), "--batch"),
    ((*RUN, "--batch", "-1"), "--batch"),
    ((*RUN, "--batch", "1e3"), "--batch"),
    ((*RUN, "--batch", "99999999999"), "--batch"),
    ((*RUN, "--batch", "x"), "--batch"),
    ((*RUN, "--effort", "4"), "--effort"),
    ((*RUN, "--effort", "-1"), "--effort"),
    ((*RUN, "--effort", "1.5"), "--effort"),
    ((*RUN, "--seed", "-1"), "--seed"),
    ((*RUN, "--seed", "x"), "--seed"),
    ((*RUN, "--seed", str(2**80)), "--seed"),
    ((*RUN, "--weight-bits", "4"), "--weight-bits: 4 found, 8 or 16 expected"),
    ((*RUN, "--weight-bits", "0"), "--weight-bits"),
    ((*RUN, "--activation-bits", "-8"), "--activation-bits"),
    ((*RUN, "--activation-bits", "eight"), "--activation-bits"),
    ((*RUN, "--chips", "0"), "--chips"),
    ((*RUN, "--chips", "999999999"), "chips"),
    ((*RUN, "--chips", "x"), "--chips"),
    ((*RUN, "--reference", "oracle"), "oracle"),
    ((*RUN, "--set", "nokey"), "nokey"),
    ((*RUN, "--set", "=3"), "=3"),
    ((*RUN, "--set", "core.frobs=3"), "frobs"),
    ((*RUN, "--set", "core=3"), "core"),
    ((*RUN, "--set", "core.crossbars=-3"), "-3"),
    ((*RUN, "--set", "core.crossbars=x"), "core.crossbars"),
    ((*RUN, "--set", "core..crossbars=3"), "core..crossbars"),
    ((*RUN, "--set", "inherits=puma"), "inherits"),
    ((*RUN, "--set", "chips=[1"), "chips"),
    ((*RUN, "--set", "kind=hetero"), "hetero"),
    ((*RUN, "--set", "core.crossbars=" + "9" * 5000), "core.crossbars"),
    ((*RUN, "--set", "a" + ".a" * 3000 + "=1"), "a"),
    ((*RUN, "--set"), "--set"),
    ((*RUN, "--shape", "x"), "--shape x=1,3,224,224"),
    ((*RUN, "--shape", "x="), "x="),
    ((*RUN, "--shape", "=1,2"), "=1,2"),
    ((*RUN, "--shape", "x=1,,2"), "1,,2"),
    ((*RUN, "--shape", "x=1,-2"), "1,-2"),
    ((*RUN, "--shape", "x=1.5"), "1.5"),
    ((*RUN, "--shape", "x=9999999999999"), "9999999999999"),
    ((*RUN, "--shape", "x=²"), "²"),
    ((*RUN, "--shape", "x=1", "--shape", "x=2"), "twice"),
    ((*RUN, "--shape", "x=1,16"), "--shape"),
    ((*RUN, "--input", "nosuch.npz"), "nosuch.npz"),
    ((*RUN, "--input", "/"), "/"),
    ((*RUN, "--input", ""), "--input"),
    ((*RUN, "--no-verify=3"), "--no-verify"),
    ((*RUN, "--json"), "--json"),
    ((*RUN, "-x"), "-x"),
    (("compile", "tiny_mlp"), "--output"),
    (("compile", "tiny_mlp", "-H", "toy", "-o", ""), "folder"),
    (("simulate",), "PROGRAM"),
    (("simulate", "nosuch.npz"), "nosuch.npz"),
    (("simulate", "/"), "/"),
    (("simulate", ""), "file"),
    (("execute", "nosuch.npz"), "nosuch.npz"),
    (("verify", "nosuch.npz"), "nosuch.npz"),
    (("verify", "/dev/null"), "/dev/null"),
    (("show",), "THING"),
    (("show", "nosuch"), "nosuch"),
    (("show", ""), "show"),
    (("show", "resnet-18"), "did you mean resnet18"),
    (("show", "nosuch.yaml"), "nosuch.yaml"),
    (("show", "nosuch.npz"), "nosuch.npz"),
    (("show", "nosuch.json"), "nosuch.json"),
    (("show", "a.txt"), "a.txt"),
    (("show", "tiny_mlp", "--shape", "x=3"), "--shape"),
    (("show", "tiny_mlp", "--seed", "-2"), "--seed"),
    (("show", "tiny_mlp", "--quantised", "-H", "nosuch"), "nosuch"),
    (("hardware",), "command"),
    (("hardware", "frob"), "frob"),
    (("hardware", "show"), "NAME"),
    (("hardware", "show", "isaak"), "isaac"),
    (("hardware", "show", "isaak", "--source"), "isaac"),
    (("hardware", "show", "toy", "--set", "chips=none"), "chips"),
    (("hardware", "check"), "FILE"),
    (("hardware", "check", "/"), "/"),
    (("hardware", "check", "nosuch.yml"), "nosuch.yml"),
    (("hardware", "check", "/dev/zero.yaml"), "zero"),
    (("hardware", "schema", "x"), "x"),
    (("models", "lenett"), "lenet"),
    (("models", "lenet", "-o", "/nosuch/a.onnx"), "/nosuch"),
    (("models", "-o", "a.onnx"), "--output"),
    (("models", "lenet", "--seed", "-5"), "--seed"),
    (("models", ""), "''"),
    (("warmup", "now"), "now"),
]


@pytest.mark.parametrize(("arguments", "part"), WRONG_OPTIONS, ids=lambda value: " ".join(value)[:60] if isinstance(value, tuple) else "")
def test_a_wrong_option_is_told_in_a_sentence(arguments: tuple[str, ...], part: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert part in refused(folder, *arguments)


@pytest.mark.parametrize("option", ["--json", "--report", "--trace", "--save"])
def test_files_that_cannot_be_written_are_told_before_the_work(
    option: str, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_work(*_: object, **__: object) -> None:
        raise AssertionError("the network was compiled before the path was checked")

    monkeypatch.setattr("pimloom.api.compile", no_work)
    (tmp_path / "held").write_text("x")
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    paths = [
        folder,
        "",
        "/",
        f"{tmp_path}/nosuch/f",
        f"{tmp_path}/held/f",
        f"{folder}/{'x' * 300}",
        f"{folder}/a\0b",
        loop,
        "/proc/nosuch/f",
        ".",
    ]
    for path in paths:
        assert option in refused(folder, *RUN, option, path)


def test_files_are_not_written_over_what_is_read(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(CNN)
    (tmp_path / "link").symlink_to(path)
    for target in (path, tmp_path / "link", tmp_path / "." / "m.onnx"):
        assert "is the model itself" in refused(folder, "run", path, "-H", "toy", "--save", target)
    assert "is given to --json too" in refused(folder, *RUN, "--json", folder / "a", "--trace", folder / "a")
    assert path.read_bytes() == CNN


# -- inputs --------------------------------------------------------------------------------------------------------

SAMPLE = np.zeros((1, 16), np.float32)
WRONG_INPUTS: dict[str, tuple[Callable[[Any], object], str]] = {
    "no input": (lambda f: np.savez(f), "nothing found"),
    "another name": (lambda f: np.savez(f, z=SAMPLE), "arrays z found"),
    "one too many": (lambda f: np.savez(f, x=SAMPLE, z=SAMPLE), "arrays x, z found"),
    "another shape": (lambda f: np.savez(f, x=np.zeros((1, 17), np.float32)), "shape [1, 17], [1, 16] is expected"),
    "another rank": (lambda f: np.savez(f, x=np.zeros(16, np.float32)), "shape [16]"),
    "a scalar": (lambda f: np.savez(f, x=np.float32(3)), "shape []"),
    "no samples": (lambda f: np.savez(f, x=np.zeros((0, 1, 16))), "shape [0, 1, 16]"),
    "NaN": (lambda f: np.savez(f, x=np.full((1, 16), np.nan)), "NaN or infinity"),
    "infinity": (lambda f: np.savez(f, x=np.full((1, 16), np.inf)), "NaN or infinity"),
    "text": (lambda f: np.savez(f, x=np.full((1, 16), "a")), "<U1"),
    "complex": (lambda f: np.savez(f, x=np.zeros((1, 16), complex)), "complex128"),
    "objects": (lambda f: np.savez(f, x=np.full((1, 16), None), allow_pickle=True), "object"),
    "not zipped": (lambda f: np.save(f, SAMPLE), "it cannot be read"),
    "no bytes": (lambda f: f.write(b""), "it cannot be read"),
    "noise": (lambda f: f.write(random.Random(1).randbytes(500)), "it cannot be read"),
    "no array": (lambda f: zipfile.ZipFile(f, "w").writestr("x.npy", b"hello"), "it cannot be read"),
    "a giant header": (lambda f: zipfile.ZipFile(f, "w").writestr("x.npy", npy_header((2**40, 1, 16))), "elements of float32"),
    "a header without numbers": (lambda f: zipfile.ZipFile(f, "w").writestr("x.npy", npy_header((1, 16))), "it cannot be read"),
}


def npy_header(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return file.getvalue()


@pytest.mark.parametrize("case", WRONG_INPUTS)
def test_a_wrong_input_is_told_in_a_sentence(case: str, tmp_path: Path, folder: Path, program_file: Path) -> None:
    write, part = WRONG_INPUTS[case]
    path = tmp_path / "in.npz"
    with path.open("wb") as file:
        write(file)
    assert part in refused(folder, *RUN, "--input", path, "--save", folder / "p.npz")
    assert part in refused(folder, "execute", program_file, "--input", path, "-o", folder / "out.npz")
    assert part in refused(folder, "verify", program_file, "--input", path)


def test_truncated_inputs_are_refused(tmp_path: Path, folder: Path, program_file: Path) -> None:
    whole = io.BytesIO()
    np.savez_compressed(whole, x=np.random.default_rng(0).normal(size=(3, 1, 16)).astype(np.float32))
    path = tmp_path / "in.npz"
    for size in range(0, len(whole.getvalue()), 23):
        path.write_bytes(whole.getvalue()[:size])
        assert "in.npz" in refused(folder, "execute", program_file, "--input", path)


# -- programs ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def program_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "p.npz"
    outcome = command("compile", "tiny_mlp", "-H", "toy", "-o", path)
    assert outcome.code == 0, outcome.err
    return path


COMMANDS: tuple[tuple[str, ...], ...] = (("simulate",), ("execute",), ("verify",), ("show",))


def test_truncated_programs_are_refused(program_file: Path, tmp_path: Path, folder: Path) -> None:
    content = program_file.read_bytes()
    path = tmp_path / "p.npz"
    for i in range(24):
        path.write_bytes(content[: len(content) * i // 24])
        assert "p.npz" in refused(folder, *COMMANDS[i % 4], path)


def test_mutated_programs_run_or_are_refused(program_file: Path, tmp_path: Path) -> None:
    content, rng = program_file.read_bytes(), random.Random(23)
    path = tmp_path / "p.npz"
    for i in range(60):
        path.write_bytes(mutated_bytes(content, rng))
        outcome = command(*COMMANDS[i % 4], path)
        assert outcome.code in (0, 1) or sentence(outcome)


def test_programs_with_mutated_members_run_or_are_refused(program_file: Path, tmp_path: Path) -> None:
    """The archive is whole and its checksums are right, but one number in it is another."""
    rng = random.Random(24)
    path = tmp_path / "p.npz"
    codes: list[int] = []
    with zipfile.ZipFile(program_file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for i in range(80):
        changed = dict(members)
        name = rng.choice(list(members))
        data = bytearray(changed[name])
        data[rng.randrange(len(data))] = rng.randrange(256)
        changed[name] = bytes(data)
        with zipfile.ZipFile(path, "w") as archive:
            for member, body in changed.items():
                archive.writestr(member, body)
        outcome = command(*COMMANDS[i % 3], path)
        codes.append(outcome.code)
        assert outcome.code in (0, 1) or sentence(outcome)
    assert codes.count(2) > 20


@pytest.mark.parametrize("case", ["arrays", "pickle", "bomb", "empty", "renamed model", "text"])
def test_foreign_programs_are_refused(case: str, tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "p.npz"
    if case == "arrays":
        np.savez(path, a=np.zeros(3))
    elif case == "pickle":
        np.savez(path, header=np.array([{"a": 1}], object), allow_pickle=True)
    elif case == "bomb":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("header.npy", npy_header((2**38,)) + b"\0" * 10**7)
    else:
        path.write_bytes({"empty": b"", "renamed model": CNN, "text": b"program tiny\n"}[case])
    for arguments in COMMANDS:
        assert "p.npz" in refused(folder, *arguments, path)


# -- results -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def result_file(program_file: Path) -> Path:
    path = program_file.with_name("r.json")
    assert command("simulate", program_file, "--json", path).code == 0
    return path


def changed(path: tuple[str | int, ...], value: Any) -> Callable[[Any], None]:
    """Puts a value at a path of keys; `...` takes the key away."""

    def change(data: Any) -> None:
        for key in path[:-1]:
            data = data[key]
        if value is ...:
            del data[path[-1]]
        else:
            data[path[-1]] = value

    return change


WRONG_RESULTS: list[tuple[tuple[str | int, ...], Any]] = [
    (("schema_version",), 2),
    (("schema_version",), ...),
    (("schema_version",), None),
    (("schema_version",), [1]),
    (("model",), ...),
    (("model",), 3),
    (("model",), None),
    (("samples",), "1"),
    (("samples",), -1),
    (("samples",), 1.5),
    (("samples",), True),
    (("cycles",), 2**70),
    (("rows",), None),
    (("clock_ghz",), 0),
    (("clock_ghz",), "1"),
    (("clock_ghz",), None),
    (("clock_ghz",), -1),
    (("energy_pj",), 3),
    (("energy_pj",), []),
    (("energy_pj", "static"), "x"),
    (("energy_pj", "static"), {}),
    (("utilisation",), None),
    (("busiest", "network"), [1]),
    (("waits_cycles",), ...),
    (("bounds",), []),
    (("bounds", "latency: dependency"), 3),
    (("bounds", "latency: dependency", "cycles"), "x"),
    (("bounds", "latency: dependency", "explanation"), ...),
    (("layers",), {}),
    (("layers", 0), 3),
    (("layers", 0), []),
    (("layers", 0, "name"), ...),
    (("layers", 0, "macs"), -1),
    (("layers", 0, "macs"), 1.5),
    (("layers", 0, "busy_cycles"), [1]),
    (("layers", 0, "busy_cycles"), {"a": "b"}),
    (("layers", 0, "copies"), None),
    (("verify",), 3),
    (("verify",), {}),
    (("verify",), {"ok": 1}),
    (("notes",), None),
    (("period_cycles",), "soon"),
]


@pytest.mark.parametrize(("path", "value"), WRONG_RESULTS, ids=str)
def test_a_wrong_result_is_told_in_a_sentence(
    path: tuple[str | int, ...], value: Any, result_file: Path, tmp_path: Path, folder: Path
) -> None:
    data = json.loads(result_file.read_text())
    changed(path, value)(data)
    (tmp_path / "r.json").write_text(json.dumps(data))
    said = refused(folder, "show", tmp_path / "r.json")
    assert "r.json" in said
    assert next(str(key) for key in reversed(path) if isinstance(key, str)).split(":")[0] in said


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "null", '"a"', "{}", '{"a": 1}', "[" * 100_000, '{"a":' * 50_000, "NaN", "\ufeff{}", "\0", "9" * 10_000]
)
def test_no_result_at_all(text: str, tmp_path: Path, folder: Path) -> None:
    (tmp_path / "r.json").write_text(text)
    refused(folder, "show", tmp_path / "r.json")


def test_mutated_results_are_shown_or_refused(result_file: Path, tmp_path: Path) -> None:
    content, rng = result_file.read_bytes(), random.Random(25)
    path = tmp_path / "r.json"
    codes: list[int] = []
    for _ in range(60):
        path.write_bytes(mutated_bytes(content, rng))
        outcome = command("show", path)
        codes.append(outcome.code)
        assert outcome.code == 0 or sentence(outcome)
    assert codes.count(2) > 10


# -- whole processes -----------------------------------------------------------------------------------------------

MOST_PEAK_BYTES = 2 * 10**9
MEASURED = """
import pathlib, resource, sys
from pimloom.cli import main
code = main(sys.argv[2:])
pathlib.Path(sys.argv[1]).write_text(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))
sys.exit(code)
"""


def process(folder: Path, *arguments: object, most_s: float = 40.0) -> tuple[Outcome, int]:
    """The outcome of a command in a process of its own, and that process's peak memory in bytes; killed when its time is over."""
    written = folder / "peak"
    child = subprocess.run(
        [sys.executable, "-c", MEASURED, written, *map(str, arguments)], capture_output=True, text=True, timeout=most_s, check=False
    )
    peak_bytes = int(written.read_text())
    written.unlink()
    return Outcome(child.returncode, child.stdout, child.stderr), peak_bytes


def nasty_models() -> dict[str, bytes]:
    weights = {"w": np.ones((4, 2, 3, 3), np.float32)}
    many = np.array([2**16] * 4)
    loop = helper.make_graph(
        [node("Add", ["v", "v"], ["u"]), node("Identity", ["c"], ["go"])],
        "body",
        [info("i", (), 7), info("c", (), 9), info("v", (2,))],
        [info("go", (), 9), info("u", (2,))],
    )
    return {
        "giant pads": model([node("Conv", ["x", "w"], ["y"], pads=[2**26] * 4)], held=weights).SerializeToString(),
        "giant tile": model([node("Tile", ["x", "many"], ["y"])], held={"many": many}).SerializeToString(),
        "endless loop": model(
            [node("Loop", ["n", "", "x"], ["y"], body=loop)], [info("x", (2,))], {"n": np.array(2**62)}
        ).SerializeToString(),
        "giant input": model([node("Relu", ["x"], ["y"])], [info("x", (2**20, 2**12))]).SerializeToString(),
        "noise": random.Random(3).randbytes(10**6),
    }


@pytest.mark.parametrize("case", ["giant pads", "giant tile", "endless loop", "giant input", "noise"])
def test_the_nastiest_models_in_a_process(case: str, tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(nasty_models()[case])
    outcome, peak_bytes = process(tmp_path, "run", path, "-H", "toy", "--json", folder / "r.json")
    sentence(outcome)
    assert peak_bytes < MOST_PEAK_BYTES
