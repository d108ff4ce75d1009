"""Pydantic models of the JSON form of a derivation, which validate the files of a run."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from evosearch.runs.documents import Count, Document, ProgramText


class TaskCostDocument(Document):
    """Cost of a program on one task."""

    mean: float
    high: float


class CostDocument(Document):
    """Cost of a program relative to another program."""

    mean: float
    low: float
    high: float
    per_task: Annotated[dict[str, TaskCostDocument], Field(min_length=1)]
    seeds: Count
    fitness: float | None = None

    @model_validator(mode="after")
    def _mean_within_bounds(self) -> Self:
        if not self.low <= self.mean <= self.high:
            raise ValueError("the mean lies outside its bounds")
        return self


class StepDocument(Document):
    """One step of a derivation."""

    rule: str
    reason: str
    domain: str | None
    cost: CostDocument | None
    before: ProgramText
    after: ProgramText


class AblationDocument(Document):
    """The simplified program without one of its statements."""

    statement: str
    instead: str
    program: ProgramText
    cost: CostDocument


class SettingsDocument(Document):
    """Settings of a simplification and how it ended; other versions may have other keys."""

    model_config = ConfigDict(extra="allow")

    limit: float | None = None
    error_rate: float | None = None
    looks: list[Count] | None = None
    screening_seeds: Count | None = None
    screening_tasks: list[str] | None = None
    confirming_seeds: Count | None = None
    ablation_seeds: Count | None = None
    tuning_seeds: Count | None = None
    constant_trials: Count | None = None
    seed: Annotated[int, Field(ge=0)] | None = None
    minutes: float | None = None
    ended_early: bool | None = None
    interrupted: bool | None = None
    candidates: Count | None = None
    trainings: Count | None = None


class NearestDocument(Document):
    """The known optimizer that is nearest to the simplified program."""

    name: str
    distance: float
    diff: list[str]


class DerivationDocument(Document):
    """The JSON form of `evosearch.simplification.Simplification`."""

    source: ProgramText
    original: ProgramText
    steps: list[StepDocument]
    tasks: dict[str, float]
    confirmation: CostDocument | None
    ablations: list[AblationDocument]
    settings: SettingsDocument
    statements: Count | None = None
    states: Count | None = None
    description: str | None = None
    nearest: NearestDocument | None = None
    original_statements: Count | None = None
    unconfirmed: list[str] | None = None

    @model_validator(mode="after")
    def _has_required_settings(self) -> Self:
        if self.confirmation is not None and self.settings.limit is None:
            raise ValueError("a confirmation requires the setting limit")
        if self.settings.ended_early and self.settings.minutes is None:
            raise ValueError("ended_early requires the setting minutes")
        return self
