"""What commands print, and the progress they show."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


DONE, DISAGREES, FAILED, INTERRUPTED = 0, 1, 2, 130


MOST_SENTENCE_CHARACTERS = 2000


def one_line(text: str) -> str:
    """A message as one printable line: what comes from a file must not move the cursor of the terminal."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    joined = " ".join(line if line[-1] in ",:;" or i == len(lines) - 1 else f"{line};" for i, line in enumerate(lines))
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in joined)
    if len(shown) > MOST_SENTENCE_CHARACTERS:
        return f"{shown[: MOST_SENTENCE_CHARACTERS - 3]}..."
    return shown or "failed without a message"


def print_text(text: str) -> None:
    """Writes to stdout; goes on quietly if its reader has left (`pimloom ... | head`)."""
    try:
        sys.stdout.write(text if text.endswith("\n") else f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        _abandon_stdout()


def flush() -> None:
    """Writes out what stdout holds back; quietly if its reader has left."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _abandon_stdout()


def _abandon_stdout() -> None:
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def draw(*drawings: Callable[[Console], object]) -> None:
    """Prints what is drawn on a terminal's console: in its width and colours, plain where stdout is no terminal."""
    from rich.console import Console

    console = Console(highlight=False)
    with console.capture() as captured:
        for drawing in drawings:
            drawing(console)
    print_text(captured.get())


@contextlib.contextmanager
def stages(*names: str) -> Iterator[Callable[[str], None]]:
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


def new_table(*heads: str) -> Table:
    """A plain table with these heads; one that ends in ">" is aligned to the right."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for head in heads:
        is_last = head == heads[-1]
        justify = "right" if head.endswith(">") else "left"
        table.add_column(head.rstrip(">"), justify=justify, no_wrap=not is_last, overflow="fold" if is_last else "ellipsis")
    return table
