"""Batches of programs: each lane computes what the reference computes, by every way there is."""

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
from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh

from primitives import CapacityError, encode, interpreter, ops, parse, zoo
from primitives.machine import instructions
from primitives.machine.arrays import Arrays
from primitives.machine.batch import gangs, kernel, run_batch
from primitives.machine.step import read
from tests.primitives.test_interpreters import assert_agree, stream
from tests.strategies import programs

LANES = 8
OPS = frozenset(
    ["add", "subtract", "multiply", "divide", "interp", "square", "sqrt", "sign", "maximum"]
    + ["power", "tanh", "log", "reciprocal", "norm", "global_norm", "dot", "clip", "rms"]
    + ["clip_by_rms", "row_mean", "col_mean", "matrix_mean", "orthogonalize"]
    + ["where", "equal", "minimum"]
)
"""Some of every kind of work that ways treat differently; each op's meaning is tested elsewhere."""
ZOO = []
for name in zoo.names():
    with suppress(CapacityError):
        encode(zoo.load(name), OPS)
        ZOO.append(name)
_FAST = {"xla_backend_optimization_level": "0"}


class Batch:
    """A compiled step of `LANES` programs by one of the ways."""

    def __init__(self, way, compiler_options=None):
        self.way = way
        self._options = compiler_options
        self._compiled = None

    def run(self, codes, weights, grads, schedule):
        """The lanes' updates, step by step: each array has a first axis [lanes]."""
        model = Arrays(weights)
        code = jax.tree.map(lambda *arrays: np.stack(arrays), *codes)
        file = np.repeat(code.rows[:, :, None], model.size, axis=2)
        scalars = code.scalars
        share = np.asarray(model.share())
        for number, (g, lr) in enumerate(zip(grads, schedule, strict=True), 1):
            scalars = np.array(scalars)
            scalars[:, 0], scalars[:, 1] = lr, number
            if self._compiled is None:
                lowered = jax.jit(partial(self._step)).lower(code, share, file, scalars, weights, g)
                self._compiled = lowered.compile(compiler_options=self._options)
            update, file, scalars = self._compiled(code, share, file, scalars, weights, g)
            yield update

    def _step(self, code, share, file, scalars, weights, g):
        model = Arrays(weights)
        enter = jax.vmap(lambda file: model.enter(model.enter(file, weights, 0), g, 1))
        step = partial(self.way, instructions.instruction_set(OPS), model)
        file, scalars = step(code, share, enter(file), scalars)
        update = jax.vmap(read)(file, code.update) * jax.vmap(read)(scalars, code.scale)[:, None]
        return jax.vmap(model.unravel)(update), file, scalars


@pytest.fixture(
    scope="module",
    params=["gangs", "kernel", pytest.param("device", marks=pytest.mark.gpu)],
)
def batch(request):
    """Through XLA; the kernel, run by JAX with tiles of 8; and whatever this device takes."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "gangs":
            yield Batch(gangs.run_gangs, _FAST)
        elif request.param == "kernel":
            patch.setattr(kernel, "TILE", 8)
            yield Batch(partial(kernel.run_kernel, interpret=True), _FAST)
        elif jax.default_backend() == "gpu":
            yield Batch(run_batch)
        else:
            pytest.skip("JAX finds no GPU")


def assert_lanes_agree(batch, lanes, seed=0):
    codes = [encode(program, OPS) for program in lanes]
    codes += [codes[0]] * (LANES - len(codes))
    data = stream(seed)
    updates = list(batch.run(codes, *data))
    for lane, program in enumerate(lanes):
        mine = [jax.tree.map(lambda leaf, lane=lane: leaf[lane], update) for update in updates]
        assert_agree(program, lambda *_, mine=mine: mine, seed=seed, noises=1)


def test_a_batch_runs_the_zoo(batch):
    assert {"adamw_paper", "lion", "adafactor", "muon", "lamb"} <= set(ZOO)
    for first in range(0, len(ZOO), LANES):
        assert_lanes_agree(batch, [zoo.load(name) for name in ZOO[first : first + LANES]])


@settings(max_examples=6)
@given(data=st.data(), seed=st.integers(0, 2**16))
def test_a_batch_of_random_programs_computes_what_the_reference_does(batch, data, seed):
    lanes = []
    for program in data.draw(st.lists(programs(names=sorted(OPS)), min_size=1, max_size=LANES)):
        try:
            encode(program, OPS)
        except CapacityError:
            continue
        lanes.append(program)
    if lanes:
        assert_lanes_agree(batch, lanes, seed)


def test_lanes_do_not_see_their_neighbours(batch):
    """The same program has the same update to the last bit, wherever it is and beside whom."""
    program = zoo.load("adamw")
    data = stream(1, steps=1)
    (alone,) = batch.run([encode(program, OPS)] * LANES, *data)
    mixed = [encode(zoo.load(name), OPS) for name in ZOO[:LANES]]
    mixed[3] = encode(program, OPS)
    (beside,) = batch.run(mixed, *data)
    for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(beside), strict=True):
        np.testing.assert_array_equal(a[0], b[3])


def test_a_program_that_divides_by_zero_or_diverges_leaves_its_neighbours_alone(batch):
    wild = parse("""def train(w, g, v, lr):
    v = power(10.0, w)
    u = 1e30 * v
    u = u * u
    return u, v
""")
    lanes = [wild, zoo.load("lion"), parse("def train(w, g, lr):\n    u = g / 0.0\n    return u")]
    assert_lanes_agree(batch, lanes)


@pytest.mark.parametrize("names", [["lion", "adamw_paper", "momentum"], ["lion"]], ids=len)
def test_the_interpreter_under_vmap_is_the_interpreter(names):
    """Over programs and gradients, or one program over gradients."""
    ops = frozenset(["interp", "sign", "multiply", "add", "divide", "sqrt", "square"])
    machine = interpreter(ops)
    weights, grads, _ = stream(2)
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
        alone = update(codes[lane % len(codes)], g)
        for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(together), strict=True):
            np.testing.assert_allclose(b[lane], a, rtol=1e-5, atol=1e-7)


def lowered_for_cuda():
    """Lion in four lanes, lowered for an NVIDIA GPU, which need not be there."""
    known = frozenset(ops.names("full"))
    machine = interpreter(known)
    weights, grads, _ = stream(0)
    code = jax.tree.map(lambda leaf: np.stack([leaf] * 4), encode(zoo.load("lion"), known))
    state = jax.vmap(lambda code: machine.init(weights, code, 1.0))(code)
    step = jax.jit(jax.vmap(lambda s: machine.update(grads[0], s, weights, lr=1.0, t=1.0)))
    gpu = AbstractDevice(device_kind="NVIDIA H100", num_cores=132, platform="gpu")
    with use_abstract_mesh(AbstractMesh((), (), abstract_device=gpu)):  # JAX 0.11 asks for it
        return step.trace(state).lower(lowering_platforms=("cuda",)).as_text()


def test_the_kernel_lowers_for_cuda_where_there_is_no_gpu():
    text = lowered_for_cuda()
    assert "__gpu$xla.gpu.triton" in text
    assert "optimizer_programs" in text


def test_a_jax_without_triton_runs_gangs_on_cuda(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax.experimental.pallas.triton", None)
    assert "triton" not in lowered_for_cuda()


def test_the_packages_import_without_triton():
    """JAX announced the removal of `jax.experimental.pallas.triton` in version 0.11."""
    code = """
import sys
sys.modules["jax.experimental.pallas.triton"] = None
import primitives, proxies, evosearch
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
