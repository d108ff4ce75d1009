"""Audits and comparisons of runs as tables for a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from evosearch.evaluation.audit import Audit
from evosearch.report.evaluation_tables import table
from evosearch.runs.curves import Group, RunComparison, Spread
from evosearch.statistics import Interval
from evosearch.verdicts import bias_in_words, single_runs


def render_audit(audit: Audit, console: Console) -> None:
    """Prints a row for each champion, and whether reports and truth agree."""
    columns = ("program", "reported", "half-width", "fresh", "95% interval", "difference")
    made = table(f"confirmed champions on {audit.seeds} fresh seeds each", columns)
    for one in audit.champions:
        made.add_row(
            f"{one.run}#{one.id}",
            f"{one.reported.mean:+.3f}",
            f"{one.half_width:.3f}",
            f"{one.fresh.mean:+.3f}",
            interval_text(one.fresh),
            f"{one.difference:+.4f}",
        )
    console.print(made)
    console.print()
    console.print(bias_in_words(audit.mean, audit.bias), highlight=False, markup=False)


def render_comparison(comparison: RunComparison, console: Console) -> None:
    """Prints fitness, and validation if there is any, at equal costs; then the tasks."""
    console.print(_at_costs(comparison))
    console.print()
    console.print(_by_task(comparison))
    console.print()
    for group in comparison.groups[1:]:
        console.print(_difference(group, comparison.groups[0]), highlight=False, markup=False)
    note = single_runs((group.name, len(group.runs)) for group in comparison.groups)
    if note is not None:
        console.print(note, highlight=False, markup=False)
    how = _HOW + _AT_10X if comparison.validated else _HOW
    console.print(Text(how, style="dim"))


_HOW = (
    "The fitness is that of the champion at a cost, from the seeds that confirmed it and decided "
    "nothing; 0 is tuned AdamW. Mean, lowest and highest over runs that differ in their seeds. The "
    "last cost is all of the cheapest run."
)
_AT_10X = " At 10x: on validation tasks of ten times the work."


def _short(cost: float) -> str:
    """Three digits of a large number."""
    return f"{cost:,.0f}" if cost < 1e6 else f"{cost:.3g}"


def _at_costs(comparison: RunComparison) -> Table:
    columns = [str(comparison.unit), "search", "fitness", "lowest", "highest"]
    if comparison.validated:
        columns += ["at 10x", "lowest", "highest"]
    made = table(f"the champion so far at equal cost in {comparison.unit.words}", columns)
    made.columns[1].justify = "left"
    for column in made.columns:
        column.no_wrap = True
    for cost in comparison.costs:
        shown = _short(cost)
        for group in comparison.groups:
            runs = len(group.runs)
            cells = [shown, group.name, *_spread(group.fitness(cost), runs)]
            if comparison.validated:
                cells += _spread(group.validation(cost), runs)
            made.add_row(*cells)
            shown = ""
    return made


def _by_task(comparison: RunComparison) -> Table:
    cost = comparison.costs[-1]
    by_task = {
        f"{group.name} ({len(group.runs)})": group.per_task(cost) for group in comparison.groups
    }
    tasks = list(next((scores for scores in by_task.values() if scores), ()))
    made = table(f"mean score on each task at {_short(cost)} (runs)", ("task", *by_task))
    for task in tasks:
        scored = [f"{scores[task]:+.3f}" if scores else "-" for scores in by_task.values()]
        made.add_row(task, *scored)
    return made


def _spread(spread: Spread | None, runs: int) -> list[str]:
    """Mean, lowest and highest; one run has no range."""
    if spread is None:
        return ["-"] * 3
    numbers = [f"{number:+.3f}" for number in spread]
    return numbers if runs > 1 else [numbers[0], "-", "-"]


def _difference(group: Group, first: Group) -> str:
    settings = ", ".join(f"{name} = {value}" for name, value in group.settings.items())
    return f"{group.name} differs from {first.name} in: {settings}"


def interval_text(interval: Interval) -> str:
    """`[+0.052, +0.071]`."""
    return f"[{interval.low:+.3f}, {interval.high:+.3f}]"
