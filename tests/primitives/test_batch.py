"""Tests that each lane of a batch agrees with the reference, with every implementation."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from functools import partial

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primitives import OPS as ALL_OPS
from primitives import CapacityError, encode, interpreter, parse, zoo
from primitives.kinds import AXES, matrix_view
from primitives.machine import instructions
from primitives.machine.arrays import ArrayLayout
from primitives.machine.batch import gangs, kernel, run_batch
from primitives.machine.step import Inputs
from tests.primitives.test_interpreters import assert_agree, random_inputs
from tests.primitives.triton_ir import lowered_for_gpu
from tests.strategies import programs

LANES = 8
OPS = frozenset(
    ["add", "subtract", "multiply", "divide", "interp", "square", "sqrt", "sign", "maximum"]
    + ["power", "tanh", "log", "reciprocal", "norm", "global_norm", "dot", "clip", "rms"]
    + ["clip_by_rms", "row_mean", "col_mean", "matrix_mean", "orthogonalize"]
    + ["where", "equal", "minimum"]
)
"""Ops for every branch of the kernel and the gangs; other tests cover what each op computes."""
ZOO_PROGRAMS = []
for name in zoo.names():
    with suppress(CapacityError):
        encode(zoo.load(name), OPS)
        ZOO_PROGRAMS.append(name)
_FAST = {"xla_backend_optimization_level": "0"}


class Batch:
    """A compiled step of `LANES` programs with one implementation of batches."""

    def __init__(self, implementation, compiler_options=None):
        self.implementation = implementation
        self._options = compiler_options
        self._compiled = None

    def run(self, codes, weights, grads, schedule):
        """Yield the lanes' updates of each step; each array has a first axis [lanes]."""
        model = ArrayLayout(weights)
        code = jax.tree.map(lambda *arrays: np.stack(arrays), *codes)
        tensors = np.repeat(code.initial_tensors[:, :, None], model.size, axis=2)
        scalars = code.initial_scalars
        sum_factors = np.asarray(model.sum_factors())
        for number, (g, lr) in enumerate(zip(grads, schedule, strict=True), 1):
            args = code, sum_factors, tensors, scalars, batch_inputs(weights, g, lr, number)
            if self._compiled is None:
                model = ArrayLayout(weights)
                step = partial(self.implementation, instructions.instruction_set(OPS), model)
                lowered = jax.jit(step).lower(*args)
                self._compiled = lowered.compile(compiler_options=self._options)
            update, tensors, scalars = self._compiled(*args)
            yield update


def batch_inputs(weights, grads, lr, t, lanes=LANES):
    """Return the inputs of one step, the same in all lanes."""
    one = Inputs(weights, grads, np.float32(lr), np.float32(t), factor=np.float32(-1.0))
    return jax.tree.map(lambda leaf: np.stack([leaf] * lanes), one)


@pytest.fixture(
    scope="module",
    params=["gangs", "kernel", "kernel and gangs", pytest.param("device", marks=pytest.mark.gpu)],
)
def batch(request):
    """Gangs, the kernel in interpret mode with small tiles, and the implementation for a GPU.

    "kernel and gangs" is the kernel as for a model with large matrices, whose products gangs do.
    """
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "gangs":
            yield Batch(gangs.run_gangs, _FAST)
        elif request.param.startswith("kernel"):
            patch.setattr(kernel.tiles, "SIZE", 8)
            patch.setattr(kernel.block, "ROWS", 2)
            patch.setattr(kernel.block, "COLUMNS", 4)
            patch.setattr(kernel.matrices, "BLOCK", 4)
            if request.param == "kernel and gangs":
                patch.setattr(kernel.work, "MAX_MATRIX", 0)
            yield Batch(partial(kernel.run_kernel, interpret=True), _FAST)
        elif jax.default_backend() == "gpu":
            yield Batch(run_batch)
        else:
            pytest.skip("JAX finds no GPU")


