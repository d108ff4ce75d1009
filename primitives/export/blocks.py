"""Conversion of values to statements: a value that is read once is inlined, others get a name."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable

from primitives.export import source
from primitives.graph.nodes import Node, reachable

MAX_INLINE_LENGTH = 64
"""Maximum number of characters of an expression; parts of longer expressions get names."""


class Block:
    """Statements of one function body.

    Args:
        names: the names in use.
        is_external: whether a value is computed outside of this block.
        leaf: returns the expression of an external value, or None if the block has to compute it.
        write: returns the code of an op and the names in the code; see `Dialect.write`.
        name_for: returns a name for a value; a number is added if the name is in use.
        outputs: all values that `expression` and the other methods will be called with.
        indent: number of spaces before each statement.
        lines: the list to which statements are appended; by default a new one.
        needs_name: whether a value gets a name although only `reader` reads it.
    """

    def __init__(
        self,
        names: source.Names,
        is_external: Callable[[Node], bool],
        leaf: Callable[[Node], ast.expr | None],
        write: Callable[[Node, list[ast.expr]], tuple[str, dict[str, ast.expr]]],
        name_for: Callable[[Node], str],
        outputs: tuple[Node, ...],
        indent: int,
        lines: list[str] | None = None,
        needs_name: Callable[[Node, Node | None], bool] = lambda value, reader: False,
    ):
        self.needs_name = needs_name
        self.indent = " " * indent
        self.names = names
        self.is_external = is_external
        self.leaf = leaf
        self.write = write
        self.name_for = name_for
        self.lines: list[str] = [] if lines is None else lines
        self.local: dict[Node, ast.expr] = {}  # the names of values that have one
        self.uses = self._uses(outputs)

    def _uses(self, outputs: tuple[Node, ...]) -> Counter[Node]:
        """Return the number of reads of each value in this block."""
        uses: Counter[Node] = Counter(outputs)
        visited: set[Node] = set()

        def visit(value: Node) -> None:
            if value in visited or (value not in outputs and self.is_external(value)):
                return
            visited.add(value)
            uses.update(value.args)
            for arg in value.args:
                visit(arg)

        for value in outputs:
            visit(value)
        return uses

    def expression(self, value: Node, *, compute: bool = False) -> ast.expr:
        """Return an expression for `value`, after adding the statements that it depends on.

        Args:
            value: the value to write.
            compute: whether to compute `value` here even if it is external.
        """
        if value in self.local:
            return self.local[value]
        leaf = None if compute else self.leaf(value)
        if leaf is not None:
            return leaf
        args = [self.operand(arg, value) for arg in value.args]
        code, other_operands = self.write(value, args)
        for index, arg in enumerate(value.args):
            if source.repeats(code, f"_{index}") and not _is_simple(args[index]):
                args[index] = self.assign(arg, args[index])
        while len(source.text(_filled(code, args, other_operands))) > MAX_INLINE_LENGTH:
            lengths = [0 if _is_simple(arg) else len(source.text(arg)) for arg in args]
            longest = max(range(len(args)), key=lengths.__getitem__, default=0)
            if not args or not lengths[longest]:
                break
            args[longest] = self.assign(value.args[longest], args[longest])
        return _filled(code, args, other_operands)

    def operand(self, value: Node, reader: Node | None = None) -> ast.expr:
        """Return `value` as an operand: a name if read more than once, else an expression.

        Args:
            value: the value to write.
            reader: the value that has `value` as an operand; None for a statement.
        """
        expression = self.expression(value)
        if (self.uses[value] > 1 or self.needs_name(value, reader)) and not _is_simple(expression):
            return self.assign(value, expression)
        return expression

    def fitted(self, value: Node, context: str) -> ast.expr:
        """Return `value` as an operand that fits on a line together with the text `context`."""
        expression = self.operand(value)
        if len(self.indent) + len(context) + len(source.text(expression)) > source.WIDTH:
            return self.assign(value, expression)
        return expression

    def assign(self, value: Node, expression: ast.expr | None = None) -> ast.expr:
        """Add a statement that assigns `value` to a new name, and return the name."""
        if value in self.local:
            return self.local[value]
        expression = expression or self.expression(value)
        name = self.names.new(self.name_for(value))
        self.lines += source.assignment(name, expression, len(self.indent))
        self.local[value] = source.name(name)
        return self.local[value]


def _filled(code: str, args: list[ast.expr], other_operands: dict[str, ast.expr]) -> ast.expr:
    return source.fill(
        code, **{f"_{index}": arg for index, arg in enumerate(args)}, **other_operands
    )


def _is_simple(expression: ast.expr) -> bool:
    """Whether an expression is a name or a number."""
    if isinstance(expression, ast.UnaryOp):
        expression = expression.operand
    return isinstance(expression, ast.Name | ast.Constant | ast.Attribute)


def shared(roots: tuple[Node, ...], is_inner: Callable[[Node], bool]) -> list[Node]:
    """Return the values that several roots depend on, operands first.

    Of values that depend on each other only the outermost value is included, unless other values
    read the inner values.

    Args:
        roots: values that are computed one by one.
        is_inner: whether a value is computed as part of a root. False for leaves and for values of
            kind scalar.
    """
    shared_values: list[Node] = []
    while True:
        separately_computed = {*roots, *shared_values}
        counts: Counter[Node] = Counter()
        for root in separately_computed:
            counts.update(_parts(root, separately_computed, is_inner))
        candidates = [
            value
            for value in reachable(roots)
            if counts[value] > 1 and value not in separately_computed
        ]
        if not candidates:
            return [value for value in reachable(roots) if value in set(shared_values)]
        shared_values.append(
            candidates[-1]
        )  # operands come first, so the last candidate is outermost


def _parts(
    root: Node, separately_computed: set[Node], is_inner: Callable[[Node], bool]
) -> set[Node]:
    """Return the values computed as part of `root`, without those in `separately_computed`."""
    parts: set[Node] = set()
    stack = [arg for arg in root.args if is_inner(arg)]
    while stack:
        value = stack.pop()
        if value not in parts and value not in separately_computed:
            parts.add(value)
            stack += [arg for arg in value.args if is_inner(arg)]
    return parts
