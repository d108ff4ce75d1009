"""The language of optimizers: what a program is, means, costs and turns into."""

from primitives import zoo
from primitives.algebra import Derivation, Domain, Step, simplify
from primitives.explain.dataflow import to_dot, to_graph
from primitives.explain.equations import Equation, equations, to_latex
from primitives.explain.svg import to_svg
from primitives.graph.analysis import analyse, check, live, semantic_key
from primitives.kinds import Kind
from primitives.machine.encoding import CapacityError, encode
from primitives.machine.instructions import ALL_OPS
from primitives.machine.interpreter import interpreter
from primitives.machine.reference import initial_state, state_memory, step
from primitives.machine.transform import rule, to_optax
from primitives.op import Op
from primitives.ops import OPS
from primitives.parsing import parse
from primitives.program import MAX_STATEMENTS, Parameter, Program, ProgramError, Statement

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
