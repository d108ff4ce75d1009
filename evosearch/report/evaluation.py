"""The report of an evaluation: each task, the fitness over several, standings, and in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

from evosearch.evaluation.results import (
    ROUNDING,
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
    paragraphs,
)
from evosearch.statistics import LARGEST_SCORE
from evosearch.verdicts import describe_over_tasks

_TONES = {
    "better": Tone.GOOD,
    "worse": Tone.BAD,
    "tie": Tone.QUIET,
    "undecided": Tone.QUIET,
}
_HERE = {"better": "lower loss", "worse": "higher loss", "tie": "tie"}
"""A verdict that holds for the tasks that were measured, and says nothing of others."""

_HOW_OVER_TASKS = (
    " That holds on these tasks. Over tasks, better or worse is said only where it also holds for "
    "tasks like these: the ratio's interval, which draws tasks, has 1 outside, and the tasks agree "
    "more than by chance (Student's t, Holm's correction for all contenders)."
)


def evaluation_report(evaluation: Evaluation) -> Report:
    """A table for each task, those over several tasks, and what the evaluation says."""
    sections = [_task(report) for report in evaluation.tasks]
    if evaluation.overall:
        sections += [_overall(evaluation), _standings(evaluation)]
    notes = (*paragraphs(*sentences(evaluation)), Note(how(evaluation), Tone.QUIET))
    return Report((*sections, Section(notes=notes)))


def sentences(evaluation: Evaluation) -> list[str]:
    """What the evaluation says: a sentence for each task and, over several, each contender."""
    found = [_task_sentence(report) for report in evaluation.tasks]
    found += [
        _over_tasks(standing, evaluation)
        for standing in evaluation.standings
        if standing.program != evaluation.reference
    ]
    return found


def _task(report: TaskReport) -> Section:
    sharp = any(result.sharpness is not None for result in report.results)
    columns = [
        Column("program", wraps=True),
        Column("lr", ".3g"),
        Column("decay", "g"),
        Column("loss", ""),
        Column("div.", ""),
        *([Column("sharpness", ".3g")] if sharp else []),
        Column("difference", "", missing=""),
        Column("verdict"),
    ]
    rows = [row for result in report.results for row in _rows(result, sharp)]
    title = f"{report.task} ({report.split}): {report.metric}, {report.steps} steps"
    return Section(title, table=Table(tuple(columns), tuple(rows)))


def _rows(result: Result, sharp: bool) -> list[Row]:
    """A row for each reference that a contender is compared with, or one without any."""
    own: tuple[Cell | str | float | None, ...] = (
        result.program,
        result.lr,
        result.decay,
        _loss(result),
        Cell(result.diverged, _diverged(result)),
        *([result.sharpness] if sharp else []),
    )
    if not result.versus:
        return [Row((*own, None, ""))]
    rows = []
    for name, difference in result.versus.items():
        shown = Cell(difference.interval.mean, f"{percent(difference)} vs {name}")
        rows.append(Row((*own, shown, _verdict(difference))))
        own = ("",) * len(own)
    return rows


def _overall(evaluation: Evaluation) -> Section:
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
    here = Cell(verdict, _HERE[verdict], _TONES[verdict])
    return Row((fitness.program, *fitness.interval, here))


def _standings(evaluation: Evaluation) -> Section:
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
                one.program,
                *one.ratio,
                one.wins,
                one.losses,
                one.ties,
                one.mean_rank,
                Cell(one.verdict, tone=_TONES.get(one.verdict, Tone.PLAIN)),
            )
        )
        for one in evaluation.standings
    ]
    title = f"standings: geometric mean of loss / {evaluation.reference}'s loss, 95% over tasks"
    return Section(title, table=Table(columns, tuple(rows)))


def percent(difference: Difference) -> str:
    """A difference of log losses as a change of the loss: `-9.5%`; `>= +300%` at the clip."""
    mean = difference.interval.mean
    if abs(mean) > LARGEST_SCORE - ROUNDING:
        return f"{'>=' if mean > 0 else '<='} {100 * math.expm1(mean):+.0f}%"
    return f"{100 * math.expm1(mean):+.1f}%"


def _loss(result: Result) -> Cell | None:
    loss = result.loss
    if loss is None:
        return None
    return Cell(loss.mean, f"{loss.mean:#.4g} ±{loss.high - loss.mean:.2g}")


def _diverged(result: Result) -> str:
    return f"{result.diverged}/{len(result.losses)}"


def _verdict(difference: Difference) -> Cell:
    return Cell(difference.verdict, tone=_TONES[difference.verdict])


def _task_sentence(report: TaskReport) -> str:
    parts = []
    for result in report.results:
        by_verdict: dict[str, list[str]] = {}
        for name, difference in result.versus.items():
            by_verdict.setdefault(difference.verdict, []).append(name)
        clauses = [
            f"not shown to differ from {_listed(names)}"
            if verdict == "tie"
            else f"{verdict} than {_listed(names)}"
            for verdict, names in by_verdict.items()
        ]
        if result.diverged == len(result.losses):
            parts.append(f"{result.program} diverged on every seed")
        elif clauses:
            some = f", and diverged on {_diverged(result)} seeds" if result.diverged else ""
            parts.append(f"{result.program} is {_listed(clauses)}{some}")
    found = f"On {report.task}, {'; '.join(parts) or 'there is nothing to compare'}."
    at_edge = [f"{result.program} ({result.lr:.3g})" for result in report.results if result.at_edge]
    if at_edge:
        found += (
            f" No best learning rate was found inside those that were tried for {_listed(at_edge)}:"
            " what is said of it is of that rate, and another may do better."
        )
    return found


def _over_tasks(standing: Standing, evaluation: Evaluation) -> str:
    assert standing.on_these is not None
    assert standing.p_holm is not None
    return describe_over_tasks(
        standing.program,
        evaluation.reference,
        len(evaluation.tasks),
        standing.on_these,
        standing.ratio,
        standing.p_holm,
    )


def how(evaluation: Evaluation) -> str:
    """How to read the tables."""
    seeds = len(evaluation.tasks[0].results[0].losses)
    return (
        "lr: the factor on a program's own learning rate, and decay: weight decay outside it, the "
        f"best of as many trials for all, on {evaluation.tuning_seeds} tuning seeds. loss: mean "
        "and half width of its 95% interval "
        f"over {seeds} fresh seeds, the same for all. div.: seeds that diverged. A difference is "
        "real if its p-value, by Holm's correction for all comparisons "
        f"({evaluation.comparisons}), is below 0.05."
    ) + (_HOW_OVER_TASKS if evaluation.standings else "")


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
