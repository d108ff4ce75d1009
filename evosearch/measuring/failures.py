"""Exceptions in trainings of a user's task, as errors that name the task and the program."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import extract_tb
from typing import Any

from jax.errors import JaxRuntimeError

from evosearch.errors import EvosearchError, describe_error
from evosearch.measuring.contenders import Contender, describe_contender
from evosearch.seeds import Seed
from proxies import Task


class TrainingError(EvosearchError):
    """A training ended with an exception.

    Attributes:
        task: the task's name.
        contender: what it was trained with; None before there was any.
        reason: the exception, on one line, with the line of the user's file that raised it.
        name: the contender's name; "" for what `contenders.describe_contender` calls it.
        seed: the training's; None where it is not known.
    """

    def __init__(
        self,
        task: str,
        contender: Contender | None,
        reason: str,
        name: str = "",
        seed: Seed | None = None,
    ):
        self.task, self.contender, self.reason = task, contender, reason
        self.name, self.seed = name, seed
        name = name or ("" if contender is None else describe_contender(contender))
        doing = f"fails in a training with {name}" if name else "cannot be set up"
        where = f" on {seed.stream} seed {seed.number}" if name and seed is not None else ""
        super().__init__(f"task {task!r} {doing}{where}: {reason}")

    def __reduce__(self) -> tuple[Any, ...]:
        words = self.task, self.contender, self.reason, self.name, self.seed
        return TrainingError, words  # it crosses processes

    def named(self, name: str) -> TrainingError:
        """The same error with a name for the program."""
        return TrainingError(self.task, self.contender, self.reason, name, self.seed)

    def on(self, seed: Seed) -> TrainingError:
        """The same error with the training's seed."""
        return TrainingError(self.task, self.contender, self.reason, self.name, seed)


@contextmanager
def explain_failures(task: Task, contender: Contender | None = None) -> Iterator[None]:
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
        raise TrainingError(
            task.name, contender, describe_error(error) + _place(task, error)
        ) from error


def _place(task: Task, error: Exception) -> str:
    """Where in the task's files `error` was raised, in words; "" if it was elsewhere.

    In a callback that is in the text of JAX's error, else in its traceback.
    """
    frames = [(frame.filename, frame.lineno) for frame in extract_tb(error.__traceback__)]
    frames += re.findall(r'^  File "(.+)", line (\d+)', str(error), re.MULTILINE)
    own = [(path, line) for path, line in frames if path in dict(task.files)]
    return f" (line {own[-1][1]} of {Path(own[-1][0]).name})" if own else ""
