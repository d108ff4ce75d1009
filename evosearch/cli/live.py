"""Live view of a search, drawn in place on a terminal; a file gets a line every ten seconds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from evosearch.config import MeasurementConfig
from evosearch.evolution.records import Champion, fitness, is_confirmed, reported_scores
from evosearch.pipeline.observers import Snapshot
from evosearch.report.run import format_duration
from evosearch.statistics import Interval
from evosearch.verdicts import MIN_SEEDS, Verdict, champion_verdict
from primitives import live as without_dead_code
from primitives.text.printable import printable

_SECONDS_BETWEEN_LINES = 10.0
_FRAMES_PER_SECOND = 4
_MAX_CHAMPIONS_SHOWN = 6
_STYLES = {
    Verdict.BETTER: "bold green",
    Verdict.WORSE: "bold red",
    Verdict.UNDECIDED: "bold",
}


@dataclass(frozen=True)
class LimitProgress:
    """Progress of a search towards one of its limits.

    Attributes:
        name: Name of the limit in the configuration.
        used: The used part of the limit as text, such as `8,213 of 20,000 programs`.
        fraction: Fraction of the limit that is used, from 0 to 1.
        seconds_left: Estimate of the time until the limit is reached, from the speed so far; None
            before the speed can be estimated.
    """

    name: str
    used: str
    fraction: float
    seconds_left: float | None

    def __str__(self) -> str:
        left = "" if self.seconds_left is None else f", {format_duration(self.seconds_left)} left"
        return f"{self.used}{left}"


def nearest_limit(snapshot: Snapshot) -> LimitProgress | None:
    """Return the limit that the search reaches first at its speed so far; None without limits."""
    limits = []
    for name, count, replayed, limit in (
        ("programs", snapshot.counts.generated, snapshot.replayed, snapshot.programs),
        ("trainings", snapshot.trainings, snapshot.replayed_trainings, snapshot.trainings_limit),
    ):
        if limit is not None:
            seconds_left = None
            if count > replayed and snapshot.searching_seconds > 1:
                seconds_per_item = snapshot.searching_seconds / (count - replayed)
                seconds_left = max(0, limit - count) * seconds_per_item
            used = f"{count:,} of {limit:,} {name}"
            limits.append(LimitProgress(name, used, min(1.0, count / limit), seconds_left))
    if snapshot.minutes is not None:
        max_seconds = 60 * snapshot.minutes
        elapsed = min(snapshot.elapsed_seconds, max_seconds)
        used = f"{format_duration(elapsed)} of {format_duration(max_seconds)}"
        fraction = elapsed / max_seconds
        limits.append(LimitProgress("minutes", used, fraction, max_seconds - elapsed))
    return min(limits, key=_seconds_left_or_infinity, default=None)


def _seconds_left_or_infinity(limit: LimitProgress) -> float:
    return math.inf if limit.seconds_left is None else limit.seconds_left


def format_fitness(estimate: Interval, seeds: int, *, fresh: bool) -> str:
    """Return a champion's fitness as text.

    The text has the number of seeds and, from `MIN_SEEDS` seeds on, the interval.
    """
    mean, low, high = estimate
    seeds_text = f"{'fresh' if fresh else 'search'} seed{'s' * (seeds > 1)}"
    bounds = f"95% [{low:+.3f}, {high:+.3f}]  " if seeds >= MIN_SEEDS else ""
    return f"{mean:+.3f}  {bounds}{seeds} {seeds_text}"


class LiveView:
    """Display of a running search; a context manager that controls the terminal.

    Args:
        console: Console to draw on; a file or a pipe gets plain lines.
        title: Heading, such as the run's directory.
        measurement: The run's settings, for the champion's fitness and interval.
    """

    def __init__(self, console: Console, title: str, measurement: MeasurementConfig):
        self.console = console
        self.title = printable(title)
        self.measurement = measurement
        self._phase = "starting"
        self._snapshot: Snapshot | None = None
        self._spinner = Spinner("dots")
        self._next_line_time = 0.0
        self._champion: Champion | None = None
        self._live: Live | None = None
        if console.is_terminal and not console.is_dumb_terminal:
            self._live = Live(
                get_renderable=self.render,
                console=console,
                refresh_per_second=_FRAMES_PER_SECOND,
                transient=True,
            )

    def __enter__(self) -> LiveView:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def phase(self, text: str) -> None:
        """Show the current phase of the search."""
        self._phase = printable(text)
        if not self._live:
            self._print_line(text)

    def stopping(self, text: str) -> None:
        """Announce that the search is about to stop, and switch to plain lines.

        A signal handler calls this method on the thread that draws the view, between two statements
        of that thread. So the method must not wait until the thread finishes an update.
        """
        if self._live:
            self._live.stop()
            self._live = None
        self._next_line_time = math.inf
        self._print_line(text)

    def notice(self, text: str) -> None:
        """Print a line that stays on the screen."""
        self._print_line(text)

    def update(self, snapshot: Snapshot) -> None:
        """Update the view; a terminal is redrawn four times a second."""
        self._snapshot = snapshot
        self._phase = "searching"
        if self._live:
            return
        now = time.monotonic()
        if now >= self._next_line_time:
            self._next_line_time = now + _SECONDS_BETWEEN_LINES
            self._print_line(_progress_line(snapshot, self._champion_text(snapshot.champion)))

    def _print_line(self, text: str) -> None:
        self.console.print(f"{self.title}: {text}", highlight=False, soft_wrap=True, markup=False)

    def render(self) -> RenderableType:
        """Return the view: heading, progress bar, figures and the champion's text."""
        snapshot = self._snapshot
        header = Table.grid(expand=True)
        header.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        header.add_column(justify="right", no_wrap=True)
        self._spinner.update(text=Text(self._phase))
        header.add_row(Text(self.title, style="bold"), self._spinner)
        if snapshot is None:
            return header
        counts = snapshot.counts
        rows = Table.grid(padding=(0, 2))
        rows.add_column(style="dim", no_wrap=True)
        rows.add_column(overflow="fold")
        elapsed = format_duration(snapshot.elapsed_seconds)
        rows.add_row("programs", f"{snapshot.counts.generated:,} in {elapsed}")
        rows.add_row("speed", _format_speed(snapshot))
        rows.add_row(
            "cache hits",
            f"{_percentage(counts.cache_hits, counts.generated)}   redundant statements "
            f"{_percentage(counts.statements - counts.live_statements, counts.statements)}",
        )
        rows.add_row(
            "champion",
            Text(
                self._champion_text(snapshot.champion),
                style=self._champion_style(snapshot.champion),
            ),
        )
        rows.add_row("", self._format_scores_by_task(snapshot.champion))
        if snapshot.validated:
            rows.add_row(
                "fitness of champions", self._format_values(snapshot, self._search_fitness)
            )
            rows.add_row("at 10x the work", self._format_values(snapshot, lambda pair: pair[1]))
        limit = nearest_limit(snapshot)
        return Group(
            header,
            *([_bar(limit)] if limit else []),
            rows,
            Padding(_program_text(snapshot.champion), (1, 0, 0, 2)),
        )

    def _champion_text(self, champion: Champion) -> str:
        program_id, scores = champion.record.id, reported_scores(champion.record.scores)
        if not scores:
            return f"#{program_id}, not measured yet"
        fresh = is_confirmed(champion.record.scores)
        text = format_fitness(self._fitness(scores), len(scores), fresh=fresh)
        return f"#{program_id}  fitness {text}"

    def _fitness(self, scores: list[Mapping[str, float]]) -> Interval:
        return fitness(scores, self.measurement.noise_floor, self.measurement.largest_gain)

    def _champion_style(self, champion: Champion) -> str:
        """Return the style of a champion's text, which depends on the verdict on the champion."""
        scores = reported_scores(champion.record.scores)
        if not scores:
            return "bold"
        verdict = champion_verdict(
            self._fitness(scores),
            len(scores),
            confirmed=is_confirmed(champion.record.scores),
            initial=champion.record.id == 0,
        )
        return _STYLES[verdict]

    def _format_values(
        self, snapshot: Snapshot, value: Callable[[tuple[Champion, float]], float]
    ) -> str:
        """Return the values of the latest validated champions as text, the latest champion last.

        Args:
            snapshot: State of the search.
            value: Function from a champion and its fitness on validation tasks to the value.
        """
        latest = snapshot.validated[-_MAX_CHAMPIONS_SHOWN:]
        return "  ".join(f"{value(pair):+.3f}" for pair in latest)

    def _search_fitness(self, validated: tuple[Champion, float]) -> float:
        return self._fitness(reported_scores(validated[0].record.scores)).mean

    def _format_scores_by_task(self, champion: Champion) -> str:
        """Return the champion's mean score on each task as text."""
        scores_of_seeds = reported_scores(champion.record.scores)
        tasks = sorted(scores_of_seeds[0]) if scores_of_seeds else []
        means = {
            task: sum(scores[task] for scores in scores_of_seeds) / len(scores_of_seeds)
            for task in tasks
        }
        return "  ".join(f"{task} {mean:+.2f}" for task, mean in means.items())


