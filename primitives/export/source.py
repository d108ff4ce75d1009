"""Python source, laid out as `ruff format` would: expressions, calls, signatures, docstrings."""

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
LONGEST_NAME = 20

_SIMPLE = r"[A-Za-z_][\w.]*|\d[\w.]*(?:e-?\d+)?"
_POWER = re.compile(rf"(?<![\w.)\]])({_SIMPLE}) \*\* (-?(?:{_SIMPLE}))(?![\w.(\[])")
_SIGNED_EXPONENT = re.compile(r"\*\* \((-[\w.]+(?:e-?\d+)?)\)")


@lru_cache(maxsize=1024)
def template(code: str) -> ast.expr:
    """The expression that `code` writes down."""
    return ast.parse(code, mode="eval").body


class _Fill(ast.NodeTransformer):
    def __init__(self, operands: dict[str, ast.expr]):
        self.operands = operands

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.operands.get(node.id, node)


def fill(code: str, **operands: ast.expr) -> ast.expr:
    """`code` with the names in `operands` replaced by expressions; parentheses follow by need."""
    fresh = ast.parse(code, mode="eval").body
    filled: ast.expr = _Fill(operands).visit(fresh)
    return filled


def repeats(code: str, operand: str) -> bool:
    """Whether `operand` stands in `code` more than once."""
    names = [node.id for node in ast.walk(template(code)) if isinstance(node, ast.Name)]
    return names.count(operand) > 1


def name(text: str) -> ast.expr:
    """A name, dotted or not."""
    return template(text)


def literal(value: float) -> ast.expr:
    """A number; a whole one as an integer."""
    if value < 0:
        return ast.UnaryOp(ast.USub(), literal(-value))
    whole = value == int(value) and value < 1e6
    return ast.Constant(int(value) if whole else value)


def constant(known_as: str, value: float) -> ast.expr:
    """A number as a float, or the name of a constant (which starts with an underscore)."""
    if known_as.startswith("_"):
        return name(known_as)
    if math.copysign(1.0, value) < 0:  # -0.0 too
        return ast.UnaryOp(ast.USub(), ast.Constant(-float(value)))
    return ast.Constant(float(value))


def number(value: float) -> str:
    """A default value: always a float, in the fewest digits."""
    return re.sub(r"e-0(\d)", r"e-\1", repr(float(value)))


def text(expression: ast.expr) -> str:
    """`expression` as text, formatted."""
    written = ast.unparse(ast.fix_missing_locations(expression))
    written = re.sub(r"(\d)e-0(\d)", r"\1e-\2", written)
    written = _SIGNED_EXPONENT.sub(r"** \1", written)
    return _POWER.sub(r"\1**\2", written)


class Names:
    """Names in one scope: valid, short, lower-case and each given once."""

    def __init__(self, taken: Collection[str] = ()):
        self.taken = {*keyword.kwlist, *keyword.softkwlist, *dir(builtins), "l", *taken}

    def new(self, wanted: str) -> str:
        """`wanted`, or what is like it and free."""
        base = re.sub(r"[^a-z0-9_]", "", wanted.lower()).strip("_")[:LONGEST_NAME].rstrip("_")
        if not base or not base[0].isalpha():
            base = f"x{base}" if base else "x"
        found, number = base, 2
        while found in self.taken:
            found, number = f"{base}_{number}", number + 1
        self.taken.add(found)
        return found

    def scope(self) -> Names:
        """A scope inside this one."""
        return Names(self.taken)


def call(head: str, args: Iterable[str], tail: str = ")", indent: int = 0) -> list[str]:
    """`head` (ending with a bracket), `args` and `tail`, on as few lines as it takes."""
    args = list(args)
    space = " " * indent
    line = f"{space}{head}{', '.join(args)}{tail}"
    if len(line) <= WIDTH:
        return [line]
    inner = f"{space}    {', '.join(args)}"
    lone_parameter = head.startswith("def ") and len(args) == 1  # it gets a comma even so
    if len(inner) <= WIDTH and not head.endswith("{") and not lone_parameter:
        return [f"{space}{head}", inner, f"{space}{tail}"]
    return [f"{space}{head}", *(f"{space}    {arg}," for arg in args), f"{space}{tail}"]


def assignment(target: str, expression: ast.expr, indent: int = 0) -> list[str]:
    """`target = expression`; a call is broken between its arguments if it is too long."""
    line = f"{' ' * indent}{target} = {text(expression)}"
    if len(line) <= WIDTH or not isinstance(expression, ast.Call) or expression.keywords:
        return [line]
    head = f"{target} = {text(expression.func)}("
    return call(head, map(text, expression.args), indent=indent)


def paragraph(words: str, indent: int = 0, hanging: int = 0) -> list[str]:
    """`words` wrapped at the page's width."""
    return textwrap.wrap(
        words,
        WIDTH,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + hanging),
        break_long_words=False,
        break_on_hyphens=False,
    )


def hanging(lines: list[str]) -> list[str]:
    """`lines` of a docstring, indented but for the first."""
    return [lines[0], *("    " + line for line in lines[1:])]


def docstring(lines: list[str], indent: int = 0) -> list[str]:
    """`lines` (already wrapped and indented) as a docstring; the first has no indentation."""
    first, *rest = lines
    space = " " * indent
    safe = [line.replace("\\", "\\\\").replace('"""', "'''") for line in (first, *rest)]
    if not rest and len(space) + len(safe[0]) + 6 <= WIDTH and not safe[0].endswith('"'):
        return [f'{space}"""{safe[0]}"""']
    return [f'{space}"""{safe[0]}', *safe[1:], f'{space}"""']


def joined(lines: Iterable[str]) -> str:
    """The file's text: no space at line ends, one newline at the end."""
    return "\n".join(line.rstrip() for line in lines).rstrip("\n") + "\n"
