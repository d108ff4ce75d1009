"""When a search ends: the limits of its configuration, or those that it was resumed with last."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from evosearch.config import Config, make_config
from evosearch.errors import EvosearchError, UsageError
from evosearch.runs.store import Store

_KEY = "limits"


@dataclass(frozen=True)
class Limits:
    """Limits of a search; None is no limit.

    Attributes:
        programs: that are generated, over all processes.
        trainings: that are made, over all processes.
        minutes: from the start of this process.
    """

    programs: int | None = None
    trainings: int | None = None
    minutes: float | None = None

    def __bool__(self) -> bool:
        return any(value is not None for value in asdict(self).values())

    @classmethod
    def of(cls, config: Config) -> Limits:
        """The limits of a configuration."""
        return cls(config.programs, config.trainings, config.minutes)

    def keep(self, store: Store) -> None:
        """Keeps limits that a resume was given, for a later one without any."""
        if self:
            store.set_meta(_KEY, json.dumps(asdict(self)))


NO_LIMITS = Limits()


def kept_limits(store: Store, config: Config) -> Limits:
    """The limits that a run was last resumed with; without any, those of its configuration.

    Raises:
        EvosearchError: what is kept is damaged.
    """
    text = store.meta(_KEY)
    if text is None:
        return Limits.of(config)
    try:
        given = {name: value for name, value in json.loads(text).items() if value is not None}
        others = config.model_dump(exclude_none=True, exclude=set(asdict(Limits())))
        return Limits.of(make_config({**others, **given}))
    except (UsageError, ValueError, TypeError, AttributeError, RecursionError):
        raise EvosearchError(
            f"{store.path} is damaged: it does not hold the limits of the run; restore it from a "
            "copy, or give limits"
        ) from None
