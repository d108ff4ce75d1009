"""Searches side by side: the champion so far against cost, so that equal costs are compared.

A curve steps at the cost at which a champion won its test, to the fitness that was confirmed on
seeds which decided nothing. It is what one would have got by stopping there: not a running maximum,
which would favour the luckiest report, and so it may go down by chance. Runs that differ in nothing
but their seed and their limits are one group.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any, NamedTuple

from evosearch.config import SAME_SEARCH, Config
from evosearch.errors import UsageError
from evosearch.runs.cost import Cost, Unit
from evosearch.runs.run import Run
from evosearch.runs.summary import ChampionEntry, Estimate

_SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
"""Of the cheapest run's cost: where groups are compared."""


class Curve(NamedTuple):
    """Steps: from each cost on, the fitness of a champion."""

    costs: tuple[int, ...]
    estimates: tuple[Estimate, ...]

    def at(self, cost: float) -> Estimate | None:
        """The champion's fitness at `cost`; None before the first."""
        count = bisect_right(self.costs, cost)
        return self.estimates[count - 1] if count else None


class Spread(NamedTuple):
    """The mean of some runs and their range."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class RunCurves:
    """One run: what it cost and found.

    Attributes:
        run: its directory.
        seed: its seed.
        unit: what the costs of its curves are counted in.
        cost: all of it.
        champions: its champions, in order.
        validations: their fitness on validation tasks, by number, as far as it was measured.
    """

    run: str
    seed: int
    unit: Unit
    cost: Cost
    champions: Sequence[ChampionEntry]
    validations: Mapping[int, Estimate]

    @cached_property
    def fitness(self) -> Curve:
        """Of the champion so far on the search's own tasks."""
        steps = [(self.unit.of(one.cost), one.estimate) for one in self.champions if one.estimate]
        return _curve(steps)

    @cached_property
    def validation(self) -> Curve:
        """Of the champion so far on validation tasks; empty if it was not measured."""
        steps = [
            (self.unit.of(one.cost), self.validations[one.number])
            for one in self.champions
            if one.number in self.validations
        ]
        return _curve(steps)

    def document(self) -> dict[str, Any]:
        """The run as JSON."""
        return {
            "run": self.run,
            "seed": self.seed,
            "trainings": self.cost.trainings,
            "weight_updates": self.cost.updates,
            "fitness": [
                {"cost": self.unit.of(one.cost), **one.document()}
                for one in self.champions
                if one.estimate
            ],
            "validation": [
                {
                    "cost": self.unit.of(one.cost),
                    "number": one.number,
                    "id": one.id,
                    **self.validations[one.number].document(),
                }
                for one in self.champions
                if one.number in self.validations
            ],
        }


@dataclass(frozen=True)
class Group:
    """Runs of one configuration.

    Attributes:
        name: of their directories, without a number.
        runs: one for each seed.
        settings: in which the configuration differs from the first group's.
    """

    name: str
    runs: tuple[RunCurves, ...]
    settings: Mapping[str, Any]

    def fitness(self, cost: float) -> Spread | None:
        """Over the runs, at `cost`; None where a run has no champion yet."""
        return _spread([run.fitness.at(cost) for run in self.runs])

    def validation(self, cost: float) -> Spread | None:
        """The same on validation tasks."""
        return _spread([run.validation.at(cost) for run in self.runs])

    def per_task(self, cost: float) -> dict[str, float]:
        """The mean over the runs of each task's score, at `cost`."""
        found = [one.per_task for run in self.runs if (one := run.fitness.at(cost))]
        return {task: fmean(one[task] for one in found) for task in (found[0] if found else ())}


