"""Tuning of learning rates and weight decays on grids, equally many trials for each contender."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeVar

GRID = tuple(2.0**k for k in range(-2, 5))
"""Initial grid of learning rates, as factors on a program's own learning rate."""
RESOLUTION = 2.0**0.5
"""Largest factor between the best learning rate and its neighbours when tuning ends."""
LARGEST_FACTOR = 2.0**20
"""Largest factor that a grid may be extended to; the smallest is 1 / LARGEST_FACTOR."""
DECAYS = (0.1, 0.3, 1.0)
"""Initial grid of weight decays, in addition to no decay; see `evosearch.seeds.Conditions`."""
_DECAY_STEP = 3.0
_LARGEST_DECAY = 30.0


@dataclass
class Tuner:
    """Minimizes a loss over a geometric grid of learning rates.

    The grid is extended at an edge as long as the best rate lies at this edge and is better than
    its neighbour. Then the grid is refined around the best rate until `resolution` is reached, or
    further if more trials are requested.

    Attributes:
        grid: initial learning rates, as factors on the program's own learning rate.
        losses: mean loss of every rate tried; +inf where a training diverged.
        resolution: largest factor between the best rate and its neighbours when tuning ends.
    """

    grid: tuple[float, ...] = GRID
    losses: dict[float, float] = field(default_factory=dict)
    resolution: float = RESOLUTION

    @property
    def best(self) -> float:
        """Best rate so far; the smallest of equally good rates."""
        return min(sorted(self.losses), key=lambda rate: self.losses[rate])

    @property
    def settled(self) -> bool:
        """Whether tuning is finished: neighbours are close enough, or the grid cannot grow."""
        if not self.losses or self._next_outside_grid() is not None:
            return False
        below, above = self._neighbours()
        if below is None or above is None:
            return True
        return max(self.best / below, above / self.best) <= self.resolution * 1.0001

    def proposals(self) -> list[float]:
        """Return the rates to try next: first the grid, then one at a time."""
        if not self.losses:
            return list(self.grid)
        outside = self._next_outside_grid()
        return [self._refinement() if outside is None else outside]

    def _next_outside_grid(self) -> float | None:
        """Return the next rate outside the grid if the best rate is at its edge, else None."""
        rates = sorted(self.losses)
        if self.losses[self.best] == math.inf or len(rates) == 1:
            rate = rates[0] / 2.0  # if all rates diverged, only a smaller one can help
        elif self.best == rates[0] and self.losses[rates[0]] < self.losses[rates[1]]:
            rate = rates[0] / max(2.0, rates[1] / rates[0])
        elif self.best == rates[-1]:
            rate = rates[-1] * max(2.0, rates[-1] / rates[-2])
        else:
            return None
        rate = min(LARGEST_FACTOR, max(1 / LARGEST_FACTOR, rate))
        return None if rate in self.losses else rate

    def _neighbours(self) -> tuple[float | None, float | None]:
        """Return the rates next to the best one; None beyond an edge."""
        below = [rate for rate in self.losses if rate < self.best]
        above = [rate for rate in self.losses if rate > self.best]
        return max(below, default=None), min(above, default=None)

    def _refinement(self) -> float:
        """Return the geometric mean of the best rate and its farther neighbour."""
        below, above = self._neighbours()
        if above is None or (below is not None and self.best / below > above / self.best):
            return math.sqrt((below or self.best / 2) * self.best)
        return math.sqrt(self.best * above)


class Setting(NamedTuple):
    """One setting of the tuned hyperparameters.

    Attributes:
        lr: factor on the contender's own learning rate.
        decay: decoupled weight decay; see `evosearch.seeds.Conditions`.
    """

    lr: float
    decay: float = 0.0


@dataclass
class SettingTuner:
    """Minimizes a loss over learning rates and, if there are `decays`, over weight decays.

    The learning rate is tuned without decay, then the decay at the best rate, then the rate again
    at the best decay. The grid of decays is extended while its largest decay is the best.

    Attributes:
        grid: initial learning rates, as factors on the contender's own
            learning rate.
        decays: initial decays in rising order; empty to tune the learning rate only.
        losses: mean loss of every setting tried; +inf where a training diverged.
        resolution: largest factor between the best rate and its neighbours when tuning ends.
    """

    grid: tuple[float, ...] = GRID
    decays: tuple[float, ...] = ()
    losses: dict[Setting, float] = field(default_factory=dict)
    resolution: float = RESOLUTION

    @property
    def best(self) -> Setting:
        """Best setting so far; ties go to the smallest decay, then to the smallest rate."""
        ordered = sorted(self.losses, key=lambda setting: (setting.decay, setting.lr))
        return min(ordered, key=lambda setting: self.losses[setting])

    @property
    def settled(self) -> bool:
        """Whether tuning of both the rate and the decay is finished."""
        return bool(self.losses) and self._next() is None

    def proposals(self) -> list[Setting]:
        """Return the settings to try next: first the grid of rates, then one at a time."""
        if not self.losses:
            return [Setting(rate) for rate in self.grid]
        setting = self._next()
        if setting is None:
            decay = self.best.decay
            setting = Setting(self._rate_tuner(decay).proposals()[0], decay)
        return [setting]

    def _next(self) -> Setting | None:
        """Return the next setting that tuning needs; None if tuning is finished."""
        without_decay = self._rate_tuner(0.0)
        if not without_decay.settled:
            return Setting(without_decay.proposals()[0])
        tried = {setting.decay for setting in self.losses}
        untried = [decay for decay in self.decays if decay not in tried]
        best, largest = self.best.decay, max(tried)
        if not untried and 0 < best == largest < _LARGEST_DECAY:
            untried = [largest * _DECAY_STEP]
        if untried:
            return Setting(without_decay.best, untried[0])
        rate_tuner = self._rate_tuner(best)
        return None if rate_tuner.settled else Setting(rate_tuner.proposals()[0], best)

    def _rate_tuner(self, decay: float) -> Tuner:
        """Return the tuner of the learning rate at one decay."""
        losses = {setting.lr: x for setting, x in self.losses.items() if setting.decay == decay}
        return Tuner(self.grid, losses, self.resolution)


_Trial = TypeVar("_Trial")


class _AnyTuner(Protocol[_Trial]):
    """The methods of a tuner that `tune_equally` calls."""

    losses: dict[_Trial, float]

    @property
    def settled(self) -> bool: ...

    def proposals(self) -> list[_Trial]: ...


def tune_equally(
    tuners: Mapping[str, _AnyTuner[_Trial]],
    mean_losses: Callable[[list[tuple[str, _Trial]]], list[float]],
) -> None:
    """Run all tuners until each is settled, with the same number of trials for each.

    Args:
        tuners: tuner of each contender, by name; `losses` of each tuner is filled in.
        mean_losses: function from a list of (contender, trial) pairs to the mean loss of each
            trial; called once per round.
    """
    while not all(tuner.settled for tuner in tuners.values()):
        trials = [(name, trial) for name, tuner in tuners.items() for trial in tuner.proposals()]
        for (name, trial), loss in zip(trials, mean_losses(trials), strict=True):
            tuners[name].losses[trial] = loss
