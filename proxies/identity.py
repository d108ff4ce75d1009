"""The identity of a task: digests that name what changed: a file, or data."""

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
"""The parts of a digest that are no files."""


def digest(task: Task) -> dict[str, str]:
    """Digests of what decides a training on `task`, by the name of each part.

    A part is a file that the task was made from, named relative to the folder of the task's own
    file; the arrays of `Task.data`; and the task's settings, as its number of steps. Of a task made
    of an .npz or .txt file the file stands for the arrays. The files are digested as they were when
    the task was loaded. Cheap after the first call for a task; the result can be written as JSON.
    """
    return dict(_parts(task))


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What differs between two digests of a task, in words; empty where they are equal."""
    found = []
    for part in dict.fromkeys([*before, *now]):
        if part not in now:
            found.append(f"{part} is no longer read")
        elif part not in before:
            found.append(f"{part} was not read before")
        elif before[part] != now[part]:
            found.append(f"{part} changed")
    return found


@cache
def _parts(task: Task) -> tuple[tuple[str, str], ...]:
    parts = [(_relative(path, task.files[0][0]), digest) for path, digest in task.files]
    if not task.files or Path(task.files[0][0]).suffix == ".py":
        parts.append((ARRAYS, _of_arrays(task.data)))
    fields = (task.split, task.metric, task.steps, task.delay, task.gradient is not None)
    text = "\x00".join(map(str, fields))
    parts.append((FIELDS, hashlib.sha256(text.encode()).hexdigest()))
    return tuple(parts)


def _relative(path: str, own: str) -> str:
    """`path` seen from the folder of `own`, so that a project may move as a whole."""
    try:
        return Path(os.path.relpath(path, os.path.dirname(own))).as_posix()
    except ValueError:  # another drive of Windows
        return path


def _of_arrays(data: PyTree) -> str:
    digest = hashlib.sha256()
    for place, leaf in jax.tree_util.tree_leaves_with_path(data):
        is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        array = np.asarray(jax.random.key_data(leaf) if is_key else leaf)
        name = jax.tree_util.keystr(place)
        digest.update(f"{name}{array.shape}{array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
