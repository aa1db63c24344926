"""The command line: what each command prints and writes, its exit codes, and its manners towards terminals and pipes."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import re
import resource
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import pimloom
from pimloom import api
from pimloom.cli import main, options, stored
from pimloom.cli.stored import BOUND_KEYS, LAYER_KEYS, RESULT_KEYS, VERIFY_KEYS
from pimloom.errors import CapacityError, InternalError, ModelError
from pimloom.frontends import to_onnx
from pimloom.frontends.zoo import ZOO, input_example
from pimloom.hardware import load_hardware, parse_hardware, preset_names, preset_text
from pimloom.ir.builder import GraphBuilder
from pimloom.result import SCHEMA_VERSION, Verification
from pimloom.targets import Mode

RUN = ("run", "tiny_mlp", "-H", "toy")
DOCUMENT = Path(__file__).parents[1] / "docs" / "json.md"


def command(*arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(a) for a in arguments])
    return code, out.getvalue(), err.getvalue()


def done(*arguments: object) -> str:
    """What a command prints that must succeed and say nothing on stderr."""
    code, out, err = command(*arguments)
    assert (code, err) == (0, ""), (code, err, out)
    return out


def refused(*arguments: object, code: int = 2) -> str:
    """The sentence of a command that must fail and leave stdout empty."""
    found, out, err = command(*arguments)
    assert (found, out) == (code, ""), (found, out, err)
    assert err.startswith("pimloom: ")
    assert err.count("\n") == 1
    return err


def as_json(*arguments: object) -> dict[str, Any]:
    return json.loads(done(*arguments, "--json", "-"))


# -- run -----------------------------------------------------------------------------------------------------------


def test_run_prints_what_a_person_wants_to_know() -> None:
    out = done("run", "tiny_cnn", "--hardware", "toy")
    for part in ("tiny_cnn on toy", "latency", "throughput", "energy per sample", "static", "utilisation", "lower bounds", "achieved",
                 "slowest layers", "conv1", "numbers agree", "bit exact", "onnxruntime", "compile"):  # fmt: skip
        assert part in out, part
    assert "\x1b" not in out  # no colours where stdout is no terminal
    assert all(len(line) <= 80 for line in out.splitlines())


def test_layers_prints_all_of_them() -> None:
    short, long = done("run", "tiny_cnn", "-H", "toy"), done("run", "tiny_cnn", "-H", "toy", "--layers")
    assert long.count("conv2") == short.count("conv2") + 1
    assert long.count("flatten") == short.count("flatten") + 1


def test_json_on_stdout_is_nothing_but_json() -> None:
    data = as_json(*RUN)
    assert data["schema_version"] == SCHEMA_VERSION
    assert (data["model"], data["hardware"], data["mode"], data["samples"]) == ("tiny_mlp", "toy", "latency", 1)
    assert data["verify"]["ok"] is True


def test_files_are_written_and_named(tmp_path: Path) -> None:
    files = {"json": "r.json", "report": "page.html", "trace": "run.pftrace", "save": "p.npz"}
    out = done(*RUN, *(part for option, name in files.items() for part in (f"--{option}", tmp_path / name)))
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(files.values())
    for option, name in files.items():
        assert f"{option}: {tmp_path / name}\n" in out
    result = json.loads((tmp_path / "r.json").read_text())
    assert "</html>" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert (tmp_path / "run.pftrace").stat().st_size > 100
    assert as_json("simulate", tmp_path / "p.npz")["latency_cycles"] == result["latency_cycles"]


def test_files_replace_older_ones_and_links_stay_links(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text("old")
    (tmp_path / "link.json").symlink_to("old.json")
    done(*RUN, "--no-verify", "--json", tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink()
    assert json.loads((tmp_path / "old.json").read_text())["model"] == "tiny_mlp"


def test_a_pipe_is_written_into_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    done(*RUN, "--no-verify", "--json", pipe)
    reader.join(timeout=10)
    assert json.loads(read[0])["model"] == "tiny_mlp"
    assert pipe.is_fifo()


@pytest.mark.parametrize("reference", ["graph", "onnxruntime", "none"])
def test_the_reference_can_be_chosen(reference: str) -> None:
    verify = as_json(*RUN, "--reference", reference)["verify"]
    assert verify["reference"] == reference
    assert verify["bit_exact"] is True
    assert (verify["max_abs_error"] > 0) == (reference != "none")


def test_no_verify_executes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pimloom.api.Interpreter", None)
    data = as_json(*RUN, "--no-verify")
    assert (data["verify"], data["execute_s"]) == (None, 0.0)


def test_modes_and_batches() -> None:
    assert as_json(*RUN, "--mode", "throughput", "--no-verify")["samples"] == 8
    data = as_json(*RUN, "--mode", "throughput", "--batch", "3", "--no-verify")
    assert (data["mode"], data["samples"]) == ("throughput", 3)
    assert [m.value for m in options.ModeName] == [m.value for m in Mode]


def test_the_machine_can_be_changed() -> None:
    def available(*options: str) -> int:
        return as_json(*RUN, "--no-verify", *options)["notes"]["crossbars_available"]

    assert available() == 4 * 8
    assert available("--set", "core.crossbars=16", "--set", "noc.hop_cycles=1") == 4 * 16
    link = {"bytes_per_cycle": 1, "latency_cycles": 9, "energy_pj_per_byte": 1.0, "static_mw": 1.0}
    changes = [part for key, value in link.items() for part in ("--set", f"chip_link.{key}={value}")]
    assert available(*changes, "--chips", "3") == 3 * 4 * 8


def test_bits_seed_and_effort_reach_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    original = api.compile

    def noting(*arguments: Any, **options: Any) -> Any:
        given.update(options)
        return original(*arguments, **options)

    monkeypatch.setattr("pimloom.api.compile", noting)
    done(*RUN, "--weight-bits", "16", "--activation-bits", "8", "--seed", "5", "--effort", "0", "--batch", "2", "--no-verify")
    wanted = {"weight_bits": 16, "activation_bits": 8, "seed": 5, "effort": 0, "batch": 2, "mode": "latency"}
    assert {name: given[name] for name in wanted} == wanted


def test_more_bits_take_more_crossbars() -> None:
    used = [as_json(*RUN, "--no-verify", "--weight-bits", bits)["notes"]["crossbars_used"] for bits in ("8", "16")]
    assert used[1] > used[0]


def test_equal_commands_give_equal_files(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        done("compile", "tiny_cnn", "-H", "toy", "--seed", "3", "-o", tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.fixture
def symbolic_model(tmp_path: Path) -> Path:
    weights = numpy_helper.from_array(np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("n", "length", 6))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], [weights],
    )  # fmt: skip
    path = tmp_path / "symbolic.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def test_shapes_of_an_onnx_file_can_be_given(symbolic_model: Path) -> None:
    assert "bind it with --shape x=1,N,6" in refused("run", symbolic_model, "-H", "toy")
    by_input = as_json("run", symbolic_model, "-H", "toy", "--shape", "x=1,5,6")
    by_symbol = as_json("run", symbolic_model, "-H", "toy", "--shape", "length=5")
    assert by_input["layers"] == by_symbol["layers"]
    assert by_input["layers"][0]["macs"] == 5 * 6 * 4
    assert by_input["verify"]["ok"] is True


def test_real_inputs_calibrate_and_verify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = np.random.default_rng(1).normal(size=(3, 1, 16)) * 40
    np.savez(tmp_path / "in.npz", x=samples)
    given: list[Any] = []
    original = api.compile

    def noting(*arguments: Any, **options: Any) -> Any:
        given.extend(options["calibration"])
        return original(*arguments, **options)

    monkeypatch.setattr("pimloom.api.compile", noting)
    data = as_json(*RUN, "--input", tmp_path / "in.npz")
    assert np.array_equal([g["x"] for g in given], samples.astype(np.float32))
    assert data["verify"]["ok"] is True
    assert data["verify"]["error_bound"] > 2 * as_json(*RUN)["verify"]["error_bound"]  # larger numbers, larger steps


def test_disagreeing_numbers_exit_with_1_after_the_table_and_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Verification("graph", False, 1.0, 1.0, 0.1, False)
    monkeypatch.setattr("pimloom.api.Compiled.verify", lambda *_, **__: wrong)
    code, out, err = command(*RUN, "--json", tmp_path / "r.json")
    assert (code, err) == (1, "")
    assert "slowest layers" in out
    assert "DIFFER" in out
    assert json.loads((tmp_path / "r.json").read_text())["verify"]["ok"] is False
    code, out, _ = command(*RUN, "--json", "-")
    assert code == 1
    assert json.loads(out)["verify"]["bit_exact"] is False


# -- saved programs ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def program_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "p.npz"
    out = done("compile", "tiny_mlp", "-H", "toy", "--mode", "throughput", "-o", path)
    assert re.search(r"program: tiny_mlp on toy, throughput, 8 samples; [\d,]+ rows on \d of 4 cores, \d+ crossbars\n", out)
    assert re.search(rf"output: {path} \([\d.]+ KiB, compiled in [\d.]+ s\)\n", out)
    return path


def test_a_saved_program_runs_as_the_compiled_one(program_file: Path, tmp_path: Path) -> None:
    fresh = as_json(*RUN, "--mode", "throughput", "--no-verify")
    saved = as_json("simulate", program_file)
    timeless = [{k: v for k, v in d.items() if k not in ("compile_s", "simulate_s")} for d in (fresh, saved)]
    assert timeless[0] == timeless[1]
    out = done("simulate", program_file, "--layers", "--report", tmp_path / "p.html", "--trace", tmp_path / "t")
    assert "not executed" in out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p.html", "t"]


def test_execute_gives_the_outputs_of_the_network(program_file: Path, tmp_path: Path) -> None:
    graph = api.load("tiny_mlp")
    samples = [input_example(graph, seed)["x"] for seed in range(3)]
    np.savez(tmp_path / "in.npz", x=np.stack(samples))
    out = done("execute", program_file, "--input", tmp_path / "in.npz", "-o", tmp_path / "out.npz")
    assert "outputs for 3 samples" in out
    (name,) = graph.outputs
    assert re.search(rf"{re.escape(name)} \[3, 1, 10\]: from -?[\d.]+ to [\d.]+, mean", out)
    with np.load(tmp_path / "out.npz") as found:
        for i, sample in enumerate(samples):
            expected = pimloom.load_compiled(program_file).execute({"x": sample})[name]
            assert np.array_equal(found[name][i], expected)
        reference = api.evaluate(graph, {"x": samples[0]})[name]  # the sample that the scales were chosen with
        assert np.abs(found[name][0] - reference).max() < 0.1 * np.abs(reference).max()


def test_integers_are_taken_as_real_inputs(program_file: Path, tmp_path: Path) -> None:
    """The codes of the first layer are int8: an int8 array of reals must not be taken for them."""
    whole = np.arange(-8, 8).reshape(1, 16)
    outputs: list[Any] = []
    for dtype in (np.int8, np.float64):
        np.savez(tmp_path / "in.npz", x=whole.astype(dtype))
        done("execute", program_file, "--input", tmp_path / "in.npz", "-o", tmp_path / "out.npz")
        with np.load(tmp_path / "out.npz") as found:
            outputs.append(found[found.files[0]])
    assert np.array_equal(outputs[0], outputs[1])


def test_verify_tells_whether_the_numbers_agree(program_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = done("verify", program_file)
    for part in ("program: tiny_mlp on toy", "well formed: yes", "equal to the quantised network, bit by bit", "verified: yes"):
        assert part in out
    out = done("verify", program_file, "--model", "tiny_mlp")
    assert re.search(r"against onnxruntime: largest difference [\d.e-]+ of [\d.]+, root mean square [\d.e-]+, bound [\d.e-]+", out)
    wrong = Verification("graph", False, 1.0, 1.0, 0.1, False)
    monkeypatch.setattr("pimloom.api.Compiled.verify", lambda *_, **__: wrong)
    code, out, err = command("verify", program_file)
    assert (code, err) == (1, "")
    assert "DIFFERENT from the quantised network" in out
    assert "verified: NO" in out


def test_verify_refuses_another_network(program_file: Path) -> None:
    said = refused("verify", program_file, "--model", "tiny_cnn")
    assert re.search(r"--model: inputs .* found, the program has \[\('x', \(1, 16\)\)\]; give the network it was compiled from", said)


# -- show ----------------------------------------------------------------------------------------------------------


def test_show_a_network(symbolic_model: Path) -> None:
    out = done("show", "tiny_mlp")
    assert out.startswith("graph tiny_mlp {\n")
    assert "Gemm" in out
    assert "int8" not in out
    quantised = done("show", "tiny_mlp", "--quantised", "-H", "toy")
    assert "int8[1,16]{scale=" in quantised
    assert "MatMul" in done("show", symbolic_model, "--shape", "length=3")
    assert done("show", "tiny_mlp", "--seed", "1") != out


def test_show_a_machine(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("inherits: toy\nchips: 1\ncore: {crossbars: 5}\n")
    assert "5 per core" in done("show", tmp_path / "m.yaml")
    assert done("show", "toy") == done("hardware", "show", "toy")


def test_show_a_program(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    done("compile", "tiny_cnn", "-H", "toy", "-o", path)
    whole, short, core = done("show", path), done("show", path, "--limit", "2"), done("show", path, "--core", "0")
    assert whole.startswith("program tiny_cnn")
    row = re.compile(r"^ +\d+: [a-z]+ ", re.MULTILINE)
    counts = [len(row.findall(text)) for text in (whole, short, core)]
    rows = pimloom.load_compiled(path).program.stream_ptr
    assert counts[0] == rows[-1]
    assert counts[1] == 2 * np.count_nonzero(np.diff(rows))
    assert counts[2] == rows[1] - rows[0]
    assert "--core: 4 found, 0 to 3 expected" in refused("show", path, "--core", "4")


def test_show_a_result_as_the_run_showed_it(tmp_path: Path) -> None:
    out = done("run", "tiny_cnn", "-H", "toy", "--json", tmp_path / "r.json", "--mode", "throughput")
    shown = done("show", tmp_path / "r.json")
    left_out = re.compile(r"( x[\d,]+|of [\d,]+ hold weights|\s)+")  # counts of parts are not in the JSON form

    def essence(text: str) -> list[str]:
        return [left_out.sub(" ", line) for line in text.split("\njson:")[0].splitlines() if "rms difference" not in line]

    same = [line for line in essence(shown) if line in essence(out)]
    assert len(same) >= 0.8 * len(essence(out))
    assert "numbers agree" in shown
    assert done("show", tmp_path / "r.json", "--layers").count("conv3") > shown.count("conv3")


def test_show_the_tables() -> None:
    ops = done("show", "ops")
    assert re.search(r"^Conv +linear +2\.\.3 +.*group=1", ops, re.MULTILINE)
    assert re.search(r"^Einsum .*equation!", ops, re.MULTILINE)
    assert "mvm" in done("show", "isa")


# -- hardware, models, warmup --------------------------------------------------------------------------------------


def test_hardware_commands(tmp_path: Path) -> None:
    listed = done("hardware", "list")
    assert all(re.search(rf"^{name} ", listed, re.MULTILINE) for name in preset_names())
    shown = done("hardware", "show", "toy", "--set", "core.crossbars=64")
    assert "64 per core" in shown
    assert parse_hardware(shown.split("\n\n", 1)[1]) == load_hardware("toy", ["core.crossbars=64"])
    assert done("hardware", "show", "isaac", "--source") == preset_text("isaac")
    (tmp_path / "m.yaml").write_text("inherits: puma\nclock_ghz: 2.0\n")
    assert "m.yaml: well formed\n" in done("hardware", "check", tmp_path / "m.yaml")
    assert json.loads(done("hardware", "schema"))["$defs"]["Crossbar"]["properties"]["rows"]


def test_all_faults_of_a_machine_are_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("inherits: toy\nchips: 0\nclock_ghz: -1\n")
    said = refused("hardware", "check", tmp_path / "m.yaml")
    assert "chips: found 0" in said
    assert "clock_ghz: found -1" in said


def test_models_commands(tmp_path: Path) -> None:
    listed = done("models")
    assert all(re.search(rf"^{name} ", listed, re.MULTILINE) for name in ZOO)
    assert re.search(r"^resnet18 +cnn +11\.7 M +1\.814 G ", listed, re.MULTILINE)
    told = done("models", "tiny_mlp", "-o", tmp_path / "m.onnx")
    for part in ("tiny_mlp: ", "parameters  1.586 k", "MACs        1.52 k", "source", "output: "):
        assert part in told
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]
    assert as_json("run", tmp_path / "m.onnx", "-H", "toy")["latency_cycles"] == as_json(*RUN)["latency_cycles"]


def test_models_too_large_for_one_file_keep_their_weights_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pimloom.frontends.onnx_write.INLINE_BYTES", 1000)
    done("models", "tiny_mlp", "-o", tmp_path / "m.onnx")
    names = sorted(p.name for p in tmp_path.iterdir())
    assert len(names) == 2
    assert "m.onnx" in names
    assert as_json("run", tmp_path / "m.onnx", "-H", "toy")["verify"]["ok"] is True


def test_warmup() -> None:
    assert re.fullmatch(r"ready in \d+\.\d s\n", done("warmup"))


def test_version_and_help() -> None:
    assert done("--version") == f"pimloom {pimloom.__version__}\n"
    out = done("--help")
    for name in ("run", "compile", "simulate", "execute", "verify", "show", "hardware", "models", "warmup"):
        assert re.search(rf"\b{name}\b", out)
    assert done() == out
    assert "--activation-bits" in done("run", "-h")


# -- the JSON document ---------------------------------------------------------------------------------------------


def key_paths(value: Any, path: str, names: frozenset[str]) -> set[str]:
    """Paths of all keys: `*` below keys in `names`, whose own keys are names, and [] for elements of lists."""
    if isinstance(value, list):
        return set().union(*(key_paths(item, f"{path}[]", names) for item in value))
    if not isinstance(value, dict):
        return set()
    found: set[str] = set()
    for key, inner in value.items():
        here = f"{path}.{'*' if path in names else key}".lstrip(".")
        found |= {here} | key_paths(inner, here, names)
    return found


def documented() -> dict[str, str]:
    """Key -> unit, from the tables of docs/json.md."""
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]+) \| ([^|]+) \|$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert all(meaning.strip() for _, _, meaning in rows)
    assert len({key for key, _, _ in rows}) == len(rows)
    return {key: unit.strip() for key, unit, _ in rows}


def test_the_document_names_every_key_and_no_other() -> None:
    named = frozenset(key.removesuffix(".*") for key in documented() if key.endswith(".*")) | {"bounds"}
    produced: set[str] = set()
    for extra in ((), ("--mode", "throughput")):
        produced |= key_paths(as_json("run", "tiny_cnn", "-H", "toy", *extra), "", named)

    def notes(keys: set[str]) -> set[str]:
        return {key for key in keys if key.startswith("notes.")}

    produced, described = produced - {"bounds.*"}, set(documented())
    assert produced - notes(produced) == described - notes(described)
    assert notes(produced) <= notes(described)  # some depend on what the compiler meets
    assert all(documented().values())


def test_units_in_the_document_are_those_in_the_names() -> None:
    for key, unit in documented().items():
        for suffix, expected in (("_cycles", "cycles"), ("_ns", "ns"), ("_s", "s"), ("_pj", "pJ"), ("_ghz", "GHz"), ("_bytes", "bytes")):
            if key.removesuffix(".*").endswith(suffix) and unit != "-":
                assert expected in unit, key
    assert f"describes version {SCHEMA_VERSION}." in DOCUMENT.read_text(encoding="utf-8")


def test_the_reader_of_results_knows_the_same_keys() -> None:
    data = as_json("run", "tiny_cnn", "-H", "toy")
    assert list(RESULT_KEYS) == list(data)
    assert [list(layer) for layer in data["layers"]] == [list(LAYER_KEYS)] * len(data["layers"])
    assert [list(bound) for bound in data["bounds"].values()] == [list(BOUND_KEYS)] * len(data["bounds"])
    assert list(VERIFY_KEYS) == list(data["verify"])


# -- errors and exit codes -----------------------------------------------------------------------------------------


def failing(monkeypatch: pytest.MonkeyPatch, fault: BaseException) -> None:
    def fail(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr("pimloom.api.compile", fail)


FAULTS = [
    (ModelError("node 'h': wrong"), "pimloom: node 'h': wrong\n"),
    (CapacityError("crossbars", 9, 4, "toy", "use more"), "pimloom: crossbars: 9 needed, 4 available on 'toy'; use more\n"),
    (ModelError("two faults:\n  one\n  two\n"), "pimloom: two faults: one; two\n"),
    (ModelError("a\x1b[2Jb\rc\u202ed"), "pimloom: a\\x1b[2Jb; c\\u202ed\n"),
    (ModelError(""), "pimloom: failed without a message\n"),
    (ModelError("x" * 9999), "pimloom: " + "x" * 1997 + "...\n"),
    (MemoryError(), "pimloom: memory is exhausted; use a smaller network, --batch 1, or a machine with more memory\n"),
    (RecursionError(), "pimloom: the input is nested too deeply to be read; simplify it\n"),
    (OSError(28, "No space left on device", "/tmp/f"),
        "pimloom: '/tmp/f' cannot be read or written (No space left on device); check the path, its permissions and the space left\n"),
    (InternalError("a table is empty"),
        "pimloom: internal error: a table is empty; this is a fault in pimloom, please report it with the model\n"),
    (TypeError("no way"),
        "pimloom: internal error: TypeError: no way; please report it with the model and the command, --debug shows where\n"),
    (EOFError("short"),
        "pimloom: internal error: EOFError: short; please report it with the model and the command, --debug shows where\n"),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "said"), FAULTS, ids=lambda value: type(value).__name__)
def test_every_fault_is_one_sentence_and_code_2(fault: BaseException, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, fault)
    code, out, err = command(*RUN, "--json", tmp_path / "r.json")
    assert (code, out, err.lstrip("\n")) == (2, "", said)
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_where(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, TypeError("no way"))
    for arguments in (("--debug", *RUN), (*RUN, "--debug")):
        code, _, err = command(*arguments)
        assert code == 2
        assert "Traceback (most recent call last)" in err
        assert err.splitlines()[-1].startswith("pimloom: internal error: TypeError: no way")


@pytest.mark.parametrize("step", ["pimloom.api.compile", "pimloom.api.Compiled.simulate", "pimloom.api.Compiled.save"])
def test_an_interrupted_command_writes_nothing(step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(step, interrupt)
    said = refused(*RUN, "--json", tmp_path / "r.json", "--save", tmp_path / "p.npz", code=130)
    assert said == "pimloom: interrupted; nothing was written\n"
    assert list(tmp_path.iterdir()) == []


def test_a_fault_in_the_last_file_leaves_none_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(self: object, path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device", str(path))

    (tmp_path / "r.json").write_text("old")
    monkeypatch.setattr("pimloom.api.Compiled.save", half)
    assert "No space left on device" in refused(*RUN, "--json", tmp_path / "r.json", "--save", tmp_path / "p.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]
    assert (tmp_path / "r.json").read_text() == "old"


def test_usage_faults_name_the_help() -> None:
    assert refused("run") == "pimloom: Missing argument 'MODEL'; `pimloom run --help` lists what can be given\n"
    assert "`pimloom hardware show --help`" in refused("hardware", "show")
    assert "No such option" in refused("run", "--frob", "x")


def test_numbers_that_are_not_finite_come_back_from_json() -> None:
    assert math.isnan(stored._float(None))
    assert stored._float(1e308) == math.inf
    assert stored._float(-(10**308)) == -math.inf


# -- terminals and pipes -------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_shown_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    out, err = io.StringIO(), Terminal()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        assert main(list(RUN)) == 0
    assert "\x1b[" in err.getvalue()
    assert any(step in err.getvalue() for step in ("loading", "mapping", "simulating", "executing"))
    assert "\x1b[" not in out.getvalue()
    assert command(*RUN)[2] == ""


def process(*arguments: str, script: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
    program = ["-c", script] if script else ["-m", "pimloom.cli"]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.run([sys.executable, *program, *arguments], text=True, timeout=60, check=False, **options)


def test_a_reader_that_leaves_is_no_fault() -> None:
    for arguments in (("show", "ops"), ("--help",), ("hardware", "list")):
        read, write = os.pipe()
        os.close(read)
        try:
            found = process(*arguments, stdout=write)
        finally:
            os.close(write)
        assert (found.returncode, found.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_behind_stdout_is_told() -> None:
    with open("/dev/full", "w") as full:
        found = process("show", "ops", stdout=full)
    assert found.returncode == 2
    assert "No space left on device" in found.stderr
    assert "Traceback" not in found.stderr


def test_no_bound_is_stated_for_integers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Which class is largest has no error that quantisation bounds; an output beside it has."""
    b = GraphBuilder("classes")
    y = b.add("MatMul", b.input("x", (1, 8)), b.seeded("w", (8, 4)))
    k = b.add("ArgMax", y, axis=1)
    for name, outputs in (("class", (k,)), ("both", (k, y))):
        (tmp_path / f"{name}.onnx").write_bytes(to_onnx(b.finish(*outputs)).SerializeToString())
        made = tmp_path / f"{name}.json"
        assert main(["run", str(tmp_path / f"{name}.onnx"), "--hardware", "toy", "--effort", "0", "--json", str(made)]) == 0
        said = " ".join(capsys.readouterr().out.split())
        assert main(["show", str(made)]) == 0
        again = " ".join(capsys.readouterr().out.split())
        bound = json.loads(made.read_text())["verify"]["error_bound"]
        if name == "class":
            assert bound is None
            assert "no bound is stated" in said
        else:
            assert 0 < bound < 1
            assert f"stated bound {bound:.3g}" in said
            assert f"stated bound {bound:.3g}" in again
        assert "inf" not in said.split("numbers agree")[1].split("compile")[0]


