"""Where a rewrite holds."""

from __future__ import annotations

from enum import IntEnum


class Domain(IntEnum):
    """Where the two sides of a rewrite are equal, up to rounding; each holds in those before."""

    ALWAYS = 0
    FINITE = 1
    REAL = 2

    def __str__(self) -> str:
        return self.name.lower()

    @property
    def meaning(self) -> str:
        """The domain in words."""
        return _MEANINGS[self]


_MEANINGS = {
    Domain.ALWAYS: "for every float32, zeros, subnormals, infinities and NaN included",
    Domain.FINITE: "where every value of the program is finite: neither infinite nor NaN",
    Domain.REAL: "in real arithmetic: where, besides, nothing overflows, underflows or loses its "
    "digits in a cancelling sum",
}
