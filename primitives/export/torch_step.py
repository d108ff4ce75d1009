"""The method `step` of a PyTorch file."""

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
    """What the method `step` must know of the file around it.

    Attributes:
        graph: what one step computes.
        names: the names that the file has taken.
        states: the key of each state variable of the program.
        per_array: the states that each parameter has.
        of_model: the states that the whole model has.
        hyperparameters: the constants that users can set.
        weight_decay: the one that is decoupled weight decay, if any.
        dialect: how values are written in PyTorch.
        counts: whether steps are counted.
        own_steps: whether each parameter counts its own.
        reads_t: whether the program reads `t`.
        shaped: whether it reads `lr`, the shape of the schedule.
    """

    graph: Lowered
    names: source.Names
    states: dict[str, str]
    per_array: list[StateVariable]
    of_model: list[StateVariable]
    hyperparameters: tuple[Hyperparameter, ...]
    weight_decay: Hyperparameter | None
    dialect: Torch
    counts: bool
    own_steps: bool
    reads_t: bool
    shaped: bool


class Step:
    """The method `step`: passes over all parameters, as many as sums over the model need."""

    def __init__(self, file: File):
        self.file, self.graph, self.dialect = file, file.graph, file.dialect
        self.outer = file.names.scope()
        self.totals: dict[Node, str] = {}
        self.levels = self._levels()
        self.read_by_model = ["t"] * file.reads_t + ["shape"] * file.shaped

    def _levels(self) -> list[list[Node]]:
        """Sums over the model, those first that need no others."""
        level: dict[Node, int] = {}
        for value in self.graph.values():
            before = max((level[arg] for arg in value.args), default=0)
            level[value] = before + (value.op == "total")
        totals = [value for value in level if value.op == "total"]
        return [
            [value for value in totals if level[value] == number]
            for number in range(1, max(map(level.__getitem__, totals), default=0) + 1)
        ]

    def lines(self) -> list[str]:
        """The method's text."""
        file = self.file
        lines = [
            "    @torch.no_grad()",
            "    def step(self, closure: Callable[[], float] | None = None) -> float | None:",
            '        """One step; `closure`, if given, computes loss and gradients anew."""',
            "        loss = None",
            "        if closure is not None:",
            "            with torch.enable_grad():",
            "                loss = closure()",
        ]
        if file.of_model:
            lines += [
                "        found = [p for _, p in self._with_gradients()]",
                "        if not found:",
                "            return loss",
                "        like = found[0].to(torch.promote_types(found[0].dtype, torch.float32))",
                "        model = self._model(like)",
            ]
            if file.counts:
                lines += self.count("model", 8, self.read_by_model)
        for level in self.levels:
            lines += self._pass(level)
        lines += self._final()
        if file.of_model:
            lines += self._model_states()
        return [*lines, "        return loss"]

    def count(
        self, state: str, indent: int, read: Collection[str], increment: bool = True
    ) -> list[str]:
        """The lines that count a step and bind what follows from it."""
        space = " " * indent
        lines = []
        if increment:
            lines.append(f'{space}{state}["step"] += 1')
        step = f'{state}["step"]' if increment else f'{state}["step"] + 1'
        if "t" in read:
            lines.append(f"{space}t = {step}")
        if "shape" in read:
            done = f'{state}["step"] - 1' if increment else f'{state}["step"]'
            shape = f"1.0 if self.schedule is None else self.schedule({done})"
            lines.append(f"{space}shape = {shape}")
        return lines

    # -- loops ------------------------------------------------------------------------------------

    def _pass(self, totals: list[Node]) -> list[str]:
        """One pass that adds up `totals`."""
        names = [self.outer.new(self.graph.name_for(total)) for total in totals]
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

    def _final(self) -> list[str]:
        states = self.file.per_array
        body = _Body(self, (self.graph.direction, *(state.following for state in states)))
        body.write(states)
        return [
            "        for group, p in self._with_gradients():",
            *body.opening(final=True),
            *body.block.lines,
        ]

    def _model_states(self) -> list[str]:
        """The next values of the model's numbers, with the first group's hyperparameters."""
        states = self.file.of_model
        body = _Body(self, tuple(state.following for state in states), indent=8, of_model=True)
        body.write_states(states)
        lines = body.opening(final=True)
        return [*lines, *body.block.lines]


