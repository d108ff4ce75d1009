"""Programs side by side through XLA: lanes whose next instructions are alike advance as a gang.

A vectorized `lax.switch` would compute every op for every lane. Here each round takes the form of
instruction that most lanes want next, and computes that alone, for a gang of lanes that want it:
one true branch, so an op costs nothing where no program has it, and little where few do. Lanes keep
their own place in their own programs; nobody waits longer than until its form is the most wanted.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from primitives.machine.arrays import Arrays
from primitives.machine.encoding import FIRST, KIND, OPCODE, OUT, SECTION, Code
from primitives.machine.instructions import Instruction, InstructionSet
from primitives.machine.step import number_value, tensor_value

Array = jax.Array

_SHARE_OF_LANES = 8  # a gang is an eighth of the lanes: few are idle in it, and rounds are few
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
"""Ops that cost less than reading their operands: together they are one form."""


class Files(NamedTuple):
    """Where every lane stands, and its registers.

    Attributes:
        place: [lanes] int32, the instruction that comes next.
        file: [lanes, registers, weights] float32.
        scalars: [lanes, registers] float32.
    """

    place: Array
    file: Array
    scalars: Array


class Forms(NamedTuple):
    """Tensor instructions by what a gang can compute at once: one op, whatever its layout.

    Attributes:
        members: the instructions that stand for each form; only the first form has several.
        form: [opcodes], the form of an instruction.
        member: [opcodes], which of the form's it is.
        from_file: [opcodes, operands], whether an operand is a tensor register.
        kept: for each form and operand where it can be: "T", "S" or "ST".
    """

    members: tuple[tuple[Instruction, ...], ...]
    form: np.ndarray
    member: np.ndarray
    from_file: np.ndarray
    kept: tuple[tuple[str, ...], ...]


@cache
def forms_of(tensors: tuple[Instruction, ...]) -> Forms:
    """The forms of a machine's tensor instructions."""
    members: list[list[Instruction]] = [[]]
    places: dict[Any, tuple[int, int]] = {}
    for one in tensors:
        alike = one.op.name, one.inner, one.position
        if alike in places:
            continue
        if {one.op.name, one.inner.name if one.inner else "identity"} <= _CHEAP:
            members[0].append(one)
            places[alike] = 0, len(members[0]) - 1
        else:
            members.append([one])
            places[alike] = len(members) - 1, 0
    found = [places[one.op.name, one.inner, one.position] for one in tensors]
    width = KIND - FIRST
    layouts = [one.layout.ljust(width) for one in tensors]
    kept = [[""] * width for _ in members]
    for (form, _), layout in zip(found, layouts, strict=True):
        for place, where in enumerate(layout):
            kept[form][place] = "".join(sorted({*kept[form][place], *where.strip()}))
    return Forms(
        tuple(map(tuple, members)),
        np.array([form for form, _ in found], np.int32),
        np.array([member for _, member in found], np.int32),
        np.array([[where == "T" for where in layout] for layout in layouts]),
        tuple(map(tuple, kept)),
    )


def run_gangs(
    instructions: InstructionSet,
    model: Arrays,
    code: Code,
    share: Array,
    file: Array,
    scalars: Array,
) -> tuple[Array, Array]:
    """One step of every lane: the registers after it.

    Args:
        instructions: what the machine knows.
        model: what the programs train.
        code: the lanes' programs, each array with a first axis [lanes].
        share: [kinds, weights]; see `interpreter.MachineState`.
        file: [lanes, registers, weights].
        scalars: [lanes, registers].
    """
    gangs = Gangs(instructions, model, code, share)
    start = Files(jnp.zeros(file.shape[0], jnp.int32), file, scalars)
    end = lax.while_loop(gangs.running, lambda files: gangs.tensors(gangs.numbers(files)), start)
    return end.file, end.scalars


