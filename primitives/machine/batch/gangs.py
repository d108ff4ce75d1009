"""Batches of programs through XLA: lanes whose next instructions have the same form run as a gang.

A `lax.switch` under `vmap` would compute every op for every lane. Instead, each round
chooses the form of instruction that most lanes need next, and executes only the branch of that form
for a gang of these lanes. So an op costs nothing if no program contains it, and little if few
programs contain it. A lane waits at most until its next form is the most frequent form.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from primitives.machine.arrays import ArrayLayout
from primitives.machine.encoding import FIRST, KIND, OPCODE, OUT, SECTION, Code
from primitives.machine.instructions import Instruction, InstructionSet
from primitives.machine.step import (
    Inputs,
    PyTree,
    read_updates,
    scalar_value,
    tensor_value,
    write_inputs,
)

Array = jax.Array

_GANG_DIVISOR = 8
"""A gang has one eighth of the lanes, so that few of its lanes are idle and rounds are few."""
_CHEAP = frozenset(
    [
        "identity",
        "add",
        "subtract",
        "multiply",
        "divide",
        "interp",
        "square",
        "abs",
        "sign",
        "negative",
        "maximum",
        "minimum",
    ]
)
"""Ops that cost less than reading their operands; all of them together are one form."""


class Lanes(NamedTuple):
    """The position of every lane in its program, and the registers of every lane.

    Attributes:
        next_index: [lanes] int32, the index of the next instruction.
        tensors: [lanes, registers, weights] float32.
        scalars: [lanes, registers] float32.
    """

    next_index: Array
    tensors: Array
    scalars: Array


class Forms(NamedTuple):
    """The forms of tensor instructions. A gang executes one form at a time.

    Instructions of one op have the same form, whatever their layout. All cheap ops are form 0.

    Attributes:
        members: for each form, one instruction for each of its ops; only form 0 has several ops.
        form_of_opcode: [opcodes], the form of each instruction.
        member_of_opcode: [opcodes], the index in `members` of each instruction's op.
        is_tensor: [opcodes, operands], whether an operand is a tensor register.
        operand_classes: the register classes that each operand of each form may have: "T", "S",
            "ST", or "" where there is no operand.
    """

    members: tuple[tuple[Instruction, ...], ...]
    form_of_opcode: np.ndarray
    member_of_opcode: np.ndarray
    is_tensor: np.ndarray
    operand_classes: tuple[tuple[str, ...], ...]


@cache
def forms_of(tensor_instructions: tuple[Instruction, ...]) -> Forms:
    """Return the forms of a machine's tensor instructions."""
    members: list[list[Instruction]] = [[]]
    positions: dict[Any, tuple[int, int]] = {}
    for instruction in tensor_instructions:
        key = form_key(instruction)
        if key in positions:
            continue
        # The inner op is fused into this instruction's op and computes one of its operands.
        inner = instruction.inner.name if instruction.inner else "identity"
        if {instruction.op.name, inner} <= _CHEAP:
            members[0].append(instruction)
            positions[key] = 0, len(members[0]) - 1
        else:
            members.append([instruction])
            positions[key] = len(members) - 1, 0
    by_opcode = [positions[form_key(instruction)] for instruction in tensor_instructions]
    max_operands = KIND - FIRST
    layouts = [instruction.layout.ljust(max_operands) for instruction in tensor_instructions]
    operand_classes = [[""] * max_operands for _ in members]
    for (form, _), layout in zip(by_opcode, layouts, strict=True):
        classes = operand_classes[form]
        for operand, register_class in enumerate(layout):
            classes[operand] = "".join(sorted({*classes[operand], *register_class.strip()}))
    return Forms(
        tuple(map(tuple, members)),
        np.array([form for form, _ in by_opcode], np.int32),
        np.array([member for _, member in by_opcode], np.int32),
        np.array([[register_class == "T" for register_class in layout] for layout in layouts]),
        tuple(map(tuple, operand_classes)),
    )


def form_key(instruction: Instruction) -> Any:
    """Return the key of an instruction's form: all that matters but the operands' layout."""
    return instruction.op.name, instruction.inner, instruction.position


