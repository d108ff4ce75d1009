"""Executables are made once, and those least used go."""

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from evosearch.measuring.executables import Executables


def test_the_least_recently_used_go_and_are_made_again() -> None:
    made: list[str] = []
    kept = Executables(capacity=2)

    def compiled(key: str) -> str:
        made.append(key)
        return f"{key}{len(made)}"

    assert [kept.get(key, partial(compiled, key)) for key in "aabacab"] == [
        "a1",
        "a1",
        "b2",
        "a1",
        "c3",
        "a1",
        "b4",
    ]
    assert made == ["a", "b", "c", "b"]


def test_threads_that_want_the_same_wait_for_one() -> None:
    kept, made, begun = Executables(), [], threading.Event()

    def compiled() -> object:
        made.append(object())
        begun.wait(10)
        return made[-1]

    with ThreadPoolExecutor(4) as threads:
        futures = [threads.submit(kept.get, "same", compiled) for _ in range(4)]
        other = kept.get("other", lambda: "meanwhile")
        begun.set()
        assert {id(future.result()) for future in futures} == {id(made[0])}
    assert (len(made), other) == (1, "meanwhile")


def test_what_could_not_be_compiled_is_tried_again() -> None:
    kept = Executables()

    def failing() -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        kept.get("it", failing)
    assert kept.get("it", lambda: "compiled") == "compiled"
