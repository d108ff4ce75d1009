"""Tasks by name: bundled tasks and user tasks."""

from proxies import precision, registry
from proxies.task import Split, Task
from proxies.user_tasks import files


def load(name: str) -> Task:
    """Return the task `name`, built on first use; always the same object, so it is compiled once.

    >>> load("quadratic").steps
    50

    Args:
        name: a registered name, or a file as described in `proxies.user_tasks.files`. The suffix
            "+bfloat16" gives the task that `proxies.in_bfloat16` returns.

    Raises:
        UnknownTaskError: there is no such task.
        UserTaskError: the file cannot be read, or does not define a task.
        UntrustedTaskError: an audit hook refused a Python file.
    """
    if name.endswith(precision.SUFFIX):
        return precision.in_bfloat16(load(name.removesuffix(precision.SUFFIX)))
    return files.load(name) if files.is_user_task(name) else registry.load(name)


def split(name: str) -> Split:
    """Return the split of the task `name`, without building bundled tasks.

    >>> split("digits-mlp")
    'search'

    Args:
        name: the name of a task, as in `load`.

    Raises:
        UnknownTaskError: there is no such task.
        UserTaskError: the file cannot be read, or does not define a task.
        UntrustedTaskError: an audit hook refused a Python file.
    """
    name = name.removesuffix(precision.SUFFIX)
    return files.load(name).split if files.is_user_task(name) else registry.split(name)
