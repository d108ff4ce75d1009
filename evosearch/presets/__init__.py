"""Settings that come with the package: presets to start from, baselines to lay over any search."""

from __future__ import annotations

import tomllib
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

from evosearch.errors import UsageError

_PRESETS = resources.files(__name__)
_BASELINES = _PRESETS.joinpath("baselines")


def presets() -> tuple[str, ...]:
    """The names of the presets."""
    return _names_in(_PRESETS)


def load_preset(name: str) -> dict[str, Any]:
    """The settings of a preset.

    Raises:
        UsageError: there is none of that name.
    """
    return _read(_PRESETS, name, "preset")


def baselines() -> tuple[str, ...]:
    """The names of the searches that a search has to beat (docs/measurement.md)."""
    return _names_in(_BASELINES)


def load_baseline(name: str) -> dict[str, Any]:
    """The settings that make any search a baseline; lay them `over` the search's own.

    Raises:
        UsageError: there is none of that name.
    """
    return _read(_BASELINES, name, "baseline")


def over(base: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """`settings` laid over `base`; in a section that both have, key by key."""
    laid = {**base, **settings}
    for name in base.keys() & settings.keys():
        if isinstance(base[name], dict) and isinstance(settings[name], dict):
            laid[name] = over(base[name], settings[name])
    return laid


def _names_in(folder: Traversable) -> tuple[str, ...]:
    names = (file.name for file in folder.iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml")))


def _read(folder: Traversable, name: str, what: str) -> dict[str, Any]:
    known = _names_in(folder)
    if name not in known:
        from primitives.text.wording import (
            suggestion,  # with all of `primitives`, which takes a second
        )

        near = suggestion(name, known) or f"; there are {', '.join(known)}"
        raise UsageError(f"no {what} {name!r}{near}")
    return tomllib.loads(folder.joinpath(f"{name}.toml").read_text("utf-8"))
