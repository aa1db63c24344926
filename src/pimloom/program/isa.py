"""The instruction set: each opcode once, with its operands, unit and meaning.

The meaning (what `execute` does) and the operand table below are the definition; compiler, simulator, interpreter,
disassembler and docs read the same row. `local` is the memory of the row's processor, `global` the global memory. What an
opcode costs depends on the kind of machine: see `machine` and the table in `machines`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from pimloom.errors import ProgramError

MAX_PHASES = 4
COMPUTE, SEND, RECEIVE = 0, 1, 2


@final
@dataclass(frozen=True, slots=True)
class Instruction:
    """One row of the instruction set.

    Attributes:
        name: mnemonic.
        kind: COMPUTE, SEND or RECEIVE.
        unit: what carries it out, for people.
        operands: field name to what it means here; fields not named are unused.
        meaning: what it does, in one sentence.
        is_transfer: whether it may be handed to the core's transfer queue.
        is_timed_only: whether it stands for no data: a program of such rows can be simulated, not executed.
    """

    name: str
    kind: int
    unit: str
    operands: Mapping[str, str]
    meaning: str
    is_transfer: bool = False
    is_timed_only: bool = False


# -- the table ------------------------------------------------------------------------------------------------------

_SUMS = "local: partial sums"
_CODES = "local: codes"

_PIMSIM_OPERANDS = {
    "dst": "value of rd", "src1": "value of rs1, and the offset in the upper half", "src2": "value of rs2, value waited for or filled in",
    "length": "elements or bytes",
    "dst_step": "low word of a global address, or size of lmv",
    "src1_step": "place in the core's list, scalar instructions counted", "src2_step": "widths and selections, packed",
}  # fmt: skip

_PIMSIM = tuple(
    Instruction(
        f"pimsim.{name}",
        {"send": SEND, "recv": RECEIVE}.get(name, COMPUTE),
        unit,
        _PIMSIM_OPERANDS | ({"arg": "array group"} if name == "mvmul" else {}),
        meaning,
        is_timed_only=True,
    )
    for name, unit, meaning in (
        ("mvmul", "crossbars", "an array group times a vector"),
        ("vvadd", "vector unit", "adds two vectors"),
        ("vvsub", "vector unit", "subtracts two vectors"),
        ("vvmul", "vector unit", "multiplies two vectors"),
        ("vvdmul", "vector unit", "multiplies two vectors and adds up"),
        ("vvmax", "vector unit", "takes the larger elements"),
        ("vvsll", "vector unit", "shifts elements left"),
        ("vvsra", "vector unit", "shifts elements right"),
        ("vavg", "vector unit", "averages elements a stride apart"),
        ("vrelu", "vector unit", "takes what is above zero"),
        ("vtanh", "vector unit", "takes the hyperbolic tangent"),
        ("vsigm", "vector unit", "takes the logistic function"),
        ("vmv", "vector unit", "moves elements a stride apart"),
        ("vrsu", "vector unit", "changes the width, bounded above"),
        ("vrsl", "vector unit", "changes the width, bounded below"),
        ("ld", "global memory", "global to local"),
        ("st", "global memory", "local to global"),
        ("lldi", "local memory", "fills bytes"),
        ("lmv", "local memory", "copies within the local memory"),
        ("send", "network", "hands data to the partner recv"),
        ("recv", "network", "takes the data of the partner send"),
        ("wait", "control", "waits until an event register has a value"),
        ("sync", "network", "adds one to an event register of another core"),
    )
)
"""The instructions of pimsim-nn (`program.pimsim`), as that simulator times them; scalar ones are counted in `src1_step`.

