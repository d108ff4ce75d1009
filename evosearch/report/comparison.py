"""Reports of runs beside others: searches at equal cost, and what they report against truth."""

from __future__ import annotations

from evosearch.evaluation.audit import Audit
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
from evosearch.runs.curves import Group, RunComparison, Spread
from evosearch.verdicts import describe_bias, warn_of_single_runs

_HOW = (
    "The fitness is that of the champion at a cost, from the seeds that confirmed it and decided "
    "nothing; 0 is tuned AdamW. Mean, lowest and highest over runs that differ in their seeds. The "
    "last cost is all of the cheapest run."
)
_AT_10X = " At 10x: on validation tasks of ten times the work."


def audit_report(audit: Audit) -> Report:
    """A row for each champion, and whether reports and truth agree."""
    columns = (
        Column("program", wraps=True),
        Column("reported", "+.3f"),
        Column("half-width", ".3f"),
        Column("fresh", "+.3f"),
        Column("95% interval", ""),
        Column("difference", "+.4f"),
    )
    rows = [
        Row(
            (
                f"{one.run}#{one.id}",
                one.reported.mean,
                one.half_width,
                one.fresh.mean,
                f"[{one.fresh.low:+.3f}, {one.fresh.high:+.3f}]",
                one.difference,
            )
        )
        for one in audit.champions
    ]
    title = f"confirmed champions on {audit.seeds} fresh seeds each"
    return Report(
        (
            Section(title, table=Table(columns, tuple(rows))),
            Section(notes=paragraphs(describe_bias(audit.mean, audit.bias))),
        )
    )


def comparison_report(comparison: RunComparison) -> Report:
    """Fitness, and validation if there is any, at equal costs; then the tasks."""
    said = [_difference(group, comparison.groups[0]) for group in comparison.groups[1:]]
    single = warn_of_single_runs((group.name, len(group.runs)) for group in comparison.groups)
    if single is not None:
        said.append(single)
    how = _HOW + _AT_10X if comparison.validated else _HOW
    notes = (*paragraphs(*said), Note(how, Tone.QUIET))
    return Report((_at_costs(comparison), _by_task(comparison), Section(notes=notes)))


def _short(cost: float) -> str:
    """Three digits of a large number."""
    return f"{cost:,.0f}" if cost < 1e6 else f"{cost:.3g}"


def _at_costs(comparison: RunComparison) -> Section:
    headers = ["fitness", "lowest", "highest"]
    if comparison.validated:
        headers += ["at 10x", "lowest", "highest"]
    columns = (
        Column(str(comparison.unit)),
        Column("search"),
        *(Column(header, "+.3f") for header in headers),
    )
    rows = []
    for cost in comparison.costs:
        shown = _short(cost)
        for group in comparison.groups:
            runs = len(group.runs)
            numbers = _spread(group.fitness(cost), runs)
            if comparison.validated:
                numbers += _spread(group.validation(cost), runs)
            rows.append(Row((Cell(cost, shown), group.name, *numbers)))
            shown = ""
    title = f"the champion so far at equal cost in {comparison.unit.words}"
    return Section(title, table=Table(columns, tuple(rows)))


def _by_task(comparison: RunComparison) -> Section:
    cost = comparison.costs[-1]
    by_task = {
        f"{group.name} ({len(group.runs)})": group.per_task(cost) for group in comparison.groups
    }
    tasks = next((scores for scores in by_task.values() if scores), {})
    columns = (Column("task", wraps=True), *(Column(name, "+.3f") for name in by_task))
    rows = [Row((task, *(scores.get(task) for scores in by_task.values()))) for task in tasks]
    title = f"mean score on each task at {_short(cost)} (runs)"
    return Section(title, table=Table(columns, tuple(rows)))


def _spread(spread: Spread | None, runs: int) -> list[float | None]:
    """Mean, lowest and highest; one run has no range."""
    if spread is None:
        return [None] * 3
    return list(spread) if runs > 1 else [spread.mean, None, None]


def _difference(group: Group, first: Group) -> str:
    settings = ", ".join(f"{name} = {value}" for name, value in group.settings.items())
    return f"{group.name} differs from {first.name} in: {settings}"
