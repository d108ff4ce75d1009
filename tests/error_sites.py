"""A pytest plugin that lists the error messages for users that no test causes.

`python -m pytest -n 2 -p tests.error_sites` runs the tests, and then lists the lines of code that
create an error for users and that no test executed. Tests cannot execute some of these lines: those
that run in worker processes, those that need missing permissions, and those after a fault that a
test cannot cause.
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
ERROR_CLASSES = (
    *("EvosearchError", "UsageError", "TrainingError", "ProgramError", "StatementError"),
    *("ExportError", "OptimizerNameError", "UnknownProgramError", "UnknownTaskError"),
    *("UserTaskError", "UntrustedTaskError"),
)
"""Names of the classes of errors that the command line shows as one line."""

_executed: set[str] = set()
"""The lines at which this process has created errors, as "path:line"."""

_directory: Path | None = None
"""The directory in which each process of the test run writes its `_executed`."""


def error_calls() -> Iterator[tuple[Path, ast.Call]]:
    """Yield each call in the packages that creates an error for users, with the file's path."""
    for package in ("primitives", "proxies", "evosearch"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ERROR_CLASSES:
                    yield path.relative_to(ROOT), node


def _record_calls(error_class: Any) -> None:
    """Patch a class so that creating an instance adds the caller's line to `_executed`."""
    original_init = error_class.__init__

    def recording_init(self: Any, *args: Any, **options: Any) -> None:
        frame = sys._getframe(1)
        while frame.f_back and frame.f_code.co_name in ("__init__", "recording_init"):
            frame = frame.f_back
        _executed.add(f"{os.path.relpath(frame.f_code.co_filename, ROOT)}:{frame.f_lineno}")
        original_init(self, *args, **options)

    error_class.__init__ = recording_init


def pytest_configure(config: pytest.Config) -> None:
    """Patch the error classes to record where their instances are created."""
    global _directory
    from evosearch.errors import EvosearchError
    from primitives import ProgramError
    from primitives.export import ExportError
    from primitives.zoo import UnknownProgramError
    from proxies import UnknownTaskError, UserTaskError

    if "EVOSEARCH_ERROR_SITES" not in os.environ:  # xdist's workers inherit this variable
        os.environ["EVOSEARCH_ERROR_SITES"] = tempfile.mkdtemp("-error-sites")
    _directory = Path(os.environ["EVOSEARCH_ERROR_SITES"])
    for base_class in (EvosearchError, ProgramError, ExportError, UnknownProgramError):
        _record_calls(base_class)
    for base_class in (UnknownTaskError, UserTaskError):
        _record_calls(base_class)


@pytest.hookimpl(tryfirst=True)  # before the summary
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the lines that this process has executed."""
    assert _directory is not None
    (_directory / str(os.getpid())).write_text("\n".join(_executed), encoding="utf-8")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the calls that no process has executed."""
    assert _directory is not None
    executed = {line for path in _directory.iterdir() for line in path.read_text().splitlines()}
    terminalreporter.section("errors for users that no test raises")
    for path, call in error_calls():
        lines = range(call.lineno, (call.end_lineno or call.lineno) + 1)
        if not any(f"{path}:{line}" in executed for line in lines):
            terminalreporter.write_line(f"{path}:{call.lineno}: {ast.unparse(call)[:120]}")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the directory at the end of the main process, which ends after xdist's workers."""
    assert _directory is not None
    is_worker = hasattr(config, "workerinput")
    if not is_worker:
        shutil.rmtree(_directory)
