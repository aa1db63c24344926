"""The command line: a thin layer over `pimloom.api`, and the one place where errors become exit codes.

Exit codes: 0 done; 1 the numbers of a program disagree; 2 an error, told in one sentence on stderr; 130 interrupted.
A command's files are written beside their places and renamed together at its end, so that a command that fails leaves
none. Whatever is heavy (Numba, ONNX, NumPy) is imported by the command that needs it: `--help` answers at once.
"""

from __future__ import annotations

import contextlib
import difflib
import enum
import errno
import io
import json
import math
import os
import re
import shutil
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, final

import typer

from pimloom import __version__
from pimloom.errors import InternalError, ModelError, PimloomError, ProgramError, UsageError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from pimloom import api
    from pimloom.execute import Analog
    from pimloom.hardware import Hardware
    from pimloom.ir.graph import Graph
    from pimloom.program import Program
    from pimloom.result import Result, Verification

DONE, DISAGREES, FAILED, INTERRUPTED = 0, 1, 2, 130
MOST_SAMPLES = 4096
MOST_SENTENCE_CHARACTERS = 2000
MOST_INPUT_BYTES = 2**32
MOST_RESULT_BYTES = 2**28
MOST_ELEMENTS = 2**28
WORST_LAYERS = 5

app = typer.Typer(
    name="pimloom", add_completion=True, pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip
hardware_app = typer.Typer(name="hardware", help="Machines: those that come with pimloom, and your own YAML files.")
app.add_typer(hardware_app)


class _Mode(enum.StrEnum):
    """`pimloom.targets.Mode`, told without loading it."""

    LATENCY = "latency"
    THROUGHPUT = "throughput"


class _Reference(enum.StrEnum):
    AUTO = "auto"
    ONNXRUNTIME = "onnxruntime"
    GRAPH = "graph"
    NONE = "none"


# -- options that several commands share -------------------------------------------------------------------------

_MAPPING, _NETWORK, _MACHINE, _ANALOG, _FILES = "Compiling", "Network", "Machine", "Analog execution", "Files"

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="A network of the zoo (pimloom models) or an ONNX file.")]
ProgramArgument = Annotated[str, typer.Argument(metavar="PROGRAM", help="A program file from `pimloom compile`.")]
HardwareOption = Annotated[
    str, typer.Option("--hardware", "-H", metavar="NAME|FILE", rich_help_panel=_MACHINE,
                      help="A preset (pimloom hardware list) or a YAML file."),
]  # fmt: skip
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", rich_help_panel=_MACHINE,
                                   help="Changes one value of the machine, e.g. core.crossbars=64; repeatable."),
]  # fmt: skip
ChipsOption = Annotated[int | None, typer.Option("--chips", min=1, rich_help_panel=_MACHINE, help="Number of chips.")]
ModeOption = Annotated[
    _Mode, typer.Option("--mode", rich_help_panel=_MAPPING, help="One sample as early as possible, or samples per second."),
]  # fmt: skip
BatchOption = Annotated[
    int | None, typer.Option("--batch", min=1, max=MOST_SAMPLES, rich_help_panel=_MAPPING,
                             help="Samples per run; 1 in latency mode and 8 in throughput mode if not given."),
]  # fmt: skip
EffortOption = Annotated[
    int, typer.Option("--effort", min=0, max=3, rich_help_panel=_MAPPING, help="How long to search for a better mapping."),
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
    list[str] | None, typer.Option("--shape", metavar="NAME=SIZES", rich_help_panel=_NETWORK,
                                   help="Shape of an input, e.g. x=1,3,224,224, or size of a symbol, e.g. n=4; repeatable."),
]  # fmt: skip
InputOption = Annotated[
    str | None, typer.Option("--input", metavar="FILE.npz", rich_help_panel=_NETWORK,
                             help="Real inputs by name; with one dimension more, several samples. Random ones if not given."),
]  # fmt: skip
ReferenceOption = Annotated[
    _Reference, typer.Option("--reference", rich_help_panel=_NETWORK, help="What computes the numbers to compare with."),
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
    str | None, typer.Option("--json", metavar="FILE", rich_help_panel=_FILES,
                             help="Writes the result as JSON (docs/json.md); - for stdout, and then nothing else goes there."),
]  # fmt: skip
ReportOption = Annotated[
    str | None, typer.Option("--report", metavar="FILE.html", rich_help_panel=_FILES, help="Writes a page that explains the run."),
]  # fmt: skip
TraceOption = Annotated[
    str | None, typer.Option("--trace", metavar="FILE", rich_help_panel=_FILES, help="Writes a timeline for ui.perfetto.dev."),
]  # fmt: skip
LayersOption = Annotated[bool, typer.Option("--layers", help="Prints all layers, not only the slowest.")]


# -- from the process to a command and back ----------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: after the program's name; those of the process if not given.

    Returns:
        The exit code.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    is_debugging = "--debug" in given
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of a network need not suit the terminal's alphabet
    with warnings.catch_warnings():
        if not is_debugging:
            warnings.simplefilter("ignore")  # a NaN in a network is told once, in its verification, not by NumPy
        try:
            code = app([a for a in given if a != "--debug"], prog_name="pimloom", standalone_mode=False)
            _flush()
            if code == INTERRUPTED:  # the command line library has caught it
                raise KeyboardInterrupt
        except SystemExit as leaving:  # it leaves so when the reader of its help has left
            if not isinstance(leaving.__context__, BrokenPipeError):
                raise
            return DONE
        except (Exception, KeyboardInterrupt) as fault:
            if is_debugging:
                traceback.print_exc()
            code, sentence = _verdict(fault)
            _complain(sentence)
    return code if isinstance(code, int) else DONE


