"""Roles of a program's states and constants, such as momentum, second moment and weight decay.

A state that averages the gradient is momentum, and a state that averages the squared gradient is a
second moment. A constant in such an average is a decay, a constant that multiplies the weights in a
term of the update is a weight decay, and so on. Roles determine the names of states and
hyperparameters in exported code, and the valid ranges of the hyperparameters. Roles never change
what a program computes.

A `Position` is the position of a constant in a program, see `statements.Position`.
`constants_to_states` replaces constants by scalar states, so that their values can be set when the
program runs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from primitives.graph.analysis import live
from primitives.graph.nodes import Node
from primitives.graph.statements import INITIAL, Position, bias_correction, constant_value, resolved
from primitives.graph.structure import StateRole, Structure
from primitives.interval import ANYTHING, DECAY, NEGATIVE, NONNEGATIVE, POSITIVE, Interval
from primitives.kinds import Kind
from primitives.op import ConstantRole
from primitives.program import Parameter, Program, Statement

SUFFIXES = {Kind.ROW: "_row", Kind.COL: "_col"}
"""Suffixes of the names of states with one number per row or column."""
_PLAIN_MAGNITUDES = (0.0, 0.5, 1.0, 2.0)
"""A constant without a role does not become a hyperparameter if it has one of these magnitudes."""
_LARGEST_EPSILON = 1e-3
"""Largest constant in a sum that counts as the epsilon of a denominator."""


@dataclass(frozen=True)
class Hyperparameter:
    """A constant of a program as a named hyperparameter.

    Attributes:
        name: name, unique in the program.
        role: purpose in words.
        value: value in the program.
        interval: valid values.
        positions: positions of the constant in `Roles.program`.
        unit_positions: positions at which code that reads the hyperparameter must have the constant
            1. If `value` is the product of several constants, `positions` has the position of the
            first constant, and `unit_positions` the positions of the others.
    """

    name: str
    role: str
    value: float
    interval: Interval
    positions: tuple[Position, ...]
    unit_positions: tuple[Position, ...] = ()

    @property
    def meaning(self) -> str:
        """The role, with the valid interval unless all values are valid."""
        return self.role if self.interval == ANYTHING else f"{self.role}, in {self.interval}"


@dataclass(frozen=True)
class Roles:
    """The roles of a program's states and constants.

    Attributes:
        program: the live program that positions refer to.
        states: by name, the role of each state, and whether the state is a sum, not an average.
        hyperparameters: all hyperparameters except the learning rate.
        learning_rate: product of the constants that scale the whole update; 1 if there are none.
        reads_lr: whether the program reads `lr`.
        lr_is_factor: whether no state depends on `lr`, and the update is proportional to `lr` or
            independent of `lr`.
        weight_decay_node: number of the node that is the weights times `weight_decay`; None if
            there is no decoupled weight decay.
    """

    program: Program
    states: dict[str, tuple[StateRole, bool]]
    hyperparameters: tuple[Hyperparameter, ...]
    learning_rate: Hyperparameter
    reads_lr: bool
    lr_is_factor: bool
    weight_decay_node: int | None

    @property
    def weight_decay(self) -> Hyperparameter | None:
        """The hyperparameter of decoupled weight decay, if the program has it."""
        if self.weight_decay_node is None:
            return None
        return next(
            (
                hyperparameter
                for hyperparameter in self.hyperparameters
                if hyperparameter.role == "weight decay"
            ),
            None,
        )


@lru_cache(maxsize=1024)
def roles(program: Program) -> Roles:
    """Find the roles of the states and constants in the live part of `program`.

    Raises:
        ProgramError: the program is not valid.
    """
    return _RoleFinder(live(program)).find()


def constants_to_states(program: Program, positions: Mapping[Position, str]) -> Program:
    """Replace constants of a program by scalar states.

    The new states come last, in the order of `positions`, and keep their values from step to step.

    Args:
        program: a valid program.
        positions: for the position of each constant, the name of the state to read instead. Initial
            values of states, `(INITIAL, n)`, cannot be replaced.
    """
    statements = list(program.statements)
    for (index, operand), name in positions.items():
        target, op, args = statements[index]
        if args:
            new_args = (*args[:operand], name, *args[operand + 1 :])
            statements[index] = Statement(target, op, new_args)
        else:  # an op that returns a constant
            statements[index] = Statement(target, "identity", (name,))
    names = tuple(dict.fromkeys(positions.values()))
    return Program(
        (*program.parameters, *(Parameter(name, Kind.SCALAR) for name in names)),
        tuple(statements),
        (*program.returns, *names),
    )


_DecayForm = Literal["decay", "momentum", "average weight"]


@dataclass
class _Draft:
    """A hyperparameter before its final name is chosen.

    Attributes:
        key: constants with equal keys are the same hyperparameter.
        base_name: name, to which a number is added if it is not unique.
        role: purpose in words.
        interval: valid values.
        positions: positions of the constant.
    """

    key: tuple[object, ...]
    base_name: str
    role: str
    interval: Interval
    positions: list[Position]


class _RoleFinder(Structure):
    def find(self) -> Roles:
        learning_rate_positions, lr_is_factor = self.learning_rate()
        weight_decay, weight_decay_positions = self.decoupled_weight_decay(lr_is_factor)
        states = self.state_roles()
        assigned_positions = {*learning_rate_positions, *weight_decay_positions}
        drafts = self._drafts(assigned_positions, states)
        learning_rate = self._product("learning_rate", "learning rate", learning_rate_positions)
        if weight_decay_positions:
            drafts.append(
                _Draft(("weight decay",), "weight_decay", "", NONNEGATIVE, weight_decay_positions)
            )
        return Roles(
            self.program,
            states,
            self._named(drafts, weight_decay_positions),
            learning_rate,
            self.reads_lr(),
            lr_is_factor,
            None if weight_decay is None else weight_decay.number,
        )

    def _value(self, position: Position) -> float:
        """Return the value of the constant at a position."""
        index, operand = position
        if index == INITIAL:
            return self.program.states[operand].initial
        node = self.statements[index]
        return node.args[operand].value if node.args else constant_value(node.op)

    def _product(self, name: str, role: str, positions: list[Position]) -> Hyperparameter:
        """Return the hyperparameter whose value is the product of the constants at `positions`."""
        value = float(f"{math.prod(map(self._value, positions)):.12g}")
        return Hyperparameter(
            name, role, value, NONNEGATIVE, tuple(positions[:1]), tuple(positions[1:])
        )

    def _drafts(
        self, assigned_positions: Collection[Position], states: dict[str, tuple[StateRole, bool]]
    ) -> list[_Draft]:
        """Return a draft of each hyperparameter, except those of `assigned_positions`."""
        drafts: dict[tuple[object, ...], _Draft] = {}
        positions_with_role: set[Position] = set()
        uses = [
            (node, operand, *constant)
            for node in self.statements
            for operand, arg in enumerate(node.args)
            if (constant := self.constant(arg))
            and constant[1] not in assigned_positions
            and node.op != "identity"
        ]
        for match in (self._as_decay, self._as_repeated_decay, self._as_standard, self._as_other):
            for node, operand, value, position in uses:
                if position in positions_with_role:
                    continue
                draft = match(node, operand, value, position, drafts)
                if draft is not None:
                    drafts.setdefault(draft.key, draft).positions.append(position)
                    positions_with_role.add(position)
        for index, state in enumerate(self.program.states):
            if state.initial:
                key = ("initial", state.name)
                ascii_name = re.sub(r"[^a-z0-9_]", "", state.name.lower()) or "state"
                role = f"initial value of {state.name}"
                interval = POSITIVE if state.initial > 0 else NEGATIVE
                drafts[key] = _Draft(
                    key, f"initial_{ascii_name}", role, interval, [(INITIAL, index)]
                )

        def is_initial_value(draft: _Draft) -> bool:
            return draft.key[0] == "initial"

        return sorted(drafts.values(), key=is_initial_value)

    def _as_decay(
        self, node: Node, operand: int, value: float, position: Position, drafts: object
    ) -> _Draft | None:
        """Match the decay of a moving average or of a decaying sum."""
        if value not in DECAY:
            return None
        if node.op == "interp" and operand == 2:
            orders = [order for arg in node.args[:2] if (order := self.orders[arg])]
            is_next_state = node in map(resolved, self.next_values.values())
            form: _DecayForm = "decay" if is_next_state else "average weight"
            return _decay_draft(max(orders, default=0.0), value, form)
        if node.op == "multiply":
            state = resolved(node.args[1 - operand])
            if state in self.next_values and self.form(state) == "sum":
                next_value = self.next_values[state]
                is_term_of_sum = node in map(resolved, resolved(next_value).args)
                if is_term_of_sum:
                    order = self.orders[next_value] or 0.0
                    return _decay_draft(order, value, "momentum" if order == 1 else "decay")
        return None

    def _as_repeated_decay(
        self,
        node: Node,
        operand: int,
        value: float,
        position: Position,
        drafts: Mapping[tuple[object, ...], _Draft],
    ) -> _Draft | None:
        """Match another use of a decay: in a bias correction 1 - b^t, or in Nesterov's momentum."""
        if value not in DECAY:
            return None
        equal_decays = [
            draft for key, draft in drafts.items() if key[0] == "decay" and key[2] == value
        ]
        if node.op == "power" and operand == 0 and "t" in node.args[1].leaves:
            order = self._corrected_order(node)
            of_same_order = [draft for draft in equal_decays if draft.key[1] == order]
            candidates = of_same_order or equal_decays
            return candidates[0] if candidates else _decay_draft(order or 0.0, value, "decay")
        if node.op == "multiply" and equal_decays:
            other = resolved(node.args[1 - operand])
            if other in (*self.next_values, *self.next_values.values()):
                order = self.orders[other]
                return next((draft for draft in equal_decays if draft.key[1] == order), None)
        return None

    def _corrected_order(self, power: Node) -> float | None:
        """Return the order of the value that is divided by 1 - `power`; None if unknown."""
        for difference, _ in self.users[power]:
            if bias_correction(difference) is power:
                for quotient, operand in self.users[difference]:
                    if quotient.op == "divide" and operand == 1:
                        return self.orders[quotient.args[0]]
        return None

    def _as_standard(
        self, node: Node, operand: int, value: float, position: Position, drafts: object
    ) -> _Draft | None:
        """Match a constant with a standard name: eps, weight_decay, or a name from the op table."""
        user_ops = {user.op for user, _ in self.users[node]}
        if node.op == "add" and 0 < value <= _LARGEST_EPSILON:
            name = "eps_root" if "sqrt" in user_ops else "eps"
            return _Draft((name, value), name, "keeps a denominator positive", POSITIVE, [])
        multiplies_weights = (
            node.op == "multiply" and resolved(node.args[1 - operand]) is self.weights
        )
        if multiplies_weights and value > 0 and "add" in user_ops:
            return _Draft(("weight decay", value), "weight_decay", "weight decay", NONNEGATIVE, [])
        role = node.op_entry.constant_role(operand)
        if role and role.always and (value > 0 or not role.keeps_sign):
            interval = POSITIVE if role.keeps_sign else ANYTHING
            return _Draft((role.name, position), role.name, role.description, interval, [])
        return None

    def _as_other(
        self, node: Node, operand: int, value: float, position: Position, drafts: object
    ) -> _Draft | None:
        """Match any other constant, unless its magnitude is plain."""
        if abs(value) in _PLAIN_MAGNITUDES:
            return None
        role = node.op_entry.constant_role(operand)
        if role is None or role.always:
            role = ConstantRole(node.op_entry.name, f"in {node.op_entry.name}")
        interval = ANYTHING
        if role.keeps_sign:
            interval = POSITIVE if value > 0 else NEGATIVE
        return _Draft((role.name, position), role.name, role.description, interval, [])

    def _named(
        self, drafts: list[_Draft], weight_decay_positions: list[Position]
    ) -> tuple[Hyperparameter, ...]:
        """Return the hyperparameters with unique names; several decays get the names b1, b2, ..."""
        decays = sorted(
            (draft for draft in drafts if draft.key[0] == "decay"),
            key=lambda draft: (draft.key[1] or math.inf, min(draft.positions)),
        )
        if len(decays) > 1:
            for number, draft in enumerate(decays, 1):
                draft.base_name = f"b{number}"
        roots = [draft for draft in drafts if draft.base_name == "eps_root"]
        if len(roots) == 1 and not any(draft.base_name == "eps" for draft in drafts):
            roots[0].base_name = "eps"
        others = [draft for draft in drafts if draft.key[0] != "decay"]
        used_names = {"learning_rate", "lr", "schedule", "mask", "params"}
        hyperparameters = []
        for draft in (*decays, *others):
            name, number = draft.base_name, 2
            while name in used_names:
                name, number = f"{draft.base_name}_{number}", number + 1
            used_names.add(name)
            if draft.positions is weight_decay_positions:
                hyperparameters.append(self._product(name, "weight decay", weight_decay_positions))
            else:
                value = self._value(draft.positions[0])
                hyperparameters.append(
                    Hyperparameter(name, draft.role, value, draft.interval, tuple(draft.positions))
                )
        return tuple(hyperparameters)


def _decay_draft(order: float, value: float, form: _DecayForm) -> _Draft:
    """Return a draft of the decay of an average or sum.

    Args:
        order: the order of the average or sum; see `Structure.orders`.
        value: the value of the decay.
        form: where the constant occurs.
    """
    averaged_value = {1.0: "the gradient", 2.0: "the squared gradient"}.get(order)
    role = f"decay of the average of {averaged_value}" if averaged_value else "a decay"
    if form == "momentum":
        role = "decay of the sum of gradients"
    elif form == "average weight":
        role = "weight of the moving average against the new value"
    name = "momentum" if form == "momentum" else "decay"
    return _Draft(("decay", order, value), name, role, DECAY, [])
