"""A pytest plugin that lists the errors for users that no test raises.

`python -m pytest -n 2 -p tests.error_sites` runs the suite and then lists each place in the code
that creates an error for users and that no test has reached. No test can reach some of them: errors
raised in worker processes, errors about missing permissions, errors about faults that a test cannot
cause.
"""

from __future__ import annotations

import ast
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
ERRORS = (
    *("EvosearchError", "UsageError", "TrainingError", "ProgramError", "StatementError"),
    *("ExportError", "OptimizerNameError", "UnknownProgramError", "UnknownTaskError"),
    *("UserTaskError", "UntrustedTaskError"),
)
"""Classes of errors that the command line shows as one line."""

_reached: set[str] = set()
_directory: Path | None = None


def sites() -> Iterator[tuple[Path, ast.Call]]:
    """Every call in the packages that creates an error for users."""
    for package in ("primitives", "proxies", "evosearch"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ERRORS:
                    yield path.relative_to(ROOT), node


def _record_calls(error: Any) -> None:
    original = error.__init__

    def init(self: Any, *args: Any, **options: Any) -> None:
        frame = sys._getframe(1)
        while frame.f_back and frame.f_code.co_name in ("__init__", "init"):
            frame = frame.f_back
        _reached.add(f"{os.path.relpath(frame.f_code.co_filename, ROOT)}:{frame.f_lineno}")
        original(self, *args, **options)

    error.__init__ = init


def pytest_configure(config: pytest.Config) -> None:
    """Patch the error classes to record where their instances are created."""
    global _directory
    from evosearch.errors import EvosearchError
    from primitives import ProgramError
    from primitives.export import ExportError
    from primitives.zoo import UnknownProgramError
    from proxies import UnknownTaskError, UserTaskError

    if "EVOSEARCH_ERROR_SITES" not in os.environ:  # the environment passes it to xdist's workers
        os.environ["EVOSEARCH_ERROR_SITES"] = tempfile.mkdtemp("-error-sites")
    _directory = Path(os.environ["EVOSEARCH_ERROR_SITES"])
    bases = (EvosearchError, ProgramError, ExportError, UnknownProgramError)
    for base in (*bases, UnknownTaskError, UserTaskError):
        _record_calls(base)


@pytest.hookimpl(tryfirst=True)  # before the summary
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write what this process has reached."""
    assert _directory is not None
    (_directory / str(os.getpid())).write_text("\n".join(_reached), encoding="utf-8")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """List the places that no process has reached."""
    assert _directory is not None
    reached = {line for path in _directory.iterdir() for line in path.read_text().splitlines()}
    terminalreporter.section("errors for users that no test raises")
    for path, call in sites():
        span = range(call.lineno, (call.end_lineno or call.lineno) + 1)
        if not any(f"{path}:{line}" in reached for line in span):
            terminalreporter.write_line(f"{path}:{call.lineno}: {ast.unparse(call)[:120]}")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the directory after the last process, which is the one that xdist does not start."""
    assert _directory is not None
    if not hasattr(config, "workerinput"):
        shutil.rmtree(_directory)
