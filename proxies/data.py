"""Bundled data sources, each split into a search, a validation and a held-out part.

A fixed hash of an item's group, not of the item's position, decides the item's part: reordering a
source or adding items never moves an item to a different part. All items of a group, such as the
blocks of one document, are in the same part.
"""

import gzip
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from proxies.task import Split

Part: TypeAlias = Literal["search", "validation", "held-out"]

PARTS: tuple[Part, ...] = get_args(Part)

OTHER = "\N{REPLACEMENT CHARACTER}"
ALPHABET = OTHER + "\n abcdefghijklmnopqrstuvwxyz0123456789.,:;'\"()[]{}<>=+-*/_|%!@#"
"""The 64 characters of the text tasks; text is lower-case, other characters become `OTHER`."""

BLOCK = 128  # number of characters in an item of text, long enough for windows at random offsets
CELL = 32  # side in pixels of an item of a photograph, long enough for patches at random offsets

_FOLDER = resources.files("proxies") / "sources"
_BOUNDS = (0.5, 0.7)  # cumulative fractions of the parts: 50, 20 and 30 %


@dataclass(frozen=True, eq=False)
class Source:
    """A named data set.

    Attributes:
        name: the name of the source.
        provenance: one line about the data and their origin.
        groups: the group of each item; items of a group are in the same part.
        arrays: arrays with one row per item.
    """

    name: str
    provenance: str
    groups: tuple[str, ...]
    arrays: tuple[NDArray[Any], ...]

    def part(self, part: Part) -> tuple[NDArray[Any], ...]:
        """Return the rows of each array that are in `part`, in the source's order."""
        rows = [index for index, group in enumerate(self.groups) if self.part_of(group) == part]
        return tuple(array[rows] for array in self.arrays)

    def part_of_split(self, split: Split, task: str) -> tuple[NDArray[Any], ...]:
        """Return the rows of the part that tasks of `split` read.

        Args:
            split: the split of a task.
            task: the task's name, for the error.

        Raises:
            ValueError: `split` is "diagnostic", which has no part of the data.
        """
        if split == "diagnostic":
            raise ValueError(
                f"task {task!r}: the data source {self.name!r} has no diagnostic part; "
                f"use one of {', '.join(PARTS)}"
            )
        return self.part(split)

    def part_of(self, group: str) -> Part:
        """Return the part of a group, by a fixed hash of the source's name and the group."""
        digest = hashlib.sha256(f"{self.name}/{group}".encode()).digest()
        position = int.from_bytes(digest[:8]) / 2**64
        return PARTS[sum(position >= bound for bound in _BOUNDS)]

    def digest(self) -> str:
        """Return the SHA-256 digest of all groups and arrays, in hexadecimal."""
        digest = hashlib.sha256("\n".join(self.groups).encode())
        for array in self.arrays:
            digest.update(repr((array.shape, array.dtype.str)).encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


@cache
def digits() -> Source:
    """Return 1,797 handwritten digits (UCI ML): images `[n, 8, 8]` in 0..16, and labels `[n]`."""
    images, labels = _bundled("digits.npz").values()
    provenance = "1,797 handwritten digits of 8x8 pixels (UCI ML; scikit-learn)"
    return Source("digits", provenance, _numbered(len(labels)), (images, labels))


@cache
def photos() -> Source:
    """Return two colour photographs as cells `[n, 32, 32, 3]` in 0..255; a cell is a group."""
    groups: list[str] = []
    cells: list[NDArray[np.uint8]] = []
    for name, image in _bundled("photos.npz").items():
        for row in range(image.shape[0] // CELL):
            for column in range(image.shape[1] // CELL):
                top, left = row * CELL, column * CELL
                groups.append(f"{name}/{row}/{column}")
                cells.append(image[top : top + CELL, left : left + CELL])
    provenance = "two colour photographs of 427x640 pixels (scikit-learn)"
    return Source("photos", provenance, tuple(groups), (np.stack(cells),))


@cache
def topics() -> Source:
    """Return the English text of Python 3.11's `help()` topics as blocks `[n, 128]` of characters.

    Characters are indices in `ALPHABET`; a topic is a group. A fifth of the text occurs in several
    topics. Each paragraph is kept only in its first topic by name, so that no paragraph is in two
    parts.
    """
    code = {character: index for index, character in enumerate(ALPHABET)}
    groups: list[str] = []
    blocks: list[NDArray[np.uint8]] = []
    seen: set[str] = set()
    texts = json.loads(gzip.decompress((_FOLDER / "topics.json.gz").read_bytes()))
    for topic, text in sorted(texts.items()):
        paragraphs = dict.fromkeys(" ".join(block.lower().split()) for block in text.split("\n\n"))
        new = [paragraph for paragraph in paragraphs if paragraph not in seen]
        seen.update(new)
        codes = np.array([code.get(character, 0) for character in "\n".join(new)], np.uint8)
        rows = codes[: codes.size // BLOCK * BLOCK].reshape(-1, BLOCK)
        groups += [topic] * len(rows)
        blocks.append(rows)
    provenance = "English text of Python 3.11's help() topics (pydoc_data.topics)"
    return Source("topics", provenance, tuple(groups), (np.concatenate(blocks),))


@cache
def tumours() -> Source:
    """Return 30 features `[n, 30]` of 569 breast tumours (UCI ML)."""
    (features,) = _bundled("tumours.npz").values()
    provenance = "569 breast tumours, 30 measured features each (UCI ML; scikit-learn)"
    return Source("tumours", provenance, _numbered(len(features)), (features,))


@cache
def points() -> Source:
    """Return standard normal points `[4096, 16]` and standard normal noise `[4096, 4]`."""
    draws = np.random.default_rng(0).standard_normal((4096, 20), np.float32)
    provenance = "4,096 normal points, generated by numpy's default_rng(0)"
    return Source("points", provenance, _numbered(len(draws)), (draws[:, :16], draws[:, 16:]))


@cache
def numbers() -> Source:
    """Return the numbers below 10,000 as digits `[n, 4]` and in English words `[n, 43]`.

    The words are indices in `SPELLING_ALPHABET`, padded with at least one 0.
    """
    words = np.zeros((10_000, MAX_SPELLED_LENGTH), np.uint8)
    for number, row in enumerate(words):
        codes = [SPELLING_ALPHABET.index(character) for character in spell(number)]
        row[: len(codes)] = codes
    digits = (np.arange(10_000)[:, None] // (1000, 100, 10, 1) % 10).astype(np.uint8)
    provenance = "the numbers below 10,000 and their English names, generated"
    return Source("numbers", provenance, _numbered(len(words)), (digits, words))


SPELLING_ALPHABET = "\0 -abcdefghijklmnopqrstuvwxyz"
"""The characters of numbers in words; the first character marks the end and is the padding."""

MAX_SPELLED_LENGTH = 43
"""Length of the longest number in words, including one end character."""

_UNITS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen"),
    *("eighteen", "nineteen"),
)
_TENS = "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"


def spell(number: int) -> str:
    """Return the English words for `0 <= number < 10,000`.

    >>> spell(4721)
    'four thousand seven hundred twenty-one'
    """
    if number < 20:
        return _UNITS[number]
    if number < 100:
        return _TENS[number // 10 - 2] + (f"-{_UNITS[number % 10]}" if number % 10 else "")
    size, name = (1000, "thousand") if number >= 1000 else (100, "hundred")
    rest = f" {spell(number % size)}" if number % size else ""
    return f"{_UNITS[number // size]} {name}{rest}"


SOURCES: dict[str, Callable[[], Source]] = {
    "digits": digits,
    "photos": photos,
    "topics": topics,
    "tumours": tumours,
    "points": points,
    "numbers": numbers,
}
"""For each source's name, the function that reads the source; results are cached."""


def digests() -> dict[str, str]:
    """Return the SHA-256 digest of each data source, by its name.

    >>> list(digests())
    ['digits', 'photos', 'topics', 'tumours', 'points', 'numbers']
    """
    return {name: source().digest() for name, source in SOURCES.items()}


def _bundled(name: str) -> dict[str, NDArray[Any]]:
    """Return the arrays of a bundled file, in the order of the file."""
    with (_FOLDER / name).open("rb") as file, np.load(file) as arrays:
        return dict(arrays)


def _numbered(count: int) -> tuple[str, ...]:
    """Return `count` groups of one item each."""
    return tuple(map(str, range(count)))
