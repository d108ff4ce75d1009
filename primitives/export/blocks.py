"""Values as statements: what is read once goes where it is read, the rest gets a name."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Callable

from primitives.export import source
from primitives.export.values import Value, reachable

INLINE = 64
"""Longer expressions get a name."""


class Block:
    """Statements of one function body.

    Args:
        names: the names in use.
        known: whether a value comes from outside of this block.
        leaf: the expression of such a value; None for one that is computed in the block after all.
        write: the code of an op, given the value; see `source.fill`.
        outputs: all values that will be asked for.
        indent: how far statements are indented.
        lines: where statements are added.
        named: whether a value gets a name although only one other reads it.
    """

    def __init__(
        self,
        names: source.Names,
        known: Callable[[Value], bool],
        leaf: Callable[[Value], ast.expr | None],
        write: Callable[[Value, list[ast.expr]], tuple[str, dict[str, ast.expr]]],
        outputs: tuple[Value, ...],
        indent: int,
        lines: list[str] | None = None,
        named: Callable[[Value, Value | None], bool] = lambda value, reader: False,
    ):
        self.named = named
        self.indent = " " * indent
        self.names = names
        self.known = known
        self.leaf = leaf
        self.write = write
        self.lines: list[str] = [] if lines is None else lines
        self.local: dict[Value, ast.expr] = {}
        self.uses = self._uses(outputs)

    def _uses(self, outputs: tuple[Value, ...]) -> Counter[Value]:
        """How often each value is read, not looking into what is known outside."""
        uses: Counter[Value] = Counter(outputs)
        seen: set[Value] = set()

        def visit(value: Value) -> None:
            if value in seen or (value not in outputs and self.known(value)):
                return
            seen.add(value)
            uses.update(value.args)
            for arg in value.args:
                visit(arg)

        for value in outputs:
            visit(value)
        return uses

    def expression(self, value: Value, *, fresh: bool = False) -> ast.expr:
        """The expression of `value`; what it needs is added to the block's lines before.

        `fresh` looks into the value itself even if it is known outside.
        """
        if value in self.local:
            return self.local[value]
        known = None if fresh else self.leaf(value)
        if known is not None:
            return known
        args = [self.operand(arg, value) for arg in value.args]
        code, extra = self.write(value, args)
        for place, arg in enumerate(value.args):
            if source.repeats(code, f"_{place}") and not _is_simple(args[place]):
                args[place] = self.assign(arg, args[place])
        while len(source.text(_filled(code, args, extra))) > INLINE:
            lengths = [0 if _is_simple(arg) else len(source.text(arg)) for arg in args]
            longest = max(range(len(args)), key=lengths.__getitem__, default=0)
            if not args or not lengths[longest]:
                break
            args[longest] = self.assign(value.args[longest], args[longest])
        return _filled(code, args, extra)

    def operand(self, value: Value, reader: Value | None = None) -> ast.expr:
        """The expression of `value` where `reader` (or a statement of its own) reads it."""
        expression = self.expression(value)
        if (self.uses[value] > 1 or self.named(value, reader)) and not _is_simple(expression):
            return self.assign(value, expression)
        return expression

    def fitted(self, value: Value, around: str) -> ast.expr:
        """The expression of `value`, short enough for a line with the text `around` it."""
        expression = self.operand(value)
        if len(self.indent) + len(around) + len(source.text(expression)) > source.WIDTH:
            return self.assign(value, expression)
        return expression

    def assign(self, value: Value, expression: ast.expr | None = None) -> ast.expr:
        """Gives `value` a name."""
        if value in self.local:
            return self.local[value]
        expression = expression or self.expression(value)
        name = self.names.new(described(value))
        self.lines += source.assignment(name, expression, len(self.indent))
        self.local[value] = source.name(name)
        return self.local[value]


def described(value: Value) -> str:
    """What `value` may be called: the program's word for it, or one for its op."""
    if not re.fullmatch(r"v\d+(_\w+)?", value.name):
        return value.name
    if value.op == "subtract" and value.args[1].op == "power":
        base, exponent = value.args[1].args
        if base.op == "hyperparameter" and exponent.op == "t":
            return "bias_correction" + "".join(filter(str.isdigit, base.name))
    return _WORDS.get(value.op, value.op)


_WORDS = {
    "add": "total",
    "subtract": "difference",
    "multiply": "product",
    "divide": "ratio",
    "sqrt": "root",
    "square": "squared",
    "maximum": "larger",
    "minimum": "smaller",
    "interp": "average",
    "ema": "average",
    "total": "total",
}


def _filled(code: str, args: list[ast.expr], extra: dict[str, ast.expr]) -> ast.expr:
    return source.fill(code, **{f"_{n}": arg for n, arg in enumerate(args)}, **extra)


def _is_simple(expression: ast.expr) -> bool:
    """A name or a number."""
    if isinstance(expression, ast.UnaryOp):
        expression = expression.operand
    return isinstance(expression, ast.Name | ast.Constant | ast.Attribute)


def shared(roots: tuple[Value, ...], inside: Callable[[Value], bool]) -> list[Value]:
    """The values, operands first, that more than one root is made of and that are worth keeping.

    Args:
        roots: values that are computed one by one.
        inside: whether a value is computed inside a root (not a leaf, nor a number for the model).
    """
    found: list[Value] = []
    while True:
        known = {*roots, *found}
        counts: Counter[Value] = Counter()
        for root in known:
            counts.update(_parts(root, known, inside))
        several = [value for value in reachable(roots) if counts[value] > 1 and value not in known]
        if not several:
            return [value for value in reachable(roots) if value in set(found)]
        found.append(several[-1])  # what is made of the others


def _parts(root: Value, known: set[Value], inside: Callable[[Value], bool]) -> set[Value]:
    parts: set[Value] = set()
    stack = [arg for arg in root.args if inside(arg)]
    while stack:
        value = stack.pop()
        if value not in parts and value not in known:
            parts.add(value)
            stack += [arg for arg in value.args if inside(arg)]
    return parts
