"""Regularized evolution as a pure state machine: `ask` returns a request, `tell` takes its scores.

The population starts as copies of the initial program. Each step draws a tournament, mutates the
winner, appends the child to the population and removes the oldest member (Real et al. 2019, arXiv
1802.01548; Chen et al. 2023, arXiv 2302.06675). If configured, the constants of the initial program
are tuned first, and the population restarts at intervals from the initial program or the champion.
The constants of the population's best program are tuned before each restart. Records of programs
survive restarts.

Every measurement is a numbered request. Request n depends only on a generator keyed by (run seed,
n) and on the results of requests 1 .. n - in_flight. So the number of workers and the clock do not
change a search, and a search can be replayed from its results.

Three rules prevent the selection of lucky programs (docs/measurement.md):

- A promising program is measured again on new seeds, and new programs get the next seed at
  intervals.
- A challenger is tested against the champion on seeds that only this test uses. The error rate of
  all tests is bounded over the run.
- A champion's reported fitness comes from confirming seeds. Confirming seeds make only one
  decision: a champion that diverges on a confirming seed is replaced by the previous champion.
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
    """A program in the population.

    Attributes:
        id: number of the program.
        program: the program.
        record: the record of the program's semantic key.
    """

    id: int
    program: Program
    record: Record


@dataclass(frozen=True)
class Request:
    """A request to measure a program on one seed of all tasks.

    Attributes:
        number: number of the request, from 1.
        reason: `child` for a new program, `again` for another search seed of a promising program,
            `test` or `confirm`.
        record: record of the program.
        seed: the seed.
        min_totals: for a race, the minimum sum of scores after each task; a program with a lower
            sum skips the remaining tasks. None for no race.
    """

    number: int
    reason: str
    record: Record
    seed: Seed
    min_totals: Mapping[str, float] | None = None

    @property
    def program(self) -> Program:
        """The program to measure."""
        return self.record.program


@dataclass(frozen=True)
class Birth:
    """A generated program, as the store records it.

    Attributes:
        id: number of the program; 0 is the initial program.
        request: number of the request for which it was generated.
        parent: number of the parent; None if the program has no parent.
        mutation: description of the mutation; `initial` for the initial program.
        analysis: the program with its kinds and semantic key.
        rejects: number of rejected drafts by kind of edit.
        injection: number of the injection; None if the program was not injected.
    """

    id: int
    request: int
    parent: int | None
    mutation: str
    analysis: Analysis
    rejects: Counter[str] = field(default_factory=Counter)
    injection: int | None = None


@dataclass
class Counts:
    """Counts of a search.

    Attributes:
        generated: generated programs, without the initial one.
        invalid: rejected drafts.
        cache_hits: generated programs with the semantic key of an earlier program.
        evaluated: generated programs with a new semantic key.
        measurements: measurements on one task and seed.
        statements: statements of all generated programs.
        live_statements: statements of all generated programs that affect the program's update.
    """

    generated: int = 0
    invalid: int = 0
    cache_hits: int = 0
    evaluated: int = 0
    measurements: int = 0
    statements: int = 0
    live_statements: int = 0


class Evolution:
    """A search without side effects.

    Args:
        config: configuration of the search.

    Attributes:
        counts: counts so far.
        births: programs generated since the caller last cleared the list.
        records: records by semantic key.
        champion: the current champion, at first the initial program.
        champions: all champions in order. A champion that failed on a confirming seed is followed
            by the previous champion, whose entry then has no test.
        tests: all tests in order.
        limited_from: number of the first request at which a limit was reached; None before then.

    Example:
        >>> import evosearch
        >>> from primitives import zoo
        >>> settings = {"tasks": ["points-teacher"], "init": str(zoo.load("adamw_paper"))}
        >>> evolution = evosearch.Evolution(evosearch.make_config(settings))
        >>> request = evolution.ask()
        >>> evolution.tell(request, {"points-teacher": 0.0})
        >>> evolution.counts.measurements
        1
    """

    def __init__(self, config: Config):
        self.config = config
        self.counts = Counts()
        self.births: list[Birth] = []
        self.limited_from: int | None = None
        self.records: dict[str, Record] = {}
        program = with_states(parse(config.init), config.states)
        analysis = analyse(program)
        first = self._add_record(0, program, analysis.key)
        self.births.append(Birth(0, 0, None, "initial", analysis))
        self.champion = Champion(first)
        self.champions = [self.champion]
        self.tests: list[Test] = []
        self._initial = Individual(0, program, first)
        self._best_since_restart = first
        self._population = self._population_of(self._initial)
        self._space: Space | None = None
        self._unmeasured: dict[str, list[Individual]] = {}  # by semantic key
        self._queue: deque[tuple[str, Record, Seed]] = deque()
        self._confirmation_queue: deque[tuple[str, Record, Seed]] = deque()
        self._injected: deque[tuple[int, Program]] = deque()
        self._requests = 0
        self._next_fresh = Counter[Stream]()
        self._baseline_trainings: set[tuple[str, Seed]] = set()
        self._test: Test | None = None
        self._failed_keys: set[str] = set()
        if config.tune_first:
            self._start_tuning(self._initial)
        self._enqueue_again(first)

    @property
    def next_request(self) -> int:
        """Number of the next request."""
        return self._requests + 1

    @property
    def trainings(self) -> int:
        """Number of trainings so far, including one of the baseline for each task and seed."""
        return self.counts.measurements + len(self._baseline_trainings)

    def inject(self, number: int, program: Program) -> None:
        """Make `program` the next child.

        Args:
            number: number of the injection.
            program: the program.
        """
        self._injected.append((number, with_states(program, self.config.states)))

    def ask(self, programs: int | None = None, trainings: int | None = None) -> Request | None:
        """Return the next request; None if a limit is reached and no measurement is left.

        After a limit, the requests of the open test and of confirmations still follow.

        Args:
            programs: maximum number of generated programs; None means unlimited.
            trainings: number of trainings after which no program is generated; None means
                unlimited.
        """
        number = self._requests + 1
        rng = np.random.Generator(np.random.Philox(key=[self.config.seed, number]))
        is_limited = _is_reached(self.counts.generated, programs)
        is_limited = is_limited or _is_reached(self.trainings, trainings)
        request = None
        if is_limited or number % 2 == 0:
            request = self._queued_request(number, is_limited)
        if request is None and not is_limited:
            request = self._child_request(number, rng, programs)
            is_limited = request is None
            request = request or self._queued_request(number, is_limited)
        if is_limited and self.limited_from is None:
            self.limited_from = number
        if request is not None:
            self._requests = number
        return request

    def tell(self, request: Request, scores: Mapping[str, float]) -> None:
        """Process the scores of a request; call `tell` in the order of the requests' numbers.

        Args:
            request: the request.
            scores: scores by task; a task that a hurdle or race skipped is missing and counts as
                the worst score.
        """
        record, seed = request.record, request.seed
        record.pending.discard(seed)
        record.add(seed, {t: scores.get(t, -LARGEST_SCORE) for t in self.config.tasks})
        self.counts.measurements += len(scores)
        self._baseline_trainings.update((task, seed) for task in scores)
        for individual in self._unmeasured.pop(record.key, ()):
            self._add_to_population(individual)
        if seed.stream is Stream.TEST:
            self._advance_test()
        elif seed.stream is Stream.SEARCH:
            self._measure_again_or_test(record)
        elif record is self.champion.record and min(record.scores[seed].values()) <= -LARGEST_SCORE:
            self._restore_previous_champion()

    def _queued_request(self, number: int, is_limited: bool) -> Request | None:
        """Return the next queued request.

        Confirmations come first every `CONFIRM_EVERY` requests, and when a limit is reached and no
        other request is queued.
        """
        confirms_first = number % CONFIRM_EVERY == 0 or (is_limited and not self._queue)
        use_confirmations = confirms_first and self._confirmation_queue
        queue = self._confirmation_queue if use_confirmations else self._queue
        return Request(number, *queue.popleft()) if queue else None

    def _child_request(
        self, number: int, rng: np.random.Generator, programs: int | None
    ) -> Request | None:
        """Generate children until a child needs a measurement, and return the request for it.

        Children with the semantic key of an earlier program join the population at once.
        """
        for _ in range(MAX_HITS_IN_A_ROW):
            if _is_reached(self.counts.generated, programs):
                return None
            self._restart_if_due()
            individual, is_known = self._generate(number, rng)
            if not is_known:
                self.counts.evaluated += 1
                seed = self._search_seed(individual.record, number)
                self._unmeasured[individual.record.key] = [individual]
                individual.record.pending.add(seed)
                return Request(number, "child", individual.record, seed, self._min_totals())
            self.counts.cache_hits += 1
            if individual.record.key in self._unmeasured:
                self._unmeasured[individual.record.key].append(individual)
                continue
            self._add_to_population(individual)
            if self._is_promising(individual.record):
                return self._repeated_request(number, individual.record)
        drawn = self._population[int(rng.integers(len(self._population)))]
        return self._repeated_request(number, drawn.record)

    def _generate(self, number: int, rng: np.random.Generator) -> tuple[Individual, bool]:
        """Return a new child, and whether an earlier program has the same semantic key."""
        injection: int | None = None
        if self._injected:
            injection, program = self._injected.popleft()
            child = Child(analyse(program), f"injected {injection}", Counter())
            parent: int | None = None
        else:
            space = self._space
            parent, child = self._tuned_child(space, rng) if space else self._mutated_child(rng)
        self.counts.generated += 1
        analysis = child.analysis
        program = analysis.program
        record = self.records.get(analysis.key)
        is_known = record is not None
        if record is None:
            record = self._add_record(self.counts.generated, program, analysis.key)
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
        return Individual(self.counts.generated, program, record), is_known

    def _mutated_child(self, rng: np.random.Generator) -> tuple[int, Child]:
        """Return the parent's number and a child by mutation."""
        parent = self._tournament(rng)
        return parent.id, mutate(parent.program, rng, self.config.mutation)

    def _tuned_child(self, space: Space, rng: np.random.Generator) -> tuple[int | None, Child]:
        """Return the parent's number and a child with other constants.

        The child is drawn from up to `ELITE` programs; the best of them is recorded as the parent.
        """
        best_first = self._members_of(space)
        program = space.draw([individual.program for individual in best_first], rng)
        parent = best_first[0].id if best_first else None
        return parent, Child(analyse(program), "tune constants", Counter())

    def _members_of(self, space: Space) -> list[Individual]:
        """Return the population's programs that differ in constants only, the best first."""
        members = [individual for individual in self._population if individual.program in space]
        return sorted(members, key=self._estimate, reverse=True)

    def _add_record(self, number: int, program: Program, key: str) -> Record:
        record = Record(number, program, key, self.config.measurement.largest_gain)
        self.records[key] = record
        return record

    def _tournament(self, rng: np.random.Generator) -> Individual:
        population = self._population
        drawn = [
            population[int(rng.integers(len(population)))] for _ in range(self.config.tournament)
        ]
        return max(drawn, key=self._estimate)

    def _estimate(self, individual: Individual) -> float:
        return individual.record.cautious_estimate(self.config.measurement.noise_floor)

    def _restart_if_due(self) -> None:
        """Restart the population, or start or finish tuning constants, if due."""
        generated, period = self.counts.generated, self.config.restart_every
        if generated == self.config.tune_first > 0:
            self._initial = self._best()
            self._set_population(self._population_of(self._initial))
        if period is None or generated == 0:
            return
        if generated % period == 0:
            start = self._initial
            if self.config.restart_from == "best":
                champion = self.champion.record
                start = Individual(champion.id, champion.program, champion)
            self._set_population(self._population_of(start))
        elif generated % period == period - self.config.tune_last:
            best = self._best()
            self._start_tuning(replace(best, program=live(best.program)))

    def _population_of(self, start: Individual) -> deque[Individual]:
        """Return a population of copies of one individual."""
        return deque([start] * self.config.population, self.config.population)

    def _best(self) -> Individual:
        return max(self._population, key=self._estimate)

    def _start_tuning(self, start: Individual) -> None:
        """Tune the constants of `start` from the next child on.

        If the program has no constant factor on the learning rate and room for a statement, such a
        factor is inserted.
        """
        with_lr_factor = with_step_size_of(start.program, start.program)
        fits = len(with_lr_factor.statements) <= self.config.mutation.max_statements
        space = Space(with_lr_factor if fits else start.program)
        if len(space):
            population = deque([replace(start, program=space.program)], TUNED_POPULATION)
            self._set_population(population, space)

    def _set_population(self, population: deque[Individual], space: Space | None = None) -> None:
        """Replace the population; children that are still being measured will not join it."""
        self._population = population
        self._space = space
        self._best_since_restart = population[0].record
        for individuals in self._unmeasured.values():
            individuals.clear()

    def _add_to_population(self, individual: Individual) -> None:
        """Append a measured individual to the population."""
        noise_floor = self.config.measurement.noise_floor
        if self._estimate(individual) > self._best_since_restart.cautious_estimate(noise_floor):
            self._best_since_restart = individual.record
        self._population.append(individual)

    def _min_totals(self) -> dict[str, float] | None:
        """Return the minimum sum of a new program's scores after each task; None for no race.

        A program is dropped if it would stay more than `race` below the rival's cautious estimate
        even with the rival's mean scores on the remaining tasks. After the k-th of n tasks the
        minimum is, with the rival's mean score m_i of task i and cautious estimate c,

            m_1 + ... + m_k - n (race + mean(m) - c)
        """
        settings = self.config.measurement
        rival = self._rival()
        if settings.race is None or rival is None or not rival.search_scores():
            return None
        means = rival.task_means()
        mean = sum(means.values()) / len(means)
        margin = settings.race + mean - rival.cautious_estimate(settings.noise_floor)
        sums = np.cumsum([means[task] for task in self.config.tasks]) - len(means) * margin
        return dict(zip(self.config.tasks, sums.tolist(), strict=True))

    def _rival(self) -> Record | None:
        """Return the record that new programs race against; None if there is none.

        The rival is the best program since the last restart or, while constants are tuned,
        the worst of the `ELITE` programs from which new constants are drawn.
        """
        if self._space is None:
            return self._best_since_restart
        elite = self._members_of(self._space)[:ELITE]
        return elite[-1].record if len(elite) == ELITE else None

    def _search_seed(self, record: Record, number: int) -> Seed:
        """Return the first search seed, from the current one on, that is new to `record`.

        New programs of the same `requests_per_seed` requests share a seed (common random numbers).
        """
        index = number // self.config.measurement.requests_per_seed
        while True:
            seed = Seed(Stream.SEARCH, index)
            if seed not in record.pending and seed not in record.scores:
                return seed
            index += 1

    def _repeated_request(self, number: int, record: Record) -> Request:
        seed = self._search_seed(record, number)
        record.pending.add(seed)
        return Request(number, "again", record, seed)

    def _enqueue_again(self, record: Record) -> None:
        self._enqueue("again", record, self._search_seed(record, self._requests))

    def _is_promising(self, record: Record) -> bool:
        """Whether to measure `record` on another search seed.

        The record's mean must be above the cautious estimate of the best program since the last
        restart. The record must have fewer than `max_seeds` seeds, and no measurement under way.
        """
        settings = self.config.measurement
        measured = len(record.search_scores())
        if measured >= settings.max_seeds or record.pending:
            return False
        return record.mean() > self._best_since_restart.cautious_estimate(settings.noise_floor)

    def _measure_again_or_test(self, record: Record) -> None:
        """After a score on a search seed, measure a promising `record` again or test it."""
        if record is self.champion.record or record.key in self._failed_keys:
            return
        settings = self.config.measurement
        measured = len(record.search_scores())
        if self._is_promising(record) and measured < settings.challenge_seeds:
            self._enqueue_again(record)
        has_enough_seeds = measured >= max(
            settings.challenge_seeds, 2 * record.measured_at_last_test
        )
        if (
            self._test is None
            and has_enough_seeds
            and record.looks_better_than(
                self.champion.record, settings.challenge_seeds, settings.noise_floor
            )
        ):
            self._start_test(record)

    def _start_test(self, challenger: Record) -> None:
        challenger.measured_at_last_test = len(challenger.search_scores())
        stage_size = self.config.measurement.test_seeds
        test = Test(len(self.tests) + 1, challenger, self.champion.record, (), stage_size)
        self._test = test
        self.tests.append(test)
        self._extend_test(test, stage_size)

    def _extend_test(self, test: Test, count: int) -> None:
        seeds = self._fresh_seeds(Stream.TEST, count)
        test.seeds += seeds
        for seed in seeds:
            self._enqueue("test", test.challenger, seed)
            self._enqueue("test", test.defender, seed)

    def _fresh_seeds(self, stream: Stream, count: int) -> tuple[Seed, ...]:
        """Return seeds of a stream on which no program has been measured."""
        start = self._next_fresh[stream]
        self._next_fresh[stream] += count
        return tuple(Seed(stream, start + i) for i in range(count))

    def _enqueue(self, reason: str, record: Record, seed: Seed) -> None:
        record.pending.add(seed)
        self._queue.append((reason, record, seed))

    def _advance_test(self) -> None:
        """Decide the open test or extend it by a stage; a challenger that wins becomes champion."""
        test = self._test
        if test is None:
            return
        if not test.decide(self.config.measurement.error_rate):
            if test.missing_seeds:
                self._extend_test(test, test.missing_seeds)
            return
        self._close_test(test)
        if test.won:
            self._confirmation_queue.clear()
            seeds = self._fresh_seeds(Stream.CONFIRM, self.config.measurement.confirm_seeds)
            self.champion = Champion(test.challenger, test, seeds)
            self.champions.append(self.champion)
            self._confirm(self.champion)

    def _close_test(self, test: Test) -> None:
        """Close the open test and cancel its queued measurements."""
        self._test = None
        self._queue = deque(item for item in self._queue if item[0] != "test")
        for record in (test.challenger, test.defender):
            record.pending -= set(test.seeds)

    def _confirm(self, champion: Champion) -> None:
        """Queue measurements on the confirming seeds that the champion has not been measured on."""
        record = champion.record
        missing = [seed for seed in champion.confirming_seeds if seed not in record.scores]
        self._confirmation_queue.extend(("confirm", record, seed) for seed in missing)

    def _restore_previous_champion(self) -> None:
        """Replace a champion that diverged on a confirming seed by the previous champion.

        A test of a dozen seeds does not detect a program that diverges on one seed in twenty.
        """
        self._failed_keys.add(self.champion.record.key)
        if self._test is not None:
            self._test.won = False
            self._close_test(self._test)
        self._confirmation_queue.clear()
        self.champion = replace(self.champions[-2], test=None)
        self.champions.append(self.champion)
        self._confirm(self.champion)


def _is_reached(count: int, limit: int | None) -> bool:
    return limit is not None and count >= limit
