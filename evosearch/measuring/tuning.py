"""Choosing settings: the same number of trials for everyone, an optimum inside the grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeVar

GRID = tuple(2.0**k for k in range(-2, 5))
"""Factors on a program's own learning rate that are tried first."""
RESOLUTION = 2.0**0.5
LARGEST_FACTOR = 2.0**20
"""A grid that has grown to this factor, or to one over it, grows no further."""
DECAYS = (0.1, 0.3, 1.0)
"""Weight decays that are tried first where decay is tuned; see `evosearch.seeds`."""
_DECAY_STEP = 3.0
_LARGEST_DECAY = 30.0


@dataclass
class Tuner:
    """Minimises a loss over a geometric grid of learning rates.

    The grid grows beyond an edge as long as the best rate lies there and is better than its
    neighbour; then it refines around the best, and goes on refining if asked for more trials.

    Attributes:
        losses: the mean loss of every rate tried; +inf where a training diverged.
        resolution: the best rate and its neighbours are at most this factor apart in the end.
    """

    grid: tuple[float, ...] = GRID
    losses: dict[float, float] = field(default_factory=dict)
    resolution: float = RESOLUTION

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
        return max(self.best / below, above / self.best) <= self.resolution * 1.0001

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


class Setting(NamedTuple):
    """What is tuned of a contender.

    Attributes:
        lr: a factor on its own learning rate.
        decay: weight decay outside it, as in `evosearch.seeds.Conditions`.
    """

    lr: float
    decay: float = 0.0


@dataclass
class SettingTuner:
    """Minimises a loss over learning rates and, where there are `decays`, over weight decays.

    First the learning rate without decay; then the decay at the best rate, on a grid that grows
    while its largest is best (nothing lies beyond none); then the rate again at the best decay.

    Attributes:
        grid: learning rates that are tried first.
        decays: decays that are tried first, in rising order; empty for no decay at all.
        losses: the mean loss of every setting tried; +inf where a training diverged.
        resolution: as of `Tuner`.
    """

    grid: tuple[float, ...] = GRID
    decays: tuple[float, ...] = ()
    losses: dict[Setting, float] = field(default_factory=dict)
    resolution: float = RESOLUTION

    @property
    def best(self) -> Setting:
        """The best setting so far; the smallest of equals."""
        ordered = sorted(self.losses, key=lambda setting: (setting.decay, setting.lr))
        return min(ordered, key=lambda setting: self.losses[setting])

    @property
    def settled(self) -> bool:
        """Whether rate and decay both lie between near neighbours, or cannot."""
        return bool(self.losses) and self._next() is None

    def proposals(self) -> list[Setting]:
        """The settings to try next: the grid of rates at first, then one at a time."""
        if not self.losses:
            return [Setting(rate) for rate in self.grid]
        wanted = self._next()
        if wanted is None:
            decay = self.best.decay
            wanted = Setting(self._rates(decay).proposals()[0], decay)
        return [wanted]

    def _next(self) -> Setting | None:
        without = self._rates(0.0)
        if not without.settled:
            return Setting(without.proposals()[0])
        tried = {setting.decay for setting in self.losses}
        wanted = [decay for decay in self.decays if decay not in tried]
        best, largest = self.best.decay, max(tried)
        if not wanted and 0 < best == largest < _LARGEST_DECAY:
            wanted = [largest * _DECAY_STEP]
        if wanted:
            return Setting(without.best, wanted[0])
        rates = self._rates(best)
        return None if rates.settled else Setting(rates.proposals()[0], best)

    def _rates(self, decay: float) -> Tuner:
        """The tuner of the learning rate at one decay."""
        losses = {setting.lr: x for setting, x in self.losses.items() if setting.decay == decay}
        return Tuner(self.grid, losses, self.resolution)


_Trial = TypeVar("_Trial")


class _Tunes(Protocol[_Trial]):
    """What `tune_equally` needs of a tuner."""

    losses: dict[_Trial, float]

    @property
    def settled(self) -> bool: ...

    def proposals(self) -> list[_Trial]: ...


def tune_equally(
    tuners: Mapping[str, _Tunes[_Trial]],
    mean_losses: Callable[[list[tuple[str, _Trial]]], list[float]],
) -> None:
    """Runs all tuners until each is settled, with the same number of trials for each.

    Args:
        tuners: by contender; their `losses` are filled.
        mean_losses: measures a list of (contender, trial); called once a round.
    """
    while not all(tuner.settled for tuner in tuners.values()):
        trials = [(name, trial) for name, tuner in tuners.items() for trial in tuner.proposals()]
        for (name, trial), loss in zip(trials, mean_losses(trials), strict=True):
            tuners[name].losses[trial] = loss
