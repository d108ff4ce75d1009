"""The function `update_fn` of an optax file: trees and numbers in the order they are needed.

What is computed for each array is one `jax.tree.map` for each state's next value, for the update,
for what is summed over the model, and for whatever several of these share. Numbers for the whole
model stand between them.
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
    """What `update_fn` must know of the file around it.

    Attributes:
        graph: what one step computes.
        name: the alias's name.
        names: the names that the file has taken.
        states: the state's field for each state variable of the program.
        state_class: the name of the state's class.
        dialect: how values are written in JAX.
        counts: whether the state holds the number of steps done.
        has_state: whether there is a state at all.
    """

    graph: Lowered
    name: str
    names: source.Names
    states: dict[str, str]
    state_class: str
    dialect: Jax
    counts: bool
    has_state: bool


@dataclass(frozen=True)
class _Tree:
    """A value that is kept as a tree: its text, its leaves' name, and how a leaf `_0` is read."""

    text: str
    leaf: str
    access: str = "_0"


class Update:
    """The lines of `update_fn`."""

    def __init__(self, file: File):
        self.file, self.graph, self.dialect = file, file.graph, file.dialect
        self.names = file.names.scope()
        self.body: list[str] = []
        self.trees = self._given()
        self.kept = self._kept()
        asked = self._numbers_asked_for()
        self.numbers = Block(
            self.names,
            lambda value: not value.args or value.op == "total",
            self._number_leaf,
            self.dialect.write,
            self.graph.name_for,
            asked,
            BODY,
            self.body,
        )
        self.early = [value for value in asked if _is_of_step(value)]

    def lines(self) -> list[str]:
        """`def update_fn` and its body."""
        graph = self.graph
        for number in self.early:
            self.numbers.assign(number)
        unchanged = graph.direction.op == "gradient"
        ending = [] if unchanged else self._ending(self._direction())
        names = [self.file.states[state.parameter.name] for state in graph.states]
        fields = ["count=count"] * self.file.counts + [
            f"{name}={self._following(name, state)}"
            for name, state in zip(names, graph.states, strict=True)
        ]
        made = f"{self.file.state_class}(" if self.file.has_state else "optax.EmptyState("
        returned = source.call(f"return updates, {made}", fields, indent=BODY)
        lines = [*self._opening(), *self.body, *ending, *returned]
        doubled = zip(["", *lines], lines, strict=False)
        return [
            "    def update_fn(updates, state, params=None):",
            *(line for before, line in doubled if line or before),
        ]

    def _ending(self, direction: str) -> list[str]:
        """The lines that give the update the types (and shapes) of what came in."""
        shape = ".reshape(g.shape)" if self.graph.by_matrix else ""
        arguments = [f"lambda u, g: u{shape}.astype(g.dtype)", direction, "updates"]
        return source.call("updates = jax.tree.map(", arguments, indent=BODY)

    def _opening(self) -> list[str]:
        """The lines that bind what the body reads."""
        graph, space = self.graph, " " * BODY
        view = "_matrix" if graph.by_matrix else "_float"
        lines = []
        if graph.reads("weights"):
            message = f'"scale_by_{self.file.name} reads the parameters; pass params to update"'
            lines.append(f"{space}if params is None:")
            lines += source.call("raise ValueError(", [message], indent=BODY + 4)
        unused = ["params"] * (not graph.reads("weights")) + ["state"] * (not self.file.has_state)
        if unused:
            lines.append(f"{space}del {', '.join(unused)}")
        if self.file.counts:
            lines.append(f"{space}count = optax.safe_increment(state.count)")
        if "grads" in "\n".join(self.body):
            lines.append(f"{space}grads = jax.tree.map({view}, updates)")
        if graph.reads("weights"):
            lines.append(f"{space}weights = jax.tree.map({view}, params)")
        if graph.reads("lr"):
            shape = "schedule(state.count) if callable(schedule) else schedule"
            lines.append(f"{space}lr = {shape}")
        if self._step_is_a_number:
            lines.append(f"{space}t = 1.0 * count")
        return lines

    @property
    def _step_is_a_number(self) -> bool:
        """Whether the step is more than an exponent (for which an integer will do)."""
        outputs = (self.graph.direction, *(state.following for state in self.graph.states))
        return any(value.op == "t" for value in outputs) or any(
            arg.op == "t" and (value.op, place) != ("power", 1)
            for value in self.graph.values()
            for place, arg in enumerate(value.args)
        )

    # -- what is a tree -----------------------------------------------------------------------

    def _given(self) -> dict[Node, _Tree]:
        """The trees that come in."""
        trees = {
            value: _Tree("grads", "g") if value.op == "gradient" else _Tree("weights", "w")
            for value in self.graph.values()
            if value.op in ("gradient", "weights")
        }
        for state in self.graph.states:
            if state.parameter.kind != Kind.SCALAR:
                name = self.file.states[state.parameter.name]
                trees[state.old] = _Tree(f"state.{name}", name, self._access(state))
        return trees

    def _access(self, state: StateVariable) -> str:
        """How a state's leaf is read: one of the parameter's shape may be wanted as a matrix."""
        full = state.parameter.kind == Kind.TENSOR
        return "_matrix(_0)" if full and self.graph.by_matrix else "_0"

    def _kept(self) -> dict[Node, StateVariable | None]:
        """The computed values that are trees of their own, with the state that each is the next
        value of, if it is kept as that state is.
        """
        kept: dict[Node, StateVariable | None] = {}
        for state in self.graph.states:
            value = state.following
            if value.kind == state.parameter.kind != Kind.SCALAR and value.args:
                kept.setdefault(value, state)
        values = self.graph.values()
        roots = [self.graph.direction, *(state.following for state in self.graph.states)]
        roots += [value.args[0] for value in values if value.op == "total"]
        roots = [root for root in roots if root.kind != Kind.SCALAR and root.args]
        readers: Counter[Node] = Counter(roots)
        readers.update({arg for v in values if v.kind != Kind.SCALAR for arg in v.args})
        several = {root for root in roots if readers[root] > 1}
        several |= set(shared(tuple(dict.fromkeys(roots)), _is_per_array))
        for value in values:
            if value in several:
                kept.setdefault(value, None)
        return kept

    # -- numbers ------------------------------------------------------------------------------

    def _numbers_asked_for(self) -> tuple[Node, ...]:
        """The numbers for the whole model that arrays read or states become."""
        asked = [
            arg
            for value in self.graph.values()
            if value.kind != Kind.SCALAR
            for arg in value.args
            if arg.kind == Kind.SCALAR
        ]
        asked += [s.following for s in self.graph.states if s.following.kind == Kind.SCALAR]
        return tuple(dict.fromkeys(asked))

    def _number_leaf(self, value: Node) -> ast.expr | None:
        match value.op:
            case "constant":
                return source.constant(value.name, value.value)
            case "hyperparameter" | "lr":
                return source.name(value.name)
            case "t":
                return source.name("t" if self._step_is_a_number else "count")
            case "state":
                return source.name(f"state.{self.file.states[value.name]}")
            case "total":
                return self._total(value)
        return None

    def _total(self, value: Node) -> ast.expr:
        """A sum over the model, as a name."""
        term = value.args[0]
        name = self.names.new(self.graph.name_for(value))
        if term in self.trees or term in self.kept:
            summed = self._tree(term).text
        else:
            arguments = self._mapped(term, name)
            summed = f"jax.tree.map({', '.join(arguments)})"
            if len(summed) + BODY + 4 > source.WIDTH:
                summed = self.names.new(f"{name}_terms")
                self.body += source.call(f"{summed} = jax.tree.map(", arguments, indent=BODY)
        self.body += source.call(f"{name} = optax.tree.sum(", [summed], indent=BODY)
        self.numbers.local[value] = source.name(name)
        return source.name(name)

    def _number_in_leaf(self, value: Node) -> ast.expr | None:
        """A number in an array's expression: in place if it is made of hyperparameters alone."""
        if not value.args or is_fixed(value):
            return self._number_leaf(value)
        return self.numbers.assign(value)

    # -- trees --------------------------------------------------------------------------------

    def _tree(self, value: Node) -> _Tree:
        """The tree that keeps `value`."""
        if value not in self.trees:
            state = self.kept[value]
            if state is None:
                name = self.names.new(self.graph.name_for(value))
                self._assign(name, value)
                self.trees[value] = _Tree(name, name)
            else:
                name = self.file.states[state.parameter.name]
                self._assign(name, value, self._storing(state), state.old)
                self.trees[value] = _Tree(name, name, self._access(state))
        return self.trees[value]

    def _storing(self, state: StateVariable) -> str:
        """How a next value `_0` becomes what is kept `like` the old one."""
        value, matrix = state.following, self._access(state) != "_0"
        ending = "_0"
        if value.kind != state.parameter.kind:
            shape = "_matrix(like).shape" if matrix else "like.shape"
            ending = f"jnp.broadcast_to(_0, {shape})"
        if matrix:
            ending += ".reshape(like.shape)"
        return f"{ending}.astype(like.dtype)" if _may_widen(value) else ending

    def _assign(self, name: str, value: Node, ending: str = "_0", like: Node | None = None) -> None:
        arguments = self._mapped(value, name, ending, like)
        self.body += source.call(f"{name} = jax.tree.map(", arguments, indent=BODY)

    def _mapped(
        self, value: Node, name: str, ending: str = "_0", like: Node | None = None
    ) -> list[str]:
        """The arguments of the `jax.tree.map` that gives `value` for each array.

        `ending` is an expression over the value `_0`, and `like`, a leaf of that tree.
        """
        read: dict[str, ast.expr] = {}
        names = source.Names(self.names.taken - self._names_of_trees())

        def leaf(part: Node) -> ast.expr | None:
            if part.kind == Kind.SCALAR:
                return self._number_in_leaf(part)
            if part not in self.trees and (part is value or part not in self.kept):
                return None
            tree = self._tree(part)
            if tree.text not in read:
                read[tree.text] = source.name(names.new(tree.leaf))
            return source.fill(tree.access, _0=read[tree.text])

        def known(part: Node) -> bool:
            if part.kind == Kind.SCALAR:
                return not is_fixed(part)
            return part in self.trees or part in self.kept

        computed = value.kind != Kind.SCALAR and bool(value.args) and value not in self.trees
        outputs = (value,) if computed else ()
        block = Block(
            names, known, leaf, self.dialect.write, self.graph.name_for, outputs, BODY + 4
        )
        result = block.expression(value, fresh=computed)
        extra = {}
        if like is not None and "like" in ending:
            leaf(like)
            extra["like"] = read[self.trees[like].text]
        written = source.text(source.fill(ending, _0=result, **extra))
        if len(written) + BODY + 11 > source.WIDTH:
            result = block.assign(value, result)
            written = source.text(source.fill(ending, _0=result, **extra))
        trees = sorted(read, key=lambda text: text not in ("grads", "weights"))
        parameters = ", ".join(source.text(read[text]) for text in trees)
        function = f"lambda {parameters}: {written}"
        if block.lines or len(function) + BODY + 5 > source.WIDTH:
            function = self.names.new(f"next_{name}")
            self.body += [
                "",
                f"        def {function}({parameters}):",
                *block.lines,
                f"            return {written}",
                "",
            ]
        return [function, *trees]

    def _names_of_trees(self) -> set[str]:
        """The names that leaves may take over, since no leaf's expression reads the tree."""
        return (
            {tree.text for tree in self.trees.values()}
            | set(self.file.states.values())
            | {tree.leaf for tree in self.trees.values()}
        )

    # -- results ------------------------------------------------------------------------------

    def _direction(self) -> str:
        """The text of the tree that keeps the update."""
        value = self.graph.direction
        if value.kind != Kind.TENSOR:
            gradient = self.graph.gradient
            self.trees.setdefault(gradient, _Tree("grads", "g"))
            self._assign("direction", value, "jnp.broadcast_to(_0, like.shape)", gradient)
            return "direction"
        if value in self.trees or value in self.kept:
            tree = self._tree(value)
            if tree.access == "_0":
                return tree.text
        self._assign("direction", value)
        return "direction"

    def _following(self, name: str, state: StateVariable) -> str:
        """The text of a state's next value."""
        value, kind = state.following, state.parameter.kind
        if value is state.old:
            return f"state.{name}"
        if kind == Kind.SCALAR:
            expression = source.text(self.numbers.expression(value))
            arguments = [expression, f"state.{name}.dtype"]
            self.body += source.call(f"{name} = jnp.asarray(", arguments, indent=BODY)
            return name
        if self.kept.get(value) is state:
            return self._tree(value).text
        self._assign(name, value, self._storing(state), state.old)
        return name


def _is_per_array(value: Node) -> bool:
    """Whether a value is computed for each array."""
    return value.kind != Kind.SCALAR and bool(value.args)


def _is_of_step(value: Node) -> bool:
    """Whether a computed number changes from step to step, and needs no arrays."""
    sums = any(part.op == "total" for part in reachable((value,)))
    return bool(value.args) and not sums and not is_fixed(value)


def _may_widen(value: Node) -> bool:
    """Whether numbers of the model, which may be wider than an array, are in `value`."""
    return any(
        part.op in ("total", "lr", "t") or (part.op == "state" and part.kind == Kind.SCALAR)
        for part in reachable((value,))
    )
