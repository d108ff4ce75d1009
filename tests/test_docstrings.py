"""Tests that exported functions and classes have complete docstrings with examples that run."""

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
    """Return the exported functions and classes as test parameters, with their names as ids."""
    named_objects = [
        (f"{package.__name__}.{name}", inspect.unwrap(getattr(package, name)))
        for package in PACKAGES
        for name in package.__all__
    ]
    return [
        pytest.param(value, id=name)
        for name, value in named_objects
        if inspect.isfunction(value) or inspect.isclass(value)
    ]


each_exported = pytest.mark.parametrize("value", _exported())


@each_exported
def test_the_examples_print_the_documented_output(value: Any) -> None:
    module = sys.modules[value.__module__]
    for test in doctest.DocTestFinder().find(value, value.__name__, module):
        results = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test)
        assert not results.failed


@each_exported
def test_the_first_line_is_a_sentence_and_an_empty_line_follows(value: Any) -> None:
    first_line, _, other_lines = (value.__doc__ or "").partition("\n")
    assert re.fullmatch(r"[A-Z`].*[.?]", first_line), first_line
    assert not other_lines.strip() or other_lines.startswith("\n"), "no empty line after the first"


@each_exported
def test_every_parameter_is_described(value: Any) -> None:
    """A single parameter may be described in the text; several are described under `Args`."""
    if inspect.isclass(value) and (issubclass(value, Exception) or "__init__" not in vars(value)):
        return
    docstring, parameters = inspect.getdoc(value) or "", inspect.signature(value).parameters
    pattern = r"^ *{}: " if len(parameters) > 1 else r"\b{}s?\b"
    missing = [
        name for name in parameters if not re.search(pattern.format(name), docstring, re.MULTILINE)
    ]
    assert not missing


@each_exported
def test_every_docstring_has_an_example(value: Any) -> None:
    if inspect.isclass(value) and issubclass(value, Exception):
        return
    assert ">>> " in (value.__doc__ or "")


@pytest.mark.parametrize(
    "module",
    ["primitives", "primitives.explain.description", "proxies.data", "proxies.tasks.paper"],
)
def test_the_examples_in_other_modules_print_the_documented_output(module: str) -> None:
    assert doctest.testmod(importlib.import_module(module)).failed == 0
