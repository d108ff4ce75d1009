"""Tests that consecutive seeds cycle through the configured numbers of steps and schedules."""

import pytest

from evosearch.config import make_config
from evosearch.errors import UsageError
from evosearch.seeds import Conditions, Rounds, Seed, Stream
from primitives import zoo

ROUNDS = Rounds((0.5, 1.0, 2.0), ("cosine", "linear"))
"""Half, one and two times a task's number of steps, each with two schedules."""


def test_consecutive_seeds_cycle_through_every_combination() -> None:
    conditions = [ROUNDS.of(Seed(Stream.TEST, number), 0, 200) for number in range(3 * 2)]
    assert len(set(conditions)) == 3 * 2
    assert {each.steps for each in conditions} == {100, 200, 400}


def test_trainings_with_the_same_seed_have_different_numbers_of_steps_on_different_tasks() -> None:
    steps = {ROUNDS.of(Seed(Stream.SEARCH, 7), task_index, 200).steps for task_index in range(3)}
    assert steps == {100, 200, 400}


def test_default_rounds_keep_the_steps_of_the_task() -> None:
    assert Rounds().of(Seed(Stream.SEARCH, 5), 3, 200) == Conditions(200, "cosine")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schedules": ["cosin"]}, "did you mean 'cosine'"),
        ({"schedules": []}, "schedules"),
        ({"budgets": [0.0]}, "budgets"),
    ],
)
def test_the_error_for_invalid_conditions_names_the_setting(
    settings: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        make_config({"tasks": ["a"], "init": str(zoo.load("sgd")), "measurement": settings})
