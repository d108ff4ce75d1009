"""Words for the parser's error messages: names of syntax, corrections, and suggestions."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterable
from itertools import islice

_NodeTypes = type[ast.AST] | tuple[type[ast.AST], ...]

_NODE_NAMES: dict[_NodeTypes, str] = {
    ast.AugAssign: "an assignment like `+=`",
    ast.AnnAssign: "an annotated assignment",
    (ast.Import, ast.ImportFrom): "an import",
    ast.FunctionDef: "a function",
    ast.AsyncFunctionDef: "an async function",
    ast.ClassDef: "a class",
    (ast.For, ast.AsyncFor, ast.While): "a loop",
    (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp): "a comprehension",
    ast.If: "an if statement",
    ast.IfExp: "a conditional expression",
    ast.NamedExpr: "an assignment within an expression",
    ast.JoinedStr: "a formatted text",
    ast.Attribute: "an attribute",
    ast.Starred: "a starred argument",
}
"""Common names of syntax that differ from the names of the classes in `ast`."""

_REMEDIES: dict[_NodeTypes, str] = {
    ast.AugAssign: "write m = m + g",
    ast.AnnAssign: "leave out the annotation",
    (ast.For, ast.AsyncFor, ast.While): "write out each iteration",
    (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp): "write out each iteration",
    ast.If: "write x = where(c, x, y)",
    ast.IfExp: "write where(c, x, y)",
    ast.NamedExpr: "use a separate statement",
    ast.Attribute: "call ops by their bare name, as in sign(g)",
    ast.Subscript: "use row_mean, col_mean or where on whole arrays",
    ast.Tuple: "assign one value at a time",
    ast.Starred: "pass operands one by one",
    ast.JoinedStr: "write notes as # comments",
}
"""What to write instead of unsupported syntax; for other syntax the parser lists what it allows."""

_OPERATOR_SIGNS: dict[type[ast.AST], str] = {
    **{ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**"},
    **{ast.MatMult: "@", ast.Mod: "%", ast.FloorDiv: "//", ast.BitXor: "^", ast.BitAnd: "&"},
    **{ast.BitOr: "|", ast.LShift: "<<", ast.RShift: ">>"},
    **{ast.UAdd: "+", ast.USub: "-", ast.Invert: "~", ast.Not: "not", ast.And: "and", ast.Or: "or"},
    **{ast.Gt: ">", ast.GtE: ">=", ast.Lt: "<", ast.LtE: "<=", ast.Eq: "==", ast.NotEq: "!="},
    **{ast.In: "in", ast.NotIn: "not in", ast.Is: "is", ast.IsNot: "is not"},
}

MATRIX_PRODUCTS = frozenset(("bmm", "einsum", "matmul", "mm", "outer", "tensordot"))
"""Functions of other libraries that users may expect and that no op replaces."""
NO_MATRIX_PRODUCTS = (
    "there are no matrix products in this language; see `evosearch ops` (orthogonalize, row_mean, "
    "col_mean)"
)

_OPERATOR_REMEDIES: dict[type[ast.AST], str] = {
    ast.MatMult: NO_MATRIX_PRODUCTS,
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
"""What to write instead of an operator; {0} and {1} stand for the operands."""

_MAX_QUOTED_SIZE = 20
"""Maximum size of an expression to quote: in nodes of the syntax tree, and in characters."""


def describe(node: ast.AST) -> str:
    """Return a short noun phrase for a node of Python's syntax tree."""
    match node:
        case ast.Expr(value=value):
            return describe(value)
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
            return f"comparison `{_OPERATOR_SIGNS[type(operator)]}`"
        case ast.BinOp(op=operator) | ast.UnaryOp(op=operator) | ast.BoolOp(op=operator):
            return f"operator `{_OPERATOR_SIGNS[type(operator)]}`"
    for types, words in _NODE_NAMES.items():
        if isinstance(node, types):
            return words
    words = re.sub(r"(?<!^)(?=[A-Z])", " ", type(node).__name__).lower()
    return f"an {words}" if words[0] in "aeio" else f"a {words}"


def unsupported(node: ast.AST) -> str:
    """Return a clause which says that the syntax of `node` is not supported."""
    match node:
        case ast.BinOp() | ast.UnaryOp() | ast.BoolOp():
            return f"unsupported {describe(node)}"
        case ast.Expr(value=ast.Name() | ast.Call() as value):
            return f"{describe(value)} without an assignment"
    return f"{describe(node)} is not supported"


def remedy(node: ast.AST) -> str | None:
    """Return what to write instead of `node`; None if there is no equivalent."""
    match node:
        case ast.Expr(value=ast.Constant() as value):
            return remedy(value)
        case ast.Constant(value=str() | bytes()):
            return "write notes as # comments"
        case ast.Constant(value=bool()):
            return "write 1 or 0"
        case ast.BinOp(left=left, op=operator, right=right):
            return _operator_remedy(operator, left, right)
        case ast.UnaryOp(op=operator, operand=operand):
            return _operator_remedy(operator, operand)
        case ast.BoolOp(op=operator, values=[left, right, *_]):
            return _operator_remedy(operator, left, right)
        case ast.Compare(left=left, ops=[operator], comparators=[right]):
            return _operator_remedy(operator, left, right) or "write greater(x, y) or equal(x, y)"
        case ast.Compare():
            return "compare two values at a time, as in greater(x, y)"
    return next((words for types, words in _REMEDIES.items() if isinstance(node, types)), None)


def _operator_remedy(operator: ast.AST, *operands: ast.expr) -> str | None:
    template = _OPERATOR_REMEDIES.get(type(operator))
    if template is None:
        return None
    return template.format(*map(_quoted, operands, "xy"))


def _quoted(node: ast.expr, placeholder: str) -> str:
    """Return the text of a short expression, or `placeholder` for a long one."""
    if len(list(islice(ast.walk(node), _MAX_QUOTED_SIZE))) == _MAX_QUOTED_SIZE:
        return placeholder
    text = ast.unparse(node)
    return text if len(text) <= _MAX_QUOTED_SIZE and text.isprintable() else placeholder


def truncate(text: str, limit: int = 40) -> str:
    """Shorten `text` to at most `limit` characters, with "..." at the end if it was longer."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


def one_line(text: str) -> str:
    """Replace each run of white space in `text`, line breaks included, by one space."""
    return " ".join(text.split())


def suggestion(name: str, candidates: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the candidate closest to `name`, or an empty text.

    Args:
        name: the unknown name.
        candidates: the names that exist.
    """
    names = list(candidates)
    close = [other for other in names if sorted(other) == sorted(name)]  # letters swapped
    close = close or difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
