"""Observer of a search that shows progress and prints results on the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from evosearch.cli.app import warn
from evosearch.cli.live import LiveView
from evosearch.cli.progress import Printer, reporting
from evosearch.cli.terminal import Terminal
from evosearch.evaluation.funnel import FunnelResult
from evosearch.pipeline.observers import Observer, Snapshot
from evosearch.simplification import Simplification
from evosearch.simplification.record import Step


class Screen(Observer):
    """Observer that shows the search in a live view, and prints the results that follow it.

    Args:
        view: Live view of the search.
        quiet: Whether to print nothing on standard output.

    Attributes:
        funnel_result: Result of the funnel; None before it has ended.
    """

    def __init__(self, view: LiveView, *, quiet: bool):
        self.funnel_result: FunnelResult | None = None
        self._view = view
        self._quiet = quiet
        self._printer = Printer(Terminal(quiet=quiet))
        self._report: Callable[[str, int, int | None], None] | None = None

    @contextmanager
    def finishing(self) -> Iterator[None]:
        """Show the progress of the funnel and the simplification as a bar within the block."""
        try:
            with reporting(Terminal(stderr=True)) as self._report:
                yield
        finally:
            self._report = None

    def phase(self, text: str) -> None:
        """Show the current phase of the search."""
        self._view.phase(text)

    def notice(self, text: str) -> None:
        """Print a line that stays on the screen."""
        if self._report is None:
            self._view.notice(text)
        else:
            warn(text)

    def update(self, snapshot: Snapshot) -> None:
        """Show the state of the search."""
        self._view.update(snapshot)

    def progress(self, text: str, done: int, total: int | None) -> None:
        """Update the progress bar."""
        if self._report is not None:
            self._report(text, done, total)

    def funnel(self, result: FunnelResult) -> None:
        """Print the result of the funnel."""
        from evosearch.cli.funnel import print_funnel

        self.funnel_result = result
        if not self._quiet:
            print_funnel(result)

    def step(self, step: Step) -> None:
        """Print a step of the simplification."""
        self._printer.step(step)

    def simplified(self, result: Simplification) -> None:
        """Print the simplified program with its cost on fresh seeds and its ablations."""
        self._printer.result(result)
