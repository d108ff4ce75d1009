"""The zoo: known optimizers as programs, one text file each.

Each file begins with a header of comments:

- `# Title: idea in one line.`
- the paper
- the hyperparameters as pairs `name value` with their published defaults, separated by commas; a
  line that ends in a comma continues in the next
- optional notes

The rest of the file is the program.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from primitives.parsing import parse
from primitives.program import Program
from primitives.text.wording import suggestion


class UnknownProgramError(KeyError):
    """The zoo has no program of the requested name."""

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True)
class Entry:
    """The header of a zoo program.

    Attributes:
        title: usual spelling of the optimizer's name.
        idea: what the optimizer does, in one line.
        paper: authors, year, and arXiv number or title.
        hyperparameters: pairs of name and published default.
        notes: additional remarks; may be empty.
    """

    title: str
    idea: str
    paper: str
    hyperparameters: tuple[tuple[str, float], ...]
    notes: str


@lru_cache
def names() -> tuple[str, ...]:
    """Return the names of all programs in the zoo, sorted."""
    files = resources.files(__name__).iterdir()
    return tuple(sorted(f.name.removesuffix(".txt") for f in files if f.name.endswith(".txt")))


def text(name: str) -> str:
    """Return the text file of a zoo program, including the header.

    Raises:
        UnknownProgramError: the zoo has no program of this name.
    """
    if name not in names():
        hint = suggestion(name, names()) or f"; choose one of {', '.join(names())}"
        raise UnknownProgramError(f"no program {name!r} in the zoo{hint}")
    return resources.files(__name__).joinpath(f"{name}.txt").read_text(encoding="utf-8")


@lru_cache
def load(name: str) -> Program:
    """Return the zoo program of the given name.

    Raises:
        UnknownProgramError: the zoo has no program of this name.
    """
    return parse(text(name))


@lru_cache
def entry(name: str) -> Entry:
    """Return the header of the zoo program of the given name.

    Raises:
        UnknownProgramError: the zoo has no program of this name.
    """
    lines = text(name).splitlines()
    first, paper, *rest = [line.removeprefix("# ") for line in lines if line.startswith("# ")]
    title, idea = first.split(": ", 1)
    end = next(i for i, line in enumerate(rest, 1) if not line.endswith(","))
    pairs = [pair.rsplit(" ", 1) for pair in " ".join(rest[:end]).split(", ")]
    hyperparameters = tuple((label, float(value)) for label, value in pairs)
    return Entry(title, idea, paper, hyperparameters, " ".join(rest[end:]))


def summary(name: str) -> str:
    """Return the title and the idea of a zoo program, as in `Lion: ...`, in one line."""
    return f"{entry(name).title}: {entry(name).idea}"
