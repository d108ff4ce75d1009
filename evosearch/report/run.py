"""Reports of a run: the status of its search, and its best programs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evosearch.report.program import NearestOptimizer, nearest_optimizer, simplified
from evosearch.report.tables import (
    Column,
    Note,
    Report,
    Row,
    Section,
    Table,
    plain_notes,
)
from evosearch.runs.activity import WorkerActivity
from evosearch.runs.run import Run
from evosearch.runs.summary import Estimate, MeasuredProgram, RunStatus
from evosearch.verdicts import (
    describe_champion,
    describe_loss,
    describe_winner,
    fitness_as_loss_percent,
    format_estimate,
)
from primitives import parse
from primitives.explain.description import describe

_BASELINE = (
    "Tuned AdamW has the best learning rate for each task; its other constants are the defaults. "
    "At ten times the work, learning rate and weight decay are tuned, both AdamW's and the "
    "program's. Fresh seeds are seeds that selected nothing. These figures say nothing about other "
    "tasks."
)


@dataclass(frozen=True)
class BestProgram:
    """The best program of a run: the winner of its funnel or, without a winner, its champion.

    Attributes:
        program: The PROGRAM argument that names the program.
        source: Text of the simplified program.
        measured: Whether measurements, not only algebra, decided the steps of the simplification.
        in_words: Description of the simplified program.
        nearest: The known optimizer that is nearest to the simplified program.
    """

    program: str
    source: str
    measured: bool
    in_words: str
    nearest: NearestOptimizer

    def document(self) -> dict[str, Any]:
        """Return the program as JSON."""
        return {**vars(self), "nearest": self.nearest._asdict()}


@dataclass(frozen=True)
class RunOverview:
    """Status of a search and its best program.

    Attributes:
        status: Counts, champion, validation and funnel.
        best: The best program; None before the first measurement.
    """

    status: RunStatus
    best: BestProgram | None

    def document(self) -> dict[str, Any]:
        """Return the document of `evosearch status --json`."""
        return {**self.status.document(), "found": self.best and self.best.document()}


def overview(run: Run) -> RunOverview:
    """Return the status of the search in `run` and its best program.

    Raises:
        EvosearchError: The run is damaged.
    """
    status = run.status()
    return RunOverview(status, _best_program(run, status))


def _best_program(run: Run, status: RunStatus) -> BestProgram | None:
    best = _name_source_id(status)
    if best is None:
        return None
    name, source, program_id = best
    origin = None if program_id is None else (run, program_id)
    simplification, measured = simplified(parse(source), origin)
    program = simplification.program
    return BestProgram(
        program=name,
        source=str(program),
        measured=measured,
        in_words=describe(program),
        nearest=nearest_optimizer(program),
    )


def _name_source_id(status: RunStatus) -> tuple[str, str, int | None] | None:
    """Return name, text and id of the best program; the id is None for another run's program.

    Return None if nothing has been measured.
    """
    if status.funnel and (winner := status.funnel.winner):
        is_from_this_run = winner.run == status.run
        return f"{status.run}#winner", winner.source, winner.id if is_from_this_run else None
    return (status.run, status.best.source, status.best.id) if status.best else None


def status_report(overview: RunOverview, command: Callable[..., str]) -> Report:
    """Return the status of a search: its counts, the best program, and that program's evidence.

    Args:
        overview: The status and the best program.
        command: Returns the command line of `evosearch` with the given arguments.
    """
    status, best = overview.status, overview.best
    counts_note = plain_notes(_counts_sentence(status, command))
    counts = Section(notes=(*counts_note, *map(_worker_note, status.workers)))
    if best is None:
        return Report((counts, Section(notes=plain_notes("Nothing has been measured yet."))))
    method = "by algebra and measurement" if best.measured else "by algebra"
    return Report(
        (
            counts,
            Section(notes=plain_notes(f"Best program, simplified {method}:")),
            Section(notes=(Note(best.source, verbatim=True, indent=4),)),
            Section(notes=plain_notes(best.in_words, best.nearest.describe_distance())),
            Section(notes=plain_notes("Evidence:")),
            Section(notes=tuple(Note(text, indent=2) for text in _evidence_sentences(status))),
        )
    )


def format_duration(seconds: float) -> str:
    """Format a duration as `1:02:03` (hours, minutes, seconds), `2:03` or `0:07`."""
    minutes, whole_seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02}:{whole_seconds:02}"
    return f"{minutes}:{whole_seconds:02}"


def _counts_sentence(status: RunStatus, command: Callable[..., str]) -> str:
    elapsed = format_duration(status.elapsed_seconds)
    return (
        f"{status.run}: {status.generated:,} programs in {elapsed}, "
        f"{status.evaluated:,} of them distinct and trained, in {status.trainings:,} trainings; "
        f"{_describe_search_state(status, command)}."
    )


def _describe_search_state(status: RunStatus, command: Callable[..., str]) -> str:
    """Return whether the search is running, or why it stopped."""
    if status.running:
        return "still running"
    reason, resume = status.stop_reason, f"`{command('resume', status.run)}`"
    if reason is None:
        return f"was killed; continue with {resume}"
    if reason == "interrupted":
        return f"interrupted; continue with {resume}"
    return (
        "stopped at its time limit" if reason == "minutes" else f"stopped at its limit of {reason}"
    )


def _worker_note(activity: WorkerActivity) -> Note:
    elapsed = format_duration(max(0.0, time.time() - activity.since))
    return Note(f"{activity.worker}: {activity.doing}, for {elapsed}", indent=2)


def _evidence_sentences(status: RunStatus) -> list[str]:
    """Return a sentence for each comparison of the best program with the baseline."""
    best, validation, funnel = status.best, status.validation, status.funnel
    assert best is not None
    is_initial = best.id == 0
    sentences = [
        "On the search tasks: "
        + describe_champion(best.fitness, best.seeds, confirmed=best.confirmed, initial=is_initial)
        + f". By task: {_format_losses_by_task(best)}."
    ]
    if validation is not None and not is_initial:
        sentences.append(
            "On the same tasks at ten times the work: "
            + describe_loss(validation.fitness, validation.seeds, "fresh ")
            + f". By task: {_format_losses_by_task(validation)}."
        )
    if funnel is not None:
        winner = funnel.winner
        sentences.append(
            "No program passed the funnel: none was shown to beat the tuned baseline."
            if winner is None
            else f"The winner of the funnel is {winner.name}: "
            f"{format_estimate(winner.interval)}, {describe_winner(winner.interval)}."
        )
    return [*sentences, _BASELINE]


def _format_losses_by_task(estimate: Estimate) -> str:
    means: Mapping[str, float] = estimate.per_task
    return ", ".join(f"{task} {fitness_as_loss_percent(mean)}" for task, mean in means.items())


def top_report(programs: Sequence[MeasuredProgram]) -> Report:
    """Return a table of the best programs, and the text of the first program in the table."""
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
                program.id,
                program.fitness.mean,
                f"[{program.fitness.low:+.3f}, {program.fitness.high:+.3f}]",
                program.seeds,
                program.statements,
                program.state_memory,
                "fresh seeds" if program.confirmed else "search seeds",
            )
        )
        for program in programs
    ]
    table = Section(table=Table(columns, tuple(rows)))
    if not programs:
        return Report((table,))
    best = programs[0]
    source = Note(best.source, verbatim=True)
    return Report((table, Section(notes=(*plain_notes(f"{best.id}:"), source))))
