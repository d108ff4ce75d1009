"""Damage for tests: bytes and types of files changed at random, always alike for one seed."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

HOSTILE = (
    *(None, True, -1, 0, 10**12 + 1, 10**30, 1e308, -1e308, 0.5, float("inf"), float("nan")),
    *("", "x", "\x1b[31m", "\u202e", "#", "a#1", "9" * 30, [], [[]], {}, {"x": {}}, [1, "x", None]),
)
"""Values that no place of a document holds all of."""


def damaged_bytes(content: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """`content` with a bit, a byte or a piece changed, put in, left out, or all from a place on."""
    chance = random.Random(seed)
    while count:
        place, length = chance.randrange(len(content)), chance.randint(1, 8)
        rest = content[place + 1 :]
        changed = {
            "bit": content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + rest,
            "byte": content[:place] + bytes([chance.randrange(256)]) + rest,
            "text": content[:place] + chance.choice([b"9", b"-", b'"', b"e9", b"}", b"\n"]) + rest,
            "put in": content[:place] + chance.randbytes(length) + content[place:],
            "left out": content[:place] + content[place + length :],
            "cut": content[:place],
        }[chance.choice(["bit", "bit", "byte", "text", "text", "put in", "left out", "cut"])]
        if changed != content:
            count -= 1
            yield changed


def damaged_types(document: Any, count: int, seed: int = 0) -> Iterator[Any]:
    """`document` with one value replaced by a hostile one, one left out, or one too many."""
    chance = random.Random(seed)
    while count:
        changed = copy.deepcopy(document)
        holder, key = chance.choice(list(_places(changed)))
        how = chance.random()
        if how < 0.8:
            holder[key] = copy.deepcopy(chance.choice(HOSTILE))
        elif how < 0.9:
            del holder[key]
        elif isinstance(holder, dict):
            holder[f"{key}x"] = holder[key]
        else:
            holder.append(copy.deepcopy(holder[key]))
        count -= 1
        yield changed


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every holder and key of a value within `value`."""
    keys = value if isinstance(value, dict) else range(len(value)) if type(value) is list else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])
