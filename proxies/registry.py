"""The tasks by name. A new task is one factory under `@register`."""

import difflib
from collections.abc import Callable
from functools import cache
from typing import Protocol, TypeVar

from proxies.task import SPLITS, Split, Task


class Factory(Protocol):
    """Builds a task under a name, from the data of a split."""

    def __call__(self, name: str, split: Split, /) -> Task:
        """The task `name`, on the data of `split`."""
        ...


class UnknownTaskError(KeyError):
    """No task has this name; the message says which ones are near."""

    def __init__(self, name: str) -> None:
        near = difflib.get_close_matches(name, names(), n=3)
        hint = "`evosearch tasks` lists them all"
        if near:
            hint = f"did you mean {' or '.join(map(repr, near))}?"
        super().__init__(f"unknown task {name!r}; {hint}")

    def __str__(self) -> str:
        return str(self.args[0])  # a KeyError would show the message's repr


_F = TypeVar("_F", bound=Factory)

_rows: dict[str, tuple[Split, Factory]] = {}


def register(name: str, split: Split) -> Callable[[_F], _F]:
    """Make the decorated factory the task `name` of `split`; the factory itself is unchanged.

    Raises:
        ValueError: the name is taken, or there is no such split.
    """
    if name in _rows:
        raise ValueError(f"task {name!r} is already registered; choose another name")
    if split not in SPLITS:
        raise ValueError(f"task {name!r}: unknown split {split!r}; use one of {SPLITS}")

    def add(factory: _F) -> _F:
        _rows[name] = split, factory
        return factory

    return add


def names(split: Split | None = None) -> tuple[str, ...]:
    """The names of all tasks, or of those of one split, in the order of registration."""
    return tuple(name for name, (its, _) in _rows.items() if split in (None, its))


def split(name: str) -> Split:
    """Who may touch the task `name`; the task is not built.

    Raises:
        UnknownTaskError: there is no such task.
    """
    if name not in _rows:
        raise UnknownTaskError(name)
    return _rows[name][0]


@cache
def load(name: str) -> Task:
    """The task `name`, built on first use; always the same object, so that it compiles once.

    Raises:
        UnknownTaskError: there is no such task.
    """
    its = split(name)
    return _rows[name][1](name, its)
