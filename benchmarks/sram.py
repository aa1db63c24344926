"""What the sram target reaches: networks under each strategy, transformers by tokens and batch, and how long it takes.

    python benchmarks/sram.py networks [NAME ...]   strategies on whole networks (default: lenet squeezenet resnet18)
    python benchmarks/sram.py bert                  seconds of planning, lowering and simulating one pass of BERT-base
    python benchmarks/sram.py prefill [TOKENS ...]  one Llama-style layer reading 1 to 2048 tokens
    python benchmarks/sram.py decode [BATCH ...]    one Llama-style layer making a token for 1 to 64 sequences of 128
    python benchmarks/sram.py cases [COUNT]         random matrices: `auto` against the best of the strategies

`--hardware NAME` chooses the machine (gpp-256).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

import pimloom
from pimloom import api
from pimloom.frontends.zoo import transformer
from pimloom.frontends.zoo.layers import linear
from pimloom.hardware import SramHardware, load_hardware
from pimloom.ir import Graph, GraphBuilder
from pimloom.targets.sram.plan import choose
from pimloom.targets.sram.strategies import BASELINES
from pimloom.targets.sram.work import Work

STRATEGIES = (*BASELINES, "auto")
WIDTH, HEADS, HIDDEN, CACHED = 512, 8, 1376, 128


def sram_machine(name: str, *overrides: str) -> SramHardware:
    machine = load_hardware(name, list(overrides))
    assert isinstance(machine, SramHardware)
    return machine


def prefill(tokens: int) -> Graph:
    """One layer of the zoo's small Llama, reading `tokens` tokens, without logits over a vocabulary of its size."""
    shape = replace(transformer._LLAMA_SMALL, tokens=tokens, layers=1, vocabulary=64)
    return transformer._llama(f"llama_layer_{tokens}", shape)(0)


def decode(batch: int) -> Graph:
    """One layer making one token for each of `batch` sequences whose keys and values are cached."""
    width = WIDTH // HEADS
    b = GraphBuilder(f"decode_{batch}", 0)
    x = b.input("x", (batch, 1, WIDTH))
    keys, values = b.input("keys", (batch, HEADS, width, CACHED)), b.input("values", (batch, HEADS, CACHED, width))
    q = linear(b, x, "q", WIDTH, bias=False)
    linear_kv = [linear(b, x, name, WIDTH, bias=False) for name in ("k", "v")]  # for the cache of the next token
    q = b.add("Reshape", q, name="q.heads", shape=(batch, HEADS, 1, width))
    scores = b.add("Softmax", b.add("MatMul", q, keys, name="scores"), name="weights", axis=-1)
    y = b.add("Reshape", b.add("MatMul", scores, values, name="mixed"), name="mixed.rows", shape=(batch, 1, WIDTH))
    x = b.add("Add", x, linear(b, y, "o", WIDTH, bias=False), name="attended")
    gate = linear(b, x, "gate", HIDDEN, bias=False)
    gate = b.add("Mul", gate, b.add("Sigmoid", gate, name="sigmoid"), name="silu")
    h = b.add("Mul", gate, linear(b, x, "up", HIDDEN, bias=False), name="gated")
    return b.finish(b.add("Add", x, linear(b, h, "down", WIDTH, bias=False), name="made"), *linear_kv)


def row(*cells: object) -> None:
    print("  ".join(str(cell) for cell in cells), flush=True)


def compare(graph: Graph | str, machine: SramHardware, label: str) -> None:
    """Cycles under each strategy, the gain of `auto` over the best of the others, and what the link does."""
    found = {name: api.compile(graph, machine, strategy=name).simulate(trace=False) for name in STRATEGIES}
    cycles = {name: result.cycles for name, result in found.items()}
    best = min(cycles[name] for name in BASELINES)
    auto = found["auto"]
    shown = "  ".join(f"{name} {count:,}" for name, count in cycles.items())
    row(f"{label:<14}", shown, f"auto/best {best / cycles['auto']:.2f}x", f"link {auto.utilisation['off-chip link']:.2f}")


def bert(machine: SramHardware) -> None:
    """Seconds of the processor for each step of BERT-base at 128 tokens."""
    graph = api.load("bert_base")
    begun = time.process_time()
    quantised = api.quantise(graph, machine)
    row(f"quantising {time.process_time() - begun:.1f} s")
    for effort in (0, 1):
        request = pimloom.targets.Request(effort=effort, cost=api.cycles, progress=lambda _: None)
        begun = time.process_time()
        program = pimloom.targets.TARGETS["sram"].compile(quantised, machine, request)
        planned = time.process_time() - begun
        begun = time.process_time()
        result = api.simulate_program(program, trace=False)
        simulated = time.process_time() - begun
        link = result.utilisation["off-chip link"]
        row(f"effort {effort}: planning and lowering {planned:.1f} s, simulating {simulated:.1f} s,", f"{program.n_rows:,} rows,",
            f"{result.cycles:,} cycles, link {link:.2f}")  # fmt: skip


def cases(machine: SramHardware, count: int) -> None:
    """Random products: cycles of `auto` against the best strategy, each with its own N, n and s."""
    rng = np.random.Generator(np.random.Philox(0))
    gains: list[float] = []
    for _ in range(count):
        work = Work(*(int(low * 2 ** rng.uniform(0, high)) for low, high in ((1, 9), (32, 5), (32, 5))))
        changes = (f"link.bytes_per_cycle={rng.choice([8, 16, 32, 64, 128, 256, 512])}",
                   f"memories.result_bytes={rng.choice([65536, 131072, 262144])}")  # fmt: skip
        hardware = sram_machine(machine.name, *changes)
        found = {
            name: choose(hardware, work, name, lambda plan, h=hardware, w=work: float(api.product_cycles(h, w, plan))).cycles
            for name in STRATEGIES
        }
        gains.append(min(found[name] for name in BASELINES) / found["auto"])
    values = np.array(gains)
    row(f"{count} cases: slower {int((values < 1).sum())}, faster {int((values > 1).sum())}, gain: median {np.median(values):.3f}x,",
        f"mean {values.mean():.3f}x, largest {values.max():.2f}x")  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("networks", "bert", "prefill", "decode", "cases"))
    parser.add_argument("values", nargs="*")
    parser.add_argument("--hardware", default="gpp-256")
    given = parser.parse_args(arguments)
    machine = sram_machine(given.hardware)
    if given.what == "networks":
        for name in given.values or ("lenet", "squeezenet", "resnet18"):
            compare(name, machine, name)
    elif given.what == "bert":
        bert(machine)
    elif given.what == "cases":
        cases(machine, int(given.values[0]) if given.values else 50)
    else:
        build, sizes = (prefill, (1, 16, 128, 512, 2048)) if given.what == "prefill" else (decode, (1, 4, 16, 64))
        for size in [int(v) for v in given.values] or sizes:
            compare(build(size), machine, f"{given.what} {size}")


if __name__ == "__main__":
    main()
