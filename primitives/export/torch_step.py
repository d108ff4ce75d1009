"""Writes the method `step` of a PyTorch file."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection
from typing import Protocol

from primitives.export import source
from primitives.export.blocks import Block
from primitives.export.dialect import Torch
from primitives.export.lowering import Lowered, StateVariable, is_fixed
from primitives.graph.nodes import Node, reachable
from primitives.graph.roles import Hyperparameter
from primitives.graph.statements import match_average
from primitives.kinds import Kind

_BODY = 12


class File(Protocol):
    """The attributes of a PyTorch file that the text of `step` depends on.

    Attributes:
        graph: the lowered graph of one step.
        names: the names in use.
        states: the key of each state in the file, by the state's name in the program.
        array_states: the states that each parameter has.
        model_states: the states that the whole model has.
        hyperparameters: the constants that users can set.
        weight_decay: the hyperparameter of decoupled weight decay, if any.
        dialect: writes ops in PyTorch.
        counts_steps: whether steps are counted.
        counts_per_array: whether steps are counted for each parameter.
        reads_t: whether the program reads `t`.
        has_schedule: whether the program reads `lr`, the schedule, other than as a factor on the
            update.
    """

    graph: Lowered
    names: source.Names
    states: dict[str, str]
    array_states: list[StateVariable]
    model_states: list[StateVariable]
    hyperparameters: tuple[Hyperparameter, ...]
    weight_decay: Hyperparameter | None
    dialect: Torch
    counts_steps: bool
    counts_per_array: bool
    reads_t: bool
    has_schedule: bool


class Step:
    """Writes the method `step`.

    The method loops over all parameters once for each level of sums over the model that depend on
    each other, and once more to update states and weights.
    """

    def __init__(self, file: File):
        self.file, self.graph, self.dialect = file, file.graph, file.dialect
        self.names = file.names.scope()
        self.totals: dict[Node, str] = {}
        self.levels = self._levels()
        self.read_by_model = ["t"] * file.reads_t + ["shape"] * file.has_schedule

    def _levels(self) -> list[list[Node]]:
        """Return the sums over the model by level; a sum depends only on sums of lower levels."""
        level: dict[Node, int] = {}
        for value in self.graph.values():
            highest = max((level[arg] for arg in value.args), default=0)
            level[value] = highest + (value.op == "total")
        totals = [value for value in level if value.op == "total"]
        return [
            [value for value in totals if level[value] == number]
            for number in range(1, max(map(level.__getitem__, totals), default=0) + 1)
        ]

    def lines(self) -> list[str]:
        """Return the lines of the method."""
        file = self.file
        lines = [
            "    @torch.no_grad()",
            "    def step(self, closure: Callable[[], float] | None = None) -> float | None:",
            '        """Perform one step; `closure`, if given, recomputes loss and gradients."""',
            "        loss = None",
            "        if closure is not None:",
            "            with torch.enable_grad():",
            "                loss = closure()",
        ]
        if file.model_states:
            lines += [
                "        found = [p for _, p in self._with_gradients()]",
                "        if not found:",
                "            return loss",
                "        like = found[0].to(torch.promote_types(found[0].dtype, torch.float32))",
                "        model = self._model(like)",
            ]
            if file.counts_steps:
                lines += self.count("model", 8, self.read_by_model)
        for level in self.levels:
            lines += self._summing_loop(level)
        lines += self._final_loop()
        if file.model_states:
            lines += self._model_states()
        return [*lines, "        return loss"]

    def count(
        self, state: str, indent: int, read: Collection[str], increment: bool = True
    ) -> list[str]:
        """Return the lines that count a step and define the step and the schedule's value.

        Args:
            state: the name of the dict that holds the count.
            indent: number of spaces before each line.
            read: the names to define, of `t` and `shape`.
            increment: whether to count the step here; if False, later lines count the step.
        """
        space = " " * indent
        lines = []
        if increment:
            lines.append(f'{space}{state}["step"] += 1')
        step = f'{state}["step"]' if increment else f'{state}["step"] + 1'
        if "t" in read:
            lines.append(f"{space}t = {step}")
        if "shape" in read:
            completed_steps = f'{state}["step"] - 1' if increment else f'{state}["step"]'
            shape = f"1.0 if self.schedule is None else self.schedule({completed_steps})"
            lines.append(f"{space}shape = {shape}")
        return lines

    # -- loops ------------------------------------------------------------------------------------

    def _summing_loop(self, totals: list[Node]) -> list[str]:
        """Return the loop that computes the sums `totals`."""
        names = [self.names.new(self.graph.name_for(total)) for total in totals]
        body = _Body(self, tuple(total.args[0] for total in totals))
        sums: list[str] = []
        for total, name in zip(totals, names, strict=True):
            term = body.block.fitted(total.args[0], f"{name} = {name} + torch.sum()")
            sums.append(f"            {name} = {name} + torch.sum({source.text(term)})")
        lines = [f"        {name} = 0.0" for name in names]
        group = "group" if body.reads_group else "_"
        lines += [f"        for {group}, p in self._with_gradients():"]
        lines += body.opening(final=False)
        lines += [*body.block.lines, *sums]
        self.totals |= dict(zip(totals, names, strict=True))
        return lines

    def _final_loop(self) -> list[str]:
        """Return the loop that updates states and weights."""
        states = self.file.array_states
        body = _Body(self, (self.graph.direction, *(state.next_value for state in states)))
        body.write(states)
        return [
            "        for group, p in self._with_gradients():",
            *body.opening(final=True),
            *body.block.lines,
        ]

    def _model_states(self) -> list[str]:
        """Return the lines that update the model's states.

        The lines read the hyperparameters of the first parameter group.
        """
        states = self.file.model_states
        body = _Body(self, tuple(state.next_value for state in states), indent=8, is_model=True)
        body.write_states(states)
        lines = body.opening(final=True)
        return [*lines, *body.block.lines]


class _Body:
    """Writes the body of a loop over parameters, or the lines that update the model's states.

    Args:
        step: the method around the body.
        outputs: the values that the body computes.
        indent: number of spaces before each statement.
        is_model: whether the body updates the model's states.
    """

    def __init__(
        self, step: Step, outputs: tuple[Node, ...], indent: int = _BODY, is_model: bool = False
    ):
        self.step, self.file, self.graph = step, step.file, step.graph
        self.is_model = is_model
        self.indent = indent
        self.names = step.names.scope()
        self.read_inputs: dict[str, None] = {}  # names of the inputs that were read, in order
        self.read_states: dict[Node, str] = {}
        self.written: dict[Node, ast.expr] = {}  # values that states hold since they were updated
        self.file.dialect.like = "like" if is_model else "grad"
        self.block = Block(
            self.names,
            _is_external,
            self._leaf,
            self.file.dialect.write,
            self.graph.name_for,
            outputs,
            indent,
            needs_name=_needs_name,
        )

    def _leaf(self, value: Node) -> ast.expr | None:
        match value.op:
            case "constant":
                return source.constant(value.name, value.value)
            case "hyperparameter" | "gradient" | "weights" | "t" | "lr":
                name = {"gradient": "grad", "lr": "shape"}.get(value.op, value.name)
                self.read_inputs["gradient" if name == "grad" else name] = None
                return source.name(name)
            case "total":
                return source.name(self.step.totals[value])
            case "state":
                name = self.file.states[value.name]
                self.read_states[value] = name
                return source.name(name)
        return self.written.get(value)

    @property
    def reads_group(self) -> bool:
        """Whether the body reads a hyperparameter."""
        return any(
            hyperparameter.name in self.read_inputs for hyperparameter in self.file.hyperparameters
        )

    def opening(self, final: bool) -> list[str]:
        """Return the lines that define what the body reads.

        Args:
            final: whether the body updates states, and so counts the step.
        """
        space = " " * self.indent
        file, lines = self.file, []
        hyperparameters = [
            hyperparameter.name
            for hyperparameter in file.hyperparameters
            if hyperparameter.name in self.read_inputs
        ]
        if self.is_model:
            group = "self.param_groups[0]"
        else:
            group = "group"
            float32_or_wider = "p.grad.to(torch.promote_types(p.dtype, torch.float32))"
            if self.graph.uses_matrices:
                float32_or_wider = f"_matrix({float32_or_wider})"
            is_read = "weights" in self.read_inputs or re.search(
                r"\bgrad\b", "\n".join(self.block.lines)
            )
            if is_read or "gradient" in self.read_inputs:
                lines.append(f"{space}grad = {float32_or_wider}")
            if "weights" in self.read_inputs:
                weights = "_matrix(p)" if self.graph.uses_matrices else "p"
                lines.append(f"{space}weights = {weights}.to(grad.dtype)")
        if final and not self.is_model:
            hyperparameters.insert(0, "lr")
        lines += [f'{space}{name} = {group}["{name}"]' for name in hyperparameters]
        has_arrays = any(value.kind != Kind.SCALAR for value in self.read_states)
        needs_count = (
            file.counts_per_array
            and not self.is_model
            and (final or bool({"t", "shape"} & set(self.read_inputs)))
        )
        if not self.is_model and (has_arrays or needs_count):
            lines.append(f"{space}state = self._state(p)")
        if needs_count:
            lines += self.step.count("state", self.indent, self.read_inputs, final)
        for value, name in self.read_states.items():
            if value.kind == Kind.SCALAR:
                lines.append(f'{space}{name} = model["{name}"]')
            elif value.kind == Kind.TENSOR and self.graph.uses_matrices:
                lines.append(f'{space}{name} = _matrix(state["{name}"])')
            else:
                lines.append(f'{space}{name} = state["{name}"]')
        return lines

    # -- writes -----------------------------------------------------------------------------------

    def write(self, states: list[StateVariable]) -> None:
        """Add the statements of the final loop.

        First come the states whose old value only their next value reads, then the update, then the
        other states. The weights come last, because the next values of states may depend on them.
        """
        written_before_update = [state for state in states if self._is_self_contained(state)]
        for state in written_before_update:
            self._write_state(state)
        update = self._update()
        self.write_states([state for state in states if state not in written_before_update])
        self._write_weights(update)

    def _is_self_contained(self, state: StateVariable) -> bool:
        """Whether nothing but the state's next value depends on the state's old value."""
        others = [self.graph.direction]
        others += [other.next_value for other in self.graph.states if other is not state]
        if state.next_value.kind != state.parameter.kind or state.next_value is state.old_value:
            return False
        visited: set[Node] = {state.next_value}
        while others:
            value = others.pop()
            if value is state.old_value:
                return False
            if value not in visited:
                visited.add(value)
                others += value.args
        return True

    def write_states(self, states: list[StateVariable]) -> None:
        """Add the statements that update states.

        A state is overwritten after all values that depend on its old value are computed.
        """
        pending = [state for state in states if state.next_value is not state.old_value]
        while pending:
            ready = next(
                (state for state in pending if not self._is_still_read(state, pending)), None
            )
            if ready is None:  # the states depend on each other: compute a value before storing it
                value = pending[0].next_value
                if value.args:
                    self.block.assign(value)
                else:
                    name = self.names.new(f"old_{self.file.states[value.name]}")
                    old = source.text(self.block.expression(value))
                    self.block.lines.append(f"{self.block.indent}{name} = {old}.clone()")
                    self.block.local[value] = source.name(name)
                continue
            pending.remove(ready)
            self._write_state(ready)

    def _is_still_read(self, state: StateVariable, pending: list[StateVariable]) -> bool:
        """Whether the pending value of another state depends on the state's old value."""
        return any(
            other is not state and state.old_value in self._inputs(other.next_value)
            for other in pending
        )

    def _inputs(self, value: Node) -> set[Node]:
        """Return the values that `value` depends on and that no statement computes yet."""
        inputs: set[Node] = set()
        stack = [value]
        while stack:
            node = stack.pop()
            if node not in inputs and node not in self.block.local and node not in self.written:
                inputs.add(node)
                stack += node.args
        return inputs

    def _write_state(self, state: StateVariable) -> None:
        name, value, old = self.file.states[state.parameter.name], state.next_value, state.old_value
        self.read_states[old] = name
        space = self.block.indent
        is_computed = value in self.block.local or value in self.written
        if not is_computed and value.kind == old.kind and self._update_in_place(name, value, old):
            pass
        elif self.file.dialect.is_python_number(value):
            number = source.text(self.block.expression(value))
            self.block.lines.append(f"{space}{name}.fill_({number})")
        else:
            expression = source.text(self.block.fitted(value, f"{name}.copy_()"))
            self.block.lines.append(f"{space}{name}.copy_({expression})")
        if value.kind == old.kind:
            self.written.setdefault(value, source.name(name))
            self.block.local.setdefault(value, source.name(name))

    def _update_in_place(self, name: str, value: Node, old: Node) -> bool:
        """Add an in-place update if `value` is an average or a sum.

        Returns:
            Whether the update was added.
        """
        space, block = self.block.indent, self.block
        is_python_number = self.file.dialect.is_python_number
        average = match_average(value, old)
        if average and is_python_number(average[1]):
            averaged, decay = average
            if (
                averaged.kind != old.kind
                or is_python_number(averaged)
                or old in reachable((averaged,))
            ):
                return False
            new_weight = source.text(source.fill("1 - _0", _0=block.operand(decay)))
            text = source.text(block.fitted(averaged, f"{name}.lerp_(, {new_weight})"))
            self.block.lines.append(f"{space}{name}.lerp_({text}, {new_weight})")
            return True
        if value.op == "add":
            for decayed_term, added in (value.args, value.args[::-1]):
                factor = self._factor(decayed_term, old)
                if factor is None or old in reachable((added,)):
                    continue
                decayed = name if decayed_term is old else f"{name}.mul_({source.text(factor)})"
                text = source.text(block.fitted(added, f"{decayed}.add_()"))
                block.lines.append(f"{space}{decayed}.add_({text})")
                return True
        return False

    def _factor(self, value: Node, old: Node) -> ast.expr | None:
        """Return the factor of `value` = factor * `old` if a Python number, else None."""
        if value is old:
            return ast.Constant(1.0)
        if value.op == "multiply" and self.block.uses[value] == 1:
            for arg, other in (value.args, value.args[::-1]):
                if arg is old and self.file.dialect.is_python_number(other):
                    return self.block.expression(other)
        return None

    def _update(self) -> ast.expr:
        """Return the update, before learning rate and weight decay, as a name or a number.

        An update that is the old value of a state is copied, because the state is overwritten.
        """
        value = self.graph.direction
        expression = self.block.expression(value)
        if value.op == "state" and value.kind != Kind.SCALAR and value not in self.written:
            expression = source.fill("_0.clone()", _0=expression)
        if not isinstance(expression, ast.Name | ast.Constant):
            name = self.names.new("update")
            self.block.lines += source.assignment(name, expression, self.indent)
            expression = source.name(name)
        return expression

    def _write_weights(self, update: ast.expr) -> None:
        direction, file, space = self.graph.direction, self.file, self.block.indent
        if self.graph.uses_matrices and not file.dialect.is_python_number(direction):
            tensor = "_0" if direction.kind == Kind.TENSOR else "_0.expand_as(grad)"
            update = source.fill(f"{tensor}.reshape(p.shape)", _0=update)
        change = source.fill("rate * _0", _0=update, rate=source.name("lr"))
        if file.weight_decay is not None:
            decay = source.name(file.weight_decay.name)
            self.read_inputs[file.weight_decay.name] = None
            change = source.fill("lr * (_0 + decay * p)", _0=update, decay=decay)
        self.block.lines.append(f"{space}p.sub_({source.text(change)})")


def _is_external(value: Node) -> bool:
    """Whether a value is a leaf or a sum over the model."""
    return not value.args or value.op == "total"


def _needs_name(value: Node, reader: Node | None) -> bool:
    """Whether a value has its own statement: a scalar that changes and that an array reads."""
    if value.kind != Kind.SCALAR or (reader is not None and reader.kind == Kind.SCALAR):
        return False
    return not is_fixed(value)
