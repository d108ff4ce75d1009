"""`pyproject.toml` promises what CI tests."""

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
"""The versions of Python that CI tests, each with uv's way to choose those of libraries."""


def requirements() -> list[str]:
    extras = PROJECT["optional-dependencies"].values()
    return sorted({*PROJECT["dependencies"], *(one for extra in extras for one in extra)})


@pytest.mark.parametrize("requirement", requirements())
def test_every_dependency_has_a_lowest_version(requirement: str) -> None:
    """Without one, the lowest versions that CI installs would be of no use to anybody."""
    assert re.search(r">=\d|==\d|^evosearch\[", requirement)


@pytest.mark.parametrize("requirement", [one for one in requirements() if "<" in one])
def test_an_upper_bound_is_explained_in_the_line_above(requirement: str) -> None:
    lines = TEXT.splitlines()
    place = next(number for number, line in enumerate(lines) if requirement in line)
    assert lines[place - 1].startswith("#")


def test_ci_tests_the_lowest_versions_on_the_lowest_python() -> None:
    assert (PROJECT["requires-python"].removeprefix(">="), "lowest-direct") in CHECKS


def test_the_classifiers_name_the_pythons_that_ci_tests() -> None:
    named = re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["classifiers"]))
    assert named == [python for python, _ in CHECKS]


def test_jax_has_one_lower_bound_in_all_extras() -> None:
    bounds = {
        re.search(r">=([\d.]+)", one)[1] for one in requirements() if re.match(r"jax\b|jaxlib", one)
    }
    assert len(bounds) == 1


def test_commits_are_checked_as_ci_checks_them() -> None:
    """One list of commands, `.ci/lint`, which CI and the pre-commit hook both run."""
    lint = (ROOT / ".ci" / "lint").read_text(encoding="utf-8").splitlines()
    assert lint[-3:] == ["ruff check .", "ruff format --check .", "mypy"]
    assert ".ci/lint" in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert re.findall(r"entry: (.*)", hooks) == [".ci/lint"]
