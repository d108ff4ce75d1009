"""`check`: verify a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evosearch.cli.app import Json, app, print_json, say


@app.command()
def check(
    run: Annotated[Path, typer.Argument(metavar="DIR", help="The run's directory.")],
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Derive again what can be: configuration, programs, tests, champions, best.txt.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Verify everything that a run holds.

    Checksums of all rows, the database, the configuration, the replay of the whole search from its
    measurements, the kept documents, and the ledger beside the run. Exits with 1 if something is
    wrong. Measurements are never changed.
    """
    from evosearch.cli.progress import reporting
    from evosearch.cli.terminal import Terminal
    from evosearch.pipeline.checking import check as checked

    with reporting(Terminal(stderr=True)) as report:
        found = checked(run, repair=repair, phase=lambda text: report(text, 0, None))
    if json:
        print_json({"run": str(run), "findings": [one.document() for one in found]})
    else:
        for one in found:
            verdict = "repaired" if one.repaired else "ok" if one.ok else "WRONG"
            say(f"{verdict:8}  {one.subject}: {one.text}")
    if not all(one.ok for one in found):
        raise typer.Exit(1)
