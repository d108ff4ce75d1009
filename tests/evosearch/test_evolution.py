"""Laws of evolution, tested with scores that need no training."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evosearch.evolution.constants import constants, structure
from evosearch.evolution.evolution import Evolution, Request
from evosearch.fixed import ELITE
from evosearch.seeds import Stream
from evosearch.statistics import LARGEST_SCORE
from primitives import Program, analyse, live, zoo
from tests.evosearch.stored_runs import config, evolve, measure, shorter_is_better


def test_the_same_seed_gives_the_same_search() -> None:
    first, same, other = (Evolution(config(seed=seed)) for seed in (1, 1, 2))
    for evolution in (first, same, other):
        evolve(evolution, 400, shorter_is_better)
    assert programs_of(first) == programs_of(same)
    assert programs_of(first) != programs_of(other)


def programs_of(evolution: Evolution) -> list[Program]:
    """Return all generated programs, the initial one first."""
    return [birth.analysis.program for birth in evolution.births]


RESTARTS: list[dict[str, object]] = [
    {},
    {"restart_every": 60},
    {"restart_every": 45, "restart_from": "best"},
    {"restart_every": 60, "tune_first": 20, "tune_last": 25},
]


@settings(max_examples=15)
@given(st.integers(1, 300), st.integers(0, 5), st.sampled_from(RESTARTS))
def test_replaying_stored_results_replays_the_search(
    cut: int, seed: int, restarts: dict[str, object]
) -> None:
    """The results of requests before the cut are stored; only later requests are measured."""
    whole = Evolution(config(seed=seed, **restarts))
    requests = evolve(whole, 200, shorter_is_better)
    stored = {(r.record.key, r.seed): measure(r, shorter_is_better, 0.03) for r in requests[:cut]}
    resumed = Evolution(config(seed=seed, **restarts))
    measured = 0
    waiting: list[Request] = []
    while True:
        while len(waiting) < resumed.config.in_flight and (request := resumed.ask(200)):
            waiting.append(request)
        if not waiting:
            break
        request = waiting.pop(0)
        scores = stored.pop((request.record.key, request.seed), None)
        measured += scores is None
        resumed.tell(request, scores or measure(request, shorter_is_better, 0.03))
    assert stored == {}
    assert measured == max(0, len(requests) - cut)
    assert programs_of(resumed) == programs_of(whole)
    assert resumed.champion.record.id == whole.champion.record.id


@pytest.mark.parametrize("restarts", RESTARTS)
def test_extending_a_search_gives_the_longer_search(restarts: dict[str, object]) -> None:
    """Measurements after the limit of the shorter search do not change the longer one."""
    long = Evolution(config(**restarts))
    evolve(long, 600, shorter_is_better)
    short = Evolution(config(**restarts))
    evolve(short, 300, shorter_is_better)
    assert programs_of(short)[:301] == programs_of(long)[:301]


def test_a_search_limited_by_trainings_is_the_beginning_of_the_longer_search() -> None:
    """No program is generated after the limit; the open test is still finished."""
    long = Evolution(config())
    evolve(long, None, shorter_is_better, trainings=700)
    short = Evolution(config())
    requests = evolve(short, None, shorter_is_better, trainings=400)
    programs = programs_of(short)
    assert programs == programs_of(long)[: len(programs)]
    assert 100 < len(programs) < len(long.births)
    last = short.births[-1].request - short.config.in_flight
    decisive = [request for request in requests if request.number <= last]
    seeds = {request.seed for request in decisive}
    assert 400 - 2 * 4 <= 2 * (len(decisive) + len(seeds)) < 400 <= short.trainings


def ancestor_before(evolution: Evolution, first: int, number: int) -> int:
    """Return the closest ancestor of a program that is older than program `first`."""
    parents = {birth.id: birth.parent for birth in evolution.births}
    while number >= first:
        parent = parents[number]
        assert parent is not None
        number = parent
    return number


def test_after_a_restart_everything_descends_from_the_initial_program() -> None:
    evolution = Evolution(config(restart_every=200))
    evolve(evolution, 600, shorter_is_better)
    for birth in evolution.births[1:]:
        start = 200 * ((birth.id - 1) // 200)
        assert ancestor_before(evolution, start + 1, birth.id) == 0
    endless = Evolution(config())
    evolve(endless, 600, shorter_is_better)
    assert any(ancestor_before(endless, 401, birth.id) != 0 for birth in endless.births[401:])


def test_after_a_restart_from_the_best_everything_descends_from_the_current_champion() -> None:
    evolution = Evolution(config(seed=4, restart_every=400, restart_from="best"))
    evolve(evolution, 1200, shorter_is_better)
    champions = {champion.record.id for champion in evolution.champions}
    origins = []
    for start in range(400, 1200, 400):
        ancestors = {ancestor_before(evolution, start + 1, start + n) for n in range(1, 401)}
        assert len(ancestors) == 1
        origins.append(ancestors.pop())
    assert set(origins) <= champions
    assert len(set(origins)) > 1


def test_tune_last_changes_only_constants_of_the_best_program() -> None:
    def worth(program: Program) -> float:
        return shorter_is_better(program) if constants(live(program)) else -1.0

    evolution = Evolution(config(seed=1, restart_every=400, tune_last=100))
    evolve(evolution, 1200, worth)
    births = {birth.id: birth for birth in evolution.births}
    tuned = []
    for start in range(0, 1200, 400):
        ancestors = {ancestor_before(evolution, start + 301, start + n) for n in range(301, 401)}
        assert len(ancestors) == 1
        best = evolution.records[births[ancestors.pop()].analysis.key]
        last = [evolution.records[births[start + n].analysis.key] for n in range(280, 301)]
        estimates = [record.cautious_estimate(0.02) for record in last]
        assert best.cautious_estimate(0.02) >= np.median(estimates)
        assert {births[start + n].mutation.split()[0] for n in range(301, 401)} == {"tune"}
        tuned.append(best.id)
        edits = {births[start + n].mutation.split()[0] for n in range(1, 301) if start + n > 0}
        assert {"insert", "delete", "modify"} <= edits
    assert len(set(tuned)) > 1


def test_tune_first_changes_only_constants_of_the_initial_program() -> None:
    evolution = Evolution(config(seed=1, restart_every=300, tune_first=100))
    evolve(evolution, 600, lambda program: -abs(constants(program).get((1, 2), 1.0) - 0.5))
    initial = evolution.births[0].analysis.program
    for birth in evolution.births[1:101]:
        assert birth.mutation == "tune constants"
        assert structure(birth.analysis.program) == structure(initial)
    (start,) = {ancestor_before(evolution, 101, birth.id) for birth in evolution.births[101:]}
    tuned = constants(evolution.births[start].analysis.program)[1, 2]
    assert abs(tuned - 0.5) < 0.1 < abs(constants(initial)[1, 2] - 0.5)


def test_a_best_program_without_constants_is_not_tuned() -> None:
    settings = {
        "init": "def train(w, g):\n    update = g * g\n    return update",
        "restart_every": 40,
        "tune_last": 39,
    }
    evolution = Evolution(config(**settings, mutation={"constant": 0.0}))
    evolve(evolution, 80, shorter_is_better)
    assert not any(birth.mutation.startswith("tune") for birth in evolution.births)


def test_a_restart_keeps_records_champion_and_tests() -> None:
    """So no program is measured twice on one seed."""
    evolution = Evolution(config(restart_every=100))
    requests = evolve(evolution, 1500, shorter_is_better)
    counts = Counter((request.record.key, request.seed) for request in requests)
    assert max(counts.values()) == 1
    measured = [len(record.scores) for record in evolution.records.values()]
    assert min(measured) > 0
    assert len(evolution.champions) > 1


def test_without_selection_good_and_bad_programs_have_as_many_children() -> None:
    """With tournaments of one, as in the baseline `random`, parents are drawn uniformly."""

    def mean_of_parents(tournament: int) -> float:
        evolution = Evolution(config(tournament=tournament, population=50))
        evolve(evolution, 1000, shorter_is_better)
        programs = {birth.id: birth.analysis.program for birth in evolution.births}
        parents = [b.parent for b in evolution.births if b.parent is not None]
        return sum(shorter_is_better(programs[p]) for p in parents) / len(parents)

    assert mean_of_parents(1) < mean_of_parents(2) - 0.1


def test_evolution_finds_better_programs() -> None:
    evolution = Evolution(config())
    evolve(evolution, 1500, shorter_is_better)
    start = shorter_is_better(evolution.champions[0].record.program)
    assert len(evolution.champions) > 1
    assert shorter_is_better(evolution.champion.record.program) > start + 0.1


def test_on_pure_noise_few_runs_accept_a_new_champion() -> None:
    """All programs are equally good, so each new champion is an error: at most 5% of runs."""
    errors = 0
    for seed in range(60):
        evolution = Evolution(config(seed=seed, in_flight=4))
        evolve(evolution, 250, lambda program: 0.0)
        errors += len(evolution.champions) > 1
    assert errors <= 7  # of 60; at an error rate of 5%, more have a probability below 2%


def test_a_program_is_measured_once_per_seed_and_a_test_seed_is_used_once() -> None:
    evolution = Evolution(config())
    requests = evolve(evolution, 800, shorter_is_better)
    counts = Counter((request.record.key, request.seed) for request in requests)
    assert max(counts.values()) == 1
    keys_by_seed: dict[object, set[str]] = {}
    for request in requests:
        if request.seed.stream is not Stream.SEARCH:
            keys_by_seed.setdefault(request.seed, set()).add(request.record.key)
    assert all(len(keys) <= 2 for keys in keys_by_seed.values())
    tests = [set(test.seeds) for test in evolution.tests]
    assert len(tests) > 1
    assert sum(map(len, tests)) == len(set().union(*tests))


def test_new_programs_share_a_search_seed_that_advances() -> None:
    evolution = Evolution(config(measurement={"requests_per_seed": 50}))
    first = [r for r in evolve(evolution, 800, shorter_is_better) if r.reason == "child"]
    by_window: dict[int, set[int]] = {}
    for request in first:
        by_window.setdefault(request.number // 50, set()).add(request.seed.number)
    assert len(by_window) > 3
    assert all(seeds == {window} for window, seeds in by_window.items())


def test_promising_programs_are_measured_again_on_new_seeds() -> None:
    evolution = Evolution(config())
    requests = evolve(evolution, 800, shorter_is_better)
    again = [request for request in requests if request.reason == "again"]
    assert len(again) > 20
    assert len(evolution.champion.record.search_scores()) >= 4


def test_only_new_programs_race_and_only_against_the_best_since_the_restart() -> None:
    evolution = Evolution(config(measurement={"race": 0.1}, restart_every=100))
    requests = evolve(evolution, 300, shorter_is_better)
    min_totals = [request.min_totals for request in requests if request.reason == "child"]
    assert min_totals[0] is None  # the initial program is not measured yet
    assert all(request.min_totals is None for request in requests if request.reason != "child")
    sums = [sum(by_task.values()) for by_task in min_totals if by_task is not None]
    assert len(sums) > 50
    rises = sum(a < b for a, b in pairwise(sums))
    falls = sum(a > b for a, b in pairwise(sums))
    assert rises > falls > 0  # sums rise with the best program, and fall with a restart


def test_a_program_that_ties_with_the_best_finishes_the_race() -> None:
    """Minimum sums are the best program's sums, less `race` plus its standard error per task."""
    evolution = Evolution(config(measurement={"race": 0.1}))
    first = evolution.ask()
    assert first is not None
    evolution.tell(first, {"one": 0.3, "two": -0.1})
    request = next(r for r in iter(evolution.ask, None) if r.reason == "child")
    assert request.min_totals == pytest.approx({"one": 0.3 - 2 * 0.12, "two": 0.2 - 2 * 0.12})


