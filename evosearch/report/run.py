"""The reports of a run: how its search stands, and its best programs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evosearch.report.program import NearestKnown, nearest_known, simplified
from evosearch.report.tables import (
    Column,
    Note,
    Report,
    Row,
    Section,
    Table,
    paragraphs,
)
from evosearch.runs.activity import WorkerActivity
from evosearch.runs.run import Run
from evosearch.runs.summary import Estimate, MeasuredProgram, RunStatus
from evosearch.verdicts import (
    describe_champion,
    describe_loss,
    describe_winner,
    format_estimate,
    format_loss_change,
)
from primitives import parse
from primitives.explain.description import describe

_BASELINE = (
    "Tuned AdamW has the best learning rate for each task, and at ten times the work the best "
    "weight decay; so has the program there. Its other constants are the usual ones. Fresh seeds "
    "are those that chose nothing. Nothing is known yet of other tasks."
)


@dataclass(frozen=True)
class Found:
    """The best program of a run: the winner of its funnel or, without one, its champion.

    Attributes:
        program: its name for every command.
        source: its text, simplified.
        measured: whether it was simplified by measurement, and not by algebra alone.
        in_words: its description.
        nearest: the known optimizer that it is most like.
    """

    program: str
    source: str
    measured: bool
    in_words: str
    nearest: NearestKnown

    def document(self) -> dict[str, Any]:
        """The program as JSON."""
        return {**vars(self), "nearest": self.nearest._asdict()}


@dataclass(frozen=True)
class Standing:
    """How a search stands and what it has found; None before the first measurement."""

    status: RunStatus
    found: Found | None

    def document(self) -> dict[str, Any]:
        """The document of `evosearch status --json`."""
        return {**self.status.document(), "found": self.found and self.found.document()}


def standing(run: Run) -> Standing:
    """How the search in `run` stands.

    Raises:
        EvosearchError: the run is damaged.
    """
    status = run.status()
    return Standing(status, _found(run, status))


def _found(run: Run, status: RunStatus) -> Found | None:
    best = _best(status)
    if best is None:
        return None
    name, source, number = best
    shown, measured = simplified(parse(source), (run, number) if number is not None else None)
    return Found(
        program=name,
        source=str(shown.program),
        measured=measured,
        in_words=describe(shown.program),
        nearest=nearest_known(shown.program),
    )


def _best(status: RunStatus) -> tuple[str, str, int | None] | None:
    """Name and text of the best program, and its id where it is a program of this run."""
    if status.funnel and (winner := status.funnel.winner):
        own = winner.run == status.run
        return f"{status.run}#winner", winner.source, winner.id if own else None
    return (status.run, status.best.source, status.best.id) if status.best else None


def status_report(found: Standing, command: Callable[..., str]) -> Report:
    """How a search stands, for a person who sees such a screen for the first time.

    Args:
        found: how it stands.
        command: writes a command line from its words after `evosearch`.
    """
    status, best = found.status, found.found
    counts = Section(notes=(*paragraphs(_counts(status, command)), *map(_worker, status.workers)))
    if best is None:
        return Report((counts, Section(notes=paragraphs("Nothing has been measured yet."))))
    how = "by algebra and measurement" if best.measured else "by algebra"
    return Report(
        (
            counts,
            Section(notes=paragraphs(f"Best program, simplified {how}:")),
            Section(notes=(Note(best.source, verbatim=True, indent=4),)),
            Section(notes=paragraphs(best.in_words, best.nearest.in_words())),
            Section(notes=paragraphs("How good it is:")),
            Section(notes=tuple(Note(text, indent=2) for text in _evidence(status))),
        )
    )


def duration(seconds: float) -> str:
    """`1:02:03`, `2:03` or `0:07`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _counts(status: RunStatus, command: Callable[..., str]) -> str:
    return (
        f"{status.run}: {status.generated:,} programs in {duration(status.elapsed_seconds)}, "
        f"{status.evaluated:,} of them different from all before and trained, in "
        f"{status.trainings:,} trainings; {_how_it_stands(status, command)}."
    )


def _how_it_stands(status: RunStatus, command: Callable[..., str]) -> str:
    """Whether the search runs, or why it ended."""
    if status.running:
        return "still running"
    reason, resume = status.stop_reason, f"`{command('resume', status.run)}`"
    if reason is None:
        return f"was killed; continue with {resume}"
    if reason == "interrupted":
        return f"interrupted; continue with {resume}"
    return (
        "ended when its time was up" if reason == "minutes" else f"ended at its limit of {reason}"
    )


def _worker(one: WorkerActivity) -> Note:
    spent = duration(max(0.0, time.time() - one.since))
    return Note(f"{one.worker}: {one.doing}, for {spent}", indent=2)


def _evidence(status: RunStatus) -> list[str]:
    """A sentence for each scale of work at which it was compared with the baseline."""
    best, validation, funnel = status.best, status.validation, status.funnel
    assert best is not None
    is_initial = best.id == 0
    said = [
        "On the search's own tasks: "
        + describe_champion(best.fitness, best.seeds, confirmed=best.confirmed, initial=is_initial)
        + f". By task: {_by_task(best)}."
    ]
    if validation is not None and not is_initial:
        said.append(
            "On the same tasks at ten times the work: "
            + describe_loss(validation.fitness, validation.seeds, "fresh ")
            + f". By task: {_by_task(validation)}."
        )
    if funnel is not None:
        winner = funnel.winner
        said.append(
            "Through the funnel came no program: none was shown to beat the tuned baseline."
            if winner is None
            else f"Through the funnel came {winner.name}: {format_estimate(winner.interval)}, "
            f"{describe_winner(winner.interval)}."
        )
    return [*said, _BASELINE]


def _by_task(found: Estimate) -> str:
    means: Mapping[str, float] = found.per_task
    return ", ".join(f"{task} {format_loss_change(mean)}" for task, mean in means.items())


def top_report(found: Sequence[MeasuredProgram]) -> Report:
    """The best programs, and the text of the first."""
    columns = (
        Column("id", "d"),
        Column("fitness", "+.3f"),
        Column("95% interval", ""),
        Column("seeds", "d"),
        Column("statements", "d"),
        Column("memory", ".3g"),
        Column("fitness from", wraps=True),
    )
    rows = [
        Row(
            (
                one.id,
                one.fitness.mean,
                f"[{one.fitness.low:+.3f}, {one.fitness.high:+.3f}]",
                one.seeds,
                one.statements,
                one.state_memory,
                "fresh seeds" if one.confirmed else "search seeds",
            )
        )
        for one in found
    ]
    table = Section(table=Table(columns, tuple(rows)))
    if not found:
        return Report((table,))
    best = found[0]
    source = Note(best.source, verbatim=True)
    return Report((table, Section(notes=(*paragraphs(f"{best.id}:"), source))))
