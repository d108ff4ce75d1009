r"""Formulas other than arithmetic: symbols, functions, relations and cases."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property, lru_cache

from primitives.text.formula import Formula, Level
from primitives.text.printable import as_latex


@dataclass(frozen=True)
class Symbol(Formula):
    """A variable: a letter or name with its indices.

    Attributes:
        latex_text: the symbol in LaTeX.
        plain_text: the symbol in plain text.
        has_superscript: whether the LaTeX ends in a superscript or a prime.
        is_small: whether the value is smaller than an array, such as a scalar.
    """

    latex_text: str
    plain_text: str
    has_superscript: bool = False
    is_small: bool = False

    @property
    def level(self) -> Level:
        """How tightly the symbol binds; with a superscript it needs brackets before another."""
        return Level.POWER if self.has_superscript else Level.ATOM

    @property
    def plain_level(self) -> Level:
        """How tightly the symbol binds in plain text."""
        return Level.ATOM

    @property
    def rank(self) -> int:
        """Position in a product; values smaller than an array precede arrays."""
        return 1 if self.is_small else 3

    def latex(self) -> str:  # noqa: D102
        return self.latex_text

    def plain(self) -> str:  # noqa: D102
        return self.plain_text


_DELIMITERS = re.compile(r"\\l[vV]ert|\\langle|[(\[]|\\r[vV]ert|\\rangle|[)\]]")
_CLOSING = (r"\r", ")", "]")
_SELF_DELIMITED = (r"\lvert", r"\lVert", r"\langle")


@dataclass(frozen=True)
class Function(Formula):
    r"""A function: a LaTeX pattern with the operands at #1, #2, ...; plain text is a call.

    Brackets, norms and angles in the pattern get \left and \right if an operand contains a
    fraction.

    Attributes:
        pattern: LaTeX with #1, #2, ...
        name: name of the op.
        arguments: operands.
    """

    pattern: str
    name: str
    arguments: tuple[Formula, ...]

    @property
    def operands(self) -> tuple[Formula, ...]:
        """The arguments."""
        return self.arguments

    @property
    def level(self) -> Level:
        """How tightly the call binds; without brackets, f(x)^2 could be read as a power of x."""
        return Level.ATOM if self.pattern.startswith(_SELF_DELIMITED) else Level.POWER

    @property
    def plain_level(self) -> Level:
        """How tightly a call binds in plain text."""
        return Level.ATOM

    def latex(self) -> str:  # noqa: D102
        pattern = _with_growing_brackets(self.pattern) if self.height else self.pattern
        return re.sub(r"#(\d)", lambda match: self.operands[int(match[1]) - 1].latex(), pattern)

    def plain(self) -> str:  # noqa: D102
        return f"{self.name}({', '.join(operand.plain() for operand in self.operands)})"


def _with_growing_brackets(pattern: str) -> str:
    return _DELIMITERS.sub(
        lambda match: (r"\right" if match[0].startswith(_CLOSING) else r"\left") + match[0], pattern
    )


@dataclass(frozen=True)
class Relation(Formula):
    """Iverson bracket: 1 where a relation holds, else 0.

    Attributes:
        sign: relation sign in LaTeX.
        plain_sign: relation sign in plain text.
        left: left side.
        right: right side.
    """

    sign: str
    plain_sign: str
    left: Formula
    right: Formula

    @property
    def operands(self) -> tuple[Formula, ...]:
        """Both sides."""
        return self.left, self.right

    def statement(self) -> str:
        """Return the LaTeX of the relation without the bracket."""
        return f"{self.left.latex()} {self.sign} {self.right.latex()}"

    def latex(self) -> str:  # noqa: D102
        return rf"\left[{self.statement()}\right]" if self.height else f"[{self.statement()}]"

    def plain(self) -> str:  # noqa: D102
        return f"[{self.left.plain()} {self.plain_sign} {self.right.plain()}]"


@dataclass(frozen=True)
class Cases(Formula):
    """A choice: `chosen` where `condition` is not 0, `otherwise` elsewhere."""

    condition: Formula
    chosen: Formula
    otherwise: Formula
    level = Level.LINE

    @property
    def operands(self) -> tuple[Formula, ...]:
        """Condition and both branches."""
        return self.condition, self.chosen, self.otherwise

    @property
    def plain_level(self) -> Level:
        """How tightly a call binds in plain text."""
        return Level.ATOM

    @cached_property
    def height(self) -> int:
        """Nesting depth of fractions; cases count as one fraction."""
        return 1 + max(operand.height for operand in self.operands)

    def latex(self) -> str:  # noqa: D102
        condition = self.condition
        holds = (
            condition.statement()
            if isinstance(condition, Relation)
            else rf"{condition.latex()} \neq 0"
        )
        chosen, otherwise = self.chosen.latex(), self.otherwise.latex()
        return (
            rf"\begin{{cases}} {chosen} & \text{{if }} {holds} \\ "
            rf"{otherwise} & \text{{otherwise}} \end{{cases}}"
        )

    def plain(self) -> str:  # noqa: D102
        return f"where({', '.join(operand.plain() for operand in self.operands)})"


_GREEK = frozenset(
    {"alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"}
    | {"lambda", "mu", "nu", "xi", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi"}
    | {"omega"}
)
_WORDS = {
    "lr": r"\eta",
    "eps": r"\epsilon",
    "update": "u",
    "weight": "w",
    "weights": "w",
    "param": r"\theta",
    "params": r"\theta",
    "grad": "g",
    "gradient": "g",
} | {name: rf"\{name}" for name in _GREEK}
"""LaTeX of names that have a usual symbol. Other names become single letters or upright text."""

_ACCENTS = ("hat", "bar", "tilde")


@lru_cache(maxsize=4096)
def letter(name: str) -> tuple[str, str]:
    r"""Split a variable's name into a letter and an index, both in LaTeX.

    The index is empty if the name has none: `m_hat` gives \hat{m}; `beta1` and `beta_1` give \beta
    with index 1; `row_scale` gives upright text.
    """
    head, _, tail = name.partition("_")
    if tail in _ACCENTS and _single(head):
        return rf"\{tail}{{{_single(head)}}}", ""
    if tail and _single(head) and (tail.isdecimal() or tail.isalpha()) and tail.isascii():
        return _single(head), tail if tail.isdecimal() else rf"\mathrm{{{tail}}}"
    word = name.rstrip("0123456789")
    if word != name and _single(word):
        return _single(word), name[len(word) :]
    return _single(name) or _upright(name), ""


def _single(name: str) -> str:
    """Return the usual LaTeX letter for a name, or an empty text if there is none."""
    if len(name) == 1 and name.isascii() and name.isalpha():
        return name
    if len(name) == 1 and not name.isascii():
        words = unicodedata.name(name, "").split()  # GREEK SMALL LETTER ALPHA
        if words[:3] == ["GREEK", "SMALL", "LETTER"] and words[3].lower() in _GREEK:
            return _WORDS[words[3].lower()]
    return _WORDS.get(name, "")


def _upright(name: str) -> str:
    plain = re.fullmatch(r"\w+", name, re.ASCII)
    return rf"\mathrm{{{as_latex(name)}}}" if plain else rf"\text{{{as_latex(name)}}}"


def symbol(name: str, index: str = "t", primes: int = 0, is_small: bool = False) -> Symbol:
    """Return the symbol of a variable at one time.

    Args:
        name: name of the variable.
        index: time index: "t", "t-1" or empty.
        primes: number of primes, which distinguish variables of the same name.
        is_small: whether the value is smaller than an array.
    """
    base, own_index = letter(name)
    subscript = ", ".join(part for part in (own_index, index) if part)
    mark = "'" * primes if primes < 4 else f"({primes})"
    superscript = mark if primes < 4 else rf"^{{{mark}}}"
    latex_text = base + superscript
    if subscript:
        latex_text += f"_{{{subscript}}}" if len(subscript) > 1 else f"_{subscript}"
    plain_text = name + mark + (f"[{index}]" if index else "")
    return Symbol(latex_text, plain_text, has_superscript=primes > 0, is_small=is_small)
