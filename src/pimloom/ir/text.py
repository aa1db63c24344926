"""The text form of a Graph: what a person reads, and what parses back.

    graph tiny {
      input x: float32[1,4]
      const w: float32[4,3] = seeded(seed=3, mean=0.0, std=0.1)
      const b: float32[3] = [1.0, 2.0, 3.0]
      h: float32[1,3] = Gemm(x, w, b) {alpha=2.0}
      y: float32[1,3] = Relu(h) as last @backward
      output y
    }

Codes print with their meaning: `int8[1,16]{scale=0.02, zero=0}`, per channel `{scale=[0.1, 0.2], zero=0, axis=0}`.
Other constants: `fill(0.5)`, `external("weights.bin", 128)` and, for arrays too long to print, `data("sha256 prefix")`,
which parses back only with the array at hand. Names that are not plain words are quoted; an absent input is `""`.
Spaces, line ends and comments (`# ...`) mean nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, final

import numpy as np

from pimloom.errors import ModelError
from pimloom.ir.constants import ArrayConstant, Constant, FileConstant, FillConstant, SeededConstant
from pimloom.ir.graph import AttributeValue, Graph, Node, Phase
from pimloom.ir.types import Quant, TensorType

Array = np.ndarray[Any, np.dtype[Any]]

PRINTED_ELEMENTS = 64
"""Arrays up to this many elements are printed in full."""

_WORD = r"[A-Za-z_/.][\w/.\-]*(?::\d+)*"
_NUMBER = r"[+-]?(?:inf\b|nan\b|(?:\d+\.\d*|\.\d+|\d+)(?:[eE][+-]?\d+)?)"
_TOKEN = re.compile(
    rf'(?P<space>\s+|\#[^\n]*)|(?P<string>"(?:[^"\\\n]|\\.)*")|(?P<number>{_NUMBER})|(?P<word>{_WORD})|(?P<sign>[{{}}\[\]()=,:@])'
)


def print_graph(graph: Graph) -> str:
    """The text form of a graph, one statement a line."""
    lines = [f"graph {_name(graph.name)} {{"]
    lines += [f"  input {_name(v)}: {print_type(graph.types[v])}" for v in graph.inputs]
    lines += [f"  const {_name(v)}: {print_type(c.type)} = {_constant(c)}" for v, c in graph.constants.items()]
    lines += [f"  {print_node(graph, node)}" for node in graph.nodes]
    if graph.outputs:
        lines.append(f"  output {', '.join(map(_name, graph.outputs))}")
    return "\n".join([*lines, "}"]) + "\n"


def print_node(graph: Graph, node: Node) -> str:
    """The statement of one node."""
    outputs = ", ".join(f"{_name(v)}: {print_type(graph.types[v])}" if v else '""' for v in node.outputs)
    text = f"{outputs} = {_name(node.op)}({', '.join(map(_name, node.inputs))})"
    if node.attributes:
        text += " {" + ", ".join(f"{_name(k)}={_value(v)}" for k, v in node.attributes.items()) + "}"
    if node.name != (node.outputs[0] if node.outputs else node.op):
        text += f" as {_name(node.name)}"
    if node.phase is not Phase.FORWARD:
        text += f" @{node.phase.value}"
    return text


def print_type(value_type: TensorType) -> str:
    """The text form of a type, with its quantisation."""
    quant = value_type.quant
    if quant is None:
        return str(value_type)
    if quant.axis is None:
        return f"{value_type}{{scale={_number(quant.scale[0])}, zero={quant.zero_point}}}"
    return f"{value_type}{{scale={_value(quant.scale)}, zero={quant.zero_point}, axis={quant.axis}}}"


def _name(name: str) -> str:
    # words that read as numbers would not parse back as names
    is_plain = re.fullmatch(_WORD, name) is not None and re.match(_NUMBER, name) is None
    return name if is_plain else json.dumps(name)


def _value(value: AttributeValue) -> str:
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    return _number(value)


def _number(value: float) -> str:
    """An integer without a point, a float always with a point, an exponent, or as inf or nan."""
    return repr(int(value)) if isinstance(value, int | np.integer) else repr(float(value))


def _constant(constant: Constant) -> str:
    if isinstance(constant, FillConstant):
        return f"fill({_number(constant.value)})"
    if isinstance(constant, SeededConstant):
        return f"seeded(seed={constant.seed}, mean={_number(constant.mean)}, std={_number(constant.std)})"
    if isinstance(constant, FileConstant):
        return f"external({json.dumps(str(constant.path))}, {constant.offset_bytes})"
    if constant.type.size <= PRINTED_ELEMENTS:
        return "[" + ", ".join(_element(e) for e in constant.array().ravel()) + "]"
    return f'data("{digest(constant.array())}")'


def _element(element: Any) -> str:
    """The shortest digits that give the element back in its own type."""
    if isinstance(element, np.bool_):
        return "true" if element else "false"
    return str(element) if element.dtype.kind == "f" else str(int(element))


def digest(array: Array) -> str:
    """The first 16 hex digits of the SHA-256 of an array's elements."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()[:16]