def _verdict(fault: BaseException) -> tuple[int, str]:
    """The exit code and the sentence for a command that did not end by itself."""
    if isinstance(fault, typer.Abort) and isinstance(fault.__cause__, EOFError):
        fault = fault.__cause__
    if isinstance(fault, KeyboardInterrupt | typer.Abort):
        return INTERRUPTED, "interrupted; nothing was written"
    if isinstance(fault, PimloomError):
        return FAILED, _one_line(str(fault))
    if hasattr(fault, "format_message"):  # a usage error of the command line library, whichever module defines it
        return FAILED, _one_line(_usage_sentence(fault))
    if isinstance(fault, MemoryError):
        return FAILED, "memory is exhausted; use a smaller network, --batch 1, or a machine with more memory"
    if isinstance(fault, RecursionError):
        return FAILED, "the input is nested too deeply to be read; simplify it"
    if isinstance(fault, OSError):
        where = f"'{fault.filename}'" if fault.filename else "a file"
        reason = fault.strerror or type(fault).__name__
        return FAILED, _one_line(f"{where} cannot be read or written ({reason}); check the path, its permissions and the space left")
    if isinstance(fault, InternalError):
        return FAILED, _one_line(f"internal error: {fault}")
    return FAILED, _one_line(
        f"internal error: {type(fault).__name__}: {fault}; please report it with the model and the command, --debug shows where"
    )


def _usage_sentence(fault: Any) -> str:
    context = getattr(fault, "ctx", None)
    path = context.command_path if context is not None else "pimloom"
    return f"{fault.format_message().strip().rstrip('.')}; `{path} --help` lists what can be given"


def _one_line(text: str) -> str:
    """A message as one printable line: what comes from a file must not move the cursor of the terminal."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    joined = " ".join(line if line[-1] in ",:;" or i == len(lines) - 1 else f"{line};" for i, line in enumerate(lines))
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in joined)
    if len(shown) > MOST_SENTENCE_CHARACTERS:
        return f"{shown[: MOST_SENTENCE_CHARACTERS - 3]}..."
    return shown or "failed without a message"


def _complain(sentence: str) -> None:
    with contextlib.suppress(OSError, AttributeError, ValueError):  # stderr may be closed; the exit code is left
        sys.stderr.write(f"pimloom: {sentence}\n")
        sys.stderr.flush()


def _print(text: str) -> None:
    """Writes to stdout; goes on quietly if its reader has left (`pimloom ... | head`)."""
    try:
        sys.stdout.write(text if text.endswith("\n") else f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        _abandon_stdout()


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _abandon_stdout()


def _abandon_stdout() -> None:
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _draw(*drawings: Callable[[Console], object]) -> None:
    """Prints what is drawn on a terminal's console: in its width and colours, plain where stdout is no terminal."""
    from rich.console import Console

    console = Console(highlight=False)
    with console.capture() as captured:
        for drawing in drawings:
            drawing(console)
    _print(captured.get())


