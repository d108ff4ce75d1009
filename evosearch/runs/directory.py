"""A run's directory: its creation, configuration and environment."""

from __future__ import annotations

import itertools
import json
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evosearch.config import CHANGEABLE_SETTINGS, Config, make_config, read_toml
from evosearch.errors import EvosearchError, UsageError, describe_error
from evosearch.files import read_bytes, write_text
from evosearch.runs.database import create
from evosearch.runs.store import Store

CONFIG = "config.toml"
ENVIRONMENT = "environment.json"
_MAX_ENVIRONMENT_BYTES = 2**20
"""Maximum size of `environment.json`; typical files have less than 10,000 bytes."""


def free_directory(name: str = "search") -> Path:
    """Return the first of `runs/NAME`, `runs/NAME-2`, `runs/NAME-3`, ... that does not exist."""
    numbered = (Path("runs") / f"{name}-{number}" for number in itertools.count(2))
    candidates = itertools.chain([Path("runs") / name], numbered)
    return next(path for path in candidates if not path.exists())


def make_run_directory(directory: Path, config: Config, environment: Mapping[str, Any]) -> None:
    """Create a run with its configuration, environment and an empty database.

    The remains of an interrupted creation are replaced.

    Args:
        directory: The run's directory; created if it does not exist.
        config: The run's configuration.
        environment: Description of the machine and its libraries, a JSON object.

    Raises:
        UsageError: The directory holds a run already.
        EvosearchError: The directory cannot be written.
    """
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    files = {
        CONFIG: config.to_toml(),
        ENVIRONMENT: json.dumps(environment, indent=2) + "\n",
    }
    create(directory, {"created": created, "config": config.to_toml()}, files)


def read_config(directory: Path) -> Config:
    """Return the configuration in a run's directory.

    Raises:
        UsageError: The directory holds no run, or its configuration is damaged.
    """
    if not (directory / CONFIG).exists():
        cause = f"{CONFIG} is missing" if directory.is_dir() else "there is no such directory"
        raise UsageError(f"{directory} holds no run ({cause}); check the path")
    try:
        settings = read_toml(directory / CONFIG)
    except UsageError as error:
        raise UsageError(f"{error}; restore it from a copy") from None
    try:
        return make_config(settings)
    except UsageError as error:
        raise UsageError(f"{directory / CONFIG}: {error}; restore it from a copy") from None


def read_environment(directory: Path) -> dict[str, Any]:
    """Return the content of `environment.json`; empty if the file is missing or damaged.

    Nothing depends on this file, so a damaged file is not an error.
    """
    try:
        environment = json.loads(read_bytes(directory / ENVIRONMENT, _MAX_ENVIRONMENT_BYTES))
    except (UsageError, ValueError, RecursionError):
        return {}
    return environment if isinstance(environment, dict) else {}


def check_config(store: Store, config: Config) -> None:
    """Check that `config` equals the run's original configuration.

    Settings that a resumed run may change (`CHANGEABLE_SETTINGS`) are not compared. All other
    settings influence the search, so a change would make the record invalid.

    Raises:
        UsageError: Settings differ; the message names them.
        EvosearchError: The stored configuration is damaged.
    """
    text = store.meta("config")
    if text is None:  # earlier versions did not store the configuration
        return
    try:
        original = make_config(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, UsageError, RecursionError, ValueError) as error:
        raise EvosearchError(
            f"{store.path} is damaged: the run's configuration in it is not valid "
            f"({describe_error(error)}); restore it from a copy"
        ) from None
    changed = [
        name
        for name in sorted(Config.model_fields.keys() - CHANGEABLE_SETTINGS)
        if getattr(original, name) != getattr(config, name)
    ]
    if changed:
        path = store.directory / CONFIG
        raise UsageError(
            f"{path} was changed after the run was created ({', '.join(changed)}); undo the change "
            f"with `evosearch check {store.directory} --repair`, or start another run with "
            f"`evosearch search {path}`"
        )


def restore_config(directory: Path) -> bool:
    """Restore `config.toml` from the database if it was changed.

    Returns:
        Whether the file was changed and is now restored.

    Raises:
        EvosearchError: The file cannot be written.
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
