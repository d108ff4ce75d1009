"""The parser: program text to `Program`.

The text is read with Python's grammar and never executed.
"""

from __future__ import annotations

import ast
import keyword
import math
import re
import warnings
from contextlib import nullcontext

import numpy as np

from primitives.graph.analysis import StatementError, analyse
from primitives.kinds import KINDS
from primitives.ops import ALIASES, INFIX, OPS
from primitives.program import (
    MAX_NAME,
    MAX_STATEMENTS,
    SCHEDULE_INPUTS,
    Argument,
    Parameter,
    Program,
    ProgramError,
    Statement,
)
from primitives.text.names import keyword_problem, text_problem
from primitives.text.wording import (
    MATRIX_PRODUCTS,
    NO_MATRIX_PRODUCTS,
    describe,
    one_line,
    remedy,
    suggestion,
    truncate,
    unsupported,
)

MAX_CHARACTERS = 100_000
"""Maximum length of a program's text."""
MAX_PARAMETERS = 64
"""Maximum number of a program's parameters."""
_FORBIDDEN = re.compile("[\0\ud800-\udfff]")  # NUL and lone surrogates
_MAY_WARN = re.compile(r"""['"]|\b\d[\w.]*(?:and|else|for|if|in|is|not|or)""")
"""Matches text that may cause a `SyntaxWarning`: strings, and numbers before keywords (`1if`)."""
_RANGE = "the largest float32 is 3.4e38"
_FORM = "write `def train(w, g, ...states, lr):`, assignments, and `return update, ...states`"
_TOO_LONG = f"more than {MAX_STATEMENTS} statements; shorten the program"
_OPERATORS: dict[type[ast.operator], str] = {
    ast.Add: INFIX["+"].name,
    ast.Sub: INFIX["-"].name,
    ast.Mult: INFIX["*"].name,
    ast.Div: INFIX["/"].name,
    ast.Pow: "power",
}


def parse(text: str) -> Program:
    """Parse and check the text of a program.

    Nested expressions are flattened to one op per statement, and comments are dropped.
    `parse(str(program)) == program` holds for every program.

    Args:
        text: a `def` with assignments and one `return`; see docs/language.md.

    Raises:
        ProgramError: the text is not a valid program. The message names the line, the error and a
            correction.

    Example:
        >>> program = parse('''
        ... def train(w, g, m, lr):
        ...     m = interp(g, m, 0.9)  # momentum
        ...     update = sign(m) * lr
        ...     return update, m
        ... ''')
        >>> print(program)
        def train(w, g, m, lr):
            m = interp(g, m, 0.9)
            v1 = sign(m)
            update = v1 * lr
            return update, m
        <BLANKLINE>
    """
    if len(text) > MAX_CHARACTERS:
        raise ProgramError(
            f"the text has {len(text):,} characters; a program has at most {MAX_CHARACTERS:,}"
        )
    for character in _FORBIDDEN.finditer(text):
        line = text.count("\n", 0, character.start()) + 1
        raise ProgramError(f"character {character[0]!r} is not allowed; remove it", line)
    if problem := text_problem(text):
        raise ProgramError(*problem)
    function = _only_function(_syntax_tree(text))
    return _Reader(function).read()


def _syntax_tree(text: str) -> ast.Module:
    """Parse `text` with Python's grammar.

    On a syntax error, Python opens the file of the given name to quote the line. With an empty name
    Python opens no file.
    """
    quiet = warnings.catch_warnings(action="ignore") if _MAY_WARN.search(text) else nullcontext()
    try:
        with quiet:
            try:
                return ast.parse(text, filename="")
            except SystemError:  # Python 3.11, if another thread or a finalizer parses as well
                return ast.parse(text, filename="")
    except SyntaxError as error:
        if "integer string conversion" in error.msg:
            raise ProgramError(f"too many digits; {_RANGE}", error.lineno) from None
        if error.msg == "invalid syntax" and (word := _keyword_at(error)):
            raise ProgramError(keyword_problem(word), error.lineno) from None
        raise ProgramError(f"{one_line(error.msg)}; {_FORM}", error.lineno) from None
    except (RecursionError, MemoryError):
        raise ProgramError("nested too deeply; split it into several statements") from None
    except ValueError as error:
        raise ProgramError(f"{one_line(str(error))}; {_FORM}") from None


