r"""Programs as the equations that a person would write.

Live statements only. A value that is used once goes into the expression that uses it, unless it
has a telling name of its own or the line would get long; what remains becomes an equation. States
have a time index: m_{t-1} enters a step and m_t leaves it.
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

_LONGEST = 8
"""How many symbols and numbers an expression may have to go into another."""
_HIGHEST = 2
"""How deep fractions may be nested there."""

_UNTELLING = re.compile(r"v\d+|update\d*")
"""Names that the parser or habit gives."""


@dataclass(frozen=True)
class Equation:
    """`left = right`; `statement` is where in the program it is computed, None for what is not.

    Not computed by a statement are a state's initial value and the change of the weights.
    """

    left: Formula
    right: Formula
    statement: int | None = None

    def __str__(self) -> str:
        return f"{self.left.plain()} = {self.right.plain()}"


def to_latex(program: Program) -> str:
    r"""The equations of one step, in an `align*` environment; the last gives the new weights.

    For `momentum`:

        \begin{align*}
            m_t &= 0.9 m_{t-1} + g_t \\
            w_t &= w_{t-1} - \eta_t m_t
        \end{align*}

    A numeral is the shortest decimal of the float32 that the program computes with; `lr` is
    written as \eta_t. x / 0 is 0, as everywhere in the language.

    Raises:
        ProgramError: the program is ill-kinded.
    """
    lines = [f"    {e.left.latex()} &= {e.right.latex()}" for e in equations(program)]
    return "\n".join([r"\begin{align*}", " \\\\\n".join(lines), r"\end{align*}"])


def equations(program: Program) -> tuple[Equation, ...]:
    """The equations of `to_latex`; `str` of each is plain text.

    Raises:
        ProgramError: the program is ill-kinded.
    """
    return _Writer(program).equations()


def uses(op: Op) -> tuple[int, ...]:
    """How often the formula of an op's result mentions each operand."""
    places = [Symbol(f"<{place}>", "") for place in range(op.arity)]
    written = op.formula(*places).latex()
    return tuple(written.count(place.written) for place in places)


class _Writer(StatementGraph):
    """Chooses the symbols of one program, and which of its values become equations."""

    def __init__(self, program: Program):
        super().__init__(program)
        self.leaving = {self.following[state]: state for state in self.live_states}
        self.taken = Counter({letter("t"): 1})  # how many variables have a letter already
        self.primes: dict[Node, int] = {}  # of each parameter
        self.formulas: dict[Node, Formula] = {
            one: formula(one.value) for one in self.places if one.is_constant
        }
        self.uses = self._count_uses()
        self.assigned = Counter(node.name for node in (*self.parameters, *self.live_statements))

    def equations(self) -> tuple[Equation, ...]:
        lines = []
        for leaf, parameter in zip(self.parameters, self.program.parameters, strict=True):
            self.formulas[leaf] = self._enter(leaf)
            if parameter.initial and leaf in self.live_states:
                lines.append(Equation(self._state(leaf, "0"), formula(parameter.initial)))
        for node in self.live_statements:
            written = node.row.formula(*[self.formulas[arg] for arg in node.args])
            name = self._name(node, written)
            if name is not None:
                lines.append(Equation(name, written, self.index(node)))
            self.formulas[node] = name or written
        kept = [state for state in self.live_states if self.following[state] is state]
        lines += [Equation(self._state(state, "t"), self.formulas[state]) for state in kept]
        update = self.formulas[self.update]
        weight = self.program.weight
        return (*lines, Equation(symbol(weight), symbol(weight, "t-1") - update))

    def _count_uses(self) -> Counter[Node]:
        """How often each value is written."""
        counted = Counter([self.update])
        for node in self.live_statements:
            for operand, times in zip(node.args, uses(node.row), strict=True):
                counted[operand] += times
        return counted

    def _prime(self, name: str) -> int:
        """The primes that tell one more variable of this letter from those before it."""
        self.taken[letter(name)] += 1
        return self.taken[letter(name)] - 1

    def _enter(self, leaf: Node) -> Symbol:
        """The symbol of a parameter: as it was left by the step before, or given to this one."""
        if leaf.op == "t":
            self.primes[leaf] = 0
            return symbol(leaf.name, "", small=True)
        dead = leaf.op == STATE and leaf not in self.live_states
        self.primes[leaf] = 0 if dead else self._prime(leaf.name)
        given = leaf.op in (GRADIENT, "lr")
        return self._state(leaf, "t" if given else "t-1")

    def _state(self, leaf: Node, index: str) -> Symbol:
        return symbol(leaf.name, index, self.primes[leaf], leaf.kind != Kind.TENSOR)

    def _name(self, node: Node, written: Formula) -> Symbol | None:
        """The symbol of a statement's value, or None if `written` goes where it is used."""
        if node in self.leaving:
            return self._state(self.leaving[node], "t")
        goes_inline = self.uses[node] == 1 and self._goes_inline(node.name, written)
        if not written.operations or goes_inline:
            return None
        return symbol(node.name, "t", self._prime(node.name), node.kind != Kind.TENSOR)

    def _goes_inline(self, target: str, written: Formula) -> bool:
        if isinstance(written, Cases) or written.size > _LONGEST or written.height > _HIGHEST:
            return False
        telling = self.assigned[target] == 1 and not _UNTELLING.fullmatch(target)
        return written.operations <= 1 or not telling
