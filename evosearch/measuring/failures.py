"""Conversion of exceptions in user tasks to errors that name the task and the program."""

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
        task: name of the task.
        contender: the contender that was trained; None if setting up the task failed.
        reason: the exception on one line, with the line of the user task's file that raised it.
        name: name of the contender; "" to use `contenders.describe_contender`.
        seed: seed of the training; None if unknown.
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
        # By default an exception is pickled with its message only; keep all attributes.
        return TrainingError, (self.task, self.contender, self.reason, self.name, self.seed)

    def named(self, name: str) -> TrainingError:
        """Return this error with a name for the contender."""
        return TrainingError(self.task, self.contender, self.reason, name, self.seed)

    def on(self, seed: Seed) -> TrainingError:
        """Return this error with the training's seed."""
        return TrainingError(self.task, self.contender, self.reason, self.name, seed)


@contextmanager
def explain_failures(task: Task, contender: Contender | None = None) -> Iterator[None]:
    """Convert exceptions in user tasks, and errors of JAX's runtime in any task.

    Any other exception in a bundled task is a defect of this project and is not converted.

    Raises:
        TrainingError: the converted exception; the message names the task and the contender.
    """
    try:
        yield
    except EvosearchError:
        raise
    except Exception as error:
        if not task.files and not isinstance(error, JaxRuntimeError):
            raise
        raise TrainingError(
            task.name, contender, describe_error(error) + _location(task, error)
        ) from error


def _location(task: Task, error: Exception) -> str:
    """Return the line of the task's files that raised `error`; "" if it was raised elsewhere.

    The line is in the traceback or, for a callback, in the message of JAX's error.
    """
    frames = [(frame.filename, frame.lineno) for frame in extract_tb(error.__traceback__)]
    frames += re.findall(r'^  File "(.+)", line (\d+)', str(error), re.MULTILINE)
    in_task = [(path, line) for path, line in frames if path in dict(task.files)]
    return f" (line {in_task[-1][1]} of {Path(in_task[-1][0]).name})" if in_task else ""
