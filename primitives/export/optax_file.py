"""Writes an optax file: the state, the transformation `scale_by_NAME`, the optimizer NAME."""

from __future__ import annotations

from primitives.export import source
from primitives.export.dialect import Jax
from primitives.export.lowering import Lowered, StateVariable
from primitives.export.naming import camel_case, provenance, state_names, title
from primitives.export.optax_update import BODY, Update
from primitives.graph.nodes import HYPERPARAMETER, Node
from primitives.graph.roles import Hyperparameter
from primitives.kinds import Kind
from primitives.program import Program

_RESERVED_NAMES = (
    "jax",
    "jnp",
    "optax",
    "updates",
    "state",
    "params",
    "count",
    "grads",
    "weights",
    "direction",
    "schedule",
    "mask",
    "leaves",
    "learning_rate",
    "init_fn",
    "update_fn",
    "lr",
    "t",
    "g",
    "w",
    "p",
    "u",
)
"""Names that every exported file may use; no state or hyperparameter gets one of them."""
_SLICES = {
    Kind.ROW: "[..., :1]",
    Kind.COL: "[..., :1, :]",
    Kind.MATRIX: "[..., :1, :1]",
}
"""The part of a parameter that has the shape of a state, by the kind of the state."""


class OptaxFile:
    """The source of a program's optax file.

    Args:
        graph: the lowered graph of one step.
        name: the optimizer's name; see `naming.checked_name`.
        summary: one line that says what the optimizer does; may be empty.
        program: the original program, for the module docstring.
    """

    def __init__(self, graph: Lowered, name: str, summary: str, program: Program):
        self.graph, self.name, self.summary, self.program = graph, name, summary, program
        self.state_class = f"ScaleBy{camel_case(name)}State"
        roles = graph.roles
        self.weight_decay = roles.weight_decay
        # The hyperparameters of `scale_by_NAME`.
        self.scale_by_hyperparameters = tuple(
            hyperparameter
            for hyperparameter in roles.hyperparameters
            if hyperparameter is not self.weight_decay
        )
        self.names = source.Names(
            {
                *_RESERVED_NAMES,
                name,
                f"scale_by_{name}",
                *(hyperparameter.name for hyperparameter in self.scale_by_hyperparameters),
            }
        )
        self.states = state_names(graph, "optax", self.names)
        self.dialect = Jax(graph.ranges())
        self.counts_steps = graph.reads("t") or graph.reads("lr")
        self.has_state = bool(graph.states) or self.counts_steps

    def text(self) -> str:
        """Return the text of the file."""
        update = Update(self).lines()
        body = [*self._state_class(), *self._transformation(update), *self._optimizer()]
        helpers = self._helpers(body)
        lines = [
            *source.docstring([*title(self.name, self.summary), "", *provenance(self.program)]),
            "",
            *self._imports([*helpers, *body]),
            *self.graph.constants(),
            *helpers,
            *body,
        ]
        return source.joined(lines)

    def _imports(self, body: list[str]) -> list[str]:
        lines = []
        if self.weight_decay:
            lines.append("from collections.abc import Callable")
        typing = ["Any"] * bool(self.weight_decay) + ["NamedTuple"] * self.has_state
        if typing:
            lines.append(f"from typing import {', '.join(typing)}")
        used = "\n".join(body)
        modules = ["import jax"] * ("jax." in used)
        if "jnp." in used:
            modules.append("import jax.numpy as jnp")
        return [*lines, *[""] * bool(lines), *modules, "import optax"]

    def _helpers(self, body: list[str]) -> list[str]:
        used = "\n".join(body)
        lines: list[str] = []
        if "_float" in used or "_matrix" in used:
            lines += [
                "",
                "",
                "def _float(x):",
                '    """`x` in float32, or in its own type where that is wider."""',
                "    return x.astype(jnp.promote_types(x.dtype, jnp.float32))",
            ]
        if "_matrix" in used:
            lines += [
                "",
                "",
                "def _matrix(x):",
                '    """`x` as float matrices: a vector is n x 1, a number 1 x 1."""',
                "    return _float(x).reshape(x.shape + (1,) * (2 - x.ndim))",
            ]
        return [*lines, *self.dialect.helper_lines()]

    # -- the state ------------------------------------------------------------------------------

    def _state_class(self) -> list[str]:
        if not self.has_state:
            return []
        lines = ["", "", f"class {self.state_class}(NamedTuple):"]
        lines += source.docstring([f"State of `scale_by_{self.name}`."], indent=4)
        lines.append("")
        if self.counts_steps:
            lines.append("    count: jax.Array  # the steps done")
        for state in self.graph.states:
            kind = state.parameter.kind
            annotation = "jax.Array" if kind == Kind.SCALAR else "optax.Updates"
            note = {
                Kind.TENSOR: "",
                Kind.ROW: "  # one number for each row",
                Kind.COL: "  # one number for each column",
                Kind.MATRIX: "  # one number for each matrix",
                Kind.LEAF: "  # one number for each array",
                Kind.SCALAR: "  # one number for the whole model",
            }[kind]
            lines.append(f"    {self.states[state.parameter.name]}: {annotation}{note}")
        return lines

    def _init_function(self) -> list[str]:
        space = " " * 4
        if not self.has_state:
            return [
                f"{space}def init_fn(params):",
                f"{space}    del params",
                f"{space}    return optax.EmptyState()",
            ]
        lines = [f"{space}def init_fn(params):"]
        if not self.graph.states:
            lines.append(f"{space}    del params")
        fields = []
        if self.counts_steps:
            fields.append("count=jnp.zeros([], jnp.int32)")
        for state in self.graph.states:
            name = self.states[state.parameter.name]
            lines += self._initial_state(name, state)
            fields.append(f"{name}={name}")
        return [*lines, *source.call(f"return {self.state_class}(", fields, indent=BODY)]

    def _initial_state(self, name: str, state: StateVariable) -> list[str]:
        """Return the lines that create the initial value of a state."""
        initial, kind = state.initial, state.parameter.kind
        is_zero = initial.is_constant and initial.value == 0
        value = "" if is_zero else _initial_value(initial)
        if kind == Kind.SCALAR:
            dtype = "jnp.result_type(jnp.float32, *jax.tree.leaves(params))"
            return source.call(f"{name} = jnp.asarray(", [value or "0.0", dtype], indent=BODY)
        if kind == Kind.LEAF:
            array = f"jnp.full((), {value or '0.0'}, _float(p).dtype)"
        else:
            like = f"_matrix(p){_SLICES[kind]}" if kind in _SLICES else "_float(p)"
            array = f"jnp.full_like({like}, {value})" if value else f"jnp.zeros_like({like})"
        return source.call(f"{name} = jax.tree.map(", [f"lambda p: {array}", "params"], indent=BODY)

    # -- the functions --------------------------------------------------------------------------

    def _transformation(self, update: list[str]) -> list[str]:
        arguments = [_argument(hyperparameter) for hyperparameter in self.scale_by_hyperparameters]
        if self.graph.reads("lr"):
            arguments.append("schedule: optax.ScalarOrSchedule = 1.0")
        remaining = "weight decay and learning rate" if self.weight_decay else "the learning rate"
        summary = f"Rescale updates as `{self.name}` does, before {remaining}."
        return [
            "",
            "",
            *source.call(
                f"def scale_by_{self.name}(",
                arguments,
                ") -> optax.GradientTransformation:",
            ),
            *source.docstring(
                [*source.paragraph(summary), *_arguments(self._descriptions())], indent=4
            ),
            "",
            *self._init_function(),
            "",
            *update,
            "",
            "    return optax.GradientTransformation(init_fn, update_fn)",
        ]

    def _descriptions(self) -> list[tuple[str, str]]:
        """Return names and descriptions of the arguments of `scale_by_NAME`."""
        descriptions = [
            (hyperparameter.name, hyperparameter.meaning)
            for hyperparameter in self.scale_by_hyperparameters
        ]
        if self.graph.reads("lr"):
            text = (
                "learning-rate schedule with peak 1, called `lr` in the program: a number or a "
                "function of the step"
            )
            descriptions.append(("schedule", text))
        return descriptions

    def _optimizer(self) -> list[str]:
        learning_rate = self.graph.roles.learning_rate
        arguments = [
            f"learning_rate: optax.ScalarOrSchedule = {source.number(learning_rate.value)}"
        ]
        arguments += [_argument(hyperparameter) for hyperparameter in self.scale_by_hyperparameters]
        descriptions = [("learning_rate", "a factor on the update, fixed or a schedule")]
        descriptions += self._descriptions()
        has_schedule = self.graph.reads("lr")
        if self.weight_decay:
            arguments.append(_argument(self.weight_decay))
            descriptions.append((self.weight_decay.name, "strength of the decoupled weight decay"))
        if has_schedule:
            arguments.append("schedule: optax.ScalarOrSchedule = 1.0")
        if self.weight_decay:
            arguments.append("mask: Any | Callable[[optax.Params], Any] | None = None")
            descriptions.append(
                (
                    "mask",
                    "a tree of booleans, or a function of the parameters that gives one: "
                    "which of them decay",
                )
            )
        passed_names = [hyperparameter.name for hyperparameter in self.scale_by_hyperparameters]
        if has_schedule:
            passed_names.append("schedule")
        chain = source.call(f"scale_by_{self.name}(", passed_names, "),", indent=BODY)
        if self.weight_decay:
            chain.append(f"        optax.add_decayed_weights({self.weight_decay.name}, mask),")
        chain.append("        optax.scale_by_learning_rate(learning_rate),")
        summary = self.summary or f"The optimizer {camel_case(self.name)}."
        return [
            "",
            "",
            *source.call(
                f"def {self.name}(", arguments, ") -> optax.GradientTransformationExtraArgs:"
            ),
            *source.docstring(
                [*source.hanging(title(self.name, summary)), *_arguments(descriptions)], indent=4
            ),
            "    return optax.chain(",
            *chain,
            "    )",
        ]


def _initial_value(value: Node) -> str:
    return value.name if value.op == HYPERPARAMETER else source.number(value.value)


def _argument(hyperparameter: Hyperparameter) -> str:
    return f"{hyperparameter.name}: float = {source.number(hyperparameter.value)}"


def _arguments(descriptions: list[tuple[str, str]]) -> list[str]:
    """Return the `Args` section of a docstring."""
    if not descriptions:
        return []
    lines = ["", "    Args:"]
    for name, description in descriptions:
        lines += source.paragraph(f"{name}: {description}.", indent=8, hanging=4)
    return lines
