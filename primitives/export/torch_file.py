"""Writes a PyTorch file, which defines one subclass of `torch.optim.Optimizer`."""

from __future__ import annotations

import math

from primitives.export import source
from primitives.export.dialect import Torch
from primitives.export.lowering import Lowered, StateVariable
from primitives.export.naming import camel_case, provenance, state_names, title
from primitives.export.torch_step import Step
from primitives.graph.nodes import HYPERPARAMETER
from primitives.interval import NONNEGATIVE
from primitives.kinds import Kind
from primitives.program import Program

_RESERVED_NAMES = (
    "torch",
    "group",
    "groups",
    "state",
    "params",
    "p",
    "grad",
    "weights",
    "lr",
    "step",
    "t",
    "schedule",
    "self",
    "closure",
    "loss",
    "model",
    "like",
    "name",
    "value",
    "found",
    "defaults",
    "matrix",
    "shape",
    "saved",
)
"""Names that every exported file may use; no state or hyperparameter gets one of them."""
_SLICES = {
    Kind.TENSOR: "grad",
    Kind.ROW: "grad[..., :1]",
    Kind.COL: "grad[..., :1, :]",
    Kind.MATRIX: "grad[..., :1, :1]",
}
"""The part of a gradient that has the shape of a state, by the kind of the state."""


