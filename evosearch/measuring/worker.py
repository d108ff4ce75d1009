"""A worker process of `evosearch.measuring.processes`: trains the jobs that it is sent."""

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
    """Trains what comes over the connection until that is closed.

    Args:
        descriptor: of the connection. A job comes in; out goes the pair of its result and None, or
            of None and an exception.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="watch parent", daemon=True).start()
    prepare()
    from evosearch.errors import EvosearchError, describe_error
    from evosearch.measuring.engines import Trainers

    files = _Files()
    sys.addaudithook(files.audit)
    trainers = Trainers()
    connection: Connection[Any, Any] = Connection(descriptor)
    connection.send((None, None))
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        try:
            files.allowed |= dict(job.setup.files)
            answer: tuple[Any, Any] = trainers.of(job.setup).train(job), None
        except BaseException as error:
            answer = None, error
            if not _crosses(error):
                answer = None, EvosearchError(f"a training failed: {describe_error(error)}")
        connection.send(answer)


class _Files:
    """Lets a user's Python files be executed only as they were when the parent loaded them."""

    def __init__(self) -> None:
        from proxies.user_tasks.execution import EXECUTE

        self.allowed: dict[str, str] = {}
        self._event = EXECUTE

    def audit(self, event: str, given: tuple[Any, ...]) -> None:
        """The audit hook."""
        if event != self._event:
            return
        path, _, digest = given
        if digest is not None and self.allowed.get(os.path.abspath(path)) != digest:
            from proxies import UntrustedTaskError

            raise UntrustedTaskError(
                f"{path} was not read when the task was loaded, or changed since; start again"
            )


def _crosses(error: BaseException) -> bool:
    """Whether an exception can be sent to another process as it is."""
    try:
        return type(pickle.loads(pickle.dumps(error))) is type(error)
    except Exception:
        return False


def _end_with_parent() -> None:
    """Ends this process when its parent has ended, which closes standard input."""
    sys.stdin.buffer.read()
    os._exit(1)
