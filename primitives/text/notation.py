r"""What formulas are made of beside arithmetic: symbols, functions, relations, cases."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property, lru_cache

from primitives.text.formula import Formula, Level
from primitives.text.printable import as_latex


@dataclass(frozen=True)
class Symbol(Formula):
    """A letter or name with its indices.

    `raised` says that it has a superscript already, `small` that it is no whole array.
    """

    written: str
    word: str
    raised: bool = False
    small: bool = False

    @property
    def level(self) -> Level:
        """A second superscript needs brackets."""
        return Level.POWER if self.raised else Level.ATOM

    @property
    def plain_level(self) -> Level:
        """Plain names are one word."""
        return Level.ATOM

    @property
    def rank(self) -> int:
        """What is smaller than an array goes before arrays."""
        return 1 if self.small else 3

    def latex(self) -> str:  # noqa: D102
        return self.written

    def plain(self) -> str:  # noqa: D102
        return self.word


_DELIMITERS = re.compile(r"\\l[vV]ert|\\langle|[(\[]|\\r[vV]ert|\\rangle|[)\]]")
_CLOSING = (r"\r", ")", "]")
_SELF_DELIMITED = (r"\lvert", r"\lVert", r"\langle")


@dataclass(frozen=True)
class Form(Formula):
    r"""Operands put into a LaTeX pattern at #1, #2, ...; plain text writes the op's call.

    Round and square brackets, norms and angles of the pattern grow with what they enclose.
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
        """Norms are closed; of `f(x)` a power would be read as that of x."""
        return Level.ATOM if self.pattern.startswith(_SELF_DELIMITED) else Level.POWER

    @property
    def plain_level(self) -> Level:
        """A call is one word."""
        return Level.ATOM

    def latex(self) -> str:  # noqa: D102
        pattern = _grown(self.pattern) if self.height else self.pattern
        return re.sub(r"#(\d)", lambda place: self.operands[int(place[1]) - 1].latex(), pattern)

    def plain(self) -> str:  # noqa: D102
        return f"{self.name}({', '.join(operand.plain() for operand in self.operands)})"


def _grown(pattern: str) -> str:
    return _DELIMITERS.sub(
        lambda one: (r"\right" if one[0].startswith(_CLOSING) else r"\left") + one[0], pattern
    )


@dataclass(frozen=True)
class Relation(Formula):
    """1 where a relation holds, else 0: Iverson's bracket."""

    sign: str
    plain_sign: str
    left: Formula
    right: Formula

    @property
    def operands(self) -> tuple[Formula, ...]:
        """Both sides."""
        return self.left, self.right

    def statement(self) -> str:
        """The relation without its bracket, in LaTeX."""
        return f"{self.left.latex()} {self.sign} {self.right.latex()}"

    def latex(self) -> str:  # noqa: D102
        return rf"\left[{self.statement()}\right]" if self.height else f"[{self.statement()}]"

    def plain(self) -> str:  # noqa: D102
        return f"[{self.left.plain()} {self.plain_sign} {self.right.plain()}]"


@dataclass(frozen=True)
class Cases(Formula):
    """`chosen` where `condition` is not 0, `otherwise` elsewhere."""

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
        """A call is one word."""
        return Level.ATOM

    @cached_property
    def height(self) -> int:
        """As a fraction of its tallest branch."""
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
"""What a person writes for a name; all else is a single letter or stands upright."""

_ACCENTS = ("hat", "bar", "tilde")


@lru_cache(maxsize=4096)
def letter(name: str) -> tuple[str, str]:
    r"""The LaTeX of a variable's name: what carries the indices, and its own index or nothing.

    `m_hat` is \hat{m}; `beta1` and `beta_1` are \beta with index 1; `row_scale` stands upright.
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
    """One letter for a name, or nothing if none is usual."""
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


def symbol(name: str, index: str = "t", primes: int = 0, small: bool = False) -> Symbol:
    """A variable at a time: `index` is t, t-1 or nothing; `primes` tell namesakes apart."""
    base, own = letter(name)
    below = ", ".join(one for one in (own, index) if one)
    mark = "'" * primes if primes < 4 else f"({primes})"
    above = mark if primes < 4 else rf"^{{{mark}}}"
    written = base + above + (f"_{{{below}}}" if len(below) > 1 else f"_{below}" if below else "")
    word = name + mark + (f"[{index}]" if index else "")
    return Symbol(written, word, raised=primes > 0, small=small)
