"""The JSON form of a derivation, as a run keeps it, as typed models."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from evosearch.runs.documents import Count, Document, ProgramText


class TaskCostDocument(Document):
    """What a program costs on one task."""

    mean: float
    high: float


class CostDocument(Document):
    """What a program costs against another one."""

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
    """The result without one of its statements."""

    statement: str
    instead: str
    program: ProgramText
    cost: CostDocument


class SettingsDocument(Document):
    """What else was fixed, and how it ended; other versions may have fixed other things."""

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
    """The known optimizer that the result is nearest to."""

    name: str
    distance: float
    diff: list[str]


class DerivationDocument(Document):
    """How a program became a rule; `record.Simplification` writes it."""

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
    def _settings_that_are_shown(self) -> Self:
        if self.confirmation is not None and self.settings.limit is None:
            raise ValueError("a confirmation without the limit that it is held to")
        if self.settings.ended_early and self.settings.minutes is None:
            raise ValueError("ended early without a limit in minutes")
        return self
