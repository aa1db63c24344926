"""The exception tree: every fault a user can cause ends in one of these.

A message says where, what was found, what was expected, and what to do next. The command line prints
the message of a `PimloomError` and exits with code 2; any other exception is a fault of pimloom itself.
"""

from __future__ import annotations

from typing import final


class PimloomError(Exception):
    """Base of all errors that a user can act on."""


@final
class ModelError(PimloomError):
    """The network is malformed or uses something that pimloom cannot run."""


@final
class HardwareError(PimloomError):
    """The hardware description is malformed or describes an impossible machine."""


@final
class CapacityError(PimloomError):
    """The hardware is too small for the network."""

    def __init__(self, resource: str, needed: int, available: int, where: str, advice: str) -> None:
        """Builds the message `resource: needed ..., available ... on 'where'; advice`."""
        self.resource = resource
        self.needed = needed
        self.available = available
        self.advice = advice
        super().__init__(f"{resource}: {needed} needed, {available} available on '{where}'; {advice}")


@final
class ProgramError(PimloomError):
    """A program is malformed: a field out of range, an unknown opcode, a broken file."""


@final
class SimulationError(PimloomError):
    """The program cannot be simulated to its end, for example because of a deadlock."""


@final
class VerificationError(PimloomError):
    """The numbers of a program differ from the meaning of its graph."""


@final
class UsageError(PimloomError):
    """A command line option or an API argument is wrong."""


@final
class InternalError(Exception):
    """A fault of pimloom itself, never of the user's input."""

    def __init__(self, message: str) -> None:
        """Appends the request to report the fault."""
        super().__init__(f"{message}; this is a fault in pimloom, please report it with the model")
