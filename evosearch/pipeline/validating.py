"""Validation of champions during a search."""

from __future__ import annotations

from evosearch.config import Config
from evosearch.evaluation.validation import Validator
from evosearch.evolution.evolution import Evolution
from evosearch.evolution.records import Champion
from evosearch.pipeline.observers import Notifier
from evosearch.runs.store import Store
from evosearch.runs.validations import is_complete, validated_fitness


class ChampionValidation:
    """Submits new champions to a validator, and stores the results.

    Args:
        config: configuration of the search.
        store: store of the run, opened for searching; the caller commits.
        validator: validates champions.
        notifier: notified of champions that cannot be validated.
    """

    def __init__(self, config: Config, store: Store, validator: Validator, notifier: Notifier):
        self._settings = config.measurement
        self._store = store
        self._validator = validator
        self._notifier = notifier
        self._submitted = 0
        self._validations = {
            program: validation
            for program, validation in store.validations().items()
            if is_complete(validation, config)
        }

    @property
    def waiting(self) -> int:
        """Number of submitted champions that are not validated yet."""
        return self._validator.waiting

    def advance(self, evolution: Evolution) -> None:
        """Submit new champions, and store finished validations."""
        for number in range(self._submitted, len(evolution.champions)):
            record = evolution.champions[number].record
            if record.id not in self._validations:
                self._validator.begin(number, record.program)
        self._submitted = len(evolution.champions)
        while self._validator.problems:
            self._notifier.notice(self._validator.problems.pop())
        for number, validation in self._validator.finished().items():
            program = evolution.champions[number].record.id
            self._validations[program] = validation
            self._store.add_validation(number, program, validation)

    def validated_champions(self, evolution: Evolution) -> list[tuple[Champion, float]]:
        """Return the validated champions in order, each with its fitness on validation tasks."""
        return [
            (champion, validated_fitness(validation, self._settings).mean)
            for champion in evolution.champions
            if (validation := self._validations.get(champion.record.id))
        ]