What `arg` is besides an array group: the other core of send, recv and sync, the event register of wait.
"""

INSTRUCTIONS: tuple[Instruction, ...] = (
    Instruction("mvm", COMPUTE, "crossbars", {
        "dst": _SUMS, "src1": _CODES, "pattern": "segments of one window", "length": "columns", "count": "windows", "arg": "array group",
    }, "adds the group's weights times the gathered window to `length` sums, for `count` windows"),
    Instruction("preset", COMPUTE, "vector unit", {
        "dst": _SUMS, "length": "columns", "count": "vectors", "arg": "first column", "src2": "bytes of a sum",
    }, "sets sums to the node's bias (0 without one)"),
    Instruction("add_partial", COMPUTE, "vector unit", {
        "dst": _SUMS, "src1": _SUMS, "src2": _SUMS, "length": "columns", "count": "vectors",
    }, "adds the sums of another core, src1, to sums, src2 (the same as dst)"),
    Instruction("finish", COMPUTE, "vector unit", {
        "dst": _CODES, "src1": _SUMS, "length": "columns", "count": "vectors", "arg": "first column",
    }, "rescales complete sums to the node's output codes, with its fused activation"),
    Instruction("vector", COMPUTE, "vector unit", {
        "dst": _CODES, "src1": _CODES, "src2": "local: codes of the second operand, -1 for none", "length": "channels",
        "count": "vectors", "arg": "first channel",
    }, "applies an element-wise or row-wise node to vectors"),
    Instruction("pool", COMPUTE, "vector unit", {
        "dst": _CODES, "src1": _CODES, "pattern": "segments of one window", "length": "channels", "count": "windows",
        "arg": "first channel",
        "src2": "elements counted for an average",
    }, "takes the maximum or mean over a window of vectors"),
    Instruction("stencil", COMPUTE, "vector unit", {
        "dst": _CODES, "src1": _CODES, "pattern": "segments of one window", "length": "channels", "count": "windows",
        "arg": "first channel",
    }, "weighs the taps of each channel's window, adds them and rescales (depthwise convolution)"),
    Instruction("accumulate", COMPUTE, "vector unit", {
        "dst": _SUMS, "src1": _CODES, "length": "channels", "count": "vectors", "arg": "first channel",
    }, "adds vectors to sums"),
    Instruction("copy", COMPUTE, "local memory", {
        "dst": _CODES, "src1": _CODES, "length": "bytes", "count": "segments",
    }, "copies within the local memory"),
    Instruction("load", COMPUTE, "global memory", {
        "dst": _CODES, "src1": "offset in the region", "length": "bytes", "count": "segments", "arg": "region",
    }, "global to local", is_transfer=True),
    Instruction("store", COMPUTE, "global memory", {
        "dst": "offset in the region", "src1": _CODES, "length": "bytes", "count": "segments", "arg": "region",
    }, "local to global", is_transfer=True),
    Instruction("send", SEND, "network", {
        "src1": "local", "length": "bytes", "count": "segments",
    }, "hands data to the partner receive", is_transfer=True),
    Instruction("receive", RECEIVE, "network", {
        "dst": "local", "length": "bytes", "count": "segments",
    }, "takes the data of the partner send", is_transfer=True),
    Instruction("general", COMPUTE, "vector unit", {
        "src1": "bytes read per block", "dst": "bytes written per block", "length": "element operations per block", "count": "blocks",
        "src2": "1 in the row that completes the node", "arg": "part number",
    }, "computes a node whose operands stay in global memory"),
    Instruction("write_weights", COMPUTE, "arrays", {
        "dst": "bytes per cycle", "arg": "array group to write", "length": "bytes", "count": "lines",
        "src1": "offset in the weights' region", "src2": "1 + region of the weights, 0 for constants",
        "dst_step": "first array of the processor that the group takes",
    }, "writes a group's weights into its array, which holds them until the next write; from a region, src1_step bytes apart "
       "from row to row and src2_step from column to column"),
    Instruction("gather", COMPUTE, "local memory", {
        "dst": "local", "src1": "local", "pattern": "segments of one window", "length": "bytes", "count": "windows",
    }, "copies gathered windows; what is masked becomes what pads the node's input: its zero point, or the lowest code"),
    Instruction("wait", COMPUTE, "control", {"length": "cycles"}, "does nothing for some cycles"),
    *_PIMSIM,
)  # fmt: skip

OPCODES: dict[str, int] = {row.name: code for code, row in enumerate(INSTRUCTIONS)}


def opcode(name: str) -> int:
    """The code of a mnemonic; ProgramError if there is none."""
    try:
        return OPCODES[name]
    except KeyError:
        raise ProgramError(f"opcode '{name}' is unknown; known: {', '.join(OPCODES)}") from None


__all__ = ["COMPUTE", "INSTRUCTIONS", "MAX_PHASES", "OPCODES", "RECEIVE", "SEND", "Instruction", "opcode"]
