"""Pictures with matplotlib, which is optional: `pip install 'evosearch[plot]'`.

A module a kind of picture; `figure` holds what all share.
"""

from __future__ import annotations

from importlib.util import find_spec

from evosearch.errors import UsageError


def require() -> None:
    """Whether pictures can be drawn.

    Raises:
        UsageError: matplotlib is missing; says how to install it.
    """
    if find_spec("matplotlib") is None:
        raise UsageError("plots need matplotlib; install it by `pip install 'evosearch[plot]'`")
