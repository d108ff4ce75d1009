"""How a search stands: `status`, which is also the last screen of `search` and `resume`."""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evosearch.cli.app import Json, app, print_json, say, say_wrapped

if TYPE_CHECKING:
    from evosearch.runs.run import Run
    from evosearch.statistics import Interval


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
    from evosearch.runs.run import Run

    document = stand(Run(run))
    if json:
        print_json(document)
    else:
        print_status(document)


def stand(run: Run) -> dict[str, Any]:
    """The document of `status --json`."""
    from evosearch.report.found import found

    return run.status().document() | {"found": found(run)}


def print_status(document: dict[str, Any]) -> None:
    """The document in words, for a person who sees such a screen for the first time."""
    say_wrapped(_counts(document))
    for line in _workers(document["workers"]):
        say(line)
    found = document["found"]
    if found is None:
        say("\nNothing has been measured yet.")
        return
    from evosearch.report.found import nearest_in_words

    how = "by algebra and measurement" if found["measured"] else "by algebra"
    say(f"\nBest program, simplified {how}:\n")
    for line in found["source"].splitlines():
        say(f"    {line}")
    say()
    say_wrapped(found["in_words"])
    say_wrapped(nearest_in_words(found["nearest"]))
    say("\nHow good it is:\n")
    for text in _evidence(document):
        say_wrapped(text, indent="  ")
    say("\nNext:\n")
    for command, purpose in _commands(document):
        say(f"  {command}\n      {purpose}")


def _counts(document: dict[str, Any]) -> str:
    from evosearch.cli.progress import duration

    return (
        f"{document['run']}: {document['generated']:,} programs in "
        f"{duration(document['elapsed_seconds'])}, {document['evaluated']:,} of them different "
        f"from all before and trained, in {document['trainings']:,} trainings; "
        f"{_how_it_stands(document)}."
    )


def _how_it_stands(document: dict[str, Any]) -> str:
    """Whether the search runs, or why it ended."""
    if document["running"]:
        return "still running"
    reason = document["stop_reason"]
    resume = f"`{_command('resume', document['run'])}`"
    if reason is None:
        return f"was killed; continue with {resume}"
    if reason == "interrupted":
        return f"interrupted; continue with {resume}"
    return (
        "ended when its time was up" if reason == "minutes" else f"ended at its limit of {reason}"
    )


def _workers(workers: list[dict[str, Any]]) -> list[str]:
    """What each worker of a running search does, a line each."""
    from evosearch.cli.progress import duration

    return [
        f"  {one['worker']}: {one['doing']}, for {duration(max(0.0, time.time() - one['since']))}"
        for one in workers
    ]


def _evidence(document: dict[str, Any]) -> list[str]:
    """A sentence for each scale of work at which it was compared with the baseline."""
    from evosearch.verdicts import champion_in_words, estimate, loss_in_words, winner_in_words

    best, validation, funnel = document["best"], document["validation"], document["funnel"]
    is_initial = best["id"] == 0
    said = [
        "On the search's own tasks: "
        + champion_in_words(
            _interval(best), best["seeds"], confirmed=best["confirmed"], initial=is_initial
        )
        + f". By task: {_by_task(best)}."
    ]
    if validation is not None and not is_initial:
        said.append(
            "On the same tasks at ten times the work: "
            + loss_in_words(_interval(validation), validation["seeds"], "fresh ")
            + f". By task: {_by_task(validation)}."
        )
    if funnel is not None:
        winner = funnel["winner"]
        said.append(
            "Through the funnel came no program: none was shown to beat the tuned baseline."
            if winner is None
            else f"Through the funnel came {winner['name']}: {estimate(_interval(winner))}, "
            f"{winner_in_words(_interval(winner))}."
        )
    return [
        *said,
        "Tuned AdamW has the best learning rate for each task, and at ten times the work the best "
        "weight decay; so has the program there. Its other constants are the usual ones. Fresh "
        "seeds are those that chose nothing. Nothing is known yet of other tasks.",
    ]


def _by_task(found: dict[str, Any]) -> str:
    from evosearch.verdicts import change_of_loss

    return ", ".join(f"{task} {change_of_loss(mean)}" for task, mean in found["per_task"].items())


def _interval(found: dict[str, Any]) -> Interval:
    from evosearch.statistics import Interval

    return Interval(found["fitness"], found["fitness_low"], found["fitness_high"])


def _commands(document: dict[str, Any]) -> list[tuple[str, str]]:
    """What to do next, each with its purpose."""
    run, program = document["run"], document["found"]["program"]
    unseen = _unseen(document["best"]["per_task"])
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
    ended = document["stop_reason"] not in (None, "interrupted")
    if document["best"]["id"] == 0:  # nothing has been found
        further = [longer] if ended else []
    return further if ended or document["running"] else [resume, *further]


def _command(*words: str) -> str:
    """A command line that works here: with a path where the shell would not find the program."""
    own = Path(sys.argv[0])
    is_found = own.name != "evosearch" or not own.is_file() or shutil.which("evosearch") is not None
    return shlex.join(["evosearch" if is_found else sys.argv[0], *words])


def _unseen(tasks: Iterable[str]) -> str:
    """A task that no search may touch: the held-out rows of the user's own, if they are such."""
    own = [task for task in tasks if Path(task.split(":")[0]).suffix in (".npz", ".txt")]
    return f"{own[0]}@held-out" if own else "digits-residual"
