"""How a search stands: `status`, which is also the last screen of `search` and `resume`."""

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
    from evosearch.report.run import Standing
    from evosearch.runs.summary import RunStatus


@app.command()
def status(
    run: Annotated[Path, typer.Argument(metavar="DIR", help="The run's directory.")],
    json: Json = False,
) -> None:
    """What a search has found so far, how good that is, and what to do with it.

    --json has the counts too: programs `generated` and `evaluated` (one that computes what an
    earlier one does is a cache hit and is not trained), trainings, drafts of mutations that were
    `invalid`, and the share of statements that were redundant.
    """
    from evosearch.report.run import standing
    from evosearch.runs.run import Run

    found = standing(Run(run))
    if json:
        print_json(found.document())
    else:
        print_status(found)


def print_status(found: Standing) -> None:
    """How a search stands, in words, and what to do next."""
    from evosearch.cli.terminal import Terminal
    from evosearch.report.run import status_report
    from evosearch.report.tables import Note, Report, Section, paragraphs
    from evosearch.report.terminal import show

    sections = status_report(found, _command).sections
    if found.found is not None:
        following = _commands(found.status, found.found.program)
        notes = [
            note
            for command, purpose in following
            for note in (Note(command, verbatim=True, indent=2), Note(purpose, indent=6))
        ]
        sections += (Section(notes=paragraphs("Next:")), Section(notes=tuple(notes)))
    show(Report(sections), Terminal())


def _commands(status: RunStatus, program: str) -> list[tuple[str, str]]:
    """What to do next, each with its purpose."""
    assert status.best is not None
    run, unseen = status.run, _unseen(status.best.per_task)
    resume = (_command("resume", run), "continue the search exactly where it stopped")
    further = [
        (
            _command("eval", program, "--task", unseen),
            "evaluate it on a task that no search may touch; some minutes",
        ),
        (
            _command("show", program),
            "look at it: as it was found, its equations, its ancestors",
        ),
        (
            _command("export", program, "--to", "optax", "--name", "found", "-o", "found.py"),
            "use it in optax; for PyTorch `--to torch`",
        ),
    ]
    longer = (_command("resume", run, "--minutes", "5"), "search for five more minutes")
    ended = status.stop_reason not in (None, "interrupted")
    if status.best.id == 0:  # nothing has been found
        further = [longer] if ended else []
    return further if ended or status.running else [resume, *further]


def _command(*words: str) -> str:
    """A command line that works here: with a path where the shell would not find the program."""
    own = Path(sys.argv[0])
    is_found = own.name != "evosearch" or not own.is_file() or shutil.which("evosearch") is not None
    return shlex.join(["evosearch" if is_found else sys.argv[0], *words])


def _unseen(tasks: Iterable[str]) -> str:
    """A task that no search may touch: the held-out rows of the user's own, if they are such."""
    own = [task for task in tasks if Path(task.split(":")[0]).suffix in (".npz", ".txt")]
    return f"{own[0]}@held-out" if own else "digits-residual"
