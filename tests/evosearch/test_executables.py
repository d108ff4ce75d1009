"""Tests of the cache of executables, which discards the least recently used."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from evosearch.measuring.engines import interpreter_options
from evosearch.measuring.executables import Executables


def test_the_least_recently_used_executables_are_discarded_and_compiled_again() -> None:
    compiled_keys: list[str] = []
    cache = Executables(capacity=2)

    def compile_key(key: str) -> str:
        """Return a fake executable: the key and the number of compilations so far."""
        compiled_keys.append(key)
        return f"{key}{len(compiled_keys)}"

    executables = [cache.get(key, partial(compile_key, key)) for key in "aabacab"]
    assert executables == ["a1", "a1", "b2", "a1", "c3", "a1", "b4"]
    assert compiled_keys == ["a", "b", "c", "b"]


def test_threads_that_need_the_same_executable_wait_for_one_compilation() -> None:
    cache, executables, may_finish = Executables(), [], threading.Event()

    def compile_slowly() -> object:
        executables.append(object())
        may_finish.wait(10)
        return executables[-1]

    with ThreadPoolExecutor(4) as threads:
        futures = [threads.submit(cache.get, "same", compile_slowly) for _ in range(4)]
        # Another executable can be compiled at the same time.
        assert cache.get("other", lambda: "compiled") == "compiled"
        may_finish.set()
        (executable,) = executables
        assert all(future.result() is executable for future in futures)


def test_a_failed_compilation_is_tried_again() -> None:
    cache = Executables()

    def fail() -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        cache.get("key", fail)
    assert cache.get("key", lambda: "compiled") == "compiled"


def test_xla_does_not_choose_kernels_by_their_speed_on_a_gpu() -> None:
    """A choice by speed would make the results of a search depend on chance."""
    assert interpreter_options("gpu") == {"xla_gpu_autotune_level": 0}
    assert interpreter_options("tpu") is None


def test_compilations_are_counted_and_those_from_the_cache_too(tmp_path: Path) -> None:
    code = """
from evosearch.environment import count_compilations, prepare
prepare()
import jax
with count_compilations() as compilations:
    jax.jit(lambda x: 2 * x)(1.0)
jax.jit(lambda x: 3 * x)(1.0)
print(compilations.total, compilations.cached)
"""
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    environment = {**os.environ, **cache}
    counts = []
    for _ in range(2):
        run = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        counts.append(tuple(map(int, run.stdout.split())))
    total = counts[0][0]
    assert total > 0
    assert counts == [(total, 0), (total, total)]
