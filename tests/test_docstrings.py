"""Docstrings of the names that the packages export."""

from __future__ import annotations

import doctest
import importlib
import inspect
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


@pytest.mark.parametrize("name", primitives.__all__)
def test_exported_functions_and_classes_of_primitives_have_an_example(name: str) -> None:
    value = getattr(primitives, name)
    if inspect.isfunction(value) or inspect.isclass(value):
        assert ">>> " in (inspect.getdoc(value) or "")


@pytest.mark.parametrize(
    "module",
    ["primitives", "primitives.explain.description", "proxies.data", "proxies.tasks.paper"],
)
def test_examples_of_names_that_are_not_exported_print_what_they_say(module: str) -> None:
    assert doctest.testmod(importlib.import_module(module)).failed == 0
