"""Functions that damage bytes and documents at random, the same for the same seed."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterable, Iterator
from typing import Any

HOSTILE_VALUES = (
    *(None, True, -1, 0, 10**12 + 1, 10**30, 1e308, -1e308, 0.5, float("inf"), float("nan")),
    *("", "x", "\x1b[31m", "\u202e", "#", "a#1", "9" * 30, [], [[]], {}, {"x": {}}, [1, "x", None]),
)
"""Values of all types, of which every field of a document refuses some."""


def damaged_bytes(content: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """Yield `count` damaged copies of `content`: changed, inserted, deleted or truncated bytes."""
    rng = random.Random(seed)
    yielded = 0
    while yielded < count:
        position, length = rng.randrange(len(content)), rng.randint(1, 8)
        before, after = content[:position], content[position + 1 :]
        damaged = {
            "bit": before + bytes([content[position] ^ 1 << rng.randrange(8)]) + after,
            "byte": before + bytes([rng.randrange(256)]) + after,
            "text": before + rng.choice([b"9", b"-", b'"', b"e9", b"}", b"\n"]) + after,
            "insert": before + rng.randbytes(length) + content[position:],
            "delete": before + content[position + length :],
            "truncate": before,
        }[rng.choice(["bit", "bit", "byte", "text", "text", "insert", "delete", "truncate"])]
        if damaged != content:
            yielded += 1
            yield damaged


def damaged_documents(document: Any, count: int, seed: int = 0) -> Iterator[Any]:
    """Yield `count` copies of a document with one value replaced, deleted or duplicated."""
    rng = random.Random(seed)
    for _ in range(count):
        damaged = copy.deepcopy(document)
        container, key = rng.choice(list(_containers_and_keys(damaged)))
        choice = rng.random()
        if choice < 0.8:
            container[key] = copy.deepcopy(rng.choice(HOSTILE_VALUES))
        elif choice < 0.9:
            del container[key]
        elif isinstance(container, dict):
            container[f"{key}x"] = container[key]
        else:
            container.append(copy.deepcopy(container[key]))
        yield damaged


def _containers_and_keys(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the container and the key, or the index, of each nested value."""
    if isinstance(value, dict):
        keys: Iterable[Any] = value
    elif isinstance(value, list):
        keys = range(len(value))
    else:
        return
    for key in keys:
        yield value, key
        yield from _containers_and_keys(value[key])