@dataclass(frozen=True)
class RunComparison:
    """Groups of runs, and the costs at which they are compared."""

    groups: tuple[Group, ...]
    unit: Unit
    costs: tuple[int, ...]

    @property
    def validated(self) -> bool:
        """Whether any run has validation."""
        return any(run.validation.costs for group in self.groups for run in group.runs)

    def document(self) -> dict[str, Any]:
        """The comparison as JSON."""
        return {
            "unit": self.unit.words,
            "costs": list(self.costs),
            "groups": [
                {
                    "name": group.name,
                    "settings": dict(group.settings),
                    "fitness": [_range(group.fitness(cost)) for cost in self.costs],
                    "validation": [_range(group.validation(cost)) for cost in self.costs],
                    "per_task": group.per_task(self.costs[-1]),
                    "runs": [run.document() for run in group.runs],
                }
                for group in self.groups
            ],
        }


def compare_runs(runs: Sequence[Run], unit: Unit = Unit.UPDATES) -> RunComparison:
    """The runs in groups, to be compared at costs up to that of the cheapest.

    Raises:
        UsageError: no runs, runs on different tasks, the same search twice, or one without
            measurements.
    """
    if not runs:
        raise UsageError("there is nothing to compare; name runs")
    grouped: dict[str, list[Run]] = {}
    for run in runs:
        grouped.setdefault(json.dumps(_settings(run.config)), []).append(run)
    _check(runs[0], grouped.values())
    first = _settings(runs[0].config)
    groups = []
    for name, found in zip(_names(list(grouped.values())), grouped.values(), strict=True):
        settings = _settings(found[0].config)
        differing = {key: settings[key] for key in settings if settings[key] != first[key]}
        groups.append(Group(name, tuple(_searched(run, unit) for run in found), differing))
    smallest = min(unit.of(run.cost) for group in groups for run in group.runs)
    return RunComparison(tuple(groups), unit, tuple(round(share * smallest) for share in _SHARES))


def _check(first: Run, groups: Iterable[Sequence[Run]]) -> None:
    for runs in groups:
        seen: dict[int, Run] = {}
        for run in runs:
            if set(run.config.tasks) != set(first.config.tasks):
                raise UsageError(
                    f"{run.directory} was searched on other tasks than {first.directory}, so their "
                    "fitness cannot be compared; compare programs by `evosearch eval`"
                )
            if run.config.seed in seen:
                raise UsageError(
                    f"{run.directory} and {seen[run.config.seed].directory} are the same search "
                    "with the same seed; name one of them"
                )
            seen[run.config.seed] = run


def _searched(run: Run, unit: Unit) -> RunCurves:
    cost = run.cost()
    if not cost.trainings:
        raise UsageError(f"{run.directory} has no measurements; `evosearch resume {run.directory}`")
    validations = run.validations()
    return RunCurves(str(run.directory), run.config.seed, unit, cost, run.champions(), validations)


def _curve(steps: Sequence[tuple[int, Estimate]]) -> Curve:
    return Curve(tuple(cost for cost, _ in steps), tuple(estimate for _, estimate in steps))


def _settings(config: Config) -> dict[str, Any]:
    """What makes a search what it is, flat: `mutation.insert`."""
    return dict(_flat(config.model_dump(mode="json", exclude={"seed", *SAME_SEARCH})))


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _names(groups: Sequence[Sequence[Run]]) -> list[str]:
    """The directory that a group is named after, without its number if that says enough."""
    directories = [[run.directory.absolute().name for run in runs] for runs in groups]
    short = [names[0].rstrip("0123456789").rstrip("-_.") for names in directories]
    found = []
    for name, names in zip(short, directories, strict=True):
        shared = all(one.startswith(name) for one in names) and short.count(name) == 1
        found.append(name if name and shared and len(names) > 1 else names[0])
    return found


def _spread(found: Sequence[Estimate | None]) -> Spread | None:
    values = [one.fitness.mean for one in found if one is not None]
    if len(values) < len(found):
        return None
    return Spread(fmean(values), min(values), max(values))


def _range(spread: Spread | None) -> dict[str, float] | None:
    return None if spread is None else spread._asdict()
