"""Tests of the options --search-only, --batch and --device of `evosearch search`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import pytest

from evosearch.environment import use_device
from evosearch.errors import UsageError
from evosearch.presets import load_preset
from evosearch.runs.directory import read_config


def test_search_only_turns_off_funnel_and_simplification(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entrants = load_preset("standard")["funnel"]["entrants"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("evosearch.cli.search._run", lambda *args, **kwargs: None)
    arguments = ("search", "--preset", "standard")
    assert run(*arguments, "--out", "complete").status == 0
    complete = read_config(Path("complete"))
    assert complete.funnel.at_end
    assert complete.simplify
    assert run(*arguments, "--search-only", "--out", "search-only").status == 0
    search_only = read_config(Path("search-only"))
    assert not search_only.funnel.at_end
    assert not search_only.simplify
    assert list(complete.funnel.entrants) == list(search_only.funnel.entrants) == entrants


def test_the_batch_size_is_part_of_the_configuration_and_determines_the_number_of_requests(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a large batch, the population limits the number of requests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("evosearch.cli.search._run", lambda *args, **kwargs: None)
    assert run("search", "--device", "cpu", "--out", "threads").status == 0
    threads = read_config(Path("threads"))
    assert threads.batch == 1
    assert threads.requests == threads.in_flight
    assert run("search", "--batch", "64", "--out", "batches").status == 0
    batches = read_config(Path("batches"))
    assert batches.batch == 64
    assert batches.requests == 2 * 64 * len(batches.tasks)
    assert run("search", "--batch", "4096", "--out", "large-batches").status == 0
    large_batches = read_config(Path("large-batches"))
    assert large_batches.requests == 2 * 4096 * len(large_batches.tasks)
    assert large_batches.max_in_flight(0) == large_batches.population
    assert large_batches.max_in_flight(4000) == large_batches.population + 1000
    assert large_batches.max_in_flight(10**6) == large_batches.requests


def test_the_error_for_a_missing_device_says_how_to_install_it(tmp_path: Path) -> None:
    code = "from evosearch.cli import main; main()"
    arguments = ("search", "--device", "tpu", "--out", str(tmp_path / "run"))
    process = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120
    )
    assert process.returncode == 2
    assert "JAX finds no tpu here" in process.stderr
    assert "(pip install '.[tpu]'), or use --device cpu" in process.stderr
    assert len(process.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_the_error_for_a_missing_plugin_of_jax_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> str:
        raise AssertionError

    monkeypatch.setattr(jax, "default_backend", fail)
    monkeypatch.setattr(jax.config, "update", lambda *_: None)
    with pytest.raises(UsageError, match=r"finds no gpu here; .*'cuda' \(pip install '\.\[cuda\]'"):
        use_device("gpu")
