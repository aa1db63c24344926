"""A result from its JSON form (docs/json.md)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pimloom.errors import UsageError

if TYPE_CHECKING:
    from pimloom.result import Result, Verification


MOST_RESULT_BYTES = 2**28

_NUMBER, _COUNT, _TEXT, _NUMBERS = "a number", "a count", "a text", "a mapping of names to numbers"

# Key -> kind; a "?" marks what may be null. Compared with docs/json.md and with what runs yield in tests/test_cli.py.
RESULT_KEYS: Mapping[str, str] = {
    "schema_version": _COUNT, "model": _TEXT, "hardware": _TEXT, "target": _TEXT, "mode": _TEXT, "samples": _COUNT,
    "nodes": _COUNT, "rows": _COUNT, "instructions": _COUNT, "compile_s": _NUMBER, "simulate_s": _NUMBER,
    "execute_s": _NUMBER, "array_name": _TEXT, "clock_ghz": _NUMBER, "cycles": _COUNT, "latency_cycles": _COUNT, "latency_ns": _NUMBER,
    "period_cycles": _NUMBER, "throughput_per_s": _NUMBER, "energy_pj": _NUMBERS, "utilisation": _NUMBERS,
    "busiest": _NUMBERS, "waits_cycles": _NUMBERS, "bounds": "a mapping", "layers": "a list", "verify": "a mapping?",
    "notes": "a mapping",
}  # fmt: skip
LAYER_KEYS: Mapping[str, str] = {
    "name": _TEXT, "op": _TEXT, "kind": _TEXT, "start_cycles": _COUNT, "end_cycles": _COUNT, "busy_cycles": _NUMBERS,
    "energy_pj": _NUMBER, "macs": _COUNT, "arrays": _COUNT, "copies": _COUNT, "cores": _COUNT,
    "waits_cycles": _NUMBERS, "moved_bytes": _NUMBERS,
}  # fmt: skip
BOUND_KEYS: Mapping[str, str] = {"cycles": _NUMBER, "achieved": _NUMBER, "explanation": _TEXT}
VERIFY_KEYS: Mapping[str, str] = {
    "reference": _TEXT, "bit_exact": "true or false", "max_abs_error": _NUMBER, "max_relative_error": _NUMBER,
    "error_bound": _NUMBER, "ok": "true or false",
}  # fmt: skip
# `notes.analog`, which only an analog execution yields.
ANALOG_KEYS: Mapping[str, str] = {
    "samples": _COUNT, "adc_bits": _COUNT, "adc_range": _NUMBER, "adc_full_scale": _NUMBER, "adc_step": _NUMBER,
    "cell_noise": _NUMBER, "read_noise_lsb": _NUMBER, "seed": _COUNT, "outputs": "a list", "layers": "a list",
}  # fmt: skip
ANALOG_OUTPUT_KEYS: Mapping[str, str] = {
    "name": _TEXT, "largest": _NUMBER, "max_abs_error": _NUMBER, "rms_error": _NUMBER, "snr_db": _NUMBER,
    "top1_agreement": "a number?",
}  # fmt: skip
ANALOG_LAYER_KEYS: Mapping[str, str] = {
    "name": _TEXT, "conversions": _COUNT, "clipped": _COUNT, "clipped_share": _NUMBER, "peak": _NUMBER,
}  # fmt: skip


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


_KINDS: Mapping[str, Callable[[Any], bool]] = {
    _NUMBER: _is_number,
    "a number?": _is_number,
    _COUNT: lambda value: isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63,
    _TEXT: lambda value: isinstance(value, str),
    _NUMBERS: lambda value: isinstance(value, dict),
    "a mapping": lambda value: isinstance(value, dict),
    "a mapping?": lambda value: value is None or isinstance(value, dict),
    "a list": lambda value: isinstance(value, list),
    "true or false": lambda value: isinstance(value, bool),
}


def _checked(record: Any, keys: Mapping[str, str], where: str) -> dict[str, Any]:
    """The record if it has all keys, each with a value of its kind; null numbers become NaN."""
    if not isinstance(record, dict):
        raise UsageError(f"{where}: {_short(record)} found, a mapping expected; give a file written by --json")
    for key, kind in keys.items():
        if key not in record:
            raise UsageError(f"{where}: key '{key}' is missing; give a file written by --json")
        _check_kind(record[key], kind, f"{where}: {key}")
    values = {key: record[key] for key in keys}
    for key, kind in keys.items():
        if kind == _NUMBER:
            values[key] = _float(record[key])
        elif kind == _NUMBERS:
            values[key] = {k: _float(v) for k, v in record[key].items()}
    return values


def _check_kind(value: Any, kind: str, where: str) -> None:
    if kind == _NUMBERS and isinstance(value, dict):
        for name, number in value.items():
            _check_kind(number, _NUMBER, f"{where}.{name}")
    elif not _KINDS[kind](value):
        raise UsageError(f"{where}: {_short(value)} found, {kind} expected; give a file written by --json")


def _float(value: float | None) -> float:
    if value is None:
        return math.nan
    return float(value) if abs(value) < 1e300 else math.copysign(math.inf, value)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def read_result(path: str) -> Result:
    """A result from the JSON form that a run writes; what that form leaves out (maps of the chip, traces) is empty.

    Raises:
        UsageError: the file is unreadable or not such a form.
    """
    from pimloom.result import SCHEMA_VERSION

    where = f"result '{path}'"
    try:
        if Path(path).stat().st_size > MOST_RESULT_BYTES:
            raise UsageError(f"{where}: the file is larger than {MOST_RESULT_BYTES >> 20} MiB; give a file written by --json")
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as fault:
        raise UsageError(f"{where}: it cannot be read ({fault.strerror}); check the path") from None
    except ValueError as fault:
        raise UsageError(f"{where}: it is not JSON ({fault}); give a file written by --json") from None
    if isinstance(data, dict) and data.get("schema_version") != SCHEMA_VERSION:
        version = _short(data.get("schema_version"))
        raise UsageError(f"{where}: schema_version {version} found, {SCHEMA_VERSION} expected; write it with this pimloom")
    return _result(_checked(data, RESULT_KEYS, where), where)


def _result(data: Mapping[str, Any], where: str) -> Result:
    import numpy as np

    from pimloom.result import NodeResult, Result

    layers = [_checked(layer, LAYER_KEYS, f"{where}: layers[{i}]") for i, layer in enumerate(data["layers"])]
    utilisation = dict(data["utilisation"])
    holding = utilisation.pop("arrays holding weights", 0.0)
    energy = {name: value for name, value in data["energy_pj"].items() if name != "total"}
    same = ("model", "hardware", "target", "mode", "samples", "rows", "instructions", "compile_s", "simulate_s", "execute_s",
            "array_name", "clock_ghz", "cycles", "latency_cycles", "period_cycles", "busiest", "waits_cycles", "notes")  # fmt: skip
    if not data["clock_ghz"] > 0:
        raise UsageError(f"{where}: clock_ghz: {data['clock_ghz']} found, a positive number expected; give a file written by --json")
    if "analog" in data["notes"]:
        data = {**data, "notes": {**data["notes"], "analog": _analog(data["notes"]["analog"], f"{where}: notes.analog")}}
    return Result(
        **{key: data[key] for key in same}, nodes=tuple(NodeResult(**layer) for layer in layers), energy_pj=energy,
        utilisation=utilisation, arrays_in_use=holding, bounds=_bounds(data["bounds"], where),
        verification=_verification(data["verify"], where), busy_cycles={}, resources={}, core_busy={},
        core_arrays=np.zeros(0, np.int32), core_nodes=(), link_load=np.zeros(0), chip_rows=0, chip_cols=0, chips=0,
    )  # fmt: skip


def _bounds(data: Mapping[str, Any], where: str) -> tuple[Any, ...]:
    from pimloom.result import Bound

    made: list[Bound] = []
    for key, value in data.items():
        checked = _checked(value, BOUND_KEYS, f"{where}: bounds.{key}")
        mode, _, name = key.partition(": ")
        made.append(Bound(name, mode, checked["cycles"], checked["explanation"]))
    return tuple(made)


def _analog(data: Any, where: str) -> dict[str, Any]:
    checked = _checked(data, ANALOG_KEYS, where)
    for key, keys in (("outputs", ANALOG_OUTPUT_KEYS), ("layers", ANALOG_LAYER_KEYS)):
        checked[key] = [_checked(record, keys, f"{where}.{key}[{i}]") for i, record in enumerate(checked[key])]
    return checked


def _verification(data: Any, where: str) -> Verification | None:
    from pimloom.result import Verification

    if data is None:
        return None
    checked = _checked(data, VERIFY_KEYS, f"{where}: verify")
    return Verification(
        checked["reference"], checked["bit_exact"], checked["max_abs_error"], checked["max_relative_error"],
        checked["error_bound"], checked["ok"],
    )  # fmt: skip