@contextlib.contextmanager
def _stages(*names: str) -> Iterator[Callable[[str], None]]:
    """A progress bar on stderr over the steps of a command; nothing where stderr is no terminal.

    Args:
        *names: of the steps in order; the function that is yielded is told when one begins.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description:<12}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(names[0], total=len(names))

        def begin(name: str) -> None:
            # what a target tells of its search is part of its mapping
            step = name if name in names else "mapping"
            progress.update(task, description=name, completed=names.index(step) if step in names else None)

        yield begin


# -- files -------------------------------------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class _Claim:
    """A file to be written.

    Attributes:
        place: where it goes, without symbolic links.
        given: the path as it was given.
        folder: a new folder in which it grows; on the same file system, so that it can be renamed.
    """

    place: Path
    given: str
    folder: Path

    @property
    def part(self) -> Path:
        """Where it is written until it is whole."""
        return self.folder / self.place.name

    def finish(self) -> None:
        """Puts it, and whatever was written beside it, into place."""
        if self.place.exists() and not self.place.is_file():  # a device or a pipe: a rename would take its place
            with self.part.open("rb") as part, self.place.open("wb") as device:
                shutil.copyfileobj(part, device)
            return
        beside = sorted(p for p in self.folder.iterdir() if p != self.part)
        for part in (*beside, self.part):
            part.replace(self.place.parent / part.name)


@final
@dataclass(slots=True)
class _Outputs:
    """The files that a command writes: claimed before the work begins, put into place when all of them are whole.

    Attributes:
        sources: files that the command reads, by what they are; they are not written over.
        claims: by option.
    """

    sources: Mapping[str, str] = field(default_factory=dict[str, str])
    claims: dict[str, _Claim] = field(default_factory=dict[str, _Claim])

    def __enter__(self) -> _Outputs:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                for claim in self.claims.values():
                    claim.finish()
        finally:
            for claim in self.claims.values():
                shutil.rmtree(claim.folder, ignore_errors=True)

    def claim(self, option: str, path: str | None) -> None:
        """Makes sure that a file can be written; does nothing for a path that is not given.

        Raises:
            UsageError: the folder is missing or cannot be written, or the path is a folder or in use.
        """
        if path is None:
            return
        try:
            place = Path(path).resolve()
            self._check(option, path, place)
            is_special = place.exists() and not place.is_file()
            parent = tempfile.gettempdir() if is_special else place.parent
            folder = Path(tempfile.mkdtemp(prefix=f".{place.name[:40]}.", suffix=".part", dir=parent))
        except (OSError, ValueError, RuntimeError) as fault:
            reason = getattr(fault, "strerror", None) or str(fault)
            raise UsageError(f"{option}: '{path}' cannot be written ({reason}); choose another path") from None
        self.claims[option] = _Claim(place, path, folder)

    def _check(self, option: str, path: str, place: Path) -> None:
        if not path or place.is_dir():
            raise UsageError(f"{option}: '{path}' is a folder, the name of a file is expected; add a name to it")
        if not place.parent.is_dir():
            raise UsageError(f"{option}: '{path}' cannot be written: there is no folder '{place.parent}'; create it")
        if place.exists() and not os.access(place, os.W_OK):
            raise UsageError(f"{option}: '{path}' is write-protected; choose another path")
        if len(os.fsencode(place.name)) > 255:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        for what, source in self.sources.items():
            if place == Path(source).resolve():
                raise UsageError(f"{option}: '{path}' is the {what} itself and would be lost; choose another path")
        for other, claim in self.claims.items():
            if claim.place == place:
                raise UsageError(f"{option}: '{path}' is given to {other} too; choose two paths")

    def write(self, option: str, writer: Callable[[Path], object]) -> None:
        """Lets a function write the file of an option, if that option was given."""
        if option in self.claims:
            writer(self.claims[option].part)

    def names(self) -> str:
        """Lines that tell what was written."""
        return "".join(f"{option.lstrip('-')}: {claim.given}\n" for option, claim in self.claims.items())


def _write_arrays(arrays: Mapping[str, Any]) -> Callable[[Path], None]:
    import numpy as np

    def write(path: Path) -> None:
        with path.open("wb") as file:  # by handle: with a name, NumPy would append .npz
            np.savez_compressed(file, allow_pickle=False, **{_member(name): array for name, array in arrays.items()})

    return write


def _member(name: str) -> str:
    """A value's name as the name of an archive's member."""
    return f"{name}_" if name in ("file", "allow_pickle") else name  # arguments of NumPy's own have these names


def _read_inputs(path: str, graph: Graph) -> list[dict[str, Any]]:
    """Real inputs from a file, one mapping per sample; every array has its input's shape, or one dimension before it.

    Raises:
        UsageError: the file is unreadable, or an array is missing, misshapen or not finite.
    """
    import tokenize
    import zipfile
    import zlib

    where = f"--input: file '{path}'"
    try:
        with zipfile.ZipFile(path) as archive:
            held = {name.removesuffix(".npy"): name for name in archive.namelist()}
            unknown = [name for name in held if name not in graph.inputs]
            missing = [name for name in graph.inputs if name not in held]
            if unknown or missing:
                found, wanted = ", ".join(held) or "nothing", ", ".join(graph.inputs) or "none"
                raise UsageError(f"{where}: arrays {found} found, arrays for the inputs {wanted} expected; name them so")
            arrays = {name: _read_input(archive, held[name], graph, name, where) for name in graph.inputs}
    except (OSError, EOFError, ValueError, RuntimeError, SyntaxError, tokenize.TokenError, zipfile.BadZipFile, zlib.error) as fault:
        reason = getattr(fault, "strerror", None) or _one_line(str(fault))
        raise UsageError(f"{where}: it cannot be read ({reason}); write it with numpy.savez") from None
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{count} for '{name}'" for name, count in counts.items())
        raise UsageError(f"{where}: different numbers of samples found: {found}; give as many for each input")
    n_samples = next(iter(counts.values()), 1)
    return [{name: array[i] for name, array in arrays.items()} for i in range(n_samples)]


def _read_input(archive: Any, member: str, graph: Graph, name: str, where: str) -> Any:
    """One array as [samples, *shape]; its header is checked before its numbers are read."""
    import numpy as np
    from numpy.lib import format as npy

    expected = graph.types[name]
    with archive.open(member) as file:
        version = npy.read_magic(file)
        header = npy.read_array_header_1_0(file) if version == (1, 0) else npy.read_array_header_2_0(file)
    shape, dtype = header[0], header[2]
    is_single = shape == expected.shape
    if not (is_single or (shape[1:] == expected.shape and shape[0] > 0)):
        raise UsageError(f"{where}: '{name}' has shape {list(shape)}, {list(expected.shape)} is expected; reshape it")
    if dtype.kind not in "biuf" or math.prod(shape) * dtype.itemsize > MOST_INPUT_BYTES:
        most = f"at most {MOST_INPUT_BYTES >> 30} GiB of numbers are expected"
        raise UsageError(f"{where}: '{name}' holds {math.prod(shape)} elements of {dtype}, {most}; convert it")
    with archive.open(member) as file:
        array = npy.read_array(file, allow_pickle=False)
    if not np.isfinite(array).all():
        raise UsageError(f"{where}: '{name}' holds NaN or infinity, finite numbers are expected; replace them")
    # an array in the type of the codes would be taken for codes: whatever a person gives is real
    array = array.astype(np.float32 if expected.quant is not None else expected.dtype)
    return array[None] if is_single else array


def _shapes(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Shapes by name from `--shape` options."""
    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, _, sizes = text.rpartition("=")
        if not name or not re.fullmatch(r"[0-9]{1,10}( ?[,x] ?[0-9]{1,10})*", sizes):
            raise UsageError(f"--shape: '{text}' found, name=sizes expected; write e.g. --shape x=1,3,224,224")
        if name in shapes:
            raise UsageError(f"--shape: '{name}' is given twice; give it once")
        shapes[name] = tuple(int(size) for size in re.split(r"[,x]", sizes))
    return shapes


