"""Choosing a learning rate: the same number of trials for everyone, an optimum inside the grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

GRID = tuple(2.0**k for k in range(-2, 5))
"""Factors on a program's own learning rate that are tried first."""
RESOLUTION = 2.0**0.5
"""The best rate and its neighbours are at most this factor apart in the end."""
LARGEST_FACTOR = 2.0**20
"""A grid that has grown to this factor, or to one over it, grows no further."""


@dataclass
class Tuner:
    """Minimises a loss over a geometric grid of learning rates.

    The grid grows beyond an edge as long as the best rate lies there and is better than its
    neighbour; then it refines around the best, and goes on refining if asked for more trials.

    Attributes:
        losses: the mean loss of every rate tried; +inf where a training diverged.
    """

    grid: tuple[float, ...] = GRID
    losses: dict[float, float] = field(default_factory=dict)

    @property
    def best(self) -> float:
        """The best rate so far; the smallest of equals."""
        return min(sorted(self.losses), key=lambda rate: self.losses[rate])

    @property
    def settled(self) -> bool:
        """Whether the best rate lies between near neighbours, or the grid cannot grow to it."""
        if not self.losses or self._beyond() is not None:
            return False
        below, above = self._neighbours()
        if below is None or above is None:
            return True
        return max(self.best / below, above / self.best) <= RESOLUTION * 1.0001

    def proposals(self) -> list[float]:
        """The rates to try next: the grid at first, then one at a time."""
        if not self.losses:
            return list(self.grid)
        beyond = self._beyond()
        return [self._refinement() if beyond is None else beyond]

    def _beyond(self) -> float | None:
        """The next rate beyond the edge that the best lies on; None if it lies inside."""
        rates = sorted(self.losses)
        if self.losses[self.best] == math.inf or len(rates) == 1:
            step = rates[0] / 2.0  # where everything diverged, only down can help
        elif self.best == rates[0] and self.losses[rates[0]] < self.losses[rates[1]]:
            step = rates[0] / max(2.0, rates[1] / rates[0])
        elif self.best == rates[-1]:
            step = rates[-1] * max(2.0, rates[-1] / rates[-2])
        else:
            return None
        step = min(LARGEST_FACTOR, max(1 / LARGEST_FACTOR, step))
        return None if step in self.losses else step

    def _neighbours(self) -> tuple[float | None, float | None]:
        """The rates next to the best one; None beyond an edge."""
        below = [rate for rate in self.losses if rate < self.best]
        above = [rate for rate in self.losses if rate > self.best]
        return max(below, default=None), min(above, default=None)

    def _refinement(self) -> float:
        """The middle of the wider gap beside the best rate, in logarithms."""
        below, above = self._neighbours()
        if above is None or (below is not None and self.best / below > above / self.best):
            return math.sqrt((below or self.best / 2) * self.best)
        return math.sqrt(self.best * above)


def tune_alike(
    tuners: Mapping[str, Tuner], mean_losses: Callable[[list[tuple[str, float]]], list[float]]
) -> None:
    """Runs all tuners until each is settled, with the same number of trials for each.

    Args:
        tuners: by contender; their `losses` are filled.
        mean_losses: measures a list of (contender, rate); called once a round.
    """
    while not all(tuner.settled for tuner in tuners.values()):
        trials = [(name, rate) for name, tuner in tuners.items() for rate in tuner.proposals()]
        for (name, rate), loss in zip(trials, mean_losses(trials), strict=True):
            tuners[name].losses[rate] = loss