def assert_lanes_agree(batch, lanes, seed=0):
    codes = [encode(program, OPS) for program in lanes]
    codes += [codes[0]] * (LANES - len(codes))
    data = random_inputs(seed)
    updates = list(batch.run(codes, *data))
    for lane, program in enumerate(lanes):
        own = [jax.tree.map(lambda leaf, lane=lane: leaf[lane], update) for update in updates]
        assert_agree(program, lambda *_, own=own: own, seed=seed, noise_count=1)


def test_a_batch_of_zoo_programs_agrees_with_the_reference(batch):
    assert {"adamw_paper", "lion", "adafactor", "muon", "lamb"} <= set(ZOO_PROGRAMS)
    for first in range(0, len(ZOO_PROGRAMS), LANES):
        assert_lanes_agree(batch, [zoo.load(name) for name in ZOO_PROGRAMS[first : first + LANES]])


@settings(max_examples=6)
@given(data=st.data(), seed=st.integers(0, 2**16))
def test_a_batch_of_random_programs_agrees_with_the_reference(batch, data, seed):
    lanes = []
    for program in data.draw(st.lists(programs(op_names=sorted(OPS)), min_size=1, max_size=LANES)):
        try:
            encode(program, OPS)
        except CapacityError:
            continue
        lanes.append(program)
    if lanes:
        assert_lanes_agree(batch, lanes, seed)


def test_a_lanes_update_does_not_depend_on_other_lanes(batch):
    """The same program has bitwise the same update in any lane, with any programs in the others."""
    program = zoo.load("adamw")
    data = random_inputs(1, steps=1)
    (own_updates,) = batch.run([encode(program, OPS)] * LANES, *data)
    mixed = [encode(zoo.load(name), OPS) for name in ZOO_PROGRAMS[:LANES]]
    mixed[3] = encode(program, OPS)
    (mixed_updates,) = batch.run(mixed, *data)
    for a, b in zip(jax.tree.leaves(own_updates), jax.tree.leaves(mixed_updates), strict=True):
        np.testing.assert_array_equal(a[0], b[3])


def test_a_batch_orthogonalizes_values_of_every_kind(batch):
    values = ["g", "row_mean(g)", "col_mean(g)", "matrix_mean(g)", "norm(g)", "lr"]
    assert_lanes_agree(
        batch,
        [
            parse(f"def train(w, g, lr):\n    u = g * orthogonalize({value})\n    return u")
            for value in values
        ],
    )


MATRICES = {
    "wide": (3, 20),
    "tall": (35, 5),
    "square": (17, 17),
    "convolution": (2, 2, 5, 3),
    "vector": (19,),
    "number": (),
}


def test_the_kernel_acts_on_matrices_of_every_shape_as_the_op_does():
    op_names = ["row_mean", "col_mean", "matrix_mean", "orthogonalize"]
    rng = np.random.default_rng(0)
    grads = {name: np.float32(rng.normal(size=shape)) for name, shape in MATRICES.items()}
    model = ArrayLayout(grads)
    codes = [
        encode(parse(f"def train(w, g):\n    u = {op}(g)\n    return u"), frozenset(op_names))
        for op in op_names
    ]
    code = jax.tree.map(lambda *leaves: np.stack(leaves), *codes)
    step = partial(
        kernel.run_kernel,
        instructions.instruction_set(frozenset(op_names)),
        model,
        interpret=True,
    )
    updates, *_ = jax.jit(step, compiler_options=_FAST)(
        code,
        model.sum_factors(),
        np.zeros((*code.initial_tensors.shape, model.size), np.float32),
        code.initial_scalars,
        batch_inputs(grads, grads, 1.0, 1.0, lanes=len(op_names)),
    )
    for name, gradient in grads.items():
        matrices = np.float64(gradient).reshape(matrix_view(gradient.shape))
        for lane, op in enumerate(op_names):
            reduction = ALL_OPS[op].reduction
            means = [means_of(matrices, reduction)] if reduction else []
            expected = np.broadcast_to(ALL_OPS[op].meaning(np, *means, matrices), matrices.shape)
            actual = updates[name][lane].reshape(matrices.shape)
            np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5, err_msg=op)


