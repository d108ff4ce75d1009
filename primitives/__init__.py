"""The language of optimizer programs: parsing, checking, running, simplifying and printing them.

The interpreters are imported on first use, because importing JAX takes more than a second.

Example:
    >>> import primitives
    >>> program = primitives.parse("def train(w, g, lr):\\n    u = sign(g) * lr\\n    return u")
    >>> for equation in primitives.equations(program):
    ...     print(equation)
    u[t] = lr[t] * sign(g[t])
    w[t] = w[t-1] - u[t]
"""

import importlib
from typing import TYPE_CHECKING, Any

from primitives import zoo
from primitives.algebra import Derivation, Domain, Step, simplify
from primitives.explain.dataflow import to_dot, to_graph
from primitives.explain.equations import Equation, equations, to_latex
from primitives.explain.svg import to_svg
from primitives.graph.analysis import analyse, check, live, semantic_key, state_memory
from primitives.kinds import Kind
from primitives.machine.encoding import CapacityError, encode
from primitives.machine.instructions import ALL_OPS
from primitives.op import Op
from primitives.ops import OPS
from primitives.parsing import parse
from primitives.program import MAX_STATEMENTS, Parameter, Program, ProgramError, Statement

if TYPE_CHECKING:
    from primitives.machine.interpreter import interpreter
    from primitives.machine.reference import initial_state, step
    from primitives.machine.transform import rule, to_optax

_INTERPRETERS = {
    "initial_state": "reference",
    "interpreter": "interpreter",
    "rule": "transform",
    "step": "reference",
    "to_optax": "transform",
}
"""Exported names that need JAX, with their modules in `primitives.machine`."""

__all__ = [
    "ALL_OPS",
    "MAX_STATEMENTS",
    "OPS",
    "CapacityError",
    "Derivation",
    "Domain",
    "Equation",
    "Kind",
    "Op",
    "Parameter",
    "Program",
    "ProgramError",
    "Statement",
    "Step",
    "analyse",
    "check",
    "encode",
    "equations",
    "initial_state",
    "interpreter",
    "live",
    "parse",
    "rule",
    "semantic_key",
    "simplify",
    "state_memory",
    "step",
    "to_dot",
    "to_graph",
    "to_latex",
    "to_optax",
    "to_svg",
    "zoo",
]


def __getattr__(name: str) -> Any:
    if name not in _INTERPRETERS:
        raise AttributeError(f"module 'primitives' has no attribute {name!r}")
    module = importlib.import_module(f"primitives.machine.{_INTERPRETERS[name]}")
    return getattr(module, name)
