"""The text of an instruction, cut at the numbers of its registers and of a scalar instruction's constant.

Nine of ten texts of a program differ from others in these numbers alone. Where a text agrees with a known one in all other bytes
and has plain numbers in these places, it is JSON of the same object with those numbers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, final

from pimloom.program.pimsim.textstream import decode

_NUMBER: Final = re.compile(rb'"(rd|rs1|rs2|imm)"[ \t\r\n]*:[ \t\r\n]*(0|[1-9][0-9]{0,8})(?![0-9])')
_TRIALS: Final = (3, 12)


@final
@dataclass(frozen=True, slots=True)
class Template:
    """A text with holes.

    Attributes:
        pieces: before, between and after the holes.
        names: the fields whose numbers are the holes.
    """

    pieces: tuple[bytes, ...]
    names: tuple[str, ...]

    @staticmethod
    def of(text: bytes, names: tuple[str, ...]) -> Template:
        """Cuts a text.

        Args:
            text: an instruction, without its braces.
            names: fields to cut out. What of them is no plain number, or not there, is left in.
        """
        found = [match for match in _NUMBER.finditer(text) if match.group(1).decode() in names]
        bounds = [0, *(place for match in found for place in match.span(2)), len(text)]
        pieces = tuple(text[a:b] for a, b in zip(bounds[::2], bounds[1::2], strict=True))
        template = Template(pieces, tuple(match.group(1).decode() for match in found))
        return template if template._says_what_it_seems(text) else Template((text,), ())

    def with_numbers(self, numbers: dict[str, int]) -> bytes:
        """The text with other numbers."""
        holes = (b"%d" % numbers[name] for name in self.names)
        return b"".join(part for pair in zip(self.pieces, (*holes, b""), strict=True) for part in pair)

    def _says_what_it_seems(self, text: bytes) -> bool:
        """Whether the text means the same object with other numbers in these fields, whatever they are.

        It does not where a name stands in a string or in an object within the object, or twice.
        """
        meaning = decode("{" + text.decode() + "}")
        for trial in _TRIALS:
            numbers = {name: trial + i for i, name in enumerate(self.names)}
            other: Any = decode("{" + self.with_numbers(numbers).decode() + "}")
            if other != meaning | numbers:
                return False
        return len(set(self.names)) == len(self.names)
