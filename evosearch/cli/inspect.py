"""Looking at runs: `status`, `top`, `lineage`."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evosearch.cli.app import Json, app, print_json, say
from evosearch.errors import UsageError

if TYPE_CHECKING:
    from evosearch.statistics import Interval

RunDirectory = Annotated[Path, typer.Argument(metavar="DIR", help="The run's directory.")]


@app.command()
def status(run: RunDirectory, json: Json = False) -> None:
    """How a search stands or ended: counts, speed, champion."""
    from evosearch.searching.run import Run

    document = Run(run).status()
    if json:
        print_json(document)
    else:
        print_status(document)


@app.command()
def top(
    run: RunDirectory,
    n: Annotated[int, typer.Option("-n", min=1, help="How many programs.")] = 10,
    pareto: Annotated[
        bool,
        typer.Option("--pareto", help="Only the front of fitness, statements and state memory."),
    ] = False,
    json: Json = False,
) -> None:
    """The best programs, by the lower bound of their fitness.

    Fitness 0 is tuned AdamW; +0.1 is about 10% lower loss. The fitness of champions comes from
    fresh seeds that decided nothing; that of other programs from the search seeds that they were
    selected by, which flatters them.
    """
    from evosearch.searching.run import Run

    found = Run(run).top(n, pareto=pareto)
    if json:
        print_json({"programs": found})
        return
    from rich.table import Table

    from evosearch.cli.terminal import Terminal

    console = Terminal()
    table = Table(box=None, pad_edge=False)
    for heading in ("id", "fitness", "95% interval", "seeds", "statements", "memory"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("fitness from")
    for one in found:
        table.add_row(
            str(one["id"]),
            f"{one['fitness']:+.3f}",
            f"[{one['fitness_low']:+.3f}, {one['fitness_high']:+.3f}]",
            str(one["seeds"]),
            str(one["statements"]),
            f"{one['state_memory']:.3g}",
            "fresh seeds" if one["confirmed"] else "search seeds",
        )
    console.print(table)
    if found:
        console.print(f"\n{found[0]['id']}:\n{found[0]['source']}", highlight=False, markup=False)


@app.command()
def lineage(
    run: RunDirectory,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Draw the tree into an .svg file.")
    ] = None,
    json: Json = False,
) -> None:
    """The family tree of a run's champions: what made each, from the seed program on.

    Mutations that change nothing of what a program computes are folded. ● is a champion. One
    program's ancestors are in `evosearch show DIR#ID`.
    """
    from evosearch.files import check_writable, write_text
    from evosearch.findings.family import rows, to_svg, to_text
    from evosearch.findings.lineage import family
    from evosearch.searching.run import Run

    if out is not None and out.suffix.lower() != ".svg":
        raise UsageError(f"{out}: a family tree is drawn into a file that ends in .svg")
    if out is not None:
        check_writable(out)
    tree = family(Run(run))
    found = rows(tree)
    if out is not None:
        write_text(out, to_svg(found))
    if json:
        ancestors = [row.ancestor.document() | {"champion": row.champion} for row in found]
        print_json({"ancestors": ancestors, "edges": [list(edge) for edge in sorted(tree.edges)]})
    elif out is not None:
        say(f"wrote {out}")
    else:
        say("\n".join(to_text(found)))


def _seeds(best: dict[str, Any]) -> str:
    return f"{best['seeds']} seed{'' if best['seeds'] == 1 else 's'}"


def _verdict(best: dict[str, Any]) -> str:
    """The champion against the baseline, in words."""
    from evosearch.verdicts import champion_in_words

    return champion_in_words(
        _interval(best), best["seeds"], confirmed=best["confirmed"], initial=best["id"] == 0
    )


def _interval(found: dict[str, Any]) -> Interval:
    from evosearch.statistics import Interval

    return Interval(found["fitness"], found["fitness_low"], found["fitness_high"])


def print_status(document: dict[str, Any]) -> None:
    """A run's status in words."""
    from evosearch.searching.live import duration
    from primitives.printable import printable

    evaluated, generated = document["evaluated"], document["generated"]
    say(
        f"{printable(document['run'])}: {generated:,} programs in "
        f"{duration(document['elapsed_seconds'])} "
        f"({document['programs_per_second']:,.0f} per second), {evaluated:,} evaluated in "
        f"{document['measurements']:,} measurements"
    )
    say(
        f"cost: {document['trainings']:,} trainings, the baseline's included, with "
        f"{document['weight_updates']:.3g} weight updates (steps times weights)"
    )
    say(
        f"cache hits {100 * document['cache_hit_rate']:.1f} %, redundant statements "
        f"{100 * document['redundant_fraction']:.1f} %, invalid drafts {document['invalid']:,}, "
        f"{_how_it_stands(document)}"
    )
    for line in _workers(document["workers"]):
        say(line)
    best = document["best"]
    if best is None:
        say("no champion yet")
        return
    from evosearch.verdicts import estimate

    say(
        f"\nchampion {best['id']}: fitness {estimate(_interval(best), best['seeds'])}, from "
        f"{_seeds(best)}{' that decided nothing' if best['confirmed'] else ''}"
    )
    say("  " + ", ".join(f"{task} {mean:+.3f}" for task, mean in best["per_task"].items()))
    say(f"  {_verdict(best)}")
    say("  (0 is tuned AdamW, +0.1 about 10% lower loss, on the search's own tasks, where a rate")
    say("  or a schedule that suits their horizon counts as much as a new rule)")
    _print_beyond(document)
    say(f"\n{best['source']}")
    say(
        f"evaluate it where the search has not been:  evosearch eval {document['run']} "
        f"--task {_unseen(best['per_task'])}"
    )


def _print_beyond(document: dict[str, Any]) -> None:
    """What validation and the funnel have said of it."""
    from evosearch.verdicts import estimate, winner_in_words
    from primitives.printable import printable

    if (validation := document["validation"]) is not None:
        found = estimate(_interval(validation), validation["seeds"])
        say(f"  with ten times the work, and both tuned: {found}")
    if (funnel := document["funnel"]) is not None:
        winner = funnel["winner"]
        say(
            "  through the funnel came no program: none was shown to beat the tuned baseline"
            if winner is None
            else f"  through the funnel came {printable(winner['name'])}: "
            f"{estimate(_interval(winner))}, {winner_in_words(_interval(winner))}"
        )


def _how_it_stands(document: dict[str, Any]) -> str:
    """Whether the search runs, or why it ended."""
    if document["running"]:
        return "still running"
    reason = document["stop_reason"]
    if reason is None:
        return f"was killed; continue with `evosearch resume {document['run']}`"
    return "interrupted" if reason == "interrupted" else f"ended by its limit of {reason}"


def _workers(workers: list[dict[str, Any]]) -> list[str]:
    """What each worker of a running search does, a line each."""
    from evosearch.searching.live import duration

    return [
        f"  {one['worker']}: {one['doing']}, for {duration(max(0.0, time.time() - one['since']))}"
        for one in workers
    ]


def _unseen(tasks: Iterable[str]) -> str:
    """A task that no search may touch: the held-out rows of the user's own, if they are such."""
    own = [task for task in tasks if Path(task.split(":")[0]).suffix in (".npz", ".txt")]
    return f"{own[0]}@held-out" if own else "digits-residual"