def test_while_constants_are_tuned_the_rival_is_the_last_of_the_elite() -> None:
    evolution = Evolution(config(measurement={"race": 0.1}, tune_first=90))
    requests = evolve(evolution, 60, shorter_is_better)
    assert all(request.min_totals is None for request in requests[:ELITE])
    floor = evolution.config.measurement.noise_floor
    best = sorted((r.cautious_estimate(floor) for r in evolution.records.values()), reverse=True)
    request = evolution.ask()
    while request is not None and request.reason != "child":
        request = evolution.ask()
    assert request is not None
    assert request.min_totals is not None
    assert request.min_totals["two"] == pytest.approx(2 * (best[ELITE - 1] - 0.1))


def test_a_champion_is_confirmed_on_fresh_seeds() -> None:
    evolution = Evolution(config())
    evolve(evolution, 1500, shorter_is_better)
    champion = evolution.champion
    assert champion.test is not None
    assert len(champion.confirming_seeds) == 16
    assert set(champion.confirming_seeds) <= set(champion.record.scores)
    assert {seed.stream for seed in champion.confirming_seeds} == {Stream.CONFIRM}


def test_a_champion_that_fails_on_a_confirming_seed_is_replaced_by_the_previous_one() -> None:
    """The program wins its test, and then diverges on a confirming seed."""
    evolution = Evolution(config(seed=0))
    waiting: list[Request] = []
    failed: set[str] = set()
    while True:
        while len(waiting) < 16 and (request := evolution.ask(1200)):
            waiting.append(request)
        if not waiting:
            break
        request = waiting.pop(0)
        scores = measure(request, shorter_is_better, 0.03)
        champion = evolution.champion
        if request.seed.stream is Stream.CONFIRM and request.record is champion.record:
            is_third = len(evolution.champions) == 3 and not failed
            if is_third and request.seed == champion.confirming_seeds[2]:
                failed.add(request.record.key)
                scores = {"one": -LARGEST_SCORE}
        open_test = evolution._test
        evolution.tell(request, scores)
        if request.record.key in failed and len(scores) == 1:
            assert evolution.champion.record is evolution.champions[1].record
            assert evolution.champion.test is None
            assert evolution._test is None
            assert open_test is None or open_test.won is False
    assert failed
    keys = [champion.record.key for champion in evolution.champions]
    assert keys.count(next(iter(failed))) == 1
    assert keys[1] == keys[3]
    tests = [test for test in evolution.tests if test.challenger.key in failed]
    assert len(tests) == 1  # the test that it won
    last = evolution.champion
    assert all(seed in last.record.scores for seed in last.confirming_seeds)


