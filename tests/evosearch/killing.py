"""Commands that are killed: a process that has imported everything forks one for each.

Starting Python and importing JAX takes seconds; a fork takes milliseconds. So a test can kill a
hundred searches in a minute. Nothing may start JAX's threads before the fork: the parent only
imports. Run as `python -m tests.evosearch.killing`; it reads one JSON request a line, runs the
command and answers with its exit status.
"""

from __future__ import annotations

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
    """Starts commands in forks of one process; a context manager."""

    def __enter__(self) -> Zygote:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.evosearch.killing"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert self._answer() == "ready"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()

    def run(self, *words: str | Path, **how: Any) -> int:
        """The exit status of a command; negative, the signal's, if it was killed.

        Args:
            *words: of the command, after `evosearch`.
            **how: `seconds` after which it is killed; or the number of the `write`, or of the
                `commit` of the run's database, at which it kills itself; `planted` losses.
        """
        request = {"words": [str(word) for word in words], **how}
        assert self._process.stdin is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return int(self._answer())

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def _main() -> None:
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
    import tests.evosearch.planted  # noqa: F401

    proxies.digests()  # reads the bundled data
    print("ready", flush=True)
    while line := sys.stdin.readline():
        request = json.loads(line)
        seconds = request.pop("seconds", float("inf"))
        child = os.fork()
        if child == 0:
            _child(**request)
        print(_ended(child, seconds), flush=True)


def _ended(child: int, seconds: float) -> int:
    """The exit status of a child that is killed if it takes longer."""
    deadline = time.monotonic() + seconds
    while True:
        number, status = os.waitpid(child, os.WNOHANG)
        if number:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.002)


def _child(
    words: list[str],
    write: int | None = None,
    commit: int | None = None,
    planted: bool = False,
) -> None:
    """Runs a command in place of this process; never returns."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1) if os.environ.get("SHOW") else (0, 1, 2):
        os.dup2(null, descriptor)
    if commit is not None:
        _die_after_commit(commit)
    if planted:
        from evosearch.pipeline import search
        from tests.evosearch.planted import scorer

        search.make_scorer = scorer  # type: ignore[assignment]
    sys.argv = ["evosearch", *words]
    status = 1
    try:
        from evosearch.cli.app import main
        from tests.evosearch.faults import die, faults

        with faults(write, die):
            main()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 0
    finally:
        os._exit(status)


def _die_after_commit(number: int) -> None:
    """Kills this process right after its `number`-th commit of a run's database."""
    from evosearch.runs.store import Store

    commit, left = Store.commit, iter(range(number - 1, -1, -1))

    def commit_and_perhaps_die(store: Store) -> None:
        commit(store)
        if next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    Store.commit = commit_and_perhaps_die  # type: ignore[method-assign]


if __name__ == "__main__":
    _main()
