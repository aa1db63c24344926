"""The vocabulary of processing-in-memory hardware as frozen, validated data, and the presets that come with it."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from pimloom.hardware.crossbar import Chip, Core, Crossbar, CrossbarHardware, Precision, Rewriting
from pimloom.hardware.describe import describe
from pimloom.hardware.load import (
    KINDS,
    json_schema,
    load_crossbar,
    load_hardware,
    parse_hardware,
    preset_names,
    preset_text,
    to_yaml,
)
from pimloom.hardware.machine import Hardware
from pimloom.hardware.parts import ChipLink, GlobalMemory, Issue, LocalMemory, Noc, VectorUnit
from pimloom.hardware.pimsim import PimsimHardware
from pimloom.hardware.sram import SramHardware


class _Loader(ModuleType):
    """This module can be called, because `pimloom.hardware(...)` is how users load a machine."""

    def __call__(self, source: str | Path | Hardware, overrides: Sequence[str] | Mapping[str, Any] = ()) -> Hardware:
        """Loads a preset or a YAML file (see `load_hardware`); a machine that is loaded already is returned as it is."""
        return load_hardware(source, overrides) if isinstance(source, str | Path) else source


sys.modules[__name__].__class__ = _Loader

__all__ = [
    "KINDS",
    "Chip",
    "ChipLink",
    "Core",
    "Crossbar",
    "CrossbarHardware",
    "GlobalMemory",
    "Hardware",
    "Issue",
    "LocalMemory",
    "Noc",
    "PimsimHardware",
    "Precision",
    "Rewriting",
    "SramHardware",
    "VectorUnit",
    "describe",
    "json_schema",
    "load_crossbar",
    "load_hardware",
    "parse_hardware",
    "preset_names",
    "preset_text",
    "to_yaml",
]
