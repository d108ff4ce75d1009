"""Tests that Triton accepts the kernels of all instructions, on machines without a GPU."""

from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxlib.mlir.ir import MLIRError

from primitives import OPS, encode, ops, parse
from primitives.machine.arrays import ArrayLayout
from primitives.machine.batch import run_batch
from primitives.machine.instructions import instruction_set
from tests.primitives.test_batch import batch_inputs
from tests.primitives.test_interpreters import random_inputs
from tests.primitives.triton_ir import lowered_for_gpu, verified_kernels
from tests.strategies import programs

pytest.importorskip("jax.experimental.pallas.triton", reason="this JAX lacks Pallas's Triton")

NAMES = [op.name for op in OPS.values() if op.arity and not op.same_as]
GROUPS = [NAMES[first : first + 8] for first in range(0, len(NAMES), 8)]
UNTYPED_GREATER = replace(OPS["greater"], meaning=lambda xp, x, y: xp.where(x > y, 1.0, 0.0))
"""The op `greater` with a meaning whose kernel Triton rejects.

Pallas gives the untyped literals 1.0 and 0.0 the type of the condition (i1) instead of float32, and
Triton's `select` rejects that.
"""


def verify(names):
    """Lower a step of two lanes on a machine with these ops, and verify the kernel."""
    # `__wrapped__` bypasses the cache, because one test changes OPS.
    instructions = instruction_set.__wrapped__(frozenset(names))
    weights, (grads, *_), _ = random_inputs(0)
    model = ArrayLayout(weights)
    # Any program will do: the kernel reads its instructions at run time.
    code = encode(parse("def train(w, g):\n    return g"))
    code = jax.tree.map(lambda leaf: np.stack([leaf] * 2), code)
    tensors = np.zeros((*code.initial_tensors.shape, model.size), np.float32)
    inputs = batch_inputs(weights, grads, 1.0, 1.0, lanes=2)
    step = partial(run_batch, instructions, model)
    sum_factors = np.asarray(model.sum_factors())
    lowered = lowered_for_gpu(step, code, sum_factors, tensors, code.initial_scalars, inputs)
    assert verified_kernels(lowered) > 0


def assert_triton_accepts(names):
    """Fail with the name of an op whose kernel Triton rejects."""
    try:
        verify(names)
    except MLIRError:
        for name in names:
            try:
                verify([name])
            except MLIRError as error:
                pytest.fail(f"Triton rejects the kernel of {name}: {error}")
        raise


@pytest.mark.parametrize("group", GROUPS, ids=" ".join)
def test_triton_accepts_every_layout_of_every_op(group):
    assert_triton_accepts(group)


def test_triton_accepts_the_full_op_set_with_its_fused_pairs():
    assert_triton_accepts(ops.names("full"))


@settings(max_examples=5)
@given(st.lists(programs(min_statements=4), min_size=1, max_size=4))
def test_triton_accepts_the_ops_of_random_programs(batch):
    assert_triton_accepts({statement.op for program in batch for statement in program.statements})


@pytest.mark.parametrize("others", [[], ["add", "where", "norm"]], ids=len)
def test_the_error_names_an_op_with_literals_of_the_wrong_type(others, monkeypatch):
    monkeypatch.setitem(OPS, "greater", UNTYPED_GREATER)
    reason = r"(?s)rejects the kernel of greater: .*'i1' should match .*'f32'"
    with pytest.raises(pytest.fail.Exception, match=reason):
        assert_triton_accepts([*others, "greater"])
