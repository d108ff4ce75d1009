"""Values as statements: what is read once goes where it is read, the rest gets a name."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable

from primitives.export import source
from primitives.graph.nodes import Node, reachable

INLINE = 64
"""Longer expressions get a name."""


class Block:
    """Statements of one function body.

    Args:
        names: the names in use.
        known: whether a value comes from outside of this block.
        leaf: the expression of such a value; None for one that is computed in the block after all.
        write: the code of an op, given the value; see `source.fill`.
        name_for: what a value may be called.
        outputs: all values that will be asked for.
        indent: how far statements are indented.
        lines: where statements are added.
        named: whether a value gets a name although only one other reads it.
    """

    def __init__(
        self,
        names: source.Names,
        known: Callable[[Node], bool],
        leaf: Callable[[Node], ast.expr | None],
        write: Callable[[Node, list[ast.expr]], tuple[str, dict[str, ast.expr]]],
        name_for: Callable[[Node], str],
        outputs: tuple[Node, ...],
        indent: int,
        lines: list[str] | None = None,
        named: Callable[[Node, Node | None], bool] = lambda value, reader: False,
    ):
        self.named = named
        self.indent = " " * indent
        self.names = names
        self.known = known
        self.leaf = leaf
        self.write = write
        self.name_for = name_for
        self.lines: list[str] = [] if lines is None else lines
        self.local: dict[Node, ast.expr] = {}
        self.uses = self._uses(outputs)

    def _uses(self, outputs: tuple[Node, ...]) -> Counter[Node]:
        """How often each value is read, not looking into what is known outside."""
        uses: Counter[Node] = Counter(outputs)
        seen: set[Node] = set()

        def visit(value: Node) -> None:
            if value in seen or (value not in outputs and self.known(value)):
                return
            seen.add(value)
            uses.update(value.args)
            for arg in value.args:
                visit(arg)

        for value in outputs:
            visit(value)
        return uses

    def expression(self, value: Node, *, fresh: bool = False) -> ast.expr:
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

    def operand(self, value: Node, reader: Node | None = None) -> ast.expr:
        """The expression of `value` where `reader` (or a statement of its own) reads it."""
        expression = self.expression(value)
        if (self.uses[value] > 1 or self.named(value, reader)) and not _is_simple(expression):
            return self.assign(value, expression)
        return expression

    def fitted(self, value: Node, around: str) -> ast.expr:
        """The expression of `value`, short enough for a line with the text `around` it."""
        expression = self.operand(value)
        if len(self.indent) + len(around) + len(source.text(expression)) > source.WIDTH:
            return self.assign(value, expression)
        return expression

    def assign(self, value: Node, expression: ast.expr | None = None) -> ast.expr:
        """Gives `value` a name."""
        if value in self.local:
            return self.local[value]
        expression = expression or self.expression(value)
        name = self.names.new(self.name_for(value))
        self.lines += source.assignment(name, expression, len(self.indent))
        self.local[value] = source.name(name)
        return self.local[value]


def _filled(code: str, args: list[ast.expr], extra: dict[str, ast.expr]) -> ast.expr:
    return source.fill(code, **{f"_{n}": arg for n, arg in enumerate(args)}, **extra)


def _is_simple(expression: ast.expr) -> bool:
    """A name or a number."""
    if isinstance(expression, ast.UnaryOp):
        expression = expression.operand
    return isinstance(expression, ast.Name | ast.Constant | ast.Attribute)


def shared(roots: tuple[Node, ...], inside: Callable[[Node], bool]) -> list[Node]:
    """The values, operands first, that more than one root is made of and that are worth keeping.

    Args:
        roots: values that are computed one by one.
        inside: whether a value is computed inside a root (not a leaf, nor a number for the model).
    """
    found: list[Node] = []
    while True:
        known = {*roots, *found}
        counts: Counter[Node] = Counter()
        for root in known:
            counts.update(_parts(root, known, inside))
        several = [value for value in reachable(roots) if counts[value] > 1 and value not in known]
        if not several:
            return [value for value in reachable(roots) if value in set(found)]
        found.append(several[-1])  # what is made of the others


def _parts(root: Node, known: set[Node], inside: Callable[[Node], bool]) -> set[Node]:
    parts: set[Node] = set()
    stack = [arg for arg in root.args if inside(arg)]
    while stack:
        value = stack.pop()
        if value not in parts and value not in known:
            parts.add(value)
            stack += [arg for arg in value.args if inside(arg)]
    return parts
