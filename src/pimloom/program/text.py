"""The text form of a Program: what a person reads, and what parses back.

    program tiny_cnn
    target crossbar
    mode latency
    samples 1
    graph tiny_cnn: 7 nodes
    hardware toy: 4 cores
    size: 597 rows
    note crossbars_used = 31
    region 0 x: chip 0, 0 +256, order 0 2 3 1, 64 x 3
    block 0: core 0, 0 +256, "sums conv1"
    block 5: core 0, 512 +300, "ring x", fill -3 int8
    matrix 0 conv1.weight: int8[27,8] 0f3c5a...
    group 0: core 0, 1 crossbars, matrix 0, rows 0:27, columns 0:8
    pattern 0: _+9 0+9 30+9
    core 0: 143 rows
      0: preset      dst=0+32 src2=4 length=8 count=8 column=0 ; node 0 conv1
      1: mvm         dst=0+32 src1=512+3 length=8 count=8 group=0 pattern=0 ; node 0 conv1 ; after 0
      2: finish      dst=256+8 src1=0+32 length=8 count=8 column=0 ; node 0 conv1 ; after 1 40@1
      3: send        src1=256 length=64 ; node 0 conv1 ; to core 1 row 201 ; after 2

Regions, blocks: `first byte +bytes`. An operand is `address+step`; a pattern lists `offset+bytes`, `_` where masked.
`after 1 40@1`: waits for row 1 of this sample and row 40 of the one before. Fields that are not named have their
defaults. Lines that begin with `#` are comments. Graph and hardware have text forms of their own; weights are referred
to by the digest of their codes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Final, NoReturn, final

import numpy as np

from pimloom.errors import ProgramError
from pimloom.hardware import Hardware
from pimloom.ir import DTYPES, Graph, digest
from pimloom.program.isa import COMPUTE, INSTRUCTIONS, OPCODES, RECEIVE, SEND, Instruction
from pimloom.program.program import Block, Groups, Layout, Matrix, Program, Region
from pimloom.program.rows import DEFAULTS, FIELDS, MASKED, ROW, Array, ragged
from pimloom.units import format_bytes

ARGUMENTS: Final = {
    "array group": "group",
    "array group to write": "group",
    "region": "region",
    "first column": "column",
    "first channel": "channel",
    "part number": "part",
}
"""What `arg` is called where it has one of these meanings."""

_STEPPED: Final = ("dst", "src1", "src2")
_OPERANDS: Final = tuple(f for f in FIELDS if f not in ("opcode", "processor", "node") and not f.endswith("_step"))
_PLAIN: Final = re.compile(r"[\w./-]+")
_SPACE: Final = "{:<11} "


def print_program(program: Program, processors: Collection[int] | None = None, limit: int | None = None) -> str:
    """The text form of a program.

    Args:
        program: the program.
        processors: the cores whose memory map, groups and rows are wanted; all if None.
        limit: most rows per core; all if None.

    Returns:
        The text; with all cores and rows it parses back.

    Raises:
        ProgramError: a core that is wanted does not exist, or a note has no JSON form.
    """
    return _Printer(program, processors, limit).text()


def print_instruction_set() -> str:
    """The instruction set for people: mnemonic, unit, meaning and operands of each instruction."""
    kinds = {COMPUTE: "", SEND: ", one end of a message", RECEIVE: ", the other end of a message"}
    lines = [
        f"{len(INSTRUCTIONS)} instructions. local: the memory of the row's core; region: a value in global memory.",
        "Addresses and steps are bytes; an operand has `count` pieces of `length` elements, `step` apart.",
    ]
    for row in INSTRUCTIONS:
        transfer = ", a transfer" if row.is_transfer else ""
        lines += ["", f"{row.name} ({row.unit}{kinds[row.kind]}{transfer}): {row.meaning}"]
        lines += [f"  {_shown_name(row, field):<8} {meaning}" for field, meaning in row.operands.items()]
    return "\n".join(lines) + "\n"


def weights_by_digest(program: Program) -> dict[str, Array]:
    """The weights of a program as `parse_program` wants them: codes[rows, columns] by digest."""
    return {digest(matrix.codes): matrix.codes for matrix in program.matrices}


def plain_notes(value: Any, where: str) -> Any:
    """Notes in the form that JSON has; ProgramError names what has none."""
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise ProgramError(f"{where}: found the key {key!r}, expected text; name it by a string")
        return {key: plain_notes(held, f"{where}: {key}") for key, held in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain_notes(held, f"{where}[{i}]") for i, held in enumerate(value)]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, str | int | float):
        return value
    raise ProgramError(
        f"{where}: found a {type(value).__name__}, expected numbers, text, lists or mappings; convert it"
    )


def _quoted(name: str) -> str:
    return name if _PLAIN.fullmatch(name) else json.dumps(name)


def _shown_name(instruction: Instruction, field: str) -> str:
    return ARGUMENTS.get(instruction.operands.get("arg", ""), "arg") if field == "arg" else field


# -- printing -------------------------------------------------------------------------------------------------------


@final
class _Printer:
    """Prints what was chosen of a program."""

    def __init__(self, program: Program, processors: Collection[int] | None, limit: int | None) -> None:
        self.program, self.limit = program, limit
        self.cores = sorted(set(range(program.n_processors) if processors is None else processors))
        for core in self.cores:
            if not 0 <= core < program.n_processors:
                raise ProgramError(
                    f"print: core {core} found, one of 0 to {program.n_processors - 1} expected; name another core"
                )
        if limit is not None and limit < 0:
            raise ProgramError(f"print: a limit of {limit} rows found, 0 or more expected; leave it out to print all")
        self.is_whole = len(self.cores) == program.n_processors and (limit is None or self._longest() <= limit)
        self.rows = [np.arange(*self._span(core)) for core in self.cores]

    def _span(self, core: int) -> tuple[int, int]:
        start, stop = (int(p) for p in self.program.stream_ptr[core : core + 2])
        return start, stop if self.limit is None else min(stop, start + self.limit)

    def _longest(self) -> int:
        return int(np.diff(self.program.stream_ptr).max(initial=0))

    def text(self) -> str:
        parts = [self._head(), self._regions(), self._blocks(), self._weights(), self._patterns()]
        parts += [self._stream(core, rows) for core, rows in zip(self.cores, self.rows, strict=True)]
        return "\n\n".join("\n".join(part) for part in parts if part) + "\n"

    def _head(self) -> list[str]:
        p = self.program
        lines = [
            f"program {_quoted(p.name)}",
            f"target {_quoted(p.target)}",
            f"mode {_quoted(p.mode)}",
            f"samples {p.samples}",
            f"graph {_quoted(p.graph.name)}: {len(p.graph.nodes)} nodes",
            f"hardware {_quoted(p.hardware.name)}: {p.hardware.processors} cores",
            f"size: {p.n_rows} rows",
        ]
        if not self.is_whole:
            rows = "all rows" if self.limit is None else f"{self.limit} rows of each"
            lines.append(
                f"# shortened to {len(self.cores)} of {p.n_processors} cores, {rows}; this text does not parse back"
            )
        notes = plain_notes(p.notes, f"program '{p.name}': notes")
        return lines + [f"note {_quoted(name)} = {json.dumps(value)}" for name, value in notes.items()]

    def _regions(self) -> list[str]:
        size = self.program.hardware.global_memory_bytes
        used = sum(r.size_bytes for r in self.program.regions)
        lines = [f"# global memory: {format_bytes(used)} in regions, {format_bytes(size)} on each chip"]
        for i, r in enumerate(self.program.regions):
            order = " ".join(map(str, r.layout.order))
            place = f"chip {r.chip}, {r.address} +{r.size_bytes}"
            lines.append(
                f"region {i} {_quoted(r.value)}: {place}, order {order}, {r.layout.rows} x {r.layout.channels}"
            )
        return lines

    def _blocks(self) -> list[str]:
        lines: list[str] = []
        by_core: dict[int, list[tuple[int, Block]]] = {core: [] for core in self.cores}
        for i, block in enumerate(self.program.blocks):
            if block.processor in by_core:
                by_core[block.processor].append((i, block))
        size = format_bytes(self.program.hardware.memory_bytes)
        for core, held in by_core.items():
            if held:
                used = format_bytes(sum(b.size_bytes for _, b in held))
                lines.append(f"# local memory of core {core}: {used} in blocks, of {size}")
                lines += [self._block(i, b) for i, b in held]
        return lines

    @staticmethod
    def _block(index: int, block: Block) -> str:
        place = f"core {block.processor}, {block.address} +{block.size_bytes}"
        code = "none" if block.fill is None else block.fill
        fill = "" if block.fill is None and block.dtype == "int8" else f", fill {code} {block.dtype}"
        return f"block {index}: {place}, {json.dumps(block.label)}{fill}"

    def _weights(self) -> list[str]:
        p, g = self.program, self.program.groups
        groups = np.flatnonzero(np.isin(g.processor, self.cores)).tolist()
        held = range(len(p.matrices)) if self.is_whole else sorted({int(g.matrix[i]) for i in groups})
        lines = ["# weights"] if groups or held else []
        for i in held:
            codes = p.matrices[i].codes
            shape = ",".join(map(str, codes.shape))
            lines.append(f"matrix {i} {_quoted(p.matrices[i].name)}: {codes.dtype}[{shape}] {digest(codes)}")
        for i in groups:
            rows, columns = f"rows {g.row_start[i]}:{g.row_stop[i]}", f"columns {g.column_start[i]}:{g.column_stop[i]}"
            lines.append(
                f"group {i}: core {g.processor[i]}, {g.crossbars[i]} crossbars, matrix {g.matrix[i]}, {rows}, {columns}"
            )
        return lines

    def _patterns(self) -> list[str]:
        p = self.program
        shown = range(p.pattern_ptr.size - 1)
        if not self.is_whole:
            used = p.rows["pattern"][np.concatenate(self.rows)] if self.rows else np.zeros(0, np.int64)
            shown = np.unique(used[used >= 0]).tolist()
        lines = ["# gather patterns: offset+bytes, _ where masked"] if shown else []
        pointer, offsets, lengths = p.pattern_ptr.tolist(), p.pattern_offset.tolist(), p.pattern_length.tolist()
        for i in shown:
            pieces = zip(offsets[pointer[i] : pointer[i + 1]], lengths[pointer[i] : pointer[i + 1]], strict=True)
            lines.append(" ".join([f"pattern {i}:", *(f"{'_' if o == MASKED else o}+{n}" for o, n in pieces)]))
        return lines

    def _stream(self, core: int, rows: Array) -> list[str]:
        start, stop = (int(q) for q in self.program.stream_ptr[core : core + 2])
        if start == stop:
            return []
        lines = [f"core {core}: {stop - start} rows", *self._lines(rows)]
        left = stop - start - rows.size
        return [*lines, f"  ... {left} more rows"] if left else lines

    def _lines(self, rows: Array) -> Iterator[str]:
        p = self.program
        if not rows.size:
            return
        first, last = int(rows[0]), int(rows[-1]) + 1
        columns = {name: p.rows[name][first:last].tolist() for name in FIELDS}
        pointer, width = p.dep_ptr[first : last + 1].tolist(), len(str(last - 1))
        for i in range(last - first):
            links = self._links(first + i, pointer[i], pointer[i + 1])
            yield f"  {first + i:>{width}}: {self._operands(columns, i)}{self._node(columns['node'][i])}{links}"

    @staticmethod
    def _operands(columns: Mapping[str, list[int]], i: int) -> str:
        instruction = INSTRUCTIONS[columns["opcode"][i]]
        words = [_SPACE.format(instruction.name)]
        for field in _OPERANDS:
            value = columns[field][i]
            step = columns[f"{field}_step"][i] if field in _STEPPED else 0
            if field in instruction.operands or value != DEFAULTS[field] or step:
                words.append(f"{_shown_name(instruction, field)}={value}{f'{step:+d}' if step else ''} ")
        return "".join(words)[:-1]

    def _node(self, index: int) -> str:
        if index == DEFAULTS["node"]:
            return ""
        is_known = 0 <= index < len(self.program.graph.nodes)
        return f" ; node {index}" + (f" {_quoted(self.program.graph.nodes[index].name)}" if is_known else "")

    def _links(self, row: int, low: int, high: int) -> str:
        p = self.program
        text, other = "", int(p.partner[row])
        if other >= 0:
            core = int(p.rows["processor"][other]) if other < p.n_rows else -1
            is_send = INSTRUCTIONS[int(p.rows["opcode"][row])].kind == SEND
            text = f" ; {'to' if is_send else 'from'} core {core} row {other}"
        if high > low:
            edges = zip(p.dep_row[low:high].tolist(), p.dep_distance[low:high].tolist(), strict=True)
            text += " ; after " + " ".join(f"{source}@{back}" if back else f"{source}" for source, back in edges)
        return text


# -- parsing --------------------------------------------------------------------------------------------------------

_NAME: Final = r'("(?:[^"\\]|\\.)*"|[^\s:",=]+)'
_PIECE: Final = r"(-?\d+) \+(-?\d+)"
_RANGE: Final = r"(-?\d+):(-?\d+)"
_STATEMENTS: Final[Mapping[str, tuple[re.Pattern[str], str]]] = {
    word: (re.compile(pattern), form)
    for word, pattern, form in (
        ("program", rf"program {_NAME}", "program NAME"),
        ("target", rf"target {_NAME}", "target NAME"),
        ("mode", rf"mode {_NAME}", "mode NAME"),
        ("samples", r"samples (\d+)", "samples N"),
        ("graph", rf"graph {_NAME}: (\d+) nodes", "graph NAME: N nodes"),
        ("hardware", rf"hardware {_NAME}: (\d+) cores", "hardware NAME: N cores"),
        ("size", r"size: (\d+) rows", "size: N rows"),
        ("note", rf"note {_NAME} = (.*)", "note NAME = JSON"),
        ("region", rf"region (\d+) {_NAME}: chip (-?\d+), {_PIECE}, order((?: \d+)*) ?, (\d+) x (\d+)",
         "region N NAME: chip N, FIRST +BYTES, order N N ..., ROWS x CHANNELS"),
        ("block", rf'block (\d+): core (-?\d+), {_PIECE}, ("(?:[^"\\]|\\.)*")(?:, fill (-?\d+|none) (\w+))?',
         'block N: core N, FIRST +BYTES, "LABEL", fill CODE TYPE'),
        ("matrix", rf"matrix (\d+) {_NAME}: (\w+)\[(\d+),(\d+)\] ([0-9a-f]+)",
         "matrix N NAME: TYPE[ROWS,COLUMNS] DIGEST"),
        ("group", rf"group (\d+): core (-?\d+), (-?\d+) crossbars, matrix (-?\d+), rows {_RANGE}, columns {_RANGE}",
         "group N: core N, N crossbars, matrix N, rows A:B, columns A:B"),
        ("pattern", r"pattern (\d+):((?: (?:_|-?\d+)\+-?\d+)*)", "pattern N: OFFSET+BYTES ..."),
        ("core", r"core (\d+): (\d+) rows", "core N: N rows"),
    )
}  # fmt: skip
"""First word of a line to its pattern and its form for messages."""

_ROW: Final = re.compile(
    rf"(\d+): (\w+)((?: +\w+=[-+\d]+)*)(?: +; node (-?\d+)(?: {_NAME})?)?(?: +; (to|from) core (-?\d+) row (\d+))?"
    r"(?: +; after ((?:-?\d+(?:@-?\d+)?(?: |$))+))?"
)
_ROW_FORM: Final = "N: MNEMONIC FIELD=NUMBER ... ; node N NAME ; to|from core N row N ; after N N@BACK ..."
_VALUE: Final = re.compile(r"(\w+)=(-?\d+)([+-]\d+)?")
_FIELD_OF: Final = {**{f: f for f in _OPERANDS}, **dict.fromkeys(ARGUMENTS.values(), "arg")}
_LIMITS: Final = {f: (int(np.iinfo(ROW[f]).min), int(np.iinfo(ROW[f]).max)) for f in FIELDS}
_INT32: Final = (-(1 << 31), (1 << 31) - 1)


def parse_program(text: str, graph: Graph, hardware: Hardware, matrices: Mapping[str, Array]) -> Program:
    """Reads the text form of a whole program.

    The result is as faulty as the text: `verify_program` says whether it can be carried out.

    Args:
        text: as `print_program` prints it, with all cores and rows.
        graph: the graph that the program was made of.
        hardware: the machine that it was made for.
        matrices: integer codes[rows, columns] by digest, see `weights_by_digest`.

    Raises:
        ProgramError: with the line, what was found and what was expected.
    """
    return _Parser(graph, hardware, matrices).program(text)


@final
class _Parser:
    """Reads line by line; the tables fill as statements are read."""

    def __init__(self, graph: Graph, hardware: Hardware, matrices: Mapping[str, Array]) -> None:
        self.graph, self.hardware, self.given = graph, hardware, matrices
        self.line, self.content = 0, ""
        self.head: dict[str, Any] = {}
        self.notes: dict[str, Any] = {}
        self.regions: list[Region] = []
        self.blocks: dict[int, Block] = {}
        self.matrices: list[Matrix] = []
        self.groups: list[tuple[int, ...]] = []
        self.patterns: list[list[tuple[int, int]]] = []
        self.streams: dict[int, tuple[int, int, int]] = {}  # core to its line, first row and number of rows
        self.core = -1
        self.rows: list[tuple[int, ...]] = []
        self.partners: list[tuple[int, int, int]] = []  # line, core, row; row -1 for none
        self.deps: list[list[tuple[int, int]]] = []

    def program(self, text: str) -> Program:
        readers: dict[str, Callable[..., None]] = {word: getattr(self, f"_{word}", self._entry) for word in _STATEMENTS}
        for number, line in enumerate(text.split("\n"), 1):
            self.line, self.content = number, line.strip()
            if not self.content or self.content.startswith("#"):
                continue
            if self.content[0].isdigit():
                self._read_row()
                continue
            word = re.split(r"[ :]", self.content, maxsplit=1)[0]
            if word not in _STATEMENTS:
                shortened = "; a shortened text does not parse back, print the whole program" if word == "..." else ""
                self._fail(f"a row or one of {', '.join(_STATEMENTS)}", shortened)
            pattern, form = _STATEMENTS[word]
            match = pattern.fullmatch(self.content)
            if match is None:
                self._fail(f"'{form}'")
            readers[word](word, *match.groups())
        return self._finish()

    def _fail(self, expected: str, advice: str = "", found: str = "") -> NoReturn:
        shown = found or f"'{self.content if len(self.content) <= 80 else self.content[:77] + '...'}'"
        raise ProgramError(f"line {self.line}: {shown} found, {expected} expected{advice}")

    def _text(self, name: str) -> str:
        if not name.startswith('"'):
            return name
        try:
            return json.loads(name)
        except ValueError:
            self._fail("a string with JSON escapes", found=name[:80])

    def _number(self, text: str, limits: tuple[int, int] = (-(1 << 63), (1 << 63) - 1)) -> int:
        if len(text) > 20 or not limits[0] <= int(text) <= limits[1]:
            self._fail(f"a number of {limits[0]} to {limits[1]}", found=text[:40])
        return int(text)

    def _next(self, what: str, number: str, expected: int) -> None:
        if self._number(number) != expected:
            self._fail(
                f"{what} {expected}", "; number them from 0 in order, and print the whole program", f"{what} {number}"
            )

    # Statements --------------------------------------------------------------------------------------------

    def _entry(self, word: str, value: str, *_: str) -> None:
        if word in self.head:
            self._fail("it once", found=f"a second '{word}'")
        self.head[word] = self._number(value) if word in ("samples", "size") else self._text(value)

    def _graph(self, word: str, name: str, nodes: str) -> None:
        self._entry(word, name)
        if (self._text(name), self._number(nodes)) != (self.graph.name, len(self.graph.nodes)):
            self._fail(
                f"'{self.graph.name}' of {len(self.graph.nodes)} nodes", "; give the graph that the program was made of"
            )

    def _hardware(self, word: str, name: str, cores: str) -> None:
        self._entry(word, name)
        if (self._text(name), self._number(cores)) != (self.hardware.name, self.hardware.processors):
            self._fail(
                f"'{self.hardware.name}' of {self.hardware.processors} cores",
                "; give the machine that the program was made for",
            )

    def _note(self, _: str, name: str, value: str) -> None:
        try:
            self.notes[self._text(name)] = json.loads(value)
        except (ValueError, RecursionError):
            self._fail("JSON", found=f"'{value[:60]}'")

    def _region(
        self, _: str, number: str, value: str, chip: str, address: str, size: str, order: str, rows: str, channels: str
    ) -> None:
        self._next("region", number, len(self.regions))
        layout = Layout(tuple(self._number(d) for d in order.split()), self._number(rows), self._number(channels))
        self.regions.append(
            Region(self._text(value), self._number(address), self._number(size), self._number(chip), layout)
        )

    def _block(
        self, _: str, number: str, core: str, address: str, size: str, label: str, fill: str | None, dtype: str | None
    ) -> None:
        index = self._number(number)
        if index in self.blocks:
            self._fail("another number", found=f"a second block {index}")
        code = None if fill in (None, "none") else self._number(fill or "")
        place = (self._number(core), self._number(address), self._number(size))
        self.blocks[index] = Block(*place, self._text(label), code, dtype or "int8")

    def _matrix(self, _: str, number: str, name: str, dtype: str, rows: str, columns: str, key: str) -> None:
        self._next("matrix", number, len(self.matrices))
        shape = (self._number(rows), self._number(columns))
        codes = self.given.get(key)
        if codes is None:
            self._fail(
                "one of those given", "; give matrices=weights_by_digest(program)", f"weights with the digest {key}"
            )
        if digest(codes) != key:
            self._fail(f"{key}", found=f"weights with the digest {digest(codes)}")
        if dtype not in DTYPES or shape[0] * shape[1] * np.dtype(dtype).itemsize != codes.nbytes:
            self._fail(f"weights of {codes.dtype}{list(codes.shape)}", found=f"{dtype}{list(shape)}")
        # Equal bytes may be weights of several shapes.
        self.matrices.append(
            Matrix(self._text(name), np.ascontiguousarray(codes).reshape(-1).view(dtype).reshape(shape))
        )

    def _group(self, _: str, number: str, *fields: str) -> None:
        self._next("group", number, len(self.groups))
        self.groups.append(tuple(self._number(f, _INT32) for f in fields))

    def _pattern(self, _: str, number: str, segments: str) -> None:
        self._next("pattern", number, len(self.patterns))
        pairs = (segment.split("+") for segment in segments.split())
        self.patterns.append(
            [(MASKED if o == "_" else self._number(o, _INT32), self._number(n, _INT32)) for o, n in pairs]
        )

    def _core(self, _: str, number: str, rows: str) -> None:
        self._close_stream()
        core = self._number(number)
        if not self.core < core < self.hardware.processors:
            self._fail(f"a core after {self.core} and below {self.hardware.processors}", found=f"core {core}")
        self.core = core
        self.streams[core] = (self.line, len(self.rows), self._number(rows))

    def _close_stream(self) -> None:
        if self.core < 0:
            return
        line, first, stated = self.streams[self.core]
        if len(self.rows) - first != stated:
            self.line = line
            self._fail(
                f"the {len(self.rows) - first} that follow",
                "; print the whole program",
                f"{stated} rows of core {self.core}",
            )

    # Rows --------------------------------------------------------------------------------------------------

    def _read_row(self) -> None:
        match = _ROW.fullmatch(self.content)
        if match is None:
            self._fail(f"'{_ROW_FORM}'")
        number, mnemonic, operands, node, name, _, core, partner, after = match.groups()
        self._next("row", number, len(self.rows))
        if self.core < 0:
            self._fail("'core N: N rows' before it")
        if mnemonic not in OPCODES:
            self._fail(f"one of {', '.join(OPCODES)}", found=f"'{mnemonic}'")
        fields = {**DEFAULTS, "opcode": OPCODES[mnemonic], "processor": self.core}
        if node is not None:
            fields["node"] = self._node(node, name)
        self._read_operands(fields, operands)
        self.rows.append(tuple(fields[f] for f in FIELDS))
        self.partners.append(
            (self.line, self._number(core), self._number(partner, _INT32)) if partner is not None else (0, -1, -1)
        )
        edges = (edge.partition("@") for edge in (after or "").split())
        self.deps.append(
            [(self._number(source, _INT32), self._number(back or "0", _INT32)) for source, _, back in edges]
        )

    def _node(self, number: str, name: str | None) -> int:
        index = self._number(number, _LIMITS["node"])
        known = self.graph.nodes[index].name if 0 <= index < len(self.graph.nodes) else None
        if name is not None and self._text(name) != known:
            expected = f"'{known}'" if known is not None else f"one of {len(self.graph.nodes)} nodes"
            self._fail(expected, found=f"node {index} {name}")
        return index

    def _read_operands(self, fields: dict[str, int], operands: str) -> None:
        for word in operands.split():
            match = _VALUE.fullmatch(word)
            field = _FIELD_OF.get(match[1], "") if match else ""
            if match is None or not field or (match[3] and field not in _STEPPED):
                self._fail(f"one of {', '.join(_FIELD_OF)} with a number", found=f"'{word}'")
            fields[field] = self._number(match[2], _LIMITS[field])
            if match[3]:
                fields[f"{field}_step"] = self._number(match[3], _LIMITS[f"{field}_step"])

    # Assembly ----------------------------------------------------------------------------------------------

    def _finish(self) -> Program:
        self._close_stream()
        self.line += 1
        missing = next(
            (w for w in ("program", "target", "mode", "samples", "graph", "hardware", "size") if w not in self.head), ""
        )
        if missing:
            self._fail(f"'{_STATEMENTS[missing][1]}'", found="the end of the text")
        if len(self.rows) != self.head["size"]:
            self._fail(f"{self.head['size']} rows", "; print the whole program", f"the end after {len(self.rows)} rows")
        if sorted(self.blocks) != list(range(len(self.blocks))):
            absent = next(i for i in range(len(self.blocks)) if i not in self.blocks)
            self._fail(f"block {absent}", "; print the whole program", "the end of the text")
        self._check_partners()
        return self._assembled()

    def _check_partners(self) -> None:
        owner = np.repeat(list(self.streams), [n for _, _, n in self.streams.values()]).tolist()
        for line, core, row in self.partners:
            if row >= 0 and not (row < len(owner) and owner[row] == core):
                self.line = line
                place = f"on core {owner[row]}" if row < len(owner) else f"one of {len(owner)} rows"
                self._fail(place, found=f"row {row} on core {core}")

    def _assembled(self) -> Program:
        rows = np.zeros(len(self.rows), ROW)
        for name, column in zip(FIELDS, zip(*self.rows, strict=True), strict=False):
            rows[name] = column
        stream_ptr = np.searchsorted(rows["processor"], np.arange(self.hardware.processors + 1)).astype(np.int64)
        dep_ptr, dep_row = ragged(_part(self.deps, 0))
        pattern_ptr, pattern_offset = ragged(_part(self.patterns, 0))
        columns = np.array(self.groups, np.int32).reshape(-1, 7).T
        return Program(
            name=self.head["program"], target=self.head["target"], mode=self.head["mode"], samples=self.head["samples"],
            hardware=self.hardware, graph=self.graph, rows=rows, stream_ptr=stream_ptr,
            partner=np.array([row for _, _, row in self.partners], np.int32), dep_ptr=dep_ptr, dep_row=dep_row,
            dep_distance=ragged(_part(self.deps, 1))[1], pattern_ptr=pattern_ptr, pattern_offset=pattern_offset,
            pattern_length=ragged(_part(self.patterns, 1))[1],
            groups=Groups(*(np.ascontiguousarray(column) for column in columns)), matrices=tuple(self.matrices),
            regions=tuple(self.regions), blocks=tuple(self.blocks[i] for i in sorted(self.blocks)), notes=self.notes,
        )  # fmt: skip


def _part(lists: Iterable[list[tuple[int, int]]], index: int) -> list[list[int]]:
    return [[pair[index] for pair in one] for one in lists]


__all__ = ["ARGUMENTS", "parse_program", "plain_notes", "print_instruction_set", "print_program", "weights_by_digest"]
