"""Limits of a search: from its configuration, or from the last resume that gave limits."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from evosearch.config import Config, make_config
from evosearch.errors import EvosearchError, UsageError
from evosearch.runs.store import Store

_KEY = "limits"


@dataclass(frozen=True)
class Limits:
    """Limits of a search; None means unlimited.

    Attributes:
        programs: maximum number of generated programs over all processes.
        trainings: maximum number of trainings over all processes.
        minutes: maximum duration of this process.
    """

    programs: int | None = None
    trainings: int | None = None
    minutes: float | None = None

    def __bool__(self) -> bool:
        return any(value is not None for value in asdict(self).values())

    @classmethod
    def of(cls, config: Config) -> Limits:
        """Return the limits of a configuration."""
        return cls(config.programs, config.trainings, config.minutes)

    def save(self, store: Store) -> None:
        """Store the limits, if there are any, for later resumes without limits."""
        if self:
            store.set_meta(_KEY, json.dumps(asdict(self)))


NO_LIMITS = Limits()


def load_limits(store: Store, config: Config) -> Limits:
    """Return the limits of the last resume that gave any, or else the configuration's limits.

    Raises:
        EvosearchError: the stored limits are damaged.
    """
    text = store.meta(_KEY)
    if text is None:
        return Limits.of(config)
    try:
        limits = {name: value for name, value in json.loads(text).items() if value is not None}
        settings = config.model_dump(exclude_none=True, exclude=set(asdict(Limits())))
        return Limits.of(make_config({**settings, **limits}))  # validates the limits
    except (UsageError, ValueError, TypeError, AttributeError, RecursionError):
        raise EvosearchError(
            f"{store.path} is damaged: the stored limits of the run are invalid; restore it from a "
            "copy, or give new limits"
        ) from None
