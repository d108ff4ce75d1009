"""Progress of a long command, as a bar on a terminal and a line every ten seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from evosearch.simplification import Simplification, Step


@contextmanager
def reporting(console: Console) -> Iterator[Callable[[str, int, int | None], None]]:
    """Yield a function that shows progress.

    The function's arguments are a text, the number of finished trainings, and the number of all
    trainings (None if the number is not known).
    """
    if not console.is_terminal or console.is_dumb_terminal:
        yield _LinePrinter(console)
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    from primitives.text.printable import printable

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn())
    counts = (MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, *counts, console=console, transient=True) as progress:
        bar = progress.add_task("starting", total=None)

        def report(text: str, done: int, total: int | None) -> None:
            progress.update(bar, description=printable(text), completed=done, total=total)

        yield report


class _LinePrinter:
    """Prints a line of progress at most every ten seconds."""

    def __init__(self, console: Console):
        self.console = console
        self.next_time = 0.0

    def __call__(self, text: str, done: int, total: int | None) -> None:
        if time.monotonic() >= self.next_time:
            self.next_time = time.monotonic() + 10
            count = f" ({done} of {total} trainings)" if total else ""
            self.console.print(f"{text}{count}", markup=False, highlight=False)


class Printer:
    """Prints each step of a simplification when the step is taken, and the result."""

    def __init__(self, console: Console):
        self.console = console
        self._count = 0

    def step(self, step: Step) -> None:
        """Print the next step."""
        from evosearch.report.simplification import step_section
        from evosearch.report.terminal import show_section

        self._count += 1
        show_section(step_section(self._count, step), self.console)
        self.console.print()

    def result(self, simplification: Simplification) -> None:
        """Print the simplified program with its cost on fresh seeds and its ablations."""
        from evosearch.report.simplification import result_report
        from evosearch.report.terminal import show

        show(result_report(simplification), self.console)

    def line(self, text: str) -> None:
        """Print an empty line and a line of text."""
        self.console.print()
        self.console.print(text, highlight=False, soft_wrap=True)
