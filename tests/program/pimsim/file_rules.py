"""What pimsim-nn asks of its three files, checked on the files themselves: nothing here reads them with the package.

pimsim-nn checks little: what breaks a rule crashes it, blocks it or gives a wrong time without a word. The rules are those of its
instruction set, and what was found out by trying (fields that it reads, bit widths of 0, pairs missing in the network, ...).
"""

from __future__ import annotations

import gzip
import itertools
import json
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

SCALARS = {"sldi": {"rd", "imm"}, "setbw": {"ibiw", "obiw"}}
VECTORS = {
    "vvadd": 3, "vvsub": 3, "vvmax": 3, "vvmul": 3, "vvsll": 3, "vvsra": 3, "vvdmul": 3, "vavg": 3, "vmv": 3, "vrsu": 3, "vrsl": 3,
    "vrelu": 2, "vtanh": 2, "vsigm": 2,
}  # fmt: skip
"""Registers of vector instructions."""

WIDE = ("vvmul", "vvsll", "vvsra", "vtanh", "vsigm", "vrsu", "vrsl")
"""Their results have the output width."""

TRANSFERS = {
    "ld": {"rd", "rs1", "size"}, "st": {"rd", "rs1", "size"}, "lldi": {"rd", "len"}, "lmv": {"rd", "rs1", "len", "size"},
    "send": {"rd", "rs1", "core", "size"}, "recv": {"rd", "core", "size"},
}  # fmt: skip
OPTIONAL = {"lldi": {"imm"}, "mvmul": {"relu"}}
REGISTERS = ("rd", "rs1", "rs2")
FIELDS: dict[str, set[str]] = {
    **SCALARS, **TRANSFERS, "mvmul": {"rd", "rs1", "group", "mbiw"},
    **{name: {*REGISTERS[:count], "len"} for name, count in VECTORS.items()},
}  # fmt: skip
"""Fields that each instruction must state; events are not among them, as one too many blocks a repeated list."""


def violations(program: Path, architecture: Path) -> list[str]:
    """Broken rules of an exported program and its configuration, a few of each kind."""
    chip = json.loads(architecture.read_text())
    found: Counter[str] = Counter()
    config: dict[str, Any] = {}
    ends: dict[int, list[tuple[bool, int, int]]] = {}
    memory = chip["chip_config"]["core_config"]["local_memory_config"]["memory_size"]
    matrix = chip["chip_config"]["core_config"]["matrix_config"]
    for core, items in lists(program, config):
        groups = config["array_group_map"][f"core{core}"]
        if sum(groups) > matrix["xbar_array_count"]:
            found[f"core {core}: {sum(groups)} crossbars of {matrix['xbar_array_count']}"] += 1
        ends[core] = list(_list(core, items, groups, memory, matrix, found))
    found.update(_messages(ends))
    found.update(_configuration(chip, architecture.parent, config, ends))
    return [f"{what} ({count} times)" for what, count in found.items()]


def lists(program: Path, config: dict[str, Any]) -> Iterator[tuple[int, Iterator[dict[str, Any]]]]:
    """The lists of a file that has an instruction on each line, as it is read; `config` is filled in first."""
    known: dict[str, dict[str, Any]] = {}
    with gzip.open(program, "rt", encoding="ascii") as file:
        config |= json.loads(file.readline().removesuffix(",\n") + "}")["config"]
        for line in file:
            name, begin = line[1:].split('":[', 1)
            assert name.startswith("core") and name[4:].isdigit(), name
            yield int(name[4:]), _items(begin, file, known)


