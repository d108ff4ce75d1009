"""Tests that a new op needs nothing but its row in the op table.

Every part of the project handles a made-up op, or raises an error that names the op.
"""

from contextlib import contextmanager
from functools import partial

import jax
import numpy as np
import pytest

from evosearch.config import MutationConfig
from evosearch.evolution import mutation
from primitives import (
    OPS,
    Kind,
    check,
    encode,
    equations,
    initial_state,
    interpreter,
    parse,
    semantic_key,
    simplify,
    step,
    to_dot,
    to_graph,
    to_latex,
    to_svg,
)
from primitives.explain.description import describe
from primitives.explain.names import canonical
from primitives.explain.nearest import nearest
from primitives.export import ExportError, export
from primitives.export import check as run_file
from primitives.graph.roles import roles
from primitives.interval import ANYTHING, within
from primitives.op import ConstantRole, Op, Reduction

MODEL = {
    "a": np.float32([[0.5, -1.0, 2.0], [0.0, 3.0, -4.0]]),
    "b": np.float32([1.0, -3.0]),
}

SOFTSIGN = Op(
    "softsign",
    "x",
    lambda xp, x: x / (1 + xp.abs(x)),
    "x over 1 + |x|",
    "full",
    parity="odd",
    order="largest",
    interval=within(-1.0, 1.0),
    noun="squashed",
    phrase="the softsign of {0}",
    latex=r"\operatorname{softsign}(#1)",
    code="_0 / (1 + xp.abs(_0))",
)
MEAN_SIZE = Op(
    "mean_size",
    "x",
    lambda xp, totals, x: totals[0],
    "mean of |x| over each array",
    "full",
    reduction=Reduction(Kind.LEAF, "mean", lambda xp, x: (xp.abs(x),)),
    keeps_kind=False,
    parity="even",
    of_number="abs",
    order="largest",
    interval=within(0.0),
    noun="scale",
    phrase="the mean size of {0}",
    constants=(ConstantRole("measured", "measured value"),),
    code="xp.mean(xp.abs(_0))",
)
MINIMAL = Op("minimal", "x", SOFTSIGN.meaning, "an op without optional attributes", "full")
MINIMAL_SUM = Op(
    "minimal_sum",
    "x",
    lambda xp, totals, x: totals[0],
    "a sum over the model, without optional attributes",
    "full",
    reduction=Reduction(Kind.SCALAR, "sum", lambda xp, x: (x,)),
    keeps_kind=False,
)
MADE_UP = {op.name: op for op in (SOFTSIGN, MEAN_SIZE, MINIMAL, MINIMAL_SUM)}
RESULT_KINDS = {
    "softsign": Kind.TENSOR,
    "mean_size": Kind.LEAF,
    "minimal": Kind.TENSOR,
    "minimal_sum": Kind.SCALAR,
}
EXPECTED_RESULTS = {
    "softsign": lambda array, model: array / (1 + np.abs(array)),
    "mean_size": lambda array, model: np.mean(np.abs(array)),
    "minimal": lambda array, model: array / (1 + np.abs(array)),
    "minimal_sum": lambda array, model: sum(x.sum() for x in model.values()),
}
"""What each op computes for one array of a model, by name."""


