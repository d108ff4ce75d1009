"""The `evosearch` program: its commands, and errors turned into one line and an exit status."""

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
from evosearch.cli.interrupts import INTERRUPTED, Interrupted
from evosearch.environment import prepare
from evosearch.errors import EvosearchError

app = typer.Typer(
    name="evosearch",
    help="Discovers optimizers: search for update rules, look at them, evaluate them.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


class DeviceKind(StrEnum):
    """What JAX can compute on."""

    CPU = "cpu"
    GPU = "gpu"
    TPU = "tpu"


Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Trainings at a time; one per core by default, not used in batches. Changes no "
        "result.",
    ),
]
JobTimeout = Annotated[
    float | None,
    typer.Option(
        min=0.1,
        max=1e6,
        metavar="SECONDS",
        help="Give up a training that takes longer, which then counts as diverged; by default ten "
        "minutes for a task of your own, and no limit for others.",
    ),
]
Device = Annotated[
    DeviceKind | None,
    typer.Option(help="What to compute on; by default a GPU or TPU if JAX finds one."),
]


def _trust(everything: bool) -> bool:
    if everything:
        trust.current().trust_all()
    return everything


TrustOption = Annotated[
    bool,
    typer.Option(
        "--trust",
        callback=_trust,
        help="Execute Python files that the run or the configuration names as tasks. Without it "
        "such a file is executed only after you have agreed to it, once.",
    ),
]


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"evosearch {version('evosearch')}")
        raise typer.Exit


@app.callback()
def _everywhere(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass


def print_json(document: Any) -> None:
    """The document that `--json` promises; refuses NaN and infinity, which JSON has not."""
    print(json.dumps(document, indent=2, allow_nan=False))


def say(text: str = "", *, end: str = "\n", err: bool = False) -> None:
    """Prints text for people; control characters that came from a file are shown as escapes."""
    from primitives.text.printable import printable

    print(printable(text, keep="\n\t"), end=end, file=sys.stderr if err else sys.stdout)


def warn(text: str) -> None:
    """Says on standard error what a person should know of, though the work goes on."""
    say(text, err=True)


def main() -> NoReturn:
    """Runs the command line; exits with 0, 1 (failed), 2 (used wrongly) or 130 (interrupted)."""
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
    ):  # the order of `--help`
        importlib.import_module(f"evosearch.cli.{module}")
    trust.enable(sys.argv[1:])
    if isinstance(sys.stdout, io.TextIOWrapper):  # an encoding without what is said is no error
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app()
    except Interrupted:
        print("interrupted", file=sys.stderr)
        interrupts.leave(INTERRUPTED)
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            interrupts.leave(INTERRUPTED)
        raise
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        say(f"evosearch: {error.filename or 'output'}: {error.strerror}", err=True)
        sys.exit(1)
    except Exception as error:
        status = _known(error)
        if status is None:
            raise
        say(f"evosearch: {_one_line(error)}", err=True)
        sys.exit(status)
    finally:
        trust.disable()
    raise AssertionError("the command line always exits")


def _known(error: Exception) -> int | None:
    """The exit status of an error that is meant for the user; None for a defect of ours."""
    if isinstance(error, EvosearchError):
        return error.exit_code
    from primitives import ProgramError
    from primitives.export import ExportError, OptimizerNameError
    from primitives.zoo import UnknownProgramError
    from proxies import UnknownTaskError, UserTaskError

    tasks = UnknownTaskError | UserTaskError
    wrongly_used = ProgramError | UnknownProgramError | tasks | OptimizerNameError
    if isinstance(error, wrongly_used):
        return 2
    return 1 if isinstance(error, ExportError) else None


def _one_line(error: Exception) -> str:
    from primitives.text.printable import printable

    return printable(" ".join(str(error).split("\n")))
