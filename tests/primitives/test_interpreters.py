"""Compares the interpreter and compiled programs with the reference interpreter."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import event, given, settings
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
RELATIVE_NOISE = 2e-6  # of perturbed values; about 16 units in the last place of float32

NUMPY_FLOAT32 = SimpleNamespace(**vars(np))
"""Copy of the namespace of NumPy, with which `step` computes in float32.

`step` computes in float64 only if `xp` is `np` itself.
"""

machine = interpreter()
machine_update = jax.jit(machine.update)


def random_inputs(seed, steps=3):
    """Return random weights, and for each step random gradients and the input lr."""
    rng = np.random.default_rng(seed)
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    gradients = []
    for _ in range(steps):
        arrays = {name: rng.normal(size=shape) for name, shape in SHAPES.items()}
        arrays["vector"][:2] = 0.0  # these weights always have a zero gradient
        gradients.append({name: array.astype(np.float32) for name, array in arrays.items()})
    return weights, gradients, [1.0, 0.75, 0.3][:steps]


def run_machine(program, weights, gradients, schedule):
    """Yield the update of each step, computed by the interpreter."""
    state = machine.init(weights, encode(program), -1.0)
    for t, (gradient, lr) in enumerate(zip(gradients, schedule, strict=True), 1):
        update, state = machine_update(gradient, state, weights, lr=lr, t=float(t))
        yield update


def run_reference(program, weights, gradients, schedule, xp=jnp):
    """Yield the update of each step, computed by the reference interpreter."""
    state = initial_state(program, weights, xp)
    for t, (gradient, lr) in enumerate(zip(gradients, schedule, strict=True), 1):
        update, state = step(program, state, weights, gradient, lr=lr, t=float(t), xp=xp)
        yield update


def with_perturbed_statements(program, rng):
    """Return `program` with every intermediate value multiplied by a factor near 1."""
    statements = []
    for statement in program.statements:
        factor = 1.0 + RELATIVE_NOISE * rng.choice([-1.0, 1.0])
        target = statement.target
        statements += [statement, Statement(target, "multiply", (target, factor))]
    return Program(program.parameters, tuple(statements), program.returns)


def with_perturbed_numbers(tree, rng):
    """Return the arrays of `tree` with every number multiplied by a factor near 1."""

    def perturb(array):
        return np.float32(array * (1 + RELATIVE_NOISE * rng.uniform(-1, 1, array.shape)))

    return jax.tree.map(perturb, tree)


def flatten(tree):
    """Return all numbers of the arrays in `tree` as one float64 vector."""
    leaves = jax.tree.leaves(tree)
    return np.concatenate([np.ravel(np.asarray(leaf, np.float64)) for leaf in leaves])


def assert_agree(program, get_updates, seed=0, noise_count=3, steps=3, xp=NUMPY_FLOAT32):
    """Assert that `get_updates` yields the reference's updates up to float32 rounding.

    To estimate the effect of rounding on each number, the reference runs again with slightly
    perturbed inputs and intermediate values. The tolerance grows with the resulting change of the
    reference's own results.

    Args:
        program: the program.
        get_updates: a function of weights, gradients and schedule that yields the updates.
        seed: the seed of the inputs.
        noise_count: how often the reference runs with perturbations.
        steps: the number of steps, at most 3.
        xp: the namespace in which the reference computes.

    Returns:
        The fraction of numbers that the perturbations change little. Only these numbers are
        compared with a small tolerance.
    """
    weights, gradients, schedule = random_inputs(seed, steps)
    reference = run_reference(program, weights, gradients, schedule, xp)
    expected_updates = [flatten(update) for update in reference]
    perturbed_runs = []
    for noise_seed in range(noise_count):
        rng = np.random.default_rng([seed, noise_seed])
        run = run_reference(
            with_perturbed_statements(program, rng),
            with_perturbed_numbers(weights, rng),
            with_perturbed_numbers(gradients, rng),
            schedule,
            xp=NUMPY_FLOAT32,
        )
        perturbed_runs.append([flatten(update) for update in run])
    tested_fraction = 0.0
    for index, update in enumerate(get_updates(weights, gradients, schedule)):
        actual, expected = flatten(update), expected_updates[index]
        perturbed = np.stack([run[index] for run in perturbed_runs])
        always_finite = np.isfinite(expected) & np.isfinite(perturbed).all(0)
        never_finite = ~np.isfinite(expected) & ~np.isfinite(perturbed).any(0)
        assert not np.isfinite(actual[never_finite]).any(), f"step {index + 1}: finite\n{program}"
        with np.errstate(all="ignore"):
            change = np.abs(perturbed - expected).max(0)
            tolerance = 1e-5 * (1 + np.abs(expected)) + 8 * change
            wrong = always_finite & ~(np.abs(actual - expected) <= tolerance)
            has_small_change = change <= 1e-3 * (1 + np.abs(expected))
        assert not wrong.any(), (
            f"step {index + 1}: {actual[wrong]} not {expected[wrong]}\n{program}"
        )
        tested = never_finite | (always_finite & has_small_change)
        tested_fraction += tested.mean() / len(expected_updates)
    return tested_fraction


@pytest.mark.parametrize("name", zoo.names())
def test_the_machine_agrees_with_the_reference_on_the_zoo(name):
    program = zoo.load(name)
    assert assert_agree(program, lambda *data: run_machine(program, *data)) == 1.0


@pytest.mark.parametrize("op", [op for op in OPS.values() if op.arity], ids=lambda op: op.name)
def test_the_machine_runs_every_op_on_operands_of_different_kinds(op):
    """Try operands of all kinds.

    The first two operands are every pair of a tensor, a row, a leaf, a scalar and a constant.
    """
    operands = ["w", "r", "n", "lr", 0.5]
    for first in operands:
        has_second = len(op.operands) > 1 and op.operands[1] == "x"
        for second in operands if has_second else ["lr"]:
            # The letter of an operand is `x` for any kind and `s` for a scalar; see `Op.operands`.
            args_by_type = {"x": iter([first, second, first]), "s": iter([0.25, 0.75])}
            args = tuple(next(args_by_type[operand_type]) for operand_type in op.operands)
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
            assert_agree(
                program,
                lambda *data, p=program: run_machine(p, *data),
                noise_count=1,
                steps=1,
                xp=np,
            )


EDGE_CASES = {
    "two states are swapped": """def train(w, g, a: tensor(1.0), b):
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
    "three states are rotated": """def train(w, g, a: tensor(1.0), b: tensor(2.0), c: tensor(3.0)):
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
    "update is made of constants": "def train(w, g):\n    u = sqrt(2.0) * get_pi()\n    return u",
    "one value becomes two states": """def train(w, g, m, v):
    u = m / (v + 1.0)
    m = g * 0.5
    v = m
    return u, m, v""",
    "state set to a number": "def train(w, g, m):\n    u = m + g\n    m = 3.0\n    return u, m",
    "a constant equals the encoding's number of a value": """def train(w, g, m, v):
    a = sign(m)
    b = cos(g)
    u = a + b
    u = u + v
    m = 5.0
    v = b
    return u, m, v""",
    "a state's next value is read by another statement": """def train(w, g, m, v):
    u = m / (v + 1.0)
    v = square(g)
    m = interp(v, m, 0.9)
    return u, m, v""",
    "the update is read by another statement": """def train(w, g, m):
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


