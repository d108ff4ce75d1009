"""Regularized evolution as a pure state machine: `ask` for a measurement, `tell` its result.

Warm start: the population is the initial program. A step draws a tournament, mutates the fittest,
appends the child, and the oldest dies (Real et al. 2019, arXiv 1802.01548; Chen et al. 2023, arXiv
2302.06675). If the configuration says so, the constants of the initial program are tuned first; and
the population now and then starts anew, from that or from the champion, before which the constants
of its best are tuned. What is known of programs stays. Every measurement, of a child, again, or for
a test, is a numbered request. Request n is decided by a generator keyed by (run seed, n) from the
results of requests 1 .. n - in_flight; neither the clock nor the number of workers has a say, so
replaying the results replays the search.

What keeps luck from ruling (docs/measurement.md): a program that comes up again and looks good is
measured on seeds it has not seen; the seed of first measurements moves on; a would-be champion
meets the champion on fresh seeds, each used for one test, with an error rate spent over the run;
and what is reported of a champion comes from further seeds, which decide only that a champion that
diverges on one of them makes room for the one before.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from evosearch.config import Config
from evosearch.evolution.mutation import Child, mutate, with_states
from evosearch.evolution.records import Champion, Record, Test
from evosearch.evolution.space import Space
from evosearch.evolution.step_size import with_step_size_of
from evosearch.fixed import CONFIRM_EVERY, ELITE, MAX_HITS_IN_A_ROW, TUNED_POPULATION
from evosearch.seeds import Seed, Stream
from evosearch.statistics import LARGEST_SCORE
from primitives import Program, analyse, live, parse
from primitives.graph.analysis import Analysis


@dataclass(frozen=True)
class Individual:
    """A program in the population: a number, and the record it shares with its equals."""

    id: int
    program: Program
    record: Record


@dataclass(frozen=True)
class Request:
    """A measurement to make: `program` on one seed of all tasks.

    It may end with the task after which the sum of its scores so far is below the task's in
    `floors`.
    """

    number: int
    reason: str
    record: Record
    seed: Seed
    floors: Mapping[str, float] | None = None

    @property
    def program(self) -> Program:
        """What to train with."""
        return self.record.program


@dataclass(frozen=True)
class Birth:
    """A generated program, for the store; `parent` and `mutation` are None for the first."""

    id: int
    request: int
    parent: int | None
    mutation: str
    analysis: Analysis
    rejects: Counter[str] = field(default_factory=Counter)
    injection: int | None = None


@dataclass
class Counts:
    """What has happened so far."""

    generated: int = 0
    invalid: int = 0
    cache_hits: int = 0
    evaluated: int = 0
    measurements: int = 0
    statements: int = 0
    live_statements: int = 0


class Evolution:
    """The search without its effects.

    Attributes:
        counts: what has happened so far.
        births: programs generated since the caller last emptied the list.
        champion: the program that has won every test so far, the initial one at first.
        champions: all of them, in order, with the test that each won; one that failed on a
            confirming seed is followed by the one before it, which then comes without a test.
        limited_from: the number of the first request that a limit decided; None before that.
    """

    def __init__(self, config: Config):
        self.config = config
        self.counts = Counts()
        self.births: list[Birth] = []
        self.limited_from: int | None = None
        self.records: dict[str, Record] = {}
        program = with_states(parse(config.init), config.states)
        analysis = analyse(program)
        first = self._record(0, program, analysis.key)
        self.births.append(Birth(0, 0, None, "initial", analysis))
        self.champion = Champion(first)
        self.champions = [self.champion]
        self.tests: list[Test] = []
        self._initial = Individual(0, program, first)
        self._leader = first
        self._population = self._population_of(self._initial)
        self._space: Space | None = None
        self._waiting: dict[str, list[Individual]] = {}
        self._wanted: deque[tuple[str, Record, Seed]] = deque()
        self._to_confirm: deque[tuple[str, Record, Seed]] = deque()
        self._injected: deque[tuple[int, Program]] = deque()
        self._requests = 0
        self._next_fresh = Counter[Stream]()
        self._met: set[tuple[str, Seed]] = set()
        self._test: Test | None = None
        self._failed: set[str] = set()
        if config.tune_first:
            self._tune(self._initial)
        self._want_again(first)

    @property
    def next_request(self) -> int:
        """The number of the next request."""
        return self._requests + 1

    @property
    def trainings(self) -> int:
        """Trainings told so far, and the baseline's: one for each task and seed among them."""
        return self.counts.measurements + len(self._met)

    def inject(self, number: int, program: Program) -> None:
        """Makes `program` the next child; `number` is the injection's own."""
        self._injected.append((number, with_states(program, self.config.states)))

    def ask(self, programs: int | None = None, trainings: int | None = None) -> Request | None:
        """The next measurement to make; None at a limit.

        What champions and tests still need is asked for even then.

        Args:
            programs: no more are generated.
            trainings: once so many have been told no more programs are generated.
        """
        number = self._requests + 1
        rng = np.random.Generator(np.random.Philox(key=[self.config.seed, number]))
        ended = _reached(self.counts.generated, programs) or _reached(self.trainings, trainings)
        request = self._wanted_request(number, ended) if ended or number % 2 == 0 else None
        if request is None and not ended:
            request = self._child_request(number, rng, programs)
            ended = request is None
            request = request or self._wanted_request(number, ended)
        if ended and self.limited_from is None:
            self.limited_from = number
        if request is not None:
            self._requests = number
        return request

    def tell(self, request: Request, scores: Mapping[str, float]) -> None:
        """Takes the scores, by task, that `request` asked for; requests are told in order.

        A task that is missing was spared by hurdle or race and counts as the worst score.
        """
        record, seed = request.record, request.seed
        record.asked.discard(seed)
        record.add(seed, {t: scores.get(t, -LARGEST_SCORE) for t in self.config.tasks})
        self.counts.measurements += len(scores)
        self._met.update((task, seed) for task in scores)
        for individual in self._waiting.pop(record.key, ()):
            self._join(individual)
        if seed.stream is Stream.TEST:
            self._advance_test()
        elif seed.stream is Stream.SEARCH:
            self._consider(record)
        elif record is self.champion.record and min(record.scores[seed].values()) <= -LARGEST_SCORE:
            self._depose()

    def _wanted_request(self, number: int, ended: bool) -> Request | None:
        """What tests need; now and then, and when there is nothing else, what confirms."""
        confirm = number % CONFIRM_EVERY == 0 or (ended and not self._wanted)
        queue = self._to_confirm if confirm and self._to_confirm else self._wanted
        return Request(number, *queue.popleft()) if queue else None

    def _child_request(
        self, number: int, rng: np.random.Generator, programs: int | None
    ) -> Request | None:
        """Children until one needs a measurement; children that are known join at once."""
        for _ in range(MAX_HITS_IN_A_ROW):
            if _reached(self.counts.generated, programs):
                return None
            self._restart_if_due()
            individual, known = self._child(number, rng)
            if not known:
                self.counts.evaluated += 1
                seed = self._search_seed(individual.record, number)
                self._waiting[individual.record.key] = [individual]
                individual.record.asked.add(seed)
                return Request(number, "child", individual.record, seed, self._race_floors())
            self.counts.cache_hits += 1
            if individual.record.key in self._waiting:
                self._waiting[individual.record.key].append(individual)
                continue
            self._join(individual)
            if self._looks_good(individual.record):
                return self._again_request(number, individual.record)
        drawn = self._population[int(rng.integers(len(self._population)))]
        return self._again_request(number, drawn.record)

    def _child(self, number: int, rng: np.random.Generator) -> tuple[Individual, bool]:
        injection: int | None = None
        if self._injected:
            injection, program = self._injected.popleft()
            child = Child(analyse(program), f"injected {injection}", Counter())
            parent: int | None = None
        else:
            parent, child = self._tuned(self._space, rng) if self._space else self._mutated(rng)
        self.counts.generated += 1
        analysis = child.analysis
        program = analysis.program
        record = self.records.get(analysis.key)
        known = record is not None
        if record is None:
            record = self._record(self.counts.generated, program, analysis.key)
        self.counts.invalid += child.rejects.total()
        self.counts.statements += len(program.statements)
        self.counts.live_statements += len(analysis.live_statements)
        self.births.append(
            Birth(
                self.counts.generated,
                number,
                parent,
                child.mutation,
                analysis,
                child.rejects,
                injection,
            )
        )
        return Individual(self.counts.generated, program, record), known

    def _mutated(self, rng: np.random.Generator) -> tuple[int, Child]:
        chosen = self._tournament(rng)
        return chosen.id, mutate(chosen.program, rng, self.config.mutation)

    def _tuned(self, space: Space, rng: np.random.Generator) -> tuple[int | None, Child]:
        # Most are drawn from many parents; the best of them stands for all.
        tried = self._tried(space)
        program = space.draw([one.program for one in tried], rng)
        return tried[0].id if tried else None, Child(analyse(program), "tune constants", Counter())

    def _tried(self, space: Space) -> list[Individual]:
        """Those of the population that differ in constants alone, the best first."""
        tried = [one for one in self._population if space.holds(one.program)]
        return sorted(tried, key=self._worth, reverse=True)

    def _record(self, number: int, program: Program, key: str) -> Record:
        record = Record(number, program, key, self.config.measurement.largest_gain)
        self.records[key] = record
        return record

    def _tournament(self, rng: np.random.Generator) -> Individual:
        population = self._population
        drawn = [
            population[int(rng.integers(len(population)))] for _ in range(self.config.tournament)
        ]
        return max(drawn, key=self._worth)

    def _worth(self, individual: Individual) -> float:
        return individual.record.cautious_estimate(self.config.measurement.noise_floor)

    def _restart_if_due(self) -> None:
        """Now and then the population is another: one program alone, to go on from or to tune."""
        generated, every = self.counts.generated, self.config.restart_every
        if generated == self.config.tune_first > 0:
            self._initial = self._best()
            self._begin(self._population_of(self._initial))
        if every is None or generated == 0:
            return
        if generated % every == 0:
            start = self._initial
            if self.config.restart_from == "best":
                champion = self.champion.record
                start = Individual(champion.id, champion.program, champion)
            self._begin(self._population_of(start))
        elif generated % every == every - self.config.tune_last:
            best = self._best()
            self._tune(replace(best, program=live(best.program)))

    def _population_of(self, start: Individual) -> deque[Individual]:
        return deque([start] * self.config.population, self.config.population)

    def _best(self) -> Individual:
        return max(self._population, key=self._worth)

    def _tune(self, start: Individual) -> None:
        """From here on `start` with other constants, one on its learning rate among them."""
        rated = with_step_size_of(start.program, start.program)
        fits = len(rated.statements) <= self.config.mutation.max_statements
        space = Space(rated if fits else start.program)
        if len(space):
            self._begin(deque([replace(start, program=space.program)], TUNED_POPULATION), space)

    def _begin(self, population: deque[Individual], space: Space | None = None) -> None:
        """From here on with `population`; what is still measured does not join it."""
        self._population = population
        self._space = space
        self._leader = population[0].record
        for individuals in self._waiting.values():
            individuals.clear()

    def _join(self, individual: Individual) -> None:
        noise_floor = self.config.measurement.noise_floor
        if self._worth(individual) > self._leader.cautious_estimate(noise_floor):
            self._leader = individual.record
        self._population.append(individual)

    def _race_floors(self) -> dict[str, float] | None:
        """What a new program's scores may not sum up to less than after each task.

        The rival's own sum there, less what the race allows for the mean over all tasks; None
        until there is a rival, and it is measured.
        """
        limits = self.config.measurement
        rival = self._rival()
        if limits.race is None or rival is None or not rival.search_scores():
            return None
        means = rival.task_means()
        mean = sum(means.values()) / len(means)
        allowed = limits.race + mean - rival.cautious_estimate(limits.noise_floor)
        sums = np.cumsum([means[task] for task in self.config.tasks]) - len(means) * allowed
        return dict(zip(self.config.tasks, sums.tolist(), strict=True))

    def _rival(self) -> Record | None:
        """What new programs race: the best since the last restart.

        Or, while constants are tuned, the last of those that more are drawn from.
        """
        if self._space is None:
            return self._leader
        elite = self._tried(self._space)[:ELITE]
        return elite[-1].record if len(elite) == ELITE else None

    def _search_seed(self, record: Record, number: int) -> Seed:
        """The current seed, or the first after it that `record` has not been asked on.

        All programs that are new at one time meet the same seed: common random numbers.
        """
        index = number // self.config.measurement.requests_per_seed
        while True:
            seed = Seed(Stream.SEARCH, index)
            if seed not in record.asked and seed not in record.scores:
                return seed
            index += 1

    def _again_request(self, number: int, record: Record) -> Request:
        seed = self._search_seed(record, number)
        record.asked.add(seed)
        return Request(number, "again", record, seed)

    def _want_again(self, record: Record) -> None:
        seed = self._search_seed(record, self._requests)
        record.asked.add(seed)
        self._wanted.append(("again", record, seed))

    def _looks_good(self, record: Record) -> bool:
        """Whether `record` is above the cautious estimate of the best since the last restart.

        And whether it has seeds left to be tried on.
        """
        limits = self.config.measurement
        tried = len(record.search_scores()) + len(record.asked)
        if tried >= limits.max_seeds or record.asked:
            return False
        return record.mean() > self._leader.cautious_estimate(limits.noise_floor)

    def _consider(self, record: Record) -> None:
        """After a measurement in the search: measure again, or challenge the champion."""
        if record is self.champion.record or record.key in self._failed:
            return
        limits = self.config.measurement
        measured = len(record.search_scores())
        if self._looks_good(record) and measured < limits.challenge_seeds:
            self._want_again(record)
        due = measured >= max(limits.challenge_seeds, 2 * record.measured_at_last_test)
        if (
            self._test is None
            and due
            and record.promises_more_than(
                self.champion.record, limits.challenge_seeds, limits.noise_floor
            )
        ):
            self._start_test(record)

    def _start_test(self, challenger: Record) -> None:
        challenger.measured_at_last_test = len(challenger.search_scores())
        first = self.config.measurement.test_seeds
        test = Test(len(self.tests) + 1, challenger, self.champion.record, (), first)
        self._test = test
        self.tests.append(test)
        self._extend(test, first)

    def _extend(self, test: Test, count: int) -> None:
        seeds = self._fresh(Stream.TEST, count)
        test.seeds += seeds
        for seed in seeds:
            self._want("test", test.challenger, seed)
            self._want("test", test.defender, seed)

    def _fresh(self, stream: Stream, count: int) -> tuple[Seed, ...]:
        """Seeds that nothing has been measured on."""
        start = self._next_fresh[stream]
        self._next_fresh[stream] += count
        return tuple(Seed(stream, start + i) for i in range(count))

    def _want(self, reason: str, record: Record, seed: Seed) -> None:
        record.asked.add(seed)
        self._wanted.append((reason, record, seed))

    def _advance_test(self) -> None:
        test = self._test
        if test is None:
            return
        if not test.decide(self.config.measurement.error_rate):
            if test.wants:
                self._extend(test, test.wants)
            return
        self._close(test)
        if test.won:
            self._to_confirm.clear()
            seeds = self._fresh(Stream.CONFIRM, self.config.measurement.confirm_seeds)
            self.champion = Champion(test.challenger, test, seeds)
            self.champions.append(self.champion)
            self._confirm(self.champion)

    def _close(self, test: Test) -> None:
        """The open test has its verdict; what it still wanted is not measured."""
        self._test = None
        self._wanted = deque(item for item in self._wanted if item[0] != "test")
        for record in (test.challenger, test.defender):
            record.asked -= set(test.seeds)

    def _confirm(self, champion: Champion) -> None:
        """Wants what is left of the champion's confirming seeds."""
        record = champion.record
        left = [seed for seed in champion.confirmed_on if seed not in record.scores]
        self._to_confirm.extend(("confirm", record, seed) for seed in left)

    def _depose(self) -> None:
        """The champion before is champion again, for the present one fails on some seeds.

        A test of a dozen seeds does not see a program that diverges on one in twenty.
        """
        self._failed.add(self.champion.record.key)
        if self._test is not None:
            self._test.won = False
            self._close(self._test)
        self._to_confirm.clear()
        self.champion = replace(self.champions[-2], test=None)
        self.champions.append(self.champion)
        self._confirm(self.champion)


def _reached(count: int, limit: int | None) -> bool:
    return limit is not None and count >= limit
