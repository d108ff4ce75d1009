"""Executables are compiled once, and the least recently used are discarded."""

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from evosearch.measuring.executables import Executables


def test_the_least_recently_used_executables_are_discarded_and_compiled_again() -> None:
    built: list[str] = []
    cache = Executables(capacity=2)

    def build(key: str) -> str:
        built.append(key)
        return f"{key}{len(built)}"

    assert [cache.get(key, partial(build, key)) for key in "aabacab"] == [
        "a1",
        "a1",
        "b2",
        "a1",
        "c3",
        "a1",
        "b4",
    ]
    assert built == ["a", "b", "c", "b"]


def test_threads_that_need_the_same_executable_wait_for_one_compilation() -> None:
    cache, built, may_finish = Executables(), [], threading.Event()

    def build() -> object:
        built.append(object())
        may_finish.wait(10)
        return built[-1]

    with ThreadPoolExecutor(4) as threads:
        futures = [threads.submit(cache.get, "same", build) for _ in range(4)]
        other = cache.get("other", lambda: "meanwhile")
        may_finish.set()
        assert {id(future.result()) for future in futures} == {id(built[0])}
    assert (len(built), other) == (1, "meanwhile")


def test_a_failed_compilation_is_tried_again() -> None:
    cache = Executables()

    def fail() -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        cache.get("key", fail)
    assert cache.get("key", lambda: "compiled") == "compiled"
