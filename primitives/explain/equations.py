r"""Conversion of programs to equations, as LaTeX and as plain text.

Only live statements are written. A value that is used once is inlined into the expression that uses
it, unless it has a descriptive name or the expression would get too large. Every other value has
its own equation. States have a time index: m_{t-1} is the value before a step, m_t the value after.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from primitives.graph.nodes import GRADIENT, STATE, Node
from primitives.graph.statements import StatementGraph
from primitives.kinds import Kind
from primitives.op import Op
from primitives.program import Program
from primitives.text.formula import Formula, formula
from primitives.text.notation import Cases, Symbol, letter, symbol

_MAX_INLINE_SIZE = 8
"""Maximum number of symbols and numbers in an inlined expression."""
_MAX_INLINE_HEIGHT = 2
"""Maximum depth of nested fractions in an inlined expression."""

_GENERIC_NAME = re.compile(r"v\d+|update\d*")
"""Names that do not describe a value: `update`, and names that the parser generates."""


@dataclass(frozen=True)
class Equation:
    """The equation `left = right`.

    Attributes:
        left: the symbol that is defined.
        right: its value.
        statement: index of the statement that computes the value. None for the initial value of a
            state, for a state that no statement changes, and for the change of the weights.

    Example:
        >>> from primitives import zoo
        >>> first = equations(zoo.load("momentum"))[0]
        >>> print(first.left.latex(), "=", first.right.latex())
        m_t = 0.9 m_{t-1} + g_t
        >>> first.statement
        1
    """

    left: Formula
    right: Formula
    statement: int | None = None

    def __str__(self) -> str:
        return f"{self.left.plain()} = {self.right.plain()}"


def to_latex(program: Program) -> str:
    r"""Return the equations of one step in an `align*` environment.

    The last equation gives the new weights.

    For `momentum`:

        \begin{align*}
            m_t &= 0.9 m_{t-1} + g_t \\
            w_t &= w_{t-1} - \eta_t m_t
        \end{align*}

    Each constant is written as the shortest decimal that rounds to its float32 value, and `lr` as
    \eta_t. As everywhere in the language, x / 0 is 0.

    Raises:
        ProgramError: the program is not valid.

    Example:
        >>> from primitives import zoo
        >>> print(to_latex(zoo.load("sgd")))
        \begin{align*}
            w_t &= w_{t-1} - \eta_t g_t
        \end{align*}
    """
    lines = [
        f"    {equation.left.latex()} &= {equation.right.latex()}"
        for equation in equations(program)
    ]
    return "\n".join([r"\begin{align*}", " \\\\\n".join(lines), r"\end{align*}"])


def equations(program: Program) -> tuple[Equation, ...]:
    """Return the equations of one step; `str` of an equation is plain text.

    Raises:
        ProgramError: the program is not valid.

    Example:
        >>> from primitives import zoo
        >>> for equation in equations(zoo.load("momentum")):
        ...     print(equation)
        m[t] = 0.9 * m[t-1] + g[t]
        w[t] = w[t-1] - lr[t] * m[t]
    """
    return _Writer(program).equations()


def uses(op: Op) -> tuple[int, ...]:
    """Return how often the formula of an op contains each operand."""
    operands = [Symbol(f"<{index}>", "") for index in range(op.arity)]
    latex = op.formula(*operands).latex()
    return tuple(latex.count(operand.latex_text) for operand in operands)


class _Writer(StatementGraph):
    """Chooses the symbols of one program and the values that have their own equation."""

    def __init__(self, program: Program):
        super().__init__(program)
        self.state_of = {self.next_values[state]: state for state in self.live_states}
        self.letter_counts = Counter({letter("t"): 1})  # number of variables with each letter
        self.primes: dict[Node, int] = {}  # number of primes of each parameter's symbol
        self.formulas: dict[Node, Formula] = {
            constant: formula(constant.value) for constant in self.positions if constant.is_constant
        }
        self.uses = self._count_uses()
        self.name_counts = Counter(node.name for node in (*self.parameters, *self.live_statements))

    def equations(self) -> tuple[Equation, ...]:
        written = []
        for leaf, parameter in zip(self.parameters, self.program.parameters, strict=True):
            self.formulas[leaf] = self._parameter_symbol(leaf)
            if parameter.initial and leaf in self.live_states:
                written.append(Equation(self._symbol_at(leaf, "0"), formula(parameter.initial)))
        for node in self.live_statements:
            value = node.op_entry.formula(*[self.formulas[arg] for arg in node.args])
            name = self._statement_symbol(node, value)
            if name is not None:
                written.append(Equation(name, value, self.index(node)))
            self.formulas[node] = name or value
        unchanged = [state for state in self.live_states if self.next_values[state] is state]
        written += [
            Equation(self._symbol_at(state, "t"), self.formulas[state]) for state in unchanged
        ]
        update = self.formulas[self.update]
        weight = self.program.weight
        return (*written, Equation(symbol(weight), symbol(weight, "t-1") - update))

    def _count_uses(self) -> Counter[Node]:
        """Count how often the formulas contain each value."""
        counts = Counter([self.update])
        for node in self.live_statements:
            for operand, use_count in zip(node.args, uses(node.op_entry), strict=True):
                counts[operand] += use_count
        return counts

    def _new_primes(self, name: str) -> int:
        """Return the number of primes for one more variable with the letter of `name`."""
        self.letter_counts[letter(name)] += 1
        return self.letter_counts[letter(name)] - 1

    def _parameter_symbol(self, leaf: Node) -> Symbol:
        """Return the symbol of a parameter.

        Weights and states are those of step t-1; gradient and learning rate are those of step t.
        """
        if leaf.op == "t":
            self.primes[leaf] = 0
            return symbol(leaf.name, "", is_small=True)
        is_dead = leaf.op == STATE and leaf not in self.live_states
        self.primes[leaf] = 0 if is_dead else self._new_primes(leaf.name)
        is_input = leaf.op in (GRADIENT, "lr")
        return self._symbol_at(leaf, "t" if is_input else "t-1")

    def _symbol_at(self, leaf: Node, index: str) -> Symbol:
        return symbol(leaf.name, index, self.primes[leaf], leaf.kind != Kind.TENSOR)

    def _statement_symbol(self, node: Node, value: Formula) -> Symbol | None:
        """Return the symbol of a statement's result, or None if `value` is inlined."""
        if node in self.state_of:
            return self._symbol_at(self.state_of[node], "t")
        is_inlined = self.uses[node] == 1 and self._can_be_inlined(node.name, value)
        if not value.operations or is_inlined:
            return None
        return symbol(node.name, "t", self._new_primes(node.name), node.kind != Kind.TENSOR)

    def _can_be_inlined(self, target: str, value: Formula) -> bool:
        if (
            isinstance(value, Cases)
            or value.size > _MAX_INLINE_SIZE
            or value.height > _MAX_INLINE_HEIGHT
        ):
            return False
        is_descriptive = self.name_counts[target] == 1 and not _GENERIC_NAME.fullmatch(target)
        return value.operations <= 1 or not is_descriptive
