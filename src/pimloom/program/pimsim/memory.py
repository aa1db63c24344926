"""Room in a core's local memory for what an exported program adds: constants and buffers."""

from __future__ import annotations

from typing import Final, final

from pimloom.errors import CapacityError

_ALIGNMENT: Final = 64
_MOST_BYTES: Final = 1 << 31
"""What a register of pimsim-nn can address."""


@final
class CoreMemory:
    """Constants and buffers of one core, behind what the program itself holds of its memory.

    Attributes:
        top: end of what is in use, bytes.
    """

    def __init__(self, core: int, used_bytes: int, machine: str) -> None:
        """Starts at the end of the program's own blocks; `machine` is for messages."""
        self._core, self._machine, self.top = core, machine, used_bytes
        self._constants: dict[tuple[object, ...], int] = {}
        self._buffers: dict[str, tuple[int, int]] = {}

    def buffer(self, name: str, size_bytes: int) -> int:
        """A buffer that is used again and again; it only grows."""
        address, size = self._buffers.get(name, (0, -1))
        if size < size_bytes:
            address = self._take(size_bytes)
            self._buffers[name] = address, size_bytes
        return address

    def constant(self, key: tuple[object, ...], size_bytes: int) -> int:
        """Constants that are in memory from the beginning, as weights are in their arrays."""
        if key not in self._constants:
            self._constants[key] = self._take(size_bytes)
        return self._constants[key]

    def _take(self, size_bytes: int) -> int:
        address = -(-self.top // _ALIGNMENT) * _ALIGNMENT
        self.top = address + size_bytes
        if self.top >= _MOST_BYTES:
            raise CapacityError(
                f"local memory of core {self._core} (bytes)", self.top, _MOST_BYTES - 1, self._machine,
                "registers of pimsim-nn hold 32 bits; use a smaller network",
            )  # fmt: skip
        return address
