"""Every network on every machine in both modes: load, quantise, compile, simulate, execute, compare; one row per case.

    python benchmarks/networks.py                                          # all of them: hours
    python benchmarks/networks.py lenet vit_tiny --hardware isaac puma --mode latency
    python benchmarks/networks.py --only 'light_*' --reference --json light.json --markdown light.md
    python benchmarks/networks.py my_model.onnx --hardware toy

A network is a name of the zoo (`pimloom models`), one of the CNNs inside the onnx wheel (`light_resnet50`, ...), a full-size
transformer exported from PyTorch (`exported_bert`, `exported_gpt2`, `exported_vit`; PyTorch and onnxscript are needed) or the
path of an ONNX file. Where a machine is too small, chips are added by the numbers of the CapacityError. Every case runs in a
process of its own, under a limit of time and one of memory, and is written to the JSON file when it ends: started again,
the command goes on with the cases that the file does not hold. The exit code is 1 if a case failed, else 0.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from quality import assessed

from pimloom import api
from pimloom.errors import CapacityError, PimloomError
from pimloom.execute import Interpreter, encode_inputs
from pimloom.frontends.zoo import ZOO, input_example
from pimloom.hardware import Hardware, load_hardware
from pimloom.ir.evaluate import evaluate
from pimloom.ir.graph import Graph
from pimloom.program import Program
from pimloom.simulate import cycles
from pimloom.targets import TARGETS, Mode, Request

Record = dict[str, Any]
LIGHT = Path(onnx.__path__[0]) / "backend" / "test" / "data" / "light"
TORCH_MODULES = Path(__file__).parents[1] / "tests"
EXPORTED = ("exported_bert", "exported_gpt2", "exported_vit")
KEY = ("network", "hardware", "mode", "effort")
MOST_CHIPS = 32
MEMORY_TRIES = 3
"""How often chips are added because a local or global memory is too small; crossbars say how many they need."""
COLUMNS: Mapping[str, str] = {
    "network": "network", "hardware": "machine", "mode": "mode", "chips": "chips", "nodes": "nodes", "rows": "rows",
    "crossbars": "crossbars", "load_s": "load s", "quantise_s": "quantise s", "compile_s": "compile s", "compile_cpu_s": "of it CPU s",
    "simulate_s": "simulate s", "execute_s": "execute s", "peak_mib": "peak MiB", "latency_us": "latency us", "period_us": "period us",
    "bounds": "share of bounds", "local_memory_bytes": "largest local memory (bytes)", "bit_identical": "bit-identical",
    "rms_error": "rms error", "rms_bound": "bound",
}  # fmt: skip
"""Key of a record to heading."""


# -- one case, in the process of its own --------------------------------------------------------------------------


def run_case(record: Record, *, with_reference: bool, exports: Path, tell: Callable[[Record], None]) -> None:
    """Runs a case and fills its record in, telling it after each step.

    Args:
        record: holds network, hardware, mode and effort.
        with_reference: whether to compare with ONNX Runtime on the float network too.
        exports: folder of the models exported from PyTorch.
        tell: called with the record before each step, whose name stands under "step".

    Raises:
        PimloomError: the network cannot be loaded, compiled, simulated or executed.
    """
    warm_up(record["hardware"])
    with Step(record, "load", tell):
        graph = load_network(record["network"], exports)
    samples = (input_example(graph, 0),)
    with Step(record, "quantise", tell):
        quantised = api.quantise(graph, record["hardware"], calibration=samples)
    record["nodes"] = len(quantised.nodes)
    program = fitting_program(quantised, record, tell)
    record |= {"rows": program.n_rows, "crossbars": int(program.groups.crossbars.sum()), "local_memory_bytes": local_memory_bytes(program)}
    with Step(record, "simulate", tell):
        result, record["quality"] = assessed(program)
    record |= {
        "latency_us": result.latency_ns / 1e3,
        "period_us": result.period_cycles / result.clock_ghz / 1e3,
        "bounds": {f"{b.mode}: {b.name}": result.achieved(b) for b in result.bounds},
    }
    codes = encode_inputs(program, samples[0])
    with Step(record, "execute", tell):
        executed = Interpreter(program).run(codes)
    with Step(record, "evaluate", tell):
        meaning = evaluate(program.graph, codes)
    record["bit_identical"] = all(np.array_equal(executed[v], meaning[v]) for v in program.graph.outputs)
    if with_reference:
        with Step(record, "compare", tell):
            record |= differences(api.Compiled(program, graph, samples[0]))


class Step:
    """Times a step into a record: `load` into `load_s`, the processor's share of that into `load_cpu_s`."""

    def __init__(self, record: Record, name: str, tell: Callable[[Record], None]) -> None:
        """Prepares the step; nothing runs yet."""
        self.record, self.name, self.tell = record, name, tell

    def __enter__(self) -> None:
        self.record["step"] = self.name
        self.tell(self.record)
        self.begun, self.cpu_begun = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        self.record[f"{self.name}_s"] = time.perf_counter() - self.begun
        self.record[f"{self.name}_cpu_s"] = time.process_time() - self.cpu_begun


