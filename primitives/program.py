"""The class `Program`: an optimizer as an immutable value with a canonical text form.

    def train(w, g, m, v, lr):
        m = interp(g, m, 0.9)
        ...
        return update, m, v

The first parameter is the weights, the second the gradient. The parameters that are returned after
the update are states. All other parameters are schedule inputs: `lr`, the learning rate schedule
scaled to a peak of 1, and `t`, the number of the step, counted from 1. The training loop computes
`w <- w - factor * update`, where `factor` is the tuned multiplier of the learning rate.
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
"""Maximum length of a variable's name, in characters."""
MAX_STATEMENTS = 64
"""Maximum number of statements of a program, for the parser and for a search."""

SCHEDULE_INPUTS = ("lr", "t")
"""Names of the parameters that are not weights, gradient or states."""

Argument = str | float
"""Argument of a statement: the name of a variable, or a constant."""


class ProgramError(ValueError):
    """Error for a text or program that is not valid in the language.

    Attributes:
        line: line of the error, counted from 1; None if the error has no single line.
        reason: what is wrong and how to correct it, without the line.

    Example:
        >>> from primitives import parse
        >>> parse("def train(w, g):\\n    u = sgn(g)\\n    return u")
        Traceback (most recent call last):
        primitives.program.ProgramError: line 2: unknown op 'sgn'; did you mean 'sign'?
    """

    def __init__(self, reason: str, line: int | None = None):
        self.reason = reason
        self.line = line
        super().__init__(reason if line is None else f"line {line}: {reason}")


class Parameter(NamedTuple):
    """Parameter of a program.

    Attributes:
        name: name of the variable.
        kind: kind of a state; unused for other parameters.
        initial: value of a state before the first step; unused for other parameters.

    Example:
        >>> print(Parameter("gain", Kind.ROW, 1.0))
        gain: row(1.0)
    """

    name: str
    kind: Kind = Kind.TENSOR
    initial: float = 0.0

    def __str__(self) -> str:
        if self.initial:
            return f"{self.name}: {self.kind}({self.initial!r})"
        return self.name if self.kind == Kind.TENSOR else f"{self.name}: {self.kind}"


class Statement(NamedTuple):
    """Assignment `target = op(args)`.

    Attributes:
        target: name of the variable that is assigned.
        op: name of the op.
        args: names of variables, or constants.

    Example:
        >>> print(Statement("m", "interp", ("g", "m", 0.9)))
        m = interp(g, m, 0.9)
        >>> print(Statement("update", "multiply", ("m", "lr")))
        update = m * lr
    """

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
    """Return why `name` is not a valid name of a variable and what to do; None if it is valid."""
    quoted = repr(truncate(name))
    if problem := word_problem(name):
        return problem
    if keyword.iskeyword(name):
        return keyword_problem(name)
    if not name.isidentifier():
        return f"{quoted} is not a name; use letters, digits and _"
    if name in OPS or name in ALIASES:
        return f"{quoted} is an op's name; choose another name"
    if len(name) > MAX_NAME:
        return f"the name {quoted} has {len(name):,} characters; use at most {MAX_NAME}"
    return None


@dataclass(frozen=True)
class Program:
    """An optimizer as an immutable program.

    `str(program)` is its text, and `parse(str(program)) == program`. The text of some
    internal programs, such as those of `roles.constants_to_states`, cannot be parsed, because they
    have names in angle brackets.

    Attributes:
        parameters: weights, gradient, then states and schedule inputs in any order.
        statements: assignments, in order.
        returns: name of the update, then the names of the states.

    Raises:
        ProgramError: the name of a parameter or variable is not valid.

    Example:
        >>> program = Program(
        ...     parameters=(Parameter("w"), Parameter("g"), Parameter("lr")),
        ...     statements=(Statement("update", "multiply", ("g", "lr")),),
        ...     returns=("update",),
        ... )
        >>> print(program)
        def train(w, g, lr):
            update = g * lr
            return update
        <BLANKLINE>
    """

    parameters: tuple[Parameter, ...]
    statements: tuple[Statement, ...]
    returns: tuple[str, ...]

    def __post_init__(self) -> None:
        names = [parameter.name for parameter in self.parameters]
        names += [statement.target for statement in self.statements]
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
        """Name of the weights."""
        return self.parameters[0].name

    @property
    def gradient(self) -> str:
        """Name of the gradient."""
        return self.parameters[1].name

    @property
    def update(self) -> str:
        """Name of the update, which is subtracted from the weights."""
        return self.returns[0]

    @property
    def ops(self) -> frozenset[str]:
        """Names of the ops that the program uses."""
        return frozenset(statement.op for statement in self.statements)

    @cached_property
    def states(self) -> tuple[Parameter, ...]:
        """Parameters that are states, in the order in which they are returned."""
        by_name = {parameter.name: parameter for parameter in self.parameters}
        return tuple(by_name[name] for name in self.returns[1:])
