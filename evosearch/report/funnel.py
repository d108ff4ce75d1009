"""Report of a funnel: its stages and the winner."""

from __future__ import annotations

from evosearch.evaluation.funnel import Entrant, FunnelResult, Stage
from evosearch.report.tables import Column, Note, Report, Row, Section, Table, Tone, plain_notes
from evosearch.verdicts import describe_winner, explain_missing_winner, format_estimate


def funnel_report(result: FunnelResult) -> Report:
    """Return a table for each stage, and the winner with its scores and its program."""
    sections = [_stage_section(stage) for stage in result.stages]
    notes = plain_notes(outcome(result))
    winner = result.winner
    if winner is None:
        return Report((*sections, Section(notes=notes)))
    per_task = ", ".join(f"{task} {mean:+.3f}" for task, mean in winner.per_task.items())
    source = Note(winner.source, verbatim=True)
    return Report(
        (*sections, Section(notes=(*notes, Note(per_task, indent=2))), Section(notes=(source,)))
    )


def outcome(result: FunnelResult) -> str:
    """Return in words which program won and how it compares with the baseline."""
    last = result.stages[-1]
    if result.winner is None:
        return explain_missing_winner([entrant.fitness for entrant in last.entrants], last.scale)
    winner = result.winner
    return (
        f"winner {winner.name}: fitness {format_estimate(winner.fitness)} at {last.scale} the "
        f"work of the search tasks, {describe_winner(winner.fitness)}"
    )


def _stage_section(stage: Stage) -> Section:
    columns = (
        Column("program"),
        *(Column(header, "+.3f") for header in ("fitness", "95% low", "95% high")),
        *(Column(header, "", wraps=True) for header in ("best task", "worst task")),
    )
    rows = [
        _entrant_row(entrant, stage.scale, advances=rank < stage.promoted)
        for rank, entrant in enumerate(stage.entrants)
    ]
    title = (
        f"{stage.scale} the work of the search tasks: "
        f"{stage.promoted} of {len(stage.entrants)} programs advance"
    )
    return Section(title, table=Table(columns, tuple(rows)))


def _entrant_row(entrant: Entrant, scale: str, *, advances: bool) -> Row:
    ordered = sorted(entrant.per_task.items(), key=lambda pair: pair[1])
    best_and_worst = [
        f"{task.replace(f'-{scale}', '')} {score:+.3f}" for task, score in (ordered[-1], ordered[0])
    ]
    tone = Tone.PLAIN if advances else Tone.QUIET
    return Row((entrant.name, *entrant.fitness, *best_and_worst), tone)
