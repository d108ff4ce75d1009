"""All rules as one table, for the documentation."""

from __future__ import annotations

from primitives.algebra.rule import Rule
from primitives.algebra.rules import CANONICAL, RULES
from primitives.algebra.states import STATE_RULES, StateRule


def markdown() -> str:
    """The rules on values, on states, and on equally long forms, as a table in Markdown."""
    lines = ["| rule | equation | domain |", "| --- | --- | --- |"]
    named = {rule.name for rule in RULES}
    later = [rule for rule in CANONICAL if rule.name not in named]
    rows: list[Rule | StateRule] = [*RULES, *later, *STATE_RULES]
    lines += [f"| {rule.name} | `{rule.equation}` | {rule.domain} |" for rule in rows]
    return "\n".join(lines) + "\n"
