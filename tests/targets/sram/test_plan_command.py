"""`pimloom plan`: the plan of a matrix without a network, its figure, and where its gain comes from."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest
from targets.sram.jobs import machine

from pimloom import api
from pimloom.cli import main
from pimloom.targets.sram.explain import ablate
from pimloom.targets.sram.work import Work

SIZES = ("--rows", "256", "--cols", "256", "--vectors", "48")


def command(*arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()


def lines(text: str) -> dict[tuple[str, str], list[str]]:
    """(strategy, what is streamed) -> the cells behind."""
    rows = [line.split() for line in text.splitlines() if line.split()[:1] and line.split()[0] in NAMES]
    return {(row[0], row[1]): row[2:] for row in rows}


NAMES = ("in_situ", "naive_pairwise", "naive_lock_step", "generalized")


def test_plan_tells_every_strategy() -> None:
    code, out, _ = command("plan", *SIZES)
    assert code == 0
    assert "48 vectors x 256 x 256 on gpp-256, 128 B/cycle: 64 tiles of 32 x 32, 8 strips" in out
    assert {name for name, _ in lines(out)} == set(NAMES)
    assert all(len(line) <= 80 for line in out.splitlines())


def test_bandwidth_and_settings_are_taken() -> None:
    _, out, _ = command(
        "plan", *SIZES, "--bandwidth", "16", "--strategy", "generalized", "--macros", "20", "--residency", "24", "--write-speed", "4"
    )
    assert "16 B/cycle" in out
    assert "held fixed: N, n, s" in out
    (cells,) = lines(out).values()
    assert cells[:3] == ["20", "24", "4"]


def test_simulated_cycles_are_those_of_the_simulator() -> None:
    _, predicted, _ = command("plan", *SIZES, "--strategy", "in_situ")
    _, simulated, _ = command("plan", *SIZES, "--strategy", "in_situ", "--simulate")
    assert "cycles: predicted" in predicted
    assert "cycles: simulated" in simulated
    assert lines(predicted) != lines(simulated)


def test_figure_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    code, _, _ = command("plan", *SIZES, "--figure", tmp_path / "f.html")
    assert code == 0
    assert "in_situ (N" in (tmp_path / "f.html").read_text()
    code, _, err = command("plan", *SIZES, "--figure", tmp_path / "none" / "f.html")
    assert code == 2
    assert err.count("\n") == 1


def test_ablation_gives_one_freedom_after_the_other() -> None:
    hardware, work = machine("gpp-256-compat", "link.bytes_per_cycle=16", "cores=2"), Work(64, 256, 256)
    steps = ablate(hardware, work, 16, 4, lambda plan: float(api.product_cycles(hardware, work, plan)))
    assert [step.name for step in steps] == ["design point", "write speed", "reallocation", "stagger", "dataflow"]
    cycles = [step.cycles for step in steps]
    assert cycles == sorted(cycles, reverse=True)
    assert cycles[0] > 2 * cycles[-1]
    assert (steps[0].plan.macros, steps[0].plan.vectors, steps[0].plan.bytes_per_cycle) == (16, 4, 2)
    code, out, _ = command("plan", *SIZES, "--hardware", "gpp-256-compat", "--set", "cores=2", "--bandwidth", "16", "--macros", "16",
                           "--residency", "4", "--ablate")  # fmt: skip
    assert code == 0
    assert "design point" in out


REFUSED = {
    "--residency 49": "vectors per residency: 49 found, at most the 48 vectors that there are expected",
    "--macros 300": "macros: 300 needed, 256 available on 'gpp-256'; use fewer macros or a larger machine",
    "--write-speed 9": "write speed: 9 bytes per cycle found, 1 to 8 expected on 'gpp-256'",
    "--bandwidth 0": "link.bytes_per_cycle: found 0, expected a positive integer of bytes per cycle",
    "--strategy fast": "strategy: 'fast' found, one of in_situ, naive_ping_pong, generalized, auto",
    "--hardware isaac": "hardware 'isaac': kind crossbar found, sram expected; choose e.g. gpp-256",
    "--ablate": "--ablate: no design point found, --macros and --residency expected",
    "--ablate --macros 8 --residency 4 --write-speed 8": "--write-speed: given with --ablate, which goes through all of them",
    "--ablate --macros 8 --residency 4 --figure f.html": "--figure: given with --ablate",
    "--set memories.sums=private --macros 256 --residency 48": "result memory (bytes): 6291456 needed, 262144 available on 'gpp-256'",
}


@pytest.mark.parametrize("given", REFUSED)
def test_faults_are_one_sentence_with_the_numbers(given: str) -> None:
    code, out, err = command("plan", *SIZES, *given.split())
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert REFUSED[given] in err
