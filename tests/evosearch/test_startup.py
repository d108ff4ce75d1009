"""Commands that only read do not import JAX, which takes more than a second."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "runs" / "example"
_REPORT = """
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
        ["status", str(EXAMPLE)],
        ["status", str(EXAMPLE), "--json"],
        ["top", str(EXAMPLE)],
        ["top", str(EXAMPLE), "--pareto", "--json"],
        ["show", "lion"],
        ["show", str(EXAMPLE)],
        ["ops"],
        ["zoo"],
    ],
    ids=lambda words: " ".join(word.rpartition("/")[2] for word in words),
)
def test_reading_commands_import_no_jax(arguments):
    result = subprocess.run(
        [sys.executable, "-c", _REPORT.format(arguments=arguments)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.splitlines()[-1] == "imported:"
