"""Which code, libraries and machine a search was made by.

A search is a function of its configuration and of the code that decides. So a run keeps a digest of
that code: where the digest is equal and a replay differs, the record is corrupt; where it is not,
another version made it.
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

DECIDING = (
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
"""The modules that decide what a search does with its measurements."""
_TASKS = "tasks"
_LIBRARIES = ("jax", "jaxlib", "numpy", "optax", "scipy", "scikit-learn")


@cache
def code_digest() -> str:
    """The digest of the code that decides, 16 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=8)
    for name in DECIDING:
        file = import_module(name).__file__
        assert file is not None
        digest.update(Path(file).read_bytes() + b"\x00")
    return digest.hexdigest()


@cache
def _libraries() -> str:
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _LIBRARIES)


def version() -> str:
    """The version of evosearch that is installed."""
    try:
        return importlib.metadata.version("evosearch")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def current_process_row(number: int, first_request: int) -> ProcessRow:
    """The row of a process that searches from `first_request` on."""
    import jax

    devices = sorted({device.device_kind for device in jax.devices()})
    return ProcessRow(
        number,
        time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        first_request,
        version(),
        code_digest(),
        _libraries(),
        f"{platform.system()} {platform.machine()}, {', '.join(devices)}",
    )


def read_task_digests(store: Store) -> dict[str, dict[str, str]]:
    """The digests of the tasks that a run was made with, by name; empty if it keeps none."""
    try:
        found = json.loads(store.meta(_TASKS) or "{}")
        return {str(name): dict(digests) for name, digests in found.items()}
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise EvosearchError(
            f"{store.path} is damaged: it does not hold the digests of the run's tasks; "
            "restore it from a copy"
        ) from None


def check_tasks(store: Store, tasks: Mapping[str, Task]) -> None:
    """Whether the tasks are those that the run was made with; a new run keeps their digests.

    Measurements on another task under the same name would be mixed with the stored ones.

    Raises:
        UsageError: a task file, a file that it read, or a bundled source has changed; says which.
    """
    digests = {name: proxies.digest(task) for name, task in tasks.items()}
    kept = read_task_digests(store)
    if not kept:  # a new run, or one of a version that kept none
        store.set_meta(_TASKS, json.dumps(digests))
    for name, before in kept.items():
        changed = proxies.differences(before, digests.get(name, {}))
        if changed:
            raise UsageError(
                f"task {name!r} is not what {store.directory} was made with ({', '.join(changed)})"
                "; undo the change, or start another run: "
                f"`evosearch search {store.directory}/config.toml`"
            )


def divergence_error(divergence: Divergence, store: Store) -> EvosearchError:
    """Why a run cannot be resumed, who made it, and what one can do."""
    directory = store.directory
    processes = store.select(PROCESSES, "order by number")
    made_by = (
        f"evosearch {processes[-1].version}, code {processes[-1].code}"
        if processes
        else "an earlier version of evosearch, which kept no digest of its code"
    )
    same = bool(processes) and all(one.code == code_digest() for one in processes)
    why = (
        "the code is the same, so the record is corrupt"
        if same
        else f"it was made by {made_by}; this is evosearch {version()}, code {code_digest()}"
    )
    return EvosearchError(
        f"{directory} cannot be resumed: replaying it differs from the record at request "
        f"{divergence.request}. Expected: {divergence.stored}. Found: "
        f"{divergence.made}. Nothing of the record was changed; {why}. You can look at it "
        f"(`evosearch status {directory}`), search anew from its champion "
        f"(`evosearch search --init {directory}`), or copy what still replays into a new run "
        f"(`evosearch resume {directory} --fork NEW`)"
    )
