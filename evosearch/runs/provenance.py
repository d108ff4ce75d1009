"""Provenance of a run: the code, libraries, computer and tasks with which it was made.

What a search decides from its measurements depends only on its configuration and on the modules in
`DECIDING_MODULES`. A run stores a digest of these modules. If a replay differs from the record
although the digest is equal, the record is corrupt; if the digest differs, another version made the
run.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import time
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path

import proxies
from evosearch.errors import EvosearchError, UsageError
from evosearch.runs.replay import Divergence
from evosearch.runs.rows import PROCESSES, ProcessRow
from evosearch.runs.store import Store
from proxies import Task

DECIDING_MODULES = (
    "evosearch.config",
    "evosearch.fixed",
    "evosearch.statistics",
    "evosearch.evolution.constants",
    "evosearch.evolution.evolution",
    "evosearch.evolution.mutation",
    "evosearch.evolution.records",
    "evosearch.evolution.space",
    "evosearch.evolution.step_size",
    "evosearch.seeds",
    "primitives.graph.analysis",
    "primitives.graph.keys",
    "primitives.interval",
    "primitives.kinds",
    "primitives.text.names",
    "primitives.op",
    "primitives.ops",
    "primitives.ops.arithmetic",
    "primitives.ops.functions",
    "primitives.ops.extended",
    "primitives.parsing",
    "primitives.program",
    "primitives.machine.reference",
)
"""The modules that determine what a search does with its measurements."""
_TASKS = "tasks"
"""Key of the tasks' digests in the table `meta`."""
_LIBRARIES = ("jax", "jaxlib", "numpy", "optax", "scipy")


@cache
def code_digest() -> str:
    """Return the digest of the modules in `DECIDING_MODULES`, 16 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=8)
    for name in DECIDING_MODULES:
        file = import_module(name).__file__
        assert file is not None
        digest.update(Path(file).read_bytes() + b"\x00")
    return digest.hexdigest()


@cache
def _library_versions() -> str:
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _LIBRARIES)


def version() -> str:
    """Return the installed version of evosearch."""
    try:
        return importlib.metadata.version("evosearch")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def current_process_row(number: int, first_request: int) -> ProcessRow:
    """Return the row that describes the current process.

    Args:
        number: 1 for the first process that searches in the run, then 2, 3, ...
        first_request: The first request that the process measures.
    """
    import jax

    devices = sorted({device.device_kind for device in jax.devices()})
    return ProcessRow(
        number,
        time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        first_request,
        version(),
        code_digest(),
        _library_versions(),
        f"{platform.system()} {platform.machine()}, {', '.join(devices)}",
    )


def read_task_digests(store: Store) -> dict[str, dict[str, str]]:
    """Return the digests of a run's tasks, by task and part; empty for runs of earlier versions.

    Raises:
        EvosearchError: The stored digests are damaged.
    """
    try:
        tasks = json.loads(store.meta(_TASKS) or "{}")
        return {str(name): dict(digests) for name, digests in tasks.items()}
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise EvosearchError(
            f"{store.path} is damaged: the digests of the run's tasks cannot be read; "
            "restore it from a copy"
        ) from None


def check_tasks(store: Store, tasks: Mapping[str, Task]) -> None:
    """Check that the tasks are unchanged since the run began; store their digests in a new run.

    Measurements on a changed task cannot be compared with the stored measurements.

    Raises:
        UsageError: A task file, a file that it read, or a bundled data source has changed.
    """
    digests = {name: proxies.digest(task) for name, task in tasks.items()}
    stored_digests = read_task_digests(store)
    if not stored_digests:  # a new run, or a run of a version that stored no digests
        store.set_meta(_TASKS, json.dumps(digests))
    for name, stored in stored_digests.items():
        changed = proxies.differences(stored, digests.get(name, {}))
        if changed:
            raise UsageError(
                f"task {name!r} has changed since {store.directory} began ({', '.join(changed)}); "
                "undo the change, or start another run with "
                f"`evosearch search {store.directory}/config.toml`"
            )


def divergence_error(divergence: Divergence, store: Store) -> EvosearchError:
    """Return the error for a run whose replay differs from the record, with cause and remedies."""
    directory = store.directory
    processes = store.select(PROCESSES, "order by number")
    made_by = (
        f"evosearch {processes[-1].version}, code {processes[-1].code}"
        if processes
        else "an earlier version of evosearch, which stored no digest of its code"
    )
    is_same_code = bool(processes) and all(row.code == code_digest() for row in processes)
    cause = (
        "the code is the same, so the record is corrupt"
        if is_same_code
        else f"the run was made by {made_by}; this is evosearch {version()}, code {code_digest()}"
    )
    return EvosearchError(
        f"{directory} cannot be resumed: at request {divergence.request} its record has "
        f"{divergence.stored}, but a replay gives {divergence.replayed}; {cause}. The record is "
        f"unchanged; look at it with `evosearch status {directory}`, start a search from its "
        f"champion with `evosearch search --init {directory}`, or copy what replays to a new run "
        f"with `evosearch resume {directory} --fork NEW`"
    )
