"""Evaluations and benchmarks as tables for a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from evosearch.evaluation.results import (
    ROUNDING,
    Difference,
    Evaluation,
    Result,
    Standing,
    TaskReport,
)
from evosearch.statistics import LARGEST_SCORE
from evosearch.verdicts import over_tasks_in_words

_STYLES = {"better": "green", "worse": "red", "tie": "dim", "undecided": "dim"}
_HERE = {"better": "lower loss", "worse": "higher loss", "tie": "tie"}
"""A verdict that holds for the tasks that were measured, and says nothing of others."""


_HOW_OVER_TASKS = (
    " That holds on these tasks. Over tasks, better or worse is said only where it also holds for "
    "tasks like these: the ratio's interval, which draws tasks, has 1 outside, and the tasks agree "
    "more than by chance (Student's t, Holm's correction for all contenders)."
)


def render(evaluation: Evaluation, console: Console) -> None:
    """Prints a table for each task, one of the fitness over several, and what follows in words."""
    for report in evaluation.tasks:
        console.print(_task_table(report))
        console.print()
    if evaluation.overall:
        console.print(_overall_table(evaluation))
        console.print()
        console.print(_standings_table(evaluation))
        console.print()
    for sentence in sentences(evaluation):
        console.print(sentence, highlight=False, markup=False)
    console.print(Text(how(evaluation), style="dim"))


def render_benchmark(document: Mapping[str, Any], console: Console) -> None:
    """Prints what `benchmark.bench` measured."""
    made = table(
        f"One training on {document['device']}: ms, and times the floor",
        ("weights", "steps", "program", "floor", "interpreter", "jit program", "jit update"),
    )
    for row in document["sizes"]:
        ways = ("interpreter", "jit_per_program", "jit_update")
        cells = [f"{row[f'{way}_ms']:.0f} ({row['ratios'][way]:.3g}x)" for way in ways]
        floor = f"{row['fused_ms']:.0f}"
        made.add_row(f"{row['weights']:,}", str(row["steps"]), row["program"], floor, *cells)
    console.print(made)
    console.print()
    for row in document["sizes"]:
        console.print(
            f"{row['weights']:,} weights, {row['program']}: the {row['engine']} engine is picked "
            f"for one training, at {row['engine_to_floor_and_compile']:.2g}x floor and compile "
            f"({row['compile_ms']:.0f} ms)",
            highlight=False,
        )
    if document["abstract_us"] is not None:
        console.print(
            f"A mutation with abstract execution takes {document['abstract_us']:.0f} microseconds.",
            highlight=False,
        )
    if document["search"] is not None:
        console.print(search_sentence(document["search"]), highlight=False)


def search_sentence(search: Mapping[str, float]) -> str:
    """How fast a timed search was, from `benchmark.search_speed`."""
    return (
        f"A search with the quick preset generates {search['generated_per_second']:.0f} and "
        f"measures {search['measured_per_second']:.1f} programs per second, keeps "
        f"{search['cpu_seconds_per_second']:.2f} cores busy and needs "
        f"{search['startup_seconds']:.1f} s to its first measured child."
    )


def sentences(evaluation: Evaluation) -> list[str]:
    """What the evaluation says: a sentence for each task and, over several, each contender."""
    found = [_task_sentence(report) for report in evaluation.tasks]
    found += [
        _over_tasks(standing, evaluation)
        for standing in evaluation.standings
        if standing.program != evaluation.reference
    ]
    return found


def table(title: str, columns: Sequence[str]) -> Table:
    """An empty table without frames; the first column, `program` and verdicts are text."""
    made = Table(
        title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=0
    )
    made.padding = (0, 2, 0, 0)
    for number, column in enumerate(columns):
        words = number == 0 or column in ("program", "verdict", "on these")
        made.add_column(
            column,
            justify="left" if words else "right",
            no_wrap=number > 0,
            overflow="fold",
            header_style="bold",
        )
    return made


def _task_table(report: TaskReport) -> Table:
    title = f"{report.task} ({report.split}): {report.metric}, {report.steps} steps"
    sharp = any(result.sharpness is not None for result in report.results)
    columns = ["program", "lr", "decay", "loss", "div.", "difference", "verdict"]
    made = table(title, [*columns[:5], "sharpness", *columns[5:]] if sharp else columns)
    for result in report.results:
        settings = (f"{result.lr:.3g}", f"{result.decay:g}")
        cells = [result.program, *settings, _loss(result), _diverged(result)]
        if sharp:
            cells.append("-" if result.sharpness is None else f"{result.sharpness:.3g}")
        for name, difference in result.versus.items():
            made.add_row(*cells, f"{percent(difference)} vs {name}", _verdict(difference))
            cells = [""] * len(cells)
        if not result.versus:
            made.add_row(*cells, "", "")
    return made


def _overall_table(evaluation: Evaluation) -> Table:
    title = (
        f"on these {len(evaluation.tasks)} tasks: log({evaluation.reference}'s loss / loss), "
        "95% over seeds"
    )
    made = table(title, ("program", "fitness", "low", "high", "on these"))
    for fitness in evaluation.overall:
        numbers = [f"{number:+.3f}" for number in fitness.interval]
        if fitness.difference is None:
            made.add_row(fitness.program, "0", "", "", "the reference")
        else:
            verdict = fitness.difference.verdict
            made.add_row(fitness.program, *numbers, Text(_HERE[verdict], style=_STYLES[verdict]))
    return made


def _standings_table(evaluation: Evaluation) -> Table:
    title = f"standings: geometric mean of loss / {evaluation.reference}'s loss, 95% over tasks"
    columns = ("program", "ratio", "low", "high", "wins", "losses", "ties", "mean rank", "verdict")
    made = table(title, columns)
    for standing in evaluation.standings:
        counts = (standing.wins, standing.losses, standing.ties)
        made.add_row(
            standing.program,
            *(f"{number:.3f}" for number in standing.ratio),
            *map(str, counts),
            f"{standing.mean_rank:.1f}",
            Text(standing.verdict, style=_STYLES.get(standing.verdict, "")),
        )
    return made


def percent(difference: Difference) -> str:
    """A difference of log losses as a change of the loss: `-9.5%`; `>= +300%` at the clip."""
    mean = difference.interval.mean
    if abs(mean) > LARGEST_SCORE - ROUNDING:
        return f"{'>=' if mean > 0 else '<='} {100 * math.expm1(mean):+.0f}%"
    return f"{100 * math.expm1(mean):+.1f}%"


def _loss(result: Result) -> str:
    loss = result.loss
    if loss is None:
        return "-"
    return f"{loss.mean:#.4g} ±{loss.high - loss.mean:.2g}"


def _diverged(result: Result) -> str:
    return f"{result.diverged}/{len(result.losses)}"


def _verdict(difference: Difference) -> Text:
    return Text(difference.verdict, style=_STYLES[difference.verdict])


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
    return over_tasks_in_words(
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
