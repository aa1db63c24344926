"""`pimloom plan`: the plan of a matrix without a network, its figure, and where its gain comes from."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest
from targets.sram.jobs import machine

from pimloom import api
from pimloom.cli import main
from pimloom.targets import Request
from pimloom.targets.sram.explain import FREEDOMS, ablate, ablate_network
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


def test_chunks_of_other_sizes_than_asked_for_are_said() -> None:
    code, out, _ = command("plan", "--rows", 64, "--cols", 64, "--vectors", 112, "--residency", 60)
    assert code == 0
    assert "n 60: 112 vectors make 2 chunks of at most 56" in out
    assert "vectors make" not in command("plan", "--rows", 64, "--cols", 64, "--vectors", 112, "--residency", 56)[1]


def test_a_plan_of_which_no_program_can_be_made_says_so() -> None:
    code, out, _ = command("plan", "--rows", 32768, "--cols", 32768, "--vectors", 4096)
    assert code == 0
    assert re.search(r"a program would have [\d,]+ rows, 32,000,000 at most are expected", out)
    assert "…" not in out


def test_figure_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    code, _, _ = command("plan", *SIZES, "--figure", tmp_path / "f.html")
    assert code == 0
    assert "in_situ (N" in (tmp_path / "f.html").read_text()
    code, _, err = command("plan", *SIZES, "--figure", tmp_path / "none" / "f.html")
    assert code == 2
    assert err.count("\n") == 1


def test_ablation_gives_one_freedom_after_the_other() -> None:
    hardware, work = machine("gpp-256-compat", "link.bytes_per_cycle=16", "cores=2"), Work(64, 256, 256)
    steps = ablate(hardware, work, 16, 4, lambda machine, plan: float(api.product_cycles(machine, work, plan)))
    assert [step.name for step in steps] == ["design point", "write speed", "reallocation", "stagger", "dataflow"]
    cycles = [step.cycles for step in steps]
    assert cycles == sorted(cycles, reverse=True)
    assert cycles[0] > 2 * cycles[-1]
    assert (steps[0].plan.macros, steps[0].plan.vectors, steps[0].plan.bytes_per_cycle) == (16, 4, 2)
    code, out, _ = command("plan", *SIZES, "--hardware", "gpp-256-compat", "--set", "cores=2", "--bandwidth", "16", "--macros", "16",
                           "--residency", "4", "--ablate")  # fmt: skip
    assert code == 0
    assert "design point" in out


def test_plan_tells_every_layer_of_a_network() -> None:
    code, out, _ = command("plan", "tiny_cnn")
    assert code == 0
    assert "tiny_cnn on gpp-256, 128 B/cycle" in out
    graph = api.quantise(api.load("tiny_cnn"), "gpp-256")
    for node in graph.nodes:
        assert (node.name in out) == (node.op in ("Conv", "Linear")), node.name
    _, slow, _ = command("plan", "tiny_cnn", "--strategy", "naive_lock_step", "--bandwidth", "8", "--simulate")
    assert "8 B/cycle" in slow
    assert "each layer simulated alone" in slow
    assert "lock_step" in slow
    assert "generalized" not in slow


def test_ablation_of_a_network_is_simulated_as_a_whole() -> None:
    hardware = machine("gpp-256", "link.bytes_per_cycle=8", "cores=2")
    graph = api.quantise(api.load("tiny_cnn"), hardware)
    request = Request(cost=api.cycles, progress=lambda _: None)
    steps = ablate_network(graph, hardware, request, 16, 4)
    assert [step.name for step in steps] == list(FREEDOMS)
    found = [step.cycles for step in steps]
    assert found == sorted(found, reverse=True)
    assert found[0] > 1.2 * found[-1]
    products = sum(node.op in ("Conv", "Linear") for node in graph.nodes)
    assert all(step.strategies.total() == step.dataflows.total() == products for step in steps)
    assert set(steps[0].strategies) == {"naive_pairwise"}
    code, out, _ = command("plan", "tiny_cnn", "--bandwidth", "8", "--set", "cores=2", "--ablate", "--macros", "16", "--residency", "4")
    assert code == 0
    assert re.search(rf"design point +{found[0]:,.0f} ", out)
    (last,) = (node.name for node in graph.nodes if node.op == "Linear")
    assert steps[0].lowered[last] == (16, 1)  # a layer of one vector
    assert f"design point: less than the design point (macros and vectors) where a layer has no more: {last} 16 and 1" in out
    assert f"{found[0] / found[-1]:.2f}x" in out


REFUSED_BESIDE_A_NETWORK = {
    "": "plan: neither a network nor a matrix found, a MODEL or --rows, --cols and --vectors expected",
    "--rows 4": "plan: no --vectors and no --cols found, a MODEL or --rows, --cols and --vectors expected",
    "tiny_cnn --rows 4": "--rows: given with the network 'tiny_cnn', whose layers have settings of their own; leave it out",
    "tiny_cnn --macros 4": "--macros: given with the network 'tiny_cnn', whose layers have settings of their own; leave it out",
    "tiny_cnn --figure f.html": "--figure: given with the network 'tiny_cnn'",
    "tiny_cnn --ablate --macros 1 --residency 4": "design point: 1 macros and 4 vectors found, 2 to 256 macros (an even number: naive",
    "tiny_cnn --ablate --macros 7 --residency 4": "design point: 7 macros and 4 vectors found, 2 to 256 macros (an even number: naive",
    "tiny_cnn --ablate --macros 128 --residency 9999": "input area of a macro (bytes): 319968 needed, 2048 available on 'gpp-256'; keep",
    "tiny_cnn --ablate --macros 4": "--ablate: no design point found, --macros and --residency expected",
    "tiny_cnn --strategy fast": "strategy: 'fast' found, one of in_situ, naive_ping_pong, generalized, auto",
    "--rows 4 --cols 4 --vectors 4 --shape x=1,2": "--shape: given without a network, whose inputs it is for; add a MODEL or leave",
    "tiny_cnn --shape x=1,2": "'tiny_cnn' is a network of the zoo with fixed shapes; --shape is for ONNX files",
    "no_such_network": "zoo: no network is called 'no_such_network'",
}


@pytest.mark.parametrize("given", REFUSED_BESIDE_A_NETWORK)
def test_faults_around_a_network_are_one_sentence(given: str) -> None:
    code, out, err = command("plan", *given.split())
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert REFUSED_BESIDE_A_NETWORK[given] in err


REFUSED_MACHINES = {
    "macro.rows=1024 macro.cols=1024": "found 1048576, expected a macro of at most memories.result_bytes = 262144; reduce macro.rows",
    "link.bytes_per_cycle=0": "link.bytes_per_cycle: found 0, expected a positive integer of bytes per cycle; write e.g. 128",
    "memories.input_area_bytes=16": "found 16, expected memories.input_area_bytes of at least macro.rows = 32, one input vector",
    "memories.activation_bytes=100": "activation memory (bytes): 150 needed, 100 available on 'gpp-256'",
    "macro.rows=4 macro.cols=128 memories.result_bytes=600": "result memory (bytes): 1440 needed, 600 available on 'gpp-256'; use",
    "link.outside_bytes=1024": "memory outside the chip (bytes): ",
}


@pytest.mark.parametrize("changes", REFUSED_MACHINES)
def test_machines_that_cannot_run_a_network_are_refused_with_the_numbers(changes: str) -> None:
    given = [part for change in changes.split() for part in ("--set", change)]
    code, out, err = command("run", "lenet", "--hardware", "gpp-256", *given, "--effort", "0")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert REFUSED_MACHINES[changes] in err


REFUSED = {
    "--residency 49": "vectors per residency: 49 found, at most the 48 vectors that there are expected",
    "--macros 300": "macros: 300 needed, 256 available on 'gpp-256'; use fewer macros or a larger machine",
    "--write-speed 9": "write speed: 9 bytes per cycle found, 1 to 8 expected on 'gpp-256'",
    "--bandwidth 0": "link.bytes_per_cycle: found 0, expected a positive integer of bytes per cycle",
    "--strategy fast": "strategy: 'fast' found, one of in_situ, naive_ping_pong, generalized, auto",
    "--hardware isaac": "hardware 'isaac': kind crossbar found, sram expected; choose e.g. gpp-256",
    "--ablate": "--ablate: no design point found, --macros and --residency expected",
    "--ablate --macros 8 --residency 4 --write-speed 8": "--write-speed: given with --ablate, which goes through all of them",
    "--ablate --macros 8 --residency 4 --simulate": "--simulate: given with --ablate, which always simulates; leave it out",
    "--bandwidth 64 --set link.bytes_per_cycle=32": "--bandwidth: given with --set link.bytes_per_cycle, which says the same",
    "--ablate --macros 8 --residency 4 --figure f.html": "--figure: given with --ablate",
    "--set memories.sums=private --macros 256 --residency 48": "result memory (bytes): 6291456 needed, 262144 available on 'gpp-256'",
}


@pytest.mark.parametrize("given", REFUSED)
def test_faults_are_one_sentence_with_the_numbers(given: str) -> None:
    code, out, err = command("plan", *SIZES, *given.split())
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert REFUSED[given] in err
