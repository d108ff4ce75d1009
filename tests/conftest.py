"""Settings of all tests (Hypothesis, JAX devices, caches) and a fixture that runs commands."""

import gc
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.xla_options import FLAGS

# All processes of a test run share one cache of compiled XLA programs.
_COMPILATION_CACHE = (
    None if "JAX_COMPILATION_CACHE_DIR" in os.environ else tempfile.mkdtemp("-evosearch-tests")
)
if _COMPILATION_CACHE:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _COMPILATION_CACHE
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
# With a state directory of their own, tests do not touch the list of files that the user trusts.
_STATE_DIRECTORY = tempfile.mkdtemp("-evosearch-state")
os.environ["XDG_STATE_HOME"] = _STATE_DIRECTORY

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

gc.set_threshold(50_000, 20, 20)  # collect rarely: JAX keeps many objects, so this is slow
jax.config.update("jax_num_cpu_devices", 2)  # has no effect after JAX has started its devices


def pytest_configure(config: pytest.Config) -> None:
    """Set XLA flags that shorten compilation, which takes most of the time of the tests.

    The flags apply to this process and to the processes that tests start. Tests on accelerators
    use the default flags.
    """
    if config.getoption("markexpr") != "gpu":
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}".strip()


def pytest_unconfigure() -> None:
    shutil.rmtree(_STATE_DIRECTORY, ignore_errors=True)
    if _COMPILATION_CACHE:
        shutil.rmtree(_COMPILATION_CACHE, ignore_errors=True)


class CommandResult:
    """Exit status, standard output and standard error of a command."""

    def __init__(self, status: int, out: str, err: str):
        self.status, self.out, self.err = status, out, err


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that runs an evosearch command, given its arguments, in this process."""

    def run_command(*arguments: str | Path) -> CommandResult:
        monkeypatch.setattr(sys, "argv", ["evosearch", *map(str, arguments)])
        # The original function would end the test process.
        monkeypatch.setattr("evosearch.cli.interrupts.exit_now", sys.exit)
        with pytest.raises(SystemExit) as system_exit:
            main()
        captured = capsys.readouterr()
        return CommandResult(int(system_exit.value.code or 0), captured.out, captured.err)

    return run_command
