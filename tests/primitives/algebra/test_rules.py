"""Tests that each rule applies as its equation states and keeps the value on its domain."""

from itertools import islice, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from primitives import OPS, initial_state, parse, step
from primitives.algebra import Domain, simplify
from primitives.algebra.context import Context
from primitives.algebra.patterns import FamilyCall, Variable
from primitives.algebra.probes import STEPS, Probe, run, streams
from primitives.algebra.rewriting import may_replace
from primitives.algebra.rules import CANONICAL, RULES
from primitives.algebra.writing import write
from primitives.explain.language import rules_markdown
from primitives.graph.nodes import GRADIENT, Nodes, reachable, read
from primitives.kinds import Kind
from tests.strategies import programs

EXAMPLES = {
    "constant": [("2.0 * 3.0", "6.0"), ("sqrt(4.0)", "2.0"), ("log(0.0)", None)]
    + [("interp(1e-08, 1e-08, 1e+08)", None)],
    "times-zero": [("g * 0.0", "0.0"), ("0.0 / g", "0.0"), ("g / 0.5", None)],
    "over-zero": [("g / 0.0", "0.0"), ("mod(g, 0.0)", "0.0"), ("0.0 / g", None)],
    "power-zero": [("power(g, 0.0)", "1.0"), ("power(1.0, g)", "1.0"), ("power(0.0, g)", None)],
    "log-of-exp": [("log(exp(g))", "g"), ("log(exp2(g))", None)],
    "exp-of-log": [("exp(log(g))", "g")],
    "log2-of-exp2": [("log2(exp2(g))", "g")],
    "exp2-of-log2": [("exp2(log2(g))", "g")],
    "log10-of-exp10": [("log10(exp10(g))", "g")],
    "exp10-of-log10": [("exp10(log10(g))", "g")],
    "log1p-of-expm1": [("log1p(expm1(g))", "g")],
    "expm1-of-log1p": [("expm1(log1p(g))", "g")],
    "arcsinh-of-sinh": [("arcsinh(sinh(g))", "g")],
    "sinh-of-arcsinh": [("sinh(arcsinh(g))", "g")],
    "cosh-of-arccosh": [("cosh(arccosh(g))", "g")],
    "arccosh-of-cosh": [("arccosh(cosh(g))", "abs(g)")],
    "arctanh-of-tanh": [("arctanh(tanh(g))", "g")],
    "tanh-of-arctanh": [("tanh(arctanh(g))", "g")],
    "sin-of-arcsin": [("sin(arcsin(g))", "g")],
    "cos-of-arccos": [("cos(arccos(g))", "g")],
    "tan-of-arctan": [("tan(arctan(g))", "g"), ("arctan(tan(g))", None)],
    "sign-of-tanh": [("sign(tanh(g))", "sign(g)")],
    "sign-of-sinh": [("sign(sinh(g))", "sign(g)")],
    "sign-of-arctan": [("sign(arctan(g))", "sign(g)")],
    "sign-of-arcsinh": [("sign(arcsinh(g))", "sign(g)")],
    "sign-of-expm1": [("sign(expm1(g))", "sign(g)")],
    "sign-of-arcsin": [("sign(arcsin(g))", "sign(g)")],
    "sign-of-arctanh": [("sign(arctanh(g))", "sign(g)")],
    "sign-of-log1p": [("sign(log1p(g))", "sign(g)"), ("sign(sin(g))", None)],
    "known-sign": [("sign(cosh(g))", "1.0"), ("sign(-1.0 - abs(g))", "-1.0"), ("sign(lr)", None)],
    "sign-of-clip": [("sign(clip(g, 0.5))", "sign(g)"), ("sign(clip(g, lr))", None)],
    "sign-of-clamp": [
        ("sign(clamp(g, -0.5, 2.0))", "sign(g)"),
        ("sign(clamp(w, -0.5, cosh(global_norm(g))))", "sign(w)"),
        ("sign(clamp(g, 0.0, 2.0))", None),
    ],
    "known-absolute": [("abs(lr)", "lr"), ("abs(abs(g))", "abs(g)"), ("abs(g)", None)],
    "even": [("cosh(-g)", "cosh(g)"), ("norm(abs(g))", "norm(g)"), ("norm(cube(g))", None)],
    "odd": [("-tanh(-g)", "tanh(g)"), ("-row_mean(-g)", "row_mean(g)"), ("-exp(-g)", None)],
    "extreme-of-same": [("maximum(g, g)", "g"), ("minimum(w, g)", None)],
    "known-extreme": [
        ("maximum(tanh(g), cosh(w))", "cosh(w)"),
        ("minimum(tanh(g), cosh(w))", "tanh(g)"),
        ("maximum(t, 1.0)", "t"),
        ("maximum(lr, 1.0)", None),
    ],
    "extreme-nested": [
        ("maximum(maximum(g, 1.0), 2.0)", "maximum(g, 2.0)"),
        ("minimum(minimum(g, w), w)", "minimum(g, w)"),
        ("minimum(maximum(g, 1.0), 2.0)", None),
    ],
    "extreme-absorbs": [
        ("maximum(g, minimum(g, w))", "g"),
        ("minimum(maximum(w, g), g)", "g"),
        ("minimum(minimum(w, g), g)", None),
    ],
    "opposites": [("maximum(-g, g)", "abs(g)"), ("maximum(-g, w)", None)],
    "clamp": [
        ("minimum(maximum(g, -0.5), lr)", "clamp(g, -0.5, lr)"),
        ("minimum(maximum(g, w), 2.0)", None),
    ],
    "clamp-within": [
        ("clamp(sign(g), -1.0, 2.0)", "sign(g)"),
        ("clamp(sign(w), -1.0, cosh(global_norm(g)))", "sign(w)"),
        ("clamp(tanh(g), -0.5, 1.0)", None),
    ],
    "average": [
        ("g * (1.0 - lr) + w * lr", "interp(g, w, lr)"),
        ("g * (1.0 - lr) + m * lr", "interp(g, m, lr)"),
        ("g * (2.0 - lr) + w * lr", None),
    ],
    "lerp": [("g + (w - g) * lr", "interp(g, w, lr)"), ("g + (g - w) * lr", None)],
    "interp-of-same": [("interp(g, g, lr)", "g"), ("interp(g, w, lr)", None)],
    "where-same": [("where(w, g, g)", "g"), ("where(w, g, m)", None)],
    "where-known": [
        ("where(1.0, g, w)", "g"),
        ("where(0.0, g, w)", "w"),
        ("where(cosh(m), g, w)", "g"),
        ("where(lr, g, w)", None),
    ],
    "where-itself": [("where(g, g, 0.0)", "g"), ("where(g, g, 1.0)", None)],
    "where-greater": [
        ("where(greater(g, w), g, w)", "maximum(g, w)"),
        ("where(greater(g, w), w, g)", "minimum(g, w)"),
        ("where(greater(g, w), w, m)", None),
    ],
    "not-greater": [
        ("greater(g, g)", "0.0"),
        ("greater(tanh(g), 1.0)", "0.0"),
        ("greater(g, 1.0)", None),
    ],
    "greater": [("greater(cosh(g), 0.5)", "1.0"), ("greater(cosh(g), 1.0)", None)],
    "equal-to-itself": [("equal(g, g)", "1.0"), ("equal(g, w)", None)],
    "unequal": [("equal(cosh(g), 0.5)", "0.0"), ("equal(cosh(g), 1.5)", None)],
    "mod-of-same": [("mod(g, g)", "0.0"), ("mod(g, w)", None)],
    "mod-nested": [
        ("mod(mod(lr, t), t)", "mod(lr, t)"),
        ("mod(mod(g, t), t)", None),
        ("mod(mod(lr, w), w)", None),
    ],
    "mean-of-means": [
        ("row_mean(row_mean(g))", "row_mean(g)"),
        ("mean(lr)", "lr"),
        ("mean(row_mean(g))", None),
        ("col_mean(row_mean(g))", None),
    ],
    "norm-of-number": [
        ("norm(lr)", "abs(lr)"),
        ("norm(mean(g))", "abs(mean(g))"),
        ("global_norm(mean(g))", None),
    ],
    "dot-of-numbers": [("dot(lr, t)", "lr * t"), ("dot(lr, mean(g))", None)],
    "root-of-dot": [("sqrt(dot(g, g))", "global_norm(g)"), ("sqrt(dot(g, w))", None)],
    "squared-norm": [("square(global_norm(g))", "dot(g, g)"), ("square(norm(g))", None)],
    "root-mean-square": [
        ("sqrt(mean(square(g)))", "rms(g)"),
        ("sqrt(row_mean(square(g)))", None),
        ("sqrt(mean(square(lr)))", None),
    ],
    "clip-twice": [
        ("clip(clip(g, lr), lr)", "clip(g, lr)"),
        ("clip_by_rms(clip(g, lr), lr)", None),
    ],
    "scale-free": [
        ("cosine_sim(g * 2.0, w)", "cosine_sim(g, w)"),
        ("orthogonalize(g / 2.0)", "orthogonalize(g)"),
        ("cosine_sim(g * -2.0, w)", None),
        ("orthogonalize(g * lr)", None),
    ],
    "product-of-exp": [("exp(g) * exp(w)", "exp(g + w)"), ("exp(g) * exp2(w)", None)],
    "sum-of-logs": [("log(g) + log(w)", "log(g * w)"), ("log(g) + log2(w)", None)],
    "log1p": [("log(g + 1.0)", "log1p(g)"), ("log(g + 2.0)", None)],
    "expm1": [("exp(g) - 1.0", "expm1(g)"), ("exp(g) - 2.0", None)],
    "power-form": [
        ("g / sqrt(g * g)", "sign(g)"),
        ("g * g / abs(g)", "abs(g)"),
        ("square(sqrt(cosh(g)))", "cosh(g)"),
        ("reciprocal(w / g)", "g / w"),
        ("reciprocal(reciprocal(g))", "g"),
        ("sqrt(square(g))", "abs(g)"),
        ("sign(g * 0.5)", "sign(g)"),
        ("sign(cosh(g) * w)", "sign(w)"),
        ("sign(sign(g))", "sign(g)"),
        ("sign(cube(g))", "sign(g)"),
        ("cube(cbrt(g))", "g"),
        ("sqrt(abs(g))", None),
        ("sqrt(sqrt(square(g)))", "sqrt(abs(g))"),
        ("power(square(g), 0.25)", "sqrt(abs(g))"),
        ("g / sqrt(abs(g))", "sign(g) * sqrt(abs(g))"),
        ("sqrt(abs(g) * 4.0)", "sqrt(abs(g)) * 2.0"),
        ("reciprocal(sqrt(abs(g)))", "power(abs(g), -0.5)"),
        ("cbrt(abs(g))", None),
        ("square(sqrt(g))", "g"),
        ("square(sqrt(g * cosh(w)))", "cosh(w) * g"),
        ("power(lr * g, 0.9)", None),
        ("-(-g)", "g"),
        ("power(g, 1.0)", "g"),
        ("cosh(g) / cosh(g)", "1.0"),
        ("g / g", None),
        ("sign(g) * sign(g)", "square(sign(g))"),
    ],
    "linear-form": [
        ("g * 0.1 + w * 0.9", "interp(g, w, 0.9)"),
        ("g - g", "0.0"),
        ("(g + w) - w", "g"),
        ("g - (-w)", "g + w"),
        ("g + g", "g * 2.0"),
        ("interp(g, w, 0.0)", "g"),
        ("g + 0.0", "g"),
    ],
    "common-factor": [("g * lr + w * lr", "(g + w) * lr"), ("g * lr + w * t", None)],
    "fold": [("interp(g, interp(g, m, 0.9), 0.5)", "interp(g, m, 0.45)")],
    "named-power": [
        ("power(g, 2.0)", "square(g)"),
        ("power(g, 0.5)", "sqrt(g)"),
        ("power(g, 4.0)", None),
    ],
}
"""For each rule, pairs of an expression and the result, or None if the rule must not apply."""

