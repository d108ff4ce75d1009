"""`check`: whether a run is as it was written, and what of it can be derived again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import proxies
from evosearch.errors import EvosearchError, describe_error
from evosearch.files import read_bytes, write_text
from evosearch.measuring.ledger import LEDGER, Ledger
from evosearch.runs.database import BEST, LOG
from evosearch.runs.directory import check_config, read_config, restore_config
from evosearch.runs.provenance import check_tasks, divergence_error, read_task_digests
from evosearch.runs.recovery import rebuild, replay_as_ended
from evosearch.runs.replay import Divergence
from evosearch.runs.rows import CHAMPIONS, MEASUREMENTS, PROGRAMS, PROGRESS, REJECTS, TESTS
from evosearch.runs.run import Run
from evosearch.runs.store import Store
from evosearch.simplification.derivation_files import DIRECTORY, read_derivation
from proxies import UnknownTaskError, UntrustedTaskError, UserTaskError

_LARGEST_LOG = 2**30
_LARGEST_PROGRAM = 2**20
_DERIVED = {table.name for table in (PROGRAMS, REJECTS, TESTS, CHAMPIONS, PROGRESS)}


@dataclass(frozen=True)
class Finding:
    """One thing that was checked.

    Attributes:
        subject: what was checked.
        ok: whether it is as it was written.
        text: what was found, in one line.
        repaired: whether it was wrong and was derived again.
    """

    subject: str
    ok: bool
    text: str
    repaired: bool = False

    def document(self) -> dict[str, Any]:
        """The finding as JSON."""
        return asdict(self)


def check(
    directory: Path, *, repair: bool = False, phase: Callable[[str], None] = lambda text: None
) -> list[Finding]:
    """Verifies everything that a run holds.

    Args:
        directory: the run's.
        repair: whether to derive again what can be: configuration, programs, tests, champions,
            counts, indexes, `best.txt`. Measurements are never changed.
        phase: told what is being checked.

    Raises:
        UsageError: there is no run.
        EvosearchError: a repair cannot be written, or a process searches in the run.
    """
    found: list[Finding] = []
    for subject, examine, mend in _SUBJECTS:
        phase(f"checking {subject}")
        finding = _examined(subject, examine, directory)
        if not finding.ok and repair and mend is not None:
            phase(f"repairing {subject}")
            try:
                mend(directory)
            except EvosearchError as error:
                finding = Finding(subject, False, f"{finding.text}; not repaired: {error}")
            else:
                again = _examined(subject, examine, directory)
                text = f"{again.text}; it was wrong: {finding.text}" if again.ok else again.text
                finding = replace(again, text=text, repaired=again.ok)
        found.append(finding)
    if any(one.repaired for one in found):  # one repair may have mended what another could not
        found = [
            one if one.ok else _examined(one.subject, examine, directory)
            for one, (_, examine, _) in zip(found, _SUBJECTS, strict=True)
        ]
    return found


def _examined(subject: str, examine: Callable[[Path], str], directory: Path) -> Finding:
    """What `examine` returns of a sound run; an EvosearchError says what is wrong."""
    try:
        return Finding(subject, True, examine(directory))
    except EvosearchError as error:
        return Finding(
            subject,
            False,
            describe_error(error).removesuffix(f"; run `evosearch check {directory}`"),
        )


def _configuration(directory: Path) -> str:
    check_config(Store.open(directory), read_config(directory))
    return "is what the run was made with"


def _mend_configuration(directory: Path) -> None:
    restore_config(directory)


def _database(directory: Path) -> str:
    wrong = Store.open(directory).integrity()
    if wrong:
        raise EvosearchError(
            f"SQLite finds {len(wrong)} fault{'s' * (len(wrong) != 1)}, first: {wrong[0]}; "
            "restore run.db from a copy, or copy what still replays by "
            f"`evosearch resume {directory} --fork NEW`"
        )
    return "SQLite finds no fault"


def _mend_database(directory: Path) -> None:
    store = Store.open(directory, "search")
    try:
        store.reindex()
    finally:
        store.close()


def _rows(directory: Path) -> str:
    store = Store.open(directory)
    damaged = store.damaged_rows()
    if damaged:
        counts = ", ".join(f"{count} of {name}" for name, count in damaged.items())
        remedy = (
            f"`evosearch check {directory} --repair` derives them again"
            if damaged.keys() <= _DERIVED
            else "restore run.db from a copy, or copy what still replays by "
            f"`evosearch resume {directory} --fork NEW`"
        )
        raise EvosearchError(f"rows are not as they were written: {counts}; {remedy}")
    run = Run(directory)
    run.cost()
    run.validations()
    return f"{store.count(MEASUREMENTS):,} measurements and all else have their checksums"


def _mend_rows(directory: Path) -> None:
    damaged = Store.open(directory).damaged_rows()
    if not damaged.keys() <= _DERIVED:
        raise EvosearchError("measurements, and what people put in, cannot be derived again")
    rebuild(directory)


def _replay(directory: Path) -> str:
    store = Store.open(directory)
    with store.snapshot():
        try:
            replayed = replay_as_ended(read_config(directory), store)
        except Divergence as divergence:
            raise divergence_error(divergence, store) from None
        progress = store.progress()
    counted = progress.measurements if progress else 0
    if counted != replayed.evolution.counts.measurements:
        raise EvosearchError(
            f"{counted:,} measurements were counted, and there are "
            f"{replayed.evolution.counts.measurements:,}"
        )
    return (
        f"the search is made again from its measurements: "
        f"{replayed.evolution.counts.generated:,} programs, "
        f"{len(replayed.evolution.champions)} champions"
    )


def _tasks(directory: Path) -> str:
    """The tasks and their data are those that the run was made with."""
    config, store = read_config(directory), Store.open(directory)
    try:
        tasks = {name: proxies.load(name) for name in config.tasks}
    except UntrustedTaskError as error:
        return f"not compared: {error}"
    except (UserTaskError, UnknownTaskError) as error:
        raise EvosearchError(str(error)) from None
    if not read_task_digests(store):
        return "not compared: the run keeps no digests of its tasks"
    check_tasks(store, tasks)
    return f"{', '.join(tasks)}: as the run was made with"


def _best(directory: Path) -> str:
    run, path = Run(directory), directory / BEST
    best = run.best()
    if best is None or best.measurements == 0:
        return "there is no champion yet"
    try:
        text = read_bytes(path, _LARGEST_PROGRAM).decode()
    except UnicodeDecodeError:
        raise EvosearchError(f"{path} is not UTF-8") from None
    if text != best.source:
        raise EvosearchError(f"{path} is not the champion, program {best.id}")
    return f"is the champion, program {best.id}"


def _mend_best(directory: Path) -> None:
    write_text(directory / BEST, str(Run(directory).champion()), follow=False)


def _log(directory: Path) -> str:
    path = directory / LOG
    if not path.exists():
        return "there is none yet"
    lines = read_bytes(path, _LARGEST_LOG).splitlines()
    wrong = [number for number, line in enumerate(lines, 1) if not _is_json(line)]
    if wrong:
        raise EvosearchError(
            f"{path}: line {wrong[0]} is not JSON; the log only informs, nothing depends on it"
        )
    return f"{len(lines):,} events"


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _funnel(directory: Path) -> str:
    return "there was no funnel" if Run(directory).funnel() is None else "is as it was written"


def _derivations(directory: Path) -> str:
    paths = sorted((directory / DIRECTORY).glob("*.json"))
    for path in paths:
        if path.stem.isdecimal():
            read_derivation(directory, int(path.stem))
    return f"{len(paths)}, all as they were written" if paths else "there are none"


def _ledger(directory: Path) -> str:
    path = directory.absolute().parent / LEDGER.name
    if not path.exists():
        return f"there is no {path}"
    ledger = Ledger(path)
    damaged = ledger.damaged()
    ledger.close()
    if damaged:
        raise EvosearchError(
            f"{path}: {len(damaged)} trainings are not as they were written, and are made again "
            "when they are asked for"
        )
    return f"every training in {path} has its checksum"


_SUBJECTS: tuple[tuple[str, Callable[[Path], str], Callable[[Path], None] | None], ...] = (
    ("configuration", _configuration, _mend_configuration),
    ("database", _database, _mend_database),
    ("rows", _rows, _mend_rows),
    ("replay", _replay, rebuild),
    ("tasks", _tasks, None),
    ("best.txt", _best, _mend_best),
    ("log.jsonl", _log, None),
    ("funnel.json", _funnel, None),
    ("derivations", _derivations, None),
    ("ledger", _ledger, None),
)
"""What is checked, in order: its name, the check, and what derives it again."""
