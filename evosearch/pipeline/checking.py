"""The check of a run for damage, and the repair of parts derived from its measurements."""

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

_MAX_LOG_BYTES = 2**30
_MAX_PROGRAM_BYTES = 2**20
_DERIVED = {table.name for table in (PROGRAMS, REJECTS, TESTS, CHAMPIONS, PROGRESS)}


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        subject: name of the part that was checked.
        ok: whether the part is undamaged.
        text: the result in one line.
        repaired: whether the part was damaged and has been repaired.
    """

    subject: str
    ok: bool
    text: str
    repaired: bool = False

    def document(self) -> dict[str, Any]:
        """Return the finding as a dictionary for JSON."""
        return asdict(self)


def check(
    directory: Path, *, repair: bool = False, phase: Callable[[str], None] = lambda text: None
) -> list[Finding]:
    """Check all parts of a run.

    Args:
        directory: the run directory.
        repair: whether to repair the parts that can be derived: configuration, programs, tests,
            champions, counts, indexes and `best.txt`. Measurements are never changed.
        phase: called with a message before each check.

    Returns:
        One finding per part, in a fixed order.

    Raises:
        UsageError: the directory holds no run.
        EvosearchError: a repair cannot be written, or another process is searching in the run.
    """
    findings: list[Finding] = []
    for subject, examine, repair_part in _SUBJECTS:
        phase(f"checking {subject}")
        finding = _examine(subject, examine, directory)
        if not finding.ok and repair and repair_part is not None:
            phase(f"repairing {subject}")
            try:
                repair_part(directory)
            except EvosearchError as error:
                finding = Finding(subject, False, f"{finding.text}; not repaired: {error}")
            else:
                after = _examine(subject, examine, directory)
                text = f"{after.text}; repaired, it was: {finding.text}" if after.ok else after.text
                finding = replace(after, text=text, repaired=after.ok)
        findings.append(finding)
    if any(finding.repaired for finding in findings):  # one repair may repair several parts
        findings = [
            finding if finding.ok else _examine(finding.subject, examine, directory)
            for finding, (_, examine, _) in zip(findings, _SUBJECTS, strict=True)
        ]
    return findings


def _examine(subject: str, examine: Callable[[Path], str], directory: Path) -> Finding:
    """Return the result of one check; `examine` returns a text or raises an EvosearchError."""
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
    return "unchanged since the run was created"


def _repair_configuration(directory: Path) -> None:
    restore_config(directory)


def _database(directory: Path) -> str:
    errors = Store.open(directory).integrity()
    if errors:
        raise EvosearchError(
            f"SQLite finds {len(errors)} fault{'s' * (len(errors) != 1)}, first: {errors[0]}; "
            "restore run.db from a copy, or save the part that can be replayed with "
            f"`evosearch resume {directory} --fork NEW`"
        )
    return "SQLite finds no fault"


def _repair_database(directory: Path) -> None:
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
            f"`evosearch check {directory} --repair` derives them from the measurements"
            if damaged.keys() <= _DERIVED
            else "restore run.db from a copy, or save the part that can be replayed with "
            f"`evosearch resume {directory} --fork NEW`"
        )
        raise EvosearchError(f"rows with a wrong checksum: {counts}; {remedy}")
    run = Run(directory)
    run.cost()
    run.validations()
    return f"all rows have correct checksums, {store.count(MEASUREMENTS):,} measurements among them"


def _repair_rows(directory: Path) -> None:
    damaged = Store.open(directory).damaged_rows()
    if not damaged.keys() <= _DERIVED:
        raise EvosearchError("only programs, tests, champions and counts can be derived")
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
            f"the stored count is {counted:,} measurements, but the run has "
            f"{replayed.evolution.counts.measurements:,}"
        )
    return (
        f"replaying the measurements gives the same search: "
        f"{replayed.evolution.counts.generated:,} programs, "
        f"{len(replayed.evolution.champions)} champions"
    )


def _tasks(directory: Path) -> str:
    """Compare the tasks and their data with those that the run was created with."""
    config, store = read_config(directory), Store.open(directory)
    try:
        tasks = {name: proxies.load(name) for name in config.tasks}
    except UntrustedTaskError as error:
        return f"not compared: {error}"
    except (UserTaskError, UnknownTaskError) as error:
        raise EvosearchError(str(error)) from None
    if not read_task_digests(store):
        return "not compared: the run stores no digests of its tasks"
    check_tasks(store, tasks)
    return f"unchanged since the run was created: {', '.join(tasks)}"


def _best(directory: Path) -> str:
    run, path = Run(directory), directory / BEST
    best = run.best()
    if best is None or best.measurements == 0:
        return "there is no champion yet"
    try:
        text = read_bytes(path, _MAX_PROGRAM_BYTES).decode()
    except UnicodeDecodeError:
        raise EvosearchError(f"{path} is not UTF-8") from None
    if text != best.source:
        raise EvosearchError(f"{path} does not hold the champion, program {best.id}")
    return f"holds the champion, program {best.id}"


def _repair_best(directory: Path) -> None:
    write_text(directory / BEST, str(Run(directory).champion()), follow=False)


def _log(directory: Path) -> str:
    path = directory / LOG
    if not path.exists():
        return "there is none yet"
    lines = read_bytes(path, _MAX_LOG_BYTES).splitlines()
    invalid = [number for number, line in enumerate(lines, 1) if not _is_json(line)]
    if invalid:
        raise EvosearchError(
            f"{path}: line {invalid[0]} is not JSON; the search does not depend on the log"
        )
    return f"{len(lines):,} events"


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _funnel(directory: Path) -> str:
    return "there was no funnel" if Run(directory).funnel() is None else "undamaged"


def _derivations(directory: Path) -> str:
    paths = sorted((directory / DIRECTORY).glob("*.json"))
    for path in paths:
        if path.stem.isdecimal():
            read_derivation(directory, int(path.stem))
    return f"{len(paths)}, all undamaged" if paths else "there are none"


def _ledger(directory: Path) -> str:
    path = directory.absolute().parent / LEDGER.name
    if not path.exists():
        return f"there is no {path}"
    ledger = Ledger(path)
    damaged = ledger.damaged()
    ledger.close()
    if damaged:
        raise EvosearchError(
            f"{path}: {len(damaged)} trainings have a wrong checksum; they are repeated when they "
            "are needed"
        )
    return f"all trainings in {path} have correct checksums"


_SUBJECTS: tuple[tuple[str, Callable[[Path], str], Callable[[Path], None] | None], ...] = (
    ("configuration", _configuration, _repair_configuration),
    ("database", _database, _repair_database),
    ("rows", _rows, _repair_rows),
    ("replay", _replay, rebuild),
    ("tasks", _tasks, None),
    ("best.txt", _best, _repair_best),
    ("log.jsonl", _log, None),
    ("funnel.json", _funnel, None),
    ("derivations", _derivations, None),
    ("ledger", _ledger, None),
)
"""All checks in order: name of the part, check, and repair."""
