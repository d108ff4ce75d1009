"""Options of `search`: --search-only, --batch and --device."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import pytest

from evosearch.environment import use_device
from evosearch.errors import UsageError


def test_search_only_turns_off_funnel_and_simplification(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evosearch.presets import load_preset
    from evosearch.runs.directory import read_config

    entrants = load_preset("standard")["funnel"]["entrants"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("evosearch.cli.search._run", lambda *args, **kwargs: None)
    for options, at_end in (((), True), (("--search-only",), False)):
        assert run("search", "--preset", "standard", *options, "--out", f"{at_end}").status == 0
        config = read_config(Path(f"{at_end}"))
        assert (config.funnel.at_end, config.simplify) == (at_end, at_end)
        assert list(config.funnel.entrants) == entrants


def test_the_batch_size_is_part_of_the_configuration(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evosearch.runs.directory import read_config

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("evosearch.cli.search._run", lambda *args, **kwargs: None)
    assert run("search", "--device", "cpu", "--out", "threads").status == 0
    assert run("search", "--batch", "64", "--out", "batches").status == 0
    threads, batches = read_config(Path("threads")), read_config(Path("batches"))
    assert (threads.batch, threads.requests) == (1, threads.in_flight)
    assert (batches.batch, batches.requests) == (64, 64 * len(batches.tasks))
    assert run("search", "--batch", "4096", "--out", "many").status == 0
    many = read_config(Path("many"))
    assert (many.requests, many.lanes) == (many.population, many.population // 2)


def test_an_error_names_a_missing_device_and_how_to_install_it(tmp_path: Path) -> None:
    command = "from evosearch.cli import main; main()"
    words = ("search", "--device", "tpu", "--out", str(tmp_path / "run"))
    done = subprocess.run(
        [sys.executable, "-c", command, *words], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert "JAX finds no tpu here" in done.stderr
    assert "(pip install '.[tpu]'), or use --device cpu" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_missing_jax_plugin_gives_the_same_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails() -> str:
        raise AssertionError

    monkeypatch.setattr(jax, "default_backend", fails)
    monkeypatch.setattr(jax.config, "update", lambda *_: None)
    with pytest.raises(UsageError, match=r"finds no gpu here; .*'cuda' \(pip install '\.\[cuda\]'"):
        use_device("gpu")