def _keyword_at(error: SyntaxError) -> str | None:
    """Return the keyword used as a name: at the position of the error, or before its `=`."""
    line, start = error.text or "", (error.offset or 1) - 1
    word = re.match(r"[A-Za-z]+", line[start:])
    if line[start : start + 1] == "=":
        word = re.search(r"[A-Za-z]+(?=\s*$)", line[:start])
    return word[0] if word and keyword.iskeyword(word[0]) else None


def _only_function(module: ast.Module) -> ast.FunctionDef:
    for node in module.body:
        if not isinstance(node, ast.FunctionDef):
            raise ProgramError(f"{describe(node)} outside the function; {_FORM}", node.lineno)
    if len(module.body) != 1:
        line = module.body[1].lineno if module.body else None
        raise ProgramError(f"{len(module.body)} functions instead of one; {_FORM}", line)
    function = module.body[0]
    assert isinstance(function, ast.FunctionDef)
    _require_short_names(function)
    if function.decorator_list:
        raise ProgramError("a decorator is not supported; remove it", function.lineno)
    if function.returns is not None:
        raise ProgramError("a return annotation is not supported; remove it", function.lineno)
    if getattr(function, "type_params", None):  # Python 3.12 and later
        raise ProgramError("type parameters are not supported; remove them", function.lineno)
    return function


def _require_short_names(function: ast.FunctionDef) -> None:
    for node in ast.walk(function):
        name = node.id if isinstance(node, ast.Name) else getattr(node, "arg", None)
        if isinstance(name, str) and len(name) > MAX_NAME:
            line = getattr(node, "lineno", function.lineno)
            raise ProgramError(
                f"the name {truncate(name)!r} has {len(name):,} characters; use at most {MAX_NAME}",
                line,
            )


def _require_distinct(names: list[str], line: int) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ProgramError(f"parameter {name!r} is listed twice; rename one", line)
        seen.add(name)


def number(value: float, line: int | None = None) -> float:
    """Convert a number of the program's text to a constant.

    Raises:
        ProgramError: the number is not finite in float32.
    """
    try:
        result = float(value)
        with np.errstate(over="ignore"):
            finite = math.isfinite(np.float32(result))
    except OverflowError:
        finite = False
    if not finite:
        raise ProgramError(f"constant out of range; {_RANGE}", line)
    return result


