"""The registry of bundled tasks; to add a task, decorate its factory with `@register`."""

import difflib
from collections.abc import Callable
from functools import cache
from typing import Protocol, TypeVar

from proxies.task import SPLITS, Split, Task


class Factory(Protocol):
    """A function that builds the task of a name and a split."""

    def __call__(self, name: str, split: Split, /) -> Task:
        """Return the task `name`, on the data of `split`."""
        ...


class UnknownTaskError(KeyError):
    """There is no task of this name; the message suggests similar names.

    >>> print(UnknownTaskError("digit-mlp"))
    unknown task 'digit-mlp'; did you mean 'digits-mlp' or 'digits-mlp-10x' or ...
    >>> print(UnknownTaskError("table.csv"))
    unknown task 'table.csv'; name FILE.npz with arrays x and y, FILE.txt or FILE.py:FUNCTION
    """

    def __init__(self, name: str) -> None:
        similar = difflib.get_close_matches(name, names(), n=3)
        if similar:
            hint = f"did you mean {' or '.join(map(repr, similar))}?"
        elif "." in name or "/" in name:
            hint = "name FILE.npz with arrays x and y, FILE.txt or FILE.py:FUNCTION"
        else:
            hint = "`evosearch tasks` lists all tasks"
        super().__init__(f"unknown task {name!r}; {hint}")

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would return the repr of the message


_F = TypeVar("_F", bound=Factory)

_registered: dict[str, tuple[Split, Factory]] = {}
"""The split and the factory of each registered task, by the task's name."""


def register(name: str, split: Split) -> Callable[[_F], _F]:
    """Register the decorated factory as the task `name` of `split`; return the factory unchanged.

        @register("short-quadratic", "diagnostic")
        def short_quadratic(name: str, split: Split) -> Task:
            return dataclasses.replace(load("quadratic"), name=name, split=split, steps=5)

    >>> register("quadratic", "diagnostic")
    Traceback (most recent call last):
    ...
    ValueError: task 'quadratic' is already registered; choose another name

    Args:
        name: the task's name, unique among all tasks.
        split: the split that the task belongs to.

    Raises:
        ValueError: the name is taken, or there is no such split.
    """
    if name in _registered:
        raise ValueError(f"task {name!r} is already registered; choose another name")
    if split not in SPLITS:
        raise ValueError(f"task {name!r}: unknown split {split!r}; use one of {SPLITS}")

    def add(factory: _F) -> _F:
        _registered[name] = split, factory
        return factory

    return add


def names(split: Split | None = None) -> tuple[str, ...]:
    """Return the names of the registered tasks, in the order of registration.

    >>> names("search")[:2]
    ('digits-mlp', 'digits-conv')

    Args:
        split: the split whose tasks to list; None lists all tasks.
    """
    return tuple(
        name for name, (task_split, _) in _registered.items() if split in (None, task_split)
    )


def split(name: str) -> Split:
    """Return the split of the registered task `name`, without building the task.

    Raises:
        UnknownTaskError: there is no such task.
    """
    if name not in _registered:
        raise UnknownTaskError(name)
    return _registered[name][0]


@cache
def load(name: str) -> Task:
    """Return the registered task `name`; always the same object, so that it is compiled once.

    Raises:
        UnknownTaskError: there is no such task.
    """
    task_split = split(name)
    return _registered[name][1](name, task_split)
