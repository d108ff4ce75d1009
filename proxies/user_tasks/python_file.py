"""User tasks from Python files, and errors that explain why a file defines no task."""

import os
import signal
import traceback
from pathlib import Path

import jax
import numpy as np

from proxies.task import Files, Task
from proxies.user_tasks.execution import Execution, executing


class UserTaskError(ValueError):
    """A user task cannot be loaded; the message names the file and the remedy.

    >>> import proxies
    >>> proxies.load("missing.npz")
    Traceback (most recent call last):
    ...
    proxies.user_tasks.python_file.UserTaskError: task 'missing.npz': cannot read missing.npz: ...
    """


class UntrustedTaskError(UserTaskError):
    """A Python file was not executed, because the user does not trust it.

    >>> issubclass(UntrustedTaskError, UserTaskError)
    True
    """


def from_python(name: str, path: Path, function: str | None) -> tuple[Task, Files]:
    """Return the task that a function of a Python file returns, and the files that it read.

    Raises:
        UserTaskError: the file fails, has no such function, or the function returns no valid task.
    """
    if not function:
        raise UserTaskError(
            f"task {name!r}: the name of the function is missing; write {path}:FUNCTION, "
            "where FUNCTION returns the task"
        )
    with executing(path) as execution:
        try:
            module = execution.run()
            if not hasattr(module, function):
                raise UserTaskError(
                    f"task {name!r}: {path} has no function {function!r}; "
                    "name the function that returns the task"
                )
            task = getattr(module, function)()
        except UserTaskError:
            raise
        except BaseException as error:
            if not _is_raised_by_file(error, execution):
                raise
            raise UserTaskError(f"task {name!r}: {_failure(path, error, execution)}") from error
        if not isinstance(task, Task):
            kind = type(task).__name__
            raise UserTaskError(
                f"task {name!r}: {function}() in {path} returned {kind}; return a proxies.Task"
            )
        files = execution.files()
    for leaf in jax.tree.leaves(task.data):
        if not hasattr(leaf, "dtype") and not isinstance(leaf, int | float):
            kind = type(leaf).__name__
        elif getattr(leaf, "dtype", None) == np.dtype(object):
            kind = "objects"
        else:
            continue
        raise UserTaskError(
            f"task {name!r}: Task.data contains {kind}; it must contain arrays of numbers only"
        )
    return task, files


def _is_raised_by_file(error: BaseException, execution: Execution) -> bool:
    """Return whether `error` was raised by the file's code.

    Otherwise a signal handler or the caller raised it. A BaseException such as SystemExit counts as
    the file's if Python or the file defines its class. KeyboardInterrupt counts as the file's only
    if Python's default handler of Ctrl-C has been replaced, because otherwise it comes from the
    user.
    """
    if isinstance(error, Exception):
        return True
    if isinstance(error, KeyboardInterrupt):
        return signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    return type(error).__module__ in {"builtins", *execution.modules}


def _failure(path: Path, error: BaseException, execution: Execution) -> str:
    """Return one line that names the exception of a Python file and the line that raised it."""
    if isinstance(error, SyntaxError):
        line = f" in line {error.lineno}" if error.lineno else ""
        return f"syntax error{line} of {error.filename or path}: {error.msg}"
    lines = [
        f"line {frame.lineno} of {os.path.basename(frame.filename)}"
        for frame in traceback.extract_tb(error.__traceback__)
        if execution.includes(os.path.abspath(frame.filename))
    ]
    where = f" in {lines[-1]}" if lines else ""
    if isinstance(error, SystemExit):
        return f"{path} calls sys.exit({error.code!r}){where}; a task file must not exit"
    message = " ".join(str(error).split())
    return f"{path} failed with {type(error).__name__}{where}{': ' * bool(message)}{message}"
