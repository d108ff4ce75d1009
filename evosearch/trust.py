"""Which Python files the command line executes: those that the user named, or has agreed to.

A run's directory and a configuration can come from anybody, and a task in them can be a Python
file. `proxies` raises the audit event `proxies.execute` before it executes such a file, or another
one of its folder; a hook here refuses what is not trusted. So no command can forget to ask. The
Python API asks nothing: a user's program decides itself what it loads.

What was agreed to is remembered outside every run, in `trusted.json` of the user's state folder:
the absolute path of each executed file with the digest of its content. An edited file is asked for
again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from evosearch.errors import EvosearchError
from evosearch.files import write_text

_EVENT = "proxies.execute"
_PYTHON_TASK = re.compile(r"(?P<path>.+\.py)([:@+]|$)")


def state_file() -> Path:
    """Where trusted files are remembered."""
    base = os.environ.get("XDG_STATE_HOME", "")
    folder = Path(base) if os.path.isabs(base) else Path.home() / ".local" / "state"
    return folder / "evosearch" / "trusted.json"


class Trust:
    """What one invocation of the command line may execute.

    Args:
        words: the command line, for advice.
    """

    def __init__(self, words: Sequence[str]):
        self._words = list(words)
        self._everything = False
        self._agreed: set[str] = set()
        """Task files that may be executed with what they import from their folders."""
        self._declined: set[str] = set()

    def everything(self) -> None:
        """Whatever this command loads may be executed, as `--trust` says."""
        self._everything = True

    def named(self, tasks: Iterable[str]) -> None:
        """The user named these tasks on the command line, and so trusts the files of theirs."""
        found = filter(None, map(_PYTHON_TASK.match, tasks))
        self._agreed |= {os.path.realpath(one["path"]) for one in found}

    def check(self, path: str, task: str, digest: str | None = None) -> None:
        """Whether the file at `path` may be executed for the task file `task`; asks on a terminal.

        `digest` is that of the bytes that were read to be executed; None for those of the file now.

        Raises:
            UntrustedTaskError: it may not.
        """
        path, task = os.path.realpath(path), os.path.realpath(task)
        digest = digest or hashlib.sha256(Path(path).read_bytes()).hexdigest()
        known = _remembered()
        if known.get(path) == digest:
            return
        agreed = self._everything or task in self._agreed or self._agrees(path, path in known)
        if not agreed:
            raise self._refusal(path, path in known)
        self._agreed.add(task)
        _remember({**known, path: digest})

    def _agrees(self, path: str, changed: bool) -> bool:
        """Asks the user, once for each file; no where there is nobody to ask."""
        terminals = [stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr)]
        if path in self._declined or not all(terminals):
            return False
        why = "it changed since you trusted it" if changed else "you have not run it before"
        print(
            f"{_shown(path)} is Python code that a run or a configuration names, and {why}.\n"
            "It can do whatever you can: read it first. Run it? [y/N] ",
            end="",
            file=sys.stderr,
            flush=True,
        )
        agreed = sys.stdin.readline().strip().lower() in ("y", "yes")
        if not agreed:
            self._declined.add(path)
        return agreed

    def _refusal(self, path: str, changed: bool) -> Exception:
        from proxies import UntrustedTaskError

        why = "was declined" if path in self._declined else "is not trusted"
        if changed:
            why += ", as it changed since it was"
        command = shlex.join(["evosearch", *self._words[:1], "--trust", *self._words[1:]])
        return UntrustedTaskError(
            f"{_shown(path)} is Python code that a run or a configuration names, and {why}; read "
            f"it, then let it run with `{_shown(command)}`"
        )


_current: Trust | None = None


def begin(words: Sequence[str]) -> None:
    """From now on only trusted files are executed; `words` are the command line."""
    global _current
    _current = Trust(words)
    _listen()


def end() -> None:
    """From now on every file is executed, as for the Python API."""
    global _current
    _current = None


def current() -> Trust:
    """What this command line may execute; without one nothing that is said to it has an effect."""
    return _current or Trust(())


def ask(tasks: Iterable[str]) -> None:
    """Asks for the files of tasks now, before progress is shown, by loading the tasks.

    Raises:
        UnknownTaskError: there is no such task.
        UserTaskError: a file may not be executed, or makes no task.
    """
    import proxies

    for name in dict.fromkeys(tasks):
        proxies.load(name)


@cache
def _listen() -> None:
    """Installs the audit hook, once."""
    sys.addaudithook(_audit)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event == _EVENT and _current is not None:
        _current.check(*arguments)


def _remembered() -> dict[str, str]:
    """Digests of trusted files by path; empty, with a notice, where the record cannot be read."""
    try:
        path = state_file()
        text = path.read_text(encoding="utf-8")
        found = json.loads(text)
        if not isinstance(found, dict):
            raise ValueError("not an object")
        return {path: digest for path, digest in found.items() if isinstance(digest, str)}
    except FileNotFoundError:
        return {}
    except (OSError, RuntimeError, ValueError, RecursionError) as error:
        _notice(f"the record of trusted files cannot be read ({error}); no file is trusted")
        return {}


def _remember(files: dict[str, str]) -> None:
    """Replaces the record; a failure is a notice, since the command can go on."""
    try:
        path = state_file()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        text = json.dumps(files, indent=1, sort_keys=True) + "\n"
        write_text(path, text, follow=False, mode=0o600)
    except (EvosearchError, OSError, RuntimeError, ValueError) as error:
        _notice(f"that a file is trusted cannot be remembered ({error}); it will be asked again")


def _notice(text: str) -> None:
    print(f"evosearch: {_shown(text)}", file=sys.stderr)


def _shown(text: str) -> str:
    """Text for a terminal: without characters that would move its cursor."""
    return text if text.isprintable() else repr(text)
