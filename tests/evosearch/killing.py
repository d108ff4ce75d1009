"""Runs commands, to kill them, in forks of a process that has imported all modules.

Starting Python and importing JAX takes seconds; a fork takes milliseconds, so a test can kill a
hundred searches in a minute. The parent process only imports, because a process must not fork while
threads of JAX run.

`python -m tests.evosearch.killing` reads one JSON request per line, runs the command and prints the
command's exit status.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any


class Zygote:
    """A context manager that runs commands in forks of one process."""

    def __enter__(self) -> Zygote:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.evosearch.killing"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert self._read_line() == "ready"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()

    def run(self, *arguments: str | Path, **options: Any) -> int:
        """Run a command and return its exit status, or -9 if the command was killed.

        Args:
            *arguments: arguments of `evosearch`.
            **options: `seconds`: time after which the command is killed;
                `write`: number of the write at which the command kills itself;
                `commit`: number of the commit after which the command kills itself;
                `fake_losses`: whether losses are fake.
        """
        request = {"arguments": [str(argument) for argument in arguments], **options}
        assert self._process.stdin is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return int(self._read_line())

    def _read_line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def _main() -> None:
    """Import all modules, and then run the requested commands in forks of this process."""
    import evosearch.cli
    from evosearch.environment import prepare

    prepare()
    import scipy.special  # noqa: F401

    import evosearch.cli.live
    import evosearch.cli.simplify
    import evosearch.evaluation.funnel
    import evosearch.pipeline.search
    import evosearch.simplification  # noqa: F401
    import proxies
    import tests.evosearch.fake_losses  # noqa: F401

    proxies.digests()  # reads the bundled data
    print("ready", flush=True)
    while line := sys.stdin.readline():
        request = json.loads(line)
        seconds = request.pop("seconds", float("inf"))
        child = os.fork()
        if child == 0:
            _run_and_exit(**request)
        print(_wait_or_kill(child, seconds), flush=True)


def _wait_or_kill(child: int, seconds: float) -> int:
    """Return the exit status of a child process, which is killed after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        number, status = os.waitpid(child, os.WNOHANG)
        if number:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.002)


def _run_and_exit(
    arguments: list[str],
    write: int | None = None,
    commit: int | None = None,
    fake_losses: bool = False,
) -> None:
    """Run a command and exit with its status."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1) if os.environ.get("SHOW") else (0, 1, 2):
        os.dup2(null, descriptor)
    if commit is not None:
        _kill_after_commit(commit)
    if fake_losses:
        from evosearch.pipeline import loop, search
        from tests.evosearch.fake_losses import make_fake_scorer

        search.make_scorer = make_fake_scorer  # type: ignore[assignment]
        loop.SECONDS_BETWEEN_COMMITS = 0.0
    sys.argv = ["evosearch", *arguments]
    status = 1
    try:
        from evosearch.cli.app import main
        from tests.evosearch.faults import fault_at_write, kill_this_process

        with fault_at_write(write, kill_this_process):
            main()
    except SystemExit as exit_request:
        status = exit_request.code if isinstance(exit_request.code, int) else 0
    finally:
        os._exit(status)


def _kill_after_commit(number: int) -> None:
    """Kill this process right after its `number`-th commit of a run's database."""
    from evosearch.runs.store import Store

    original_commit, commit_numbers = Store.commit, itertools.count(1)

    def commit_and_count(store: Store) -> None:
        original_commit(store)
        if next(commit_numbers) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    Store.commit = commit_and_count  # type: ignore[method-assign]


if __name__ == "__main__":
    _main()