def run_gangs(
    instructions: InstructionSet,
    model: ArrayLayout,
    code: Code,
    sum_factors: Array,
    tensors: Array,
    scalars: Array,
    inputs: Inputs,
) -> tuple[PyTree, Array, Array]:
    """Run one step of every lane.

    Args:
        instructions: the machine's instructions.
        model: how the model's arrays lie in one vector.
        code: the lanes' programs; each array has a first axis [lanes].
        sum_factors: [kinds, weights]; see `ArrayLayout.sum_factors`.
        tensors: [lanes, registers, weights] float32.
        scalars: [lanes, registers] float32.
        inputs: the inputs of the step; each array has a first axis [lanes].

    Returns:
        The updates as a pytree, and the tensor and scalar registers after the step, all with a
        first axis [lanes].
    """
    tensors, scalars = jax.vmap(partial(write_inputs, model))(tensors, scalars, inputs)
    gangs = Gangs(instructions, model, code, sum_factors)

    def run_scalar_then_tensor_rounds(lanes: Lanes) -> Lanes:
        return gangs.run_tensor_instructions(gangs.run_scalar_instructions(lanes))

    start = Lanes(jnp.zeros(tensors.shape[0], jnp.int32), tensors, scalars)
    end = lax.while_loop(gangs.are_running, run_scalar_then_tensor_rounds, start)
    read = jax.vmap(partial(read_updates, model))
    return read(code, end.tensors, end.scalars, inputs.factor), end.tensors, end.scalars


