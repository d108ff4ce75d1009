"""What a file's states are called, its title, and where it comes from."""

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

_STATES: dict[Target, dict[tuple[str, bool], str]] = {
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
_IMPORTED = {"jax", "jnp", "optax", "torch", "math", "init_fn", "update_fn"}


class OptimizerNameError(ExportError):
    """A name that no optimizer can have in Python; the message says what can."""


@dataclass(frozen=True)
class Exported:
    """An exported file.

    Attributes:
        program: as it was given.
        target: what the file is for.
        name: that of the optimizer.
        source: the file's text.
        states: what each live state of the program is called in the file.
        hyperparameters: the file's arguments and their defaults, the learning rate first.
    """

    program: Program
    target: Target
    name: str
    source: str
    states: dict[str, str]
    hyperparameters: dict[str, float]


def checked_name(name: str) -> str:
    """`name`, if it can be a function's or a module's: lower-case letters, digits, underscores.

    Raises:
        OptimizerNameError: it cannot.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name) or keyword.iskeyword(name):
        raise OptimizerNameError(
            f"{name!r} cannot name an optimizer; use up to 40 lower-case letters, digits and "
            "underscores, the first a letter"
        )
    if name in _IMPORTED or name in source.Names().taken:
        raise OptimizerNameError(
            f"{name!r} has a meaning in Python or in the file; choose another name"
        )
    return name


def camel_case(name: str) -> str:
    """`adam_w` as `AdamW`."""
    return "".join(part.capitalize() for part in name.split("_"))


def state_names(graph: Lowered, target: Target, names: source.Names) -> dict[str, str]:
    """What each state is called in the file: by role, otherwise as the program has it."""
    found: dict[str, str] = {}
    for state in graph.states:
        own = state.parameter.name
        role = _STATES[target].get(graph.roles.states[own])
        kind = SUFFIXES.get(state.parameter.kind, "")
        wanted = f"{role}{kind}" if role else own
        found[own] = names.new(wanted)
    return found


def provenance(program: Program) -> list[str]:
    """Where a file comes from, as lines of its docstring."""
    try:
        made_by = f"evosearch {version('evosearch')}"
    except PackageNotFoundError:  # a source tree that is not installed
        made_by = "evosearch"
    words = f"Exported by {made_by} from this program, whose semantic key is "
    return [
        *source.paragraph(f"{words}{semantic_key(program)}:"),
        "",
        *("    " + line for line in str(program).rstrip("\n").split("\n")),
    ]


def title(name: str, summary: str) -> list[str]:
    """The first lines of a file's docstring; `summary` without what cannot stand in one."""
    words = re.sub(r"[^\x20-\x7e]", " ", " ".join(summary.split()))
    found = words or f"{camel_case(name)}: an optimizer found by program search."
    return source.paragraph(found, hanging=0)
