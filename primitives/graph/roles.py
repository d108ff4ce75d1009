"""Roles: what the states and constants of a program are to a person who knows optimizers.

A state that averages gradients is momentum, one that averages their squares a second moment; a
constant in such an average is a decay, one that multiplies the weights beside the update a weight
decay, and so on. Roles give names to exported code, and ranges to its hyperparameters. They never
change what a program computes.

A constant is a *place*: the statement and operand where it is written, or `(INITIAL, n)` for the
value that state n starts with. `lift` turns places into scalar states, so that they can be given
when a program runs.
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
from primitives.graph.statements import INITIAL, Place, bias_correction, constant_value, resolved
from primitives.graph.structure import StateRole, Structure
from primitives.interval import ANYTHING, DECAY, NEGATIVE, NONNEGATIVE, POSITIVE, Interval
from primitives.kinds import Kind
from primitives.op import ConstantRole
from primitives.program import Parameter, Program, Statement

SUFFIXES = {Kind.ROW: "_row", Kind.COL: "_col"}
"""What is added to the name of a state that holds a number for each row or column."""
_LITERALS = (0.0, 0.5, 1.0, 2.0)
"""Magnitudes that stay numbers unless they have a role: halves and doubles are seldom tuned."""
_LARGEST_EPSILON = 1e-3


@dataclass(frozen=True)
class Hyperparameter:
    """A constant with a name.

    Attributes:
        name: unique in its program.
        role: what it does, in words.
        value: the program's own.
        interval: the values that it may take.
        places: where it stands in `Roles.program`.
        unit_places: constants that are part of `value` as further factors, and 1 beside it.
    """

    name: str
    role: str
    value: float
    interval: Interval
    places: tuple[Place, ...]
    unit_places: tuple[Place, ...] = ()

    @property
    def meaning(self) -> str:
        """Its role, and the values that it may take where not all are."""
        return self.role if self.interval == ANYTHING else f"{self.role}, in {self.interval}"


@dataclass(frozen=True)
class Roles:
    """What a program's states and constants are.

    Attributes:
        program: the live program that the places refer to.
        states: the role of each state, and whether it is a sum (not an average).
        hyperparameters: all but the learning rate.
        learning_rate: the constants that scale the whole update; 1 where there are none.
        scheduled: whether the program reads `lr`.
        linear: whether the update is proportional to `lr` (or does not read it), and no state
            depends on it.
        decoupled: the value that is the weights times `weight_decay`, beside the update.
    """

    program: Program
    states: dict[str, tuple[StateRole, bool]]
    hyperparameters: tuple[Hyperparameter, ...]
    learning_rate: Hyperparameter
    scheduled: bool
    linear: bool
    decoupled: int | None

    @property
    def weight_decay(self) -> Hyperparameter | None:
        """The strength of decoupled weight decay, if there is one."""
        decays = (one for one in self.hyperparameters if one.role == "weight decay")
        return None if self.decoupled is None else next(decays, None)


@lru_cache(maxsize=1024)
def roles(program: Program) -> Roles:
    """The roles in the live part of `program`.

    Raises:
        ProgramError: the program is ill-kinded.
    """
    return _Finder(live(program)).find()


def lift(program: Program, places: Mapping[Place, str]) -> Program:
    """`program` with the constants at `places` read from scalar states of the given names.

    The new states come last, in order of first appearance, and keep their value. What starts a
    state, `(INITIAL, n)`, is no operand and cannot be lifted.
    """
    statements = [list(statement.args) for statement in program.statements]
    ops = [statement.op for statement in program.statements]
    for (statement, operand), name in places.items():
        if not statements[statement]:  # a constant that an op gives
            ops[statement], statements[statement] = "identity", [name]
        else:
            statements[statement][operand] = name
    names = tuple(dict.fromkeys(places.values()))
    return Program(
        (*program.parameters, *(Parameter(name, Kind.SCALAR) for name in names)),
        tuple(
            Statement(old.target, op, tuple(args))
            for old, op, args in zip(program.statements, ops, statements, strict=True)
        ),
        (*program.returns, *names),
    )


@dataclass
class _Draft:
    """A constant whose name is not decided yet; `key` is equal for constants that are one."""

    key: tuple[object, ...]
    base: str
    role: str
    interval: Interval
    places: list[Place]


class _Finder(Structure):
    def find(self) -> Roles:
        rate_places, linear = self.rate()
        decoupled, decay_places = self.decoupled(linear)
        states = self.state_roles()
        taken = {*rate_places, *decay_places}
        drafts = self._drafts(taken, states)
        learning_rate = self._product("learning_rate", "learning rate", rate_places)
        if decay_places:
            drafts.append(_Draft(("weight decay",), "weight_decay", "", NONNEGATIVE, decay_places))
        return Roles(
            self.program,
            states,
            self._named(drafts, decay_places),
            learning_rate,
            self.reads_lr(),
            linear,
            None if decoupled is None else decoupled.number,
        )

    def _value(self, place: Place) -> float:
        index, operand = place
        if index == INITIAL:
            return self.program.states[operand].initial
        node = self.statements[index]
        return node.args[operand].value if node.args else constant_value(node.op)

    def _product(self, name: str, role: str, places: list[Place]) -> Hyperparameter:
        value = float(f"{math.prod(map(self._value, places)):.12g}")
        return Hyperparameter(name, role, value, NONNEGATIVE, tuple(places[:1]), tuple(places[1:]))

    def _drafts(
        self, taken: Collection[Place], states: dict[str, tuple[StateRole, bool]]
    ) -> list[_Draft]:
        drafts: dict[tuple[object, ...], _Draft] = {}
        placed: dict[Place, tuple[object, ...]] = {}
        uses = [
            (node, operand, *found)
            for node in self.statements
            for operand, arg in enumerate(node.args)
            if (found := self.constant(arg)) and found[1] not in taken and node.op != "identity"
        ]
        for rule in (self._as_decay, self._as_correction, self._as_known, self._as_any):
            for node, operand, value, place in uses:
                if place in placed:
                    continue
                draft = rule(node, operand, value, place, drafts)
                if draft is not None:
                    drafts.setdefault(draft.key, draft).places.append(place)
                    placed[place] = draft.key
        for number, state in enumerate(self.program.states):
            if state.initial:
                key = ("initial", state.name)
                plain = re.sub(r"[^a-z0-9_]", "", state.name.lower()) or "state"
                text = f"what {state.name} starts with"
                interval = POSITIVE if state.initial > 0 else NEGATIVE
                drafts[key] = _Draft(key, f"initial_{plain}", text, interval, [(INITIAL, number)])
        return sorted(drafts.values(), key=lambda draft: min(draft.places) < (0, 0))

    def _as_decay(
        self, node: Node, operand: int, value: float, place: Place, known: object
    ) -> _Draft | None:
        """The decay of an average, or of a decaying sum."""
        if value not in DECAY:
            return None
        if node.op == "interp" and operand == 2:
            orders = [order for arg in node.args[:2] if (order := self.orders[arg])]
            kept = node in map(resolved, self.following.values())
            return _decay(max(orders, default=0.0), value, "decay" if kept else "share")
        if node.op == "multiply":
            state = resolved(node.args[1 - operand])
            if state in self.following and self.form(state) == "sum":
                following = self.following[state]
                if node in map(resolved, resolved(following).args):
                    order = self.orders[following] or 0.0
                    return _decay(order, value, "momentum" if order == 1 else "decay")
        return None

    def _as_correction(
        self,
        node: Node,
        operand: int,
        value: float,
        place: Place,
        known: Mapping[tuple[object, ...], _Draft],
    ) -> _Draft | None:
        """A decay again: in its bias correction 1 - b^t, or in a look ahead along momentum."""
        if value not in DECAY:
            return None
        same = [draft for key, draft in known.items() if key[0] == "decay" and key[2] == value]
        if node.op == "power" and operand == 0 and "t" in node.args[1].leaves:
            corrected = self._corrected(node)
            return next((d for d in same if d.key[1] == corrected), same[0] if same else None) or (
                _decay(corrected or 0.0, value, "decay")
            )
        if node.op == "multiply" and same:
            other = resolved(node.args[1 - operand])
            if other in (*self.following, *self.following.values()):
                return next((d for d in same if d.key[1] == self.orders[other]), None)
        return None

    def _corrected(self, power: Node) -> float | None:
        """The order of what is divided by one minus `power`."""
        for difference, _ in self.users[power]:
            if bias_correction(difference) is power:
                for quotient, operand in self.users[difference]:
                    if quotient.op == "divide" and operand == 1:
                        return self.orders[quotient.args[0]]
        return None

    def _as_known(
        self, node: Node, operand: int, value: float, place: Place, known: object
    ) -> _Draft | None:
        """What has one name in the literature wherever it stands."""
        readers = {user.op for user, _ in self.users[node]}
        if node.op == "add" and 0 < value <= _LARGEST_EPSILON:
            base = "eps_root" if "sqrt" in readers else "eps"
            return _Draft((base, value), base, "keeps a denominator positive", POSITIVE, [])
        decays = node.op == "multiply" and resolved(node.args[1 - operand]) is self.weights
        if decays and value > 0 and "add" in readers:
            return _Draft(("weight decay", value), "weight_decay", "weight decay", NONNEGATIVE, [])
        role = node.row.constant_role(operand)
        if role and role.always and (value > 0 or not role.keeps_sign):
            interval = POSITIVE if role.keeps_sign else ANYTHING
            return _Draft((role.name, place), role.name, role.words, interval, [])
        return None

    def _as_any(
        self, node: Node, operand: int, value: float, place: Place, known: object
    ) -> _Draft | None:
        if abs(value) in _LITERALS:
            return None
        role = node.row.constant_role(operand)
        if role is None or role.always:
            role = ConstantRole(node.row.name, f"in {node.row.name}")
        interval = ANYTHING
        if role.keeps_sign:
            interval = POSITIVE if value > 0 else NEGATIVE
        return _Draft((role.name, place), role.name, role.words, interval, [])

    def _named(self, drafts: list[_Draft], decay_places: list[Place]) -> tuple[Hyperparameter, ...]:
        decays = sorted(
            (draft for draft in drafts if draft.key[0] == "decay"),
            key=lambda draft: (draft.key[1] or math.inf, min(draft.places)),
        )
        if len(decays) > 1:
            for number, draft in enumerate(decays, 1):
                draft.base = f"b{number}"
        roots = [draft for draft in drafts if draft.base == "eps_root"]
        if len(roots) == 1 and not any(draft.base == "eps" for draft in drafts):
            roots[0].base = "eps"
        rank = {id(draft): number for number, draft in enumerate(decays)}
        used = {"learning_rate", "lr", "schedule", "mask", "params"}
        found = []
        for draft in sorted(drafts, key=lambda d: rank.get(id(d), len(decays))):
            name, number = draft.base, 2
            while name in used:
                name, number = f"{draft.base}_{number}", number + 1
            used.add(name)
            if draft.places is decay_places:
                found.append(self._product(name, "weight decay", decay_places))
            else:
                value = self._value(draft.places[0])
                found.append(
                    Hyperparameter(name, draft.role, value, draft.interval, tuple(draft.places))
                )
        return tuple(found)


def _decay(order: float, value: float, form: Literal["decay", "momentum", "share"]) -> _Draft:
    averaged = {1.0: "the gradient", 2.0: "its square"}.get(order)
    role = f"decay of the average of {averaged}" if averaged else "a decay"
    if form == "momentum":
        role = "decay of the sum of gradients"
    elif form == "share":
        role = "the average's share where it meets what is new"
    base = "momentum" if form == "momentum" else "decay"
    return _Draft(("decay", order, value), base, role, DECAY, [])
