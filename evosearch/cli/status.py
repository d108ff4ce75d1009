"""The command `evosearch status`; `search` and `resume` print the same report at their end."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evosearch.cli.app import Json, app, print_json

if TYPE_CHECKING:
    from evosearch.report.run import RunOverview
    from evosearch.runs.summary import RunStatus


@app.command()
def status(
    run: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of the run.")],
    json: Json = False,
) -> None:
    """Show the best program of a search and what to do next.

    --json adds counts: programs `generated` and `evaluated`, trainings, `invalid` mutations, and
    the fraction of redundant statements. A program with the same semantic key as an earlier one is
    a cache hit and is not evaluated.
    """
    from evosearch.report.run import overview
    from evosearch.runs.run import Run

    result = overview(Run(run))
    if json:
        print_json(result.document())
    else:
        print_status(result)


def print_status(overview: RunOverview) -> None:
    """Print the status of a search, and the commands to run next."""
    from evosearch.cli.terminal import Terminal
    from evosearch.report.run import status_report
    from evosearch.report.tables import Note, Report, Section, plain_notes
    from evosearch.report.terminal import show

    sections = status_report(overview, _command_line).sections
    if overview.best is not None:
        commands = _next_commands(overview.status, overview.best.program)
        notes = [
            note
            for command, purpose in commands
            for note in (Note(command, verbatim=True, indent=2), Note(purpose, indent=6))
        ]
        sections += (Section(notes=plain_notes("Next:")), Section(notes=tuple(notes)))
    show(Report(sections), Terminal())


def _next_commands(status: RunStatus, program: str) -> list[tuple[str, str]]:
    """Return the commands to run next, each with its purpose."""
    assert status.best is not None
    run, unseen_task = status.run, _unseen_task(status.best.per_task)
    resume = (_command_line("resume", run), "continue the search exactly where it stopped")
    commands = [
        (
            _command_line("eval", program, "--task", unseen_task),
            "evaluate the program on a held-out task; the evaluation takes some minutes",
        ),
        (
            _command_line("show", program),
            "show the program's text, equations and ancestors",
        ),
        (
            _command_line("export", program, "--to", "optax", "--name", "found", "-o", "found.py"),
            "use the program in optax; `--to torch` for PyTorch",
        ),
    ]
    search_longer = (_command_line("resume", run, "--minutes", "5"), "search for five more minutes")
    has_ended = status.stop_reason not in (None, "interrupted")
    is_initial_program = status.best.id == 0
    if is_initial_program:
        commands = [search_longer] if has_ended else []
    return commands if has_ended or status.running else [resume, *commands]


def _command_line(*arguments: str) -> str:
    """Return the command line of `evosearch` with arguments, with a path if it is not on PATH."""
    script = Path(sys.argv[0])
    is_script = script.name == "evosearch" and script.is_file()
    needs_path = is_script and shutil.which("evosearch") is None
    return shlex.join([sys.argv[0] if needs_path else "evosearch", *arguments])


def _unseen_task(tasks: Iterable[str]) -> str:
    """Return a held-out task: the held-out part of a user's file, if the search used a file."""
    files = [task for task in tasks if Path(task.split(":")[0]).suffix in (".npz", ".txt")]
    return f"{files[0]}@held-out" if files else "digits-residual"