class _Token(NamedTuple):
    kind: str
    text: str
    line: int


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    place, line = 0, 1
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise ModelError(
                f"line {line}: '{text[place]}' found, which begins no name, number or sign; quote odd names"
            )
        kind = match.lastgroup or ""
        if kind != "space":
            found.append(_Token(kind, match.group(), line))
        line += match.group().count("\n")
        place = match.end()
    found.append(_Token("end", "end of text", line))
    return found


def parse_graph(text: str, constants: Mapping[str, Array | Constant] | None = None) -> Graph:
    """Reads the text form of a graph.

    Args:
        text: as `print_graph` prints it.
        constants: arrays by name for the constants that were printed as `data(...)`.

    Raises:
        ModelError: with the line, what was found and what was expected.
    """
    return _Parser(text, constants or {}).graph()


@final
class _Parser:
    """Recursive descent over the tokens; the tables fill as statements are read."""

    def __init__(self, text: str, data: Mapping[str, Array | Constant]) -> None:
        self._tokens = _tokens(text)
        self._place = 0
        self._data = data
        self._inputs: list[str] = []
        self._outputs: list[str] = []
        self._nodes: list[Node] = []
        self._types: dict[str, TensorType] = {}
        self._constants: dict[str, Constant] = {}

    def graph(self) -> Graph:
        self._expect("word", "graph")
        name = self._read_name("the graph's name")
        self._expect("sign", "{")
        while not self._at("}"):
            self._statement()
        self._expect("sign", "}")
        if self._token.kind != "end":
            self._fail("the end of the text after '}'")
        return Graph(name, tuple(self._inputs), tuple(self._outputs), tuple(self._nodes), self._types, self._constants)

    @property
    def _token(self) -> _Token:
        return self._tokens[self._place]

    def _fail(self, expected: str) -> NoReturn:
        raise ModelError(f"line {self._token.line}: '{self._token.text}' found, {expected} expected")

    def _at(self, sign: str, ahead: int = 0) -> bool:
        place = min(self._place + ahead, len(self._tokens) - 1)
        return self._tokens[place].kind == "sign" and self._tokens[place].text == sign

    def _next(self) -> _Token:
        token = self._token
        self._place += 1
        return token

    def _expect(self, kind: str, text: str) -> None:
        if (self._token.kind, self._token.text) != (kind, text):
            self._fail(f"'{text}'")
        self._place += 1

    def _accept(self, sign: str) -> bool:
        if self._at(sign):
            self._place += 1
            return True
        return False

    def _read_name(self, what: str) -> str:
        if self._token.kind not in ("word", "string"):
            self._fail(what)
        return self._text(self._next())

    def _text(self, token: _Token) -> str:
        if token.kind != "string":
            return token.text
        try:
            return json.loads(token.text)
        except ValueError as error:
            raise ModelError(f"line {token.line}: {token.text} found, a string with JSON escapes expected") from error

    def _statement(self) -> None:
        is_keyword = self._token.kind == "word" and self._tokens[self._place + 1].kind in ("word", "string")
        readers = {"input": self._input, "const": self._constant, "output": self._output}
        reader = readers.get(self._token.text) if is_keyword else None
        if reader is None:
            self._node()
        else:
            self._place += 1
            reader()

    def _define(self) -> str:
        """Reads `name: type` into the type table."""
        line = self._token.line
        name = self._read_name("the name of a value")
        self._expect("sign", ":")
        if name in self._types:
            raise ModelError(f"line {line}: value '{name}' is defined twice; give each value its own name")
        self._types[name] = self._type()
        return name

    def _input(self) -> None:
        self._inputs.append(self._define())

    def _output(self) -> None:
        self._outputs.append(self._read_name("the name of an output"))
        while self._accept(","):
            self._outputs.append(self._read_name("the name of an output"))

    def _type(self) -> TensorType:
        line = self._token.line
        dtype = self._read_name("an element type")
        if not self._at("["):
            self._fail("'[' and the shape")
        shape = tuple(self._integers())
        try:
            return TensorType(dtype, shape, self._quant() if self._at("{") else None)
        except ModelError as error:
            raise error if str(error).startswith("line ") else ModelError(f"line {line}: {error}") from error

    def _quant(self) -> Quant:
        fields = self._braced()
        unknown = set(fields) - {"scale", "zero", "axis"}
        if unknown or "scale" not in fields:
            self._fail("'{scale=..., zero=..., axis=...}' before this")
        scale: Any = fields["scale"]
        zero, axis = fields.get("zero", 0), fields.get("axis")
        if not isinstance(zero, int) or not isinstance(axis, int | None) or isinstance(scale, str):
            self._fail("a number as scale and integers as zero and axis before this")
        scales: list[Any] = list(scale) if isinstance(scale, tuple) else [scale]  # pyright: ignore[reportUnknownArgumentType]
        if any(isinstance(s, str) for s in scales):
            self._fail("a number as scale before this")
        return Quant(tuple(float(s) for s in scales), zero, axis)

    def _braced(self) -> dict[str, AttributeValue]:
        """Reads `{name=value, ...}`."""
        self._expect("sign", "{")
        fields: dict[str, AttributeValue] = {}
        while not self._at("}"):
            name = self._read_name("the name of an attribute")
            if name in fields:
                raise ModelError(f"line {self._token.line}: '{name}' is given twice; once expected")
            self._expect("sign", "=")
            fields[name] = self._read_value()
            if not self._accept(",") and not self._at("}"):
                self._fail("',' or '}'")
        self._expect("sign", "}")
        return fields

    def _read_value(self) -> Any:
        if self._at("["):
            values = self._listed(self._scalar)
            is_real = any(isinstance(v, float) for v in values) and not any(isinstance(v, str) for v in values)
            return tuple(float(v) for v in values) if is_real else tuple(values)
        return self._scalar()

    def _scalar(self) -> Any:
        if self._token.kind == "string":
            return self._text(self._next())
        return self._read_number()

    def _read_number(self) -> int | float:
        if self._token.kind == "word" and self._token.text in ("inf", "nan"):
            return float(self._next().text)
        if self._token.kind != "number":
            self._fail("a number")
        text = self._next().text
        return int(text) if text.lstrip("+-").isdigit() else float(text)

    def _integer(self) -> int:
        if self._token.kind != "number" or not self._token.text.lstrip("+-").isdigit():
            self._fail("an integer")
        return int(self._next().text)

    def _integers(self) -> list[int]:
        return self._listed(self._integer)

    def _listed(self, read: Callable[[], Any]) -> list[Any]:
        """Reads `[item, ...]`."""
        self._expect("sign", "[")
        items: list[Any] = []
        while not self._at("]"):
            items.append(read())
            if not self._accept(",") and not self._at("]"):
                self._fail("',' or ']'")
        self._expect("sign", "]")
        return items

    def _constant(self) -> None:
        line = self._token.line
        name = self._define()
        self._expect("sign", "=")
        try:
            self._constants[name] = self._constant_value(name, self._types[name])
        except ModelError as error:
            raise error if str(error).startswith("line ") else ModelError(f"line {line}: {error}") from error

    def _constant_value(self, name: str, value_type: TensorType) -> Constant:
        if self._at("["):
            return self._printed_array(name, value_type)
        readers = {"fill": self._fill, "seeded": self._seeded, "external": self._external, "data": self._data_of}
        reader = readers.get(self._token.text)
        if self._token.kind != "word" or reader is None:
            self._fail("a list, fill(...), seeded(...), external(...) or data(...)")
        self._place += 1
        self._expect("sign", "(")
        constant = reader(name, value_type)
        self._expect("sign", ")")
        return constant

    def _element(self) -> Any:
        if self._token.kind == "word" and self._token.text in ("true", "false"):
            return self._next().text == "true"
        return self._read_number()

    def _printed_array(self, name: str, value_type: TensorType) -> Constant:
        elements = self._listed(self._element)
        if len(elements) != value_type.size:
            raise ModelError(
                f"constant '{name}' has {len(elements)} elements, {value_type.size} expected for {value_type}"
            )
        try:
            with np.errstate(all="ignore"):
                array = np.array(elements, dtype=value_type.dtype).reshape(value_type.shape)
        except (OverflowError, ValueError) as error:
            raise ModelError(f"constant '{name}': an element does not fit {value_type.dtype} ({error})") from error
        return ArrayConstant(array, value_type)

    def _fill(self, name: str, value_type: TensorType) -> Constant:
        return FillConstant(value_type, self._read_number())

    def _seeded(self, name: str, value_type: TensorType) -> Constant:
        fields: dict[str, Any] = {"seed": 0, "mean": 0.0, "std": 1.0}
        while not self._at(")"):
            field = self._read_name("seed, mean or std")
            self._expect("sign", "=")
            if field not in fields:
                raise ModelError(f"line {self._token.line}: '{field}' found, seed, mean or std expected")
            fields[field] = self._integer() if field == "seed" else float(self._read_number())
            if not self._accept(",") and not self._at(")"):
                self._fail("',' or ')'")
        return SeededConstant(value_type, fields["seed"], fields["mean"], fields["std"])

    def _external(self, name: str, value_type: TensorType) -> Constant:
        path = self._read_name("the path of a file in quotes")
        self._expect("sign", ",")
        return FileConstant(value_type, Path(path), self._integer())

    def _data_of(self, name: str, value_type: TensorType) -> Constant:
        expected = self._read_name("the digest in quotes")
        if name not in self._data:
            raise ModelError(
                f"constant '{name}' was too long to print; give its array in parse_graph(text, constants=...)"
            )
        given = self._data[name]
        constant = given if isinstance(given, Constant) else ArrayConstant(given, value_type)
        if constant.type != value_type:
            raise ModelError(f"constant '{name}': {constant.type} was given, {value_type} expected")
        if digest(constant.array()) != expected:
            raise ModelError(
                f"constant '{name}': the given array has digest {digest(constant.array())}, {expected} expected"
            )
        return constant

    def _node(self) -> None:
        outputs = [self._result()]
        while self._accept(","):
            outputs.append(self._result())
        self._expect("sign", "=")
        op = self._read_name("the name of an op")
        inputs = self._arguments()
        attributes = self._braced() if self._at("{") else {}
        name, phase = "", Phase.FORWARD
        if self._token.text == "as" and self._token.kind == "word" and not (self._at(":", 1) or self._at(",", 1)):
            self._place += 1
            name = self._read_name("the node's name")
        if self._accept("@"):
            phase = self._phase()
        self._nodes.append(Node(op, tuple(inputs), tuple(outputs), attributes, name, phase))

    def _result(self) -> str:
        if self._token.text == '""':
            self._place += 1
            return ""
        return self._define()

    def _arguments(self) -> list[str]:
        self._expect("sign", "(")
        names: list[str] = []
        while not self._at(")"):
            names.append(self._read_name("the name of a value"))
            if not self._accept(",") and not self._at(")"):
                self._fail("',' or ')'")
        self._expect("sign", ")")
        return names

    def _phase(self) -> Phase:
        known = {phase.value: phase for phase in Phase}
        if self._token.text not in known:
            self._fail(f"one of {', '.join(known)}")
        return known[self._next().text]
