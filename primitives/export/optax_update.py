"""Writes the function `update_fn` of an optax file.

The function has one `jax.tree.map` for the next value of each state, for the update, for each value
that is summed over the model, and for each value that several of these values depend on. Values of
kind scalar are computed between these calls. Every value is computed before its first use.
"""

from __future__ import annotations

import ast
from collections import Counter
from dataclasses import dataclass
from typing import Protocol

from primitives.export import source
from primitives.export.blocks import Block, shared
from primitives.export.dialect import Jax
from primitives.export.lowering import Lowered, StateVariable, is_fixed
from primitives.graph.nodes import Node, reachable
from primitives.kinds import Kind

BODY = 8


class File(Protocol):
    """The attributes of an optax file that the text of `update_fn` depends on.

    Attributes:
        graph: the lowered graph of one step.
        name: the optimizer's name.
        names: the names in use.
        states: the field of each state in the state class, by the state's name in the program.
        state_class: the name of the state class.
        dialect: writes ops in JAX.
        counts_steps: whether the state holds the number of completed steps.
        has_state: whether the file has a state class.
    """

    graph: Lowered
    name: str
    names: source.Names
    states: dict[str, str]
    state_class: str
    dialect: Jax
    counts_steps: bool
    has_state: bool


@dataclass(frozen=True)
class _Tree:
    """A tree in the file.

    Attributes:
        text: the expression of the tree.
        leaf: the name of the tree's leaves in a function that maps over the tree.
        access: the expression of the value in terms of a leaf `_0`.
    """

    text: str
    leaf: str
    access: str = "_0"