TESTED_RULES = [*RULES, *(rule for rule in CANONICAL if rule.name == "named-power")]
RULES_WITH_EXAMPLES = [
    pytest.param(rule, before, after, id=f"{rule.name}: {before}")
    for rule in TESTED_RULES
    for before, after in EXAMPLES.get(rule.name, [])
]


def graph_with(expression, nodes):
    """Return a graph that contains `expression`, and the node of `expression`."""
    text = f"def train(w, g, m, lr, t):\n  u = {expression}\n  m = g + m\n  x = u + m * 0.7\n"
    graph, _ = read(parse(text + "  return x, m"), nodes)
    program = parse(f"def train(w, g, m, lr, t):\n  u = {expression}\n  return u, m")
    graph_of_expression, _ = read(program, nodes)
    return graph, graph_of_expression.update


def apply_rule(rule, expression):
    """Return a graph that contains `expression`, its nodes, and the nodes before and after."""
    nodes = Nodes()
    graph, old = graph_with(expression, nodes)
    return graph, nodes, old, rule.rewrite(Context(graph, nodes), old)


def test_every_rule_has_an_example():
    assert set(EXAMPLES) == {rule.name for rule in TESTED_RULES}


def test_rule_names_are_distinct():
    names = [rule.name for rule in TESTED_RULES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_rule_applies_to_some_op(rule):
    assert any(rule.may_apply(op) for op in OPS.values())


@pytest.mark.parametrize(("rule", "before", "after"), RULES_WITH_EXAMPLES)
def test_a_rule_rewrites_an_expression_as_its_equation_states(rule, before, after):
    _, nodes, old, new = apply_rule(rule, before)
    if after is None:
        assert new is None or new is old
    else:
        assert new is graph_with(after, nodes)[1], f"{before} became {new}"


@pytest.mark.parametrize(
    ("rule", "before", "after"), [example for example in RULES_WITH_EXAMPLES if example.values[2]]
)
def test_an_example_and_its_result_have_equal_values_on_the_probe_streams(rule, before, after):
    graph, _, old, new = apply_rule(rule, before)
    assert Probe(graph).agrees(old, new, rule.domain)


OPERANDS = ["g", "w", "abs(g)", "cosh(w)", "-cosh(g)", "tanh(w)", "cosh(g) + 1.0", "sign(g)", "m"]
OPERANDS += ["row_mean(g)", "0.3"]
OPERANDS += ["lr", "t", "cosh(global_norm(g))", "-cosh(global_norm(w))", "-0.7"]  # scalars
"""Expressions that are substituted for the variables of an equation."""
EQUATIONS = [
    pytest.param(rule, equation, id=f"{rule.name}: {equation}")
    for rule in TESTED_RULES
    for equation in rule.equations
]
MAX_BINDINGS = 40


def subpatterns(pattern):
    """Yield a pattern and all patterns inside it."""
    yield pattern
    for arg in getattr(pattern, "args", ()):
        yield from subpatterns(arg)


def bindings(equation, context):
    """Yield the bindings of an equation's variables for which its conditions are proved."""
    patterns = list(subpatterns(equation.left))
    variables = list(
        dict.fromkeys(pattern for pattern in patterns if isinstance(pattern, Variable))
    )
    families = list(dict.fromkeys(p.family for p in patterns if isinstance(p, FamilyCall)))
    nodes = [graph_with(text, context.nodes)[1] for text in OPERANDS]
    values = [[node for node in nodes if variable.may_match(node)] for variable in variables]
    values += [[name for name, op in OPS.items() if family.has_member(op)] for family in families]
    for combination in product(*values):
        binding = dict(zip([*variables, *families], combination, strict=True))
        if all(condition.holds(context.range, binding) for condition in equation.when):
            yield binding


@pytest.mark.parametrize(("rule", "equation"), EQUATIONS)
def test_both_sides_of_an_equation_are_equal_where_its_conditions_are_proved(rule, equation):
    nodes = Nodes()
    graph, _ = graph_with("g * w * lr * t", nodes)
    context, probe = Context(graph, nodes), Probe(graph)
    tested_bindings = list(islice(bindings(equation, context), MAX_BINDINGS))
    assert tested_bindings
    for binding in tested_bindings:
        left = equation.left.build(nodes, binding)
        if rule.name == "tan-of-arctan" and "cosh" in repr(left):
            continue  # arctan(cosh(x)) is near pi / 2, where tan loses all digits
        right = equation.right.build(nodes, binding)
        assert probe.agrees(left, right, rule.domain), f"{left} is not {right}"
        assert rule.rewrite(context, left) is not None


def test_all_rules_but_nine_are_defined_by_equations():
    assert {rule.name for rule in TESTED_RULES if not rule.equations} == {
        *("constant", "mean-of-means", "norm-of-number", "dot-of-numbers", "average"),
        *("power-form", "linear-form", "common-factor", "fold"),
    }


SPECIAL_VALUES = [0.0, -0.0, 1.0, -1.0, 0.5, -0.3, 3.7, 1e-3, 1e10, -1e10, 1e30, -3e38]
SPECIAL_VALUES += [1e-30, 1.2e-38, 1e-40, -1e-45, np.inf, -np.inf, np.nan]
FLOAT32_LIMITS = np.finfo(np.float32)


def flush_subnormals(numbers):
    """Return numbers as float32 with subnormals replaced by zero."""
    numbers = np.asarray(numbers, np.float32)
    return np.where(np.abs(numbers) < FLOAT32_LIMITS.tiny, np.float32(0), numbers)


def float32_values(root):
    """Compute a node in float32 for all pairs of special values of w and g.

    Each pair is the weight and the gradient of a model with a single weight.

    Returns:
        The node's value for each pair; and whether it and all values that it depends on are finite.
    """
    w, g = (flush_subnormals(x).ravel() for x in np.meshgrid(SPECIAL_VALUES, SPECIAL_VALUES))
    inputs = {
        "w": w,
        "g": g,
        "m": flush_subnormals(g[::-1]),
        "lr": np.float32(0.5),
        "t": np.float32(3),
    }
    values = {}
    for node in reachable([root]):
        if node.is_leaf:
            values[node] = inputs[node.name]
        elif node.is_constant:
            values[node] = np.float32(node.value)
        else:
            op = node.op_entry
            args = [values[arg] for arg in node.args]
            with np.errstate(all="ignore"):
                values[node] = flush_subnormals(op.of_numbers(np, *args))
    all_values = np.stack([np.broadcast_to(value, w.shape) for value in values.values()])
    return np.broadcast_to(values[root], w.shape), np.isfinite(all_values).all(axis=0)


@pytest.mark.parametrize(
    ("rule", "before", "after"),
    [
        pytest.param(rule, before, after, id=f"{rule.name}: {before}")
        for rule, before, after in (example.values for example in RULES_WITH_EXAMPLES)
        if after and rule.domain < Domain.REAL and "orthogonalize" not in before
    ],
)
def test_an_example_and_its_result_are_equal_in_float32_on_special_values(rule, before, after):
    """Infinities and NaN are compared if the rule's domain includes infinities and NaN."""
    _, _, old, new = apply_rule(rule, before)
    expected, is_finite = float32_values(old)
    actual, _ = float32_values(new)
    is_compared = is_finite if rule.domain == Domain.FINITE else np.ones_like(is_finite)
    assert is_compared.any()
    np.testing.assert_allclose(expected[is_compared], actual[is_compared], rtol=1e-5, atol=2e-38)


@settings(max_examples=40)
@given(programs(min_statements=2, max_statements=12))
def test_probes_agree_with_the_reference_interpreter(program):
    """Each stream has the shapes of a model with two arrays, each of two matrices."""
    graph, _ = read(program, Nodes())
    with np.errstate(all="ignore"):
        updates = run(graph, 0).update
    inputs = streams()
    for stream in (0, 3, 8):
        state = initial_state(program, list(inputs.weights[0, stream]), np)
        for index in range(STEPS):
            weights = list(inputs.weights[index, stream])
            gradients = list(inputs.grads[index, stream])
            lr, t = inputs.lr[index], index + 1
            update, state = step(program, state, weights, gradients, lr=lr, t=t, xp=np)
            actual, expected = updates[index, stream], np.stack(update)
            largest = np.nanmax(np.abs(expected), initial=0.0, where=np.isfinite(expected))
            np.testing.assert_allclose(
                actual, expected, rtol=1e-6, atol=1e-9 * largest, equal_nan=True
            )


@settings(max_examples=40)
@given(programs(min_statements=2, max_statements=12))
def test_values_stay_within_their_ranges(program):
    nodes = Nodes()
    graph, _ = read(program, nodes)
    ranges = Context(graph, nodes).ranges
    probe = Probe(graph)
    with np.errstate(all="ignore"):
        for node in graph.live:
            value = np.asarray(probe.value(node))
            value = np.where(np.abs(value) < FLOAT32_LIMITS.tiny, 0, value)
            value = np.where(np.abs(value) > 3.4e38, np.nan, value)
            low, high, _, _ = ranges(node)
            tolerance = 1e-5 * max(abs(x) for x in (low, high, 1e-30) if np.isfinite(x))
            assert not (value < low - tolerance).any(), (node, low)
            assert not (value > high + tolerance).any(), (node, high)


def test_probes_reject_wrong_equations():
    wrong = [("norm(g)", "global_norm(g)"), ("g / g", "1.0"), ("row_mean(g)", "col_mean(g)")]
    wrong += [("sqrt(square(g))", "g"), ("mean(g)", "matrix_mean(g)"), ("g * lr", "g * lr * lr")]
    wrong += [("g + 1e-6", "g"), ("interp(g, w, 0.9)", "interp(g, w, 0.9001)"), ("sign(g)", "1.0")]
    wrong += [("sqrt(abs(g))", "sqrt(g)"), ("log1p(abs(g))", "log1p(g)"), ("g", "arctanh(tanh(g))")]
    for left, right in wrong:
        nodes = Nodes()
        graph, old = graph_with(left, nodes)
        _, new = graph_with(right, nodes)
        assert not Probe(graph).agrees(old, new, Domain.REAL), left


def test_a_sum_that_cancels_within_one_op_counts_as_equal():
    """Regression: for a huge a, (1 - a) x + a x was not recognised as x."""
    program = parse("def train(w, g):\n  u = interp(0.999, 0.999, dot(w, w))\n  return u")
    assert "interp" not in str(simplify(program, strict=True).program)


def test_a_value_of_a_smaller_kind_may_not_be_the_operand_of_a_reduction():
    nodes = Nodes()
    graph, old = graph_with("equal(w, w)", nodes)
    assert may_replace(graph, nodes, old, nodes.constant(1.0))
    graph, _ = graph_with("norm(equal(w, w))", nodes)
    assert not may_replace(graph, nodes, old, nodes.constant(1.0))
    gradient = nodes.leaf(GRADIENT, Kind.TENSOR, "g")
    assert not may_replace(graph, nodes, nodes.constant(1.0), gradient)


@settings(max_examples=40)
@given(programs(min_statements=1, max_statements=14))
def test_reading_a_written_graph_gives_the_same_graph(program):
    nodes = Nodes()
    graph, names = read(program, nodes)
    written_program = write(Context(graph, nodes), program, names)
    graph_of_written, _ = read(written_program, nodes)
    assert parse(str(written_program)) == written_program
    assert graph_of_written.update is graph.update
    assert graph_of_written.next_values == graph.next_values
    assert len(written_program.statements) <= len(program.statements)


def test_the_documented_rules_are_up_to_date():
    """`primitives.explain.language.rules_markdown()` returns the table of rules of the page."""
    page = Path(__file__).parents[3] / "docs" / "simplification.md"
    assert rules_markdown() in page.read_text(encoding="utf-8")
