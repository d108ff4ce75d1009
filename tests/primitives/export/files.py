"""The exported files of the zoo, each generated and loaded once for all tests."""

from functools import cache

import pytest

from primitives import zoo
from primitives.export import export, load
from primitives.export.naming import camel_case

REPRESENTATIVE = ("adamw", "adafactor", "amos", "eg_step_size", "lamb", "momentum")
"""Programs that together have states of every kind, a schedule and weight decay.

`momentum` does not read the weights.
"""

REPRESENTATIVE_OR_SLOW = [
    pytest.param(name, marks=() if name in REPRESENTATIVE else pytest.mark.slow)
    for name in zoo.names()
]
"""Parameters of tests that compile: `REPRESENTATIVE` by default, the whole zoo with `-m slow`."""


@cache
def exported(name, target):
    """Return the exported file of a zoo program for "optax" or "torch"."""
    return export(zoo.load(name), target, name, zoo.summary(name))


@cache
def module(name, target):
    """Return the imported module of an exported file."""
    return load(exported(name, target))


def optax_function(name):
    """Return the function of an exported optax file that creates the optimizer."""
    return getattr(module(name, "optax"), name)


def optimizer_class(name):
    """Return the subclass of `torch.optim.Optimizer` in an exported PyTorch file."""
    return getattr(module(name, "torch"), camel_case(name))
