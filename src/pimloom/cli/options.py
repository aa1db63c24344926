"""Options that several commands share."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated

import typer

from pimloom.cli.files import MOST_SAMPLES

if TYPE_CHECKING:
    pass


class ModeName(enum.StrEnum):
    """`pimloom.targets.Mode`, told without loading it."""

    LATENCY = "latency"
    THROUGHPUT = "throughput"


class ReferenceName(enum.StrEnum):
    """What numbers are compared with."""

    AUTO = "auto"
    ONNXRUNTIME = "onnxruntime"
    GRAPH = "graph"
    NONE = "none"


_MAPPING, NETWORK_PANEL, MACHINE_PANEL, _ANALOG, FILES_PANEL = "Compiling", "Network", "Machine", "Analog execution", "Files"

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="A network of the zoo (pimloom models) or an ONNX file.")]
ProgramArgument = Annotated[str, typer.Argument(metavar="PROGRAM", help="A program file from `pimloom compile`.")]
HardwareOption = Annotated[
    str, typer.Option("--hardware", "-H", metavar="NAME|FILE", rich_help_panel=MACHINE_PANEL,
                      help="A preset (pimloom hardware list) or a YAML file."),
]  # fmt: skip
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", rich_help_panel=MACHINE_PANEL,
                                   help="Changes one value of the machine, e.g. core.crossbars=64; repeatable."),
]  # fmt: skip
ChipsOption = Annotated[int | None, typer.Option("--chips", min=1, rich_help_panel=MACHINE_PANEL, help="Number of chips.")]
ModeOption = Annotated[
    ModeName, typer.Option("--mode", rich_help_panel=_MAPPING, help="One sample as early as possible, or samples per second."),
]  # fmt: skip
BatchOption = Annotated[
    int | None, typer.Option("--batch", min=1, max=MOST_SAMPLES, rich_help_panel=_MAPPING,
                             help="Samples per run; 1 in latency mode and 8 in throughput mode if not given."),
]  # fmt: skip
EffortOption = Annotated[
    int, typer.Option("--effort", min=0, max=3, rich_help_panel=_MAPPING, help="How long to search for a better mapping."),
]  # fmt: skip
StrategyOption = Annotated[
    str | None, typer.Option("--strategy", metavar="NAME", rich_help_panel=_MAPPING,
                             help="Which array is written when (SRAM machines, and with --rewrite): in_situ, naive_ping_pong, "
                                  "generalized or auto."),
]  # fmt: skip
RewriteOption = Annotated[
    bool, typer.Option("--rewrite", rich_help_panel=_MAPPING,
                       help="Where the crossbars are too few, rewrites their weights while the network runs."),
]  # fmt: skip
SeedOption = Annotated[
    int, typer.Option("--seed", min=0, max=2**32 - 1, rich_help_panel=_MAPPING,
                      help="Of zoo weights, random inputs, the search and analog noise."),
]  # fmt: skip
WeightBitsOption = Annotated[
    int | None, typer.Option("--weight-bits", rich_help_panel=_MAPPING, help="8 or 16; the machine's own if not given."),
]  # fmt: skip
ActivationBitsOption = Annotated[
    int | None, typer.Option("--activation-bits", rich_help_panel=_MAPPING, help="8 or 16; the machine's own if not given."),
]  # fmt: skip
ShapeOption = Annotated[
    list[str] | None, typer.Option("--shape", metavar="NAME=SIZES", rich_help_panel=NETWORK_PANEL,
                                   help="Shape of an input, e.g. x=1,3,224,224, or size of a symbol, e.g. n=4; repeatable."),
]  # fmt: skip
InputOption = Annotated[
    str | None, typer.Option("--input", metavar="FILE.npz", rich_help_panel=NETWORK_PANEL,
                             help="Real inputs by name; with one dimension more, several samples. Random ones if not given."),
]  # fmt: skip
ReferenceOption = Annotated[
    ReferenceName, typer.Option("--reference", rich_help_panel=NETWORK_PANEL, help="What computes the numbers to compare with."),
]  # fmt: skip
AnalogOption = Annotated[
    bool, typer.Option("--analog", rich_help_panel=_ANALOG,
                       help="Also executes on analog crossbars and compares with the exact numbers."),
]  # fmt: skip
AdcBitsOption = Annotated[
    int | None, typer.Option("--adc-bits", min=1, max=32, rich_help_panel=_ANALOG,
                             help="Resolution of the ADCs; the machine's own if not given."),
]  # fmt: skip
AdcRangeOption = Annotated[
    float | None, typer.Option("--adc-range", metavar="SHARE", rich_help_panel=_ANALOG,
                               help="Full scale of the ADCs over the largest sum of a column; 1 if not given."),
]  # fmt: skip
CellNoiseOption = Annotated[
    float | None, typer.Option("--cell-noise", metavar="SIGMA", rich_help_panel=_ANALOG,
                               help="Standard deviation of ln(conductance) of the cells; 0 if not given."),
]  # fmt: skip
ReadNoiseOption = Annotated[
    float | None, typer.Option("--read-noise", metavar="LSB", rich_help_panel=_ANALOG,
                               help="Standard deviation of a conversion in steps of the ADC; 0 if not given."),
]  # fmt: skip
JsonOption = Annotated[
    str | None, typer.Option("--json", metavar="FILE", rich_help_panel=FILES_PANEL,
                             help="Writes the result as JSON (docs/json.md); - for stdout, and then nothing else goes there."),
]  # fmt: skip
ReportOption = Annotated[
    str | None, typer.Option("--report", metavar="FILE.html", rich_help_panel=FILES_PANEL, help="Writes a page that explains the run."),
]  # fmt: skip
TraceOption = Annotated[
    str | None, typer.Option("--trace", metavar="FILE", rich_help_panel=FILES_PANEL, help="Writes a timeline for ui.perfetto.dev."),
]  # fmt: skip
LayersOption = Annotated[bool, typer.Option("--layers", help="Prints all layers, not only the slowest.")]
