"""The command line: one module for each thing that a user does.

`search` launches and resumes, `inspect` looks at runs, `show` at programs, `simplify` makes them
readable, `export` turns them into code, `evaluate` compares, `tasks` and `catalogue` list what
there is. Libraries are imported inside commands, so that `--help` answers at once.
"""

from evosearch.cli.app import main

__all__ = ["main"]
