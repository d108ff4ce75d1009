"""What a search knows, as rows of its database, and back."""

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
    """A generated program as it is stored."""
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
    """A test as it is stored."""
    seeds = json.dumps([seed.number for seed in test.seeds])
    verdict = (test.difference, test.low, test.won)
    return TestRow(test.number, test.challenger.id, test.defender.id, seeds, *verdict)


def champion_row(number: int, champion: Champion) -> ChampionRow:
    """Champion `number` as it is stored."""
    record, test = champion.record, champion.test
    seeds = json.dumps([seed.number for seed in champion.confirming_seeds])
    return ChampionRow(number, record.id, record.key, test.number if test else None, seeds)


def measurement_of(row: MeasurementRow) -> Measurement:
    """The measurement that `row` holds.

    Raises:
        ValueError: there is no such engine or failure.
    """
    return Measurement(
        _number(row.loss),
        _number(row.baseline),
        row.steps,
        row.schedule,
        Failure(row.engine) if row.engine in _FAILURES else Engine(row.engine),
        row.stopped,
    )


def reject_rows(births: Iterable[Birth]) -> list[RejectRow]:
    """The drafts that were rejected on the way to generated programs."""
    return [
        RejectRow(birth.request, birth.id, why, count)
        for birth in births
        for why, count in birth.rejects.items()
    ]


def measurement_rows(request: Request, found: Mapping[str, Measurement]) -> list[MeasurementRow]:
    """What one request measured, a row a task."""
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
            m.steps,
            m.schedule,
            m.engine,
            _finite(m.loss),
            _finite(m.baseline),
            m.score,
            m.stopped,
        )
        for task, m in found.items()
    ]


def validation_rows(
    champion: int, program: int, found: Iterable[Validation]
) -> list[ValidationRow]:
    """What champion number `champion` gave on validation tasks."""
    return [
        ValidationRow(
            champion,
            program,
            v.task,
            v.seed,
            v.lr,
            _finite(v.loss),
            _finite(v.baseline),
            v.score,
        )
        for v in found
    ]


def validation_of(row: ValidationRow) -> Validation:
    """The validation that `row` holds."""
    return Validation(row.task, row.seed, row.lr, _number(row.loss), _number(row.baseline))


def progress_row(evolution: Evolution, elapsed: float, stop_reason: str | None) -> ProgressRow:
    """How far a search is; arguments as of `Store.set_progress`."""
    counts = evolution.counts
    return ProgressRow(
        1,
        **vars(counts),
        elapsed_seconds=elapsed,
        stop_reason=stop_reason,
        limited_from=evolution.limited_from,
        programs=counts.generated + 1,
        tests=len(evolution.tests),
        # Before the first measurement not even the initial champion is written.
        champions=len(evolution.champions) if counts.measurements else 0,
    )


def tuning_row(task: str, params: int, tuner: Tuner) -> TuningRow:
    """The baseline's learning rate for a task and the trials that chose it."""
    trials = json.dumps({f"{k:g}": _finite(v) for k, v in sorted(tuner.losses.items())})
    return TuningRow(task, params, tuner.best, trials)


def _finite(value: float) -> float | None:
    """SQLite and JSON have no infinity: a loss that diverged is null."""
    return value if abs(value) < float("inf") else None


def _number(value: float | None) -> float:
    return float("inf") if value is None else value
