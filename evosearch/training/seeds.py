"""Seeds, by what they are for."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Stream(StrEnum):
    """What a seed is for; no two streams share a seed."""

    TUNE = "tune"
    SEARCH = "search"
    TEST = "test"
    CONFIRM = "confirm"
    VALIDATE_TUNE = "validate-tune"
    VALIDATE = "validate"
    EVAL_TUNE = "eval-tune"
    EVAL = "eval"
    AUDIT = "audit"
    SIMPLIFY_TUNE = "simplify-tune"
    SIMPLIFY_SCREEN = "simplify-screen"
    SIMPLIFY = "simplify"
    SIMPLIFY_CONFIRM = "simplify-confirm"


class Seed(NamedTuple):
    """A seed, by its stream and its number there."""

    stream: Stream
    number: int
