"""Docstrings of the names that the packages export."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
import sys
from typing import Any

import pytest

import evosearch
import primitives
import proxies

PACKAGES = (primitives, proxies, evosearch)


def _exported() -> list[Any]:
    """The exported functions and classes, each with its name."""
    objects = [
        (f"{package.__name__}.{name}", inspect.unwrap(getattr(package, name)))
        for package in PACKAGES
        for name in package.__all__
    ]
    return [
        pytest.param(value, id=name)
        for name, value in objects
        if inspect.isfunction(value) or inspect.isclass(value)
    ]


each_exported = pytest.mark.parametrize("value", _exported())


@each_exported
def test_the_examples_print_what_they_say(value: Any) -> None:
    module = sys.modules[value.__module__]
    for test in doctest.DocTestFinder().find(value, value.__name__, module):
        results = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test)
        assert not results.failed


@each_exported
def test_the_first_line_is_a_sentence_that_stands_alone(value: Any) -> None:
    first, _, rest = (value.__doc__ or "").partition("\n")
    assert re.fullmatch(r"[A-Z`].*[.?]", first), first
    assert not rest.strip() or rest.startswith("\n"), "an empty line comes after the first"


@each_exported
def test_every_parameter_is_described(value: Any) -> None:
    """In `Args`, or in the text if it is the only one."""
    if inspect.isclass(value) and (issubclass(value, Exception) or "__init__" not in vars(value)):
        return
    text, parameters = inspect.getdoc(value) or "", inspect.signature(value).parameters
    entry = r"^ *{}: " if len(parameters) > 1 else r"\b{}s?\b"
    missing = [name for name in parameters if not re.search(entry.format(name), text, re.MULTILINE)]
    assert not missing


@each_exported
def test_there_is_an_example(value: Any) -> None:
    if inspect.isclass(value) and issubclass(value, Exception):
        return
    assert ">>> " in (value.__doc__ or "")


@pytest.mark.parametrize(
    "module",
    ["primitives", "primitives.explain.description", "proxies.data", "proxies.tasks.paper"],
)
def test_examples_of_names_that_are_not_exported_print_what_they_say(module: str) -> None:
    assert doctest.testmod(importlib.import_module(module)).failed == 0
