"""`pimloom convert`: programs of pimsim-nn in and out, and what is said of broken ones."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from program.pimsim.pimsim_files import document, write_architecture, write_program
from program.pimsim.random_programs import random_lists
from test_cli import command

import pimloom
from pimloom.program import load_program, save_program
from pimloom.program.pimsim import Quirks

SETBW = {"op": "setbw", "ibiw": 8, "obiw": 8}
VECTOR = {"op": "vrelu", "rd": 1, "rs1": 0, "len": 16}
LISTS: dict[int, Sequence[dict[str, Any]]] = {
    0: [SETBW, {"op": "sldi", "rd": 1, "imm": 100}, VECTOR, {"op": "mvmul", "rd": 1, "rs1": 0, "mbiw": 8, "group": 1},
        {"op": "send", "rd": 1, "rs1": 1, "core": 1, "size": 16}],
    1: [SETBW, {"op": "recv", "core": 0, "size": 16}, {"op": "st", "rd": 2, "rs1": 0, "size": 16}],
}  # fmt: skip
SERIAL = {"chip_config.core_config.rob_size": 1}


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A program and its architecture."""
    return write_program(tmp_path, LISTS), write_architecture(tmp_path, SERIAL)


def convert(*arguments: object) -> tuple[int, str, str]:
    return command("convert", *arguments)


def test_import_and_simulate(files: tuple[Path, Path], tmp_path: Path) -> None:
    program, config = files
    code, out, err = convert(program, "--config", config, "-o", tmp_path / "p.npz")
    assert (code, err) == (0, "")
    assert "program on architecture · pimsim-nn · latency\n5 instructions beside scalar ones on 4 cores" in out
    code, out, err = command("simulate", tmp_path / "p.npz")
    assert (code, err) == (0, "")
    assert "program on architecture · pimsim · latency · 1 sample · 1 GHz" in out
    code, out, err = convert(program, "--config", config, "-o", tmp_path / "s.npz", "--mode", "throughput")
    assert code == 0
    steady, once = load_program(tmp_path / "s.npz"), load_program(tmp_path / "p.npz")
    assert (steady.mode, once.mode) == ("throughput", "latency")
    code, out, err = command("simulate", tmp_path / "s.npz")
    assert (code, err) == (0, "")
    assert "a sample every" in out


def test_gzip_and_other_networks(files: tuple[Path, Path], tmp_path: Path) -> None:
    program, config = files
    packed = tmp_path / "packed.gz"
    packed.write_bytes(gzip.compress(program.read_bytes()))
    (tmp_path / "other.json").write_text('{"latency": {"0": {"1": 500}, "1": {"0": 500}}, "energy": {}}')
    assert convert(packed, "--config", config, "-o", tmp_path / "a.npz")[0] == 0
    assert convert(packed, "--config", config, "--network", tmp_path / "other.json", "-o", tmp_path / "b.npz")[0] == 0
    from pimloom.simulate import simulate

    near, far = (simulate(load_program(tmp_path / f"{name}.npz")).latency_cycles for name in "ab")
    assert far > near + 900


def test_normal_leaves_oversights_out(files: tuple[Path, Path], tmp_path: Path) -> None:
    program, config = files
    assert convert(program, "--config", config, "-o", tmp_path / "p.npz", "--normal")[0] == 0
    hardware: Any = load_program(tmp_path / "p.npz").hardware
    assert hardware.quirks == Quirks.none()


def test_export(tmp_path: Path) -> None:
    save_program(pimloom.compile("tiny_cnn", "toy").program, tmp_path / "p.npz")
    code, out, err = convert(tmp_path / "p.npz", "-o", tmp_path / "x.gz", "--config-out", tmp_path / "x.json")
    assert (code, err) == (0, "")
    assert "our prediction of its result: " in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.npz", "x.gz", "x.json", "x_network.json"]
    simulation = json.loads((tmp_path / "x.json").read_text())["sim_config"]
    assert simulation["sim_mode"] == 1
    code, out, err = convert(tmp_path / "x.gz", "--config", tmp_path / "x.json", "-o", tmp_path / "y.npz")
    assert (code, err) == (0, "")
    assert "without effect" in out
    code, out, err = convert(tmp_path / "y.npz", "-o", tmp_path / "z.gz", "--config-out", tmp_path / "z.json")
    assert (code, err) == (0, "")
    assert (tmp_path / "z.gz").read_bytes() == (tmp_path / "x.gz").read_bytes()
    again = json.loads((tmp_path / "z.json").read_text())
    again["chip_config"]["network_config"]["net_config_file_path"] = "x_network.json"
    assert again["chip_config"] == json.loads((tmp_path / "x.json").read_text())["chip_config"]
    assert (tmp_path / "z_network.json").read_text() == (tmp_path / "x_network.json").read_text()


