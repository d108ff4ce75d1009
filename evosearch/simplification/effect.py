"""Dropping what costs next to nothing: statement by statement, then in pairs, always measured.

Every candidate is one edit away from the program so far, but its cost is against the original, so
that small costs cannot add up. Candidates are ordered by their mean cost on screening seeds, of
cheaper tasks where there are some, which decide nothing else; then, from the cheapest on, each is
decided on seeds of its own stream (`deciding`), and the first that is taken becomes the program,
from which it all starts again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from evosearch.seeds import Seed, Stream
from evosearch.simplification.deciding import LIMIT, LOOKS, Decision, bounds, decide
from evosearch.simplification.edits import Edit, edits, edits_by_statement, pairs
from evosearch.simplification.record import Ablation, Cost, Step
from evosearch.simplification.trials import Trials
from primitives import Program, semantic_key

SCREENING_SEEDS = 8
CONFIRMING_SEEDS = 64
ABLATION_SEEDS = 16
_FIRST_SCREENING_SEEDS = 2
_PAIRS = 12
"""So many pairs, the best on the first screening seeds, are screened on all of them."""

OnStep = Callable[[Step], None]


def drawn(stream: Stream, count: int) -> list[Seed]:
    """The first so many seeds of a stream."""
    return [Seed(stream, number) for number in range(count)]


@dataclass
class Effects:
    """Decides what may go.

    Attributes:
        trials: trains; its original program is what costs are measured against.
        screening: trains the same on the tasks that candidates are screened on.
        limit: a cost in log loss that a simpler rule is worth.
        looks: how many seeds there are at each look of a decision.
        until: when, by `time.monotonic`, nothing more is tried; what is undecided then stays.
        considered: how many candidates were decided on, taken or not.
        ended_early: whether something was left untried.
    """

    trials: Trials
    screening: Trials
    on_step: OnStep = lambda step: None
    limit: float = LIMIT
    looks: Sequence[int] = LOOKS
    until: float = math.inf
    considered: int = 0
    ended_early: bool = False
    _refused: set[str] = field(default_factory=set)

    def gives_up(self) -> bool:
        """Whether it is too late to try what there is to try; remembered in `ended_early`."""
        late = time.monotonic() >= self.until
        self.ended_early |= late
        return late

    def decide(self, program: Program, against: Program | None = None) -> Decision:
        """Whether the cost of `program` is surely below the limit, and nowhere far above.

        Args:
            program: the candidate.
            against: what it is compared with, by default the original.
        """
        self.considered += 1
        reference = against or self.trials.original

        def costs(count: int) -> tuple[np.ndarray, bool]:
            seeds = drawn(Stream.SIMPLIFY, count)
            found = self.trials.differences(program, reference, seeds)
            return found, self.trials.diverges(program, seeds)

        return decide(costs, limit=self.limit, looks=self.looks)

    def is_better(self, program: Program, than: Program) -> Decision:
        """Whether `program` is surely better than another, in the mean over tasks."""

        def costs(count: int) -> tuple[np.ndarray, bool]:
            seeds = drawn(Stream.SIMPLIFY, count)
            found = self.trials.differences(program, than, seeds)
            return found.mean(axis=0, keepdims=True), self.trials.diverges(program, seeds)

        return decide(costs, limit=0.0, looks=self.looks)

    def confirm(self, program: Program) -> Cost:
        """The cost of `program` on seeds that decided nothing, always as many."""
        self.trials.say("confirming on fresh seeds")
        return self.trials.cost(program, drawn(Stream.SIMPLIFY_CONFIRM, CONFIRMING_SEEDS), looks=1)

    def cost(self, program: Program, seeds: int) -> Cost:
        """The cost on the seeds of a decision."""
        return self.trials.cost(program, drawn(Stream.SIMPLIFY, seeds), looks=len(self.looks))

    def drop(self, program: Program) -> Program:
        """`program` without what costs next to nothing, each step told to `on_step`."""
        while True:
            step = self._best("drop", program, edits(program))
            if step is None and not self.gives_up():
                step = self._best("drop-pair", program, self._promising(pairs(program)))
            if step is None:
                return program
            self.on_step(step)
            program = step.after

    def _promising(self, candidates: list[Edit]) -> list[Edit]:
        """The best few of many, on the first screening seeds."""
        few = drawn(Stream.SIMPLIFY_SCREEN, _FIRST_SCREENING_SEEDS)
        self.screening.say(f"screening {len(candidates)} pairs of statements")
        self.screening.request([one.program for one in candidates], few)
        costs = [float(self._screened(one, few)) for one in candidates]
        order = sorted(range(len(candidates)), key=lambda place: costs[place])
        return [candidates[place] for place in order[:_PAIRS]]

    def _screened(self, edit: Edit, seeds: Sequence[Seed]) -> float:
        found = self.screening.differences(edit.program, self.screening.original, seeds)
        return float(found.mean())

    def _best(self, rule: str, program: Program, candidates: list[Edit]) -> Step | None:
        """The cheapest edit that is taken, as a step; None if all are refused or it is late."""
        seeds = drawn(Stream.SIMPLIFY_SCREEN, SCREENING_SEEDS)
        candidates = [one for one in candidates if semantic_key(one.program) not in self._refused]
        self.screening.request([one.program for one in candidates], seeds)
        ordered: list[tuple[float, int]] = []
        for place, edit in enumerate(candidates):
            self.screening.say(f"screening: {edit.described(program)}")
            found = self.screening.differences(edit.program, self.screening.original, seeds)
            hopeless = any(bounds(row, len(self.looks)).low > self.limit for row in found)
            if hopeless or self.screening.diverges(edit.program, seeds):
                self._refused.add(semantic_key(edit.program))
            else:
                ordered.append((float(found.mean()), place))
        for _, place in sorted(ordered):
            if self.gives_up():
                break
            edit = candidates[place]
            self.trials.say(f"deciding: {edit.described(program)}")
            decision = self.decide(edit.program)
            if decision.taken:
                cost = self.cost(edit.program, decision.seeds)
                return Step(rule, edit.described(program), program, edit.program, cost=cost)
            self._refused.add(semantic_key(edit.program))
        return None

    def ablations(self, program: Program) -> tuple[Ablation, ...]:
        """`program` without each of its statements, in the way that costs least, one at a time."""
        few = drawn(Stream.SIMPLIFY_SCREEN, SCREENING_SEEDS)
        many = drawn(Stream.SIMPLIFY_CONFIRM, ABLATION_SEEDS)
        found = []
        for index, candidates in edits_by_statement(program).items():
            statement = str(program.statements[index])
            self.screening.say(f"ablation: without `{statement}`")
            self.screening.request([one.program for one in candidates], few)
            costs = [self.screening.differences(one.program, program, few) for one in candidates]
            best = candidates[int(np.argmin([one.mean() for one in costs]))]
            self.trials.say(f"ablation: without `{statement}`")
            cost = self.trials.cost(best.program, many, against=program, looks=1)
            found.append(Ablation(statement, str(best.changes[0][1]), best.program, cost))
        return tuple(found)
