"""Removal of statements whose measured cost is negligible, one at a time and in pairs.

A candidate is the current program after one edit. The cost of a candidate is measured against the
original program, so that small costs cannot add up. Candidates are ordered by their mean cost on
screening seeds, on cheaper tasks if there are any. In this order the candidates are tested on seeds
of another stream (see `evosearch.simplification.deciding`). The first accepted candidate becomes
the current program, and the procedure starts again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from evosearch.seeds import Seed, Stream
from evosearch.simplification.deciding import LIMIT, LOOKS, Decision, bounds, decide
from evosearch.simplification.edits import Edit, edits, edits_by_statement, pair_edits
from evosearch.simplification.paired_trainings import PairedTrainings
from evosearch.simplification.record import Ablation, Cost, Step
from primitives import Program, semantic_key

SCREENING_SEEDS = 8
CONFIRMING_SEEDS = 64
ABLATION_SEEDS = 16
_FIRST_SCREENING_SEEDS = 2
"""Number of seeds on which pairs are screened first."""
_MAX_PAIRS = 12
"""Maximum number of pairs that are screened on all screening seeds."""

OnStep = Callable[[Step], None]


def first_seeds(stream: Stream, count: int) -> list[Seed]:
    """Return the first `count` seeds of a stream."""
    return [Seed(stream, number) for number in range(count)]


@dataclass
class EditTester:
    """Tests of edited programs against the original program.

    Attributes:
        trainings: Trainings on the measuring tasks, with the original program.
        screening_trainings: Trainings on the screening tasks; the same object as `trainings` if
            candidates are screened on the measuring tasks.
        on_step: Called with each accepted step of `remove_statements`.
        limit: Maximum cost of an accepted candidate, as a difference of log losses.
        looks: Number of seeds at each look of a test.
        deadline: Time of `time.monotonic` after which no more candidates are tested.
        tested_count: Number of candidates that were tested.
        ended_early: Whether candidates were left untested because the deadline passed.
    """

    trainings: PairedTrainings
    screening_trainings: PairedTrainings
    on_step: OnStep = lambda step: None
    limit: float = LIMIT
    looks: Sequence[int] = LOOKS
    deadline: float = math.inf
    tested_count: int = 0
    ended_early: bool = False
    _rejected_keys: set[str] = field(default_factory=set)

    def is_out_of_time(self) -> bool:
        """Return whether the deadline has passed; if so, set `ended_early`."""
        is_late = time.monotonic() >= self.deadline
        self.ended_early |= is_late
        return is_late

    def decide(self, program: Program, reference: Program | None = None) -> Decision:
        """Test whether the cost of a candidate is below the limit.

        Args:
            program: The candidate.
            reference: The program with which `program` is compared; None for the original program.
        """
        self.tested_count += 1
        compared_program = reference or self.trainings.original

        def costs(seed_count: int) -> tuple[np.ndarray, bool]:
            seeds = first_seeds(Stream.SIMPLIFY, seed_count)
            differences = self.trainings.differences(program, compared_program, seeds)
            return differences, self.trainings.diverges(program, seeds)

        return decide(costs, limit=self.limit, looks=self.looks)

    def is_better(self, program: Program, reference: Program) -> Decision:
        """Test whether a program has a lower loss than `reference`, in the mean over tasks."""

        def costs(seed_count: int) -> tuple[np.ndarray, bool]:
            seeds = first_seeds(Stream.SIMPLIFY, seed_count)
            differences = self.trainings.differences(program, reference, seeds)
            over_tasks = differences.mean(axis=0, keepdims=True)
            return over_tasks, self.trainings.diverges(program, seeds)

        return decide(costs, limit=0.0, looks=self.looks)

    def confirm(self, program: Program) -> Cost:
        """Return the cost of a program on `CONFIRMING_SEEDS` seeds that no decision used."""
        self.trainings.report("confirming on fresh seeds")
        return self.trainings.cost(
            program, first_seeds(Stream.SIMPLIFY_CONFIRM, CONFIRMING_SEEDS), looks=1
        )

    def cost(self, program: Program, seeds: int) -> Cost:
        """Return the cost of a program on the first `seeds` seeds of the tests of candidates."""
        return self.trainings.cost(
            program, first_seeds(Stream.SIMPLIFY, seeds), looks=len(self.looks)
        )

    def remove_statements(self, program: Program) -> Program:
        """Remove statements of a program, alone and in pairs, until no edit is accepted."""
        while True:
            step = self._first_accepted_step("drop", program, edits(program))
            if step is None and not self.is_out_of_time():
                candidates = self._best_screened(pair_edits(program))
                step = self._first_accepted_step("drop-pair", program, candidates)
            if step is None:
                return program
            self.on_step(step)
            program = step.after

    def _best_screened(self, candidates: list[Edit]) -> list[Edit]:
        """Return the `_MAX_PAIRS` candidates with the lowest cost on the first screening seeds."""
        seeds = first_seeds(Stream.SIMPLIFY_SCREEN, _FIRST_SCREENING_SEEDS)
        self.screening_trainings.report(f"screening {len(candidates)} pairs of statements")
        self.screening_trainings.start_trainings([edit.program for edit in candidates], seeds)
        costs = [self._screening_cost(edit, seeds) for edit in candidates]
        indices = sorted(range(len(candidates)), key=lambda index: costs[index])
        return [candidates[index] for index in indices[:_MAX_PAIRS]]

    def _screening_cost(self, edit: Edit, seeds: Sequence[Seed]) -> float:
        """Return the mean cost of an edited program over the screening tasks and seeds."""
        costs = self.screening_trainings.differences(
            edit.program, self.screening_trainings.original, seeds
        )
        return float(costs.mean())

    def _first_accepted_step(
        self, rule: str, program: Program, candidates: list[Edit]
    ) -> Step | None:
        """Test candidates in the order of their screening cost until a candidate is accepted.

        Returns:
            The step to the accepted candidate; None if all are rejected or the deadline passes.
        """
        seeds = first_seeds(Stream.SIMPLIFY_SCREEN, SCREENING_SEEDS)
        candidates = [
            edit for edit in candidates if semantic_key(edit.program) not in self._rejected_keys
        ]
        self.screening_trainings.start_trainings([edit.program for edit in candidates], seeds)
        costs_and_indices: list[tuple[float, int]] = []
        for index, edit in enumerate(candidates):
            self.screening_trainings.report(f"screening: {edit.describe(program)}")
            costs = self.screening_trainings.differences(
                edit.program, self.screening_trainings.original, seeds
            )
            is_too_costly = any(bounds(row, len(self.looks)).low > self.limit for row in costs)
            if is_too_costly or self.screening_trainings.diverges(edit.program, seeds):
                self._rejected_keys.add(semantic_key(edit.program))
            else:
                costs_and_indices.append((float(costs.mean()), index))
        for _, index in sorted(costs_and_indices):
            if self.is_out_of_time():
                break
            edit = candidates[index]
            self.trainings.report(f"testing: {edit.describe(program)}")
            decision = self.decide(edit.program)
            if decision.accepted:
                cost = self.cost(edit.program, decision.seeds)
                return Step(rule, edit.describe(program), program, edit.program, cost=cost)
            self._rejected_keys.add(semantic_key(edit.program))
        return None

    def ablations(self, program: Program) -> tuple[Ablation, ...]:
        """Measure a program without each of its statements, one at a time.

        If several edits remove a statement, the edit with the lowest cost on the screening seeds is
        measured.
        """
        screening_seeds = first_seeds(Stream.SIMPLIFY_SCREEN, SCREENING_SEEDS)
        ablation_seeds = first_seeds(Stream.SIMPLIFY_CONFIRM, ABLATION_SEEDS)
        ablations = []
        for index, candidates in edits_by_statement(program).items():
            statement = str(program.statements[index])
            self.screening_trainings.report(f"ablation: without `{statement}`")
            self.screening_trainings.start_trainings(
                [edit.program for edit in candidates], screening_seeds
            )
            costs = [
                self.screening_trainings.differences(edit.program, program, screening_seeds).mean()
                for edit in candidates
            ]
            best = candidates[int(np.argmin(costs))]
            ((_, replacement),) = best.changes
            self.trainings.report(f"ablation: without `{statement}`")
            cost = self.trainings.cost(best.program, ablation_seeds, reference=program, looks=1)
            ablations.append(Ablation(statement, str(replacement), best.program, cost))
        return tuple(ablations)