def test_executing_is_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    program, config = files
    convert(program, "--config", config, "-o", tmp_path / "p.npz")
    code, out, err = command("execute", tmp_path / "p.npz", "-o", tmp_path / "out.npz")
    assert (code, out) == (2, "")
    assert "it holds no data (pimsim.vrelu only takes time), so it can be simulated but not executed" in err


# Broken files ------------------------------------------------------------------------------------------------------


def fails(tmp_path: Path, *arguments: object) -> str:
    """The one sentence of a command that fails and leaves nothing."""
    before = sorted(tmp_path.rglob("*"))
    code, out, err = convert(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("pimloom: ") and err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before
    return err


@pytest.mark.parametrize(
    ("lists", "sentence"),
    [
        ({0: [SETBW, {"op": "vexp", "len": 4}]}, "core 0, instruction 1: unknown operation 'vexp'"),
        ({0: [SETBW, {"op": "send", "core": 2, "size": 4}]}, "core 0, instruction 1 (send): core 2 found, which has no instructions"),
        ({0: [SETBW, {"op": "send", "core": 1, "size": 4}], 1: [SETBW, VECTOR]}, "core 0, instruction 1 (send): core 1 has no recv for it"),
        ({0: [SETBW, {"op": "sldi", "rd": 0, "imm": 5000}, VECTOR]},
         "core 0, instruction 2 (vrelu): bytes 5000 to 5016 of local memory found, which has 4096"),
        ({0: [SETBW, {"op": "mvmul", "mbiw": 8, "group": 7}]},
         "core 0, instruction 1 (mvmul): array group 7 found, the core has 3 of them"),
        ({0: [SETBW, {"op": "vrelu", "rd": 44, "len": 4}]}, "core 0, instruction 1: vrelu with rd 44; a register from 0 to 31 expected"),
    ],
)  # fmt: skip
def test_a_broken_program_is_told(lists: Any, sentence: str, tmp_path: Path) -> None:
    program, config = write_program(tmp_path, lists), write_architecture(tmp_path, SERIAL)
    assert sentence in fails(tmp_path, program, "--config", config, "-o", tmp_path / "p.npz")


def test_a_deadlock_names_who_waits_for_whom(tmp_path: Path) -> None:
    def swap(other: int) -> list[dict[str, Any]]:
        return [SETBW, {"op": "send", "core": other, "size": 4}, {"op": "recv", "core": other, "size": 4}]

    program, config = write_program(tmp_path, {0: swap(1), 1: swap(0)}), write_architecture(tmp_path, SERIAL)
    sentence = fails(tmp_path, program, "--config", config, "-o", tmp_path / "p.npz")
    assert "deadlock: core 0, instruction 1 (send) waits for core 1, instruction 2 (recv)" in sentence
    assert "core 1, instruction 1 (send) waits for core 0, instruction 2 (recv)" in sentence


def test_damaged_files_are_told(files: tuple[Path, Path], tmp_path: Path) -> None:
    program, config = files
    packed = gzip.compress(program.read_bytes())
    for name, content, sentence in (
        ("cut.gz", packed[:-20], "the compressed file ends in the middle"),
        ("flipped.gz", packed[:40] + bytes([packed[40] ^ 255]) + packed[41:], "damaged"),
        ("text.json", b"[1, 2", "not the JSON of a pimsim-nn program"),
        ("empty.json", b"", "an empty file"),
        ("list.json", json.dumps(document(LISTS, {}, 4)).replace("core1", "core9").encode(),
         "core 9 has instructions, but config.core_cnt is 4"),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(content)
        assert sentence in fails(tmp_path, tmp_path / name, "--config", config, "-o", tmp_path / "p.npz")
    assert "cannot be read" in fails(tmp_path, program, "--config", tmp_path / "none.json", "-o", tmp_path / "p.npz")


def test_wrong_options_are_told(files: tuple[Path, Path], tmp_path: Path) -> None:
    program, config = files
    assert "to import one of pimsim-nn give --config and --output" in fails(tmp_path, program, "-o", tmp_path / "p.npz")
    convert(program, "--config", config, "-o", tmp_path / "p.npz")
    told = fails(tmp_path, tmp_path / "p.npz", "-o", tmp_path / "x.gz")
    assert "is a program of pimloom, which is exported with --output and --config-out alone" in told
    assert "would be lost" in fails(tmp_path, program, "--config", config, "-o", program)
    assert "cannot be read" in fails(tmp_path, tmp_path / "none.gz", "--config", config, "-o", tmp_path / "q.npz")


def test_a_program_that_cannot_be_said_is_refused(tmp_path: Path) -> None:
    save_program(pimloom.compile("tiny_transformer", "toy", effort=0).program, tmp_path / "p.npz")
    sentence = fails(tmp_path, tmp_path / "p.npz", "-o", tmp_path / "x.gz", "--config-out", tmp_path / "x.json")
    assert "pimsim-nn cannot run it" in sentence


# Files that somebody has damaged ------------------------------------------------------------------------------------

ODD: list[Any] = [
    0, -1, 1, 7, 2**31 - 1, 2**31, -(2**31), 2**40, 136_000, 1e308, -1e308, 0.5, 1e-300, float("nan"), float("inf"), None, True,
    "7", "", [], {},
]  # fmt: skip
"""What may stand in the place of a value."""


def change_a_value(document: Any, rng: random.Random) -> None:
    """Puts something odd in the place of one value, or of all that is below one."""
    at = document
    while True:
        key: Any = rng.choice(list(at)) if isinstance(at, dict) else rng.randrange(len(at))
        if not isinstance(at[key], dict | list) or not at[key] or rng.random() < 0.05:
            at[key] = rng.choice(ODD)
            return
        at = at[key]


def change_a_list(lists: dict[int, list[dict[str, Any]]], rng: random.Random) -> None:
    """Leaves an instruction out, says one twice, exchanges two, or renames one."""
    one = lists[rng.choice(list(lists))]
    at, other = rng.randrange(len(one)), rng.randrange(len(one))
    match rng.randrange(4):
        case 0:
            del one[at]
        case 1:
            one.insert(other, one[at])
        case 2:
            one[at], one[other] = one[other], one[at]
        case _:
            one[at] = {**one[at], "op": rng.choice(["nop", "send", "recv", "sync", "wait", "ld", "mvmul", "sld", "LD"])}


@pytest.mark.parametrize("seed", range(60))
def test_damaged_files_end_in_a_result_or_one_sentence(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    program, config = write_program(tmp_path, LISTS), write_architecture(tmp_path, SERIAL)
    lists = random_lists(rng, 4, 40)
    match seed % 5:
        case 0:
            change_a_list(lists, rng)
        case 1 | 2:
            path = (program, config, tmp_path / "network.json")[rng.randrange(3)]
            content = json.loads(path.read_text())
            change_a_value(content, rng)
            path.write_text(json.dumps(content))
            lists = {}
        case _:
            pass
    if lists:
        config = write_architecture(tmp_path, {**SERIAL, "chip_config.core_config.local_memory_config.memory_size": 2**31 - 1})
        program = write_program(tmp_path, lists)
    if seed % 5 > 2:
        data = bytearray(program.read_bytes() if seed % 5 == 3 else gzip.compress(program.read_bytes()))
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        program.write_bytes(data[: rng.randrange(len(data))] if rng.random() < 0.3 else data)
    for command_line in (
        ("convert", program, "--config", config, "-o", tmp_path / "p.npz"), ("simulate", tmp_path / "p.npz"),
        ("convert", tmp_path / "p.npz", "-o", tmp_path / "x.gz", "--config-out", tmp_path / "x.json"),
    ):  # fmt: skip
        code, _, err = command(*command_line)
        if code:
            assert code == 2 and err.startswith("pimloom: ") and err.count("\n") == 1, err
            assert not (tmp_path / "x.gz").exists()
            break
