"""`pyproject.toml` and the CI scripts agree."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
PROJECT = tomllib.loads(TEXT)["project"]
CI = (ROOT / ".ci" / "versions").read_text(encoding="utf-8")
CHECKS = re.findall(r"^check (3\.\d+) (\S+)$", CI, re.MULTILINE)
"""The Python versions that CI tests, each with uv's resolution of library versions."""


def requirements() -> list[str]:
    extras = PROJECT["optional-dependencies"].values()
    return sorted(
        {*PROJECT["dependencies"], *(requirement for extra in extras for requirement in extra)}
    )


@pytest.mark.parametrize("requirement", requirements())
def test_every_dependency_has_a_lowest_version(requirement: str) -> None:
    """Otherwise CI would install arbitrarily old versions."""
    assert re.search(r">=\d|==\d|^evosearch\[", requirement)


@pytest.mark.parametrize("requirement", [r for r in requirements() if "<" in r])
def test_an_upper_bound_is_explained_in_the_line_above(requirement: str) -> None:
    lines = TEXT.splitlines()
    index = next(number for number, line in enumerate(lines) if requirement in line)
    assert lines[index - 1].startswith("#")


def test_ci_tests_the_lowest_versions_on_the_lowest_python() -> None:
    assert (PROJECT["requires-python"].removeprefix(">="), "lowest-direct") in CHECKS


def test_the_classifiers_name_the_python_versions_that_ci_tests() -> None:
    versions = re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["classifiers"]))
    assert versions == [python for python, _ in CHECKS]


def test_jax_has_one_lower_bound_in_all_extras() -> None:
    bounds = {
        re.search(r">=([\d.]+)", r)[1] for r in requirements() if re.match(r"jax\b|jaxlib", r)
    }
    assert len(bounds) == 1


def test_the_pre_commit_hook_runs_the_same_checks_as_ci() -> None:
    """Both run `.ci/lint`."""
    lint = (ROOT / ".ci" / "lint").read_text(encoding="utf-8").splitlines()
    commands = ["ruff check .", "ruff format --check .", "mypy", "codespell", ".ci/prose"]
    assert lint[-len(commands) :] == commands
    assert ".ci/lint" in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert re.findall(r"entry: (.*)", hooks) == [".ci/lint"]
