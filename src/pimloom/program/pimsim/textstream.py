"""JSON as a stream: a file is unpacked piece by piece, and values are taken from the front."""

from __future__ import annotations

import codecs
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NoReturn, final

from pimloom.errors import ProgramError

PIECE_BYTES: Final = 1 << 20
"""Text unpacked at a time: what fits the processor's caches (0.25 to 4 MiB were tried; from 1 MiB on nothing is gained)."""

KEPT_BYTES: Final = 8
"""Bytes before the present place that stay in memory, for those who look at whole words."""

_BLANK: Final = re.compile(rb"[ \t\r\n]*")
_MARK: Final = b"\xef\xbb\xbf"
_FIRST_WINDOW: Final = 1 << 10
_ASCII: Final = 0x80
_LONGEST_CHARACTER: Final = 4
_LONGEST_WORD: Final = 16
_MOST_BYTES: Final = 1 << 26
_HEAD_BYTES: Final = 2
_STEPS: Final = 64
_AUTODETECT: Final = 47  # zlib: window of 32 KiB, header of gzip or zlib
_MOST_DIGITS: Final = 300
"""Digits of a whole number that are read: what has more fits nothing, and is shown shortened."""


@final
class TextError(Exception):
    """The text ends too early, is damaged or is no JSON; who takes it apart knows in which part of the program."""

    def __init__(self, what: str, advice: str = "") -> None:
        """Takes what is wrong, and what to do about it."""
        super().__init__(what + advice)
        self._what, self._advice = what, advice

    def within(self, part: str) -> ProgramError:
        """The same for users, with the part of the program (`, in core 17 behind instruction 431`), if it is known."""
        return ProgramError(f"{self._what}{part}{self._advice}")


@final
class Repeated(dict[str, Any]):
    """A JSON object that states a key more than once; the last value counts in it, as for most parsers.

    Attributes:
        key: the first of these keys.
    """

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        """Takes keys and values in the order of the text."""
        super().__init__(pairs)
        seen: set[str] = set()
        self.key = next(key for key, _ in pairs if key in seen or seen.add(key))


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _whole(text: str) -> int:
    """A whole number; the parser of Python takes no more than some thousand digits."""
    return int(text[:_MOST_DIGITS])


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else Repeated(pairs)


_DECODER: Final = json.JSONDecoder(parse_constant=_constant, parse_int=_whole, object_pairs_hook=_object)


def decode(text: str) -> Any:
    """The value of a complete JSON text; ValueError where it is none (a plain `json.loads` lets NaN pass)."""
    return _DECODER.decode(text)