def _is_file(path: str) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return Path(path).exists()
    return False


def _machine(source: str, changes: Sequence[str], chips: int | None) -> Hardware:
    from pimloom import api

    return api.hardware(source, [*changes, *([f"chips={chips}"] if chips is not None else [])])


# -- run, compile, simulate, execute, verify -----------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class _Order:
    """What `run` and `compile` are asked to compile; the names are those of the options."""

    model: str
    hardware: str
    changes: Sequence[str]
    chips: int | None
    mode: str
    batch: int | None
    effort: int
    seed: int
    weight_bits: int | None
    activation_bits: int | None
    shapes: Sequence[str]
    input: str | None

    def sources(self) -> dict[str, str]:
        """Files that are read."""
        named = {"model": self.model, "hardware file": self.hardware, "input file": self.input}
        return {what: path for what, path in named.items() if path is not None and _is_file(path)}

    def check(self) -> None:
        """Refuses at once what does not need the network to be refused."""
        _shapes(self.shapes)
        for option, bits in (("--weight-bits", self.weight_bits), ("--activation-bits", self.activation_bits)):
            if bits not in (None, 8, 16):
                raise UsageError(f"{option}: {bits} found, 8 or 16 expected")

    def compile(self, begin: Callable[[str], None]) -> api.Compiled:
        """Compiles; `begin` is told the steps."""
        from pimloom import api

        self.check()
        machine = _machine(self.hardware, self.changes, self.chips)
        shapes = _shapes(self.shapes)
        begin("loading")
        network = api.load(self.model, shapes, self.seed)
        _check_sizes(network)
        samples = _read_inputs(self.input, network) if self.input is not None else ()
        return api.compile(
            network, machine, mode=self.mode, batch=self.batch or 0, effort=self.effort, seed=self.seed,
            weight_bits=self.weight_bits or 0, activation_bits=self.activation_bits or 0, calibration=samples,
            progress=begin,
        )  # fmt: skip


def _conditions(
    adc_bits: int | None, adc_range: float | None, cell_noise: float | None, read_noise: float | None, seed: int, *, is_analog: bool,
) -> Analog | None:  # fmt: skip
    """The conditions of an analog execution, None where none is asked for; refuses options that would have no effect."""
    given = {"--adc-bits": adc_bits, "--adc-range": adc_range, "--cell-noise": cell_noise, "--read-noise": read_noise}
    if not is_analog:
        idle = next((option for option, value in given.items() if value is not None), None)
        if idle is not None:
            raise UsageError(f"{idle}: given without --analog, without which it has no effect; add --analog")
        return None
    from pimloom.execute import Analog

    return Analog(adc_bits or 0, 1.0 if adc_range is None else adc_range, cell_noise or 0.0, read_noise or 0.0, seed)


def _check_sizes(graph: Graph) -> None:
    """Refuses what would exhaust the memory of this computer when the scales are chosen."""
    for name, kind in graph.types.items():
        if kind.size > MOST_ELEMENTS and name not in graph.constants:
            found = f"{kind.size:,} elements found in a value of shape {list(kind.shape)}"
            raise ModelError(f"value '{name}': {found}, at most {MOST_ELEMENTS:,} expected; use smaller inputs")


_COMPILING = ("loading", "quantising", "mapping")


