"""The program: a frozen value, with one text form.

    def train(w, g, m, v, lr):
        m = interp(g, m, 0.9)
        ...
        return update, m, v

The first parameter is the weights, the second the gradient; the names returned after the update are
the state variables; what is left are schedule inputs, `lr` (the schedule's shape, peak 1) and `t`
(the step, counted from 1). The training loop does `w <- w - factor * update`.
"""

from __future__ import annotations

import keyword
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

from primitives.kinds import Kind
from primitives.ops import ALIASES, OPS
from primitives.text.names import keyword_problem, word_problem
from primitives.text.wording import truncate

MAX_NAME = 60
"""The longest name of a variable, in characters."""
MAX_STATEMENTS = 64
"""The longest program that is read, and that a search grows."""

SCHEDULE_INPUTS = ("lr", "t")
"""The names that a parameter may have which is neither weights, gradient nor state."""

Argument = str | float


class ProgramError(ValueError):
    """A text or program that is not in the language.

    Attributes:
        line: the culprit's line, counted from 1; None where no single line is to blame.
        reason: the culprit and the remedy, without the line.
    """

    def __init__(self, reason: str, line: int | None = None):
        self.reason = reason
        self.line = line
        super().__init__(reason if line is None else f"line {line}: {reason}")


class Parameter(NamedTuple):
    """A parameter; `kind` and `initial` (its value before the first step) matter for states."""

    name: str
    kind: Kind = Kind.TENSOR
    initial: float = 0.0

    def __str__(self) -> str:
        if self.initial:
            return f"{self.name}: {self.kind}({self.initial!r})"
        return self.name if self.kind == Kind.TENSOR else f"{self.name}: {self.kind}"


class Statement(NamedTuple):
    """`target = op(args)`; an argument is a variable's name or a constant."""

    target: str
    op: str
    args: tuple[Argument, ...]

    def __str__(self) -> str:
        target, op, args = self
        infix = OPS[op].infix
        if infix:
            return f"{target} = {args[0]} {infix} {args[1]}"
        if op == "identity":
            return f"{target} = {args[0]}"
        return f"{target} = {op}({', '.join(map(str, args))})"


@lru_cache(maxsize=4096)
def name_problem(name: str) -> str | None:
    """Why `name` can be no variable's name, with the remedy; None if it can."""
    shown = repr(truncate(name))
    if problem := word_problem(name):
        return problem
    if keyword.iskeyword(name):
        return keyword_problem(name)
    if not name.isidentifier():
        return f"{shown} is not a name; use letters, digits and _"
    if name in OPS or name in ALIASES:
        return f"{shown} is an op's name; choose another name"
    if len(name) > MAX_NAME:
        return f"the name {shown} has {len(name):,} characters; use at most {MAX_NAME}"
    return None


@dataclass(frozen=True)
class Program:
    """An optimizer: parameters, statements in order, and the returned names, the update first.

    A name in angle brackets is one that no text holds: of a program that is only computed with,
    like one whose constants are inputs (`roles.lift`). All others can be read back.

    Raises:
        ProgramError: a parameter or variable whose name could not be read back from the text.
    """

    parameters: tuple[Parameter, ...]
    statements: tuple[Statement, ...]
    returns: tuple[str, ...]

    def __post_init__(self) -> None:
        names = [one.name for one in self.parameters] + [one.target for one in self.statements]
        for name in names:
            if not name.startswith("<") and (problem := name_problem(name)):
                raise ProgramError(problem)

    def __str__(self) -> str:
        lines = [f"def train({', '.join(map(str, self.parameters))}):"]
        lines += [f"    {statement}" for statement in self.statements]
        lines.append(f"    return {', '.join(self.returns)}")
        return "\n".join(lines) + "\n"

    @property
    def weight(self) -> str:
        """The name of the weights."""
        return self.parameters[0].name

    @property
    def gradient(self) -> str:
        """The name of the gradient."""
        return self.parameters[1].name

    @property
    def update(self) -> str:
        """The name of what is subtracted from the weights."""
        return self.returns[0]

    @property
    def ops(self) -> frozenset[str]:
        """The names of the ops that it is made of."""
        return frozenset(statement.op for statement in self.statements)

    @cached_property
    def states(self) -> tuple[Parameter, ...]:
        """The state variables, in the order in which they are returned."""
        by_name = {parameter.name: parameter for parameter in self.parameters}
        return tuple(by_name[name] for name in self.returns[1:])
