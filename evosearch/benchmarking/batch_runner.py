"""Batches of trainings that run side by side, and their timing."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from functools import cache
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax

from evosearch.measuring.engines import interpreter_options
from primitives import interpreter
from primitives.machine.arrays import ArrayLayout
from primitives.machine.instructions import OpNames, instruction_set
from primitives.machine.interpreter import MachineState
from primitives.machine.step import Inputs, run_step
from proxies import Task, relative_rates
from proxies.training.lanes import Entry, Lanes
from proxies.training.loop import Loop, Rule, StepSchedule

Operands: TypeAlias = tuple[Any, ...]
"""The operands of one lane: additional arguments of the rule's `init`."""


class BatchRunner:
    """A batch of trainings of one task on JAX's first device, all with one rule.

    Args:
        task: task to train.
        rule: the update rule of one program, or the interpreter for all programs.
        example: operands of one lane; the operands of all lanes have the same shapes.
        lanes: number of trainings that run side by side.
        steps: number of steps of each training, at least 2.
        steps_per_advance: number of steps for which the device does not wait for the host.

    Attributes:
        compile_seconds: seconds that the constructor took, nearly all of them for compilation.
    """

    def __init__(
        self,
        task: Task,
        rule: Rule,
        example: Operands,
        lanes: int,
        steps: int,
        steps_per_advance: int,
    ):
        self.lanes, self.steps = lanes, steps
        self._schedule = StepSchedule.plain(relative_rates("cosine", steps, steps), steps)
        device = jax.devices()[0]
        programs_as_data = len(example) > 1  # a program and the factor, or the factor alone
        start = time.perf_counter()
        self._batch = Lanes(
            Loop(task, rule),
            task.data,
            self._entry(0, example),
            lanes,
            [device],
            steps_per_advance,
            interpreter_options(device.platform) if programs_as_data else None,
        )
        self.compile_seconds = time.perf_counter() - start

    def step_ms(self, operands: Sequence[Operands], steps: int) -> float:
        """Return milliseconds per step of the batch: the mean of at least `steps` steps.

        The first steps after the start of the trainings are not timed.
        """
        self.fill(operands)
        self.advance(1)
        start = time.perf_counter()
        executed = self.advance(steps)
        return 1000 * (time.perf_counter() - start) / executed

    def training_seconds(self, operands: Sequence[Operands]) -> float:
        """Return seconds of complete trainings: random draws, all steps, evaluation, transfer."""
        start = time.perf_counter()
        self.fill(operands)
        self.advance(self.steps)
        for slots in self._groups():
            self._batch.finish(slots)
        return time.perf_counter() - start

    def fill(self, operands: Sequence[Operands]) -> None:
        """Start a training in each lane."""
        for slots in self._groups():
            self._batch.load(slots, [self._entry(slot, operands[slot]) for slot in slots])

    def advance(self, steps: int) -> int:
        """Advance all lanes by at least `steps` steps, and return the number of steps executed."""
        advances = math.ceil(steps / self._batch.steps_per_advance)
        for _ in range(advances):
            self._batch.advance()
        self._batch.ended()
        return advances * self._batch.steps_per_advance

    def _groups(self) -> list[range]:
        size = self._batch.group_size
        return [range(first, min(self.lanes, first + size)) for first in range(0, self.lanes, size)]

    def _entry(self, number: int, operands: Operands) -> Entry:
        return Entry(np.array([0, number], np.uint32), self._schedule, operands)


@cache
def naive_interpreter(ops: OpNames) -> optax.GradientTransformationExtraArgs:
    """Return `interpreter(ops)` without its batching rule: `vmap` runs every branch of every op."""
    instructions, machine = instruction_set(ops), interpreter(ops)

    def update(
        grads: Any,
        state: MachineState,
        params: Any = None,
        *,
        lr: jax.Array | float = 1.0,
        t: jax.Array | float = 1.0,
        **_: Any,
    ) -> tuple[Any, MachineState]:
        inputs = Inputs(params, grads, jnp.float32(lr), jnp.float32(t), state.factor)
        registers = state.sum_factors, state.tensors, state.scalars
        updates, tensors, scalars = run_step(
            instructions, ArrayLayout(params), state.code, *registers, inputs
        )
        return updates, state._replace(tensors=tensors, scalars=scalars)

    return optax.GradientTransformationExtraArgs(machine.init, update)  # type: ignore[arg-type]
