"""`--analog` on the command line: what it prints, what it writes, what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_cli import DOCUMENT, command, documented, done, key_paths, refused

from pimloom import api
from pimloom.cli.stored import ANALOG_KEYS, ANALOG_LAYER_KEYS, ANALOG_OUTPUT_KEYS
from pimloom.execute import Analog

RUN = ("run", "tiny_cnn", "-H", "toy", "--analog")
NOISY = ("--adc-bits", "6", "--adc-range", "0.25", "--cell-noise", "0.05", "--read-noise", "0.25")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("programs") / "tiny.npz")
    done("compile", "tiny_cnn", "-H", "toy", "-o", path)
    return path


def noted(*arguments: object) -> dict[str, Any]:
    return json.loads(done(*arguments, "--json", "-"))["notes"]["analog"]


def test_a_run_tells_its_error_and_what_was_clipped() -> None:
    out = done(*RUN, *NOISY)
    assert "numbers agree" in out  # the exact program is verified as ever
    assert re.search(r"^analog: 6-bit ADCs, step 1\.905 of 120; cell noise 0\.05, read noise 0\.25 LSB, seed 0$", out, re.MULTILINE)
    assert re.search(r"largest error [\d.]+ of [\d.]+, root mean square [\d.e-]+, SNR -?[\d.]+ dB", out)
    assert re.search(r"top-1 as on exact arrays: \d+ %", out)
    assert re.search(r"clipped: [1-9][\d,]* of \d[\d,]* conversions; layers nearest to it:\n    \w+: [\d.]+ %, largest sum \d{3} %", out)


def test_a_machine_with_bits_enough_is_exact() -> None:
    out = done(*RUN)
    assert "equal to exact arrays" in out
    assert re.search(r"clipped: 0 of \d[\d,]* conversions", out)
    assert "analog" not in done(*RUN[:-1])


def test_json_holds_what_python_gives() -> None:
    found = noted(*RUN, *NOISY, "--seed", "3")
    run = api.compile("tiny_cnn", "toy", seed=3).execute_analog(Analog(6, 0.25, 0.05, 0.25, seed=3))
    assert found == run.to_dict()
    assert sum(layer["clipped"] for layer in found["layers"]) > 0
    assert found != noted(*RUN, *NOISY, "--seed", "4")


def test_the_document_names_every_key_of_an_analog_run() -> None:
    data = json.loads(done(*RUN, *NOISY, "--json", "-"))
    produced = {key for key in key_paths({"analog": data["notes"]["analog"]}, "notes", frozenset()) if key.startswith("notes.analog")}
    assert produced == {key for key in documented() if key.startswith("notes.analog")}, DOCUMENT
    analog = data["notes"]["analog"]
    assert list(analog) == list(ANALOG_KEYS)
    assert [list(output) for output in analog["outputs"]] == [list(ANALOG_OUTPUT_KEYS)]
    assert {tuple(layer) for layer in analog["layers"]} == {tuple(ANALOG_LAYER_KEYS)}


def test_a_saved_result_shows_the_same_lines(tmp_path: Path) -> None:
    for options in ((), NOISY):
        path, page = tmp_path / "result.json", tmp_path / "page.html"
        out = done(*RUN, *options, "--json", path, "--report", page)
        shown = done("show", path)
        assert out[out.index("analog:") : out.index("\n\njson:")] == shown[shown.index("analog:") :].rstrip("\n")
        assert "adc_full_scale" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"adc_bits": "8"}, 'notes.analog: adc_bits: "8" found, a count expected'),
        ({"outputs": {}}, "notes.analog: outputs: {} found, a list expected"),
        ({"layers": [1]}, "notes.analog.layers[0]: 1 found, a mapping expected"),
        ({"layers": [{"name": "conv"}]}, "key 'conversions' is missing"),
        ([], "notes.analog: [] found, a mapping expected"),
    ],
)
def test_broken_results_are_refused(tmp_path: Path, change: Any, found: str) -> None:
    data = json.loads(done(*RUN, "--json", "-"))
    data["notes"]["analog"] = {**data["notes"]["analog"], **change} if isinstance(change, dict) else change
    path = tmp_path / "result.json"
    path.write_text(json.dumps(data))
    assert found in refused("show", path)


def test_programs_execute_and_verify_under_analog_conditions(program: str, tmp_path: Path) -> None:
    exact, analog = tmp_path / "exact.npz", tmp_path / "analog.npz"
    done("execute", program, "-o", exact)
    out = done("execute", program, "-o", analog, "--analog", *NOISY)
    assert "analog: 6-bit ADCs" in out
    (a,), (b,) = (np.load(path).values() for path in (exact, analog))
    figures = re.search(r"largest error ([\d.]+) of ([\d.]+)", out)
    assert figures
    assert float(figures[1]) == pytest.approx(np.abs(a - b).max(), rel=1e-3)
    assert float(figures[2]) == pytest.approx(np.abs(a).max(), rel=1e-3)
    verified = done("verify", program, "--analog", *NOISY)
    assert "verified: yes" in verified
    assert verified[verified.index("analog:") :].strip() == out[out.index("analog:") : out.index("output:")].strip()


def test_several_samples_are_compared_together(program: str, tmp_path: Path) -> None:
    graph = api.load_compiled(program).program.graph
    shape = graph.types[graph.inputs[0]].shape
    inputs = tmp_path / "inputs.npz"
    np.savez(inputs, **{graph.inputs[0]: np.random.default_rng(0).standard_normal((3, *shape))})
    one, three = (done("execute", program, "--analog", "--adc-bits", "5", *more) for more in ((), ("--input", inputs)))
    assert three.startswith("outputs for 3 samples")
    conversions = [int(re.search(r"of ([\d,]+) conversions", out)[1].replace(",", "")) for out in (one, three)]  # type: ignore[index]
    assert conversions[1] == 3 * conversions[0]
    assert re.search(r"top-1 as on exact arrays: (0|33\.33|66\.67|100) %", three)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--adc-bits", "8"), "--adc-bits: given without --analog, without which it has no effect; add --analog"),
        (("--cell-noise", "0"), "--cell-noise: given without --analog"),
        (("--analog", "--adc-bits", "0"), "--adc-bits"),
        (("--analog", "--adc-bits", "33"), "--adc-bits"),
        (("--analog", "--adc-range", "0"), "analog: adc_range: 0 found, a share above 0 expected"),
        (("--analog", "--adc-range", "-0.5"), "analog: adc_range: -0.5 found, a number from 0 to 1 expected"),
        (("--analog", "--cell-noise", "nan"), "analog: cell_noise: nan found, a number from 0 to 2 expected"),
        (("--analog", "--read-noise", "-1"), "analog: read_noise_lsb: -1.0 found, a number from 0 to 1e+06 expected"),
        (("--analog", "--cell-noise", "much"), "--cell-noise"),
    ],
)
def test_mistakes_end_in_a_sentence(program: str, options: tuple[str, ...], sentence: str) -> None:
    for start in (("run", "tiny_cnn", "-H", "toy"), ("execute", program), ("verify", program)):
        assert sentence in refused(*start, *options)


def test_analog_needs_execution() -> None:
    assert "--no-verify: given with --analog, which executes the program; give one of them" in refused(*RUN, "--no-verify")
    assert command(*RUN[:-1], "--no-verify")[0] == 0