def _bar(limit: LimitProgress) -> Table:
    """Return a progress bar whose empty part is blank, so that it is readable without colour."""
    row = Table.grid(expand=True, padding=(0, 1))
    row.add_column(ratio=1)
    row.add_column(justify="right", no_wrap=True)
    row.add_row(ProgressBar(total=1.0, completed=limit.fraction), str(limit))
    return row


def _program_text(champion: Champion) -> Text:
    program = without_dead_code(champion.record.program)
    return Text(str(program).rstrip(), no_wrap=True, overflow="ellipsis")


def _percentage(count: int, total: int) -> str:
    return f"{100 * count / total:.1f} %" if total else "-"


def _format_speed(snapshot: Snapshot) -> str:
    seconds = max(snapshot.searching_seconds, 1e-9)
    generated = snapshot.counts.generated - snapshot.replayed
    return (
        f"{generated / seconds:,.0f} programs/s   {snapshot.counts.evaluated:,} measured   "
        f"{snapshot.tests} challenger{'' if snapshot.tests == 1 else 's'} tested"
    )


def _progress_line(snapshot: Snapshot, champion_text: str) -> str:
    """Return the progress of a search on one line."""
    programs = f"{snapshot.counts.generated:,} programs"
    limit = nearest_limit(snapshot)
    if limit is None:
        progress = f"{programs} in {format_duration(snapshot.elapsed_seconds)}"
    elif limit.name == "programs":
        progress = str(limit)
    else:
        progress = f"{programs}, {limit}"
    cache_hits = _percentage(snapshot.counts.cache_hits, snapshot.counts.generated)
    return f"{progress}; cache hits {cache_hits}; champion {champion_text}"