def warm_up(hardware: str) -> None:
    """Compiles the kernels, so that no step pays for it."""
    api.compile("tiny_mlp", hardware, effort=0).simulate()


def load_network(name: str, exports: Path) -> Graph:
    """A network by any of its names; exports it from PyTorch the first time."""
    if name.startswith("light_"):
        return api.load(LIGHT / f"{name}.onnx")
    if name in EXPORTED:
        path = exports / f"{name}.onnx"
        if not path.exists():
            sys.path.insert(0, str(TORCH_MODULES))
            from frontends.torch_networks import export_full_size  # pyright: ignore[reportMissingImports]

            exports.mkdir(parents=True, exist_ok=True)
            export_full_size(name.removeprefix("exported_"), path)
        return api.load(path)
    return api.load(name)


def fitting_program(graph: Graph, record: Record, tell: Callable[[Record], None]) -> Program:
    """Compiles for the first number of chips that the CapacityErrors lead to; what did not fit is noted under "refused"."""
    machine = load_hardware(record["hardware"])
    first, tries = machine.chips, 0
    while True:
        record["chips"] = machine.chips
        try:
            with Step(record, "compile", tell):
                return compile_graph(graph, machine, record["mode"], record["effort"])
        except CapacityError as error:
            record.setdefault("refused", []).append(f"{machine.chips} chips, {record['compile_s']:.1f} s: {error}")
            tries += error.resource != "crossbars"
            chips = more_chips(error, machine.chips)
            if machine.chip_link is None or chips > MOST_CHIPS * first or tries > MEMORY_TRIES:
                raise
            machine = load_hardware(record["hardware"], {"chips": chips})


