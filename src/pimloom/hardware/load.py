"""From a preset's name or a YAML file to a validated `Hardware`, and back.

A file may begin with `inherits: <preset or file>` and then states only what differs: mappings are merged key by key,
other values replace, and null takes an inherited key away. Overrides (`core.crossbars=64`) are applied last.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final, cast, final

from pydantic import TypeAdapter, ValidationError

from pimloom.errors import HardwareError
from pimloom.hardware.crossbar import CrossbarHardware
from pimloom.hardware.document import parse_mapping, parse_scalar, print_mapping, read_mapping
from pimloom.hardware.machine import Hardware
from pimloom.hardware.pimsim import PimsimHardware
from pimloom.hardware.quantity import nearest, shorten, show
from pimloom.hardware.record import sentences
from pimloom.hardware.sram import SramHardware

KINDS: Final[Mapping[str, type[Any]]] = {"crossbar": CrossbarHardware, "sram": SramHardware, "pimsim": PimsimHardware}
"""`kind` of a hardware file -> the record that it fills, which conforms to `Hardware`."""

MOST_ANCESTORS: Final = 8

Overrides = Mapping[str, str | int | float | bool | None] | Sequence[str]


@final
@dataclasses.dataclass(frozen=True, slots=True)
class _Draft:
    """Keys and values before validation.

    Attributes:
        name: the machine's name if the file gives none.
        place: where faults are said to be, `isaac.yaml`.
        values: nested keys and values; never changed in place.
    """

    name: str
    place: str
    values: dict[str, Any]


def preset_names(kind: str = "") -> tuple[str, ...]:
    """Names of the machines that come with pimloom, or of those of one kind, sorted."""
    files = resources.files("pimloom.hardware").joinpath("presets").iterdir()
    names = sorted(f.name.removesuffix(".yaml") for f in files if f.name.endswith(".yaml"))
    return tuple(name for name in names if not kind or load_hardware(name).kind == kind)


def preset_text(name: str) -> str:
    """The YAML text of a preset with its comments, to be read or copied. Raises HardwareError for an unknown name."""
    known = preset_names()
    if name not in known:
        near = nearest(name.lower(), known)
        expected = f"expected one of {', '.join(known)}, or the path of a .yaml file; correct the name{near}"
        raise HardwareError(f"hardware {shorten(repr(name))}: unknown, {expected}")
    return resources.files("pimloom.hardware").joinpath("presets", f"{name}.yaml").read_text(encoding="utf-8")


def load_hardware(source: str | Path, overrides: Overrides = ()) -> Hardware:
    """Loads and validates a machine.

    Args:
        source: the name of a preset, or the path of a YAML file (with `.yaml` or `.yml`, or a folder in it).
        overrides: single values to change, `{"core.crossbars": 64}` or `["core.crossbars=64"]`.

    Returns:
        The machine; equal sources and overrides give equal values.

    Raises:
        HardwareError: unknown preset, unreadable file, wrong key or value; one sentence per fault.
    """
    draft = _draft(source, ())
    changes = _changes(overrides)
    values = draft.values
    for path, value in changes.items():
        values = _with_change(values, path, value)
    noted = {path: f"override '{path}={value if value is not None else 'null'}'" for path, value in changes.items()}
    return _build(dataclasses.replace(draft, values=values), noted)


def parse_hardware(text: str, place: str = "hardware text") -> Hardware:
    """Builds a machine from the text of a hardware file, `to_yaml`'s for example. Raises HardwareError."""
    return _build(_inherited(_Draft("unnamed", place, parse_mapping(text, place)), None, ()), {})


def to_yaml(hardware: Hardware) -> str:
    """Prints every value of a machine as a hardware file, so that `parse_hardware(to_yaml(h)) == h`."""
    return print_mapping({key: value for key, value in dataclasses.asdict(cast(Any, hardware)).items() if value is not None})


def json_schema() -> dict[str, Any]:
    """The JSON schema of hardware files, for editors.

    It tells wrong keys and values. Missing keys are told only by `load_hardware`, which knows what is inherited.
    """
    parts: dict[str, Any] = {}
    kinds: list[dict[str, Any]] = []
    for record in KINDS.values():
        schema = TypeAdapter(record).json_schema()
        parts |= schema.pop("$defs", {})
        inherits = {"type": "string", "description": "a preset or a file whose values hold where none is given"}
        schema["properties"] = {"inherits": inherits, **schema["properties"]}
        required = [key for key in schema.pop("required") if key != "name"]
        kinds.append({**schema, "anyOf": [{"required": ["inherits"]}, {"required": required}]})
    for part in parts.values():
        part.pop("required", None)
    parts["Chip"]["properties"]["cores"].pop("default")  # stands for "all positions"; never written in a file
    return {"$defs": parts, **(kinds[0] if len(kinds) == 1 else {"anyOf": kinds})}


