"""The command `evosearch check`, which verifies and repairs a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evosearch.cli.app import Json, app, print_json, say


@app.command()
def check(
    run: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of the run.")],
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Restore what the measurements determine: configuration, programs, tests, "
            "champions, best.txt.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Verify a run.

    The command verifies the checksums of all rows, the database, the configuration, the stored
    documents and the ledger beside the run, and replays the whole search from its measurements. The
    exit status is 1 if something is wrong. Measurements are never changed.
    """
    from evosearch.cli.progress import reporting
    from evosearch.cli.terminal import Terminal
    from evosearch.pipeline.checking import check as check_run

    with reporting(Terminal(stderr=True)) as report:
        findings = check_run(run, repair=repair, phase=lambda text: report(text, 0, None))
    if json:
        print_json({"run": str(run), "findings": [finding.document() for finding in findings]})
    else:
        for finding in findings:
            verdict = "repaired" if finding.repaired else "ok" if finding.ok else "WRONG"
            say(f"{verdict:8}  {finding.subject}: {finding.text}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)
