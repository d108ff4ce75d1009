"""Pictures, drawn with the optional dependency matplotlib: `pip install 'evosearch[plot]'`.

Each module draws one kind of picture; `figure` holds shared code.
"""

from __future__ import annotations

from importlib.util import find_spec

from evosearch.errors import UsageError


def require() -> None:
    """Check that matplotlib is installed.

    Raises:
        UsageError: matplotlib is missing.
    """
    if find_spec("matplotlib") is None:
        raise UsageError("plots need matplotlib; install it with `pip install 'evosearch[plot]'`")