def more_chips(error: CapacityError, chips: int) -> int:
    """What to try next: as many chips as the crossbars need, or half as many again where a memory is too small."""
    if error.resource == "crossbars":
        return max(chips + 1, math.ceil(chips * error.needed / error.available))
    return chips + max(1, chips // 2)


def compile_graph(graph: Graph, machine: Hardware, mode: str, effort: int) -> Program:
    """The program of a quantised graph, as `pimloom compile` makes it."""
    samples = 8 if mode == "throughput" else 1
    request = Request(Mode(mode), samples, effort, 0, cycles, lambda _: None)
    return TARGETS[machine.kind].compile(graph, machine, request)


def local_memory_bytes(program: Program) -> int:
    """Bytes that the fullest local memory holds."""
    return max((b.address + b.size_bytes for b in program.blocks), default=0)


def differences(compiled: api.Compiled) -> Record:
    """Error and bound of the output that comes closest to its bound."""
    details = compiled.verify(reference="onnxruntime").details
    worst = max(details.values(), key=lambda d: d["rms_error"] / d["rms_bound"] if d["rms_bound"] else math.inf)
    within = all(d["rms_error"] <= d["rms_bound"] for d in details.values())
    return {"rms_error": worst["rms_error"], "rms_bound": worst["rms_bound"], "is_within_bound": within}


def case_process(options: argparse.Namespace) -> None:
    """Runs the case of `--case` under the memory limit and prints its record as JSON lines, the last one complete."""
    limit = int(options.memory_limit_gib * 2**30)
    if sys.platform == "linux":  # elsewhere the limit does not cover what NumPy allocates
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    record: Record = json.loads(options.case)
    try:
        run_case(record, with_reference=options.reference, exports=exports_folder(options), tell=_print_line)
    except PimloomError as error:
        record["error"] = str(error)
    except MemoryError:
        record["error"] = f"memory: more than {options.memory_limit_gib:g} GiB wanted in step '{record.get('step', 'start')}'"
    except Exception as error:  # a fault of pimloom is a finding of this benchmark, not its end
        record["error"] = f"internal error in step '{record.get('step', 'start')}': {type(error).__name__}: {error}"
    record["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    record.pop("step", None)
    _print_line(record)


def _print_line(record: Record) -> None:
    print(json.dumps(record), flush=True)


# -- all cases ------------------------------------------------------------------------------------------------------


def all_networks() -> list[str]:
    """Every network that has a name, smallest first within its kind."""
    light = [path.stem for path in sorted(LIGHT.glob("light_*.onnx"))]
    return [*ZOO, *light, *EXPORTED]


def started_case(record: Record, options: argparse.Namespace) -> Record:
    """Runs a case in a process of its own; its record, with an error where the process did not end well."""
    arguments = [sys.executable, __file__, "--case", json.dumps(record), "--json", str(options.json)]
    arguments += ["--memory-limit-gib", str(options.memory_limit_gib), *(["--reference"] if options.reference else [])]
    begun = time.perf_counter()
    try:
        done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=options.time_limit_s)
        told, fault = done.stdout, f"the process ended with code {done.returncode}: {_last_line(done.stderr)}" if done.returncode else ""
    except subprocess.TimeoutExpired as late:
        told, fault = (late.stdout or b"").decode(), f"not done after {options.time_limit_s:g} s"
    found = _last_record(told) or dict(record)
    if fault:
        found["error"] = f"{fault} in step '{found.pop('step', 'start')}'"
    return {**found, "wall_s": time.perf_counter() - begun}


def _last_line(text: str) -> str:
    return next(iter(reversed(text.strip().splitlines())), "no message")


def _last_record(told: str) -> Record | None:
    for line in reversed(told.splitlines()):
        try:
            return json.loads(line)
        except json.JSONDecodeError:  # cut off in the middle of a line
            continue
    return None


def wanted_cases(options: argparse.Namespace) -> list[Record]:
    """The cases that the options ask for."""
    networks = options.networks or all_networks()
    if options.only:
        networks = [n for n in networks if any(fnmatch.fnmatch(n, pattern) for pattern in options.only)]
    values = ((n, h, m, options.effort) for n in networks for h in options.hardware for m in options.mode)
    return [dict(zip(KEY, value, strict=True)) for value in values]


def key_of(record: Record) -> tuple[Any, ...]:
    """What a case is known by."""
    return tuple(record[name] for name in KEY)


def is_good(record: Record) -> bool:
    """Whether a case ran to its end with the right numbers."""
    return "error" not in record and bool(record["bit_identical"]) and record.get("is_within_bound", True)


def exports_folder(options: argparse.Namespace) -> Path:
    """Where models exported from PyTorch are kept."""
    return options.json.parent / "exported"


# -- tables -----------------------------------------------------------------------------------------------------------


def markdown(records: Iterable[Record]) -> str:
    """A table of the cases, then a list of what failed and of what did not fit at first."""
    records = list(records)
    has_reference = any("rms_bound" in r for r in records)
    shown = {key: title for key, title in COLUMNS.items() if has_reference or not key.startswith("rms_")}
    lines = [f"| {' | '.join(shown.values())} |", f"|{'---|' * len(shown)}"]
    lines += [f"| {' | '.join(_cell(record, key) for key in shown)} |" for record in records]
    failed = [f"* {' '.join(map(str, key_of(r)[:3]))}: {_fault(r)}" for r in records if not is_good(r)]
    refused = [f"* {' '.join(map(str, key_of(r)[:3]))}: {why}" for r in records for why in r.get("refused", ())]
    for title, part in (("Failed", failed), ("Did not fit at first", refused)):
        lines += ["", f"{title}: {len(part)}", "", *part] if part else []
    return "\n".join(lines) + "\n"


def _cell(record: Record, key: str) -> str:
    value = record.get(key)
    if value is None:
        return "-"
    if key == "bounds":
        return ", ".join(f"{name} {share:.2f}" for name, share in value.items() if name.startswith(record["mode"]))
    if isinstance(value, bool):
        return "yes" if value else "NO"
    return f"{value:.3g}" if isinstance(value, float) and value < 1000 else f"{value:,.0f}" if not isinstance(value, str) else value


def _fault(record: Record) -> str:
    if "error" in record:
        return record["error"]
    if not record["bit_identical"]:
        return "the executed codes differ from the meaning of the graph"
    return f"rms error {record['rms_error']:.3g} exceeds its bound {record['rms_bound']:.3g}"


def write(records: Sequence[Record], options: argparse.Namespace) -> None:
    """Writes the JSON file and the table."""
    options.json.parent.mkdir(parents=True, exist_ok=True)
    part = options.json.with_suffix(".part")
    part.write_text(json.dumps(records, indent=1) + "\n")
    part.replace(options.json)
    options.markdown.write_text(markdown(records))


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", help="names or ONNX files; all networks if none are given")
    parser.add_argument("--only", action="append", metavar="PATTERN", help="keeps networks that match, e.g. 'light_*'; repeatable")
    parser.add_argument("--hardware", nargs="+", default=["isaac", "puma", "pimcomp-default"])
    parser.add_argument("--mode", nargs="+", default=["latency", "throughput"], choices=["latency", "throughput"])
    parser.add_argument("--effort", type=int, default=1, choices=range(4))
    parser.add_argument("--reference", action="store_true", help="compares with ONNX Runtime too; slow for large networks")
    parser.add_argument("--json", type=Path, default=Path("networks.json"), help="file of the records; holds what need not run again")
    parser.add_argument("--markdown", type=Path, help="file of the table; beside the JSON file if not given")
    parser.add_argument("--again", action="store_true", help="runs the failed cases of the JSON file again")
    parser.add_argument("--jobs", type=int, default=1, help="cases at a time")
    parser.add_argument("--time-limit-s", type=float, default=1200.0, help="of a case, all steps")
    parser.add_argument("--memory-limit-gib", type=float, default=8.0, help="of a case")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.markdown = options.markdown or options.json.with_suffix(".md")
    return options


def main() -> int:
    """Runs the cases that the JSON file does not hold."""
    options = parsed()
    if options.case:
        case_process(options)
        return 0
    held: dict[tuple[Any, ...], Record] = {}
    if options.json.exists():
        held = {key_of(r): r for r in json.loads(options.json.read_text())}
    wanted = wanted_cases(options)
    missing = [c for c in wanted if key_of(c) not in held or (options.again and not is_good(held[key_of(c)]))]
    with ThreadPoolExecutor(options.jobs) as pool:
        for record in pool.map(lambda case: started_case(case, options), missing):
            held[key_of(record)] = record
            write(list(held.values()), options)
            verdict = "ok" if is_good(record) else f"FAILED: {_fault(record)}"
            print(f"{' '.join(map(str, key_of(record)[:3]))}: {verdict} ({record['wall_s']:.0f} s)", flush=True)
    write(list(held.values()), options)
    failed = [c for c in wanted if not is_good(held[key_of(c)])]
    print(f"{len(wanted)} cases, {len(failed)} failed; {options.json}, {options.markdown}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
