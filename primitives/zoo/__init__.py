"""The zoo: known optimizers as programs, one text file each."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources

from primitives.parsing import parse, suggestion
from primitives.program import Program


class UnknownProgramError(KeyError):
    """No program of that name in the zoo; the message suggests one."""

    def __str__(self) -> str:
        return str(self.args[0])


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


def summary(name: str) -> str:
    """The one-line idea that a program's header starts with."""
    return text(name).splitlines()[0].lstrip("# ")
