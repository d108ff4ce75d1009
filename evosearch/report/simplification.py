"""The report of a simplification: each step with what allows it, and what the steps led to."""

from __future__ import annotations

from evosearch.report.program import compared
from evosearch.report.tables import (
    Cell,
    Column,
    Note,
    Report,
    Row,
    Section,
    Table,
    Tone,
    paragraphs,
)
from evosearch.simplification.deciding import TASK_LIMIT_FACTOR
from evosearch.simplification.record import Cost, Simplification, Step
from evosearch.statistics import LARGEST_SCORE
from evosearch.verdicts import is_needed
from primitives import Program
from primitives.explain.description import describe
from primitives.explain.nearest import changed_lines, nearest

_LARGEST = round(LARGEST_SCORE, 3)
_INDENT = 3
_TONES = {"-": Tone.BAD, "+": Tone.GOOD}


def step_section(number: int, step: Step) -> Section:
    """A step: its rule, why it is allowed, and the statements that it changes."""
    notes = [Note(step.reason, indent=_INDENT)]
    if step.cost:
        notes.append(Note(in_words(step.cost), Tone.MARKED, indent=_INDENT))
    notes += [
        Note(line, _TONES[line[0]], indent=_INDENT)
        for line in changed_lines(step.before, step.after)
    ]
    return Section(f"{number}. {step.rule}", label=step.domain or "", notes=tuple(notes))


def in_words(cost: Cost) -> str:
    """`costs -0.054 log loss (-0.061 to -0.046, 95% each side), on 32 seeds of 4 tasks; ...`."""
    fitness = "" if cost.fitness is None else f"; fitness {cost.fitness:+.3f}"
    tasks = len(cost.per_task)
    return (
        f"costs {cost.mean:+.4f} log loss ({cost.low:+.4f} to {cost.high:+.4f}, 95% each side), on "
        f"{cost.seeds} seeds of {tasks} task{'s' * (tasks != 1)}{fitness}"
    )


def result_report(found: Simplification) -> Report:
    """The result, its confirmation on fresh seeds and the ablation table."""
    program = found.program
    source = Note(str(program), verbatim=True)
    described = paragraphs(describe(program), compared(nearest(program)))
    sections = [Section(notes=(source,)), Section(notes=described), _summary(found)]
    if found.confirmation:
        sections.append(_confirmation(found, found.confirmation))
    if found.ablations:
        sections.append(_ablations(found))
    return Report(tuple(sections))


def _summary(found: Simplification) -> Section:
    source, program = found.source, found.program
    steps = f"{len(found.steps)} step{'s' * (len(found.steps) != 1)}"
    said = [
        f"{_statements(source)} and {_states(source)} became "
        f"{len(program.statements)} and {_states(program)}, in {steps}."
        if found.steps or found.was_interrupted or found.ended_early
        else "There is nothing to simplify."
    ]
    if found.was_interrupted:
        said.append("Interrupted: not everything had been tried, and the whole is not confirmed.")
    if found.ended_early:
        said.append(
            f"After {found.settings['minutes']:g} minutes not everything had been tried; "
            "`evosearch simplify` without --minutes tries it all."
        )
    return Section(notes=paragraphs(*said))


def _confirmation(found: Simplification, cost: Cost) -> Section:
    """What the result costs on every task, on seeds that decided nothing."""
    columns = (Column("task"), Column("mean", "+.4f"), Column("at most (95%)", "+.4f"))
    rows = [Row((task, *of_task)) for task, of_task in cost.per_task.items()]
    rows.append(Row(("all", cost.mean, cost.high), Tone.STRONG))
    return Section(
        f"Cost against the original, in log loss, on {cost.seeds} seeds that decided nothing:",
        table=Table(columns, tuple(rows)),
        notes=paragraphs(_verdict(found)),
    )


def _verdict(found: Simplification) -> str:
    limit, worst = (f"{times * found.settings['limit']:g}" for times in (1, TASK_LIMIT_FACTOR))
    if found.unconfirmed:
        return f"Not shown to cost so little: {', '.join(found.unconfirmed)}."
    return f"It costs less than {limit}, and on each task less than {worst} (95%)."


def _ablations(found: Simplification) -> Section:
    """What each statement of the result is worth, alone, in the mean and where it is worth most."""
    columns = (
        Column("statement", wraps=True, narrowest=12),  # alone gives way in a narrow terminal
        Column("instead"),
        Column("cost, 95% bounds", ""),
        Column("most", "+.3f"),
        Column("on"),
    )
    rows = []
    for one in found.ablations:
        cost = one.cost
        task, (most, _) = max(cost.per_task.items(), key=lambda pair: pair[1][0])
        text = f"{cost.mean:+.4f} \N{PLUS-MINUS SIGN} {(cost.high - cost.low) / 2:.4f}"
        rows.append(Row((one.statement, one.instead, Cell(cost.mean, text), most, task)))
    said = []
    doubtful = [one.statement for one in found.ablations if not is_needed(one.cost.low)]
    if doubtful:
        said.append(f"Not shown to be worth anything here: {'; '.join(doubtful)}.")
    if any(one.cost.high >= _LARGEST for one in found.ablations):
        said.append(f"{_LARGEST:+.3f} is the largest cost that is counted: four times the loss.")
    seeds = found.ablations[0].cost.seeds
    return Section(
        f"Without one statement: cost against the result, in log loss, on {seeds} seeds:",
        table=Table(columns, tuple(rows)),
        notes=paragraphs(*said),
    )


def _statements(program: Program) -> str:
    count = len(program.statements)
    return f"{count} statement{'s' * (count != 1)}"


def _states(program: Program) -> str:
    count = len(program.states)
    return f"{count or 'no'} state{'s' * (count != 1)}"
