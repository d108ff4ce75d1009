"""Tests that `pyproject.toml` and the CI scripts agree."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
PROJECT = tomllib.loads(PYPROJECT)["project"]
VERSIONS_SCRIPT = (ROOT / ".ci" / "versions").read_text(encoding="utf-8")
TESTED_VERSIONS = re.findall(r"^check (3\.\d+) (\S+)$", VERSIONS_SCRIPT, re.MULTILINE)
"""The tested pairs: a Python version, and uv's resolution strategy for the libraries."""


def requirements() -> list[str]:
    extras = PROJECT["optional-dependencies"].values()
    return sorted(
        {*PROJECT["dependencies"], *(requirement for extra in extras for requirement in extra)}
    )


@pytest.mark.parametrize("requirement", requirements())
def test_every_dependency_has_a_lowest_version(requirement: str) -> None:
    """Without a lower bound, CI would test arbitrarily old versions of a dependency."""
    assert re.search(r">=\d|==\d|^evosearch\[", requirement)


@pytest.mark.parametrize(
    "requirement", [requirement for requirement in requirements() if "<" in requirement]
)
def test_an_upper_bound_is_explained_in_the_line_above(requirement: str) -> None:
    lines = PYPROJECT.splitlines()
    index = next(index for index, line in enumerate(lines) if requirement in line)
    assert lines[index - 1].lstrip().startswith("#")


def test_ci_tests_the_lowest_versions_on_the_lowest_python() -> None:
    assert (PROJECT["requires-python"].removeprefix(">="), "lowest-direct") in TESTED_VERSIONS


def test_the_classifiers_name_the_python_versions_that_ci_tests() -> None:
    versions = re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["classifiers"]))
    assert versions == [python for python, _ in TESTED_VERSIONS]


def test_jax_has_one_lower_bound_in_all_extras() -> None:
    jax_requirements = [
        requirement for requirement in requirements() if re.match(r"jax\b|jaxlib", requirement)
    ]
    lower_bounds = {re.search(r">=([\d.]+)", r)[1] for r in jax_requirements}
    assert len(lower_bounds) == 1


def test_the_pre_commit_hook_runs_the_same_checks_as_ci() -> None:
    """The hook and `.ci/run` both call `.ci/lint`."""
    lint_script = (ROOT / ".ci" / "lint").read_text(encoding="utf-8").splitlines()
    commands = ["ruff check .", "ruff format --check .", "mypy", "codespell", ".ci/prose"]
    assert lint_script[-len(commands) :] == commands
    assert ".ci/lint" in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert re.findall(r"entry: (.*)", hooks) == [".ci/lint"]