def _items(first: str, file: Iterator[str], known: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for line in itertools.chain((first,), file):
        text = line.rstrip("\n").rstrip(",")
        is_last = text.endswith(("]", "]}"))
        text = text.rstrip("]}") + "}" if is_last else text
        if text not in known:
            known[text] = json.loads(text)
        yield known[text]
        if is_last:
            return


def _list(
    core: int, items: Iterator[dict[str, Any]], groups: list[int], memory: int, matrix: Mapping[str, Any], found: Counter[str]
) -> Iterator[tuple[bool, int, int]]:  # fmt: skip
    """Checks a list; yields its messages: whether it sends, the other core, bytes."""
    registers: dict[int, int] = {}
    widths = (0, 0)
    last = ""
    for place, one in enumerate(items):
        last = op = one.get("op", "none")
        wrong = _form(one, place, groups)
        if op == "sldi" and not wrong:
            registers[one["rd"]] = one["imm"]
        elif op == "setbw" and not wrong:
            widths = (-(-one["ibiw"] // 8), -(-one["obiw"] // 8))
        elif not wrong:
            wrong = _places(one, registers, widths, memory, matrix, groups)
        for what in wrong:
            found[f"{op}: {what}"] += 1
        if op in ("send", "recv"):
            if one["core"] == core:
                found[f"{op}: to the core itself"] += 1
            yield op == "send", one["core"], one["size"]
    if last in SCALARS or not last:
        found["a list ends with a scalar instruction, or is empty"] += 1


def _form(one: Mapping[str, Any], place: int, groups: list[int]) -> list[str]:
    """What is wrong with the fields of an instruction."""
    op = one.get("op", "none")
    if op not in FIELDS:
        return ["unknown"]
    wrong: list[str] = []
    if (place == 0) != (op == "setbw") and place == 0:
        wrong.append("first in its list, where setbw has to be")
    missing, more = FIELDS[op] - one.keys(), one.keys() - FIELDS[op] - OPTIONAL.get(op, set()) - {"op"}
    if op == "mvmul":
        missing.discard("group")
    wrong += [f"field {name} is missing" for name in missing] + [f"field {name} is not read" for name in more]
    numbers = {key: value for key, value in one.items() if key != "op"}
    wrong += [f"{key} is no number of 32 bits" for key, v in numbers.items() if type(v) is not int or not -(1 << 31) <= v < 1 << 31]
    if wrong:
        return wrong
    wrong += [f"register {key}" for key in REGISTERS if not 0 <= one.get(key, 0) < 32]
    wrong += [f"{key} is not above 0" for key in ("len", "size", "mbiw", "ibiw", "obiw") if key in one and one[key] <= 0]
    pair = {"ld": "rs1", "st": "rd"}.get(op, "")
    if pair and one[pair] % 2:
        wrong.append("an odd register begins a pair")
    if op == "send" and one["rd"] != one["rs1"]:
        wrong.append("rd is read and rs1 is checked, but they differ")
    if op == "lmv" and one["len"] != one["size"]:
        wrong.append("len is copied and size is checked, but they differ")
    if op == "mvmul" and not 0 <= one.get("group", 0) < len(groups):
        wrong.append("array group that the core has not")
    return wrong


def _places(
    one: Mapping[str, Any], registers: Mapping[int, int], widths: tuple[int, int], memory: int, matrix: Mapping[str, Any], groups: list[int]
) -> list[str]:  # fmt: skip
    """Ranges of local memory that an instruction touches and that are not there; registers that were never set."""
    op = one["op"]
    named = [one[key] for key in REGISTERS if key in one]
    pair = {"ld": "rs1", "st": "rd"}.get(op, "")
    if pair:
        named.append(one[pair] + 1)
    if any(register not in registers for register in named):
        return ["register that was not loaded in this list"]
    if op in ("mvmul", *VECTORS) and not all(widths):
        return ["elements without bytes"]
    held = {key: registers[one[key]] for key in REGISTERS if key in one}
    ranges = {key: size for key, size in _sizes(one, widths, matrix, groups).items() if key != pair}
    wrong = [f"{key} leaves the local memory" for key, size in ranges.items() if not 0 <= held[key] <= memory - size]
    if pair and (held[pair] < 0 or (held[pair] << 32 | registers[one[pair] + 1] & 0xFFFFFFFF) >= 1 << 40):
        wrong.append("address in the global memory beyond a TiB")
    return wrong


def _sizes(one: Mapping[str, Any], widths: tuple[int, int], matrix: Mapping[str, Any], groups: list[int]) -> dict[str, int]:
    """Bytes from each register's address on."""
    op = one["op"]
    if op == "mvmul":  # not all rows need be used; what columns yield is written back for each crossbar
        results = matrix["xbar_size"][1] * matrix["cell_precision"] // one["mbiw"] * groups[one.get("group", 0)]
        return {"rs1": 1, "rd": min(results, 1) * widths[1]}
    if op in VECTORS:
        written = one["len"] * widths[1 if op in WIDE else 0]
        sources = REGISTERS[1 : VECTORS[op]] if op.startswith("vv") else REGISTERS[1:2]
        return {"rd": written, **dict.fromkeys(sources, one["len"] * widths[0])}
    size = one["len"] if op in ("lldi", "lmv") else one["size"]
    return {key: size for key in ("rd", "rs1") if key in one}


def _messages(ends: Mapping[int, list[tuple[bool, int, int]]]) -> Iterator[str]:
    """Two rounds of all lists, each message a meeting of its ends; and sizes that differ."""
    rounds = {core: deque(messages * 2) for core, messages in ends.items()}
    ready = deque(rounds)
    while ready:
        core = ready.popleft()
        while rounds[core]:
            is_send, other, size = rounds[core][0]
            if other not in rounds:
                yield f"core {core} talks to core {other}, which has no list"
                return
            if not rounds[other] or rounds[other][0][:2] != (not is_send, core):
                break
            if rounds[other][0][2] != size:
                yield f"core {min(core, other)} and core {max(core, other)} disagree on the bytes of a message"
            rounds[core].popleft()
            rounds[other].popleft()
            ready.append(other)
    stuck = [core for core, left in rounds.items() if left]
    if stuck:
        yield f"cores {stuck[:8]} wait for messages forever"


def _configuration(chip: Mapping[str, Any], folder: Path, config: Mapping[str, Any], ends: Mapping[int, Any]) -> Iterator[str]:
    """The architecture and the network file."""
    part, sim = chip["chip_config"], chip["sim_config"]
    matrix, count = part["core_config"]["matrix_config"], config["core_cnt"]
    if not all(0 <= core < count for core in ends) or set(config["array_group_map"]) != {f"core{k}" for k in range(count)}:
        yield "core_cnt, array_group_map and the lists name different cores"
    if sim["sim_mode"] not in (0, 1) or sim["sim_time"] <= 0 or sim["report_verbose_level"] > 1:
        yield "sim_config"
    if matrix["dac_count"] > matrix["xbar_size"][0] or matrix["adc_count"] > matrix["xbar_size"][1]:
        yield "more converters than lines: the division rounds down to 0"
    network = json.loads((folder / part["network_config"]["net_config_file_path"]).read_text())
    memory = str(part["global_memory_switch_id"])
    names = {memory, *(str(core) for core in ends)}
    for key in ("latency", "energy"):
        if any(b not in network[key].get(a, {}) for a in names for b in names if a != b):
            yield f"network: a pair without {key}, which would be free"
    if not isinstance(part["network_config"]["bus_width"], int) or part["core_config"]["rob_size"] < 1:
        yield "bus_width or rob_size"
