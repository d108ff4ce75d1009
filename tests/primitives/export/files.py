"""The exported files of the zoo; each is made and loaded once for all tests."""

from functools import cache

import pytest

from primitives import zoo
from primitives.export import export, load
from primitives.export.naming import camel_case

REPRESENTATIVE = ("adamw", "adafactor", "amos", "eg_step_size", "lamb", "momentum")
"""Programs that together have states of every kind, a schedule and weight decay; `momentum` reads
only the gradient.
"""

MOST_IN_SLOW = [
    pytest.param(name, marks=() if name in REPRESENTATIVE else pytest.mark.slow)
    for name in zoo.names()
]
"""Parameters of tests that compile: `REPRESENTATIVE` by default, the whole zoo with `-m slow`."""


@cache
def exported(name, target):
    return export(zoo.load(name), target, name, zoo.summary(name))


@cache
def module(name, target):
    return load(exported(name, target))


def alias(name):
    """Return the function that creates the optax optimizer."""
    return getattr(module(name, "optax"), name)


def optimizer_class(name):
    """Return the subclass of `torch.optim.Optimizer`."""
    return getattr(module(name, "torch"), camel_case(name))
