"""Export of programs to self-contained Python files for optax and PyTorch.

A program is lowered to a graph (`lowering`), whose constants are named by role (`graph.roles`).
Intervals prove which divisions cannot have a zero divisor and need no guard (`graph.ranges`).
`blocks` and `dialect` turn values into statements; `optax_file` and `torch_file` write the files.
`check` compares a file with the reference interpreter.
"""

from __future__ import annotations

from primitives.export.check import CheckResult, check, load
from primitives.export.lowering import ExportError, lower
from primitives.export.naming import (
    Exported,
    OptimizerNameError,
    Target,
    checked_name,
)
from primitives.export.optax_file import OptaxFile
from primitives.export.torch_file import TorchFile
from primitives.program import Program

__all__ = [
    "CheckResult",
    "ExportError",
    "Exported",
    "OptimizerNameError",
    "Target",
    "check",
    "export",
    "load",
]


def export(program: Program, target: Target, name: str, summary: str = "") -> Exported:
    """Return `program` as a self-contained Python file. Call `check` to compare it numerically.

    An optax file defines the state, the transformation `scale_by_NAME` and the optimizer NAME. A
    PyTorch file defines a `torch.optim.Optimizer` whose class is NAME in camel case.

    Args:
        program: the program to export.
        target: the library, "optax" or "torch".
        name: the optimizer's name: up to 40 lower-case letters, digits and underscores.
        summary: one line that says what the optimizer does, for the docstrings; may be empty.

    Returns:
        The file's source, with the names that it uses.

    Raises:
        OptimizerNameError: `name` cannot name an optimizer.
        ExportError: an op of the program has no code.
        ProgramError: the program is not valid.
    """
    lowered = lower(program)
    arguments = (lowered, checked_name(name), summary, program)
    file = OptaxFile(*arguments) if target == "optax" else TorchFile(*arguments)
    roles = lowered.roles
    return Exported(
        program,
        target,
        name,
        file.text(),
        dict(file.states),
        {h.name: h.value for h in (roles.learning_rate, *roles.hyperparameters)},
    )