class _Reader:
    """Converts the syntax tree of a function to a `Program`.

    Attributes:
        function: the syntax tree.
        statements: the statements that have been read.
        lines: line of each statement, for error messages.
        defined: names that have a value.
        used: all names in the text, and generated names; a new name must differ from them.
        last_number: number of the last generated name, such as 2 for `v2`.
    """

    def __init__(self, function: ast.FunctionDef):
        self.function = function
        self.statements: list[Statement] = []
        self.lines: list[int] = []
        self.defined: set[str] = set()
        self.used = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
        self.last_number = 0

    def read(self) -> Program:
        parameters = self._parameters()
        self.defined = {parameter.name for parameter in parameters}
        self.used |= self.defined
        *body, last = self.function.body
        for node in body:
            self._statement(node)
        returns = self._returns(last, parameters)
        program = Program(parameters, tuple(self.statements), returns)
        try:
            analyse(program)
        except StatementError as error:
            lines = [*self.lines, last.lineno]
            raise ProgramError(error.reason, lines[error.index]) from None
        return program

    def _parameters(self) -> tuple[Parameter, ...]:
        arguments = self.function.args
        line = self.function.lineno
        others = (arguments.vararg, arguments.kwarg, *arguments.kwonlyargs, *arguments.posonlyargs)
        if any(others) or arguments.defaults:
            raise ProgramError(
                "defaults, `*` and `/` are not supported in the parameters; list plain names", line
            )
        if len(arguments.args) < 2:
            raise ProgramError(
                "fewer than two parameters; the first two are the weights and the gradient", line
            )
        if len(arguments.args) > MAX_PARAMETERS:
            raise ProgramError(
                f"{len(arguments.args):,} parameters; use at most {MAX_PARAMETERS}", line
            )
        _require_distinct([argument.arg for argument in arguments.args], line)
        parameters = []
        for argument in arguments.args:
            if argument.arg in OPS or argument.arg in ALIASES:
                raise ProgramError(f"parameter {argument.arg!r} has an op's name; rename it", line)
            parameters.append(self._parameter(argument))
        for parameter in parameters[:2]:
            if parameter != Parameter(parameter.name):
                raise ProgramError(
                    f"{parameter.name!r} is the weights or the gradient; only states take a kind",
                    line,
                )
        return tuple(parameters)

    def _parameter(self, argument: ast.arg) -> Parameter:
        annotation = argument.annotation
        match annotation:
            case None:
                return Parameter(argument.arg)
            case ast.Name(id=name) if name in KINDS:
                return Parameter(argument.arg, KINDS[name])
            case ast.Call(func=ast.Name(id=name), args=[value], keywords=[]) if name in KINDS:
                initial = self._literal(value)
                if initial is not None:
                    return Parameter(argument.arg, KINDS[name], initial)
        raise ProgramError(
            f"the annotation of {argument.arg!r} is {describe(annotation)}, not a kind; write one "
            f"of {', '.join(KINDS)}, or a kind with its initial value, as in tensor(1.0)",
            argument.lineno,
        )

    def _literal(self, node: ast.expr) -> float | None:
        """Return the value of a number literal, with or without a sign; None for other nodes."""
        match node:
            case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
                return number(value, node.lineno)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                return None if isinstance(value, bool) else number(-value, node.lineno)
        return None

    def _statement(self, node: ast.stmt) -> None:
        match node:
            case ast.Assign(targets=[ast.Name(id=target)], value=value):
                if target in OPS or target in ALIASES:
                    raise ProgramError(f"{target!r} is an op; rename the variable", node.lineno)
                self._assign(target, value, node.lineno)
                self.defined.add(target)
            case ast.Return():
                raise ProgramError("return before the end; keep only the last one", node.lineno)
            case ast.Assign():
                raise ProgramError("assign to one name at a time, as in `x = sign(g)`", node.lineno)
            case _:
                advice = remedy(node) or "only assignments and one return are allowed"
                raise ProgramError(f"{unsupported(node)}; {advice}", node.lineno)

    def _assign(self, target: str, value: ast.expr, line: int) -> None:
        operation = self._operation(value, 0)
        if operation is None:
            operation = ("identity", (self._argument(value, 0),))
        self._append(Statement(target, *operation), line)

    def _append(self, statement: Statement, line: int) -> None:
        if len(self.statements) == MAX_STATEMENTS:
            raise ProgramError(_TOO_LONG, line)
        self.statements.append(statement)
        self.lines.append(line)

    def _operation(self, node: ast.expr, depth: int) -> tuple[str, tuple[Argument, ...]] | None:
        """Return the op and arguments of a compound expression; None for a name or a number."""
        if depth == MAX_STATEMENTS:  # each level becomes a statement
            raise ProgramError(_TOO_LONG, node.lineno)
        if isinstance(node, ast.Name) or self._literal(node) is not None:
            return None
        operands: list[ast.expr]
        match node:
            case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _OPERATORS:
                op, operands = _OPERATORS[type(operator)], [left, right]
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                op, operands = "negative", [operand]
            case ast.Call(keywords=[_, *_]):
                raise ProgramError(
                    "keyword arguments are not supported; pass operands by position", node.lineno
                )
            case ast.Call(func=ast.Name(id=name), args=operands):
                op = self._op_name(name, len(operands), node.lineno)
            case ast.Call(func=func):
                raise ProgramError(
                    f"a call of {describe(func)} is not supported; call ops by their bare name, "
                    "as in `sign(g)`",
                    node.lineno,
                )
            case _:
                advice = remedy(node) or "an expression is a name, a number, + - * / ** or an op"
                raise ProgramError(f"{unsupported(node)}; {advice}", node.lineno)
        return op, tuple(self._argument(operand, depth + 1) for operand in operands)

    def _op_name(self, written: str, count: int, line: int) -> str:
        op = ALIASES.get(written, written)
        if written in MATRIX_PRODUCTS:
            raise ProgramError(f"unknown op {written!r}; {NO_MATRIX_PRODUCTS}", line)
        if op not in OPS:
            hint = suggestion(written, [*OPS, *ALIASES]) or "; `evosearch ops` lists all ops"
            raise ProgramError(f"unknown op {written!r}{hint}", line)
        arity = OPS[op].arity
        if count != arity:
            raise ProgramError(
                f"{written!r} takes {arity} operand{'s' * (arity != 1)}, not {count}", line
            )
        return op

    def _argument(self, node: ast.expr, depth: int) -> Argument:
        literal = self._literal(node)
        if literal is not None:
            return literal
        if isinstance(node, ast.Name):
            if node.id not in self.defined:
                hint = suggestion(node.id, self.defined) or "; assign it first"
                raise ProgramError(f"{node.id!r} is not defined here{hint}", node.lineno)
            return node.id
        operation = self._operation(node, depth)
        assert operation is not None
        name = self._new_name()
        self._append(Statement(name, *operation), node.lineno)
        return name

    def _new_name(self) -> str:
        while True:
            self.last_number += 1
            name = f"v{self.last_number}"
            if name not in self.used:
                self.used.add(name)
                self.defined.add(name)
                return name

    def _returns(self, node: ast.stmt, parameters: tuple[Parameter, ...]) -> tuple[str, ...]:
        if not isinstance(node, ast.Return):
            raise ProgramError("no return; end with `return update, ...states`", node.lineno)
        elements = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
        returned = [element.id for element in elements if isinstance(element, ast.Name)]
        if not returned or len(returned) < len(elements):
            raise ProgramError("return names, as in `return update, m`", node.lineno)
        if returned[0] not in self.defined:
            hint = suggestion(returned[0], self.defined) or "; assign it first"
            raise ProgramError(f"{returned[0]!r} is not defined here{hint}", node.lineno)
        self._check_states(returned[1:], parameters, node.lineno)
        return tuple(returned)

    def _check_states(
        self, states: list[str], parameters: tuple[Parameter, ...], line: int
    ) -> None:
        names = [parameter.name for parameter in parameters]
        for state in states:
            if state not in names:
                raise ProgramError(
                    f"{state!r} is returned as a state but is not a parameter; add it to `def`",
                    line,
                )
            if state in names[:2]:
                raise ProgramError(
                    f"{state!r} is the weights or the gradient and cannot be a state; remove it "
                    "from `return`",
                    line,
                )
            if state in SCHEDULE_INPUTS:
                raise ProgramError(
                    f"{state!r} is a schedule input and cannot be a state; choose another name",
                    line,
                )
            if states.count(state) > 1:
                raise ProgramError(f"state {state!r} is returned twice; return it once", line)
        for parameter in parameters[2:]:
            if parameter.name not in states and parameter.name not in SCHEDULE_INPUTS:
                raise ProgramError(
                    f"parameter {parameter.name!r} is neither returned (a state) nor one of "
                    f"{', '.join(SCHEDULE_INPUTS)}; return it or drop it",
                    self.function.lineno,
                )
            if parameter.name in SCHEDULE_INPUTS and parameter != Parameter(parameter.name):
                raise ProgramError(
                    f"{parameter.name!r} is a schedule input; only states take a kind",
                    self.function.lineno,
                )
