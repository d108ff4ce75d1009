"""Results of a run as dataclasses, whose method `document` returns the JSON that commands print."""

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
    """Fitness of a program, estimated from several seeds; the tuned baseline has fitness 0.

    Attributes:
        fitness: Mean score over tasks and seeds, and its 95% confidence interval.
        per_task: Mean score on each task.
        seeds: Number of seeds.
    """

    fitness: Interval
    per_task: Mapping[str, float]
    seeds: int

    def document(self) -> dict[str, Any]:
        """Return the estimate as a JSON object."""
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
        id: Id of the first program with its semantic key.
        confirmed: Whether the fitness is from seeds that did not influence the search. Otherwise
            the fitness is from the seeds that selected the program.
        measurements: Number of trainings of the program on all tasks and seeds.
        statements: Number of live statements.
        state_memory: Stored numbers per weight for live states; see `primitives.state_memory`.
        source: Text of the program, without dead statements.
    """

    id: int
    confirmed: bool
    measurements: int
    statements: int
    state_memory: float
    source: str

    def document(self) -> dict[str, Any]:
        """Return the program as a JSON object."""
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
        id: The program's id.
        cost: Cost of the search up to this champion.
        estimate: Fitness on the champion's confirming seeds, or on search seeds for the initial
            program, which was not selected. None if the champion was not confirmed.
    """

    number: int
    id: int
    cost: Cost
    estimate: Estimate | None

    def document(self) -> dict[str, Any]:
        """Return the champion as a JSON object."""
        return {
            "number": self.number,
            "id": self.id,
            "trainings": self.cost.trainings,
            "weight_updates": self.cost.updates,
            **(self.estimate.document() if self.estimate else {}),
        }


@dataclass(frozen=True)
class RunStatus:
    """Status of a search.

    Attributes:
        run: The run's directory.
        generated: Number of programs, not counting the initial program.
        invalid: Number of rejected drafts of mutations.
        cache_hits, cache_hit_rate: Number and fraction of programs with the semantic key of an
            earlier program.
        evaluated: Number of trained programs.
        redundant_fraction: Fraction of the generated programs' statements on which no update
            depends.
        measurements: Number of trainings of programs.
        trainings, weight_updates: Cost of the search, including the baseline's trainings.
        programs_per_second: Programs per second of `elapsed_seconds`.
        elapsed_seconds: Time spent by all processes of the search.
        best: The champion; None before the first measurement.
        validation: The champion's fitness on validation tasks; None without validation.
        funnel: Result of the funnel; None if no funnel has run.
        stop_reason: Why the search ended; None if it is running or was killed.
        running: Whether a process is searching now.
        workers: Activity of each worker.
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
        """Return the status as a JSON object."""
        return {
            **vars(self),
            "best": self.best and self.best.document(),
            "validation": self.validation and self.validation.document(),
            "funnel": self.funnel and self.funnel.model_dump(include={"winner"}),
            "workers": [worker._asdict() for worker in self.workers],
        }
