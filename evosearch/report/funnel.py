"""The report of a funnel: its stages, and the winner."""

from __future__ import annotations

from evosearch.evaluation.funnel import Entrant, Funnelled, Stage
from evosearch.report.tables import Column, Note, Report, Row, Section, Table, Tone, paragraphs
from evosearch.verdicts import describe_winner, explain_missing_winner, format_estimate


def funnel_report(found: Funnelled) -> Report:
    """A table for each stage, and the winner with its scores and its program."""
    sections = [_stage(stage) for stage in found.stages]
    said = paragraphs(outcome(found))
    winner = found.winner
    if winner is None:
        return Report((*sections, Section(notes=said)))
    per_task = ", ".join(f"{task} {mean:+.3f}" for task, mean in winner.per_task.items())
    source = Note(winner.source, verbatim=True)
    return Report(
        (*sections, Section(notes=(*said, Note(per_task, indent=2))), Section(notes=(source,)))
    )


def outcome(found: Funnelled) -> str:
    """What came through and what is shown of it, in words."""
    last = found.stages[-1]
    if found.winner is None:
        return explain_missing_winner([one.fitness for one in last.entrants], last.scale)
    fitness = found.winner.fitness
    return (
        f"winner {found.winner.name}: fitness {format_estimate(fitness)} at {last.scale} the work, "
        f"{describe_winner(fitness)}"
    )


def _stage(stage: Stage) -> Section:
    columns = (
        Column("program"),
        *(Column(header, "+.3f") for header in ("fitness", "low", "high")),
        *(Column(header, "", wraps=True) for header in ("best task", "worst task")),
    )
    rows = [
        _entrant(one, stage.scale, goes_on=place < stage.through)
        for place, one in enumerate(stage.entrants)
    ]
    title = f"{stage.scale} the work: {stage.through} of {len(stage.entrants)} go on"
    return Section(title, table=Table(columns, tuple(rows)))


def _entrant(one: Entrant, scale: str, *, goes_on: bool) -> Row:
    ordered = sorted(one.per_task.items(), key=lambda pair: pair[1])
    ends = [
        f"{task.replace(f'-{scale}', '')} {score:+.3f}" for task, score in (ordered[-1], ordered[0])
    ]
    tone = Tone.PLAIN if goes_on else Tone.QUIET
    return Row((one.name, *one.fitness, *ends), tone)