def pieces(path: Path) -> Iterator[bytes]:
    """Unpacked bytes of a gzip, zlib or plain file, about `PIECE_BYTES` at a time.

    Raises:
        ProgramError: the file cannot be read.
        TextError: it is cut off or damaged.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            file.seek(0)
            if _is_packed(head):
                yield from _unpacked(str(path), iter(lambda: file.read(PIECE_BYTES // 4), b""))
            else:
                yield from iter(lambda: file.read(PIECE_BYTES), b"")
    except EOFError:
        raise TextError(f"{path}: the compressed file ends in the middle", "; it was cut off, copy it again") from None
    except zlib.error as error:
        raise TextError(f"{path}: the compressed file is damaged ({error})", "; copy it again") from None
    except OSError as error:
        raise ProgramError(f"{path}: cannot be read ({error.strerror or error})") from None


def _is_packed(head: bytes) -> bool:
    """Whether two bytes begin a gzip or a zlib stream."""
    return head == b"\x1f\x8b" or (len(head) == _HEAD_BYTES and head[0] & 0x0F == 8 and int.from_bytes(head) % 31 == 0)


def _unpacked(source: str, packed: Iterator[bytes]) -> Iterator[bytes]:
    """Unpacks streams one after the other, as gzip files may be several; zeros pad the last."""
    unpacker = zlib.decompressobj(_AUTODETECT)
    for block in packed:
        rest = block
        while rest:
            if unpacker.eof:
                rest = rest.lstrip(b"\0")
                if len(rest) < _HEAD_BYTES:
                    rest += next(packed, b"") if rest else b""
                if not rest:
                    break
                if not _is_packed(rest[:_HEAD_BYTES]):
                    count = len(rest) + sum(map(len, packed))
                    what = f"{source}: {count} byte{'s' if count > 1 else ''} behind the compressed data found"
                    raise TextError(what, "; cut the file there, or copy it again")
                unpacker = zlib.decompressobj(_AUTODETECT)
            yield from _taken(unpacker, rest, PIECE_BYTES)
            rest = unpacker.unconsumed_tail or unpacker.unused_data
    while not unpacker.eof:
        texts = list(_taken(unpacker, b"", PIECE_BYTES))
        if not texts and not unpacker.eof:
            raise EOFError
        yield from texts


def _taken(unpacker: Any, packed: bytes, most: int) -> Iterator[bytes]:
    """Unpacks up to `most` bytes of text; where the data is damaged, all that comes before that, and then raises zlib.error.

    As zlib keeps no text of a call that fails, that call is made again in smaller steps, by a copy of what it began with.
    """
    before = unpacker.copy()
    try:
        text: bytes = unpacker.decompress(packed, most)
    except zlib.error:
        if len(packed) > 1:
            step = -(-len(packed) // _STEPS)
            for at in range(0, len(packed), step):
                yield from _taken(before, packed[at : at + step], 0)
        elif most != 1:  # a byte can hold more than one character
            while texts := list(_taken(before, packed, 1)):
                yield from texts
                packed = before.unconsumed_tail
        raise
    if text:
        yield text


@final
class TextStream:
    """The bytes of a JSON file from a moving place on; text only where a value is taken.

    Attributes:
        source: the file, for messages.
        data: what is in memory.
        at: place in `data` up to which values were taken.
    """

    def __init__(self, source: str, chunks: Iterator[bytes]) -> None:
        """Starts before the first byte, after a byte order mark."""
        self.source = source
        self.data = b""
        self.at = 0
        self._chunks = chunks
        self._is_over = False
        self._fault: TextError | None = None  # of the file, met while looking ahead: it counts where text is missing
        self._is_told = False
        self._dropped = 0
        while len(self.data) < len(_MARK) and self.more():
            pass
        if self.data.startswith(_MARK):
            self.at = len(_MARK)

    def fail(self, what: str) -> NoReturn:
        """Raises TextError at the present place: `what` is wrong, unless the file itself is and that is why."""
        self._is_told = self._fault is not None
        raise self._fault or TextError(f"{self.source}: not the JSON of a pimsim-nn program: {what} at byte {self._dropped + self.at}")

    def more(self) -> bool:
        """Brings more into memory; False at the end of the file. What lies far before the present place is dropped."""
        if self._is_over:
            return False
        try:
            chunk = next(self._chunks, None)
        except TextError as fault:
            self._fault, chunk = fault, None
        if chunk is None:
            self._is_over = True
            return False
        drop = max(self.at - KEPT_BYTES, 0)
        self._dropped += drop
        self.data = self.data[drop:] + chunk
        self.at -= drop
        return True

    def damage(self) -> str:
        """What to add to an error of what was read: that the file itself is damaged, if that is not the error and its rest shows it."""
        while self.more():
            self.at = len(self.data)
        return "; the compressed file is damaged, copy it again" if self._fault is not None and not self._is_told else ""

    def end(self) -> None:
        """Takes the end of the file: TextError if more is there, or should be."""
        if self.peek() or self._fault is not None:
            self.fail("text after the last closing brace")

    def peek(self) -> str:
        """The next character that is not blank, '' at the end of the file."""
        while True:
            match = _BLANK.match(self.data, self.at)
            assert match is not None
            self.at = match.end()
            if self.at < len(self.data):
                break
            if not self.more():
                return ""
        byte = self.data[self.at]
        if byte < _ASCII:
            return chr(byte)
        self._fill(_LONGEST_CHARACTER)
        text, _ = self._window(_LONGEST_CHARACTER)
        return text[0] if text else self._fail_behind(text)

    def expect(self, allowed: str) -> str:
        """Takes one of the allowed characters."""
        found = self.peek()
        if not found or found not in allowed:
            wanted = " or ".join(f"'{c}'" for c in allowed)
            self.fail(f"{repr(found) if found else 'the end of the file'} found, {wanted} expected")
        self.at += 1
        return found

    def value(self) -> Any:
        """Takes one JSON value of any kind."""
        self.peek()
        size = _FIRST_WINDOW
        while True:
            self._fill(size)
            text, is_bad = self._window(size)
            found: Any
            try:
                found, end = _DECODER.raw_decode(text)
            except RecursionError:
                self.fail("values nested too deep")
            except ValueError as error:
                is_cut = _is_cut_off(error, text)
                if is_bad and is_cut:
                    self._fail_behind(text)
                if not is_cut or not self._fill(2 * size):
                    self.fail(f"no value ({getattr(error, 'msg', error)})")
            else:
                # A number that touches the end of the text may go on.
                if end < len(text) or isinstance(found, (dict, list, str)) or is_bad or not self._fill(2 * size):
                    self.at += _byte_count(text[:end])
                    return found
            size *= 2

    def _window(self, size: int) -> tuple[str, bool]:
        """The next `size` bytes as text, less a character that is cut off, and whether a byte that is not UTF-8 ends it before."""
        piece = self.data[self.at : self.at + size]
        try:
            return codecs.utf_8_decode(piece)[0], False
        except UnicodeDecodeError as error:
            return piece[: error.start].decode(), True

    def _fail_behind(self, text: str) -> NoReturn:
        """Raises TextError at the byte behind `text`, which is not UTF-8."""
        self.at += _byte_count(text)
        self.fail("text that is not UTF-8")

    def _fill(self, size: int) -> bool:
        """Brings `size` bytes from the present place on into memory; False if there are no more than half of them."""
        if size > _MOST_BYTES:
            self.fail(f"a value of more than {_MOST_BYTES >> 20} MiB")
        while len(self.data) - self.at < size and self.more():
            pass
        return len(self.data) - self.at > size // 2


def _is_cut_off(error: ValueError, text: str) -> bool:
    """Whether a text may be the beginning of a value: the parser met its end."""
    if not isinstance(error, json.JSONDecodeError):
        return False
    return error.msg.startswith("Unterminated string") or error.pos > len(text) - _LONGEST_WORD


def _byte_count(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
