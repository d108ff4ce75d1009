"""Real data that needs no download, each source cut once and for ever into three parts.

The cut is by a hash of what an item is, never by its position: neither the order in which a source
is read nor the addition of items moves any item to another part. What belongs together (the blocks
of one document, the pixels of one cell of a photograph) stays together.
"""

import hashlib
import pydoc_data.topics
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits, load_sample_images

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
        groups: one per item; items of a group always fall into the same part.
        arrays: each has one row per item.
    """

    name: str
    groups: tuple[str, ...]
    arrays: tuple[NDArray[np.uint8], ...]

    def part(self, part: Part) -> tuple[NDArray[np.uint8], ...]:
        """The rows of every array that fall into `part`, in the source's order."""
        rows = [index for index, group in enumerate(self.groups) if self.part_of(group) == part]
        return tuple(array[rows] for array in self.arrays)

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
    bunch = load_digits()
    images, labels = bunch.images.astype(np.uint8), bunch.target.astype(np.uint8)
    return Source("digits", tuple(map(str, range(len(labels)))), (images, labels))


@cache
def photos() -> Source:
    """Two colour photographs as cells `[n, 32, 32, 3]` in 0..255, each a group of its own."""
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
    return Source("photos", tuple(groups), (np.stack(cells).astype(np.uint8),))


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
    return Source("topics", tuple(groups), (np.concatenate(blocks),))


def digests() -> dict[str, str]:
    """SHA-256 of every source by name, for the record of a run.

    The text differs between versions of Python, the photographs between JPEG decoders.
    """
    return {source.name: source.digest() for source in (digits(), photos(), topics())}