class Gangs:
    """Runs the instructions of one step in rounds, one gang a round.

    Args:
        instructions: the machine's instructions.
        model: how the model's arrays lie in one vector.
        code: the lanes' programs; each array has a first axis [lanes].
        sum_factors: [kinds, weights]; see `ArrayLayout.sum_factors`.
    """

    def __init__(
        self, instructions: InstructionSet, model: ArrayLayout, code: Code, sum_factors: Array
    ):
        self._groups = instructions.scalar_groups
        self._forms = forms_of(instructions.tensor_instructions)
        self._model = model
        self._code = code
        self._sum_factors = sum_factors
        self._gang_size = max(1, code.length.shape[0] // _GANG_DIVISOR)

    def are_running(self, lanes: Lanes) -> Array:
        """Return whether any lane has instructions left."""
        return jnp.any(lanes.next_index < self._code.length)

    def run_scalar_instructions(self, lanes: Lanes) -> Lanes:
        """Run rounds until no lane's next instruction has a scalar result."""

        def next_group(next_index: Array) -> Array:
            # Section 0 holds the tensor instructions, section n the scalar group n - 1; -1: none.
            section = self._next_rows(next_index)[:, SECTION]
            return jnp.where(next_index < self._code.length, section - 1, -1)

        def run_round(carry: tuple[Array, Array]) -> tuple[Array, Array]:
            next_index, scalars = carry
            chosen_group, gang = self._largest_gang(next_group(next_index), len(self._groups))
            rows = self._next_rows(next_index)[gang]
            branches = [self._scalar_branch(group) for group in self._groups]
            value = lax.switch(chosen_group, branches, lanes.tensors, scalars, gang, rows)
            return _write_results(next_index, scalars, gang, rows, value)

        next_index, scalars = lax.while_loop(
            lambda carry: jnp.any(next_group(carry[0]) >= 0),
            run_round,
            (lanes.next_index, lanes.scalars),
        )
        return lanes._replace(next_index=next_index, scalars=scalars)

    def run_tensor_instructions(
        self, lanes: Lanes, includes: Callable[[Array], Array] | None = None
    ) -> Lanes:
        """Run rounds until no lane's next instruction has a tensor result.

        Args:
            lanes: the lanes.
            includes: whether to run an instruction, given its opcode; by default all are run.
        """

        def next_form(next_index: Array) -> Array:
            rows = self._next_rows(next_index)
            opcode = rows[:, OPCODE]
            is_included = (next_index < self._code.length) & (rows[:, SECTION] == 0)
            if includes is not None:
                is_included &= includes(opcode)
            return jnp.where(is_included, jnp.asarray(self._forms.form_of_opcode)[opcode], -1)

        def run_round(carry: tuple[Array, Array]) -> tuple[Array, Array]:
            next_index, tensors = carry
            chosen_form, gang = self._largest_gang(next_form(next_index), len(self._forms.members))
            rows = self._next_rows(next_index)[gang]
            branches = [self._tensor_branch(form) for form in range(len(self._forms.members))]
            value = lax.switch(chosen_form, branches, tensors, lanes.scalars, gang, rows)
            return _write_results(next_index, tensors, gang, rows, value)

        next_index, tensors = lax.while_loop(
            lambda carry: jnp.any(next_form(carry[0]) >= 0),
            run_round,
            (lanes.next_index, lanes.tensors),
        )
        return lanes._replace(next_index=next_index, tensors=tensors)

    def _next_rows(self, next_index: Array) -> Array:
        """Return each lane's next instruction, [lanes, columns]."""
        program = self._code.instructions
        rows = jnp.take_along_axis(program, next_index[:, None, None], axis=1, mode="clip")
        return rows[:, 0]

    def _largest_gang(self, choices: Array, choice_count: int) -> tuple[Array, Array]:
        """Return the most frequent choice, and a gang of lanes that made this choice.

        Args:
            choices: [lanes] int32, each lane's choice; -1 for no choice.
            choice_count: the number of choices.

        Returns:
            The choice, () int32, and the indices of lanes, [gang]. If fewer lanes made the choice,
            the remaining indices are out of range.
        """
        counts = jnp.sum(choices[:, None] == jnp.arange(choice_count), axis=0)
        choice = jnp.argmax(counts).astype(jnp.int32)
        (gang,) = jnp.nonzero(choices == choice, size=self._gang_size, fill_value=choices.shape[0])
        return choice, gang

    def _scalar_branch(self, group: tuple[Instruction, ...]) -> Any:
        def compute(tensors: Array, scalars: Array, gang: Array, rows: Array) -> Array:
            def scalar(operand: int) -> Array:
                return scalars.at[gang, rows[:, FIRST + operand]].get(mode="clip")

            def tensor(operand: int) -> Array:
                return tensors.at[gang, rows[:, FIRST + operand]].get(mode="clip")

            operands = [
                [
                    tensor(operand) if register_class == "T" else scalar(operand)
                    for operand, register_class in enumerate(instruction.layout)
                ]
                for instruction in group
            ]

            def value(operands: list[list[Array]], row: Array) -> Array:
                return scalar_value(
                    group, operands, row[OPCODE], lambda: self._sum_factors[row[KIND]]
                )

            return jax.vmap(value)(operands, rows)

        return compute

    def _tensor_branch(self, form: int) -> Any:
        members, classes = self._forms.members[form], self._forms.operand_classes[form]

        def compute(tensors: Array, scalars: Array, gang: Array, rows: Array) -> Array:
            opcode = rows[:, OPCODE]

            def read_operand(operand: int) -> Array:
                registers = rows[:, FIRST + operand]
                scalar = scalars.at[gang, registers].get(mode="clip")[:, None]
                if classes[operand] == "S":
                    return scalar
                tensor = tensors.at[gang, registers].get(mode="clip")
                if classes[operand] == "T":
                    return tensor
                is_tensor = jnp.asarray(self._forms.is_tensor)[opcode, operand]
                return jnp.where(is_tensor[:, None], tensor, scalar)

            def value(row: Array, operands: list[Array]) -> Array:
                member = jnp.asarray(self._forms.member_of_opcode)[row[OPCODE]]
                result = jnp.zeros(self._model.size, jnp.float32)
                for index, instruction in enumerate(members):
                    args = operands[: len(instruction.layout)]
                    member_value = tensor_value(
                        instruction, self._model, args, lambda: self._sum_factors[row[KIND]]
                    )
                    result = jnp.where(member == index, member_value, result)
                return result

            operands = [read_operand(operand) for operand, used in enumerate(classes) if used]
            return jax.vmap(value)(rows, operands)

        return compute


def _write_results(
    next_index: Array, registers: Array, gang: Array, rows: Array, value: Array
) -> tuple[Array, Array]:
    """Write a gang's results to its registers and advance its lanes by one instruction."""
    return (
        next_index.at[gang].add(1, mode="drop"),
        registers.at[gang, rows[:, OUT]].set(value, mode="drop"),
    )
