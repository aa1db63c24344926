"""What every machine says of itself, whatever its kind."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


class Bits(Protocol):
    """What the compiler quantises to when the user does not say."""

    @property
    def weight_bits(self) -> int:
        """Bits of a weight."""
        raise NotImplementedError

    @property
    def activation_bits(self) -> int:
        """Bits of an activation."""
        raise NotImplementedError


@runtime_checkable
class Hardware(Protocol):
    """Any machine: what code that serves all kinds may ask. What only one kind has is in the record of that kind."""

    @property
    def name(self) -> str:
        """What it is called in messages and reports."""
        raise NotImplementedError

    @property
    def kind(self) -> str:
        """The kind of machine, also the name of the target that serves it."""
        raise NotImplementedError

    @property
    def description(self) -> str:
        """One sentence, may be empty."""
        raise NotImplementedError

    @property
    def source(self) -> str:
        """Publication or file that the numbers come from."""
        raise NotImplementedError

    @property
    def clock_ghz(self) -> float:
        """The one clock that all `_cycles` count."""
        raise NotImplementedError

    @property
    def chips(self) -> int:
        """Number of identical chips."""
        raise NotImplementedError

    @property
    def precision(self) -> Bits:
        """Defaults of the compiler."""
        raise NotImplementedError

    @property
    def processors(self) -> int:
        """Instruction streams of all chips (cores, macros, channels)."""
        raise NotImplementedError

    @property
    def processor_grid(self) -> tuple[int, int]:
        """Rows and columns of the processors of one chip, as they are drawn."""
        raise NotImplementedError

    @property
    def memory_bytes(self) -> int:
        """Local memory of one processor."""
        raise NotImplementedError

    @property
    def shares_memory(self) -> bool:
        """Whether all processors see one local memory of `memory_bytes`."""
        raise NotImplementedError

    @property
    def result_bits(self) -> int:
        """Bits that a sum of products keeps on its way through arrays; 0 for as many as it has."""
        raise NotImplementedError

    @property
    def global_memory_bytes(self) -> int:
        """Memory of one chip that all its processors reach."""
        raise NotImplementedError

    @property
    def arrays(self) -> int:
        """Arrays (crossbars, macros) of all chips."""
        raise NotImplementedError

    @property
    def arrays_per_processor(self) -> int:
        """Arrays that one processor drives."""
        raise NotImplementedError

    @property
    def are_arrays_rewritten(self) -> bool:
        """Whether arrays may get other weights while a program runs."""
        raise NotImplementedError

    @property
    def array_rows(self) -> int:
        """Rows of one array."""
        raise NotImplementedError

    def array_weights_per_row(self, weight_bits: int) -> int:
        """Weights in one row of an array."""
        raise NotImplementedError

    def weights_capacity(self, weight_bits: int) -> int:
        """Weights that all arrays hold at once."""
        raise NotImplementedError

    @property
    def static_mw_total(self) -> float:
        """Power at rest of all chips."""
        raise NotImplementedError


__all__ = ["Bits", "Hardware"]
