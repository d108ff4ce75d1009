"""Random damage to bytes and values for tests, reproducible by seed."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

HOSTILE = (
    *(None, True, -1, 0, 10**12 + 1, 10**30, 1e308, -1e308, 0.5, float("inf"), float("nan")),
    *("", "x", "\x1b[31m", "\u202e", "#", "a#1", "9" * 30, [], [[]], {}, {"x": {}}, [1, "x", None]),
)
"""Values of all kinds; no field of a document allows all of them."""


def damaged_bytes(content: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """Yield `count` damaged copies of `content`: changed, inserted, deleted or truncated bytes."""
    rng = random.Random(seed)
    while count:
        position, length = rng.randrange(len(content)), rng.randint(1, 8)
        rest = content[position + 1 :]
        changed = {
            "bit": content[:position] + bytes([content[position] ^ 1 << rng.randrange(8)]) + rest,
            "byte": content[:position] + bytes([rng.randrange(256)]) + rest,
            "text": content[:position] + rng.choice([b"9", b"-", b'"', b"e9", b"}", b"\n"]) + rest,
            "insert": content[:position] + rng.randbytes(length) + content[position:],
            "delete": content[:position] + content[position + length :],
            "cut": content[:position],
        }[rng.choice(["bit", "bit", "byte", "text", "text", "insert", "delete", "cut"])]
        if changed != content:
            count -= 1
            yield changed


def damaged_types(document: Any, count: int, seed: int = 0) -> Iterator[Any]:
    """Yield `count` copies of a document with one value replaced, deleted or duplicated."""
    rng = random.Random(seed)
    while count:
        changed = copy.deepcopy(document)
        container, key = rng.choice(list(_locations(changed)))
        kind = rng.random()
        if kind < 0.8:
            container[key] = copy.deepcopy(rng.choice(HOSTILE))
        elif kind < 0.9:
            del container[key]
        elif isinstance(container, dict):
            container[f"{key}x"] = container[key]
        else:
            container.append(copy.deepcopy(container[key]))
        count -= 1
        yield changed


def _locations(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the container and key of each nested value."""
    keys = value if isinstance(value, dict) else range(len(value)) if type(value) is list else ()
    for key in keys:
        yield value, key
        yield from _locations(value[key])
