"""What an execution under analog conditions yields: its outputs, how far they are from the exact ones, what the ADCs saw."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from pimloom.execute.analog import Analog, Converter, Load, converter
from pimloom.execute.compare import real_values
from pimloom.execute.interpreter import Interpreter
from pimloom.program.crossbar import crossbar_of
from pimloom.program.rows import Array

Codes = Mapping[str, Array]


@final
@dataclass(frozen=True, slots=True)
class OutputError:
    """How far one output is from that of exact arrays, over all samples; in the output's own unit.

    Attributes:
        value: name of the output.
        largest: largest magnitude of the exact output.
        max_abs_error: largest difference.
        rms_error: root mean square difference.
        snr_db: `10 log10(sum of exact**2 / sum of difference**2)`; infinite without a difference.
        top1_agreement: share of the rows whose largest element is at the same place; None unless the output is a matrix of
            at least two columns, as class scores are.
    """

    value: str
    largest: float
    max_abs_error: float
    rms_error: float
    snr_db: float
    top1_agreement: float | None


def output_error(value: str, exact: Array, found: Array) -> OutputError:
    """Compares one output.

    Args:
        value: its name.
        exact: float64[samples, ...], from exact arrays.
        found: float64[samples, ...], from analog ones.
    """
    difference = np.abs(found - exact)
    noise, signal = float(np.sum(difference**2)), float(np.sum(exact**2))
    snr_db = math.inf if noise == 0 else -math.inf if signal == 0 else 10 * math.log10(signal / noise)
    has_scores = exact.ndim == 3 and exact.shape[2] >= 2
    top1 = float(np.mean(found.argmax(axis=2) == exact.argmax(axis=2))) if has_scores and exact.size else None
    rms = math.sqrt(noise / difference.size) if difference.size else 0.0
    return OutputError(value, float(np.abs(exact).max(initial=0.0)), float(difference.max(initial=0.0)), rms, snr_db, top1)


@final
@dataclass(frozen=True, slots=True)
class AnalogRun:
    """Samples executed under analog conditions.

    Attributes:
        analog: the conditions.
        converter: the ADC that follows from them.
        outputs: per sample the real outputs (float64).
        errors: per output of the graph.
        loads: per node on crossbars, in graph order.
    """

    analog: Analog
    converter: Converter
    outputs: tuple[dict[str, Array], ...]
    errors: tuple[OutputError, ...]
    loads: tuple[Load, ...]

    def to_dict(self) -> dict[str, Any]:
        """The JSON form (`notes.analog` in docs/json.md)."""
        return {
            "samples": len(self.outputs), "adc_bits": self.converter.bits, "adc_range": self.analog.adc_range,
            "adc_full_scale": self.converter.full_scale, "adc_step": self.converter.step, "cell_noise": self.analog.cell_noise,
            "read_noise_lsb": self.analog.read_noise_lsb, "seed": self.analog.seed,
            "outputs": [
                {
                    "name": e.value, "largest": e.largest, "max_abs_error": e.max_abs_error, "rms_error": e.rms_error,
                    "snr_db": e.snr_db, "top1_agreement": e.top1_agreement,
                }
                for e in self.errors
            ],
            "layers": [
                {
                    "name": load.node, "conversions": load.conversions, "clipped": load.clipped,
                    "clipped_share": load.clipped_share, "peak": load.peak,
                }
                for load in self.loads
            ],
        }  # fmt: skip


def run_analog(exact: Interpreter, analog: Analog, samples: Sequence[Codes]) -> AnalogRun:
    """Executes samples under analog conditions and compares them with exact arrays.

    Args:
        exact: the interpreter of the program.
        analog: the conditions; the noise of the cells is that of one machine for all samples.
        samples: per sample the codes of the inputs, at least one.

    Raises:
        UsageError: the machine has no analog arrays.
    """
    program = exact.program
    noisy = Interpreter(program, analog)
    pairs = [(real_values(program.graph, exact.run(codes)), real_values(program.graph, noisy.run(codes))) for codes in samples]
    errors = tuple(output_error(v, *(np.stack([side[v] for side in sides]).astype(np.float64) for sides in zip(*pairs, strict=True)))
                   for v in program.graph.outputs)  # fmt: skip
    return AnalogRun(analog, converter(crossbar_of(program).crossbar, analog), tuple(a for _, a in pairs), errors, noisy.loads())


__all__ = ["AnalogRun", "OutputError", "output_error", "run_analog"]
