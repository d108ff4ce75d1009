"""Conversion between the objects of a search and the rows of its database."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from evosearch.measuring.measurement import Engine, Failure, Measurement
from evosearch.runs.rows import (
    ChampionRow,
    MeasurementRow,
    ProgramRow,
    ProgressRow,
    RejectRow,
    TestRow,
    TuningRow,
    ValidationRow,
)
from evosearch.runs.validations import Validation

if TYPE_CHECKING:
    from evosearch.evolution.evolution import Birth, Evolution, Request
    from evosearch.evolution.records import Champion, Test
    from evosearch.measuring.tuning import Tuner

_FAILURES = frozenset(Failure)


def program_row(birth: Birth) -> ProgramRow:
    """Return the row of a generated program."""
    program = birth.analysis.program
    return ProgramRow(
        birth.id,
        birth.request,
        birth.parent,
        birth.mutation,
        birth.analysis.key,
        str(program),
        len(program.statements),
        len(birth.analysis.live_statements),
    )


def test_row(test: Test) -> TestRow:
    """Return the row of a test."""
    seeds = json.dumps([seed.number for seed in test.seeds])
    verdict = (test.difference, test.low, test.won)
    return TestRow(test.number, test.challenger.id, test.defender.id, seeds, *verdict)


def champion_row(number: int, champion: Champion) -> ChampionRow:
    """Return the row of a champion; `number` counts champions from 0."""
    record, test = champion.record, champion.test
    seeds = json.dumps([seed.number for seed in champion.confirming_seeds])
    return ChampionRow(number, record.id, record.key, test.number if test else None, seeds)


def measurement_of(row: MeasurementRow) -> Measurement:
    """Return the measurement that a row stores.

    Raises:
        ValueError: The row names an unknown engine or failure.
    """
    return Measurement(
        _infinite_if_none(row.loss),
        _infinite_if_none(row.baseline),
        row.steps,
        row.schedule,
        Failure(row.engine) if row.engine in _FAILURES else Engine(row.engine),
        row.stopped,
    )


def reject_rows(births: Iterable[Birth]) -> list[RejectRow]:
    """Return the counts of rejected drafts: a row for each generated program and reason."""
    return [
        RejectRow(birth.request, birth.id, reason, count)
        for birth in births
        for reason, count in birth.rejects.items()
    ]


def measurement_rows(
    request: Request, measurements: Mapping[str, Measurement]
) -> list[MeasurementRow]:
    """Return the rows of a request's measurements: a row for each task."""
    record, seed = request.record, request.seed
    return [
        MeasurementRow(
            request.number,
            request.reason,
            record.id,
            record.key,
            seed.stream,
            seed.number,
            task,
            measurement.steps,
            measurement.schedule,
            measurement.engine,
            _none_if_infinite(measurement.loss),
            _none_if_infinite(measurement.baseline),
            measurement.score,
            measurement.stopped,
        )
        for task, measurement in measurements.items()
    ]


def validation_rows(
    champion: int, program: int, validations: Iterable[Validation]
) -> list[ValidationRow]:
    """Return the rows of a champion's validations: a row for each task and seed.

    Args:
        champion: Number of the champion.
        program: Id of the champion's program.
        validations: The champion's validations.
    """
    return [
        ValidationRow(
            champion,
            program,
            validation.task,
            validation.seed,
            validation.lr_multiplier,
            _none_if_infinite(validation.loss),
            _none_if_infinite(validation.baseline_loss),
            validation.score,
        )
        for validation in validations
    ]


def validation_of(row: ValidationRow) -> Validation:
    """Return the validation that a row stores."""
    loss, baseline = _infinite_if_none(row.loss), _infinite_if_none(row.baseline)
    return Validation(row.task, row.seed, row.lr, loss, baseline)


def progress_row(evolution: Evolution, elapsed: float, stop_reason: str | None) -> ProgressRow:
    """Return the row of a search's progress.

    Args:
        evolution: The search.
        elapsed: Seconds spent by all processes of the search.
        stop_reason: Why the search ended; None if it has not ended.
    """
    counts = evolution.counts
    return ProgressRow(
        1,
        **vars(counts),
        elapsed_seconds=elapsed,
        stop_reason=stop_reason,
        limited_from=evolution.limited_from,
        programs=counts.generated + 1,
        tests=len(evolution.tests),
        # The initial champion is only stored with the first measurement.
        champions=len(evolution.champions) if counts.measurements else 0,
    )


def tuning_row(task: str, params: int, tuner: Tuner) -> TuningRow:
    """Return the row of the baseline's tuned learning rate on a task, with all trials."""
    trials = json.dumps(
        {f"{rate:g}": _none_if_infinite(loss) for rate, loss in sorted(tuner.losses.items())}
    )
    return TuningRow(task, params, tuner.best, trials)


def _none_if_infinite(loss: float) -> float | None:
    """Return a diverged loss as None, since SQLite and JSON cannot store infinity."""
    return loss if abs(loss) < float("inf") else None


def _infinite_if_none(loss: float | None) -> float:
    return float("inf") if loss is None else loss
