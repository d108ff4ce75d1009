"""Horizons and schedules go round with the seeds."""

import pytest

from evosearch.config import make_config
from evosearch.errors import UsageError
from evosearch.seeds import Conditions, Rounds, Seed, Stream
from primitives import zoo

ROUNDS = Rounds((0.5, 1.0, 2.0), ("cosine", "linear"))


def test_consecutive_seeds_meet_every_combination() -> None:
    met = [ROUNDS.of(Seed(Stream.TEST, n), 0, 200) for n in range(6)]
    assert len(set(met)) == 6
    assert {c.steps for c in met} == {100, 200, 400}


def test_a_seed_is_short_on_one_task_and_long_on_another() -> None:
    assert {ROUNDS.of(Seed(Stream.SEARCH, 7), place, 200).steps for place in range(3)} == {
        100,
        200,
        400,
    }


def test_without_rounds_a_task_trains_as_it_is() -> None:
    assert Rounds().of(Seed(Stream.SEARCH, 5), 3, 200) == Conditions(200, "cosine")


@pytest.mark.parametrize(
    ("settings", "culprit"),
    [
        ({"schedules": ["cosin"]}, "did you mean 'cosine'"),
        ({"schedules": []}, "schedules"),
        ({"budgets": [0.0]}, "budgets"),
    ],
)
def test_conditions_that_do_not_exist_are_named(settings: dict[str, object], culprit: str) -> None:
    with pytest.raises(UsageError, match=culprit):
        make_config({"tasks": ["a"], "init": str(zoo.load("sgd")), "measurement": settings})
