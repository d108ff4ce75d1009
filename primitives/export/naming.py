"""Names of a file's optimizer and states, and the text of its module docstring."""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from primitives.export import source
from primitives.export.lowering import ExportError, Lowered
from primitives.graph.analysis import semantic_key
from primitives.graph.roles import SUFFIXES
from primitives.program import Program

Target = Literal["optax", "torch"]

_STATE_NAMES: dict[Target, dict[tuple[str, bool], str]] = {
    "optax": {
        ("momentum", False): "mu",
        ("momentum", True): "trace",
        ("second moment", False): "nu",
        ("second moment", True): "sum_of_squares",
        ("largest second moment", False): "nu_max",
    },
    "torch": {
        ("momentum", False): "exp_avg",
        ("momentum", True): "momentum_buffer",
        ("second moment", False): "exp_avg_sq",
        ("second moment", True): "sum_of_squares",
        ("largest second moment", False): "max_exp_avg_sq",
    },
}
_NAMES_IN_FILES = {"jax", "jnp", "optax", "torch", "math", "init_fn", "update_fn"}


class OptimizerNameError(ExportError):
    """Raised for a name that an optimizer cannot have in Python."""


@dataclass(frozen=True)
class Exported:
    """An exported file.

    Attributes:
        program: the program that was exported.
        target: the library that the file is for.
        name: the optimizer's name.
        source: the file's text.
        states: the name in the file of each live state, by its name in the program.
        hyperparameters: the optimizer's arguments and their defaults, the learning rate first.
    """

    program: Program
    target: Target
    name: str
    source: str
    states: dict[str, str]
    hyperparameters: dict[str, float]


def checked_name(name: str) -> str:
    """Return `name` if it can name an optimizer: lower-case letters, digits and underscores.

    Raises:
        OptimizerNameError: `name` contains other characters, is too long, is a keyword, or has
            another meaning in the file.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name) or keyword.iskeyword(name):
        raise OptimizerNameError(
            f"{name!r} cannot name an optimizer; use up to 40 lower-case letters, digits and "
            "underscores, the first a letter"
        )
    if name in _NAMES_IN_FILES or name in source.Names().in_use:
        raise OptimizerNameError(
            f"{name!r} is already a name in Python or in the exported file; choose another name"
        )
    return name


def camel_case(name: str) -> str:
    """Return a name in camel case: `AdamW` for `adam_w`."""
    return "".join(part.capitalize() for part in name.split("_"))


def state_names(graph: Lowered, target: Target, names: source.Names) -> dict[str, str]:
    """Return the name of each state in the file: a name for its role, or its program name."""
    names_in_file: dict[str, str] = {}
    for state in graph.states:
        name = state.parameter.name
        role = _STATE_NAMES[target].get(graph.roles.states[name])
        suffix = SUFFIXES.get(state.parameter.kind, "")
        names_in_file[name] = names.new(f"{role}{suffix}" if role else name)
    return names_in_file


def provenance(program: Program) -> list[str]:
    """Return the lines of a file's docstring that name the exporter and the program."""
    try:
        exporter = f"evosearch {version('evosearch')}"
    except PackageNotFoundError:  # a source tree that is not installed
        exporter = "evosearch"
    text = f"Exported by {exporter} from this program, whose semantic key is "
    return [
        *source.paragraph(f"{text}{semantic_key(program)}:"),
        "",
        *("    " + line for line in str(program).rstrip("\n").split("\n")),
    ]


def title(name: str, summary: str) -> list[str]:
    """Return the first lines of a docstring: `summary`, with only printable ASCII characters."""
    text = re.sub(r"[^\x20-\x7e]", " ", " ".join(summary.split()))
    text = text or f"{camel_case(name)}: an optimizer found by program search."
    return source.paragraph(text, hanging=0)
