"""Typed model of `funnel.json`, the result of `evosearch.evaluation.funnel` for a run."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from evosearch.runs.documents import Count, Document, ProgramText
from evosearch.statistics import Interval


class EntrantDocument(Document):
    """A program with its fitness in one stage of the funnel."""

    name: Annotated[str, Field(pattern=r"(?s)^.+#[0-9]{1,18}$")]
    """`runs/NAME#ID`."""
    fitness: float
    fitness_low: float
    fitness_high: float
    per_task: Annotated[dict[str, float], Field(min_length=1)]
    source: ProgramText

    @model_validator(mode="after")
    def _mean_within_interval(self) -> Self:
        if not self.fitness_low <= self.fitness <= self.fitness_high:
            raise ValueError("the fitness lies outside its interval")
        return self

    @property
    def run(self) -> str:
        """The directory of the program's run, as given on the command line."""
        return self.name.rpartition("#")[0]

    @property
    def id(self) -> int:
        """The program's id in its run."""
        return int(self.name.rpartition("#")[2])

    @property
    def interval(self) -> Interval:
        """The fitness and its 95% interval."""
        return Interval(self.fitness, self.fitness_low, self.fitness_high)


class StageDocument(Document):
    """One stage of the funnel; `through` entrants advance to the next stage."""

    scale: Literal["10x", "100x"]
    seeds: Count
    through: Count
    entrants: Annotated[list[EntrantDocument], Field(min_length=1)]

    @model_validator(mode="after")
    def _no_more_advance_than_entered(self) -> Self:
        if self.through > len(self.entrants):
            raise ValueError(f"{self.through} of {len(self.entrants)} entrants advance")
        return self


class FunnelDocument(Document):
    """The stages of a funnel and its winner, if any."""

    stages: Annotated[list[StageDocument], Field(min_length=1)]
    winner: EntrantDocument | None
    verdict: str | None = None
    """Verdict on the winner from fresh seeds; None in documents of earlier versions."""
