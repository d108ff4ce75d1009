"""Words for error messages: culprits by names that people use, and suggestions."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterable

_IN_WORDS: dict[type[ast.AST] | tuple[type[ast.AST], ...], str] = {
    ast.AugAssign: "an assignment like `+=`",
    ast.AnnAssign: "an annotated assignment",
    (ast.Import, ast.ImportFrom): "an import",
    ast.FunctionDef: "a function",
    ast.AsyncFunctionDef: "an async function",
    ast.ClassDef: "a class",
    (ast.For, ast.AsyncFor, ast.While): "a loop",
    (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp): "a comprehension",
    (ast.BinOp, ast.UnaryOp): "an operator that the language has not",
    ast.BoolOp: "`and` or `or`",
    ast.IfExp: "a conditional expression",
    ast.NamedExpr: "an assignment within an expression",
    ast.JoinedStr: "a formatted text",
    ast.Attribute: "an attribute",
}
"""Culprits that Python's grammar calls by names that nobody says."""


def described(node: ast.AST) -> str:
    """The culprit in words, short whatever its size."""
    match node:
        case ast.Expr(value=value):
            return described(value)
        case ast.Name(id=name):
            return repr(shortened(name))
        case ast.Constant(value=str() | bytes() as value):
            return f"text {shortened(repr(value))}"
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return "a number"
        case ast.Constant(value=value):
            return f"the constant {shortened(repr(value))}"
        case ast.Call(func=ast.Name(id=name)):
            return f"a call of {shortened(name)!r}"
    for kinds, words in _IN_WORDS.items():
        if isinstance(node, kinds):
            return words
    words = re.sub(r"(?<!^)(?=[A-Z])", " ", type(node).__name__).lower()
    return f"an {words}" if words[0] in "aeio" else f"a {words}"


def shortened(text: str, limit: int = 40) -> str:
    """At most `limit` characters of `text`."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


def one_line(text: str) -> str:
    """`text` without line breaks."""
    return " ".join(text.split())


def suggestion(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the known name nearest to `name`, or nothing."""
    names = list(known)
    near = [one for one in names if sorted(one) == sorted(name)]  # letters changed places
    near = near or difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
