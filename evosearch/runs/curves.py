"""Comparison of searches at equal cost: the fitness of the current champion against cost.

A curve changes at the cost at which a challenger beat the champion and replaced it. The new value
of the curve is the new champion's confirmed fitness. At each cost, a curve shows what the search
would have returned if the search had stopped at that cost. A curve is not a running maximum, which
would favour lucky estimates, so a curve may decrease by chance.

Runs form one group if they differ only in their seed and in settings that a resumed run may change,
such as the maximum number of programs.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any, NamedTuple

from evosearch.config import CHANGEABLE_SETTINGS, Config
from evosearch.errors import UsageError
from evosearch.runs.cost import Cost, Unit
from evosearch.runs.run import Run
from evosearch.runs.summary import ChampionEntry, Estimate

_COST_FRACTIONS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
"""Fractions of the cheapest run's cost at which groups are compared."""


class FitnessCurve(NamedTuple):
    """A step function from cost to the fitness of the champion at that cost.

    Attributes:
        costs: The cost from which each estimate holds, increasing.
        estimates: The fitness of each champion.
    """

    costs: tuple[int, ...]
    estimates: tuple[Estimate, ...]

    def at(self, cost: float) -> Estimate | None:
        """Return the champion's fitness at a cost; None below the cost of the first estimate."""
        count = bisect_right(self.costs, cost)
        return self.estimates[count - 1] if count else None


