"""Tasks by name: registered ones, and those that a user brings."""

from proxies import precision, registry
from proxies.task import Split, Task
from proxies.user_tasks import files


def load(name: str) -> Task:
    """The task `name`, built on first use; always the same object, so that it compiles once.

    Args:
        name: a registered name, or a file as in `proxies.user_tasks.files`; with "+bfloat16" behind
            it, the same task as `proxies.in_bfloat16` makes it.

    Raises:
        UnknownTaskError: there is no such task.
        UserTaskError: a user's file cannot be made a task.
    """
    if name.endswith(precision.SUFFIX):
        return precision.in_bfloat16(load(name.removesuffix(precision.SUFFIX)))
    return files.load(name) if files.is_user_task(name) else registry.load(name)


def split(name: str) -> Split:
    """Who may touch the task `name`; only a user's task is built for that. Raises as `load`."""
    name = name.removesuffix(precision.SUFFIX)
    return files.load(name).split if files.is_user_task(name) else registry.split(name)
