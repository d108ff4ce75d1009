"""Report of a simplification: its steps with their reasons, and its result."""

from __future__ import annotations

from evosearch.report.program import describe_differences
from evosearch.report.tables import (
    Cell,
    Column,
    Note,
    Report,
    Row,
    Section,
    Table,
    Tone,
    plain_notes,
)
from evosearch.simplification.deciding import TASK_LIMIT_FACTOR
from evosearch.simplification.record import Cost, Simplification, Step
from evosearch.statistics import LARGEST_SCORE
from evosearch.verdicts import is_needed
from primitives import Program
from primitives.explain.description import describe
from primitives.explain.nearest import changed_lines, nearest

_MAX_COST = round(LARGEST_SCORE, 3)
"""Largest possible cost, in log loss."""
_INDENT = 3
"""Number of spaces before each line of a step."""
_TONES = {"-": Tone.BAD, "+": Tone.GOOD}
"""Tones of removed and added lines."""


def step_section(number: int, step: Step) -> Section:
    """Return a step: its rule, the reason that allows it, and the statements that it changes."""
    notes = [Note(step.reason, indent=_INDENT)]
    if step.cost:
        notes.append(Note(format_cost(step.cost), Tone.MARKED, indent=_INDENT))
    notes += [
        Note(line, _TONES[line[0]], indent=_INDENT)
        for line in changed_lines(step.before, step.after)
    ]
    return Section(f"{number}. {step.rule}", label=step.domain or "", notes=tuple(notes))


def format_cost(cost: Cost) -> str:
    """Return a cost as text.

    For example: `costs -0.054 log loss (-0.061 to -0.046, one-sided 95% bounds), on 32 seeds of 4
    tasks; fitness +0.070`.
    """
    fitness = "" if cost.fitness is None else f"; fitness {cost.fitness:+.3f}"
    tasks = len(cost.per_task)
    return (
        f"costs {cost.mean:+.4f} log loss ({cost.low:+.4f} to {cost.high:+.4f}, one-sided 95% "
        f"bounds), on {cost.seeds} seeds of {tasks} task{'s' * (tasks != 1)}{fitness}"
    )


def result_report(simplification: Simplification) -> Report:
    """Return the simplified program, its confirmation on fresh seeds and the ablation table."""
    program = simplification.program
    source = Note(str(program), verbatim=True)
    description = plain_notes(describe(program), describe_differences(nearest(program)))
    sections = [
        Section(notes=(source,)),
        Section(notes=description),
        _summary_section(simplification),
    ]
    if simplification.confirmation:
        sections.append(_confirmation_section(simplification, simplification.confirmation))
    if simplification.ablations:
        sections.append(_ablations_section(simplification))
    return Report(tuple(sections))


def _summary_section(simplification: Simplification) -> Section:
    source, program = simplification.source, simplification.program
    count, is_partial = len(simplification.steps), simplification.was_interrupted
    sentences = [
        f"{_format_statement_count(source)} and {_format_state_count(source)} became "
        f"{len(program.statements)} and {_format_state_count(program)}, "
        f"in {count} step{'s' * (count != 1)}."
        if count or is_partial or simplification.ended_early
        else "There is nothing to simplify."
    ]
    if is_partial:
        sentences.append("Interrupted: not every removal was tried, and the result is unconfirmed.")
    if simplification.ended_early:
        sentences.append(
            f"Not every removal was tried within {simplification.settings['minutes']:g} minutes; "
            "`evosearch simplify` without --minutes tries all."
        )
    return Section(notes=plain_notes(*sentences))


def _confirmation_section(simplification: Simplification, cost: Cost) -> Section:
    """Return the cost of the result on each task, on fresh seeds."""
    columns = (Column("task"), Column("mean", "+.4f"), Column("at most (95%)", "+.4f"))
    rows = [Row((task, *of_task)) for task, of_task in cost.per_task.items()]
    rows.append(Row(("all", cost.mean, cost.high), Tone.STRONG))
    return Section(
        f"Cost compared with the original, in log loss, on {cost.seeds} fresh seeds:",
        table=Table(columns, tuple(rows)),
        notes=plain_notes(_verdict_sentence(simplification)),
    )


def _verdict_sentence(simplification: Simplification) -> str:
    limit = simplification.settings["limit"]
    mean_limit, task_limit = f"{limit:g}", f"{TASK_LIMIT_FACTOR * limit:g}"
    if simplification.unconfirmed:
        tasks = ", ".join(simplification.unconfirmed)
        return (
            f"The cost is not shown to be below {mean_limit} in the mean and below {task_limit} on "
            f"each task. The bound is too high for: {tasks}."
        )
    return (
        f"The program costs less than {mean_limit} in the mean and less than {task_limit} on each "
        "task (95%)."
    )


def _ablations_section(simplification: Simplification) -> Section:
    """Return the cost of leaving out each statement: in the mean, and on the worst task."""
    columns = (
        Column("statement", wraps=True, min_width=12),  # the only column that shrinks
        Column("replaced by"),
        Column("cost, 95% bounds", ""),
        Column("max cost", "+.3f"),
        Column("on task"),
    )
    rows = []
    for ablation in simplification.ablations:
        cost = ablation.cost
        worst_task, (highest_mean, _) = max(cost.per_task.items(), key=lambda pair: pair[1][0])
        half_width = (cost.high - cost.low) / 2
        cost_cell = Cell(cost.mean, f"{cost.mean:+.4f} \N{PLUS-MINUS SIGN} {half_width:.4f}")
        cells = (ablation.statement, ablation.instead, cost_cell, highest_mean, worst_task)
        rows.append(Row(cells))
    ablations, sentences = simplification.ablations, []
    not_shown_to_be_needed = [each.statement for each in ablations if not is_needed(each.cost.low)]
    if not_shown_to_be_needed:
        statements = "; ".join(not_shown_to_be_needed)
        sentences.append(f"Not shown to be needed on these tasks: {statements}.")
    if any(each.cost.high >= _MAX_COST for each in ablations):
        sentences.append(f"Costs are capped at {_MAX_COST:+.3f}, which is four times the loss.")
    seeds = ablations[0].cost.seeds
    return Section(
        f"Cost of leaving out one statement, in log loss, on {seeds} seeds:",
        table=Table(columns, tuple(rows)),
        notes=plain_notes(*sentences),
    )


def _format_statement_count(program: Program) -> str:
    count = len(program.statements)
    return f"{count} statement{'s' * (count != 1)}"


def _format_state_count(program: Program) -> str:
    count = len(program.states)
    return f"{count or 'no'} state{'s' * (count != 1)}"
