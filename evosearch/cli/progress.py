"""How far a long command is: a bar on a terminal, a line now and then anywhere else."""

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
    """A bar on a terminal; anywhere else a line now and then."""
    if not console.is_terminal or console.is_dumb_terminal:
        yield _Lines(console)
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


class _Lines:
    """Prints what is being done, at most every ten seconds."""

    def __init__(self, console: Console):
        self.console = console
        self.next = 0.0

    def __call__(self, text: str, done: int, total: int | None) -> None:
        if time.monotonic() >= self.next:
            self.next = time.monotonic() + 10
            of = f" ({done} of {total} trainings)" if total else ""
            self.console.print(f"{text}{of}", markup=False, highlight=False)


class Printer:
    """Prints a derivation as it grows, and what it led to."""

    def __init__(self, console: Console):
        self.console = console
        self._count = 0

    def step(self, step: Step) -> None:
        """Prints the next step."""
        from evosearch.report.simplification import step_section
        from evosearch.report.terminal import show_section

        self._count += 1
        show_section(step_section(self._count, step), self.console)
        self.console.print()

    def result(self, found: Simplification) -> None:
        """Prints what the steps led to."""
        from evosearch.report.simplification import result_report
        from evosearch.report.terminal import show

        show(result_report(found), self.console)

    def line(self, text: str) -> None:
        """Prints a last line."""
        self.console.print()
        self.console.print(text, highlight=False, soft_wrap=True)
