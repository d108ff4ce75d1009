"""Tests that commands which train nothing do not import JAX, which takes more than a second."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE_RUN = str(Path(__file__).parents[2] / "runs" / "example")
_PRINT_IMPORTED_LIBRARIES = """
import sys
from evosearch.cli import main
sys.argv[1:] = {arguments}
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
print("imported:", *sorted({{"jax", "optax", "networkx", "matplotlib"}} & sys.modules.keys()))
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["status", EXAMPLE_RUN],
        ["status", EXAMPLE_RUN, "--json"],
        ["top", EXAMPLE_RUN],
        ["top", EXAMPLE_RUN, "--pareto", "--json"],
        ["show", "lion"],
        ["show", EXAMPLE_RUN],
        ["ops"],
        ["zoo"],
    ],
    ids=lambda arguments: " ".join(argument.rpartition("/")[2] for argument in arguments),
)
def test_commands_that_train_nothing_do_not_import_jax(arguments):
    process = subprocess.run(
        [sys.executable, "-c", _PRINT_IMPORTED_LIBRARIES.format(arguments=arguments)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert process.stdout.splitlines()[-1] == "imported:"