class TorchFile:
    """The source of a program's PyTorch file.

    Args:
        graph: the lowered graph of one step.
        name: the optimizer's name; see `naming.checked_name`.
        summary: one line that says what the optimizer does; may be empty.
        program: the original program, for the module docstring.
    """

    def __init__(self, graph: Lowered, name: str, summary: str, program: Program):
        self.graph, self.name, self.summary, self.program = graph, name, summary, program
        self.class_name = camel_case(name)
        self.hyperparameters = graph.roles.hyperparameters
        reserved_names = {
            *_RESERVED_NAMES,
            name,
            *(hyperparameter.name for hyperparameter in self.hyperparameters),
        }
        self.names = source.Names(reserved_names)
        self.states = state_names(graph, "torch", self.names)
        self.dialect = Torch(graph.ranges())
        self.array_states = [state for state in graph.states if state.parameter.kind != Kind.SCALAR]
        self.model_states = [state for state in graph.states if state.parameter.kind == Kind.SCALAR]
        self.reads_t, self.has_schedule = graph.reads("t"), graph.reads("lr")
        self.counts_steps = self.reads_t or self.has_schedule
        # Steps are counted once for the model if the program has a state of the model, and
        # otherwise once for each parameter.
        self.counts_per_array = self.counts_steps and not self.model_states
        self.weight_decay = graph.roles.weight_decay

    def text(self) -> str:
        """Return the text of the file."""
        step = Step(self).lines()
        body = [
            *self._class_header(),
            *self._constructor(),
            *self._array_methods(),
            *(self._model_method() if self.model_states else []),
            "",
            *step,
            *self._getstate_method(),
            *self._load_method(),
        ]
        lines = [
            *source.docstring([*title(self.name, self.summary), "", *provenance(self.program)]),
            "",
            "from __future__ import annotations",
            "",
            "from collections.abc import Callable, Iterable, Iterator",
            *(["from copy import deepcopy"] if self.graph.states else []),
            "from typing import Any",
            "",
            "import torch",
            "from torch import Tensor",
            *self.graph.constants(),
            *self._matrix_function(),
            *self.dialect.helper_lines(),
            *body,
        ]
        return source.joined(lines)

    def _matrix_function(self) -> list[str]:
        if not self.graph.uses_matrices:
            return []
        return [
            "",
            "",
            "def _matrix(x: Tensor) -> Tensor:",
            '    """A view of `x` with at least two axes: a vector is n x 1, a number 1 x 1."""',
            "    return x.reshape(x.shape + (1,) * (2 - x.ndim))",
        ]

    # -- constructor ----------------------------------------------------------------------------

    def _class_header(self) -> list[str]:
        summary = self.summary or f"{self.class_name}: an optimizer found by program search."
        lr_meaning = "lr: the learning rate, a factor on the update; what schedulers change."
        lines = ["", "", f"class {self.class_name}(torch.optim.Optimizer):"]
        docstring_lines = [
            *source.hanging(title(self.name, summary)),
            "",
            "    Args:",
            *source.paragraph("params: parameters, or groups of them.", 8, 4),
            *source.paragraph(lr_meaning, 8, 4),
        ]
        for hyperparameter in self.hyperparameters:
            docstring_lines += source.paragraph(
                f"{hyperparameter.name}: {hyperparameter.meaning}.", 8, 4
            )
        if self.has_schedule:
            schedule_meaning = (
                "schedule: learning-rate schedule with peak 1, called `lr` in the program: a "
                "function of the number of completed steps, the same for all groups and not part "
                "of the state_dict; 1 by default. The argument `lr` is a separate factor, because "
                "the update is not proportional to the schedule."
            )
            docstring_lines += source.paragraph(schedule_meaning, 8, 4)
        return [*lines, *source.docstring(docstring_lines, indent=4)]

    def _constructor(self) -> list[str]:
        learning_rate = self.graph.roles.learning_rate
        arguments = [
            "self",
            "params: Iterable[Tensor] | Iterable[dict[str, Any]]",
            f"lr: float = {source.number(learning_rate.value)}",
            *(
                f"{hyperparameter.name}: float = {source.number(hyperparameter.value)}"
                for hyperparameter in self.hyperparameters
            ),
        ]
        if self.has_schedule:
            arguments.append("schedule: Callable[[int], float] | None = None")
        lines = [
            "",
            *source.call("def __init__(", arguments, ") -> None:", indent=4),
        ]
        valid_intervals = [
            ("lr", NONNEGATIVE),
            *(
                (hyperparameter.name, hyperparameter.interval)
                for hyperparameter in self.hyperparameters
            ),
        ]
        for name, interval in valid_intervals:
            condition = _outside_condition(
                name, interval.low, interval.high, interval.open_low, interval.open_high
            )
            if condition:
                message = f'f"{name} must be in {interval}, not {{{name}}}"'
                lines.append(f"        if {condition}:")
                lines += source.call("raise ValueError(", [message], indent=12)
        if self.has_schedule:
            lines.append("        self.schedule = schedule")
        names = ["lr", *(hyperparameter.name for hyperparameter in self.hyperparameters)]
        lines += source.call("defaults = {", [f'"{name}": {name}' for name in names], "}", indent=8)
        return [*lines, "        super().__init__(params, defaults)"]

    # -- states -----------------------------------------------------------------------------------

    def _array_methods(self) -> list[str]:
        """Return the lines of two methods.

        The first method yields the parameters that have gradients. The second returns the state of
        a parameter.
        """
        message = f'"{self.class_name} takes no sparse gradients"'
        lines = [
            "",
            "    def _with_gradients(self) -> Iterator[tuple[dict[str, Any], Tensor]]:",
            '        """Each parameter that has a gradient, with its group."""',
            "        for group in self.param_groups:",
            '            for p in group["params"]:',
            "                if p.grad is None:",
            "                    continue",
            "                if p.grad.is_sparse:",
            *source.call("raise RuntimeError(", [message], indent=20),
            "                yield group, p",
        ]
        if not self.array_states and not self.counts_per_array:
            return lines
        lines += [
            "",
            "    def _state(self, p: Tensor) -> dict[str, Any]:",
            '        """The state of `p`, in float32 or wider; created at its first step."""',
            "        state = self.state[p]",
            "        if not state:",
        ]
        if self.counts_per_array:
            lines.append('            state["step"] = 0')
        if self.array_states:
            float32_or_wider = "p.detach().to(torch.promote_types(p.dtype, torch.float32))"
            needs_matrix = any(
                state.parameter.kind in (Kind.ROW, Kind.COL, Kind.MATRIX)
                for state in self.array_states
            )
            lines.append(f"            like = {float32_or_wider}")
            if needs_matrix:
                lines.append("            matrix = _matrix(like)")
        for state in self.array_states:
            lines += self._initial_state(state)
        return [*lines, "        return state"]

    def _initial_state(self, state: StateVariable) -> list[str]:
        name, kind = self.states[state.parameter.name], state.parameter.kind
        value = self._initial_value(state)
        like = _SLICES.get(kind, "").replace("grad", "like" if kind == Kind.TENSOR else "matrix")
        is_zero = value == "0.0"
        if kind == Kind.LEAF:
            tensor = "like.new_zeros(())" if is_zero else f"like.new_full((), {value})"
        else:
            tensor = f"torch.zeros_like({like})" if is_zero else f"torch.full_like({like}, {value})"
        return [f'            state["{name}"] = {tensor}']

    def _initial_value(self, state: StateVariable) -> str:
        if state.initial.op == HYPERPARAMETER:
            return f'self.defaults["{state.initial.name}"]'
        return source.number(state.initial.value)

    def _model_method(self) -> list[str]:
        lines = [
            "",
            "    def _model(self, like: Tensor) -> dict[str, Any]:",
            '        """The state of the whole model, in numbers with the type of `like`."""',
            '        model = self.state["model"]',
            "        if not model:",
        ]
        if self.counts_steps:
            lines.append('            model["step"] = 0')
        for state in self.model_states:
            name = self.states[state.parameter.name]
            lines.append(
                f'            model["{name}"] = like.new_full((), {self._initial_value(state)})'
            )
        return [*lines, "        return model"]

    def _getstate_method(self) -> list[str]:
        """Return the method that adds the schedule to copied and pickled optimizers."""
        if not self.has_schedule:
            return []
        return [
            "",
            "    def __getstate__(self) -> dict[str, Any]:",
            '        """The attributes of a copied or pickled optimizer."""',
            '        return {**super().__getstate__(), "schedule": self.schedule}',
        ]

    def _load_method(self) -> list[str]:
        """Return the method that loads states without PyTorch's cast to the parameters' types."""
        if not self.graph.states:
            return []
        lines = [
            "",
            "    def load_state_dict(self, state_dict: dict[str, Any]) -> None:",
            '        """Restore `state_dict`; states keep the types that they were saved with."""',
            "        state_dict = deepcopy(state_dict)",
            "        super().load_state_dict(state_dict)",
        ]
        if not self.array_states:
            return lines
        return [
            *lines,
            "        # super() has cast states to the types of their parameters; undo that.",
            '        params = [p for group in self.param_groups for p in group["params"]]',
            '        saved = [i for group in state_dict["param_groups"] for i in group["params"]]',
            "        for p, i in zip(params, saved, strict=True):",
            '            for name, value in state_dict["state"].get(i, {}).items():',
            "                if isinstance(value, Tensor):",
            "                    self.state[p][name] = value.to(p.device)",
        ]


def _outside_condition(name: str, low: float, high: float, open_low: bool, open_high: bool) -> str:
    """Return the condition under which `name` is outside an interval; "" if always inside."""
    left = f"{low:g} {'<' if open_low else '<='} " if math.isfinite(low) else ""
    right = f" {'<' if open_high else '<='} {high:g}" if math.isfinite(high) else ""
    if left and right:
        return f"not {left}{name}{right}"
    if left:
        return f"not {name} {'>' if open_low else '>='} {low:g}"
    return f"not {name}{right}" if right else ""
