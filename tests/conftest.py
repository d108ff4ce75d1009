"""Shared setup of all tests: deterministic Hypothesis, two CPU devices, command lines."""

import gc
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.xla_options import FLAGS

# All processes of a test run share one compilation cache.
_CACHE = None if "JAX_COMPILATION_CACHE_DIR" in os.environ else tempfile.mkdtemp("-evosearch-tests")
if _CACHE:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
# Tests do not read or change which files the user trusts.
_STATE = tempfile.mkdtemp("-evosearch-state")
os.environ["XDG_STATE_HOME"] = _STATE

import jax  # noqa: E402
import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

from evosearch.cli.app import main  # noqa: E402

settings.register_profile(
    "evosearch",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("evosearch")

gc.set_threshold(50_000, 20, 20)  # JAX keeps many objects, which slow collections down
jax.config.update("jax_num_cpu_devices", 2)  # before JAX starts its devices


def pytest_configure(config: pytest.Config) -> None:
    """Set XLA flags that compile faster, at the cost of slower code.

    Compilation takes most of the suite's time. The flags are set before JAX starts its devices and
    reach processes that tests start. Tests on accelerators use the default flags.
    """
    if config.getoption("markexpr") != "gpu":
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}".strip()


def pytest_unconfigure() -> None:
    shutil.rmtree(_STATE, ignore_errors=True)
    if _CACHE:
        shutil.rmtree(_CACHE, ignore_errors=True)


class CommandResult:
    """Exit status and output of a command."""

    def __init__(self, status: int, out: str, err: str):
        self.status, self.out, self.err = status, out, err


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that runs a command line in this process."""

    def call(*words: str | Path) -> CommandResult:
        monkeypatch.setattr(sys, "argv", ["evosearch", *map(str, words)])
        monkeypatch.setattr(
            "evosearch.cli.interrupts.leave", sys.exit
        )  # do not end the test process
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return CommandResult(int(ended.value.code or 0), captured.out, captured.err)

    return call
