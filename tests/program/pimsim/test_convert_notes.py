"""What `pimloom convert` says of programs that pimsim-nn would run otherwise than meant, and what it makes of single samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from program.pimsim.pimsim_files import document, write_architecture, write_program
from test_cli import command

import pimloom
from pimloom.program import load_program
from pimloom.program.pimsim import read_program

SETBW = {"op": "setbw", "ibiw": 8, "obiw": 8}
FILL = {"op": "lldi", "rd": 0, "len": 4}


def converted(folder: Path, lists: dict[int, Any]) -> tuple[int, str, str]:
    """Exit code and both outputs of an import."""
    program = write_program(folder, lists, cores=3)
    return command("convert", program, "--config", write_architecture(folder), "-o", folder / "p.npz")


@pytest.mark.parametrize("empty", [[], [SETBW]])
def test_a_core_without_work_is_refused_and_nothing_written(empty: list[Any], tmp_path: Path) -> None:
    code, out, err = converted(tmp_path, {0: empty, 1: empty})
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "core 0 has a list of" in err
    assert not (tmp_path / "p.npz").exists()


def test_notes_are_printed(tmp_path: Path) -> None:
    lists = {
        0: [SETBW, FILL, {"op": "send", "core": 1, "size": 256}],
        1: [{"op": "vrelu", "len": 1.5}, {"op": "recv", "core": 0, "size": 128}],
    }
    code, out, err = converted(tmp_path, lists)
    assert (code, err) == (0, "")
    assert [line for line in out.splitlines() if line.startswith("note: ")] == [
        "note: core 1, instruction 0: vrelu with len 1.5 read as 1",
        "note: no list for core 2, so no power is taken there",
        "note: core 1, instruction 0 (vrelu) comes before any setbw, so its elements have no bytes and it is nearly free",
        "note: core 0, instruction 2 (send) states another size than its recv; each end is timed by its own",
    ]
    assert load_program(tmp_path / "p.npz").n_rows == 4
    assert "note: " not in converted(tmp_path, {core: [SETBW, FILL] for core in range(3)})[1]


def test_a_repeated_key_is_refused_by_place(tmp_path: Path) -> None:
    text = json.dumps(document({0: [SETBW, FILL]}, {}, 1)).replace('"len": 4', '"len": 4, "len": 8')
    (tmp_path / "twice.json").write_text(text)
    code, _, err = command("convert", tmp_path / "twice.json", "--config", write_architecture(tmp_path), "-o", tmp_path / "p.npz")
    assert code == 2
    assert err.endswith("twice.json: core 0, instruction 1: lldi states len more than once\n")


def test_rounds_overlap_though_a_program_has_one_sample(tmp_path: Path) -> None:
    """Its lists are repeated as those of one with several samples are, so they may be ordered alike."""
    rate: dict[int, float] = {}
    for batch in (1, 8):
        pimloom.compile("lenet", "pimcomp-default", mode="throughput", batch=batch, effort=0).save(tmp_path / "m.npz")
        code, out, _ = command("convert", tmp_path / "m.npz", "-o", tmp_path / f"{batch}.gz", "--config-out", tmp_path / "c.json")
        assert code == 0
        line = next(line for line in out.splitlines() if line.endswith("samples/s"))
        rate[batch] = float(line.split()[-2])
    assert rate[1] == pytest.approx(rate[8], rel=0.05)
    assert read_program(tmp_path / "1.gz").n_instructions > 0
