"""A run's directory: making one, its configuration and its environment."""

from __future__ import annotations

import itertools
import json
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evosearch.config import SAME_SEARCH, Config, make_config, read_toml
from evosearch.errors import EvosearchError, UsageError, describe_error
from evosearch.files import read_bytes, write_text
from evosearch.runs.database import create
from evosearch.runs.store import Store

CONFIG = "config.toml"
ENVIRONMENT = "environment.json"
_LARGEST_ENVIRONMENT = 2**20
"""Bytes of an environment; those of real runs have less than ten thousand."""


def free_directory(name: str = "search") -> Path:
    """`runs/NAME`, or the first of `runs/NAME-2`, `runs/NAME-3`, ... that does not exist."""
    candidates = (Path("runs") / (name if n == 1 else f"{name}-{n}") for n in itertools.count(1))
    return next(path for path in candidates if not path.exists())


def make_run_directory(directory: Path, config: Config, environment: Mapping[str, Any]) -> None:
    """Writes a new run: its configuration, its environment and an empty store, which comes last.

    What is left of a run whose making was interrupted is replaced.

    Raises:
        UsageError: the directory holds a run already.
        EvosearchError: it cannot be written.
    """
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    files = {
        CONFIG: config.to_toml(),
        ENVIRONMENT: json.dumps(environment, indent=2) + "\n",
    }
    create(directory, {"created": created, "config": config.to_toml()}, files)


def read_config(directory: Path) -> Config:
    """The configuration that a run was made with.

    Raises:
        UsageError: the directory holds no run, or its configuration is damaged.
    """
    if not (directory / CONFIG).exists():
        why = f"{CONFIG} is missing" if directory.is_dir() else "there is no such directory"
        raise UsageError(f"{directory} holds no run ({why}); check the path")
    try:
        settings = read_toml(directory / CONFIG)
    except UsageError as error:
        raise UsageError(f"{error}; restore it from a copy") from None
    try:
        return make_config(settings)
    except UsageError as error:
        raise UsageError(f"{directory / CONFIG}: {error}; restore it from a copy") from None


def read_environment(directory: Path) -> dict[str, Any]:
    """What `environment.json` holds; empty if it is missing or damaged, since it only informs."""
    try:
        found = json.loads(read_bytes(directory / ENVIRONMENT, _LARGEST_ENVIRONMENT))
    except (UsageError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def check_config(store: Store, config: Config) -> None:
    """Whether `config` is what the run was made with, but for what may change.

    Every figure depends on it, and a search under other settings is another search.

    Raises:
        UsageError: it is not; says which settings differ.
    """
    text = store.meta("config")
    if text is None:  # a run from before this was kept
        return
    try:
        made = make_config(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, UsageError, RecursionError, ValueError) as error:
        raise EvosearchError(
            f"{store.path} is damaged: it does not hold the run's configuration "
            f"({describe_error(error)}); restore it from a copy"
        ) from None
    changed = [
        name
        for name in sorted(Config.model_fields.keys() - SAME_SEARCH)
        if getattr(made, name) != getattr(config, name)
    ]
    if changed:
        path = store.directory / CONFIG
        raise UsageError(
            f"{path} is not what the run was made with ({', '.join(changed)}); undo the change "
            f"(`evosearch check {store.directory} --repair` does), or start another run: "
            f"evosearch search {path}"
        )


def restore_config(directory: Path) -> bool:
    """Writes `config.toml` as the run was made with, if it is another now; whether it did.

    Raises:
        EvosearchError: it cannot be written.
    """
    store = Store.open(directory)
    try:
        text = store.meta("config")
        if text is None:
            return False
        try:
            check_config(store, read_config(directory))
        except UsageError:
            write_text(directory / CONFIG, text, follow=False)
            return True
        return False
    finally:
        store.close()