def load_crossbar(source: str | Path, overrides: Overrides = ()) -> CrossbarHardware:
    """As `load_hardware`, for a machine that must be of kind `crossbar`. Raises HardwareError where it is not."""
    machine = load_hardware(source, overrides)
    if not isinstance(machine, CrossbarHardware):
        raise HardwareError(f"hardware '{machine.name}': kind: {machine.kind} found, crossbar expected; choose another machine")
    return machine


def _draft(source: str | Path, ancestors: tuple[str, ...]) -> _Draft:
    if not isinstance(source, str | os.PathLike):
        raise HardwareError(f"hardware: found {show(source)}, expected a preset's name or a path; write e.g. 'isaac'")
    text = os.fspath(source)
    if not isinstance(source, Path) and not _is_path(text):
        place = f"{text}.yaml"
        draft, folder, identity = _Draft(text, place, _preset_values(text)), None, text
    else:
        path = Path(text)
        draft, folder, identity = _Draft(path.stem, path.name, read_mapping(path)), path.parent, os.path.realpath(path)
    if identity in ancestors:
        chain = " -> ".join(Path(a).name for a in (*ancestors, identity))
        raise HardwareError(f"{draft.place}: 'inherits' leads back to itself ({chain}), expected an end; remove one")
    return _inherited(draft, folder, (*ancestors, identity))


@functools.cache  # reading YAML takes 100 times as long as building the machine
def _preset_values(name: str) -> dict[str, Any]:
    return parse_mapping(preset_text(name), f"{name}.yaml")


def _is_path(text: str) -> bool:
    return text.lower().endswith((".yaml", ".yml")) or any(s in text for s in ("/", os.sep))


def _inherited(draft: _Draft, folder: Path | None, ancestors: tuple[str, ...]) -> _Draft:
    """Merges a draft into what it inherits; `folder` is where its relative paths begin."""
    if "inherits" not in draft.values:
        return draft
    own = {key: value for key, value in draft.values.items() if key != "inherits"}
    parent = draft.values["inherits"]
    if not isinstance(parent, str):
        message = f"found {show(parent)}, expected the name of a preset or file; write e.g. isaac"
        raise HardwareError(f"{draft.place}: inherits: {message}")
    if len(ancestors) > MOST_ANCESTORS:
        message = f"found more than {MOST_ANCESTORS} levels, expected fewer; merge some files"
        raise HardwareError(f"{draft.place}: inherits: {message}")
    source = folder / parent if folder is not None and _is_path(parent) else parent
    try:
        base = _draft(source, ancestors)
    except HardwareError as error:
        raise HardwareError(f"{draft.place}: inherits: {error}") from None
    # A variant is another machine: it does not keep its parent's name.
    values = {key: value for key, value in base.values.items() if key != "name"}
    return dataclasses.replace(draft, values=_merged(values, own))


def _merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in own.items():
        inherited = result.get(key)
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            result[key] = _merged(inherited if isinstance(inherited, dict) else {}, value)
        else:
            result[key] = value
    return result


def _changes(overrides: Overrides) -> dict[str, Any]:
    if isinstance(overrides, Mapping):
        pairs = list(overrides.items())
    elif isinstance(overrides, str):
        pairs = [_pair(overrides)]
    else:
        pairs = [_pair(text) for text in overrides]
    return {path: _override_value(path, value) for path, value in pairs}


def _pair(text: str) -> tuple[str, str]:
    path, equals, value = text.partition("=") if isinstance(text, str) else ("", "", "")
    if not equals or not path.strip():
        raise HardwareError(f"override: found {show(text)}, expected key=value; write e.g. core.crossbars=64")
    return path.strip(), value.strip()


def _override_value(path: Any, value: Any) -> Any:
    if not isinstance(path, str) or path.split(".")[0] == "inherits" or not all(path.split(".")):
        raise HardwareError(f"override: found the key {path!r}, expected a path of keys; write e.g. core.crossbars=64")
    return parse_scalar(value, f"override '{path}={value}'") if isinstance(value, str) else value


def _with_change(values: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of `values` where the dotted `path` leads to `value`; None takes the key away."""
    key, _, rest = path.partition(".")
    result = dict(values)
    if rest:
        inner = result.get(key)
        result[key] = _with_change(inner if isinstance(inner, dict) else {}, rest, value)
    elif value is None:
        result.pop(key, None)
    else:
        result[key] = value
    return result


def _build(draft: _Draft, noted: Mapping[str, str]) -> Hardware:
    values = {"name": draft.name, **draft.values}
    kind = values.get("kind")
    if kind is None:
        raise HardwareError(f"{draft.place}: kind: missing, expected one of {', '.join(KINDS)}; add 'kind: crossbar'")
    if not isinstance(kind, str) or kind not in KINDS:
        near = nearest(kind, list(KINDS)) if isinstance(kind, str) else ""
        place = noted.get("kind", draft.place)
        expected = f"expected one of {', '.join(KINDS)}; write e.g. kind: crossbar{near}"
        raise HardwareError(f"{place}: kind: found {show(kind)}, {expected}")
    record = KINDS[kind]
    try:
        return TypeAdapter(record).validate_python(values)
    except ValidationError as error:
        raise HardwareError(sentences(error, record, draft.place, noted)) from None
