"""The command line of evosearch.

Each module defines one command or a few related ones. Commands import the libraries they need in
their own functions, so that `--help` starts fast.
"""

import signal
from typing import NoReturn

from evosearch.cli.interrupts import end_at_once

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command line; exit with 0, 1 (failure), 2 (wrong usage) or 130 (interrupted)."""
    signal.signal(signal.SIGINT, end_at_once)  # before the imports, which take half a second
    from evosearch.cli import app

    app.main()
