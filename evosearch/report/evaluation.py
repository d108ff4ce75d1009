"""Report of an evaluation: each task, fitness over tasks, standings, and conclusions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from evosearch.evaluation.results import (
    MIN_DEVIATION,
    Difference,
    Evaluation,
    Fitness,
    Result,
    Standing,
    TaskReport,
)
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
from evosearch.statistics import LARGEST_SCORE
from evosearch.verdicts import describe_verdict_on_other_tasks

_TONES = {
    "better": Tone.GOOD,
    "worse": Tone.BAD,
    "tie": Tone.QUIET,
    "undecided": Tone.QUIET,
}
_ON_MEASURED_TASKS = {"better": "lower loss", "worse": "higher loss", "tie": "tie"}
"""What is printed for verdicts that hold only for the measured tasks."""
_OVER_TASKS_EXPLANATION = (
    " Such a difference holds on these tasks. A verdict over tasks also requires that the ratio's "
    "interval, a bootstrap over tasks, excludes 1, and that the mean log ratio of the tasks is "
    "significant (Student's t, Holm's correction for all contenders)."
)


def evaluation_report(evaluation: Evaluation) -> Report:
    """Return a table for each task, tables over several tasks, and conclusions."""
    sections = [_task_section(report) for report in evaluation.tasks]
    if evaluation.overall:
        sections += [_overall_section(evaluation), _standings_section(evaluation)]
    notes = (*plain_notes(*sentences(evaluation)), Note(explain_tables(evaluation), Tone.QUIET))
    return Report((*sections, Section(notes=notes)))


def sentences(evaluation: Evaluation) -> list[str]:
    """Return a conclusion for each task and, over several tasks, for each contender."""
    conclusions = [_task_sentence(report) for report in evaluation.tasks]
    conclusions += [
        _sentence_on_other_tasks(standing, evaluation)
        for standing in evaluation.standings
        if standing.program != evaluation.reference
    ]
    return conclusions


def _task_section(report: TaskReport) -> Section:
    has_sharpness = any(result.sharpness is not None for result in report.results)
    columns = [
        Column("program", wraps=True),
        Column("lr", ".3g"),
        Column("decay", "g"),
        Column("loss", ""),
        Column("div.", ""),
        *([Column("sharpness", ".3g")] if has_sharpness else []),
        Column("difference", "", missing=""),
        Column("verdict"),
    ]
    rows = [row for result in report.results for row in _contender_rows(result, has_sharpness)]
    title = f"{report.task} ({report.split}): {report.metric}, {report.steps} steps"
    return Section(title, table=Table(tuple(columns), tuple(rows)))


def _contender_rows(result: Result, has_sharpness: bool) -> list[Row]:
    """Return a contender's rows: a row for each reference, or a single row without references."""
    cells: tuple[Cell | str | float | None, ...] = (
        result.program,
        result.lr,
        result.decay,
        _loss_cell(result),
        Cell(result.diverged, _format_diverged(result)),
        *([result.sharpness] if has_sharpness else []),
    )
    if not result.versus:
        return [Row((*cells, None, ""))]
    rows = []
    for name, difference in result.versus.items():
        change = Cell(difference.interval.mean, f"{percent(difference)} vs {name}")
        rows.append(Row((*cells, change, _verdict_cell(difference))))
        cells = ("",) * len(cells)
    return rows


def _overall_section(evaluation: Evaluation) -> Section:
    columns = (
        Column("program", wraps=True),
        *(Column(header, "+.3f", missing="") for header in ("fitness", "low", "high")),
        Column("on these"),
    )
    title = (
        f"on these {len(evaluation.tasks)} tasks: log({evaluation.reference}'s loss / loss), "
        "95% over seeds"
    )
    return Section(title, table=Table(columns, tuple(map(_fitness_row, evaluation.overall))))


def _fitness_row(fitness: Fitness) -> Row:
    if fitness.difference is None:
        return Row((fitness.program, Cell(0.0, "0"), None, None, "the reference"))
    verdict = fitness.difference.verdict
    verdict_cell = Cell(verdict, _ON_MEASURED_TASKS[verdict], _TONES[verdict])
    return Row((fitness.program, *fitness.interval, verdict_cell))


