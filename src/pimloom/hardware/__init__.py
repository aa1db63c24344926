"""The vocabulary of processing-in-memory hardware as frozen, validated data, and the presets that come with it."""

from pimloom.hardware.crossbar import Chip, Core, Crossbar, CrossbarHardware, Precision
from pimloom.hardware.describe import describe
from pimloom.hardware.load import (
    KINDS,
    Hardware,
    json_schema,
    load_hardware,
    parse_hardware,
    preset_names,
    preset_text,
    to_yaml,
)
from pimloom.hardware.parts import ChipLink, GlobalMemory, Issue, LocalMemory, Noc, VectorUnit

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
    "Precision",
    "VectorUnit",
    "describe",
    "json_schema",
    "load_hardware",
    "parse_hardware",
    "preset_names",
    "preset_text",
    "to_yaml",
]
