"""Tasks by name: registered ones, and those that a user brings."""

from proxies import own, registry
from proxies.task import Task


def load(name: str) -> Task:
    """The task `name`, built on first use; always the same object, so that it compiles once.

    Args:
        name: a registered name, or a file as in `proxies.own`.

    Raises:
        UnknownTaskError: there is no such task.
        OwnTaskError: a user's file cannot be made a task.
    """
    return own.load(name) if own.is_own(name) else registry.load(name)
