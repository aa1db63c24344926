"""The kinds of number and word a hardware file may hold, each with its limits and the sentence that refuses others.

A field of a hardware record is `Annotated[int, Whole(...)]`, `Annotated[float, Real(...)]`, `Annotated[bool, Flag()]`,
`Annotated[str, Text(...)]` or `Annotated[Literal[...], Choice(...)]`. No value is converted in silence: text is not a
number, true is not 1, and 1.0e3 is not an integer. The upper limits are far above any machine that was ever proposed;
they catch slips of a unit (bits for bytes, Hz for GHz) before a simulation reserves terabytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from numbers import Integral
from typing import Any, Final, final

from pydantic import GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

FAULT: Final = "pimloom"
"""Type of the validation errors raised here; their message is already a whole `found ..., expected ...` clause."""

_SHOWN_CHARS = 40


def show(value: object) -> str:
    """Prints a value found in a file: short, on one line, with its type where that is what is wrong with it."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"{str(value).lower()} (a boolean)"
    if isinstance(value, str):
        return f"{shorten(repr(value))} (text)"
    if isinstance(value, Mapping):
        return f"a mapping with {len(value)} keys" if len(value) != 1 else "a mapping with 1 key"
    if isinstance(value, Sequence):
        return f"a list of {len(value)}"
    if isinstance(value, int) and value.bit_length() > 128:
        return f"an integer of {value.bit_length()} bits"
    return shorten(repr(value))


def fault(found: object, expected: str, advice: str) -> PydanticCustomError:
    """The validation error `found ..., expected ...; advice`."""
    message = f"found {show(found)}, expected {expected}; {advice}"
    return PydanticCustomError(FAULT, "{message}", {"message": message})


def nearest(word: str, known: Sequence[str]) -> str:
    """` (did you mean 'x'?)` for the known word that resembles `word`, or nothing."""
    close = get_close_matches(word, known, n=1, cutoff=0.6)
    return f" (did you mean '{close[0]}'?)" if close else ""


def is_more(value: object, limit: float) -> bool:
    """Whether `value` is a number above `limit`, so that the limit is what must be told."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value > limit


def shorten(text: str) -> str:
    """Cuts a long text for a message."""
    return text if len(text) <= _SHOWN_CHARS else f"{text[: _SHOWN_CHARS - 3]}..."


def _schema(check: Callable[[Any], Any]) -> CoreSchema:
    return core_schema.no_info_plain_validator_function(check)


@final
@dataclass(frozen=True, slots=True)
class Whole:
    """An integer from `low`, which is 0 or 1, to `high`.

    Attributes:
        what: the noun after "an integer", for example "of bytes".
        low: smallest value, 0 or 1.
        high: largest value.
        example: a sensible value, proposed in the error.
    """

    what: str
    low: int
    high: int
    example: int

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        """Hooks `check` into pydantic."""
        return _schema(self.check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The JSON schema of the field."""
        return {"type": "integer", "minimum": self.low, "maximum": self.high, "examples": [self.example]}

    def check(self, value: Any) -> int:
        """Returns `value` as an int, or raises a fault."""
        if isinstance(value, bool) or not isinstance(value, Integral) or not self.low <= int(value) <= self.high:
            limit = f" up to {self.high}" if is_more(value, self.high) else ""
            raise fault(value, f"{self.expected()}{limit}", f"write e.g. {self.example}")
        return int(value)

    def expected(self) -> str:
        """What belongs here, in words."""
        return f"a {'positive' if self.low > 0 else 'non-negative'} integer {self.what}"


@final
@dataclass(frozen=True, slots=True)
class Real:
    """A finite number from 0 to `high`.

    Attributes:
        what: the noun after "a number", for example "of picojoules".
        high: largest value.
        example: a sensible value, proposed in the error.
        positive: whether 0 is refused.
    """

    what: str
    high: float
    example: float
    positive: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        """Hooks `check` into pydantic."""
        return _schema(self.check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The JSON schema of the field."""
        bound = "exclusiveMinimum" if self.positive else "minimum"
        return {"type": "number", bound: 0, "maximum": self.high, "examples": [self.example]}

    def check(self, value: Any) -> float:
        """Returns `value` as a float, or raises a fault."""
        if isinstance(value, bool) or not isinstance(value, Integral | float) or not self._fits(value):
            limit = f" up to {self.high:g}" if is_more(value, self.high) else ""
            raise fault(value, f"{self.expected()}{limit}", f"write e.g. {self.example:g}")
        return float(value)

    def expected(self) -> str:
        """What belongs here, in words."""
        return f"a {'positive' if self.positive else 'non-negative'} number {self.what}"

    def _fits(self, value: Any) -> bool:
        # Compared before any conversion: float(10**400) would overflow.
        if isinstance(value, float) and not math.isfinite(value):
            return False
        return (value > 0 if self.positive else value >= 0) and value <= self.high


@final
@dataclass(frozen=True, slots=True)
class Flag:
    """true or false, nothing that merely resembles them."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        """Hooks `check` into pydantic."""
        return _schema(self.check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The JSON schema of the field."""
        return {"type": "boolean"}

    def check(self, value: Any) -> bool:
        """Returns `value`, or raises a fault."""
        if not isinstance(value, bool):
            raise fault(value, self.expected(), "write e.g. true")
        return value

    def expected(self) -> str:
        """What belongs here, in words."""
        return "true or false"


@final
@dataclass(frozen=True, slots=True)
class Text:
    """A line of text.

    Attributes:
        what: the noun, for example "a name".
        longest: most characters.
        example: a sensible value, proposed in the error.
        may_be_empty: whether no text at all will do.
    """

    what: str
    longest: int
    example: str
    may_be_empty: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        """Hooks `check` into pydantic."""
        return _schema(self.check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The JSON schema of the field."""
        return {"type": "string", "minLength": 0 if self.may_be_empty else 1, "maxLength": self.longest}

    def check(self, value: Any) -> str:
        """Returns `value` stripped, or raises a fault."""
        # Folded and indented text becomes one line, so that a name or a sentence can stand in a message.
        line = " ".join(value.split()) if isinstance(value, str) else ""
        wrong = not isinstance(value, str) or not (line or self.may_be_empty)
        if wrong or len(line) > self.longest or not line.isprintable():
            raise fault(value, self.expected(), f"write e.g. {self.example}")
        return line

    def expected(self) -> str:
        """What belongs here, in words."""
        return f"{self.what} of at most {self.longest} printable characters"


@final
@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words or numbers."""

    values: tuple[str | int, ...]

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        """Hooks `check` into pydantic."""
        return _schema(self.check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The JSON schema of the field."""
        return {"enum": list(self.values)}

    def check(self, value: Any) -> str | int:
        """Returns `value`, or raises a fault that proposes the nearest choice."""
        for choice in self.values:
            if type(value) is type(choice) and value == choice:
                return choice
        words = [str(v) for v in self.values]
        near = nearest(value.lower(), words) if isinstance(value, str) else ""
        raise fault(value, self.expected(), f"write e.g. {words[0]}{near}")

    def expected(self) -> str:
        """What belongs here, in words."""
        return f"one of {', '.join(str(v) for v in self.values)}"


Quantity = Whole | Real | Flag | Text | Choice
