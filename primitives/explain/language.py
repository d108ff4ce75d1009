"""Tables for the documentation: the ops, in `docs/language.md`; the rules of algebra, in
`docs/simplification.md`.
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
    """How a program writes the op: `x + y`, `interp(x, y, a)`."""
    names = op.operand_names
    return f" {op.infix} ".join(names) if op.infix else f"{op.name}({', '.join(names)})"


def result(op: Op) -> str:
    """The kind of the result: `common`, which its operands broadcast to, or the largest it has."""
    kind = op.results[Kind.TENSOR]
    if not op.operands or kind == Kind.SCALAR:
        return str(Kind.SCALAR)
    return "common" if kind == Kind.TENSOR else str(kind)


def latex(op: Op) -> str:
    """How equations write the op."""
    return op.formula(*[symbol(name, index="") for name in op.operand_names]).latex()


def markdown() -> str:
    """The table of all ops, in the op table's order."""
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
    names = [op.name] * bool(op.infix) + list(op.aliases)
    return op.summary + (f" (also `{'`, `'.join(names)}`)" if names else "")


def rules_markdown() -> str:
    """The table of the rules on values, on equally long forms, and on states."""
    lines = ["| rule | equation | domain |", "| --- | --- | --- |"]
    named = {rule.name for rule in RULES}
    later = [rule for rule in CANONICAL if rule.name not in named]
    rows: list[Rule | StateRule] = [*RULES, *later, *STATE_RULES]
    lines += [f"| {rule.name} | `{rule.equation}` | {rule.domain} |" for rule in rows]
    return "\n".join(lines) + "\n"
