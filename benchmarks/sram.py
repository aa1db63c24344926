"""What the sram target reaches: networks under each strategy, transformers by tokens and batch, and how long it takes.

    python benchmarks/sram.py networks [NAME ...]   strategies on whole networks (default: lenet squeezenet resnet18)
    python benchmarks/sram.py conform [NAME ...]    executes networks and compares every code; prefill-2048, decode-64 are names too
    python benchmarks/sram.py bert                  seconds of planning, lowering and simulating one pass of BERT-base
    python benchmarks/sram.py prefill [TOKENS ...]  one Llama-style layer reading 1 to 2048 tokens
    python benchmarks/sram.py decode [BATCH ...]    one Llama-style layer making a token for 1 to 64 sequences of 128
    python benchmarks/sram.py refresh               a DRAM channel: refreshes spread over all transfers against refreshes when they are due
    python benchmarks/sram.py cases [COUNT] [any]   random matrices: `auto` against the best of the strategies; `any`: at any bandwidth

`--hardware NAME` chooses the machine (gpp-256).
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

import pimloom
from pimloom import api
from pimloom.frontends.zoo import transformer
from pimloom.frontends.zoo.layers import linear
from pimloom.hardware import SramHardware, load_hardware
from pimloom.hardware.sram import Dram
from pimloom.ir import Graph, GraphBuilder
from pimloom.program import OPCODES, Program
from pimloom.program.sram import SramResources
from pimloom.simulate import engine
from pimloom.simulate.costs import cost
from pimloom.targets.sram.plan import Plan
from pimloom.targets.sram.single import single_product
from pimloom.targets.sram.strategies import BASELINES, FAMILIES, parts
from pimloom.targets.sram.tune import choose
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


def compare(graph: Graph | str, machine: SramHardware, label: str, tokens: int = 0) -> None:
    """Cycles under each strategy, the gain of `auto` over the best of the others, what is busiest, and tokens per second."""
    begun = time.process_time()
    compiled = {name: api.compile(graph, machine, strategy=name) for name in STRATEGIES}
    found = {name: one.simulate(trace=False) for name, one in compiled.items()}
    cycles = {name: result.cycles for name, result in found.items()}
    best = min(cycles[name] for name in BASELINES)
    shown = "  ".join(f"{name} {count:,}" for name, count in cycles.items())
    busy = sorted(((share, name) for name, share in found["auto"].utilisation.items()), reverse=True)[:2]
    told = ", ".join(f"{name} {share:.2f}" for share, name in busy)
    rate = f"{tokens * machine.clock_ghz * 1e9 / cycles['auto']:,.0f} tokens/s" if tokens else ""
    row(f"{label:<14}", shown, f"auto/best {best / cycles['auto']:.2f}x", f"busiest: {told}", rate,
        f"{compiled['auto'].program.n_rows:,} rows, {time.process_time() - begun:.1f} s for all")  # fmt: skip


def named(name: str) -> Graph | str:
    """A network of the zoo, or a layer such as `prefill-2048`."""
    kind, _, size = name.partition("-")
    return {"prefill": prefill, "decode": decode}[kind](int(size)) if size else name


def conform(machine: SramHardware, names: Sequence[str]) -> None:
    """Executes networks as planned by prediction, and compares every code with the integer meaning of the graph."""
    for name in names:
        seconds: list[float] = []
        begun = time.process_time()
        compiled = api.compile(named(name), machine, effort=0)
        seconds.append(time.process_time() - begun)
        result = compiled.simulate(trace=False)
        seconds.append(time.process_time() - begun - sum(seconds))
        planned = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        is_exact = compiled.verify(reference="none").is_bit_exact
        seconds.append(time.process_time() - begun - sum(seconds))
        kinds = list(compiled.program.notes["kinds"].values())
        told = "bit exact" if is_exact else "NOT EXACT"
        row(f"{name:<16} {compiled.program.n_rows:>9,} rows {result.cycles:>9,} cycles  {told}  nodes on macros {kinds.count('macros')},",
            f"on the SFU {kinds.count('general')};", "compiled, simulated, executed in {:.1f}, {:.1f}, {:.1f} s".format(*seconds),
            f"memory so far {planned:,} MB, executed {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024:,} MB")  # fmt: skip


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


def cases(machine: SramHardware, count: int, *, at_any: bool) -> None:
    """Random products: cycles of `auto` against the best strategy, each with its own N, n and s; at powers of two or at any bandwidth."""
    rng = np.random.Generator(np.random.Philox(0))
    gains: list[float] = []
    for _ in range(count):
        work = Work(*(int(low * 2 ** rng.uniform(0, high)) for low, high in ((1, 9), (32, 5), (32, 5))))
        rate = int(8 * 2 ** rng.uniform(0, 6)) if at_any else rng.choice([8, 16, 32, 64, 128, 256, 512])
        changes = (f"link.bytes_per_cycle={rate}",
                   f"memories.result_bytes={rng.choice([65536, 131072, 262144])}")  # fmt: skip
        hardware = sram_machine(machine.name, *changes)
        timed: dict[tuple[int, Plan], float] = {}

        def timer(machine: SramHardware, plan: Plan, work: Work = work, timed: dict[tuple[int, Plan], float] = timed) -> float:
            key = (machine.link.bytes_per_cycle, plan)
            if key not in timed:
                timed[key] = float(api.product_cycles(machine, work, plan))
            return timed[key]

        found = {name: choose(hardware, work, name, timer).cycles for name in FAMILIES}
        gains.append(min(found[name] for name in parts("auto")) / found["auto"])
    values = np.array(gains)
    row(f"{count} cases: slower {int((values < 1).sum())}, faster {int((values > 1).sum())}, gain: median {np.median(values):.3f}x,",
        f"mean {values.mean():.3f}x, largest {values.max():.2f}x")  # fmt: skip


def refresh() -> None:
    """Cycles with refreshes spread over all transfers, as programs are timed, and with refreshes that hold the link when due."""
    spread = sram_machine("gpp-256-dram")
    graph = api.quantise(api.load("squeezenet"), spread)
    programs = {
        "squeezenet": pimloom.targets.TARGETS["sram"].compile(graph, spread, pimloom.targets.Request(effort=0, progress=lambda _: None))
    }
    for size in ((16, 2048, 2048), (4, 2048, 4096), (64, 1024, 1024), (48, 256, 256), (8, 256, 512)):
        for strategy in ("generalized", "in_situ"):
            plan = choose(spread, Work(*size), strategy)
            programs[f"{size} {strategy}"] = single_product(spread, Work(*size), plan)
    for label, program in programs.items():
        assert spread.link.dram is not None
        cycles, refreshes, before = api.cycles(program)[0], 0, -1
        bare = replace(program, hardware=sram_machine("gpp-256-dram", "link.dram.refresh_cycles=0"))
        found = last_done(bare, spread.link.dram, 0)
        while refreshes != before:  # as many as fall into the run, which they make longer
            before, refreshes = refreshes, found // spread.link.dram.refresh_interval_cycles
            found = last_done(bare, spread.link.dram, refreshes)
        row(f"{label:<30} spread {cycles:>8,}  when due {found:>8,} ({refreshes} refreshes): {100 * (cycles / found - 1):+.1f} %")


def last_done(program: Program, dram: Dram, refreshes: int) -> int:
    """Cycles of a program beside which the link is held for a refresh so many times, each an interval after the one before."""
    last, n = program.hardware.processors - 1, program.n_rows
    assert program.stream_ptr[last] == n  # the conductor is free
    held = np.zeros(1, program.rows.dtype)
    held["opcode"], held["processor"], held["node"], held["pattern"], held["count"] = OPCODES["wait"], last, -1, -1, refreshes
    stream_ptr = program.stream_ptr.copy()
    stream_ptr[-1] += 1
    costed = cost(replace(
        program, rows=np.concatenate([program.rows, held]), stream_ptr=stream_ptr, partner=np.append(program.partner, -1).astype(np.int32),
        dep_ptr=np.append(program.dep_ptr, program.dep_ptr[-1]),
    ))  # fmt: skip
    timing, form, ticks = costed.timing, costed.forms.of_row[n], costed.ticks_per_cycle
    assert costed.forms.rows[form] == 1
    resources = costed.resources
    assert isinstance(resources, SramResources)
    holds = (dram.refresh_interval_cycles * ticks, dram.refresh_cycles * ticks if refreshes else 1)
    changed = {name: getattr(timing, name).copy() for name in ("n_phases", "reps", "phase_res", "phase_hold", "phase_pass")}
    changed["n_phases"][form], changed["reps"][form] = 2, max(refreshes, 1)
    changed["phase_res"][form, :2] = resources.control[last], resources.link
    changed["phase_hold"][form, :2] = changed["phase_pass"][form, :2] = holds
    return int(engine.run(replace(timing, **changed)).in_cycles(ticks).done[:n].max())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("networks", "conform", "refresh", "bert", "prefill", "decode", "cases"))
    parser.add_argument("values", nargs="*")
    parser.add_argument("--hardware", default="gpp-256")
    given = parser.parse_args(arguments)
    machine = sram_machine(given.hardware)
    if given.what == "networks":
        for name in given.values or ("lenet", "squeezenet", "resnet18"):
            compare(name, machine, name)
    elif given.what == "conform":
        conform(machine, given.values or ("lenet", "squeezenet", "prefill-16", "decode-8"))
    elif given.what == "refresh":
        refresh()
    elif given.what == "bert":
        bert(machine)
    elif given.what == "cases":
        cases(machine, int(given.values[0]) if given.values else 50, at_any="any" in given.values[1:])
    else:
        build, sizes = (prefill, (1, 16, 128, 512, 2048)) if given.what == "prefill" else (decode, (1, 8, 64))
        for size in [int(v) for v in given.values] or sizes:
            compare(build(size), machine, f"{given.what} {size}", size)


if __name__ == "__main__":
    main()
