"""The `evosearch` application, its shared options and its reporting of errors.

An error is reported as one line and an exit status.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import sys
from enum import StrEnum
from typing import Annotated, Any, NoReturn

import typer

from evosearch import trust
from evosearch.cli import interrupts
from evosearch.cli.interrupts import INTERRUPTED_STATUS, Interrupted
from evosearch.environment import prepare
from evosearch.errors import EvosearchError

app = typer.Typer(
    name="evosearch",
    help="Discover optimizers: search for update rules, inspect and evaluate them.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


class DeviceKind(StrEnum):
    """Kinds of devices that JAX computes on."""

    CPU = "cpu"
    GPU = "gpu"
    TPU = "tpu"


Json = Annotated[bool, typer.Option("--json", help="Print only one JSON document.")]


Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Number of parallel trainings, by default one per core. It does not change results "
        "and is ignored with batches.",
    ),
]
JobTimeout = Annotated[
    float | None,
    typer.Option(
        min=0.1,
        max=1e6,
        metavar="SECONDS",
        help="Stop a training that takes longer and count it as diverged. The default is ten "
        "minutes for user tasks and no limit for bundled tasks.",
    ),
]
Device = Annotated[
    DeviceKind | None,
    typer.Option(help="Device to compute on; by default a GPU or TPU if JAX finds one."),
]


def _trust_if_requested(requested: bool) -> bool:
    """Trust all files if the command line has the option `--trust`."""
    if requested:
        trust.current().trust_all()
    return requested


TrustOption = Annotated[
    bool,
    typer.Option(
        "--trust",
        callback=_trust_if_requested,
        help="Execute Python files that the run or the configuration names as tasks. Without "
        "this option evosearch asks before it executes such a file for the first time.",
    ),
]


def _print_version(requested: bool) -> None:
    if requested:
        from importlib.metadata import version

        print(f"evosearch {version('evosearch')}")
        raise typer.Exit


@app.callback()
def _global_options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass


def print_json(document: Any) -> None:
    """Print a document as JSON; NaN and infinity, which JSON lacks, raise ValueError."""
    print(json.dumps(document, indent=2, allow_nan=False))


def say(text: str = "", *, end: str = "\n", err: bool = False) -> None:
    """Print text for people.

    Control characters other than newline and tab are escaped, since text may come from a file.
    """
    from primitives.text.printable import printable

    print(printable(text, keep="\n\t"), end=end, file=sys.stderr if err else sys.stdout)


def warn(text: str) -> None:
    """Print a warning on standard error."""
    say(text, err=True)


def main() -> NoReturn:
    """Run the command line; exit with 0, 1 (failure), 2 (wrong usage) or 130 (interrupted)."""
    prepare()
    for module in (
        "search",
        "status",
        "check",
        "inspect",
        "show",
        "simplify",
        "export",
        "evaluate",
        "funnel",
        "tasks",
        "compare",
        "catalogue",
    ):  # in the order of `--help`
        importlib.import_module(f"evosearch.cli.{module}")
    trust.start_checks(sys.argv[1:])
    # Characters that the encoding of the output lacks are escaped.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app()
    except Interrupted:
        print("interrupted", file=sys.stderr)
        interrupts.exit_now(INTERRUPTED_STATUS)
    except SystemExit as exit_request:
        if exit_request.code == INTERRUPTED_STATUS:
            interrupts.exit_now(INTERRUPTED_STATUS)
        raise
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        path = error.filename or "the output"
        say(f"evosearch: cannot read or write {path}: {error.strerror}", err=True)
        sys.exit(1)
    except Exception as error:
        status = exit_status(error)
        if status is None:
            raise
        say(f"evosearch: {_one_line(error)}", err=True)
        sys.exit(status)
    finally:
        trust.stop_checks()
    raise AssertionError("the command line always exits")


def exit_status(error: Exception) -> int | None:
    """Return the exit status of an error meant for the user; None for a bug in evosearch."""
    if isinstance(error, EvosearchError):
        return error.exit_code
    from primitives import ProgramError
    from primitives.export import ExportError, OptimizerNameError
    from primitives.zoo import UnknownProgramError
    from proxies import UnknownTaskError, UserTaskError

    task_errors = UnknownTaskError | UserTaskError
    if isinstance(error, ProgramError | UnknownProgramError | task_errors | OptimizerNameError):
        return 2
    return 1 if isinstance(error, ExportError) else None


def _one_line(error: Exception) -> str:
    from primitives.text.printable import printable

    return printable(" ".join(str(error).split("\n")))