def means_of(matrices, reduction):
    """Return the means that the op reads, computed by NumPy."""
    inputs = reduction.inputs(np, matrices)
    return tuple(x.mean(AXES[reduction.kind], keepdims=True) for x in inputs)


def test_a_diverging_lane_does_not_change_other_lanes(batch):
    wild = parse("""def train(w, g, v, lr):
    v = power(10.0, w)
    u = 1e30 * v
    u = u * u
    return u, v
""")
    lanes = [wild, zoo.load("lion"), parse("def train(w, g, lr):\n    u = g / 0.0\n    return u")]
    assert_lanes_agree(batch, lanes)


@pytest.mark.parametrize("names", [["lion", "adamw_paper", "momentum"], ["lion"]], ids=len)
def test_the_interpreter_under_vmap_agrees_with_the_interpreter(names):
    """`vmap` maps over programs and gradients, or over gradients with one program."""
    ops = frozenset(["interp", "sign", "multiply", "add", "divide", "sqrt", "square"])
    machine = interpreter(ops)
    weights, grads, _ = random_inputs(2)
    codes = [encode(zoo.load(name), ops) for name in names]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *grads)

    @jax.jit
    def update(code, g):
        return machine.update(g, machine.init(weights, code, 1.0), weights, lr=0.5, t=1.0)[0]

    if len(names) > 1:
        together = jax.vmap(update)(jax.tree.map(lambda *leaves: np.stack(leaves), *codes), stacked)
    else:
        together = jax.vmap(update, in_axes=(None, 0))(codes[0], stacked)
    for lane, g in enumerate(grads):
        own_updates = update(codes[lane % len(codes)], g)
        for a, b in zip(jax.tree.leaves(own_updates), jax.tree.leaves(together), strict=True):
            np.testing.assert_allclose(b[lane], a, rtol=1e-5, atol=1e-7)


def text_for_gpu(platform="cuda", **settings):
    """Return the text of a step of Lion in four lanes, lowered for a GPU."""
    op_names = frozenset(["interp", "sign", "multiply", "add", "divide"])
    machine = interpreter(op_names, **settings)
    weights, grads, _ = random_inputs(0)
    code = jax.tree.map(lambda leaf: np.stack([leaf] * 4), encode(zoo.load("lion"), op_names))
    state = jax.vmap(lambda code: machine.init(weights, code, 1.0))(code)
    step = jax.vmap(lambda s: machine.update(grads[0], s, weights, lr=1.0, t=1.0))
    return lowered_for_gpu(step, state, platform=platform).as_text()


def test_the_kernel_lowers_for_cuda_without_a_gpu():
    text = text_for_gpu()
    assert "__gpu$xla.gpu.triton" in text
    assert "optimizer_programs" in text


def test_a_jax_without_triton_runs_gangs_on_cuda(monkeypatch):
    monkeypatch.setitem(sys.modules, "primitives.machine.batch.kernel", None)
    assert "triton" not in text_for_gpu()


def test_a_gpu_of_another_vendor_runs_gangs():
    assert "triton" not in text_for_gpu("rocm")


def test_an_interpreter_without_the_kernel_runs_gangs_on_cuda():
    assert "triton" not in text_for_gpu(use_kernel=False)


def test_the_packages_import_without_triton():
    """JAX announced the removal of `jax.experimental.pallas.triton` in version 0.11."""
    code = """
import sys
sys.modules["jax.experimental.pallas.triton"] = None
import primitives, proxies, evosearch
from primitives.machine.batch import _kernel
assert _kernel() is None
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
