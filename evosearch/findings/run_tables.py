"""Audits and comparisons of runs as tables for a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from evosearch.evaluating.report_tables import table
from evosearch.findings.audit import Audit
from evosearch.findings.curves import Group, RunComparison, Spread
from evosearch.statistics import Interval


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
    console.print(verdict(audit), highlight=False, markup=False)


def verdict(audit: Audit) -> str:
    """Whether the mean of (reported - fresh) is zero, as far as can be told."""
    if audit.standard_error is None:
        return (
            f"reported - fresh is {audit.mean:+.4f}; one champion cannot tell chance from a bias: "
            "audit several runs"
        )
    where = (
        "within two standard errors of zero"
        if audit.agrees
        else ("more than two standard errors from zero")
    )
    means = (
        "the reports hold"
        if audit.agrees
        else ("the reports flatter" if audit.mean > 0 else "the reports understate")
    )
    return (
        f"The mean of reported - fresh over {len(audit.champions)} champions is "
        f"{audit.mean:+.4f}, with a standard error of {audit.standard_error:.4f}: {where}, so "
        f"{means}."
    )


def render_comparison(comparison: RunComparison, console: Console) -> None:
    """Prints fitness, and validation if there is any, at equal costs; then the tasks."""
    console.print(_at_costs(comparison))
    console.print()
    console.print(_by_task(comparison))
    console.print()
    for group in comparison.groups[1:]:
        console.print(_difference(group, comparison.groups[0]), highlight=False, markup=False)
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
            cells = [shown, group.name, *_spread(group.fitness(cost))]
            if comparison.validated:
                cells += _spread(group.validation(cost))
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


def _spread(spread: Spread | None) -> list[str]:
    return ["-"] * 3 if spread is None else [f"{number:+.3f}" for number in spread]


def _difference(group: Group, first: Group) -> str:
    settings = ", ".join(f"{name} = {value}" for name, value in group.settings.items())
    return f"{group.name} differs from {first.name} in: {settings}"


def interval_text(interval: Interval) -> str:
    """`[+0.052, +0.071]`."""
    return f"[{interval.low:+.3f}, {interval.high:+.3f}]"
