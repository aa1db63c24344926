"""How hardware records are made: frozen dataclasses that hold no invalid value, and whose faults are sentences."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, dataclass_transform, get_args, get_type_hints

from pydantic import ConfigDict, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic_core import ErrorDetails

from pimloom.errors import HardwareError
from pimloom.hardware.quantity import FAULT, Quantity, nearest, show

T = TypeVar("T")

_MOST_FAULTS = 8


@dataclass_transform(frozen_default=True, kw_only_default=True)
def record(cls: type[T]) -> type[T]:
    """Class decorator: a frozen, slotted, keyword-only dataclass that validates itself.

    Building one with a wrong value raises `HardwareError`, by hand or through `dataclasses.replace` too.
    """
    config = ConfigDict(extra="forbid")
    made: Any = pydantic_dataclass(cls, frozen=True, slots=True, kw_only=True, config=config)
    made.__init__ = _speaking(made, made.__init__)
    return made


def _speaking(cls: Any, build: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(build)
    def init(self: Any, **values: Any) -> None:
        try:
            build(self, **values)
        except ValidationError as error:
            raise HardwareError(sentences(error, cls, cls.__name__)) from None

    return init


def sentences(error: ValidationError, cls: type, place: str, noted: Mapping[str, str] | None = None) -> str:
    """Turns the faults of a failed validation into one sentence each.

    Args:
        error: what pydantic raised.
        cls: the record that was being built.
        place: where the values came from, a file name as a rule.
        noted: key path -> the override that gave its value.

    Returns:
        Lines `place: key.path: found ..., expected ...; advice`, at most eight and a count of the rest.
    """
    faults = error.errors(include_url=False)
    lines: list[str] = []
    for details in faults[:_MOST_FAULTS]:
        path = tuple(str(step) for step in details["loc"])
        where = (noted or {}).get(".".join(path), f"{place} with overrides" if noted else place)
        steps = [where, ".".join(path)] if path else [where]
        lines.append(": ".join([*steps, _sentence(details, cls, path)]))
    if len(faults) > _MOST_FAULTS:
        lines.append(f"{place}: {len(faults) - _MOST_FAULTS} more faults; correct these first")
    return "\n".join(lines)


def _sentence(details: ErrorDetails, cls: type, path: tuple[str, ...]) -> str:
    kind, found = details["type"], details["input"]
    if kind == FAULT:
        return details["msg"]
    siblings = _keys(cls, path[:-1])
    if kind == "unexpected_keyword_argument":
        return f"unknown key{nearest(path[-1], siblings)}, expected one of {', '.join(siblings)}; correct or remove it"
    if kind in {"missing", "missing_argument", "missing_keyword_only_argument"}:
        return f"missing, expected {_form(cls, path)}; add it, or inherit a preset that has it"
    return f"found {show(found)}, expected a mapping with {', '.join(_keys(cls, path))}; indent these keys below it"


def _form(cls: type, path: tuple[str, ...]) -> str:
    inner = _keys(cls, path)
    if inner:
        return f"a mapping with {', '.join(inner)}"
    annotations = _annotations(_follow(cls, path[:-1]), path[-1])
    return next(a.expected() for a in annotations if isinstance(a, Quantity))


def _keys(cls: type, path: tuple[str, ...]) -> list[str]:
    here = _follow(cls, path)
    return [field.name for field in fields(here)] if here is not None else []


def _follow(cls: Any, path: tuple[str, ...]) -> Any:
    """The record that `path` leads to from the record `cls`, or None."""
    for step in path:
        cls = next((a for a in _annotations(cls, step) if is_dataclass(a) and not isinstance(a, Quantity)), None)
        if cls is None:
            return None
    return cls


def _annotations(cls: Any, name: str) -> tuple[Any, ...]:
    """The type of a field, and what it is made of: `Chip`, `ChipLink | None` or `Annotated[int, Whole(...)]`."""
    hint = get_type_hints(cls, include_extras=True).get(name)
    return (hint, *get_args(hint))