def _standings_section(evaluation: Evaluation) -> Section:
    columns = (
        Column("program", wraps=True),
        *(Column(header, ".3f") for header in ("ratio", "low", "high")),
        *(Column(header, "d") for header in ("wins", "losses", "ties")),
        Column("mean rank", ".1f"),
        Column("verdict"),
    )
    rows = [
        Row(
            (
                standing.program,
                *standing.ratio,
                standing.wins,
                standing.losses,
                standing.ties,
                standing.mean_rank,
                Cell(standing.verdict, tone=_TONES.get(standing.verdict, Tone.PLAIN)),
            )
        )
        for standing in evaluation.standings
    ]
    title = f"standings: geometric mean of loss / {evaluation.reference}'s loss, 95% over tasks"
    return Section(title, table=Table(columns, tuple(rows)))


def percent(difference: Difference) -> str:
    """Format a difference of log losses as a change of loss: `-9.5%`, or `>= +300%` if clipped."""
    mean = difference.interval.mean
    if abs(mean) > LARGEST_SCORE - MIN_DEVIATION:
        return f"{'>=' if mean > 0 else '<='} {100 * math.expm1(mean):+.0f}%"
    return f"{100 * math.expm1(mean):+.1f}%"


def _loss_cell(result: Result) -> Cell | None:
    loss = result.loss
    if loss is None:
        return None
    return Cell(loss.mean, f"{loss.mean:#.4g} ±{loss.high - loss.mean:.2g}")


def _format_diverged(result: Result) -> str:
    return f"{result.diverged}/{len(result.losses)}"


def _verdict_cell(difference: Difference) -> Cell:
    return Cell(difference.verdict, tone=_TONES[difference.verdict])


def _task_sentence(report: TaskReport) -> str:
    """Return the verdicts on all contenders of a task, as one sentence or two."""
    statements = []
    for result in report.results:
        references_by_verdict: dict[str, list[str]] = {}
        for reference, difference in result.versus.items():
            references_by_verdict.setdefault(difference.verdict, []).append(reference)
        clauses = [
            f"not shown to differ from {_join_with_and(references)}"
            if verdict == "tie"
            else f"{verdict} than {_join_with_and(references)}"
            for verdict, references in references_by_verdict.items()
        ]
        if result.diverged == len(result.losses):
            statements.append(f"{result.program} diverged on every seed")
        elif clauses:
            statement = f"{result.program} is {_join_with_and(clauses)}"
            if result.diverged:
                statement += f", and diverged on {_format_diverged(result)} seeds"
            statements.append(statement)
    sentence = f"On {report.task}, {'; '.join(statements) or 'there is nothing to compare'}."
    at_edge = [f"{result.program} ({result.lr:.3g})" for result in report.results if result.at_edge]
    if at_edge:
        sentence += (
            f" The best learning rate is at the edge of the grid for {_join_with_and(at_edge)}; "
            "another rate may be better."
        )
    return sentence


def _sentence_on_other_tasks(standing: Standing, evaluation: Evaluation) -> str:
    assert standing.verdict_on_measured_tasks is not None
    assert standing.p_holm is not None
    return describe_verdict_on_other_tasks(
        standing.program,
        evaluation.reference,
        len(evaluation.tasks),
        standing.verdict_on_measured_tasks,
        standing.ratio,
        standing.p_holm,
    )


def explain_tables(evaluation: Evaluation) -> str:
    """Return a text that explains the columns and the significance test."""
    seeds = len(evaluation.tasks[0].results[0].losses)
    tuning_seeds = evaluation.tuning_seeds
    return (
        "lr: tuned multiplier of the program's own learning rate. decay: tuned decoupled weight "
        "decay. All contenders had the same tuning budget "
        f"({tuning_seeds} seed{'s' * (tuning_seeds != 1)}). loss: mean and half-width of its 95% "
        f"interval over {seeds} fresh seeds, the same for all. div.: number of seeds that "
        "diverged. A difference is significant if its p-value after Holm's correction for all "
        f"{evaluation.comparisons} comparisons is below 0.05."
    ) + (_OVER_TASKS_EXPLANATION if evaluation.standings else "")


def _join_with_and(phrases: Sequence[str]) -> str:
    """Join phrases as in `a, b and c`."""
    *first, last = phrases
    return f"{', '.join(first)} and {last}" if first else last
