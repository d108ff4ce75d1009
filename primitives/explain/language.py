"""Markdown tables for the documentation.

The table of ops is in `docs/language.md`, the table of rewrite rules in `docs/simplification.md`.
"""

from __future__ import annotations

from primitives.algebra.rule import Rule
from primitives.algebra.rules import CANONICAL, RULES
from primitives.algebra.states import STATE_RULES, StateRule
from primitives.kinds import Kind
from primitives.op import Op
from primitives.ops import OPS
from primitives.text.notation import symbol

HEADINGS = ("op", "operands", "result", "set", "meaning", "LaTeX")


def call(op: Op) -> str:
    """Return an example call of the op in a program, such as `x + y` or `interp(x, y, a)`."""
    names = op.operand_names
    return f" {op.infix} ".join(names) if op.infix else f"{op.name}({', '.join(names)})"


def result(op: Op) -> str:
    """Return the kind of the op's result.

    `common` means the kind to which the operands broadcast. Otherwise the result is the kind for
    tensor operands, which is the largest.
    """
    kind = op.results[Kind.TENSOR]
    if not op.operands or kind == Kind.SCALAR:
        return str(Kind.SCALAR)
    return "common" if kind == Kind.TENSOR else str(kind)


def latex(op: Op) -> str:
    """Return the LaTeX formula of the op."""
    return op.formula(*[symbol(name, index="") for name in op.operand_names]).latex()


def markdown() -> str:
    """Return the table of all ops, in the order of `OPS`."""
    rows = [
        (
            f"`{call(op)}`",
            op.operands or "-",
            result(op),
            op.op_set,
            _meaning(op),
            f"$`{latex(op)}`$",
        )
        for op in OPS.values()
    ]
    lines = [HEADINGS, ("---",) * len(HEADINGS), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _meaning(op: Op) -> str:
    other_names = [op.name] * bool(op.infix) + list(op.aliases)
    return op.summary + (f" (also `{'`, `'.join(other_names)}`)" if other_names else "")


def rules_markdown() -> str:
    """Return the table of all rewrite rules.

    The order is: rules that shorten expressions, rules that choose a form among equally long ones,
    rules on states.
    """
    lines = ["| rule | equation | domain |", "| --- | --- | --- |"]
    names = {rule.name for rule in RULES}
    canonical_only = [rule for rule in CANONICAL if rule.name not in names]
    rows: list[Rule | StateRule] = [*RULES, *canonical_only, *STATE_RULES]
    lines += [f"| {rule.name} | `{rule.equation}` | {rule.domain} |" for rule in rows]
    return "\n".join(lines) + "\n"