class Gangs:
    """The rounds of one step; arguments as of `run_gangs`."""

    def __init__(self, instructions: InstructionSet, model: Arrays, code: Code, share: Array):
        self._groups = instructions.scalars
        self._forms = forms_of(instructions.tensors)
        self._model = model
        self._code = code
        self._share = share
        self._gang = max(1, code.length.shape[0] // _SHARE_OF_LANES)

    def running(self, files: Files) -> Array:
        """Whether any lane has instructions left."""
        return jnp.any(files.place < self._code.length)

    def numbers(self, files: Files) -> Files:
        """Rounds until no lane stands before an instruction that gives a number."""

        def wanted(place: Array) -> Array:
            section = self._next(place)[:, SECTION]
            return jnp.where(place < self._code.length, section - 1, -1)

        def round_(carry: tuple[Array, Array]) -> tuple[Array, Array]:
            place, scalars = carry
            group, lanes = self._chosen(wanted(place), len(self._groups))
            rows = self._next(place)[lanes]
            branches = [self._number_branch(group) for group in self._groups]
            value = lax.switch(group, branches, files.file, scalars, lanes, rows)
            return _advanced(place, scalars, lanes, rows, value)

        place, scalars = lax.while_loop(
            lambda carry: jnp.any(wanted(carry[0]) >= 0), round_, (files.place, files.scalars)
        )
        return files._replace(place=place, scalars=scalars)

    def tensors(self, files: Files, among: Callable[[Array], Array] | None = None) -> Files:
        """Rounds until no lane stands before an instruction that gives a tensor register.

        Or, of those, one with an opcode for which `among` is true.
        """

        def wanted(place: Array) -> Array:
            rows = self._next(place)
            opcode = rows[:, OPCODE]
            mine = (place < self._code.length) & (rows[:, SECTION] == 0)
            if among is not None:
                mine &= among(opcode)
            return jnp.where(mine, jnp.asarray(self._forms.form)[opcode], -1)

        def round_(carry: tuple[Array, Array]) -> tuple[Array, Array]:
            place, file = carry
            form, lanes = self._chosen(wanted(place), len(self._forms.members))
            rows = self._next(place)[lanes]
            branches = [self._tensor_branch(form) for form in range(len(self._forms.members))]
            value = lax.switch(form, branches, file, files.scalars, lanes, rows)
            return _advanced(place, file, lanes, rows, value)

        place, file = lax.while_loop(
            lambda carry: jnp.any(wanted(carry[0]) >= 0), round_, (files.place, files.file)
        )
        return files._replace(place=place, file=file)

    def _next(self, place: Array) -> Array:
        """[lanes, columns], each lane's next instruction."""
        program = self._code.instructions
        rows = jnp.take_along_axis(program, place[:, None, None], axis=1, mode="clip")
        return rows[:, 0]

    def _chosen(self, wanted: Array, kinds: int) -> tuple[Array, Array]:
        """What most lanes want, and a gang of those; a number beyond the lanes stands for none."""
        counts = jnp.sum(wanted[:, None] == jnp.arange(kinds), axis=0)
        most = jnp.argmax(counts).astype(jnp.int32)
        (lanes,) = jnp.nonzero(wanted == most, size=self._gang, fill_value=wanted.shape[0])
        return most, lanes

    def _number_branch(self, group: tuple[Instruction, ...]) -> Any:
        def compute(file: Array, scalars: Array, lanes: Array, rows: Array) -> Array:
            def number(place: int) -> Array:
                return scalars.at[lanes, rows[:, FIRST + place]].get(mode="clip")

            def tensor(place: int) -> Array:
                return file.at[lanes, rows[:, FIRST + place]].get(mode="clip")

            known = [
                [
                    tensor(place) if kept == "T" else number(place)
                    for place, kept in enumerate(one.layout)
                ]
                for one in group
            ]

            def value(known: list[list[Array]], row: Array) -> Array:
                return number_value(group, known, row[OPCODE], lambda: self._share[row[KIND]])

            return jax.vmap(value)(known, rows)

        return compute

    def _tensor_branch(self, form: int) -> Any:
        members, kept = self._forms.members[form], self._forms.kept[form]

        def compute(file: Array, scalars: Array, lanes: Array, rows: Array) -> Array:
            opcode = rows[:, OPCODE]

            def operand(place: int) -> Array:
                registers = rows[:, FIRST + place]
                number = scalars.at[lanes, registers].get(mode="clip")[:, None]
                if kept[place] == "S":
                    return number
                tensor = file.at[lanes, registers].get(mode="clip")
                if kept[place] == "T":
                    return tensor
                from_file = jnp.asarray(self._forms.from_file)[opcode, place]
                return jnp.where(from_file[:, None], tensor, number)

            def value(row: Array, operands: list[Array]) -> Array:
                member = jnp.asarray(self._forms.member)[row[OPCODE]]
                chosen = jnp.zeros(self._model.size, jnp.float32)
                for which, one in enumerate(members):
                    used = operands[: len(one.layout)]
                    found = tensor_value(one, self._model, used, lambda: self._share[row[KIND]])
                    chosen = jnp.where(member == which, found, chosen)
                return chosen

            return jax.vmap(value)(rows, [operand(place) for place, at in enumerate(kept) if at])

        return compute


def _advanced(
    place: Array, file: Array, lanes: Array, rows: Array, value: Array
) -> tuple[Array, Array]:
    """A gang's values written into its registers, and its lanes one further."""
    return (
        place.at[lanes].add(1, mode="drop"),
        file.at[lanes, rows[:, OUT]].set(value, mode="drop"),
    )