class Spread(NamedTuple):
    """Mean, minimum (`low`) and maximum (`high`) over the runs of a group."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class RunCurves:
    """The curves of one run.

    Attributes:
        run: The run's directory.
        seed: The run's seed.
        unit: Unit of the costs of the curves.
        cost: Total cost of the run.
        champions: The run's champions, in order.
        validations: Fitness of champions on validation tasks, by the champion's number. Champions
            without validation are missing.
    """

    run: str
    seed: int
    unit: Unit
    cost: Cost
    champions: Sequence[ChampionEntry]
    validations: Mapping[int, Estimate]

    @cached_property
    def fitness(self) -> FitnessCurve:
        """Fitness of the current champion on the search tasks."""
        points = [
            (self.unit.of(champion.cost), champion.estimate)
            for champion in self.champions
            if champion.estimate
        ]
        return _curve(points)

    @cached_property
    def validation(self) -> FitnessCurve:
        """Fitness of the current champion on validation tasks; empty without validation."""
        points = [
            (self.unit.of(champion.cost), self.validations[champion.number])
            for champion in self.champions
            if champion.number in self.validations
        ]
        return _curve(points)

    def document(self) -> dict[str, Any]:
        """Return the run as a JSON object."""
        return {
            "run": self.run,
            "seed": self.seed,
            "trainings": self.cost.trainings,
            "weight_updates": self.cost.updates,
            "fitness": [
                {"cost": self.unit.of(champion.cost), **champion.document()}
                for champion in self.champions
                if champion.estimate
            ],
            "validation": [
                {
                    "cost": self.unit.of(champion.cost),
                    "number": champion.number,
                    "id": champion.id,
                    **self.validations[champion.number].document(),
                }
                for champion in self.champions
                if champion.number in self.validations
            ],
        }


@dataclass(frozen=True)
class Group:
    """Runs of one configuration with different seeds.

    Attributes:
        name: Common name of the runs' directories, without a number at its end.
        runs: One run for each seed.
        settings: The settings that differ from those of the first group.
    """

    name: str
    runs: tuple[RunCurves, ...]
    settings: Mapping[str, Any]

    def fitness(self, cost: float) -> Spread | None:
        """Return mean, minimum and maximum of the runs' fitness at a cost.

        None if a run has no champion with an estimate at this cost.
        """
        return _spread([run.fitness.at(cost) for run in self.runs])

    def validation(self, cost: float) -> Spread | None:
        """Return mean, minimum and maximum of the runs' fitness on validation tasks at a cost.

        None if a run has no validated champion at this cost.
        """
        return _spread([run.validation.at(cost) for run in self.runs])

    def per_task(self, cost: float) -> dict[str, float]:
        """Return the score on each task at a cost, averaged over the runs."""
        scores = [estimate.per_task for run in self.runs if (estimate := run.fitness.at(cost))]
        tasks = scores[0] if scores else ()
        return {task: fmean(run_scores[task] for run_scores in scores) for task in tasks}


@dataclass(frozen=True)
class RunComparison:
    """Groups of runs, compared at increasing costs in one unit."""

    groups: tuple[Group, ...]
    unit: Unit
    costs: tuple[int, ...]

    @property
    def validated(self) -> bool:
        """Whether any run has validations."""
        return any(run.validation.costs for group in self.groups for run in group.runs)

    def document(self) -> dict[str, Any]:
        """Return the comparison as a JSON object."""
        return {
            "unit": self.unit.words,
            "costs": list(self.costs),
            "groups": [
                {
                    "name": group.name,
                    "settings": dict(group.settings),
                    "fitness": [_spread_document(group.fitness(cost)) for cost in self.costs],
                    "validation": [_spread_document(group.validation(cost)) for cost in self.costs],
                    "per_task": group.per_task(self.costs[-1]),
                    "runs": [run.document() for run in group.runs],
                }
                for group in self.groups
            ],
        }


def compare_runs(runs: Sequence[Run], unit: Unit = Unit.UPDATES) -> RunComparison:
    """Group runs by configuration and compare them at costs up to that of the cheapest run.

    Args:
        runs: The runs to compare.
        unit: Unit of cost.

    Raises:
        UsageError: There are no runs, two runs have different tasks, two runs have the same
            configuration and seed, or a run has no measurements.

    Example:
        >>> import evosearch
        >>> comparison = evosearch.compare_runs([evosearch.open_run("runs/example")])
        >>> len(comparison.groups)
        1
    """
    if not runs:
        raise UsageError("there is nothing to compare; name one or more runs")
    runs_by_settings: dict[str, list[Run]] = {}
    for run in runs:
        runs_by_settings.setdefault(json.dumps(_settings(run.config)), []).append(run)
    lists_of_runs = list(runs_by_settings.values())
    _check_comparable(runs[0], lists_of_runs)
    first = _settings(runs[0].config)
    groups = []
    for name, group_runs in zip(_names(lists_of_runs), lists_of_runs, strict=True):
        settings = _settings(group_runs[0].config)
        differing = {key: settings[key] for key in settings if settings[key] != first[key]}
        groups.append(Group(name, tuple(_run_curves(run, unit) for run in group_runs), differing))
    lowest_cost = min(unit.of(run.cost) for group in groups for run in group.runs)
    costs = tuple(round(fraction * lowest_cost) for fraction in _COST_FRACTIONS)
    return RunComparison(tuple(groups), unit, costs)


def _check_comparable(first: Run, groups: Iterable[Sequence[Run]]) -> None:
    for runs in groups:
        run_by_seed: dict[int, Run] = {}
        for run in runs:
            if set(run.config.tasks) != set(first.config.tasks):
                raise UsageError(
                    f"{run.directory} and {first.directory} were searched on different tasks, so "
                    "their fitness cannot be compared; compare programs with `evosearch eval`"
                )
            if run.config.seed in run_by_seed:
                other = run_by_seed[run.config.seed]
                raise UsageError(
                    f"{run.directory} and {other.directory} are the same search with the same "
                    "seed; name only one of them"
                )
            run_by_seed[run.config.seed] = run


def _run_curves(run: Run, unit: Unit) -> RunCurves:
    cost = run.cost()
    if not cost.trainings:
        raise UsageError(
            f"{run.directory} has no measurements; run `evosearch resume {run.directory}`"
        )
    validations = run.validations()
    return RunCurves(str(run.directory), run.config.seed, unit, cost, run.champions(), validations)


def _curve(points: Sequence[tuple[int, Estimate]]) -> FitnessCurve:
    return FitnessCurve(
        tuple(cost for cost, _ in points), tuple(estimate for _, estimate in points)
    )


def _settings(config: Config) -> dict[str, Any]:
    """Return the settings that all runs of a group share, with keys such as `mutation.insert`."""
    return dict(_flatten(config.model_dump(mode="json", exclude={"seed", *CHANGEABLE_SETTINGS})))


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _names(groups: Sequence[Sequence[Run]]) -> list[str]:
    """Return a name for each group of runs.

    The prefix of a group is the name of its first directory without a number at the end. A group
    of several runs is named after its prefix if the names of all its directories begin with the
    prefix and no other group has the same prefix. Any other group is named after its first
    directory.
    """
    directories = [[run.directory.absolute().name for run in runs] for runs in groups]
    prefixes = [names[0].rstrip("0123456789").rstrip("-_.") for names in directories]
    result = []
    for prefix, names in zip(prefixes, directories, strict=True):
        is_common = all(name.startswith(prefix) for name in names)
        is_usable = bool(prefix) and is_common and prefixes.count(prefix) == 1 and len(names) > 1
        result.append(prefix if is_usable else names[0])
    return result


def _spread(estimates: Sequence[Estimate | None]) -> Spread | None:
    values = [estimate.fitness.mean for estimate in estimates if estimate is not None]
    if len(values) < len(estimates):
        return None
    return Spread(fmean(values), min(values), max(values))


def _spread_document(spread: Spread | None) -> dict[str, float] | None:
    return None if spread is None else spread._asdict()