@app.callback(invoke_without_command=True)
def _global_options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Prints the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Shows where an error comes from; works in any position.")] = False,
) -> None:
    """Compiles neural networks to processing-in-memory hardware, simulates the programs and proves their numbers."""
    del debug  # taken off by `main`
    if version:
        _print(f"pimloom {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        _print(context.get_help())


@app.command("run")
def run_command(
    model: ModelArgument, hardware: HardwareOption = "isaac", changes: SetOption = None, chips: ChipsOption = None,
    mode: ModeOption = _Mode.LATENCY, batch: BatchOption = None, effort: EffortOption = 1, seed: SeedOption = 0,
    weight_bits: WeightBitsOption = None, activation_bits: ActivationBitsOption = None, shape: ShapeOption = None,
    input_file: InputOption = None, reference: ReferenceOption = _Reference.AUTO,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Neither executes the program nor compares numbers.")] = False,
    analog: AnalogOption = False,
    adc_bits: AdcBitsOption = None, adc_range: AdcRangeOption = None, cell_noise: CellNoiseOption = None,
    read_noise: ReadNoiseOption = None,
    json_file: JsonOption = None, report: ReportOption = None, trace: TraceOption = None,
    save: Annotated[str | None, typer.Option("--save", metavar="FILE.npz", rich_help_panel=_FILES, help="Writes the program.")] = None,
    layers: LayersOption = False,
) -> int:  # fmt: skip
    """Compiles a network, simulates the program, executes it, and compares its numbers with a reference."""
    order = _Order(model, hardware, changes or (), chips, mode.value, batch, effort, seed, weight_bits, activation_bits,
                   shape or (), input_file)  # fmt: skip
    order.check()
    conditions = _conditions(adc_bits, adc_range, cell_noise, read_noise, seed, is_analog=analog)
    if no_verify and conditions is not None:
        raise UsageError("--no-verify: given with --analog, which executes the program; give one of them")
    with _Outputs(order.sources()) as outputs:
        _claim_results(outputs, json_file, report, trace)
        outputs.claim("--save", save)
        with _stages(*_COMPILING, "simulating", "executing", "writing") as begin:
            compiled = order.compile(begin)
            begin("simulating")
            result = compiled.simulate(trace=report is not None or trace is not None)
            if not no_verify:
                begin("executing")
                result = _verified(compiled, result, reference.value, conditions)
            begin("writing")
            _write_results(outputs, result)
            outputs.write("--save", compiled.save)
    return _show_outcome(result, json_file, layers=layers, written=outputs.names())


@app.command("compile")
def compile_command(
    model: ModelArgument,
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE.npz", rich_help_panel=_FILES, help="Where the program goes.")],
    hardware: HardwareOption = "isaac", changes: SetOption = None, chips: ChipsOption = None,
    mode: ModeOption = _Mode.LATENCY, batch: BatchOption = None, effort: EffortOption = 1, seed: SeedOption = 0,
    weight_bits: WeightBitsOption = None, activation_bits: ActivationBitsOption = None, shape: ShapeOption = None,
    input_file: InputOption = None,
) -> None:  # fmt: skip
    """Compiles a network into a program file."""
    order = _Order(model, hardware, changes or (), chips, mode.value, batch, effort, seed, weight_bits, activation_bits,
                   shape or (), input_file)  # fmt: skip
    order.check()
    with _Outputs(order.sources()) as outputs:
        outputs.claim("--output", output)
        with _stages(*_COMPILING, "writing") as begin:
            compiled = order.compile(begin)
            begin("writing")
            outputs.write("--output", compiled.save)
    _print(f"{_program_facts(compiled.program)}\noutput: {output} ({_size(output)}, compiled in {compiled.compile_s:.2f} s)")


@app.command("simulate")
def simulate_command(
    program: ProgramArgument, json_file: JsonOption = None, report: ReportOption = None, trace: TraceOption = None,
    layers: LayersOption = False,
) -> int:  # fmt: skip
    """Simulates a program file: time and energy."""
    from pimloom import api

    with _Outputs({"program": program}) as outputs:
        _claim_results(outputs, json_file, report, trace)
        with _stages("loading", "simulating", "writing") as begin:
            compiled = api.load_compiled(program)
            begin("simulating")
            result = compiled.simulate(trace=report is not None or trace is not None)
            begin("writing")
            _write_results(outputs, result)
    return _show_outcome(result, json_file, layers=layers, written=outputs.names())


@app.command("execute")
def execute_command(
    program: ProgramArgument, input_file: InputOption = None, seed: SeedOption = 0, analog: AnalogOption = False,
    adc_bits: AdcBitsOption = None, adc_range: AdcRangeOption = None, cell_noise: CellNoiseOption = None,
    read_noise: ReadNoiseOption = None,
    output: Annotated[str | None, typer.Option("--output", "-o", metavar="FILE.npz", rich_help_panel=_FILES,
                                               help="Writes the outputs by name.")] = None,
) -> None:  # fmt: skip
    """Executes a program file: its outputs for given inputs, or for random ones."""
    import numpy as np

    from pimloom import api

    conditions = _conditions(adc_bits, adc_range, cell_noise, read_noise, seed, is_analog=analog)
    with _Outputs({"program": program, **({"input file": input_file} if input_file else {})}) as outputs:
        outputs.claim("--output", output)
        with _stages("loading", "executing", "writing") as begin:
            compiled = api.load_compiled(program)
            samples = _samples(compiled.program.graph, input_file, seed)
            begin("executing")
            run = compiled.execute_analog(conditions, samples) if conditions is not None else None
            results = list(run.outputs) if run is not None else [compiled.execute(sample) for sample in samples]
            stacked = {v: np.stack([r[v] for r in results]) if len(results) > 1 else results[0][v] for v in results[0]}
            begin("writing")
            outputs.write("--output", _write_arrays(stacked))
    lines = [_array_facts(name, array) for name, array in stacked.items()] + ([_analog_facts(run.to_dict())] if run is not None else [])
    _print("\n".join([f"outputs for {len(samples)} sample{'s' * (len(samples) > 1)}", *lines]) + f"\n{outputs.names()}")


@app.command("verify")
def verify_command(
    program: ProgramArgument, input_file: InputOption = None, seed: SeedOption = 0,
    model: Annotated[str | None, typer.Option("--model", metavar="MODEL", rich_help_panel=_NETWORK,
                                              help="The network it was compiled from, to compare with its float numbers.")] = None,
    shape: ShapeOption = None, reference: ReferenceOption = _Reference.AUTO, analog: AnalogOption = False,
    adc_bits: AdcBitsOption = None, adc_range: AdcRangeOption = None, cell_noise: CellNoiseOption = None,
    read_noise: ReadNoiseOption = None,
) -> int:  # fmt: skip
    """Checks a program file: that it is well formed, and that its numbers are those of its network."""
    from pimloom import api

    shapes = _shapes(shape or ())
    conditions = _conditions(adc_bits, adc_range, cell_noise, read_noise, seed, is_analog=analog)
    with _stages("loading", "executing") as begin:
        compiled = api.load_compiled(program)
        graph = compiled.program.graph
        if model is not None:
            compiled = replace(compiled, source=_source(api.load(model, shapes, seed), graph))
        samples = _samples(compiled.source or graph, input_file, seed)
        begin("executing")
        found = [compiled.verify(sample, reference=reference.value) for sample in samples]
        facts = [_verification_facts(verification) for verification in found]
        if conditions is not None:
            facts.append(_analog_facts(compiled.execute_analog(conditions, samples).to_dict()))
    _print("\n".join([_program_facts(compiled.program), "well formed: yes", *facts]))
    return DONE if all(v.ok for v in found) else DISAGREES


def _claim_results(outputs: _Outputs, json_file: str | None, report: str | None, trace: str | None) -> None:
    outputs.claim("--json", json_file if json_file != "-" else None)
    outputs.claim("--report", report)
    outputs.claim("--trace", trace)


def _write_results(outputs: _Outputs, result: Result) -> None:
    if not outputs.claims:
        return
    from pimloom.report import write_json, write_page, write_trace

    outputs.write("--json", lambda path: write_json(result, path))
    outputs.write("--report", lambda path: write_page(result, path))
    outputs.write("--trace", lambda path: write_trace(result, path))


def _verified(compiled: api.Compiled, result: Result, reference: str, conditions: Analog | None) -> Result:
    import time

    begun = time.perf_counter()
    verification, notes = compiled.verify(reference=reference), dict(result.notes)
    if conditions is not None:
        notes["analog"] = compiled.execute_analog(conditions).to_dict()
    return replace(result, verification=verification, notes=notes, execute_s=time.perf_counter() - begun)


def _show_outcome(result: Result, json_file: str | None, *, layers: bool, written: str) -> int:
    from pimloom.report import layers_table, summary_table

    if json_file == "-":
        from pimloom.report.files import plain

        _print(json.dumps(plain(result.to_dict()), indent=2, allow_nan=False))
    else:
        drawings = [summary_table, *([layers_table] if layers else [])]
        _draw(*(lambda console, d=drawing: d(result, console) for drawing in drawings))
        if "analog" in result.notes:
            _print(f"\n{_analog_facts(result.notes['analog'])}")
        if written:
            _print(f"\n{written}")
    verification = result.verification
    return DONE if verification is None or verification.ok else DISAGREES


def _samples(graph: Graph, path: str | None, seed: int) -> list[dict[str, Any]]:
    from pimloom.frontends.zoo import input_example

    return _read_inputs(path, graph) if path is not None else [input_example(graph, seed)]


def _source(source: Graph, quantised: Graph) -> Graph:
    """The float network of a program, if it can be that."""
    for what, own, other in (("inputs", source.inputs, quantised.inputs), ("outputs", source.outputs, quantised.outputs)):
        shapes = [(v, source.types[v].shape) for v in own]
        wanted = [(v, quantised.types[v].shape) for v in other]
        if shapes != wanted:
            raise UsageError(f"--model: {what} {shapes} found, the program has {wanted}; give the network it was compiled from")
    return source


def _program_facts(program: Program) -> str:
    used = sum(1 for start, stop in zip(program.stream_ptr[:-1], program.stream_ptr[1:], strict=True) if stop > start)
    arrays = int(program.groups.crossbars.sum())
    return (
        f"program: {program.name} on {program.hardware.name}, {program.mode}, {program.samples} "
        f"sample{'s' * (program.samples != 1)}; {program.n_rows:,} rows on {used} of {program.n_processors} cores, {arrays:,} crossbars"
    )


def _verification_facts(found: Verification) -> str:
    bits = "equal to the quantised network, bit by bit" if found.is_bit_exact else "DIFFERENT from the quantised network"
    lines = [f"numbers: {bits}"]
    for name, figures in found.details.items():
        lines.append(
            f"  {name}: against {found.reference}: largest difference {figures['max_abs_error']:.4g} of {figures['largest']:.4g}, "
            f"root mean square {figures['rms_error']:.4g}, bound {figures['rms_bound']:.4g}"
        )
    return "\n".join([*lines, f"verified: {'yes' if found.ok else 'NO'}"])


def _analog_facts(run: Mapping[str, Any]) -> str:
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


def _array_facts(name: str, array: Any) -> str:
    shape = ", ".join(map(str, array.shape))
    if not array.size:
        return f"  {name} [{shape}]: empty"
    first = " ".join(f"{v:.4g}" for v in array.ravel()[:6].tolist()) + (" ..." if array.size > 6 else "")
    return f"  {name} [{shape}]: from {array.min():.4g} to {array.max():.4g}, mean {array.mean():.4g}; {first}"


def _size(path: str) -> str:
    from pimloom.units import format_bytes

    return format_bytes(Path(path).stat().st_size)


# -- show ----------------------------------------------------------------------------------------------------------


@app.command("show")
def show_command(
    thing: Annotated[str, typer.Argument(metavar="THING", help=(
        "ops, isa, a network (zoo or .onnx), a machine (preset or .yaml), a program (.npz) or a result (.json)."))],
    quantised: Annotated[bool, typer.Option("--quantised", help="Of a network: as it is given to a target.")] = False,
    hardware: HardwareOption = "isaac", shape: ShapeOption = None, seed: SeedOption = 0,
    core: Annotated[int | None, typer.Option("--core", min=0, help="Of a program: only this core.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Of a program: at most so many rows per core.")] = None,
    layers: LayersOption = False,
) -> None:  # fmt: skip
    """Prints one of the four values as text: a network, a machine, a program or a result; or the tables of ops."""
    if thing == "ops":
        _print(_ops_text())
        return
    if thing == "isa":
        from pimloom.program.text import print_instruction_set

        _print(print_instruction_set())
        return
    suffix = Path(thing).suffix.lower()
    if suffix in (".yaml", ".yml"):
        _print(_hardware_text(thing))
    elif suffix == ".npz":
        _print(_program_text(thing, core, limit))
    elif suffix == ".json":
        _show_result(_read_result(thing), layers=layers)
    elif suffix == ".onnx" or _is_network(thing):
        _print(_network_text(thing, hardware, _shapes(shape or ()), seed, quantised=quantised))
    else:
        _show_machine_or_fail(thing)


def _is_network(name: str) -> bool:
    from pimloom.frontends.zoo import ZOO

    return name in ZOO


def _show_machine_or_fail(name: str) -> None:
    from pimloom.hardware import preset_names

    if name not in preset_names():
        _fail_to_show(name)
    _print(_hardware_text(name))


def _fail_to_show(name: str) -> NoReturn:
    from pimloom.frontends.zoo import ZOO
    from pimloom.hardware import preset_names

    near = difflib.get_close_matches(name, [*ZOO, *preset_names(), "ops", "isa"], n=2, cutoff=0.6)
    hint = f"did you mean {' or '.join(near)}?" if near else "`pimloom models` and `pimloom hardware list` tell the names"
    expected = "a network, a preset, ops, isa or a file named .onnx, .yaml, .npz or .json"
    raise UsageError(f"show: '{name}' found, {expected} expected; {hint}")


def _ops_text() -> str:
    from pimloom.ir.ops import REQUIRED, find_op, op_names

    lines = [f"{'op':<26} {'on codes':<9} {'inputs':<7} attributes (= default, ! required)"]
    for name in op_names():
        op = find_op(name, "show")
        most = "any" if op.max_inputs < 0 else str(op.max_inputs)
        inputs = most if most == str(op.min_inputs) else f"{op.min_inputs}..{most}"
        attributes = ", ".join(f"{k}!" if v is REQUIRED else f"{k}={v}" for k, v in op.attributes.items())
        lines.append(f"{name:<26} {op.rule.value:<9} {inputs:<7} {attributes}".rstrip())
    return "\n".join(lines)


def _network_text(source: str, hardware: str, shapes: Mapping[str, tuple[int, ...]], seed: int, *, quantised: bool) -> str:
    from pimloom import api
    from pimloom.frontends.zoo import input_example
    from pimloom.ir.text import print_graph

    graph = api.load(source, shapes, seed)
    if quantised:
        from pimloom.passes import default_pipeline

        bits = _machine(hardware, (), None).precision
        graph = default_pipeline(bits.weight_bits, bits.activation_bits, (input_example(graph, seed),), seed)(graph)
    return print_graph(graph)


def _hardware_text(source: str, changes: Sequence[str] = ()) -> str:
    from pimloom.hardware import describe, to_yaml

    machine = _machine(source, changes, None)
    return f"{describe(machine)}\n\n{to_yaml(machine)}"


def _program_text(path: str, core: int | None, limit: int | None) -> str:
    from pimloom.program.save import load_program
    from pimloom.program.text import print_program

    program = load_program(path)
    if core is not None and core >= program.n_processors:
        raise UsageError(f"--core: {core} found, 0 to {program.n_processors - 1} expected")
    return print_program(program, (core,) if core is not None else None, limit)


def _show_result(result: Result, *, layers: bool) -> None:
    _show_outcome(result, None, layers=layers, written="")


# -- a result from its JSON form (docs/json.md) --------------------------------------------------------------------

_NUMBER, _COUNT, _TEXT, _NUMBERS = "a number", "a count", "a text", "a mapping of names to numbers"

# Key -> kind; a "?" marks what may be null. Compared with docs/json.md and with what runs yield in tests/test_cli.py.
RESULT_KEYS: Mapping[str, str] = {
    "schema_version": _COUNT, "model": _TEXT, "hardware": _TEXT, "target": _TEXT, "mode": _TEXT, "samples": _COUNT,
    "nodes": _COUNT, "rows": _COUNT, "instructions": _COUNT, "compile_s": _NUMBER, "simulate_s": _NUMBER,
    "execute_s": _NUMBER, "clock_ghz": _NUMBER, "cycles": _COUNT, "latency_cycles": _COUNT, "latency_ns": _NUMBER,
    "period_cycles": _NUMBER, "throughput_per_s": _NUMBER, "energy_pj": _NUMBERS, "utilisation": _NUMBERS,
    "busiest": _NUMBERS, "waits_cycles": _NUMBERS, "bounds": "a mapping", "layers": "a list", "verify": "a mapping?",
    "notes": "a mapping",
}  # fmt: skip
LAYER_KEYS: Mapping[str, str] = {
    "name": _TEXT, "op": _TEXT, "kind": _TEXT, "start_cycles": _COUNT, "end_cycles": _COUNT, "busy_cycles": _NUMBERS,
    "energy_pj": _NUMBER, "macs": _COUNT, "crossbars": _COUNT, "copies": _COUNT, "cores": _COUNT,
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


def _read_result(path: str) -> Result:
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
    holding = utilisation.pop("crossbars holding weights", 0.0)
    energy = {name: value for name, value in data["energy_pj"].items() if name != "total"}
    same = ("model", "hardware", "target", "mode", "samples", "rows", "instructions", "compile_s", "simulate_s", "execute_s",
            "clock_ghz", "cycles", "latency_cycles", "period_cycles", "busiest", "waits_cycles", "notes")  # fmt: skip
    if not data["clock_ghz"] > 0:
        raise UsageError(f"{where}: clock_ghz: {data['clock_ghz']} found, a positive number expected; give a file written by --json")
    if "analog" in data["notes"]:
        data = {**data, "notes": {**data["notes"], "analog": _analog(data["notes"]["analog"], f"{where}: notes.analog")}}
    return Result(
        **{key: data[key] for key in same}, nodes=tuple(NodeResult(**layer) for layer in layers), energy_pj=energy,
        utilisation=utilisation, utilisation_of_crossbars=holding, bounds=_bounds(data["bounds"], where),
        verification=_verification(data["verify"], where), busy_cycles={}, resources={}, core_busy={},
        core_crossbars=np.zeros(0, np.int32), core_nodes=(), link_load=np.zeros(0), chip_rows=0, chip_cols=0, chips=0,
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


# -- hardware, models, warmup --------------------------------------------------------------------------------------


@hardware_app.command("list")
def hardware_list_command() -> None:
    """Lists the machines that come with pimloom."""
    from pimloom.hardware import load_hardware, preset_names
    from pimloom.units import format_count

    def draw(console: Console) -> None:
        table = _table("name", "cores>", "crossbars>", "weights>", "clock>", "description")
        for name in preset_names():
            machine = load_hardware(name)
            weights = format_count(machine.weights_capacity(machine.precision.weight_bits))
            table.add_row(name, f"{machine.processors:,}", f"{machine.arrays:,}", weights, f"{machine.clock_ghz:g} GHz",
                          machine.description)  # fmt: skip
        console.print(table)

    _draw(draw)


@hardware_app.command("show")
def hardware_show_command(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE")], changes: SetOption = None,
    source: Annotated[bool, typer.Option("--source", help="Prints a preset as it was written, with the source of each number.")] = False,
) -> None:  # fmt: skip
    """Prints a machine: derived figures, and all its values as YAML."""
    from pimloom.hardware import preset_text

    _print(preset_text(name) if source else _hardware_text(name, changes or ()))


@hardware_app.command("check")
def hardware_check_command(
    file: Annotated[str, typer.Argument(metavar="FILE")], changes: SetOption = None,
) -> None:  # fmt: skip
    """Checks a machine's YAML file and tells the figures that follow from it."""
    from pimloom.hardware import describe

    machine = _machine(file, changes or (), None)
    _print(f"{file}: well formed\n{describe(machine)}")


@hardware_app.command("schema")
def hardware_schema_command() -> None:
    """Prints the JSON schema of hardware files, for editors."""
    from pimloom.hardware import json_schema

    _print(json.dumps(json_schema(), indent=2))


@app.command("models")
def models_command(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Of a network; all are listed if not given.")] = None,
    output: Annotated[str | None, typer.Option("--output", "-o", metavar="FILE.onnx", help="Writes the network as ONNX.")] = None,
    seed: SeedOption = 0,
) -> None:
    """Lists the networks of the zoo, tells about one, or writes it as an ONNX file."""
    if name is None:
        if output is not None:
            raise UsageError("--output: which network is to be written is not given; write e.g. pimloom models lenet -o lenet.onnx")
        _draw(_draw_models)
        return
    from pimloom.frontends.zoo import ZOO, build

    graph = build(name, seed)
    with _Outputs() as outputs:
        outputs.claim("--output", output)
        if output is not None:
            from pimloom.frontends import save_onnx

            with _stages("writing"):
                outputs.write("--output", lambda path: save_onnx(graph, path))
    _print(f"{_network_facts(graph, ZOO[name])}\n{outputs.names()}")


def _draw_models(console: Console) -> None:
    from pimloom.frontends.zoo import ZOO
    from pimloom.units import format_count

    table = _table("name", "family", "parameters>", "MACs>", "summary")
    for model in ZOO.values():
        parameters, macs = _work(model.build(0))
        table.add_row(model.name, model.family, format_count(parameters), format_count(macs), model.summary)
    console.print(table)


def _network_facts(graph: Graph, model: Any) -> str:
    from pimloom.units import format_count

    parameters, macs = _work(graph)
    lines = [f"{model.name}: {model.summary}"]
    lines += [f"  input       {v} {graph.types[v]}" for v in graph.inputs]
    lines += [f"  output      {v} {graph.types[v]}" for v in graph.outputs]
    lines += [f"  parameters  {format_count(parameters)}", f"  MACs        {format_count(macs)}", f"  nodes       {len(graph.nodes)}"]
    return "\n".join([*lines, f"  source      {model.source}"])


def _work(graph: Graph) -> tuple[int, int]:
    """Numbers held in float constants, and multiply-accumulates of one inference."""
    from pimloom.ir.ops import full_attributes, op_of

    parameters = sum(c.type.size for c in graph.constants.values() if c.type.dtype.startswith("float"))
    macs = sum(op_of(n).macs(full_attributes(n), graph.input_types(n), graph.output_types(n)) for n in graph.nodes)
    return parameters, macs


def _table(*heads: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for head in heads:
        is_last = head == heads[-1]
        justify = "right" if head.endswith(">") else "left"
        table.add_column(head.rstrip(">"), justify=justify, no_wrap=not is_last, overflow="fold" if is_last else "ellipsis")
    return table


@app.command("warmup")
def warmup_command() -> None:
    """Compiles the kernels, so that the next run starts at once."""
    import time

    from pimloom import api

    begun = time.perf_counter()
    with _stages(*_COMPILING, "simulating", "executing") as begin:
        compiled = api.compile("tiny_mlp", "toy", progress=begin)
        begin("simulating")
        compiled.simulate()
        begin("executing")
        verification = compiled.verify(reference="none")
    if not verification.ok:
        raise ProgramError("warmup: the numbers of the smallest program are wrong; reinstall pimloom")
    _print(f"ready in {time.perf_counter() - begun:.1f} s")


__all__ = [
    "ANALOG_KEYS", "ANALOG_LAYER_KEYS", "ANALOG_OUTPUT_KEYS", "BOUND_KEYS", "LAYER_KEYS", "RESULT_KEYS", "VERIFY_KEYS", "app", "main",
]  # fmt: skip

if __name__ == "__main__":
    sys.exit(main())
