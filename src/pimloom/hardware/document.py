"""Reads a hardware file: a strict subset of YAML that has one meaning only.

YAML 1.1, which PyYAML reads by default, takes `010` for 8, `1:30` for 90, `on` for true and `1e9` for text. Here
numbers, booleans and null are those of YAML 1.2 (`010` is text and then refused where a number belongs, `1e9` is a
number), a key may stand only once, and anchors, aliases, tags and several documents are refused. Size and depth are
limited.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final, final

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from pimloom.errors import HardwareError
from pimloom.hardware.quantity import show

MOST_FILE_BYTES: Final = 1_000_000
MOST_DEPTH: Final = 16

_INT = "tag:yaml.org,2002:int"
_FLOAT = "tag:yaml.org,2002:float"
_BOOL = "tag:yaml.org,2002:bool"
_NULL = "tag:yaml.org,2002:null"
_STR = "tag:yaml.org,2002:str"

# The patterns of the YAML 1.2 core schema, limited in length so that no number takes long to convert.
_PATTERNS = (
    (_NULL, r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    (_BOOL, r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    (_INT, r"^(?:[-+]?(?:0|[1-9][0-9]{0,39})|0x[0-9a-fA-F]{1,32})$", list("-+0123456789")),
    (
        _FLOAT,
        r"^(?:[-+]?(?:\.[0-9]{1,40}|[0-9]{1,40}(?:\.[0-9]{0,40})?[eE][-+]?[0-9]{1,4}|[0-9]{1,40}\.[0-9]{0,40}"
        r"|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN))$",
        list("-+.0123456789"),
    ),
)


@final
class _FormError(Exception):
    """What is wrong with a document, and the line it is in."""

    def __init__(self, message: str, node: Any) -> None:
        super().__init__(f"line {node.start_mark.line + 1}: {message}")


class _Loader(yaml.SafeLoader):
    """Composes nodes as PyYAML does and refuses what the module's docstring names."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (PyYAML's own class attribute, replaced)
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _FormError("found an anchor or alias, expected plain values; repeat the value", event)
        if getattr(event, "tag", None) is not None:
            raise _FormError("found a tag, expected plain values; remove the word that starts with '!'", event)
        self.depth += 1
        if self.depth > MOST_DEPTH:
            raise _FormError(f"found more than {MOST_DEPTH} levels of nesting, expected fewer; flatten it", event)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Dumper(yaml.SafeDumper):
    """Quotes what this module, or YAML 1.1, would not read back as text."""


for _tag, _pattern, _first in _PATTERNS:
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern), _first)
    _Dumper.add_implicit_resolver(_tag, re.compile(_pattern), _first)


def read_mapping(path: Path) -> dict[str, Any]:
    """Reads a hardware file.

    Args:
        path: a UTF-8 YAML file of at most 1 MB whose root is a mapping.

    Returns:
        Mapping of str to int, float, bool, str, None, list or such a mapping; nothing is converted further.

    Raises:
        HardwareError: the file cannot be read, or is not of that form.
    """
    return parse_mapping(_read_text(path), path.name)


def parse_mapping(text: str, place: str) -> dict[str, Any]:
    """Parses the text of a hardware file; `place` is the file's name in messages. Raises HardwareError."""
    value = _parse(text, place)
    if not isinstance(value, dict):
        raise HardwareError(f"{place}: found {show(value)}, expected a mapping of keys; begin with 'inherits: isaac'")
    return value


def parse_scalar(text: str, place: str) -> Any:
    """Parses the text of one value, as in `core.crossbars=64`; raises HardwareError if it is nested or malformed."""
    value = _parse(text, place)
    if isinstance(value, dict | list):
        raise HardwareError(f"{place}: found '{text[:40]}', expected one number or word; override one key at a time")
    return value


def print_mapping(values: dict[str, Any]) -> str:
    """Prints nested mappings of plain values in the form that `parse_mapping` reads, in their order."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def _read_text(path: Path) -> str:
    name = path.name or str(path)
    try:
        if path.is_dir():
            raise HardwareError(f"{name}: found a directory, expected a YAML file; name a file in it")
        with path.open("rb") as file:
            data = file.read(MOST_FILE_BYTES + 1)
    except FileNotFoundError:
        raise HardwareError(f"{path}: file not found, expected a YAML file; check the path") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise HardwareError(f"{name}: cannot be read ({reason}), expected a readable YAML file; check it") from None
    if len(data) > MOST_FILE_BYTES:
        raise HardwareError(f"{name}: found more than {MOST_FILE_BYTES} bytes, expected fewer; check the path")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise HardwareError(f"{name}: byte {error.start} is not UTF-8, expected UTF-8 text; save it so") from None


def _parse(text: str, place: str) -> Any:
    loader = None
    try:
        loader = _Loader(text)  # the reader already refuses control characters here
        node = loader.get_single_node()
        return None if node is None else _value(node)
    except _FormError as error:
        raise HardwareError(f"{place}: {error}") from None
    except yaml.MarkedYAMLError as error:
        raise HardwareError(f"{place}: {_yaml_fault(error)}") from None
    except yaml.YAMLError as error:
        what = " ".join(str(getattr(error, "reason", error)).split())
        raise HardwareError(f"{place}: not YAML ({what}), expected printable text; save it as plain text") from None
    finally:
        if loader is not None:
            loader.dispose()


def _yaml_fault(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    line = f"line {mark.line + 1}: " if mark else ""
    if error.context == "expected a single document in the stream":
        return f"{line}found a second document, expected one; remove what follows '---'"
    return f"{line}not YAML ({error.problem}), expected 'key: value' lines; correct the indentation, quotes or brackets"


def _value(node: Node) -> Any:
    if isinstance(node, MappingNode):
        return _mapping(node)
    if isinstance(node, SequenceNode):
        return [_value(item) for item in node.value]
    return _scalar(node)


def _mapping(node: MappingNode) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = _key(key_node)
        if key in result:
            raise _FormError(f"key '{key}' stands twice, expected once; remove one", key_node)
        result[key] = _value(value_node)
    return result


def _key(node: Node) -> str:
    if not isinstance(node, ScalarNode) or node.tag != _STR or len(node.value) > 100:
        shown = node.value[:40] if isinstance(node, ScalarNode) else "a nested value"
        raise _FormError(f"found the key {shown!r}, expected a word; write e.g. 'name: value'", node)
    return node.value


def _scalar(node: Any) -> Any:
    if node.tag == _NULL:
        return None
    if node.tag == _BOOL:
        return node.value.lower() == "true"
    if node.tag == _INT:
        return int(node.value, 0)
    if node.tag == _FLOAT:
        return float(node.value.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return node.value
