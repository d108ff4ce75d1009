"""Consecutive seeds cycle through training lengths and schedules."""

import pytest

from evosearch.config import make_config
from evosearch.errors import UsageError
from evosearch.seeds import Conditions, Rounds, Seed, Stream
from primitives import zoo

ROUNDS = Rounds((0.5, 1.0, 2.0), ("cosine", "linear"))


def test_consecutive_seeds_cycle_through_every_combination() -> None:
    cycle = [ROUNDS.of(Seed(Stream.TEST, n), 0, 200) for n in range(6)]
    assert len(set(cycle)) == 6
    assert {conditions.steps for conditions in cycle} == {100, 200, 400}


def test_a_seed_is_short_on_one_task_and_long_on_another() -> None:
    steps = {ROUNDS.of(Seed(Stream.SEARCH, 7), task_index, 200).steps for task_index in range(3)}
    assert steps == {100, 200, 400}


def test_default_rounds_keep_the_steps_of_the_task() -> None:
    assert Rounds().of(Seed(Stream.SEARCH, 5), 3, 200) == Conditions(200, "cosine")


@pytest.mark.parametrize(
    ("settings", "culprit"),
    [
        ({"schedules": ["cosin"]}, "did you mean 'cosine'"),
        ({"schedules": []}, "schedules"),
        ({"budgets": [0.0]}, "budgets"),
    ],
)
def test_invalid_conditions_are_named(settings: dict[str, object], culprit: str) -> None:
    with pytest.raises(UsageError, match=culprit):
        make_config({"tasks": ["a"], "init": str(zoo.load("sgd")), "measurement": settings})