@contextmanager
def registered(op):
    """Add an op to the table for the duration of a context."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(OPS, op.name, op)
        mutation._op_names.cache_clear()
        yield
    mutation._op_names.cache_clear()


@pytest.fixture(params=MADE_UP.values(), ids=list(MADE_UP))
def made_up(request):
    with registered(request.param):
        yield request.param


def program_with(op):
    """Return a program whose update is the moving average of `op` applied to the gradient."""
    return parse(
        f"def train(w, g, m, lr):\n  x = {op.name}(g)\n  m = interp(x, m, 0.9)\n"
        "  update = m * lr\n  return update, m\n"
    )


def assert_first_update(op, update, tolerance=1e-6):
    """Assert that `update` is the first of `program_with(op)` with `MODEL` as the gradient."""
    for key, array in MODEL.items():
        expected = 0.1 * EXPECTED_RESULTS[op.name](array, MODEL)
        expected = np.broadcast_to(expected, array.shape)
        np.testing.assert_allclose(update[key], expected, rtol=tolerance, atol=tolerance)


def assert_text_is_parsed(op):
    assert parse(str(program_with(op))) == program_with(op)


def assert_kind_is_derived(op):
    assert check(program_with(op))["x"] == RESULT_KINDS[op.name]


def assert_key_is_distinct(op):
    assert semantic_key(program_with(op)) != semantic_key(parse(str(program_with(OPS["tanh"]))))


def assert_reference_runs(op):
    program = program_with(op)
    update, _ = step(program, initial_state(program, MODEL, np), MODEL, MODEL, xp=np)
    assert_first_update(op, update, 1e-7)


def assert_machine_runs(op):
    program = program_with(op)
    machine = interpreter(program.ops)
    state = machine.init(MODEL, encode(program, program.ops), -1.0)
    assert_first_update(op, machine.update(MODEL, state, MODEL, lr=1.0)[0])


def assert_batch_runs(op):
    """Run the op's program and another one as a batch, and check the update of the op's program."""
    op_names = program_with(op).ops | {"tanh"}
    codes = [encode(program_with(lane_op), op_names) for lane_op in (op, OPS["tanh"])]
    stacked_code = jax.tree.map(lambda *arrays: np.stack(arrays), *codes)
    machine = interpreter(op_names)

    def update(code):
        return machine.update(MODEL, machine.init(MODEL, code, -1.0), MODEL, lr=1.0)[0]

    updates = jax.vmap(update)(stacked_code)
    assert_first_update(op, jax.tree.map(lambda x: x[0], updates))


def assert_mutation_inserts(op):
    rng = np.random.default_rng(0)
    program = parse("def train(w, g):\n  u = tanh(g)\n  return u")
    config = MutationConfig(op_set="full")
    children = (mutation.mutate(program, rng, config).analysis.program for _ in range(1000))
    assert any(op.name in child.ops for child in children)


def assert_simplification_uses_parity_and_interval(op):
    negations = {"odd": "-{0}(-g)", "even": "{0}(-g)"}  # equal to {0}(g)
    expression = negations.get(op.parity, "{0}(g)").format(op.name)
    assert simplified_ops(expression) == [op.name]
    is_nonnegative = op.interval is not None and op.interval(ANYTHING).nonnegative
    expected_ops = [op.name] if is_nonnegative else [op.name, "abs"]
    assert simplified_ops(f"abs({op.name}(g))") == expected_ops


def simplified_ops(expression):
    """Return the names of the ops of an expression after simplification."""
    program = parse(f"def train(w, g):\n  x = {expression}\n  return x")
    return [statement.op for statement in simplify(program, strict=True).program.statements]


def assert_equations_show(op):
    assert op.name.split("_")[0] in to_latex(program_with(op))
    assert f"{op.name}(g[t])" in " ".join(map(str, equations(program_with(op))))


def assert_pictures_show(op):
    graph = to_graph(program_with(op))
    assert f'label="{op.name}' in to_dot(graph)
    assert f">{op.name}</text>" in to_svg(graph)


def assert_description_contains_phrase(op):
    phrase = (op.phrase or f"{op.name} of {{0}}").format("the gradient")
    assert phrase in describe(program_with(op))


def assert_variable_is_named(op):
    """A canonical name is the op's noun, or is made from the op's name if it has no noun."""
    program = parse(
        f"def train(w, g):\n  s = square(w)\n  x = {op.name}(s)\n  u = g + x\n  return u"
    )
    assert f"    {op.noun or f'{op.name}_value'} = {op.name}(squared)" in str(canonical(program))


def assert_state_role_follows_order(op):
    """The state is momentum if the op has an `order`; otherwise the state has no role."""
    role, _ = roles(program_with(op)).states["m"]
    assert role == ("momentum" if op.order else "")


def assert_nearest_shows(op):
    assert any(f"{op.name}(g)" in line for line in nearest(program_with(op)).diff)


def assert_exported_file_agrees(target, op):
    assert run_file(export(program_with(op), target, "made_up"), steps=5).largest_difference <= 1e-9


CONSUMERS = {
    "parser": assert_text_is_parsed,
    "kinds": assert_kind_is_derived,
    "key": assert_key_is_distinct,
    "reference": assert_reference_runs,
    "machine": assert_machine_runs,
    "batch": assert_batch_runs,
    "mutation": assert_mutation_inserts,
    "algebra": assert_simplification_uses_parity_and_interval,
    "equations": assert_equations_show,
    "pictures": assert_pictures_show,
    "description": assert_description_contains_phrase,
    "names": assert_variable_is_named,
    "roles": assert_state_role_follows_order,
    "nearest": assert_nearest_shows,
    "optax": partial(assert_exported_file_agrees, "optax"),
    "torch": partial(assert_exported_file_agrees, "torch"),
}
"""For each part of the project that uses ops, a check of what the part does with an op."""

NOT_EXPORTED = {"minimal", "minimal_sum"}
"""Ops that cannot be exported, because they have no `code`."""


@pytest.mark.parametrize("consumer", CONSUMERS)
def test_a_made_up_op_is_handled_or_named_in_an_error(made_up, consumer):
    if consumer in ("optax", "torch") and made_up.name in NOT_EXPORTED:
        with pytest.raises(ExportError, match=f"op '{made_up.name}' has no code"):
            CONSUMERS[consumer](made_up)
    else:
        CONSUMERS[consumer](made_up)


def test_an_op_that_is_removed_from_the_table_is_unknown(made_up):
    assert made_up.name in OPS
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(OPS, made_up.name)
        with pytest.raises(ValueError, match="unknown op"):
            program_with(made_up)
