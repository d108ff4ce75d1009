"""Loading of the programs that PROGRAM arguments of commands name.

An argument is a zoo name, a file, `-` for standard input, `runs/NAME` for a run's champion,
`runs/NAME#ID`, or `runs/NAME#winner` for the winner of a run's funnel. The suffix `:simplified`
names the stored simplified form of a run's program.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from evosearch.errors import UsageError
from evosearch.files import read_bytes
from evosearch.runs.database import DATABASE
from evosearch.runs.run import Run
from evosearch.simplification.derivation_files import read_derivation
from primitives import Program, ProgramError, parse, zoo
from primitives.parsing import MAX_CHARACTERS
from primitives.text.wording import suggestion

if TYPE_CHECKING:
    from evosearch.measuring.ledger import Ledger

_SIMPLIFIED = ":simplified"
_ID = re.compile("[0-9]{1,18}")
"""Ids that fit into a database column."""


def load_program(argument: str) -> Program:
    """Return the program that `argument` names.

    Raises:
        UsageError: No zoo name, file or run has this name, or the file cannot be read.
        ProgramError: The text is not a program; the message starts with file and line.
    """
    if argument in zoo.names():
        return zoo.load(argument)
    if argument.endswith(_SIMPLIFIED):
        return _load_simplified(argument.removesuffix(_SIMPLIFIED))
    if argument == "-":
        return _parse("standard input", sys.stdin.buffer.read(4 * MAX_CHARACTERS))
    directory, separator, number = argument.rpartition("#")
    if separator and Path(directory).is_dir():
        return _program_of_run(Run(directory), number)
    path = Path(argument)
    if path.is_dir():
        return Run(path).champion()
    if path.exists():
        return _parse(argument, read_bytes(path, 4 * MAX_CHARACTERS))
    remedy = suggestion(argument, zoo.names()) or "; `evosearch zoo` lists the known optimizers"
    raise UsageError(f"no program {argument!r}: it is neither a zoo name, a file nor a run{remedy}")


def run_and_id(argument: str) -> tuple[Run, int] | None:
    """Return the run and the id of a generated program; None for other programs."""
    directory, separator, number = argument.rpartition("#")
    if separator and Path(directory).is_dir():
        if _ID.fullmatch(number):
            return Run(directory), int(number)
        if number == "winner":
            return _run_and_id_of_winner(Run(directory))
    if argument in zoo.names() or not Path(argument).is_dir():
        return None
    run = Run(argument)
    best = run.best()
    return (run, best.id) if best else None


def ledger_of(arguments: Iterable[str], on_error: Callable[[str], None] | None = None) -> Ledger:
    """Return the ledger beside the first run among `arguments`; without a run, that in `runs/`.

    Args:
        arguments: Programs, as for `load_program`.
        on_error: Called with a message if the file cannot be used; None raises an error instead.

    Raises:
        EvosearchError: The file cannot be used, and `on_error` is None.
    """
    from evosearch.measuring.ledger import Ledger

    for argument in arguments:
        directory = Path(argument.removesuffix(_SIMPLIFIED).split("#")[0])
        if (directory / DATABASE).is_file():
            return Ledger.beside(directory, on_error)
    return Ledger.local(on_error)


def _run_and_id_of_winner(run: Run) -> tuple[Run, int] | None:
    """Return the run and the id of a funnel's winner; None without a winner or without its run."""
    funnel = run.funnel()
    if funnel is None or funnel.winner is None:
        return None
    directory, number = Path(funnel.winner.run), funnel.winner.id
    if directory.name == run.directory.resolve().name:
        return run, number
    return (Run(directory), number) if directory.is_dir() else None


def _program_of_run(run: Run, name: str) -> Program:
    """Return the program that `name` (an id, `i` and the id of an injection, `winner`) means."""
    if name == "winner":
        return run.winner()
    if _ID.fullmatch(name):
        return run.program(int(name))
    if name.startswith("i") and _ID.fullmatch(name[1:]):
        return run.injected(int(name[1:]))
    raise UsageError(
        f"{name!r} is not a program's id; give a number from `evosearch top`, or winner"
    )


def _load_simplified(argument: str) -> Program:
    origin = run_and_id(argument)
    if origin is None:
        raise UsageError(
            f"{argument!r} is not a program of a run, so its simplified form is not stored; "
            f"`evosearch simplify {argument} -o FILE` writes it to a file"
        )
    run, number = origin
    simplification = read_derivation(run.directory, number)
    if simplification is None:
        raise UsageError(f"{argument} is not simplified yet: run `evosearch simplify {argument}`")
    return simplification.program


def _parse(name: str, content: bytes) -> Program:
    try:
        return parse(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ProgramError(f"{name}: line {line}: not UTF-8 text; save it as UTF-8") from None
    except ProgramError as error:
        raise ProgramError(f"{name}: {error}") from None
