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
from primitives.machine.instructions import FUSED_PAIRS, instruction_set
from tests.primitives.test_batch import batch_inputs
from tests.primitives.test_interpreters import random_inputs
from tests.primitives.triton_ir import lowered_for_gpu, verified_kernels
from tests.strategies import programs

pytest.importorskip("jax.experimental.pallas.triton", reason="this JAX lacks Pallas's Triton")

ALONE = [(op.name,) for op in OPS.values() if op.arity and not op.same_as]
FUSED = [(outer, inner) for outer, _, inner in FUSED_PAIRS]
UNTYPED_GREATER = replace(OPS["greater"], meaning=lambda xp, x, y: xp.where(x > y, 1.0, 0.0))
"""Pallas gives the literals the type of the predicate, which is no type of Triton's `select`."""


def verified(instructions):
    """Lower a step of two lanes, verify its kernels, and return their number."""
    weights, (grads, *_), _ = random_inputs(0)
    model = ArrayLayout(weights)
    code = encode(parse("def train(w, g):\n    return g"))  # instructions are read at run time
    code = jax.tree.map(lambda leaf: np.stack([leaf] * 2), code)
    tensors = np.zeros((*code.initial_tensors.shape, model.size), np.float32)
    inputs = batch_inputs(weights, grads, 1.0, 1.0, lanes=2)
    step = partial(run_batch, instructions, model)
    sum_factors = np.asarray(model.sum_factors())
    return verified_kernels(
        lowered_for_gpu(step, code, sum_factors, tensors, code.initial_scalars, inputs)
    )


@pytest.mark.parametrize("names", ALONE + FUSED, ids="-".join)
def test_triton_accepts_every_layout_of_every_op_and_fused_pair(names):
    assert verified(instruction_set(frozenset(names))) > 0


@settings(max_examples=5)
@given(st.lists(programs(min_statements=4), min_size=1, max_size=4))
def test_triton_accepts_the_ops_of_random_programs(batch):
    names = {s.op for program in batch for s in program.statements}
    assert verified(instruction_set(frozenset(names))) > 0


def test_triton_accepts_the_full_op_set():
    assert verified(instruction_set(frozenset(ops.names("full")))) > 0


@pytest.mark.parametrize("others", [set(), {"add", "where", "norm"}], ids=len)
def test_the_verification_rejects_an_op_with_literals_of_the_wrong_type(others, monkeypatch):
    monkeypatch.setitem(OPS, "greater", UNTYPED_GREATER)
    instructions = instruction_set.__wrapped__(frozenset({"greater", *others}))
    with pytest.raises(MLIRError, match=r"'i1' should match .*'f32'"):
        verified(instructions)