@pytest.mark.parametrize("case", EDGE_CASES)
def test_the_machine_moves_states_and_outputs_correctly(case):
    program = parse(EDGE_CASES[case])
    assert assert_agree(program, lambda *data: run_machine(program, *data)) == 1.0


def test_subnormal_constants_are_replaced_by_zero():
    weights, gradients, schedule = random_inputs(0, 1)
    for zero in ("1.0 / 1e-40", "1e-40 * 1e38", "1e-30 * 1e-10 * 1e38"):
        program = parse(f"def train(w, g):\n    u = g + {zero}\n    return u")
        for run in (run_machine, run_reference):
            (update,) = run(program, weights, gradients, schedule)
            np.testing.assert_array_equal(flatten(update), flatten(gradients))


@settings(max_examples=30)
@given(programs(min_statements=8, max_statements=16, max_states=4), st.integers(0, 99))
def test_the_machine_agrees_with_the_reference_on_random_programs(program, seed):
    tested_fraction = assert_agree(program, lambda *data: run_machine(program, *data), seed)
    event(f"tested fraction: {round(tested_fraction, 1)}")


@settings(max_examples=25)
@given(programs(min_statements=4, max_statements=10), st.integers(0, 99))
def test_rule_agrees_with_the_reference_on_random_programs(program, seed):
    factor = 2.0  # `rule` returns the update times -factor

    def get_updates(weights, gradients, schedule):
        transformation = rule(program)
        state = transformation.init(weights, factor)
        for t, (gradient, lr) in enumerate(zip(gradients, schedule, strict=True), 1):
            scaled, state = transformation.update(gradient, state, weights, lr=lr, t=float(t))
            yield jax.tree.map(lambda x: x / -factor, scaled)

    assert_agree(program, get_updates, seed, noise_count=1)


@pytest.mark.parametrize("name", ["adamw", "adafactor", "lion"])
def test_float64_numpy_agrees_with_float32_jax(name):
    program = zoo.load(name)
    assert_agree(program, lambda *data: run_reference(program, *data, xp=np), xp=jnp)


