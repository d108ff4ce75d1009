"""Champions validated beside a search, and what was found of them kept in its store."""

from __future__ import annotations

from evosearch.config import Config
from evosearch.evaluation.validation import Validator
from evosearch.evolution.evolution import Evolution
from evosearch.evolution.records import Champion
from evosearch.pipeline.observers import Notifier
from evosearch.runs.store import Store
from evosearch.runs.validations import is_complete, validated_fitness


class ChampionValidation:
    """Hands new champions to a validator, and keeps its results.

    Args:
        config: of the search.
        store: open to search; the caller commits.
        validator: validates.
        notifier: told of champions that cannot be validated.
    """

    def __init__(self, config: Config, store: Store, validator: Validator, notifier: Notifier):
        self._limits = config.measurement
        self._store = store
        self._validator = validator
        self._notifier = notifier
        self._begun = 0
        self._found = {
            program: found
            for program, found in store.validations().items()
            if is_complete(found, config)
        }

    @property
    def waiting(self) -> int:
        """How many champions are not validated yet."""
        return self._validator.waiting

    def advance(self, evolution: Evolution) -> None:
        """Begins with champions that are new and keeps what has been found of earlier ones."""
        for number in range(self._begun, len(evolution.champions)):
            record = evolution.champions[number].record
            if record.id not in self._found:
                self._validator.begin(number, record.program)
        self._begun = len(evolution.champions)
        while self._validator.problems:
            self._notifier.notice(self._validator.problems.pop())
        for number, found in self._validator.finished().items():
            program = evolution.champions[number].record.id
            self._found[program] = found
            self._store.add_validation(number, program, found)

    def curve(self, evolution: Evolution) -> list[tuple[Champion, float]]:
        """Champions that are validated, in order, with their fitness."""
        return [
            (champion, validated_fitness(found, self._limits).mean)
            for champion in evolution.champions
            if (found := self._found.get(champion.record.id))
        ]
