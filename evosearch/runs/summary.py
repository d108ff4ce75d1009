"""What a run found, as typed rows; `document` gives each as the JSON that commands print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evosearch.runs.activity import WorkerActivity
from evosearch.runs.cost import Cost
from evosearch.runs.funnel_document import FunnelDocument
from evosearch.statistics import Interval


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The fitness of a program, estimated from several seeds; 0 is the tuned baseline.

    Attributes:
        fitness: mean over seeds and its 95% interval.
        per_task: mean score on each task.
        seeds: number of seeds.
    """

    fitness: Interval
    per_task: Mapping[str, float]
    seeds: int

    def document(self) -> dict[str, Any]:
        """The estimate as JSON."""
        return {
            "fitness": self.fitness.mean,
            "fitness_low": self.fitness.low,
            "fitness_high": self.fitness.high,
            "per_task": dict(self.per_task),
            "seeds": self.seeds,
        }


@dataclass(frozen=True, kw_only=True)
class MeasuredProgram(Estimate):
    """A program that a search measured.

    Attributes:
        id: number of the first program with its semantic key.
        confirmed: whether the seeds decided nothing; else they are those it was selected by.
        measurements: trainings of the program, for whatever purpose.
        statements: number of live statements.
        state_memory: numbers of live state per weight, as `primitives.state_memory` counts them.
        source: its text, without dead statements.
    """

    id: int
    confirmed: bool
    measurements: int
    statements: int
    state_memory: float
    source: str

    def document(self) -> dict[str, Any]:
        """The program as JSON."""
        return {
            "id": self.id,
            **super().document(),
            "confirmed": self.confirmed,
            "measurements": self.measurements,
            "statements": self.statements,
            "state_memory": self.state_memory,
            "source": self.source,
        }


@dataclass(frozen=True)
class ChampionEntry:
    """A champion of a search.

    Attributes:
        number: 0 for the initial program, then 1, 2, ...
        id: the program's.
        cost: cost of the search up to this champion.
        estimate: fitness from seeds that decided nothing (from search seeds for the initial
            program, which nothing selected); None without such seeds.
    """

    number: int
    id: int
    cost: Cost
    estimate: Estimate | None

    def document(self) -> dict[str, Any]:
        """The champion as JSON."""
        return {
            "number": self.number,
            "id": self.id,
            "trainings": self.cost.trainings,
            "weight_updates": self.cost.updates,
            **(self.estimate.document() if self.estimate else {}),
        }


@dataclass(frozen=True)
class RunStatus:
    """How a search stands.

    Attributes:
        run: its directory.
        generated: number of programs, without the initial one.
        invalid: drafts of mutations that were rejected.
        cache_hits, cache_hit_rate: programs that compute what an earlier one does; their share.
        evaluated: programs that were trained.
        redundant_fraction: share of statements that no update depends on.
        measurements: trainings of programs.
        trainings, weight_updates: cost of the search, with the baseline's trainings.
        programs_per_second: over all of `elapsed_seconds`.
        elapsed_seconds: time spent, over all processes.
        best: the champion; None before the first measurement.
        validation: its fitness on ten times the work; None if it was not measured.
        funnel: outcome of the funnel; None if there was none.
        stop_reason: why the search ended; None while it runs, or if it was killed.
        running: whether a process searches now.
        workers: what each of its workers does.
    """

    run: str
    generated: int
    invalid: int
    cache_hits: int
    cache_hit_rate: float
    evaluated: int
    redundant_fraction: float
    measurements: int
    trainings: int
    weight_updates: int
    programs_per_second: float
    elapsed_seconds: float
    best: MeasuredProgram | None
    validation: Estimate | None
    funnel: FunnelDocument | None
    stop_reason: str | None
    running: bool
    workers: Sequence[WorkerActivity]

    def document(self) -> dict[str, Any]:
        """The status as JSON."""
        return {
            **vars(self),
            "best": self.best and self.best.document(),
            "validation": self.validation and self.validation.document(),
            "funnel": self.funnel and self.funnel.model_dump(include={"winner"}),
            "workers": [one._asdict() for one in self.workers],
        }
