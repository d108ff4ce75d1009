"""Which Python files the command line may execute: files that the user named or agreed to.

A run directory or configuration can come from an untrusted source, and a task in it can be a Python
file. Before `proxies` executes such a file, or a module in its folder, it raises the audit event
`proxies.execute`. The audit hook of this module refuses untrusted files, so every command is
covered. The Python API has no such check: a script that calls the API decides which files to load.

Trusted files are recorded outside all runs, in `trusted.json` in the user's state folder: for each
executed file its absolute path and the digest of its content. If a file changes, the user is asked
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
    """Return the path of the list of trusted files."""
    base = os.environ.get("XDG_STATE_HOME", "")
    folder = Path(base) if os.path.isabs(base) else Path.home() / ".local" / "state"
    return folder / "evosearch" / "trusted.json"


class Trust:
    """The files that one invocation of the command line may execute.

    Args:
        arguments: The arguments of the command line, quoted in error messages.
    """

    def __init__(self, arguments: Sequence[str]):
        self._arguments = list(arguments)
        self._trusts_all = False
        self._trusted_task_files: set[str] = set()
        """Task files that may be executed, together with the modules of their folders."""
        self._declined: set[str] = set()

    def trust_all(self) -> None:
        """Allow every file that this command loads, as the option `--trust` does."""
        self._trusts_all = True

    def trust_tasks(self, tasks: Iterable[str]) -> None:
        """Allow the files of tasks that the user named on the command line."""
        matches = filter(None, map(_PYTHON_TASK.match, tasks))
        self._trusted_task_files |= {os.path.realpath(match["path"]) for match in matches}

    def check(self, path: str, task: str, digest: str | None = None) -> None:
        """Check that a file may be executed; ask the user if the command runs on a terminal.

        Args:
            path: The file to execute.
            task: The task file for which `path` is executed.
            digest: SHA-256 digest of the bytes to execute; None to compute it from the file.

        Raises:
            UntrustedTaskError: The file is not trusted.
        """
        path, task = os.path.realpath(path), os.path.realpath(task)
        digest = digest or hashlib.sha256(Path(path).read_bytes()).hexdigest()
        trusted_files = _read_trusted_files()
        if trusted_files.get(path) == digest:
            return
        has_changed = path in trusted_files
        is_trusted = (
            self._trusts_all
            or task in self._trusted_task_files
            or self._ask_user(path, has_changed)
        )
        if not is_trusted:
            raise self._untrusted_error(path, has_changed)
        self._trusted_task_files.add(task)
        _write_trusted_files({**trusted_files, path: digest})

    def _ask_user(self, path: str, has_changed: bool) -> bool:
        """Ask the user once for each file; return False if there is no terminal to ask on."""
        streams = (sys.stdin, sys.stderr)
        is_interactive = all(stream is not None and stream.isatty() for stream in streams)
        if path in self._declined or not is_interactive:
            return False
        why = "it has changed since you trusted it" if has_changed else "you have not run it before"
        print(
            f"{_escaped(path)} is Python code that a run or a configuration names, and {why}.\n"
            "The file runs with all your permissions, so read it first. Run the file? [y/N] ",
            end="",
            file=sys.stderr,
            flush=True,
        )
        is_accepted = sys.stdin.readline().strip().lower() in ("y", "yes")
        if not is_accepted:
            self._declined.add(path)
        return is_accepted

    def _untrusted_error(self, path: str, has_changed: bool) -> Exception:
        from proxies import UntrustedTaskError

        is_declined = path in self._declined
        why = "was declined" if is_declined else "is not trusted"
        if has_changed:
            why = f"has changed since you trusted it, and {why}"
        command = shlex.join(["evosearch", *self._arguments[:1], "--trust", *self._arguments[1:]])
        return UntrustedTaskError(
            f"{_escaped(path)} is Python code that a run or a configuration names, and {why}; read "
            f"it, then allow it with `{_escaped(command)}`"
        )


_current: Trust | None = None


def start_checks(arguments: Sequence[str]) -> None:
    """Start refusing untrusted files; `arguments` are the arguments of the command line."""
    global _current
    _current = Trust(arguments)
    _install_audit_hook()


def stop_checks() -> None:
    """Stop refusing untrusted files, as is the default for the Python API."""
    global _current
    _current = None


def current() -> Trust:
    """Return the active `Trust`; if checks are off, a new one that has no effect."""
    return _current or Trust(())


def load_before_progress(tasks: Iterable[str]) -> None:
    """Load tasks before progress is shown, so that questions about their files do not disturb it.

    Raises:
        UnknownTaskError: There is no such task.
        UserTaskError: A file may not be executed, or defines no task.
    """
    import proxies

    for name in dict.fromkeys(tasks):
        proxies.load(name)


@cache
def _install_audit_hook() -> None:
    """Install the audit hook on the first call; a hook cannot be removed."""
    sys.addaudithook(_audit)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event == _EVENT and _current is not None:
        _current.check(*arguments)


def _read_trusted_files() -> dict[str, str]:
    """Return digests by path; if the list cannot be read, print a notice and return no digests."""
    try:
        path = state_file()
        text = path.read_text(encoding="utf-8")
        digests = json.loads(text)
        if not isinstance(digests, dict):
            raise ValueError("its JSON is not an object")
        return {path: digest for path, digest in digests.items() if isinstance(digest, str)}
    except FileNotFoundError:
        return {}
    except (OSError, RuntimeError, ValueError, RecursionError) as error:
        _print_notice(f"the list of trusted files cannot be read ({error}); no file is trusted")
        return {}


def _write_trusted_files(digests: dict[str, str]) -> None:
    """Replace the list of trusted files; on failure print a notice, since the command can go on."""
    try:
        path = state_file()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        text = json.dumps(digests, indent=1, sort_keys=True) + "\n"
        write_text(path, text, follow=False, mode=0o600)
    except (EvosearchError, OSError, RuntimeError, ValueError) as error:
        _print_notice(
            f"cannot save that you trust this file ({error}); you will be asked about it again"
        )


def _print_notice(text: str) -> None:
    print(f"evosearch: {_escaped(text)}", file=sys.stderr)


def _escaped(text: str) -> str:
    """Return text for a terminal, with control characters escaped."""
    return text if text.isprintable() else repr(text)
