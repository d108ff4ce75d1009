"""The task that a user's Python file makes, and what can be wrong with such a file."""

import os
import signal
import traceback
from pathlib import Path

import jax
import numpy as np

from proxies.task import Files, Task
from proxies.user_tasks.execution import Execution, executing


class UserTaskError(ValueError):
    """A user's task cannot be made; the message names the file and the remedy."""


class UntrustedTaskError(UserTaskError):
    """A Python file that the user does not trust was not executed."""


def from_python(name: str, path: Path, function: str | None) -> tuple[Task, Files]:
    """The task that a function of a Python file returns, and the files that it was made from."""
    if not function:
        raise UserTaskError(f"task {name!r}: which function makes it? Write {path}:FUNCTION")
    with executing(path) as execution:
        try:
            module = execution.run()
            if not hasattr(module, function):
                raise UserTaskError(f"task {name!r}: {path} has no function {function!r}")
            made = getattr(module, function)()
        except UserTaskError:
            raise
        except BaseException as error:
            if not _is_of_the_file(error, execution):
                raise
            raise UserTaskError(f"task {name!r}: {_failure(path, error, execution)}") from error
        if not isinstance(made, Task):
            kind = type(made).__name__
            raise UserTaskError(
                f"task {name!r}: {function}() returned {kind}; return a proxies.Task"
            )
        files = execution.files()
    for leaf in jax.tree.leaves(made.data):
        if not hasattr(leaf, "dtype") and not isinstance(leaf, int | float):
            kind = type(leaf).__name__
        elif getattr(leaf, "dtype", None) == np.dtype(object):
            kind = "objects"
        else:
            continue
        raise UserTaskError(f"task {name!r}: its data holds {kind}; give arrays of numbers")
    return made, files


def _is_of_the_file(error: BaseException, execution: Execution) -> bool:
    """Whether code of the file raised `error`, rather than a signal or whoever waits for the task.

    Exceptions that end the process, as that of `sys.exit`, count where Python or the file defines
    them. KeyboardInterrupt is Ctrl-C as long as Python's own handler is in place.
    """
    if isinstance(error, Exception):
        return True
    if isinstance(error, KeyboardInterrupt):
        return signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    return type(error).__module__ in {"builtins", *execution.modules}


def _failure(path: Path, error: BaseException, execution: Execution) -> str:
    """What a Python file failed with, and in which line, on one line."""
    if isinstance(error, SyntaxError):
        where = f"{error.filename or path} line {error.lineno}"
        return f"{where} is not Python: {error.msg}"
    lines = [
        f"line {frame.lineno}" + f" of {os.path.basename(frame.filename)}"
        for frame in traceback.extract_tb(error.__traceback__)
        if execution.includes(os.path.abspath(frame.filename))
    ]
    where = f" in {lines[-1]}" if lines else ""
    if isinstance(error, SystemExit):
        said = f"{error.code!r}"
        return f"{path} calls sys.exit({said}){where}; a task file returns a task and does not exit"
    said = " ".join(str(error).split())
    return f"{path} failed with {type(error).__name__}{where}{': ' * bool(said)}{said}"
