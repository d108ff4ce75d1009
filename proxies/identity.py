"""The identity of a task: digests of its files, arrays and settings."""

import hashlib
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from proxies.task import PyTree, Task

ARRAYS = "arrays of the task's data"
FIELDS = "settings of the task"
"""Names of the parts of a digest other than files."""


def digest(task: Task) -> dict[str, str]:
    """Return SHA-256 digests of everything that decides a training on `task`.

    The parts are each file that the task was made from, named relative to the folder of the task's
    file; the arrays of `Task.data`; and the task's settings, such as its number of steps. The file
    replaces the arrays for tasks from .npz and .txt files. Files are digested when the task is
    loaded. The result is cached, and can be written as JSON.

    >>> import proxies
    >>> list(digest(proxies.load("quadratic")))
    ["arrays of the task's data", 'settings of the task']

    Args:
        task: any task.

    Returns:
        The digest of each part, in hexadecimal, by the part's name.
    """
    return dict(_parts(task))


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Describe the differences between two digests of a task.

    >>> differences({"task.py": "12ab"}, {"task.py": "34cd", "helper.py": "56ef"})
    ['task.py changed', 'helper.py was not read before']

    Args:
        before: an earlier result of `digest`.
        now: a later result of `digest`.

    Returns:
        One phrase for each part that differs; empty if the digests are equal.
    """
    phrases = []
    for part in dict.fromkeys([*before, *now]):
        if part not in now:
            phrases.append(f"{part} is no longer read")
        elif part not in before:
            phrases.append(f"{part} was not read before")
        elif before[part] != now[part]:
            phrases.append(f"{part} changed")
    return phrases


@cache
def _parts(task: Task) -> tuple[tuple[str, str], ...]:
    parts = [(_relative(path, task.files[0][0]), digest) for path, digest in task.files]
    if not task.files or Path(task.files[0][0]).suffix == ".py":
        parts.append((ARRAYS, _digest_arrays(task.data)))
    fields = (task.split, task.metric, task.steps, task.delay, task.gradient is not None)
    text = "\x00".join(map(str, fields))
    parts.append((FIELDS, hashlib.sha256(text.encode()).hexdigest()))
    return tuple(parts)


def _relative(path: str, task_file: str) -> str:
    """Return `path` relative to the folder of `task_file`, so that a project can be moved."""
    try:
        return Path(os.path.relpath(path, os.path.dirname(task_file))).as_posix()
    except ValueError:  # a different drive on Windows
        return path


def _digest_arrays(data: PyTree) -> str:
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(data):
        is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        array = np.asarray(jax.random.key_data(leaf) if is_key else leaf)
        name = jax.tree_util.keystr(path)
        digest.update(f"{name}{array.shape}{array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
