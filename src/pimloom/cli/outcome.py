"""What is told of a run."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pimloom.cli.console import DISAGREES, DONE, draw, print_text

if TYPE_CHECKING:
    from pimloom.program import Program
    from pimloom.result import Result, Verification

WORST_LAYERS = 5


def show_outcome(result: Result, json_file: str | None, *, layers: bool, written: str) -> int:
    """Prints a result, as JSON if asked; returns the exit code."""
    from pimloom.report import layers_table, summary_table

    if json_file == "-":
        from pimloom.report.files import plain

        print_text(json.dumps(plain(result.to_dict()), indent=2, allow_nan=False))
    else:
        drawings = [summary_table, *([layers_table] if layers else [])]
        draw(*(lambda console, d=drawing: d(result, console) for drawing in drawings))
        if "analog" in result.notes:
            print_text(f"\n{analog_facts(result.notes['analog'])}")
        if written:
            print_text(f"\n{written}")
    verification = result.verification
    return DONE if verification is None or verification.ok else DISAGREES


def program_facts(program: Program) -> str:
    """A program in one line."""
    used = sum(1 for start, stop in zip(program.stream_ptr[:-1], program.stream_ptr[1:], strict=True) if stop > start)
    arrays = int(program.groups.crossbars.sum())
    return (
        f"program: {program.name} on {program.hardware.name}, {program.mode}, {program.samples} "
        f"sample{'s' * (program.samples != 1)}; {program.n_rows:,} rows on {used} of {program.n_processors} cores, {arrays:,} crossbars"
    )


def verification_facts(found: Verification) -> str:
    """A comparison of numbers, line by line."""
    bits = "equal to the quantised network, bit by bit" if found.is_bit_exact else "DIFFERENT from the quantised network"
    lines = [f"numbers: {bits}"]
    for name, figures in found.details.items():
        lines.append(
            f"  {name}: against {found.reference}: largest difference {figures['max_abs_error']:.4g} of {figures['largest']:.4g}, "
            f"root mean square {figures['rms_error']:.4g}, "
            + (f"bound {figures['rms_bound']:.4g}" if math.isfinite(figures["rms_bound"]) else "no bound stated")
        )
    return "\n".join([*lines, f"verified: {'yes' if found.ok else 'NO'}"])


def analog_facts(run: Mapping[str, Any]) -> str:
    """Lines about an analog execution, from its JSON form."""
    noise = f"cell noise {run['cell_noise']:g}, read noise {run['read_noise_lsb']:g} LSB, seed {run['seed']}"
    lines = [f"analog: {run['adc_bits']}-bit ADCs, step {run['adc_step']:.4g} of {run['adc_full_scale']:.5g}; {noise}"]
    for output in run["outputs"]:
        lines.append(f"  {output['name']}: {_analog_error(output)}")
        if output["top1_agreement"] is not None:
            lines.append(f"    top-1 as on exact arrays: {100 * output['top1_agreement']:.4g} %")
    worst = sorted(run["layers"], key=lambda layer: (-layer["clipped_share"], -layer["peak"]))[:WORST_LAYERS]
    total, clipped = (sum(layer[key] for layer in run["layers"]) for key in ("conversions", "clipped"))
    lines.append(f"  clipped: {clipped:,} of {total:,} conversions{'; layers nearest to it:' if worst else ''}")
    lines += [f"    {w['name']}: {100 * w['clipped_share']:.3g} %, largest sum {100 * w['peak']:.3g} % of full scale" for w in worst]
    return "\n".join(lines)


def _analog_error(output: Mapping[str, Any]) -> str:
    if output["max_abs_error"] == 0:
        return "equal to exact arrays"
    return (
        f"largest error {output['max_abs_error']:.4g} of {output['largest']:.4g}, root mean square {output['rms_error']:.4g}, "
        f"SNR {output['snr_db']:.4g} dB"
    )
