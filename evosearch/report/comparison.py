"""Reports of `evosearch compare` (searches at equal cost) and `evosearch audit`.

An audit compares the reported fitness of champions with their fitness on fresh seeds.
"""

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
    plain_notes,
)
from evosearch.runs.curves import Group, RunComparison, Spread
from evosearch.verdicts import describe_bias, warn_of_single_runs

_EXPLANATION = (
    "fitness: fitness of the champion at that cost, on its confirming seeds; 0 is tuned AdamW. "
    "Mean, lowest and highest are over runs that differ only in their seeds. The last cost is the "
    "total cost of the cheapest run."
)
_EXPLANATION_OF_10X = " at 10x: fitness on validation tasks with ten times the work."


def audit_report(audit: Audit) -> Report:
    """Return a table of champions, and a sentence on whether their reported fitness is biased."""
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
                f"{champion.run}#{champion.id}",
                champion.reported.mean,
                champion.half_width,
                champion.fresh.mean,
                f"[{champion.fresh.low:+.3f}, {champion.fresh.high:+.3f}]",
                champion.difference,
            )
        )
        for champion in audit.champions
    ]
    title = f"confirmed champions on {audit.seeds} fresh seeds each"
    return Report(
        (
            Section(title, table=Table(columns, tuple(rows))),
            Section(notes=plain_notes(describe_bias(audit.mean_difference, audit.bias_interval))),
        )
    )


def comparison_report(comparison: RunComparison) -> Report:
    """Return the fitness of each group at equal costs, and its scores by task."""
    first, *others = comparison.groups
    sentences = [_describe_difference(group, first) for group in others]
    warning = warn_of_single_runs((group.name, len(group.runs)) for group in comparison.groups)
    if warning is not None:
        sentences.append(warning)
    explanation = _EXPLANATION + _EXPLANATION_OF_10X if comparison.validated else _EXPLANATION
    notes = (*plain_notes(*sentences), Note(explanation, Tone.QUIET))
    return Report((_fitness_section(comparison), _task_section(comparison), Section(notes=notes)))


def _format_cost(cost: float) -> str:
    """Return a cost as text; costs from a million on have three significant digits."""
    return f"{cost:,.0f}" if cost < 1e6 else f"{cost:.3g}"


def _fitness_section(comparison: RunComparison) -> Section:
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
        for index, group in enumerate(comparison.groups):
            runs = len(group.runs)
            values = _spread_values(group.fitness(cost), runs)
            if comparison.validated:
                values += _spread_values(group.validation(cost), runs)
            # Rows with the same cost show the cost once.
            cost_text = _format_cost(cost) if index == 0 else ""
            rows.append(Row((Cell(cost, cost_text), group.name, *values)))
    title = f"fitness of the champion so far, at equal cost in {comparison.unit.words}"
    return Section(title, table=Table(columns, tuple(rows)))


def _task_section(comparison: RunComparison) -> Section:
    cost = comparison.costs[-1]
    scores_by_group = {
        f"{group.name} ({len(group.runs)})": group.per_task(cost) for group in comparison.groups
    }
    tasks = next((scores for scores in scores_by_group.values() if scores), {})
    columns = (Column("task", wraps=True), *(Column(name, "+.3f") for name in scores_by_group))
    rows = [
        Row((task, *(scores.get(task) for scores in scores_by_group.values()))) for task in tasks
    ]
    title = f"mean score on each task at cost {_format_cost(cost)} (number of runs)"
    return Section(title, table=Table(columns, tuple(rows)))


def _spread_values(spread: Spread | None, runs: int) -> list[float | None]:
    """Return mean, lowest and highest value; lowest and highest are None for a single run."""
    if spread is None:
        return [None] * 3
    return list(spread) if runs > 1 else [spread.mean, None, None]


def _describe_difference(group: Group, first: Group) -> str:
    settings = ", ".join(f"{name} = {value}" for name, value in group.settings.items())
    return f"{group.name} differs from {first.name} in: {settings}"
