"""Exceptions in trainings of a user's task, as errors that name the task and the program."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from jax.errors import JaxRuntimeError

from evosearch.errors import EvosearchError, told
from evosearch.training.contenders import Contender, described
from proxies import Task


class TrainingError(EvosearchError):
    """A training ended with an exception.

    Attributes:
        task: the task's name.
        contender: what it was trained with; None before there was any.
        reason: the exception, on one line.
    """

    def __init__(self, task: str, contender: Contender | None, reason: str, name: str = ""):
        self.task, self.contender, self.reason = task, contender, reason
        name = name or ("" if contender is None else described(contender))
        doing = f"fails in a training with {name}" if name else "cannot be set up"
        super().__init__(f"task {task!r} {doing}: {reason}")

    def named(self, name: str) -> TrainingError:
        """The same error with a name for the program."""
        return TrainingError(self.task, self.contender, self.reason, name)


@contextmanager
def explained_failures(task: Task, contender: Contender | None = None) -> Iterator[None]:
    """Turns an exception in a user's task into an error; so too one of JAX's runtime in any task.

    Another exception in a bundled task is a defect of this project and stays as it is.

    Raises:
        TrainingError: names the task and what it was trained with.
    """
    try:
        yield
    except EvosearchError:
        raise
    except Exception as error:
        if not task.files and not isinstance(error, JaxRuntimeError):
            raise
        raise TrainingError(task.name, contender, told(error)) from error