class _Body:
    """One loop's body, or what follows the loops: what is read, statements, writes."""

    def __init__(
        self, step: Step, outputs: tuple[Node, ...], indent: int = _BODY, of_model: bool = False
    ):
        self.step, self.file, self.graph = step, step.file, step.graph
        self.of_model = of_model
        self.indent = indent
        self.names = step.outer.scope()
        self.read: dict[str, None] = {}
        self.read_states: dict[Node, str] = {}
        self.written: dict[Node, ast.expr] = {}
        self.file.dialect.like = "like" if of_model else "grad"
        self.block = Block(
            self.names,
            _is_known,
            self._leaf,
            self.file.dialect.write,
            self.graph.name_for,
            outputs,
            indent,
            named=_is_named,
        )

    def _leaf(self, value: Node) -> ast.expr | None:
        match value.op:
            case "constant":
                return source.constant(value.name, value.value)
            case "hyperparameter" | "gradient" | "weights" | "t" | "lr":
                name = {"gradient": "grad", "lr": "shape"}.get(value.op, value.name)
                self.read["gradient" if name == "grad" else name] = None
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
        return any(one.name in self.read for one in self.file.hyperparameters)

    def opening(self, final: bool) -> list[str]:
        """The lines that bind what the body reads."""
        space = " " * self.indent
        file, lines = self.file, []
        hyperparameters = [h.name for h in file.hyperparameters if h.name in self.read]
        if self.of_model:
            group = "self.param_groups[0]"
        else:
            group = "group"
            wide = "p.grad.to(torch.promote_types(p.dtype, torch.float32))"
            if self.graph.by_matrix:
                wide = f"_matrix({wide})"
            needed = "weights" in self.read or re.search(r"\bgrad\b", "\n".join(self.block.lines))
            if needed or "gradient" in self.read:
                lines.append(f"{space}grad = {wide}")
            if "weights" in self.read:
                weights = "_matrix(p)" if self.graph.by_matrix else "p"
                lines.append(f"{space}weights = {weights}.to(grad.dtype)")
        if final and not self.of_model:
            hyperparameters.insert(0, "lr")
        lines += [f'{space}{name} = {group}["{name}"]' for name in hyperparameters]
        own = file.own_steps and not self.of_model
        arrays = {v: n for v, n in self.read_states.items() if v.kind != Kind.SCALAR}
        if not self.of_model and (arrays or (own and (final or {"t", "shape"} & set(self.read)))):
            lines.append(f"{space}state = self._state(p)")
        if own and (final or {"t", "shape"} & set(self.read)):
            lines += self.step.count("state", self.indent, self.read, final)
        for value, name in self.read_states.items():
            if value.kind == Kind.SCALAR:
                lines.append(f'{space}{name} = model["{name}"]')
            elif value.kind == Kind.TENSOR and self.graph.by_matrix:
                lines.append(f'{space}{name} = _matrix(state["{name}"])')
            else:
                lines.append(f'{space}{name} = state["{name}"]')
        return lines

    # -- writes -----------------------------------------------------------------------------------

    def write(self, states: list[StateVariable]) -> None:
        """The last pass: the states that nothing else reads, the update, the other states, and
        the weights last, since values that are still to be computed may read them.
        """
        early = [state for state in states if self._only_own(state)]
        for state in early:
            self._in_place(state)
        update = self._update()
        self.write_states([state for state in states if state not in early])
        self._weights(update)

    def _only_own(self, state: StateVariable) -> bool:
        """Whether only the next value reads the old one, so that it can be written over at once."""
        others = [self.graph.direction]
        others += [s.following for s in self.graph.states if s is not state]
        if state.following.kind != state.parameter.kind or state.following is state.old:
            return False
        seen: set[Node] = {state.following}
        while others:
            value = others.pop()
            if value is state.old:
                return False
            if value not in seen:
                seen.add(value)
                others += value.args
        return True

    def write_states(self, states: list[StateVariable]) -> None:
        """Writes next values, none before whatever still reads the old one is computed."""
        pending = [state for state in states if state.following is not state.old]
        while pending:
            ready = next((s for s in pending if not self._awaited(s, pending)), None)
            if ready is None:  # they read each other: one is computed ahead
                value = pending[0].following
                if value.args:
                    self.block.assign(value)
                else:
                    name = self.names.new(f"old_{self.file.states[value.name]}")
                    old = source.text(self.block.expression(value))
                    self.block.lines.append(f"{self.block.indent}{name} = {old}.clone()")
                    self.block.local[value] = source.name(name)
                continue
            pending.remove(ready)
            self._in_place(ready)

    def _awaited(self, state: StateVariable, pending: list[StateVariable]) -> bool:
        """Whether a pending value other than its own still reads the old one."""
        return any(
            other is not state and state.old in self._unread(other.following) for other in pending
        )

    def _unread(self, value: Node) -> set[Node]:
        """What is still to be read when `value` is computed."""
        found: set[Node] = set()
        stack = [value]
        while stack:
            part = stack.pop()
            if part not in found and part not in self.block.local and part not in self.written:
                found.add(part)
                stack += part.args
        return found

    def _in_place(self, state: StateVariable) -> None:
        name, value, old = self.file.states[state.parameter.name], state.following, state.old
        self.read_states[old] = name
        space = self.block.indent
        known = value in self.block.local or value in self.written
        if not known and value.kind == old.kind and self._update_in_place(name, value, old):
            pass
        elif self.file.dialect.on_host(value):
            number = source.text(self.block.expression(value))
            self.block.lines.append(f"{space}{name}.fill_({number})")
        else:
            expression = source.text(self.block.fitted(value, f"{name}.copy_()"))
            self.block.lines.append(f"{space}{name}.copy_({expression})")
        if value.kind == old.kind:
            self.written.setdefault(value, source.name(name))
            self.block.local.setdefault(value, source.name(name))

    def _update_in_place(self, name: str, value: Node, old: Node) -> bool:
        """An average or a sum, written as what it is; whether it was one."""
        space, block = self.block.indent, self.block
        host = self.file.dialect.on_host
        average = match_average(value, old)
        if average and host(average[1]):
            new, decay = average
            if new.kind != old.kind or host(new) or old in reachable((new,)):
                return False
            share = source.text(source.fill("1 - _0", _0=block.operand(decay)))
            text = source.text(block.fitted(new, f"{name}.lerp_(, {share})"))
            self.block.lines.append(f"{space}{name}.lerp_({text}, {share})")
            return True
        if value.op == "add":
            for kept, new in (value.args, value.args[::-1]):
                factor = self._factor(kept, old)
                if factor is None or old in reachable((new,)):
                    continue
                decayed = name if kept is old else f"{name}.mul_({source.text(factor)})"
                text = source.text(block.fitted(new, f"{decayed}.add_()"))
                block.lines.append(f"{space}{decayed}.add_({text})")
                return True
        return False

    def _factor(self, value: Node, old: Node) -> ast.expr | None:
        """What `value` multiplies the old value with (1 if it is the old value), if a number."""
        if value is old:
            return ast.Constant(1.0)
        if value.op == "multiply" and self.block.uses[value] == 1:
            for this, other in (value.args, value.args[::-1]):
                if this is old and self.file.dialect.on_host(other):
                    return self.block.expression(other)
        return None

    def _update(self) -> ast.expr:
        """The direction, as a name or number; a copy if it is a state that will be written over."""
        value = self.graph.direction
        expression = self.block.expression(value)
        if value.op == "state" and value.kind != Kind.SCALAR and value not in self.written:
            expression = source.fill("_0.clone()", _0=expression)
        if not isinstance(expression, ast.Name | ast.Constant):
            name = self.names.new("update")
            self.block.lines += source.assignment(name, expression, self.indent)
            expression = source.name(name)
        return expression

    def _weights(self, expression: ast.expr) -> None:
        direction, file, space = self.graph.direction, self.file, self.block.indent
        if self.graph.by_matrix and not file.dialect.on_host(direction):
            spread = "_0" if direction.kind == Kind.TENSOR else "_0.expand_as(grad)"
            expression = source.fill(f"{spread}.reshape(p.shape)", _0=expression)
        moved = source.fill("rate * _0", _0=expression, rate=source.name("lr"))
        if file.weight_decay is not None:
            decay = source.name(file.weight_decay.name)
            self.read[file.weight_decay.name] = None
            moved = source.fill("lr * (_0 + decay * p)", _0=expression, decay=decay)
        self.block.lines.append(f"{space}p.sub_({source.text(moved)})")


def _is_known(value: Node) -> bool:
    """Whether a value is read from somewhere and not computed in place."""
    return not value.args or value.op == "total"


def _is_named(value: Node, reader: Node | None) -> bool:
    """Whether a value gets its own line: a number of this step that an array reads."""
    if value.kind != Kind.SCALAR or (reader is not None and reader.kind == Kind.SCALAR):
        return False
    return not is_fixed(value)
