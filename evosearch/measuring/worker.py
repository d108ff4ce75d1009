"""The main function of worker processes, which execute jobs for `evosearch.measuring.processes`."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from multiprocessing.connection import Connection
from typing import Any

from evosearch.environment import prepare


def main(descriptor: int) -> None:
    """Execute the jobs received over a connection until it is closed.

    Sends the pair (None, None) when ready, then for each job (result, None) or (None, exception).

    Args:
        descriptor: file descriptor of the connection.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="watch parent", daemon=True).start()
    prepare()
    from evosearch.errors import EvosearchError, describe_error
    from evosearch.measuring.engines import Trainers

    guard = _FileGuard()
    sys.addaudithook(guard.audit)
    trainers = Trainers()
    connection: Connection[Any, Any] = Connection(descriptor)
    connection.send((None, None))
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        try:
            guard.allowed |= dict(job.setup.files)
            message: tuple[Any, Any] = trainers.of(job.setup).train(job), None
        except BaseException as error:
            message = None, error
            if not _is_picklable(error):
                message = None, EvosearchError(f"a training failed: {describe_error(error)}")
        connection.send(message)


class _FileGuard:
    """Refuses Python files of user tasks that differ from the files the parent process loaded.

    Attributes:
        allowed: digest of each allowed file, by path.
    """

    def __init__(self) -> None:
        from proxies.user_tasks.execution import EXECUTE

        self.allowed: dict[str, str] = {}
        self._event = EXECUTE

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Raise an error if a file that is not allowed is about to run; an audit hook of Python."""
        if event != self._event:
            return
        path, _, digest = arguments
        if digest is not None and self.allowed.get(os.path.abspath(path)) != digest:
            from proxies import UntrustedTaskError

            raise UntrustedTaskError(
                f"{path} was not read when the task was loaded, or has changed since; start again"
            )


def _is_picklable(error: BaseException) -> bool:
    """Whether an exception keeps its type when it is pickled and unpickled."""
    try:
        return type(pickle.loads(pickle.dumps(error))) is type(error)
    except Exception:
        return False


def _end_with_parent() -> None:
    """End this process when the parent ends, which closes standard input."""
    sys.stdin.buffer.read()
    os._exit(1)
