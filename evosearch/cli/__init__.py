"""The command line: one module for each thing that a user does.

`search` launches and resumes, `status` says what was found, `inspect`, `compare` and `check` look
at runs, `show` at programs, `simplify` makes them readable, `export` turns them into code,
`evaluate` compares, `funnel` finds the winner, `tasks` and `catalogue` list what there is.
Libraries are imported inside commands, so that `--help` answers at once.
"""

import signal
from typing import NoReturn

from evosearch.cli.interrupts import end_at_once

__all__ = ["main"]


def main() -> NoReturn:
    """Runs the command line; exits with 0, 1 (failed), 2 (used wrongly) or 130 (interrupted)."""
    signal.signal(signal.SIGINT, end_at_once)  # before the imports, which take half a second
    from evosearch.cli import app

    app.main()
