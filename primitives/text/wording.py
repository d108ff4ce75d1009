"""Words for error messages: culprits by names that people use, remedies, and suggestions."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterable
from itertools import islice

_Kinds = type[ast.AST] | tuple[type[ast.AST], ...]

_IN_WORDS: dict[_Kinds, str] = {
    ast.AugAssign: "an assignment like `+=`",
    ast.AnnAssign: "an annotated assignment",
    (ast.Import, ast.ImportFrom): "an import",
    ast.FunctionDef: "a function",
    ast.AsyncFunctionDef: "an async function",
    ast.ClassDef: "a class",
    (ast.For, ast.AsyncFor, ast.While): "a loop",
    (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp): "a comprehension",
    ast.IfExp: "a conditional expression",
    ast.NamedExpr: "an assignment within an expression",
    ast.JoinedStr: "a formatted text",
    ast.Attribute: "an attribute",
}
"""Culprits that Python's grammar calls by names that nobody says."""

_REMEDIES: dict[_Kinds, str] = {
    ast.AugAssign: "write m = m + g",
    ast.AnnAssign: "leave out the annotation",
    (ast.For, ast.AsyncFor, ast.While): "write its statements out",
    (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp): "write its statements out",
    ast.If: "write x = where(c, x, y)",
    ast.IfExp: "write where(c, x, y)",
    ast.NamedExpr: "give it a line of its own",
    ast.Attribute: "call ops by their bare name, as in sign(g)",
    ast.Subscript: "values are whole arrays; see row_mean, col_mean and where",
    ast.Tuple: "assign one value at a time",
    ast.Starred: "pass operands one by one",
    ast.JoinedStr: "write notes as # comments",
}
"""What to write instead; where nothing is said, the parser says what is allowed."""

_SIGNS: dict[type[ast.AST], str] = {
    **{ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**"},
    **{ast.MatMult: "@", ast.Mod: "%", ast.FloorDiv: "//", ast.BitXor: "^", ast.BitAnd: "&"},
    **{ast.BitOr: "|", ast.LShift: "<<", ast.RShift: ">>"},
    **{ast.UAdd: "+", ast.USub: "-", ast.Invert: "~", ast.Not: "not", ast.And: "and", ast.Or: "or"},
    **{ast.Gt: ">", ast.GtE: ">=", ast.Lt: "<", ast.LtE: "<=", ast.Eq: "==", ast.NotEq: "!="},
    **{ast.In: "in", ast.NotIn: "not in", ast.Is: "is", ast.IsNot: "is not"},
}
_FOR_OPERATORS: dict[type[ast.AST], str] = {
    ast.MatMult: "there is no matrix product",
    ast.Mod: "write mod({0}, {1})",
    ast.BitXor: "write x ** y for a power",
    ast.UAdd: "leave it out",
    ast.Not: "write equal({0}, 0)",
    ast.And: "write minimum({0}, {1})",
    ast.Or: "write maximum({0}, {1})",
    ast.Gt: "write greater({0}, {1})",
    ast.Lt: "write greater({1}, {0})",
    ast.GtE: "write 1 - greater({1}, {0})",
    ast.LtE: "write 1 - greater({0}, {1})",
    ast.Eq: "write equal({0}, {1})",
    ast.NotEq: "write 1 - equal({0}, {1})",
}
"""What to write instead, with the operands."""

MATRIX_PRODUCTS = frozenset(("bmm", "einsum", "matmul", "mm", "outer", "tensordot"))
"""Functions of other libraries that people look for and that no op is like."""
NO_MATRIX_PRODUCTS = (
    "no matrix products in this language; see `evosearch ops` (orthogonalize, row_mean, col_mean)"
)

_SHORT = 20


def described(node: ast.AST) -> str:
    """The culprit in words, short whatever its size."""
    match node:
        case ast.Expr(value=value):
            return described(value)
        case ast.Name(id=name):
            return repr(truncate(name))
        case ast.Constant(value=str() | bytes() as value):
            return f"text {truncate(repr(value))}"
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return "a number"
        case ast.Constant(value=value):
            return f"the constant {truncate(repr(value))}"
        case ast.Call(func=ast.Name(id=name)):
            return f"a call of {truncate(name)!r}"
        case ast.Compare(ops=[operator, *_]):
            return f"comparison `{_SIGNS[type(operator)]}` is not supported"
        case ast.BinOp(op=operator) | ast.UnaryOp(op=operator) | ast.BoolOp(op=operator):
            return f"unsupported operator `{_SIGNS[type(operator)]}`"
    for kinds, words in _IN_WORDS.items():
        if isinstance(node, kinds):
            return words
    words = re.sub(r"(?<!^)(?=[A-Z])", " ", type(node).__name__).lower()
    return f"an {words}" if words[0] in "aeio" else f"a {words}"


def remedy(node: ast.AST) -> str | None:
    """What to write instead of the culprit; None where nothing is like it."""
    match node:
        case ast.Expr(value=ast.Constant() as value):
            return remedy(value)
        case ast.Constant(value=str() | bytes()):
            return "write notes as # comments"
        case ast.Constant(value=bool()):
            return "write 1 or 0"
        case ast.BinOp(left=left, op=operator, right=right):
            return _instead(operator, left, right)
        case ast.UnaryOp(op=operator, operand=operand):
            return _instead(operator, operand)
        case ast.BoolOp(op=operator, values=[left, right, *_]):
            return _instead(operator, left, right)
        case ast.Compare(left=left, ops=[operator], comparators=[right]):
            return _instead(operator, left, right) or "write greater(x, y) or equal(x, y)"
        case ast.Compare():
            return "compare two values at a time, as in greater(x, y)"
    return next((words for kinds, words in _REMEDIES.items() if isinstance(node, kinds)), None)


def _instead(operator: ast.AST, *operands: ast.expr) -> str | None:
    template = _FOR_OPERATORS.get(type(operator))
    if template is None:
        return None
    return template.format(*map(_written, operands, "xy"))


def _written(node: ast.expr, otherwise: str) -> str:
    """The expression as text; `otherwise` where that is long."""
    if len(list(islice(ast.walk(node), _SHORT))) == _SHORT:
        return otherwise
    text = ast.unparse(node)
    return text if len(text) <= _SHORT and text.isprintable() else otherwise


def truncate(text: str, limit: int = 40) -> str:
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
