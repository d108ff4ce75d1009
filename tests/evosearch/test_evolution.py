"""Tests of `Evolution` with scores that are computed from the program, without training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evosearch.evolution.constants import constants, have_equal_structure
from evosearch.evolution.evolution import Evolution, Request
from evosearch.fixed import ELITE
from evosearch.seeds import Seed, Stream
from evosearch.statistics import LARGEST_SCORE
from primitives import Program, analyse, live, zoo
from tests.evosearch.stored_runs import (
    NOISE_STD,
    config,
    evolve,
    measure,
    short_with_signs_is_better,
)


def test_only_the_same_seed_gives_the_same_search() -> None:
    first, same_seed, other_seed = (Evolution(config(seed=seed)) for seed in (1, 1, 2))
    for evolution in (first, same_seed, other_seed):
        evolve(evolution, 400, short_with_signs_is_better)
    assert programs_of(first) == programs_of(same_seed)
    assert programs_of(first) != programs_of(other_seed)


def programs_of(evolution: Evolution) -> list[Program]:
    """Return all generated programs, the initial one first."""
    return [birth.analysis.program for birth in evolution.births]


RESTART_SETTINGS: list[dict[str, object]] = [
    {},
    {"restart_every": 60},
    {"restart_every": 45, "restart_from": "best"},
    {"restart_every": 60, "tune_first": 20, "tune_last": 25},
]


@settings(max_examples=15)
@given(st.integers(1, 300), st.integers(0, 5), st.sampled_from(RESTART_SETTINGS))
def test_a_search_that_begins_with_stored_scores_equals_the_uninterrupted_search(
    stored_requests: int, seed: int, restart_settings: dict[str, object]
) -> None:
    """The scores of the first requests are stored, so only later requests are measured."""
    uninterrupted = Evolution(config(seed=seed, **restart_settings))
    requests = evolve(uninterrupted, 200, short_with_signs_is_better)
    stored_scores = {
        (request.record.key, request.seed): measure(request, short_with_signs_is_better, NOISE_STD)
        for request in requests[:stored_requests]
    }
    resumed = Evolution(config(seed=seed, **restart_settings))
    measured_requests = 0
    open_requests: list[Request] = []
    while True:
        while len(open_requests) < resumed.config.in_flight and (request := resumed.ask(200)):
            open_requests.append(request)
        if not open_requests:
            break
        request = open_requests.pop(0)
        scores = stored_scores.pop((request.record.key, request.seed), None)
        if scores is None:
            scores = measure(request, short_with_signs_is_better, NOISE_STD)
            measured_requests += 1
        resumed.tell(request, scores)
    assert not stored_scores
    assert measured_requests == max(0, len(requests) - stored_requests)
    assert programs_of(resumed) == programs_of(uninterrupted)
    assert resumed.champion.record.id == uninterrupted.champion.record.id


@pytest.mark.parametrize("restart_settings", RESTART_SETTINGS)
def test_a_search_of_more_programs_begins_with_the_programs_of_the_shorter_search(
    restart_settings: dict[str, object],
) -> None:
    long = Evolution(config(**restart_settings))
    evolve(long, 600, short_with_signs_is_better)
    short = Evolution(config(**restart_settings))
    evolve(short, 300, short_with_signs_is_better)
    initial_and_generated = 1 + 300
    assert programs_of(short)[:initial_and_generated] == programs_of(long)[:initial_and_generated]


def test_a_search_limited_by_trainings_is_the_beginning_of_the_longer_search() -> None:
    """At the limit, the search generates no more programs.

    It finishes the open comparison of a challenger with the champion.
    """
    long = Evolution(config())
    evolve(long, None, short_with_signs_is_better, trainings=700)
    short = Evolution(config())
    requests = evolve(short, None, short_with_signs_is_better, trainings=400)
    programs = programs_of(short)
    assert programs == programs_of(long)[: len(programs)]
    assert 100 < len(programs) < len(long.births)
    # When the last program was generated, evolution had been told the results of the requests up to
    # `last_complete`; later ones were in flight.
    last_complete = short.births[-1].request - short.config.in_flight
    complete_requests = [request for request in requests if request.number <= last_complete]
    seeds = {request.seed for request in complete_requests}
    # On two tasks, each request trains a program, and each new seed also trains the baseline.
    trainings = 2 * (len(complete_requests) + len(seeds))
    # A request trains at most a program and the baseline on two tasks: 4 trainings. Every second
    # request can generate a program, so at most two requests end between the last program and the
    # limit.
    max_trainings_of_two_requests = 2 * 4
    assert 400 - max_trainings_of_two_requests <= trainings < 400 <= short.trainings


def ancestor_before(evolution: Evolution, first_id: int, program_id: int) -> int:
    """Return the id of the closest ancestor of a program whose id is less than `first_id`."""
    parents = {birth.id: birth.parent for birth in evolution.births}
    while program_id >= first_id:
        parent = parents[program_id]
        assert parent is not None
        program_id = parent
    return program_id


def test_after_a_restart_all_programs_descend_from_the_initial_program() -> None:
    evolution = Evolution(config(restart_every=200))
    evolve(evolution, 600, short_with_signs_is_better)
    for birth in evolution.births[1:]:
        last_before_restart = 200 * ((birth.id - 1) // 200)
        assert ancestor_before(evolution, last_before_restart + 1, birth.id) == 0
    without_restarts = Evolution(config())
    evolve(without_restarts, 600, short_with_signs_is_better)
    later_births = without_restarts.births[401:]
    assert any(ancestor_before(without_restarts, 401, birth.id) != 0 for birth in later_births)


def test_after_a_restart_from_the_best_all_programs_descend_from_the_champion() -> None:
    evolution = Evolution(config(seed=4, restart_every=400, restart_from="best"))
    evolve(evolution, 1200, short_with_signs_is_better)
    champions = {champion.record.id for champion in evolution.champions}
    ancestors = []
    for last_before_restart in (400, 800):
        first_id = last_before_restart + 1
        ids = range(first_id, first_id + 400)
        (ancestor,) = {ancestor_before(evolution, first_id, program_id) for program_id in ids}
        ancestors.append(ancestor)
    assert set(ancestors) <= champions
    assert len(set(ancestors)) > 1


def test_tune_last_changes_only_constants_of_the_best_program() -> None:
    """A generation generates 300 programs by all mutations, and then 100 by tuning the best one."""

    def true_score(program: Program) -> float:
        return short_with_signs_is_better(program) if constants(live(program)) else -1.0

    evolution = Evolution(config(seed=1, restart_every=400, tune_last=100))
    evolve(evolution, 1200, true_score)
    births = {birth.id: birth for birth in evolution.births}

    def mutations_of(ids: range) -> set[str]:
        return {births[program_id].mutation.split()[0] for program_id in ids}

    def estimate_of(program_id: int) -> float:
        record = evolution.records[births[program_id].analysis.key]
        return record.cautious_estimate(evolution.config.measurement.noise_floor)

    tuned_programs = set()
    for first_id in (1, 401, 801):
        first_tuned_id = first_id + 300
        tuned_ids = range(first_tuned_id, first_tuned_id + 100)
        assert mutations_of(range(first_id, first_tuned_id)) >= {"insert", "delete", "modify"}
        assert mutations_of(tuned_ids) == {"tune"}
        (best,) = {ancestor_before(evolution, first_tuned_id, tuned_id) for tuned_id in tuned_ids}
        population_ids = range(first_tuned_id - evolution.config.population, first_tuned_id)
        median = np.median([estimate_of(program_id) for program_id in population_ids])
        assert estimate_of(best) >= median
        tuned_programs.add(evolution.records[births[best].analysis.key].id)
    assert len(tuned_programs) > 1


def test_tune_first_changes_only_constants_of_the_initial_program() -> None:
    """The best value of the tuned constant, argument 2 of statement 1, is 0.5."""
    position = (1, 2)

    def distance_to_best(program: Program) -> float:
        return abs(constants(program).get(position, 1.0) - 0.5)

    evolution = Evolution(config(seed=1, restart_every=300, tune_first=100))
    evolve(evolution, 600, lambda program: -distance_to_best(program))
    initial = evolution.births[0].analysis.program
    for birth in evolution.births[1:101]:
        assert birth.mutation == "tune constants"
        assert have_equal_structure(birth.analysis.program, initial)
    later_births = evolution.births[101:]
    (tuned_id,) = {ancestor_before(evolution, 101, birth.id) for birth in later_births}
    tuned = evolution.births[tuned_id].analysis.program
    assert distance_to_best(tuned) < 0.1 < distance_to_best(initial)


def test_a_best_program_without_constants_is_not_tuned() -> None:
    settings = {
        "init": "def train(w, g):\n    update = g * g\n    return update",
        "restart_every": 40,
        "tune_last": 39,
    }
    evolution = Evolution(config(**settings, mutation={"constant": 0.0}))
    evolve(evolution, 80, short_with_signs_is_better)
    assert not any(birth.mutation.startswith("tune") for birth in evolution.births)


def test_a_restart_keeps_the_measurements_of_earlier_generations() -> None:
    """No program is measured twice on one seed, even if several generations generate it."""
    evolution = Evolution(config(restart_every=100))
    requests = evolve(evolution, 1500, short_with_signs_is_better)
    counts = Counter((request.record.key, request.seed) for request in requests)
    assert max(counts.values()) == 1
    assert all(record.scores for record in evolution.records.values())
    assert len(evolution.champions) > 1


def test_parents_are_better_than_average_only_if_tournaments_have_several_programs() -> None:
    """With tournaments of one, as in the baseline `random`, parents are drawn uniformly."""

    def mean_score_of_parents(tournament: int) -> float:
        evolution = Evolution(config(tournament=tournament, population=50))
        evolve(evolution, 1000, short_with_signs_is_better)
        programs = {birth.id: birth.analysis.program for birth in evolution.births}
        parents = [birth.parent for birth in evolution.births if birth.parent is not None]
        scores = [short_with_signs_is_better(programs[parent]) for parent in parents]
        return sum(scores) / len(scores)

    assert mean_score_of_parents(tournament=1) < mean_score_of_parents(tournament=2) - 0.1


def test_the_last_champion_is_better_than_the_initial_program() -> None:
    evolution = Evolution(config())
    evolve(evolution, 1500, short_with_signs_is_better)
    initial_score = short_with_signs_is_better(evolution.champions[0].record.program)
    assert len(evolution.champions) > 1
    assert short_with_signs_is_better(evolution.champion.record.program) > initial_score + 0.1


def test_on_pure_noise_few_searches_accept_a_new_champion() -> None:
    """All programs are equally good, so a search with a new champion is in error.

    The error rate is 5%, at which more than 7 errors in 60 have a probability below 2%.
    """
    errors = 0
    for seed in range(60):
        evolution = Evolution(config(seed=seed, in_flight=4))
        evolve(evolution, 250, lambda program: 0.0)
        errors += len(evolution.champions) > 1
    assert errors <= 7


def test_no_seed_measures_a_program_twice_or_belongs_to_two_challenges() -> None:
    evolution = Evolution(config())
    requests = evolve(evolution, 800, short_with_signs_is_better)
    counts = Counter((request.record.key, request.seed) for request in requests)
    assert max(counts.values()) == 1
    keys_by_fresh_seed: dict[object, set[str]] = {}
    for request in requests:
        if request.seed.stream is not Stream.SEARCH:
            keys_by_fresh_seed.setdefault(request.seed, set()).add(request.record.key)
    # A seed of a challenge measures the challenger and the champion.
    assert all(len(keys) <= 2 for keys in keys_by_fresh_seed.values())
    assert len(evolution.tests) > 1
    test_seeds = [seed for test in evolution.tests for seed in test.seeds]
    assert len(set(test_seeds)) == len(test_seeds)


def test_new_programs_are_measured_on_a_search_seed_that_advances_every_50_requests() -> None:
    evolution = Evolution(config(measurement={"requests_per_seed": 50}))
    requests = evolve(evolution, 800, short_with_signs_is_better)
    child_requests = [request for request in requests if request.reason == "child"]
    for request in child_requests:
        assert request.seed.number == request.number // 50
    assert len({request.seed.number for request in child_requests}) > 3


def test_promising_programs_are_measured_again_on_new_seeds() -> None:
    evolution = Evolution(config())
    requests = evolve(evolution, 800, short_with_signs_is_better)
    repeated = [request for request in requests if request.reason == "again"]
    assert len(repeated) > 20
    assert len(evolution.champion.record.search_scores()) >= 4


def test_only_new_programs_race_and_only_against_the_best_since_the_restart() -> None:
    evolution = Evolution(config(measurement={"race": 0.1}, restart_every=100))
    requests = evolve(evolution, 300, short_with_signs_is_better)
    min_totals = [request.min_totals for request in requests if request.reason == "child"]
    assert min_totals[0] is None  # the initial program is not measured yet
    assert all(request.min_totals is None for request in requests if request.reason != "child")
    sums_of_min_totals = [sum(by_task.values()) for by_task in min_totals if by_task is not None]
    assert len(sums_of_min_totals) > 50
    rises = sum(earlier < later for earlier, later in pairwise(sums_of_min_totals))
    falls = sum(earlier > later for earlier, later in pairwise(sums_of_min_totals))
    # A sum rises when a better program is found, and falls at a restart.
    assert rises > falls > 0


def test_a_program_that_ties_with_the_best_finishes_the_race() -> None:
    """A race stops a program if its sum of scores falls below a minimum.

    The minimum after each task is the best program's sum up to this task, less n times (`race` +
    standard error), where n is the number of all tasks.
    """
    evolution = Evolution(config(measurement={"race": 0.1}))
    initial_request = evolution.ask()
    assert initial_request is not None
    evolution.tell(initial_request, {"one": 0.3, "two": -0.1})
    child_request = next_child_request(evolution)
    margin = 2 * (0.1 + 0.02)  # two tasks, each with `race` and the standard error of one seed
    sums_of_best = {"one": 0.3, "two": 0.3 - 0.1}
    assert child_request.min_totals == pytest.approx(
        {task: total - margin for task, total in sums_of_best.items()}
    )


def test_during_tuning_programs_race_against_the_worst_program_of_the_elite() -> None:
    evolution = Evolution(config(measurement={"race": 0.1}, tune_first=90))
    requests = evolve(evolution, 60, short_with_signs_is_better)
    assert all(request.min_totals is None for request in requests[:ELITE])
    noise_floor = evolution.config.measurement.noise_floor
    estimates = [record.cautious_estimate(noise_floor) for record in evolution.records.values()]
    worst_estimate_of_elite = sorted(estimates, reverse=True)[ELITE - 1]
    child_request = next_child_request(evolution)
    assert child_request.min_totals is not None
    assert child_request.min_totals["two"] == pytest.approx(2 * (worst_estimate_of_elite - 0.1))


def next_child_request(evolution: Evolution) -> Request:
    """Return the next request that measures a new program, and skip other requests."""
    return next(request for request in iter(evolution.ask, None) if request.reason == "child")


def test_a_champion_is_confirmed_on_fresh_seeds() -> None:
    evolution = Evolution(config())
    evolve(evolution, 1500, short_with_signs_is_better)
    champion = evolution.champion
    assert champion.test is not None
    assert len(champion.confirming_seeds) == 16
    assert set(champion.confirming_seeds) <= set(champion.record.scores)
    assert {seed.stream for seed in champion.confirming_seeds} == {Stream.CONFIRM}


def test_a_champion_that_fails_on_a_confirming_seed_is_replaced_by_the_previous_one() -> None:
    """The third champion wins its test, and then diverges on its third confirming seed."""
    evolution = Evolution(config(seed=0))
    open_requests: list[Request] = []
    failed_key = None
    while True:
        while len(open_requests) < 16 and (request := evolution.ask(1200)):
            open_requests.append(request)
        if not open_requests:
            break
        request = open_requests.pop(0)
        champion = evolution.champion
        fails = (
            failed_key is None
            and len(evolution.champions) == 3
            and request.record is champion.record
            and request.seed.stream is Stream.CONFIRM
            and request.seed == champion.confirming_seeds[2]
        )
        if not fails:
            evolution.tell(request, measure(request, short_with_signs_is_better, NOISE_STD))
            continue
        failed_key = request.record.key
        open_test = evolution._test
        evolution.tell(request, {"one": -LARGEST_SCORE})
        assert evolution.champion.record is evolution.champions[1].record
        assert evolution.champion.test is None
        assert evolution._test is None
        assert open_test is None or open_test.won is False
    assert failed_key is not None
    champion_keys = [champion.record.key for champion in evolution.champions]
    assert champion_keys.count(failed_key) == 1
    assert champion_keys[1] == champion_keys[3]
    challenger_keys = [test.challenger.key for test in evolution.tests]
    assert challenger_keys.count(failed_key) == 1
    last_champion = evolution.champion
    assert set(last_champion.confirming_seeds) <= set(last_champion.record.scores)


def test_counts_agree_with_programs_and_requests() -> None:
    evolution = Evolution(config())
    requests = evolve(evolution, 700, short_with_signs_is_better)
    counts = evolution.counts
    generated = programs_of(evolution)[1:]
    assert counts.generated == len(generated) == 700
    assert counts.cache_hits + counts.evaluated == counts.generated
    assert counts.measurements == 2 * len(requests)  # on two tasks
    assert counts.statements == sum(len(program.statements) for program in generated)


def test_an_injected_program_is_the_next_child() -> None:
    evolution = Evolution(config())
    lion = zoo.load("lion")
    assert evolution.ask() is not None
    evolution.inject(1, lion)
    assert next_child_request(evolution).record.key == analyse(lion).key
    assert evolution.births[-1].injection == 1


def test_the_first_in_flight_requests_do_not_depend_on_results() -> None:
    evolution = Evolution(config(in_flight=8))
    first_requests = [evolution.ask() for _ in range(8)]
    all_requests = evolve(Evolution(config(in_flight=8)), 100, short_with_signs_is_better)

    def keys_and_seeds(requests: Sequence[Request | None]) -> list[tuple[str, Seed]]:
        return [(request.record.key, request.seed) for request in requests if request]

    assert keys_and_seeds(first_requests) == keys_and_seeds(all_requests[:8])


@pytest.mark.parametrize("states", [0, 2, 3])
def test_the_initial_program_gets_the_configured_number_of_states(states: int) -> None:
    evolution = Evolution(config(init=str(zoo.load("sgd")), states=states))
    assert len(evolution.champion.record.program.states) == states
