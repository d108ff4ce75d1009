"""Settings that come with the package: presets, and baselines that override any settings."""

from __future__ import annotations

import tomllib
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

from evosearch.errors import UsageError

_PRESETS = resources.files(__name__)
_BASELINES = _PRESETS.joinpath("baselines")


def presets() -> tuple[str, ...]:
    """Return the names of the presets."""
    return _names_in(_PRESETS)


def load_preset(name: str) -> dict[str, Any]:
    """Return the settings of a preset.

    Args:
        name: Name of a preset: quick, standard or focused.

    Raises:
        UsageError: No preset has that name.

    Example:
        >>> import evosearch
        >>> evosearch.load_preset("quick")["population"]
        300
    """
    return _read(_PRESETS, name, "preset")


def baselines() -> tuple[str, ...]:
    """Return the names of the baseline searches (docs/measurement.md)."""
    return _names_in(_BASELINES)


def load_baseline(name: str) -> dict[str, Any]:
    """Return the settings of a baseline search, to be merged `over` other settings.

    Raises:
        UsageError: No baseline has that name.
    """
    return _read(_BASELINES, name, "baseline")


def over(base: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Return `base` updated with `settings`; sections are merged key by key."""
    merged = {**base, **settings}
    for name in base.keys() & settings.keys():
        if isinstance(base[name], dict) and isinstance(settings[name], dict):
            merged[name] = over(base[name], settings[name])
    return merged


def _names_in(folder: Traversable) -> tuple[str, ...]:
    names = (file.name for file in folder.iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml")))


def _read(folder: Traversable, name: str, kind: str) -> dict[str, Any]:
    names = _names_in(folder)
    if name not in names:
        from primitives.text.wording import (
            suggestion,  # imports all of `primitives`, which takes a second
        )

        near = suggestion(name, names) or f"; there are {', '.join(names)}"
        raise UsageError(f"no {kind} {name!r}{near}")
    return tomllib.loads(folder.joinpath(f"{name}.toml").read_text("utf-8"))
