"""Description of a program in words: its update, weight decay, states and learning rate."""

from __future__ import annotations

from primitives.graph.nodes import GRADIENT, STATE, WEIGHTS, Node
from primitives.graph.roles import Roles, roles
from primitives.graph.statements import bias_correction, match_average, resolved
from primitives.graph.structure import Structure
from primitives.kinds import Kind
from primitives.program import Program

_ROLES = {
    "momentum": "momentum",
    "second moment": "the second moment",
    "largest second moment": "the largest second moment",
}
_INPUTS = {
    WEIGHTS: "the weights",
    GRADIENT: "the gradient",
    "lr": "the learning rate",
    "t": "the step",
}
_PER = {
    Kind.TENSOR: "weight",
    Kind.ROW: "row",
    Kind.COL: "column",
    Kind.MATRIX: "matrix",
    Kind.LEAF: "array",
    Kind.SCALAR: "model",
}
_CORRECTED = " corrected for its start"
_MAX_WORDS = 50
_COUNTS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")


def describe(program: Program) -> str:
    """Return one paragraph that describes the live part of `program`.

    >>> from primitives import zoo
    >>> describe(zoo.load("signum"))
    'The sign of momentum. One state per weight: momentum, an average of the gradient with decay \
0.9. Learning rate 0.0001.'

    Raises:
        ProgramError: the program is not valid.
    """
    return _DescriptionWriter(roles(program)).paragraph()


class _DescriptionWriter(Structure):
    """Writes the sentences about one program.

    Args:
        roles: the roles of the program's states and constants.
    """

    def __init__(self, roles: Roles):
        super().__init__(roles.program)
        self.roles = roles
        self.state_of_next_value: dict[Node, Node] = {}  # for each next value, its state
        for state, value in self.next_values.items():
            self.state_of_next_value.setdefault(value, state)

    def paragraph(self) -> str:
        """Return all sentences that are not empty."""
        sentences = [self._update(), self._states(), self._learning_rate()]
        return " ".join(sentence for sentence in sentences if sentence)

    # -- sentences -----------------------------------------------------------------------------

    def _update(self) -> str:
        direction = self.update
        _, lr_power, others = self.factors(self.update)
        if len(others) == 1 and (self.roles.lr_is_factor or not lr_power):
            direction = others[0]
        decay = self.roles.weight_decay
        text = self._phrase_without(direction, self.roles.weight_decay_node)
        if len(text.split()) > _MAX_WORDS:
            text = self._summary()
        if decay:
            text += f", with decoupled weight decay of {decay.value:g}"
        return f"{_capitalized(text)}."

    def _phrase_without(self, value: Node, term: int | None) -> str:
        """Return the phrase of a sum without the term whose node has the number `term`."""
        value = resolved(value)
        if term is not None and value.op == "add":
            terms = [arg for arg in value.args if resolved(arg).number != term]
            return " plus ".join(self._phrase_without(arg, term) for arg in terms)
        return self.phrase(value)

    def _summary(self) -> str:
        names = [self._leaf(leaf) for leaf in self.parameters if leaf.name in self.update.leaves]
        inputs = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
        return f"a function of {inputs}, in {len(self.statements)} statements"

    def _states(self) -> str:
        states = self.program.states
        if not states:
            return "No state."
        kinds = list(dict.fromkeys(state.kind for state in states))
        counts: list[str] = []
        for kind in kinds:
            count = sum(state.kind == kind for state in states)
            plural = "s" * (count > 1 and not counts)
            noun = f" state{plural}" if not counts else ""
            counts.append(f"{_COUNTS[min(count, 8)]}{noun} per {_PER[kind]}")
        descriptions = "; ".join(self._state(state) for state in self.next_values)
        text = " and ".join(counts)
        return f"{_capitalized(text)}: {descriptions}."

    def _state(self, state: Node) -> str:
        """Return the name of a state and a phrase for its next value."""
        name, value = self._state_name(state), resolved(self.next_values[state])
        if not value.is_call:
            return f"{name}, which becomes {self.phrase(value)}"
        others = [arg for arg in value.args[:2] if resolved(arg) is not state]
        average = match_average(value, state)
        if average and len(others) == 1:
            averaged, decay = average
            constant = self.constant(decay)
            decay_phrase = f"decay {constant[0]:g}" if constant else "a varying decay"
            text = f"{name}, an average of {self.phrase(averaged)} with {decay_phrase}"
        elif value.op == "maximum" and len(others) == 1:
            text = f"{name}, the largest so far of {self.phrase(others[0])}"
        elif value.op == "add" and len(others) == 1:
            text = f"{name}, a sum of {self.phrase(others[0])}"
        elif value.op == "add" and self.form(state) == "sum":
            added = next(arg for arg in value.args if self.scaled(arg) is not state)
            text = f"{name}, a decaying sum of {self.phrase(added)}"
        else:
            text = f"{name}, which becomes {self.phrase(value, expand=True)}"
        return text if len(text.split()) <= _MAX_WORDS else name

    def _learning_rate(self) -> str:
        learning_rate = self.roles.learning_rate
        if not self.roles.lr_is_factor:
            return "The update is not proportional to the learning rate."
        return f"Learning rate {learning_rate.value:g}." if learning_rate.positions else ""

    # -- phrases -------------------------------------------------------------------------------

    def phrase(self, value: Node, *, expand: bool = False) -> str:
        """Return a value in words.

        Args:
            value: the value to describe.
            expand: whether to describe the next value of a state by its op and operands, not by
                the name of the state.
        """
        value = resolved(value)
        if value.is_constant:
            return f"{value.value:g}"
        if value.is_leaf:
            return self._leaf(value)
        if value in self.state_of_next_value and not expand:
            return self._state_name(self.state_of_next_value[value])
        if value.op == "divide" and bias_correction(value.args[1]):
            return f"{self._operand(value.args[0])}{_CORRECTED}"
        operands = [self._operand(arg) for arg in value.args]
        if value.op_entry.phrase:
            return value.op_entry.phrase.format(*operands)
        return " of ".join(filter(None, (value.op, ", ".join(operands))))

    def _operand(self, value: Node) -> str:
        """Return the phrase of an operand, in parentheses if the phrase begins with an operand."""
        text = self.phrase(value)
        value = resolved(value)
        if not value.is_call or value in self.state_of_next_value or text.endswith(_CORRECTED):
            return text
        phrase = value.op_entry.phrase
        return f"({text})" if phrase and phrase.startswith("{") else text

    def _leaf(self, leaf: Node) -> str:
        return self._state_name(leaf) if leaf.op == STATE else _INPUTS[leaf.op]

    def _state_name(self, state: Node) -> str:
        role, is_sum = self.roles.states[state.name]
        if role == "second moment" and is_sum:
            return "the sum of squares"
        return _ROLES.get(role, state.name)


def _capitalized(text: str) -> str:
    first = next((index for index, letter in enumerate(text) if letter.isalnum()), 0)
    return f"{text[:first]}{text[first].upper()}{text[first + 1 :]}"