@pytest.mark.parametrize("signal_name", ["SIGINT", "SIGTERM"])
def test_a_signal_in_the_middle_of_the_work(signal_name: str, tmp_path: Path) -> None:
    script = (
        "import os, signal, sys, time\nimport pimloom.api, pimloom.cli\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored where the tests were started in the background
        f"def work(*_, **__):\n    os.kill(os.getpid(), signal.{signal_name})\n    time.sleep(20)\n"
        "pimloom.api.compile = work\nsys.exit(pimloom.cli.main())"
    )
    found = process(*RUN, "--json", str(tmp_path / "r.json"), script=script)
    assert found.stderr == "pimloom: interrupted; nothing was written\n"
    assert (found.returncode, found.stdout) == (130, "")
    assert list(tmp_path.iterdir()) == []


def test_colours_are_left_out_on_request(tmp_path: Path) -> None:
    done(*RUN, "--json", tmp_path / "r.json")
    colours = re.compile(r"\x1b\[[\d;]*3[0-7]")
    plain = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    coloured = process("show", str(tmp_path / "r.json"), env={**plain, "FORCE_COLOR": "1", "TERM": "xterm-256color"})
    assert colours.search(coloured.stdout)
    without = process("show", str(tmp_path / "r.json"), env={**plain, "FORCE_COLOR": "1", "TERM": "xterm-256color", "NO_COLOR": "1"})
    assert not colours.search(without.stdout)


def test_names_that_do_not_suit_the_terminal(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["größe→"])], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 4))],
        [helper.make_tensor_value_info("größe→", TensorProto.FLOAT, None)],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "m.onnx")
    found = process("show", str(tmp_path / "m.onnx"), env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert found.returncode == 0
    assert "Relu" in found.stdout


def test_help_answers_at_once() -> None:
    """Neither Numba nor ONNX nor NumPy are loaded for it; in CPU time, so that a busy machine does not fail the test."""
    script = (
        "import sys\nfrom pimloom.cli import main\nmain(['--help'])\n"
        "heavy = {'numba', 'onnx', 'numpy', 'pydantic', 'plotly'} & set(sys.modules)\nsys.exit(len(heavy))"
    )
    times: list[float] = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert process(script=script).returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) < 0.4
