"""Building and formatting of Python source: expressions, calls, signatures and docstrings.

The layout is that of `ruff format`.
"""

from __future__ import annotations

import ast
import builtins
import keyword
import math
import re
import textwrap
from collections.abc import Collection, Iterable
from functools import lru_cache

WIDTH = 100
MAX_NAME_LENGTH = 20

_SIMPLE = r"[A-Za-z_][\w.]*|\d[\w.]*(?:e-?\d+)?"
_POWER = re.compile(rf"(?<![\w.)\]])({_SIMPLE}) \*\* (-?(?:{_SIMPLE}))(?![\w.(\[])")
"""A power of simple operands, which `ruff format` writes without spaces."""
_SIGNED_EXPONENT = re.compile(r"\*\* \((-[\w.]+(?:e-?\d+)?)\)")
"""A negative exponent in unnecessary parentheses."""
_AMBIGUOUS = ("l",)
"""Lower-case names that look like a digit, which linters reject."""


@lru_cache(maxsize=1024)
def template(code: str) -> ast.expr:
    """Parse `code`, an expression. The result is cached and must not be changed."""
    return ast.parse(code, mode="eval").body


class _Fill(ast.NodeTransformer):
    def __init__(self, operands: dict[str, ast.expr]):
        self.operands = operands

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.operands.get(node.id, node)


def fill(code: str, **operands: ast.expr) -> ast.expr:
    """Return the expression `code` with the names in `operands` replaced by expressions.

    Parentheses are added where the result needs them.
    """
    tree = ast.parse(code, mode="eval").body
    filled: ast.expr = _Fill(operands).visit(tree)
    return filled


def repeats(code: str, operand: str) -> bool:
    """Whether the name `operand` occurs in `code` more than once."""
    names = [node.id for node in ast.walk(template(code)) if isinstance(node, ast.Name)]
    return names.count(operand) > 1


def name(text: str) -> ast.expr:
    """Return a name, which may contain dots, as an expression."""
    return template(text)


def literal(value: float) -> ast.expr:
    """Return a number as an expression; integers below a million have no decimal point."""
    if value < 0:
        return ast.UnaryOp(ast.USub(), literal(-value))
    is_integer = value == int(value) and value < 1e6
    return ast.Constant(int(value) if is_integer else value)


def constant(constant_name: str, value: float) -> ast.expr:
    """Return the expression of a constant.

    If `constant_name` starts with an underscore, the exported file defines it, and the expression
    is this name. Otherwise the expression is the value, as a float.
    """
    if constant_name.startswith("_"):
        return name(constant_name)
    if math.copysign(1.0, value) < 0:  # -0.0 too
        return ast.UnaryOp(ast.USub(), ast.Constant(-float(value)))
    return ast.Constant(float(value))


def number(value: float) -> str:
    """Return a float as text, in the fewest digits."""
    return re.sub(r"e-0(\d)", r"e-\1", repr(float(value)))


def text(expression: ast.expr) -> str:
    """Return the code of `expression`, formatted."""
    code = ast.unparse(ast.fix_missing_locations(expression))
    code = re.sub(r"(\d)e-0(\d)", r"\1e-\2", code)
    code = _SIGNED_EXPONENT.sub(r"** \1", code)
    return _POWER.sub(r"\1**\2", code)


class Names:
    """The names of one scope. New names are valid, short, lower-case and unique.

    Args:
        in_use: names in use, besides keywords, builtins and names that look like a digit.
    """

    def __init__(self, in_use: Collection[str] = ()):
        self.in_use = {*keyword.kwlist, *keyword.softkwlist, *dir(builtins), *_AMBIGUOUS, *in_use}

    def new(self, base: str) -> str:
        """Return a name that is not yet in use: `base` as a valid name, with a number if needed."""
        base = re.sub(r"[^a-z0-9_]", "", base.lower()).strip("_")[:MAX_NAME_LENGTH].rstrip("_")
        if not base or not base[0].isalpha():
            base = f"x{base}" if base else "x"
        name, number = base, 2
        while name in self.in_use:
            name, number = f"{base}_{number}", number + 1
        self.in_use.add(name)
        return name

    def scope(self) -> Names:
        """Return a new scope inside this one."""
        return Names(self.in_use)


def call(head: str, args: Iterable[str], tail: str = ")", indent: int = 0) -> list[str]:
    """Return a call or a signature on as few lines as possible.

    Args:
        head: the text before the arguments, up to the opening bracket.
        args: the arguments.
        tail: the text after the arguments, from the closing bracket.
        indent: number of spaces before the first line.
    """
    args = list(args)
    space = " " * indent
    line = f"{space}{head}{', '.join(args)}{tail}"
    if len(line) <= WIDTH:
        return [line]
    inner = f"{space}    {', '.join(args)}"
    # `ruff format` writes a single parameter of a `def`, and the elements of a dict, on lines of
    # their own with a trailing comma.
    has_one_parameter = head.startswith("def ") and len(args) == 1
    if len(inner) <= WIDTH and not head.endswith("{") and not has_one_parameter:
        return [f"{space}{head}", inner, f"{space}{tail}"]
    return [f"{space}{head}", *(f"{space}    {arg}," for arg in args), f"{space}{tail}"]


def assignment(target: str, expression: ast.expr, indent: int = 0) -> list[str]:
    """Return `target = expression`; a call that is too long is broken between its arguments."""
    line = f"{' ' * indent}{target} = {text(expression)}"
    if len(line) <= WIDTH or not isinstance(expression, ast.Call) or expression.keywords:
        return [line]
    head = f"{target} = {text(expression.func)}("
    return call(head, map(text, expression.args), indent=indent)


def paragraph(words: str, indent: int = 0, hanging: int = 0) -> list[str]:
    """Return `words` wrapped at `WIDTH`.

    Args:
        words: the text.
        indent: number of spaces before the first line.
        hanging: number of additional spaces before the other lines.
    """
    return textwrap.wrap(
        words,
        WIDTH,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + hanging),
        break_long_words=False,
        break_on_hyphens=False,
    )


def hanging(lines: list[str]) -> list[str]:
    """Return `lines` of a docstring, all but the first indented by four spaces."""
    return [lines[0], *("    " + line for line in lines[1:])]


def docstring(lines: list[str], indent: int = 0) -> list[str]:
    """Return `lines` as a docstring.

    Args:
        lines: wrapped lines, indented except for the first.
        indent: number of spaces before the opening and the closing quotes.
    """
    first, *rest = lines
    space = " " * indent
    safe = [line.replace("\\", "\\\\").replace('"""', "'''") for line in (first, *rest)]
    if not rest and len(space) + len(safe[0]) + 6 <= WIDTH and not safe[0].endswith('"'):
        return [f'{space}"""{safe[0]}"""']
    return [f'{space}"""{safe[0]}', *safe[1:], f'{space}"""']


def joined(lines: Iterable[str]) -> str:
    """Return the file's text, without trailing spaces and with one newline at the end."""
    return "\n".join(line.rstrip() for line in lines).rstrip("\n") + "\n"
