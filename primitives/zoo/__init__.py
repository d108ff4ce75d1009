"""The zoo: known optimizers as programs, one text file each.

A file starts with a header of comments: `# Title: one-line idea.`; the paper; the hyperparameters
as `name value` pairs with their published defaults, going on in the next line after a comma; then
notes, if any. The rest of the file is the program.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from primitives.parsing import parse
from primitives.program import Program
from primitives.text.wording import suggestion


class UnknownProgramError(KeyError):
    """No program of that name in the zoo; the message suggests one."""

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True)
class Entry:
    """What a zoo program's header says.

    Attributes:
        title: the optimizer's name as people write it.
        idea: what it does, in one line.
        paper: authors, year, and arXiv number or title.
        hyperparameters: name and published default of each, in the header's order.
        notes: what else a reader should know; may be empty.
    """

    title: str
    idea: str
    paper: str
    hyperparameters: tuple[tuple[str, float], ...]
    notes: str


@lru_cache
def names() -> tuple[str, ...]:
    """The zoo's programs, sorted."""
    files = resources.files(__name__).iterdir()
    return tuple(sorted(f.name.removesuffix(".txt") for f in files if f.name.endswith(".txt")))


def text(name: str) -> str:
    """The file of a zoo program, its header of comments included.

    Raises:
        UnknownProgramError: there is none of that name.
    """
    if name not in names():
        near = suggestion(name, names()) or f"; there are {', '.join(names())}"
        raise UnknownProgramError(f"no program {name!r} in the zoo{near}")
    return resources.files(__name__).joinpath(f"{name}.txt").read_text(encoding="utf-8")


@lru_cache
def load(name: str) -> Program:
    """A zoo program by name.

    Raises:
        UnknownProgramError: there is none of that name.
    """
    return parse(text(name))


@lru_cache
def entry(name: str) -> Entry:
    """What a program's header says.

    Raises:
        UnknownProgramError: there is none of that name.
    """
    lines = text(name).splitlines()
    first, paper, *rest = [line.removeprefix("# ") for line in lines if line.startswith("# ")]
    title, idea = first.split(": ", 1)
    end = next(i for i, line in enumerate(rest, 1) if not line.endswith(","))
    pairs = [pair.rsplit(" ", 1) for pair in " ".join(rest[:end]).split(", ")]
    hyperparameters = tuple((label, float(value)) for label, value in pairs)
    return Entry(title, idea, paper, hyperparameters, " ".join(rest[end:]))


def summary(name: str) -> str:
    """The one-line idea that a program's header starts with, after the optimizer's title."""
    return f"{entry(name).title}: {entry(name).idea}"
