"""Tests that the compile-once machine and traced programs agree with the reference interpreter."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import event, given, reject, settings
from hypothesis import strategies as st

from primitives import (
    OPS,
    CapacityError,
    Kind,
    Parameter,
    Program,
    Statement,
    encode,
    initial_state,
    interpreter,
    parse,
    rule,
    state_memory,
    step,
    zoo,
)
from primitives.kinds import kind_shape
from tests.strategies import programs

SHAPES = {"matrix": (4, 3), "vector": (5,), "scalar": (), "stacked": (2, 3, 4)}
NOISE = 2e-6  # relative perturbation of inputs, about 16 units in the last place of float32

NUMPY32 = SimpleNamespace(**vars(np))  # not `np` itself, with which `step` takes float64

machine = interpreter()
machine_update = jax.jit(machine.update)


def random_inputs(seed, steps=3):
    """Return weights, and for each step gradients and the schedule input lr."""
    rng = np.random.default_rng(seed)
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    grads = []
    for _ in range(steps):
        arrays = {name: rng.normal(size=s).astype(np.float32) for name, s in SHAPES.items()}
        arrays["vector"][:2] = 0.0  # weights without a gradient
        grads.append(arrays)
    return weights, grads, [1.0, 0.75, 0.3][:steps]


def run_machine(program, weights, grads, schedule):
    state = machine.init(weights, encode(program), -1.0)
    for number, (g, lr) in enumerate(zip(grads, schedule, strict=True), 1):
        update, state = machine_update(g, state, weights, lr=lr, t=float(number))
        yield update


def run_reference(program, weights, grads, schedule, xp=jnp):
    state = initial_state(program, weights, xp)
    for number, (g, lr) in enumerate(zip(grads, schedule, strict=True), 1):
        update, state = step(program, state, weights, g, lr=lr, t=float(number), xp=xp)
        yield update


def with_noise(program, rng):
    """Return `program` with every intermediate value multiplied by a factor near 1."""
    statements = []
    for s in program.statements:
        factor = 1.0 + NOISE * rng.choice([-1.0, 1.0])
        statements += [s, Statement(s.target, "multiply", (s.target, factor))]
    return Program(program.parameters, tuple(statements), program.returns)


def with_relative_noise(tree, rng):
    return jax.tree.map(lambda x: np.float32(x * (1 + NOISE * rng.uniform(-1, 1, x.shape))), tree)


def flatten(tree):
    return np.concatenate([np.ravel(np.asarray(x, np.float64)) for x in jax.tree.leaves(tree)])


def assert_agree(program, get_updates, seed=0, noise_count=3, steps=3, xp=NUMPY32):
    """Assert that `get_updates` yields the reference's updates up to float32 rounding.

    The reference runs again with inputs and intermediate values perturbed by a few units in the
    last place. Where its results then differ, other results may differ by as much.

    Args:
        program: the program.
        get_updates: a function of weights, gradients and schedule that yields the updates.
        seed: the seed of the inputs.
        noise_count: how often the perturbed reference runs.
        steps: the number of steps, at most 3.
        xp: the namespace in which the reference computes.

    Returns:
        The fraction of numbers for which the perturbations change little, so that they are tested.
    """
    weights, grads, schedule = random_inputs(seed, steps)
    expected = [flatten(update) for update in run_reference(program, weights, grads, schedule, xp)]
    runs = []
    for k in range(noise_count):
        rng = np.random.default_rng([seed, k])
        perturbed = (
            with_noise(program, rng),
            with_relative_noise(weights, rng),
            with_relative_noise(grads, rng),
        )
        runs.append([flatten(u) for u in run_reference(*perturbed, schedule, xp=NUMPY32)])
    tested_fraction = 0.0
    for number, update in enumerate(get_updates(weights, grads, schedule)):
        a, b, c = flatten(update), expected[number], np.stack([run[number] for run in runs])
        finite = np.isfinite(b) & np.isfinite(c).all(0)
        never_finite = ~np.isfinite(b) & ~np.isfinite(c).any(0)
        assert not np.isfinite(a[never_finite]).any(), f"step {number + 1}: finite\n{program}"
        with np.errstate(all="ignore"):
            spread = np.abs(c - b).max(0)
            bound = 1e-5 * (1 + np.abs(b)) + 8 * spread
            wrong = finite & ~(np.abs(a - b) <= bound)
            tight = never_finite | (finite & (spread <= 1e-3 * (1 + np.abs(b))))
        assert not wrong.any(), f"step {number + 1}: {a[wrong]} not {b[wrong]}\n{program}"
        tested_fraction += tight.mean() / len(expected)
    return tested_fraction


@pytest.mark.parametrize("name", zoo.names())
def test_the_machine_agrees_with_the_reference_on_the_zoo(name):
    program = zoo.load(name)
    assert assert_agree(program, lambda *data: run_machine(program, *data)) == 1.0


@pytest.mark.parametrize("op", [op for op in OPS.values() if op.arity], ids=lambda op: op.name)
def test_the_machine_runs_every_op_on_every_layout_and_kind(op):
    """The operands are each pair from a tensor, a row, a leaf, a scalar and a constant."""
    values = ["w", "r", "n", "lr", 0.5]
    for first in values:
        others = values if len(op.operands) > 1 and op.operands[1] == "x" else ["lr"]
        for second in others:
            names = {"x": iter([first, second, first]), "s": iter([0.25, 0.75])}
            args = tuple(next(names[operand]) for operand in op.operands)
            program = Program(
                (Parameter("w"), Parameter("g"), Parameter("lr")),
                (
                    Statement("r", "row_mean", ("g",)),
                    Statement("n", "norm", ("g",)),
                    Statement("u", op.name, args),
                    Statement("u", "tanh", ("u",)),
                ),
                ("u",),
            )
            if op.matrixwise and first in ("r", "n", "lr"):
                with pytest.raises(CapacityError, match=op.name):
                    encode(program)
                continue
            assert_agree(
                program,
                lambda *data, p=program: run_machine(p, *data),
                noise_count=1,
                steps=1,
                xp=np,
            )


PROGRAMS = {
    "states change places": """def train(w, g, a: tensor(1.0), b):
    update = a - b
    c = a + g
    a = b
    b = c
    return update, a, b""",
    "a delay line": """def train(w, g, a, b, c):
    update = c * 0.5
    c = b
    b = a
    a = g
    return update, a, b, c""",
    "a rotation": """def train(w, g, a: tensor(1.0), b: tensor(2.0), c: tensor(3.0)):
    update = a
    x = a
    a = b
    b = c
    c = x
    return update, a, b, c""",
    "update is a state": "def train(w, g, m):\n    m = interp(g, m, 0.9)\n    return m, m",
    "update is the old state": "def train(w, g, m):\n    u = m\n    m = g\n    return u, m",
    "update is the gradient": "def train(w, g):\n    return g",
    "update is lr": "def train(w, g, lr):\n    return lr",
    "update is a number": "def train(w, g):\n    u = 0.5\n    return u",
    "update is a folded number": "def train(w, g):\n    u = sqrt(2.0) * get_pi()\n    return u",
    "one value, two states": """def train(w, g, m, v):
    u = m / (v + 1.0)
    m = g * 0.5
    v = m
    return u, m, v""",
    "state set to a number": "def train(w, g, m):\n    u = m + g\n    m = 3.0\n    return u, m",
    "a constant that looks like a value's number": """def train(w, g, m, v):
    a = sign(m)
    b = cos(g)
    u = a + b
    u = u + v
    m = 5.0
    v = b
    return u, m, v""",
    "a state's next value is read once": """def train(w, g, m, v):
    u = m / (v + 1.0)
    v = square(g)
    m = interp(v, m, 0.9)
    return u, m, v""",
    "the update is read once": """def train(w, g, m):
    u = g * w
    m = m + u
    u = u
    return u, m""",
    "scalar states": """def train(w, g, s: scalar(1.0), n: scalar):
    n = global_norm(g) + n
    s = s * 0.5
    u = g * s / n
    return u, s, n""",
    "NaN from constants alone": "def train(w, g):\n    u = g + log(-1.0)\n    return u",
    "states of every kind": """def f(w, g, a: leaf, b: matrix, c: row, d: col, e: scalar, lr, t):
    a = interp(norm(g), a, 0.5)
    b = interp(matrix_mean(g), b, 0.5)
    c = interp(row_mean(g), c, 0.5)
    d = interp(col_mean(g), d, 0.5)
    e = interp(dot(w, g), e, 0.5)
    n = norm(c) + norm(d) * norm(b)
    k = dot(a, c) + dot(c, d) + cosine_sim(b, d)
    u = g * a + b * c - d / e + n * k
    u = u * lr / t
    return u, a, b, c, d, e""",
}


@pytest.mark.parametrize("case", PROGRAMS)
def test_the_machine_moves_states_and_outputs_correctly(case):
    program = parse(PROGRAMS[case])
    assert assert_agree(program, lambda *data: run_machine(program, *data)) == 1.0


def test_subnormal_constants_count_as_zero():
    weights, grads, schedule = random_inputs(0, 1)
    for zero in ("1.0 / 1e-40", "1e-40 * 1e38", "1e-30 * 1e-10 * 1e38"):
        program = parse(f"def train(w, g):\n    u = g + {zero}\n    return u")
        for run in (run_machine, run_reference):
            update = flatten(*run(program, weights, grads, schedule))
            np.testing.assert_array_equal(update, flatten(grads))


@settings(max_examples=30)
@given(programs(min_statements=8, max_statements=16, max_states=4), st.integers(0, 99))
def test_the_machine_agrees_with_the_reference_on_random_programs(program, seed):
    try:
        encode(program)
    except CapacityError as error:  # the machine orthogonalizes tensors only
        if "orthogonalize" not in str(error):
            raise
        reject()
    tested_fraction = assert_agree(program, lambda *data: run_machine(program, *data), seed)
    event(f"tested fraction: {round(tested_fraction, 1)}")


@settings(max_examples=25)
@given(programs(min_statements=4, max_statements=10), st.integers(0, 99))
def test_rule_agrees_with_the_reference(program, seed):
    def get_updates(weights, grads, schedule):
        transformation = rule(program)
        state = transformation.init(weights, 2.0)
        for number, (g, lr) in enumerate(zip(grads, schedule, strict=True), 1):
            updates, state = transformation.update(g, state, weights, lr=lr, t=float(number))
            yield jax.tree.map(lambda x: x / -2.0, updates)

    assert_agree(program, get_updates, seed, noise_count=1)


@pytest.mark.parametrize("name", ["adamw", "adafactor", "lion"])
def test_float64_numpy_agrees_with_float32_jax(name):
    program = zoo.load(name)
    assert_agree(program, lambda *data: run_reference(program, *data, xp=np), xp=jnp)


def test_the_machine_is_compiled_once_for_all_programs():
    before = machine_update._cache_size()
    weights, grads, schedule = random_inputs(0)
    for name in zoo.names():
        list(run_machine(zoo.load(name), weights, grads, schedule))
    assert machine_update._cache_size() <= max(before, 1)


def test_factor_scales_the_update():
    weights, grads, _ = random_inputs(0)
    program = zoo.load("lion")
    once, twice = (
        machine_update(
            grads[0], machine.init(weights, encode(program), factor), weights, lr=1.0, t=1.0
        )[0]
        for factor in (1.0, 2.0)
    )
    np.testing.assert_allclose(flatten(twice), 2 * flatten(once), rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_updates_have_the_dtypes_of_the_weights(dtype):
    weights, grads, _ = random_inputs(0)
    weights, grads = jax.tree.map(lambda x: jnp.asarray(x, dtype), (weights, grads[0]))
    program = zoo.load("adamw")
    state = machine.init(weights, encode(program))
    machine_updates, _ = jax.eval_shape(machine.update, grads, state, weights)
    rule_updates, state = rule(program).update(grads, rule(program).init(weights), weights)
    for update in (machine_updates, rule_updates):
        assert {x.dtype for x in jax.tree.leaves(update)} == {jnp.dtype(dtype)}
    assert {x.dtype for x in jax.tree.leaves(state.program)} == {jnp.dtype("float32")}


def test_an_update_without_the_weights_is_an_error():
    for transformation, arguments in (
        (rule(zoo.load("sgd")), ()),
        (machine, (encode(zoo.load("sgd")),)),
    ):
        state = transformation.init({"a": jnp.ones(2)}, *arguments)
        with pytest.raises(ValueError, match="pass params"):
            transformation.update({"a": jnp.ones(2)}, state)


@pytest.mark.parametrize("values", [30, 60])
def test_programs_that_keep_too_many_values_at_once_exceed_the_machine(values):
    states = tuple(Parameter(f"m{i}") for i in range(values))
    shift = tuple(Statement(f"m{i}", "interp", ("g", f"m{i}", 0.5)) for i in range(values))
    total = tuple(Statement("u", "add", ("u" if i else "g", f"m{i}")) for i in range(values))
    program = Program(
        (Parameter("w"), Parameter("g"), *states),
        (*shift, *total),
        ("u", *(s.name for s in states)),
    )
    with pytest.raises(CapacityError, match="more than 24"):
        encode(program)


def test_a_machine_for_some_ops_refuses_programs_with_other_ops():
    lion = zoo.load("lion")
    small = interpreter(lion.ops)
    assert small is interpreter(lion.ops)

    def run(weights, grads, schedule):
        state = small.init(weights, encode(lion, lion.ops), -1.0)
        for g, lr in zip(grads, schedule, strict=True):
            update, state = jax.jit(small.update)(g, state, weights, lr=lr)
            yield update

    assert_agree(lion, run)
    with pytest.raises(CapacityError, match="the machine has no"):
        encode(zoo.load("adamw_paper"), lion.ops)


def test_a_program_of_maximum_length_fits_the_machine():
    lines = [f"x{i} = {'sin' if i % 2 else 'cos'}(x{i - 1})" for i in range(1, 63)]
    text = "def train(w, g, lr):\n " + "\n ".join(["x0 = g", *lines, "u = x62 * lr"])
    program = parse(text + "\n return u")
    assert len(program.statements) == 64
    assert_agree(program, lambda *data: run_machine(program, *data), noise_count=1)


@pytest.mark.parametrize("kind", Kind)
def test_states_have_the_size_of_their_kind(kind):
    program = parse(f"def train(w, g, m: {kind}(0.5)):\n  u = g * m\n  return u, m")
    large = {"a": jax.ShapeDtypeStruct((4096, 4096), jnp.float32)}
    (state,) = jax.eval_shape(lambda tree: initial_state(program, tree), large)
    sizes = {"tensor": (4096, 4096), "row": (4096, 1), "col": (1, 4096)}
    sizes |= {"matrix": (1, 1), "leaf": (1, 1), "scalar": ()}
    assert [x.shape for x in jax.tree.leaves(state)] == [sizes[str(kind)]]
    weights, grads, _ = random_inputs(0)
    _, (after,) = step(program, initial_state(program, weights), weights, grads[0])
    shapes = [x.shape for x in jax.tree.leaves(after)]
    expected = [kind_shape(kind, x.shape) for x in jax.tree.leaves(weights)]
    assert shapes == (expected if kind != Kind.SCALAR else [()])


@pytest.mark.parametrize(
    ("name", "memory"),
    [("adamw", 2), ("adamw_paper", 2), ("lion", 1), ("momentum", 1), ("sgd", 0)],
)
def test_state_memory_counts_numbers_per_weight(name, memory):
    assert state_memory(zoo.load(name)) == memory


def test_factored_states_need_little_memory():
    assert state_memory(zoo.load("adafactor")) == pytest.approx(0.003, rel=0.05)


def test_dead_states_need_no_memory():
    program = parse("def train(w, g, m, v):\n  m = interp(g, m, 0.9)\n  v = m\n  return m, m, v")
    assert state_memory(program) == 1