class Update:
    """Writes the lines of `update_fn`."""

    def __init__(self, file: File):
        self.file, self.graph, self.dialect = file, file.graph, file.dialect
        self.names = file.names.scope()
        self.body: list[str] = []
        self.trees = self._input_trees()  # the trees that the lines so far define
        self.computed_trees = self._computed_trees()
        scalars = self._needed_scalars()
        self.scalars = Block(
            self.names,
            lambda value: not value.args or value.op == "total",
            self._scalar_leaf,
            self.dialect.write,
            self.graph.name_for,
            scalars,
            BODY,
            self.body,
        )
        self.step_scalars = [value for value in scalars if _depends_on_step_only(value)]

    def lines(self) -> list[str]:
        """Return `def update_fn` and its body."""
        graph = self.graph
        for value in self.step_scalars:
            self.scalars.assign(value)
        is_gradient = graph.direction.op == "gradient"
        ending = [] if is_gradient else self._ending(self._direction())
        names = [self.file.states[state.parameter.name] for state in graph.states]
        fields = ["count=count"] * self.file.counts_steps + [
            f"{name}={self._next_value(name, state)}"
            for name, state in zip(names, graph.states, strict=True)
        ]
        state = f"{self.file.state_class}(" if self.file.has_state else "optax.EmptyState("
        return_lines = source.call(f"return updates, {state}", fields, indent=BODY)
        lines = [*self._opening(), *self.body, *ending, *return_lines]
        pairs = zip(["", *lines], lines, strict=False)
        return [
            "    def update_fn(updates, state, params=None):",
            *(line for before, line in pairs if line or before),  # without repeated blank lines
        ]

    def _ending(self, direction: str) -> list[str]:
        """Return the lines that convert the update to the types and shapes of the gradients."""
        shape = ".reshape(g.shape)" if self.graph.uses_matrices else ""
        arguments = [f"lambda u, g: u{shape}.astype(g.dtype)", direction, "updates"]
        return source.call("updates = jax.tree.map(", arguments, indent=BODY)

    def _opening(self) -> list[str]:
        """Return the lines that define what the body reads."""
        graph, space = self.graph, " " * BODY
        view_function = "_matrix" if graph.uses_matrices else "_float"
        lines = []
        if graph.reads("weights"):
            message = f'"scale_by_{self.file.name} reads the parameters; pass params to update"'
            lines.append(f"{space}if params is None:")
            lines += source.call("raise ValueError(", [message], indent=BODY + 4)
        unused = ["params"] * (not graph.reads("weights")) + ["state"] * (not self.file.has_state)
        if unused:
            lines.append(f"{space}del {', '.join(unused)}")
        if self.file.counts_steps:
            lines.append(f"{space}count = optax.safe_increment(state.count)")
        if "grads" in "\n".join(self.body):
            lines.append(f"{space}grads = jax.tree.map({view_function}, updates)")
        if graph.reads("weights"):
            lines.append(f"{space}weights = jax.tree.map({view_function}, params)")
        if graph.reads("lr"):
            schedule_value = "schedule(state.count) if callable(schedule) else schedule"
            lines.append(f"{space}lr = {schedule_value}")
        if self._needs_float_step:
            lines.append(f"{space}t = 1.0 * count")
        return lines

    @property
    def _needs_float_step(self) -> bool:
        """Whether the step is used other than as an exponent (which may be an integer)."""
        outputs = (self.graph.direction, *(state.next_value for state in self.graph.states))
        return any(value.op == "t" for value in outputs) or any(
            arg.op == "t" and (value.op, index) != ("power", 1)
            for value in self.graph.values()
            for index, arg in enumerate(value.args)
        )

    # -- which values are trees ---------------------------------------------------------------

    def _input_trees(self) -> dict[Node, _Tree]:
        """Return the trees of gradients, weights and old states."""
        trees = {
            value: _Tree("grads", "g") if value.op == "gradient" else _Tree("weights", "w")
            for value in self.graph.values()
            if value.op in ("gradient", "weights")
        }
        for state in self.graph.states:
            if state.parameter.kind != Kind.SCALAR:
                name = self.file.states[state.parameter.name]
                trees[state.old_value] = _Tree(f"state.{name}", name, self._access(state))
        return trees

    def _access(self, state: StateVariable) -> str:
        """Return the expression of a state's value; a tensor is viewed as a matrix if needed."""
        is_tensor = state.parameter.kind == Kind.TENSOR
        return "_matrix(_0)" if is_tensor and self.graph.uses_matrices else "_0"

    def _computed_trees(self) -> dict[Node, StateVariable | None]:
        """Return the values that have their own `jax.tree.map`.

        The result maps each value to the state whose next value it is, if both have the same kind,
        else to None.
        """
        trees: dict[Node, StateVariable | None] = {}
        for state in self.graph.states:
            value = state.next_value
            if value.kind == state.parameter.kind != Kind.SCALAR and value.args:
                trees.setdefault(value, state)
        values = self.graph.values()
        roots = [self.graph.direction, *(state.next_value for state in self.graph.states)]
        roots += [value.args[0] for value in values if value.op == "total"]
        roots = [root for root in roots if root.kind != Kind.SCALAR and root.args]
        readers: Counter[Node] = Counter(roots)
        readers.update({arg for value in values if value.kind != Kind.SCALAR for arg in value.args})
        shared_values = {root for root in roots if readers[root] > 1}
        shared_values |= set(shared(tuple(dict.fromkeys(roots)), _is_per_array))
        for value in values:
            if value in shared_values:
                trees.setdefault(value, None)
        return trees

    # -- scalars ------------------------------------------------------------------------------

    def _needed_scalars(self) -> tuple[Node, ...]:
        """Return the values of kind scalar that arrays read or that are next values of states."""
        scalars = [
            arg
            for value in self.graph.values()
            if value.kind != Kind.SCALAR
            for arg in value.args
            if arg.kind == Kind.SCALAR
        ]
        scalars += [
            state.next_value for state in self.graph.states if state.next_value.kind == Kind.SCALAR
        ]
        return tuple(dict.fromkeys(scalars))

    def _scalar_leaf(self, value: Node) -> ast.expr | None:
        match value.op:
            case "constant":
                return source.constant(value.name, value.value)
            case "hyperparameter" | "lr":
                return source.name(value.name)
            case "t":
                return source.name("t" if self._needs_float_step else "count")
            case "state":
                return source.name(f"state.{self.file.states[value.name]}")
            case "total":
                return self._total(value)
        return None

    def _total(self, value: Node) -> ast.expr:
        """Add the lines that compute a sum over the model, and return its name."""
        term = value.args[0]
        name = self.names.new(self.graph.name_for(value))
        if term in self.trees or term in self.computed_trees:
            terms = self._tree(term).text
        else:
            arguments = self._map_arguments(term, name)
            terms = f"jax.tree.map({', '.join(arguments)})"
            if len(terms) + BODY + 4 > source.WIDTH:
                terms = self.names.new(f"{name}_terms")
                self.body += source.call(f"{terms} = jax.tree.map(", arguments, indent=BODY)
        self.body += source.call(f"{name} = optax.tree.sum(", [terms], indent=BODY)
        self.scalars.local[value] = source.name(name)
        return source.name(name)

    def _scalar_in_array(self, value: Node) -> ast.expr | None:
        """Return a scalar for the expression of an array.

        The scalar is inlined if it depends on constants and hyperparameters only, and is otherwise
        a name.
        """
        if not value.args or is_fixed(value):
            return self._scalar_leaf(value)
        return self.scalars.assign(value)

    # -- trees --------------------------------------------------------------------------------

    def _tree(self, value: Node) -> _Tree:
        """Return the tree of `value`, after adding the lines that compute it if it is missing."""
        if value not in self.trees:
            state = self.computed_trees[value]
            if state is None:
                name = self.names.new(self.graph.name_for(value))
                self._assign(name, value)
                self.trees[value] = _Tree(name, name)
            else:
                name = self.file.states[state.parameter.name]
                self._assign(name, value, self._storage_code(state), state.old_value)
                self.trees[value] = _Tree(name, name, self._access(state))
        return self.trees[value]

    def _storage_code(self, state: StateVariable) -> str:
        """Return the code that converts a state's next value `_0` to shape and type of `like`."""
        value, is_matrix = state.next_value, self._access(state) != "_0"
        ending = "_0"
        if value.kind != state.parameter.kind:
            shape = "_matrix(like).shape" if is_matrix else "like.shape"
            ending = f"jnp.broadcast_to(_0, {shape})"
        if is_matrix:
            ending += ".reshape(like.shape)"
        return f"{ending}.astype(like.dtype)" if _may_widen(value) else ending

    def _assign(self, name: str, value: Node, ending: str = "_0", like: Node | None = None) -> None:
        arguments = self._map_arguments(value, name, ending, like)
        self.body += source.call(f"{name} = jax.tree.map(", arguments, indent=BODY)

    def _map_arguments(
        self, value: Node, name: str, ending: str = "_0", like: Node | None = None
    ) -> list[str]:
        """Return the arguments of the `jax.tree.map` that computes `value` for each array.

        Args:
            value: the value to compute.
            name: the name of the result.
            ending: an expression of the result in terms of the value `_0` and, if needed, `like`.
            like: the node whose tree has the leaf `like`.
        """
        parameters: dict[str, ast.expr] = {}  # for each tree, the name of its leaves
        names = source.Names(self.names.in_use - self._names_of_trees())

        def leaf(node: Node) -> ast.expr | None:
            if node.kind == Kind.SCALAR:
                return self._scalar_in_array(node)
            if node not in self.trees and (node is value or node not in self.computed_trees):
                return None
            tree = self._tree(node)
            if tree.text not in parameters:
                parameters[tree.text] = source.name(names.new(tree.leaf))
            return source.fill(tree.access, _0=parameters[tree.text])

        def is_external(node: Node) -> bool:
            if node.kind == Kind.SCALAR:
                return not is_fixed(node)
            return node in self.trees or node in self.computed_trees

        compute = value.kind != Kind.SCALAR and bool(value.args) and value not in self.trees
        outputs = (value,) if compute else ()
        block = Block(
            names, is_external, leaf, self.dialect.write, self.graph.name_for, outputs, BODY + 4
        )
        result = block.expression(value, compute=compute)
        ending_operands = {}
        if like is not None and "like" in ending:
            leaf(like)
            ending_operands["like"] = parameters[self.trees[like].text]
        code = source.text(source.fill(ending, _0=result, **ending_operands))
        if len(code) + BODY + 11 > source.WIDTH:
            result = block.assign(value, result)
            code = source.text(source.fill(ending, _0=result, **ending_operands))
        trees = sorted(parameters, key=lambda text: text not in ("grads", "weights"))
        signature = ", ".join(source.text(parameters[text]) for text in trees)
        function = f"lambda {signature}: {code}"
        if block.lines or len(function) + BODY + 5 > source.WIDTH:
            function = self.names.new(f"next_{name}")
            self.body += [
                "",
                f"        def {function}({signature}):",
                *block.lines,
                f"            return {code}",
                "",
            ]
        return [function, *trees]

    def _names_of_trees(self) -> set[str]:
        """Return the names of all trees; a leaf may have the same name as a tree."""
        return (
            {tree.text for tree in self.trees.values()}
            | set(self.file.states.values())
            | {tree.leaf for tree in self.trees.values()}
        )

    # -- results ------------------------------------------------------------------------------

    def _direction(self) -> str:
        """Return the expression of the update's tree, after adding the lines that compute it."""
        value = self.graph.direction
        if value.kind != Kind.TENSOR:
            gradient = self.graph.gradient
            self.trees.setdefault(gradient, _Tree("grads", "g"))
            self._assign("direction", value, "jnp.broadcast_to(_0, like.shape)", gradient)
            return "direction"
        if value in self.trees or value in self.computed_trees:
            tree = self._tree(value)
            if tree.access == "_0":
                return tree.text
        self._assign("direction", value)
        return "direction"

    def _next_value(self, name: str, state: StateVariable) -> str:
        """Return the expression of a state's next value, after adding the lines that compute it."""
        value, kind = state.next_value, state.parameter.kind
        if value is state.old_value:
            return f"state.{name}"
        if kind == Kind.SCALAR:
            expression = source.text(self.scalars.expression(value))
            arguments = [expression, f"state.{name}.dtype"]
            self.body += source.call(f"{name} = jnp.asarray(", arguments, indent=BODY)
            return name
        if self.computed_trees.get(value) is state:
            return self._tree(value).text
        self._assign(name, value, self._storage_code(state), state.old_value)
        return name


def _is_per_array(value: Node) -> bool:
    """Whether a value is computed for each array."""
    return value.kind != Kind.SCALAR and bool(value.args)


def _depends_on_step_only(value: Node) -> bool:
    """Whether a computed scalar changes from step to step but does not depend on arrays."""
    has_sums = any(node.op == "total" for node in reachable((value,)))
    return bool(value.args) and not has_sums and not is_fixed(value)


def _may_widen(value: Node) -> bool:
    """Whether `value` may have a wider type than its array, because it depends on a scalar."""
    return any(
        node.op in ("total", "lr", "t") or (node.op == "state" and node.kind == Kind.SCALAR)
        for node in reachable((value,))
    )
