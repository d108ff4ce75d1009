"""Real data that needs no download, each source cut once and for ever into three parts.

The cut is by a hash of what an item is, never by its position: neither the order in which a source
is read nor the addition of items moves any item to another part. What belongs together (the blocks
of one document, the pixels of one cell of a photograph) stays together.
"""

import hashlib
import pydoc_data.topics
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from proxies.task import Split

Part: TypeAlias = Literal["search", "validation", "held-out"]

PARTS: tuple[Part, ...] = get_args(Part)

OTHER = "\N{REPLACEMENT CHARACTER}"
ALPHABET = OTHER + "\n abcdefghijklmnopqrstuvwxyz0123456789.,:;'\"()[]{}<>=+-*/_|%!@#"
"""The 64 characters of the text tasks; text is folded to lower case, all else reads as `OTHER`."""

BLOCK = 128  # characters: long enough for windows at random offsets, short enough for many items
CELL = 32  # pixels: the same, for patches

_BOUNDS = (0.5, 0.7)  # the shares of the parts, accumulated: 50, 20 and 30 %


@dataclass(frozen=True, eq=False)
class Source:
    """A named data set.

    Attributes:
        name: what the digest is recorded under.
        provenance: one line: what the data are and where they come from.
        groups: one per item; items of a group always fall into the same part.
        arrays: each has one row per item.
    """

    name: str
    provenance: str
    groups: tuple[str, ...]
    arrays: tuple[NDArray[Any], ...]

    def part(self, part: Part) -> tuple[NDArray[Any], ...]:
        """The rows of every array that fall into `part`, in the source's order."""
        rows = [index for index, group in enumerate(self.groups) if self.part_of(group) == part]
        return tuple(array[rows] for array in self.arrays)

    def part_of_split(self, split: Split, task: str) -> tuple[NDArray[Any], ...]:
        """The rows of the part that tasks of `split` read, as `part` returns them.

        Args:
            split: the split of a task.
            task: the task's name, for the error.

        Raises:
            ValueError: `split` is "diagnostic", which has no part of the data.
        """
        if split == "diagnostic":
            raise ValueError(
                f"task {task!r}: {self.name} have no diagnostic part; use one of {PARTS}"
            )
        return self.part(split)

    def part_of(self, group: str) -> Part:
        """The part that a group belongs to, by a fixed hash of the source's and its own name."""
        digest = hashlib.sha256(f"{self.name}/{group}".encode()).digest()
        position = int.from_bytes(digest[:8]) / 2**64
        return PARTS[sum(position >= bound for bound in _BOUNDS)]

    def digest(self) -> str:
        """SHA-256 of all groups and arrays, in hexadecimal: equal digests mean equal data."""
        digest = hashlib.sha256("\n".join(self.groups).encode())
        for array in self.arrays:
            digest.update(repr((array.shape, array.dtype.str)).encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


@cache
def digits() -> Source:
    """Handwritten digits (UCI ML, 1,797): images `[n, 8, 8]` in 0..16 and labels `[n]` in 0..9."""
    from sklearn.datasets import load_digits  # here, since it takes a while to import

    bunch = load_digits()
    images, labels = bunch.images.astype(np.uint8), bunch.target.astype(np.uint8)
    provenance = "1,797 handwritten digits of 8x8 pixels (UCI ML; scikit-learn)"
    return Source("digits", provenance, _numbered(len(labels)), (images, labels))


@cache
def photos() -> Source:
    """Two colour photographs as cells `[n, 32, 32, 3]` in 0..255, each a group of its own."""
    from sklearn.datasets import load_sample_images

    bunch = load_sample_images()
    groups: list[str] = []
    cells: list[NDArray[np.uint8]] = []
    for filename, image in zip(bunch.filenames, bunch.images, strict=True):
        name = filename.replace("\\", "/").rpartition("/")[2]
        for row in range(image.shape[0] // CELL):
            for column in range(image.shape[1] // CELL):
                top, left = row * CELL, column * CELL
                groups.append(f"{name}/{row}/{column}")
                cells.append(image[top : top + CELL, left : left + CELL])
    provenance = "two colour photographs of 427x640 pixels (scikit-learn)"
    return Source("photos", provenance, tuple(groups), (np.stack(cells).astype(np.uint8),))


@cache
def topics() -> Source:
    """The English text of Python's `help()` topics as blocks `[n, 128]` of indices in `ALPHABET`.

    A group is a topic. A fifth of the text stands in several topics; a paragraph is kept only in
    the first topic, by name, that has it, so that no part repeats what another one says.
    """
    code = {character: index for index, character in enumerate(ALPHABET)}
    groups: list[str] = []
    blocks: list[NDArray[np.uint8]] = []
    seen: set[str] = set()
    for topic, text in sorted(pydoc_data.topics.topics.items()):
        paragraphs = dict.fromkeys(" ".join(block.lower().split()) for block in text.split("\n\n"))
        fresh = [paragraph for paragraph in paragraphs if paragraph not in seen]
        seen.update(fresh)
        codes = np.array([code.get(character, 0) for character in "\n".join(fresh)], np.uint8)
        whole = codes[: codes.size // BLOCK * BLOCK].reshape(-1, BLOCK)
        groups += [topic] * len(whole)
        blocks.append(whole)
    provenance = "English text of Python's help() topics (pydoc_data.topics)"
    return Source("topics", provenance, tuple(groups), (np.concatenate(blocks),))


@cache
def tumours() -> Source:
    """Breast tumours (UCI ML, 569): 30 features `[n, 30]`, ten quantities of the nuclei thrice."""
    from sklearn.datasets import load_breast_cancer

    features = load_breast_cancer().data.astype(np.float32)
    provenance = "569 breast tumours, 30 measured features each (UCI ML; scikit-learn)"
    return Source("tumours", provenance, _numbered(len(features)), (features,))


@cache
def points() -> Source:
    """Standard normal points `[4096, 16]`, and as many vectors `[4096, 4]` that serve as noise."""
    draws = np.random.default_rng(0).standard_normal((4096, 20), np.float32)
    provenance = "4,096 normal points, generated by numpy's default_rng(0)"
    return Source("points", provenance, _numbered(len(draws)), (draws[:, :16], draws[:, 16:]))


@cache
def numbers() -> Source:
    """The numbers below 10,000: digits `[n, 4]`, and English words `[n, 43]` of indices in `SPELL`.

    Words end with index 0, and are filled up with it.
    """
    words = np.zeros((10_000, SPELLED), np.uint8)
    for number, row in enumerate(words):
        codes = [SPELL.index(character) for character in spell(number)]
        row[: len(codes)] = codes
    digits = (np.arange(10_000)[:, None] // (1000, 100, 10, 1) % 10).astype(np.uint8)
    provenance = "the numbers below 10,000 and their English names, generated"
    return Source("numbers", provenance, _numbered(len(words)), (digits, words))


SPELL = "\0 -abcdefghijklmnopqrstuvwxyz"
"""The characters of numbers in words; the first one ends them."""

SPELLED = 43
"""The longest number in words, with its end."""

_UNITS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen"),
    *("eighteen", "nineteen"),
)
_TENS = "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"


def spell(number: int) -> str:
    """The English words for `0 <= number < 10,000`.

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
"""All sources by name, read on first use."""


def digests() -> dict[str, str]:
    """SHA-256 of every source by name, for the record of a run.

    The text differs between versions of Python, the photographs between JPEG decoders.
    """
    return {name: source().digest() for name, source in SOURCES.items()}


def _numbered(count: int) -> tuple[str, ...]:
    """Groups of one item each."""
    return tuple(map(str, range(count)))
