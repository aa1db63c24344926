"""From the process to a command and back: the one place where errors become exit codes.

Exit codes: 0 done; 1 the numbers of a program disagree; 2 an error, told in one sentence on stderr; 130 interrupted.
"""

from __future__ import annotations

import contextlib
import io
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Annotated, Any

import typer

from pimloom import __version__
from pimloom.cli.console import DONE, FAILED, INTERRUPTED, flush, one_line, print_text
from pimloom.errors import InternalError, PimloomError

app = typer.Typer(
    name="pimloom", add_completion=True, pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip


@app.callback(invoke_without_command=True)
def _global_options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Prints the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Shows where an error comes from; works in any position.")] = False,
) -> None:
    """Compiles neural networks to processing-in-memory hardware, simulates the programs and proves their numbers."""
    del debug  # taken off by `main`
    if version:
        print_text(f"pimloom {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print_text(context.get_help())


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
    with warnings.catch_warnings(), _interrupted_when_told_to_end():
        if not is_debugging:
            warnings.simplefilter("ignore")  # a NaN in a network is told once, in its verification, not by NumPy
        try:
            code = app([a for a in given if a != "--debug"], prog_name="pimloom", standalone_mode=False)
            flush()
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


@contextlib.contextmanager
def _interrupted_when_told_to_end() -> Iterator[None]:
    """Makes SIGTERM (of `kill`, `timeout` and queues of jobs) an interruption, so that no file is left half-written.

    It takes effect when the compiled kernel at work returns, which may take seconds. Whoever calls `main` with a handler of their own,
    or not in the main thread, keeps what they have.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _interrupt(signal_number: int, frame: FrameType | None) -> None:
    del frame
    signal.signal(signal_number, signal.SIG_IGN)  # a second one would break into what the first has begun to tidy up
    raise KeyboardInterrupt


def _verdict(fault: BaseException) -> tuple[int, str]:
    """The exit code and the sentence for a command that did not end by itself."""
    if isinstance(fault, typer.Abort) and isinstance(fault.__cause__, EOFError):
        fault = fault.__cause__
    if isinstance(fault, KeyboardInterrupt | typer.Abort):
        return INTERRUPTED, "interrupted; nothing was written"
    if isinstance(fault, PimloomError):
        return FAILED, one_line(str(fault))
    if hasattr(fault, "format_message"):  # a usage error of the command line library, whichever module defines it
        return FAILED, one_line(_usage_sentence(fault))
    if isinstance(fault, MemoryError):
        return FAILED, "memory is exhausted; use a smaller network, --batch 1, or a machine with more memory"
    if isinstance(fault, RecursionError):
        return FAILED, "the input is nested too deeply to be read; simplify it"
    if isinstance(fault, OSError):
        where = f"'{fault.filename}'" if fault.filename else "a file"
        reason = fault.strerror or type(fault).__name__
        return FAILED, one_line(f"{where} cannot be read or written ({reason}); check the path, its permissions and the space left")
    if isinstance(fault, InternalError):
        return FAILED, one_line(f"internal error: {fault}")
    return FAILED, one_line(
        f"internal error: {type(fault).__name__}: {fault}; please report it with the model and the command, --debug shows where"
    )


def _usage_sentence(fault: Any) -> str:
    context = getattr(fault, "ctx", None)
    path = context.command_path if context is not None else "pimloom"
    return f"{fault.format_message().strip().rstrip('.')}; `{path} --help` lists what can be given"


def _complain(sentence: str) -> None:
    with contextlib.suppress(OSError, AttributeError, ValueError):  # stderr may be closed; the exit code is left
        sys.stderr.write(f"pimloom: {sentence}\n")
        sys.stderr.flush()
