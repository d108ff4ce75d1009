"""Programs as code that people use: one file for optax or for PyTorch, checked before it is given.

A program is lowered to a graph (`lowering`), its constants named by role (`graph.roles`); intervals
prove which divisions need no guard (`graph.ranges`), `blocks` and `dialect` turn values into
statements, and `optax_file` and `torch_file` write the files around them.
"""

from __future__ import annotations

from primitives.export.check import Report, check, load
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
    "ExportError",
    "Exported",
    "OptimizerNameError",
    "Report",
    "Target",
    "check",
    "export",
    "load",
]


def export(program: Program, target: Target, name: str, summary: str = "") -> Exported:
    """`program` as a file that stands alone; `check` tells whether it is the program.

    For optax: the State, `scale_by_NAME`, and the alias NAME. For torch: a `torch.optim.Optimizer`
    called NAME in camel case.

    Args:
        program: what to export.
        target: "optax" or "torch".
        name: lower-case letters, digits and underscores.
        summary: the optimizer's idea in one line, for the docstrings.

    Raises:
        OptimizerNameError: `name` cannot name an optimizer.
        ExportError: an op of the program has no code.
        ProgramError: the program is ill-kinded.
    """
    lowered = lower(program)
    arguments = (lowered, checked_name(name), summary, program)
    file = OptaxFile(*arguments) if target == "optax" else TorchFile(*arguments)
    found = lowered.roles
    return Exported(
        program,
        target,
        name,
        file.text(),
        dict(file.states),
        {one.name: one.value for one in (found.learning_rate, *found.hyperparameters)},
    )