def test_counts_add_up() -> None:
    evolution = Evolution(config())
    requests = evolve(evolution, 700, shorter_is_better)
    counts = evolution.counts
    assert counts.generated == 700 == len(evolution.births) - 1
    assert counts.cache_hits + counts.evaluated == counts.generated
    assert counts.measurements == 2 * len(requests)
    assert counts.statements == sum(
        len(b.analysis.program.statements) for b in evolution.births[1:]
    )


def test_an_injected_program_is_the_next_child() -> None:
    evolution = Evolution(config())
    lion = zoo.load("lion")
    first = evolution.ask()
    assert first is not None
    evolution.inject(1, lion)
    second = evolution.ask()
    while second is not None and second.reason != "child":
        second = evolution.ask()
    assert second is not None
    assert second.record.key == analyse(lion).key
    assert evolution.births[-1].injection == 1


def test_the_first_in_flight_requests_need_no_results() -> None:
    evolution = Evolution(config(in_flight=8))
    before_results = [evolution.ask() for _ in range(8)]
    with_results = evolve(Evolution(config(in_flight=8)), 100, shorter_is_better)
    assert [(r.record.key, r.seed) for r in before_results if r] == [
        (r.record.key, r.seed) for r in with_results[:8]
    ]


@pytest.mark.parametrize("states", [0, 2, 3])
def test_the_initial_program_gets_the_configured_number_of_states(states: int) -> None:
    evolution = Evolution(config(init=str(zoo.load("sgd")), states=states))
    assert len(evolution.champion.record.program.states) == states