def test_the_machine_is_compiled_once_for_all_programs():
    compilations_before = machine_update._cache_size()
    weights, gradients, schedule = random_inputs(0)
    for name in zoo.names():
        list(run_machine(zoo.load(name), weights, gradients, schedule))
    assert machine_update._cache_size() <= max(compilations_before, 1)


def test_the_machine_multiplies_the_update_by_the_factor():
    weights, gradients, _ = random_inputs(0)

    def first_update(factor):
        state = machine.init(weights, encode(zoo.load("lion")), factor)
        update, _ = machine_update(gradients[0], state, weights, lr=1.0, t=1.0)
        return flatten(update)

    np.testing.assert_allclose(first_update(2.0), 2 * first_update(1.0), rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_updates_have_the_dtypes_of_the_weights(dtype):
    weights, gradients, _ = random_inputs(0)
    weights, gradient = jax.tree.map(lambda x: jnp.asarray(x, dtype), (weights, gradients[0]))
    program = zoo.load("adamw")
    machine_state = machine.init(weights, encode(program))
    update_of_machine, _ = jax.eval_shape(machine.update, gradient, machine_state, weights)
    update_of_rule, rule_state = rule(program).update(
        gradient, rule(program).init(weights), weights
    )
    for update in (update_of_machine, update_of_rule):
        assert {array.dtype for array in jax.tree.leaves(update)} == {jnp.dtype(dtype)}
    state_dtypes = {array.dtype for array in jax.tree.leaves(rule_state.program)}
    assert state_dtypes == {jnp.dtype("float32")}


def test_calling_update_without_the_weights_is_an_error():
    for transformation, arguments in (
        (rule(zoo.load("sgd")), ()),
        (machine, (encode(zoo.load("sgd")),)),
    ):
        state = transformation.init({"a": jnp.ones(2)}, *arguments)
        with pytest.raises(ValueError, match="pass params"):
            transformation.update({"a": jnp.ones(2)}, state)


@pytest.mark.parametrize("state_count", [30, 60])
def test_programs_that_keep_too_many_values_at_once_cannot_be_encoded(state_count):
    names = [f"m{i}" for i in range(state_count)]
    averages = [Statement(name, "interp", ("g", name, 0.5)) for name in names]
    totals = [Statement("u", "add", ("u" if i else "g", name)) for i, name in enumerate(names)]
    program = Program(
        (Parameter("w"), Parameter("g"), *map(Parameter, names)),
        (*averages, *totals),
        ("u", *names),
    )
    with pytest.raises(CapacityError, match="more than 24"):
        encode(program)


def test_a_machine_for_some_ops_refuses_programs_with_other_ops():
    lion = zoo.load("lion")
    lion_machine = interpreter(lion.ops)
    assert lion_machine is interpreter(lion.ops)

    def get_updates(weights, gradients, schedule):
        state = lion_machine.init(weights, encode(lion, lion.ops), -1.0)
        for gradient, lr in zip(gradients, schedule, strict=True):
            update, state = jax.jit(lion_machine.update)(gradient, state, weights, lr=lr)
            yield update

    assert_agree(lion, get_updates)
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
    matrix = {"a": jax.ShapeDtypeStruct((4096, 4096), jnp.float32)}
    (state,) = jax.eval_shape(lambda tree: initial_state(program, tree), matrix)
    state_shapes = {"tensor": (4096, 4096), "row": (4096, 1), "col": (1, 4096)}
    state_shapes |= {"matrix": (1, 1), "leaf": (1, 1), "scalar": ()}
    assert [array.shape for array in jax.tree.leaves(state)] == [state_shapes[str(kind)]]
    weights, gradients, _ = random_inputs(0)
    _, (next_state,) = step(program, initial_state(program, weights), weights, gradients[0])
    shapes = [array.shape for array in jax.tree.leaves(next_state)]
    expected = [kind_shape(kind, array.shape) for array in jax.tree.leaves(weights)]
    assert shapes == (expected if kind != Kind.SCALAR else [()])


@pytest.mark.parametrize(
    ("name", "numbers_per_weight"),
    [("adamw", 2), ("adamw_paper", 2), ("lion", 1), ("momentum", 1), ("sgd", 0)],
)
def test_state_memory_is_the_number_of_state_values_per_weight(name, numbers_per_weight):
    assert state_memory(zoo.load(name)) == numbers_per_weight


def test_the_row_and_column_states_of_adafactor_need_little_memory():
    assert state_memory(zoo.load("adafactor")) == pytest.approx(0.003, rel=0.05)


def test_state_memory_does_not_count_dead_states():
    program = parse("def train(w, g, m, v):\n  m = interp(g, m, 0.9)\n  v = m\n  return m, m, v")
    assert state_memory(program) == 1
