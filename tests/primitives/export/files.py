"""The zoo's exported files, each made and loaded once for all tests."""

from functools import cache

import pytest

from primitives import zoo
from primitives.export import export, load
from primitives.export.naming import camel_case

FEW = ("adamw", "adafactor", "amos", "eg_step_size", "lamb", "momentum")
"""Between them states of every kind, a schedule inside, weight decay, and nothing to read but g."""

MOST_IN_SLOW = [
    pytest.param(name, marks=() if name in FEW else pytest.mark.slow) for name in zoo.names()
]
"""The zoo for laws that compile: `FEW` by default, all of it with `-m slow`."""


@cache
def exported(name, target):
    return export(zoo.load(name), target, name, zoo.summary(name))


@cache
def module(name, target):
    return load(exported(name, target))


def alias(name):
    """The function that makes the optax optimizer."""
    return getattr(module(name, "optax"), name)


def optimizer_class(name):
    """The subclass of `torch.optim.Optimizer`."""
    return getattr(module(name, "torch"), camel_case(name))
