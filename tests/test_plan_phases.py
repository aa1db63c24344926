"""`pimloom plan --phases`: the paper's two phases from the command line; and what `plan` says and simulates once for a matrix."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from pimloom import api
from pimloom.cli import main
from pimloom.hardware import SramHardware
from pimloom.targets.sram.plan import Plan
from pimloom.targets.sram.work import Work

COMPAT = ("plan", "--phases", "--hardware", "gpp-256-compat")
SMALL = ("plan", "--rows", "64", "--cols", "96", "--vectors", "5")


def command(*arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(arguments))
    return code, out.getvalue(), err.getvalue()


def phases(*arguments: str) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Rows of the design phase and of the runtime phase, each by head."""
    code, out, err = command(*arguments)
    assert (code, err) == (0, "")
    design, runtime, _ = out.split("\n\n")
    return table(design), table(runtime)


def table(text: str) -> list[dict[str, str]]:
    lines = [line for line in text.splitlines()[1:] if not line.startswith("not with")]
    assert all(len(line) <= 80 for line in lines)
    heads, *rows = [line.split() for line in lines]
    return [dict(zip(heads, row, strict=True)) for row in rows]


def column(rows: Sequence[dict[str, str]], head: str) -> list[float]:
    return [float(row[head].replace(",", "")) for row in rows]


def test_published_macros_of_the_design_phase() -> None:
    design, _ = phases(*COMPAT, "--write-speed", "4")
    assert column(design, "n") == [1, 2, 4, 8, 24, 56]
    assert column(design, "N") == [36, 40, 48, 64, 128, 256]
    assert column(design, "size") == [4, 8, 16, 32, 32, 32]
    assert column(design, "sigma") == [32, 64, 128, 256, 256, 256]
    assert column(design, "products") == [0.125, 0.25, 0.5, 1, 3, 7]


def test_published_macros_of_the_runtime_phase() -> None:
    _, runtime = phases(*COMPAT, "--set", "link.bytes_per_cycle=512")
    assert column(runtime, "B") == [512, 256, 128, 64, 32, 16, 8]
    assert column(runtime, "N") == [128, 80, 49, 36, 24, 16, 11]
    assert column(runtime, "n") == [4, 6, 10, 14, 20, 28, 40]
    assert column(runtime, "N*") == [128.0, 81.97, 53.96, 36.25, 24.72, 17.03, 11.82]
    for row in runtime:
        assert int(row["N"]) == int(row["G"]) * int(row["size"])
        assert int(row["rows"]) == int(row["N"]) * int(row["n"]) <= 512


def test_bandwidth_and_residency_choose_one_row() -> None:
    design, runtime = phases(*COMPAT, "--bandwidth", "16", "--residency", "28")
    assert [(row["n"], row["N"], row["s"]) for row in design] == [("28", "16", "8")]
    assert [(row["B"], row["N"], row["n"]) for row in runtime] == [("16", "16", "28")]


def test_shared_sums_leave_room_for_more_rows() -> None:
    _, out, _ = command("plan", "--phases")
    assert "2,048 rows of results at most (shared sums: 262,144 / 128 bytes)" in out
    _, out, _ = command(*COMPAT)
    assert "512 rows of results at most (private sums: 262,144 / 512 bytes)" in out


def test_what_has_no_even_schedule_is_left_out_with_the_reason() -> None:
    code, out, _ = command(*COMPAT, "--bandwidth", "4", "--write-speed", "1")
    design, runtime = out.split("\n\n")[:2]
    assert code == 0
    assert column(table(design), "n") == [8, 24, 56]
    assert "not with n 1: groups that start 32 cycles apart: 0.125 macros each found, a whole number expected" in design
    assert "not with B 4: link: 4 bytes per cycle found, enough for a macro that is written at 8 expected" in runtime
    design, _ = command("plan", "--phases", "--set", "memories.input_area_bytes=1024")[1].split("\n\n")[:2]
    assert "not with n 56: input area of a macro (bytes): 1792 needed, 1024 available on 'gpp-256'" in design


REFUSED = {
    "--phases --rows 4": "--rows: given with --phases, which is for no matrix in particular; leave one of them out",
    "--phases --cols 4": "--cols: given with --phases",
    "--phases --vectors 4": "--vectors: given with --phases",
    "--phases tiny_cnn": "MODEL: given with --phases",
    "--phases --shape x=1": "--shape: given with --phases",
    "--phases --simulate": "--simulate: given with --phases",
    "--phases --ablate": "--ablate: given with --phases",
    "--phases --figure f.html": "--figure: given with --phases",
    "--phases --macros 4": "--macros: given with --phases",
    "--phases --strategy auto": "--strategy: given with --phases",
    "--phases --residency 0": "--residency: 0 vectors found, at least 1 expected",
    "--phases --residency 100": "input area of a macro (bytes): 3200 needed, 2048 available on 'gpp-256'; keep at most 64 vectors",
    "--phases --residency 1 --bandwidth 8": "groups that start 32 cycles apart: 0.25 macros each found, a whole number expected",
    "--phases --write-speed 9": "write speed: 9 bytes per cycle found, 1 to 8 expected on 'gpp-256'",
    "--phases --bandwidth 1": "groups that start 32 cycles apart: 0.03125 macros each found",
    "--phases --bandwidth 0": "link.bytes_per_cycle: found 0, expected a positive integer of bytes per cycle",
    "--phases --hardware isaac": "hardware 'isaac': kind crossbar found, sram expected; choose e.g. gpp-256",
    "--phases --bandwidth 64 --set link.bytes_per_cycle=32": "--bandwidth: given with --set link.bytes_per_cycle",
}


@pytest.mark.parametrize("given", REFUSED)
def test_faults_are_one_sentence(given: str) -> None:
    code, out, err = command("plan", *given.split())
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert REFUSED[given] in err


def test_ablation_says_when_chunks_are_smaller_than_asked_for() -> None:
    code, out, _ = command(*SMALL, "--macros", "4", "--residency", "4", "--ablate")
    assert code == 0
    assert "n 4: 5 vectors make 2 chunks of at most 3" in out
    assert "vectors make" not in command(*SMALL, "--macros", "4", "--residency", "3", "--ablate")[1]


@pytest.mark.parametrize("arguments", [("--simulate",), ("--ablate", "--macros", "4", "--residency", "3")], ids=["simulate", "ablate"])
def test_no_plan_is_simulated_twice(arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    simulated = Counter[tuple[int, Plan]]()
    product_cycles = api.product_cycles

    def counted(machine: SramHardware, work: Work, plan: Plan) -> int:
        simulated[machine.link.bytes_per_cycle, replace(plan, cycles=0.0, bound_cycles=0.0)] += 1
        return product_cycles(machine, work, plan)

    monkeypatch.setattr(api, "product_cycles", counted)
    code, out, _ = command(*SMALL, *arguments)
    assert code == 0
    assert "generalized" in out
    assert len(simulated) > 10
    assert set(simulated.values()) == {1}
