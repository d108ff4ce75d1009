"""What a person sees of a run, from its search to its end: the observer of the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from evosearch.cli.app import warn
from evosearch.cli.live import LiveView
from evosearch.cli.progress import Printer, reporting
from evosearch.cli.terminal import Terminal
from evosearch.evaluation.funnel import Funnelled
from evosearch.pipeline.observers import Observer, Snapshot
from evosearch.simplification import Simplification
from evosearch.simplification.record import Step


class Screen(Observer):
    """Shows the search in a live view, and prints what follows it as it comes.

    Args:
        view: of the search.
        quiet: whether nothing is printed on standard output.

    Attributes:
        funnelled: what the funnel found, once it has ended.
    """

    def __init__(self, view: LiveView, *, quiet: bool):
        self.funnelled: Funnelled | None = None
        self._view = view
        self._quiet = quiet
        self._printer = Printer(Terminal(quiet=quiet))
        self._report: Callable[[str, int, int | None], None] | None = None

    @contextmanager
    def finishing(self) -> Iterator[None]:
        """While it is open, the live view has ended and progress is shown as a bar."""
        try:
            with reporting(Terminal(stderr=True)) as self._report:
                yield
        finally:
            self._report = None

    def phase(self, text: str) -> None:
        """Shows what the search has begun."""
        self._view.phase(text)

    def notice(self, text: str) -> None:
        """A line that stays."""
        if self._report is None:
            self._view.notice(text)
        else:
            warn(text)

    def update(self, snapshot: Snapshot) -> None:
        """Shows how the search stands."""
        self._view.update(snapshot)

    def progress(self, text: str, done: int, total: int | None) -> None:
        """Moves the bar."""
        if self._report is not None:
            self._report(text, done, total)

    def funnel(self, found: Funnelled) -> None:
        """Prints what came through."""
        from evosearch.cli.funnel import print_funnel

        self.funnelled = found
        if not self._quiet:
            print_funnel(found)

    def step(self, step: Step) -> None:
        """Prints a step of the simplification."""
        self._printer.step(step)

    def simplified(self, found: Simplification) -> None:
        """Prints the simplified program and its evidence."""
        self._printer.result(found)
