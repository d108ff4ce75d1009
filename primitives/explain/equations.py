r"""Programs as the equations that a person would write.

Live statements only. A value that is used once goes into the expression that uses it, unless it
has a telling name of its own or the line would get long; what remains becomes an equation. States
have a time index: m_{t-1} enters a step and m_t leaves it.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from primitives.graph.analysis import Analysis, analyse
from primitives.kinds import Kind
from primitives.op import Op
from primitives.ops import OPS
from primitives.program import Program
from primitives.text.formula import ZERO, Formula, formula
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
    return _Writer(analyse(program)).equations()


def uses(op: Op) -> tuple[int, ...]:
    """How often the formula of an op's result mentions each operand."""
    places = [Symbol(f"<{place}>", "") for place in range(op.arity)]
    written = op.formula(*places).latex()
    return tuple(written.count(place.written) for place in places)


class _Writer:
    """Chooses the symbols of one program, and which of its values become equations."""

    def __init__(self, analysis: Analysis):
        self.analysis = analysis
        self.program = analysis.program
        self.inputs = len(self.program.parameters)
        self.leaving = {analysis.next_value[state]: state for state in analysis.live_states}
        self.taken = Counter({letter("t"): 1})  # how many variables have a letter already
        self.primes: list[int] = []  # of each parameter
        self.formulas: list[Formula] = []  # of each value
        self.uses = self._count_uses()
        live = [self.program.statements[index].target for index in analysis.live_statements]
        self.assigned = Counter([*(p.name for p in self.program.parameters), *live])

    def equations(self) -> tuple[Equation, ...]:
        lines = []
        for number, parameter in enumerate(self.program.parameters):
            self.formulas.append(self._enter(number, parameter.name))
            if parameter.initial and number in self.analysis.live_states:
                lines.append(Equation(self._state(number, "0"), formula(parameter.initial)))
        live = set(self.analysis.live_statements)
        for index in range(len(self.program.statements)):
            written = self._written(index) if index in live else ZERO
            name = self._name(index, written) if index in live else None
            if name is not None:
                lines.append(Equation(name, written, index))
            self.formulas.append(name or written)
        kept = [n for n in self.analysis.live_states if self.analysis.next_value[n] == n]
        lines += [Equation(self._state(n, "t"), self.formulas[n]) for n in kept]
        update = self.formulas[self.analysis.outputs[0]]
        weight = self.program.weight
        return (*lines, Equation(symbol(weight), symbol(weight, "t-1") - update))

    def _count_uses(self) -> Counter[int]:
        """How often each value is written."""
        counted = Counter([self.analysis.outputs[0]])
        for index in self.analysis.live_statements:
            op = OPS[self.program.statements[index].op]
            for operand, times in zip(self.analysis.operands[index], uses(op), strict=True):
                if type(operand) is int:
                    counted[operand] += times
        return counted

    def _prime(self, name: str) -> int:
        """The primes that tell one more variable of this letter from those before it."""
        self.taken[letter(name)] += 1
        return self.taken[letter(name)] - 1

    def _enter(self, number: int, name: str) -> Symbol:
        """The symbol of a parameter: as it was left by the step before, or given to this one."""
        if name == "t" and number not in self.analysis.next_value and number > 1:
            self.primes.append(0)
            return symbol(name, "", small=True)
        dead = number in self.analysis.next_value and number not in self.analysis.live_states
        self.primes.append(0 if dead else self._prime(name))
        before = number == 0 or number in self.analysis.next_value
        return self._state(number, "t-1" if before else "t")

    def _state(self, number: int, index: str) -> Symbol:
        name = self.program.parameters[number].name
        small = self.analysis.kinds[number] != Kind.TENSOR
        return symbol(name, index, self.primes[number], small)

    def _written(self, index: int) -> Formula:
        """The formula of a statement, with those of its operands in it."""
        operands = self.analysis.operands[index]
        written = [self.formulas[one] if type(one) is int else formula(one) for one in operands]
        return OPS[self.program.statements[index].op].formula(*written)

    def _name(self, index: int, written: Formula) -> Symbol | None:
        """The symbol of a statement's value, or None if `written` goes where it is used."""
        value = self.inputs + index
        if value in self.leaving:
            return self._state(self.leaving[value], "t")
        target = self.program.statements[index].target
        if not written.operations or (self.uses[value] == 1 and self._goes_inline(target, written)):
            return None
        small = self.analysis.kinds[value] != Kind.TENSOR
        return symbol(target, "t", self._prime(target), small)

    def _goes_inline(self, target: str, written: Formula) -> bool:
        if isinstance(written, Cases) or written.size > _LONGEST or written.height > _HIGHEST:
            return False
        telling = self.assigned[target] == 1 and not _UNTELLING.fullmatch(target)
        return written.operations <= 1 or not telling
