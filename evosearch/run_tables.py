"""Audits and comparisons of runs as tables for a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from evosearch.audit import Audit
from evosearch.report_tables import table
from evosearch.statistics import Interval


def render_audit(audit: Audit, console: Console) -> None:
    """Prints a row for each champion, and whether reports and truth agree."""
    columns = ("program", "reported", "half-width", "fresh", "95% interval", "difference")
    made = table(f"confirmed champions on {audit.seeds} fresh seeds each", columns)
    for one in audit.champions:
        made.add_row(
            escape(f"{one.run}#{one.id}"),
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


def interval_text(interval: Interval) -> str:
    """`[+0.052, +0.071]`."""
    return f"[{interval.low:+.3f}, {interval.high:+.3f}]"
