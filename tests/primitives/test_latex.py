"""Tests of equations: notation as in papers, and LaTeX that always parses."""

import re
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from latex2mathml.converter import convert

from primitives import OPS, Parameter, Program, Statement, equations, parse, to_latex, zoo
from primitives.explain.equations import uses
from primitives.text.formula import Number, formula
from primitives.text.notation import Cases, Function, symbol
from tests.strategies import programs

ADAM_MOMENTS = r"""
    m_t &= 0.9 m_{t-1} + 0.1 g_t \\
    v_t &= 0.999 v_{t-1} + 0.001 g_t^2 \\
    \hat{m}_t &= \frac{m_t}{1 - 0.9^t} \\
    \hat{v}_t &= \frac{v_t}{1 - 0.999^t} \\"""
ADAFACTOR = r"""
    \mathrm{decay}_t &= 1 - t^{-0.8} \\
    g_{2, t} &= g_t^2 + 10^{-30} \\
    r_t &= \mathrm{decay}_t r_{t-1} + (1 - \mathrm{decay}_t) ROW(g_{2, t}) \\
    c_t &= \mathrm{decay}_t c_{t-1} + (1 - \mathrm{decay}_t) COL(g_{2, t}) \\
    \mathrm{row\_scale}_t &= \sqrt{\frac{r_t}{MATRIX(r_t)}} \\
    u_t &= \frac{g_t}{\mathrm{row\_scale}_t \sqrt{c_t}} \\
    \mathrm{scale}_t &= \max(\operatorname{rms}(w_{t-1}), 0.001) \\
    \mathrm{relative\_step}_t &= \eta_t \min(t^{-0.5}, 0.01) \\
    w_t &= w_{t-1} - \mathrm{scale}_t \mathrm{relative\_step}_t FRACTION
"""
for mean in ("row", "col", "matrix"):
    ADAFACTOR = ADAFACTOR.replace(mean.upper(), rf"\operatorname{{mean}}_{{\mathrm{{{mean}}}}}")
ADAFACTOR = ADAFACTOR.replace("FRACTION", r"\frac{u_t}{\max(1, \operatorname{rms}(u_t))}")

GOLDEN = {
    "sgd": r"""
    w_t &= w_{t-1} - \eta_t g_t
""",
    "adam": ADAM_MOMENTS
    + r"""
    w_t &= w_{t-1} - 0.001 \eta_t \frac{\hat{m}_t}{\sqrt{\hat{v}_t} + 10^{-8}}
""",
    "adamw": ADAM_MOMENTS
    + r"""
    w_t &= w_{t-1} - 0.001 \eta_t \left(\frac{\hat{m}_t}{\sqrt{\hat{v}_t} + 10^{-8}} """
    + r"""+ 0.01 w_{t-1}\right)
""",
    "lion": r"""
    m_t &= 0.99 m_{t-1} + 0.01 g_t \\
    w_t &= w_{t-1} - 0.0001 \eta_t (\operatorname{sign}(0.9 m_{t-1} + 0.1 g_t) + 0.1 w_{t-1})
""",
    "adafactor": ADAFACTOR,
}


@pytest.mark.parametrize("name", GOLDEN)
def test_latex_of_known_optimizers_matches_their_papers(name):
    assert to_latex(zoo.load(name)) == rf"\begin{{align*}}{GOLDEN[name]}\end{{align*}}"


def last_line(body, parameters="w, g, lr", returns="u"):
    program = parse(f"def train({parameters}):\n  {body}\n  return {returns}")
    return to_latex(program).splitlines()[-2].strip()


def right(expression):
    """Return the LaTeX of an expression of w, g, a state m, lr and t."""
    program = parse(
        f"def train(w, g, m, n, lr, t):\n  u = m * n\n  n = {expression}\n  m = m + g\n"
        "  return u, m, n"
    )
    return next(e.right.latex() for e in equations(program) if e.left == symbol("n"))


WRITTEN = {
    "g - (w - m)": r"g_t - (w_{t-1} - m_{t-1})",
    "g + (w - m)": r"g_t + w_{t-1} - m_{t-1}",
    "g + -0.5 * m": r"g_t - 0.5 m_{t-1}",
    "g - m * -0.5": r"g_t + 0.5 m_{t-1}",
    "-(g + m)": r"-(g_t + m_{t-1})",
    "(g + m) * 0.5": r"0.5 (g_t + m_{t-1})",
    "g * g": r"g_t^2",
    "square(m)": r"m_{t-1}^2",
    "square(-0.5)": r"(-0.5)^2",
    "square(square(g))": r"(g_t^2)^2",
    "square(sqrt(g))": r"(\sqrt{g_t})^2",
    "square(norm(g))": r"\lVert g_t \rVert_2^2",
    "square(g / m)": r"\left(\frac{g_t}{m_{t-1}}\right)^2",
    "power(1e-8, t)": r"(10^{-8})^t",
    "power(g, lr * 2)": r"g_t^{2 \eta_t}",
    "g / m / w": r"\frac{g_t}{m_{t-1} w_{t-1}}",
    "g / (m / w)": r"\frac{g_t w_{t-1}}{m_{t-1}}",
    "-g / m": r"-\frac{g_t}{m_{t-1}}",
    "g * 1": r"g_t",
    "g * lr * 0.5 * 0.5": r"0.25 \eta_t g_t",
    "3e-7 * g": r"3 \cdot 10^{-7} g_t",
    "123456789.0 * g": r"1.2345679 \cdot 10^{8} g_t",
    "2.5e-07 + g": r"2.5 \cdot 10^{-7} + g_t",
    "0.8999999761581421 * g": r"0.9 g_t",
    "1 - 1e-8": r"1 - 10^{-8}",
    "sin(g / m)": r"\sin\left(\frac{g_t}{m_{t-1}}\right)",
    "abs(g / m)": r"\left\lvert \frac{g_t}{m_{t-1}} \right\rvert",
    "interp(g, m, lr)": r"\eta_t m_{t-1} + (1 - \eta_t) g_t",
    "clip(g, 1.0)": r"g_t \min\left(1, \frac{1}{\lVert g_t \rVert_{\mathrm{model}}}\right)",
    "where(greater(g, 0.0), g, m)": (
        r"\begin{cases} g_t & \text{if } g_t > 0 \\ m_{t-1} & \text{otherwise} \end{cases}"
    ),
    "where(g, 1.0, m)": (
        r"\begin{cases} 1 & \text{if } g_t \neq 0 \\ m_{t-1} & \text{otherwise} \end{cases}"
    ),
    "greater(g, m) * g": r"[g_t > m_{t-1}] g_t",
    "get_pi() * g": r"\pi g_t",
}  # fmt: skip


@pytest.mark.parametrize("expression", WRITTEN)
def test_expressions_have_exactly_the_brackets_they_need(expression):
    assert right(expression) == WRITTEN[expression]


NAMES = {
    "m_hat": r"\hat{m}_t",
    "beta": r"\beta_t",
    "beta1": r"\beta_{1, t}",
    "beta_2": r"\beta_{2, t}",
    "v1": r"v_{1, t}",
    "v_row": r"v_{\mathrm{row}, t}",
    "row_scale": r"\mathrm{row\_scale}_t",
    "_": r"\mathrm{\_}_t",
    "a_b_c": r"\mathrm{a\_b\_c}_t",
    "m_2x": r"\mathrm{m\_2x}_t",
    "lr": r"\eta_t",
    "update": r"u_t",
    "momentum": r"\mathrm{momentum}_t",
    "\N{GREEK SMALL LETTER ALPHA}": r"\alpha_t",
    "größe": r"\text{größe}_t",
    "ω2": r"\omega_{2, t}",
}


@pytest.mark.parametrize("name", NAMES)
def test_names_become_letters_with_indices_or_upright_text(name):
    assert symbol(name).latex() == NAMES[name]
    convert(NAMES[name])


def test_variables_that_share_a_letter_get_distinct_symbols():
    program = parse(
        "def train(w, g, lr, eta, u):\n"
        "  lr = lr * eta\n  a = lr * lr\n  lr = lr + a\n  update = g * lr * lr * lr\n"
        "  eta = eta + 1\n  u = update * u\n  w = w * update\n  update = w * sin(w)\n"
        "  return update, eta, u"
    )
    left = [e.left.latex() for e in equations(program)]
    assert len(left) == len(set(left))
    words = [e.left.plain() for e in equations(program)]
    assert len(words) == len(set(words))
    assert r"\eta'_{t-1}" in to_latex(program)  # the state, beside the schedule's \eta_t


def test_a_primed_symbol_gets_brackets_before_an_exponent():
    line = last_line("g = clip(g, lr)\n  v1 = square(g)\n  update = v1 * g", returns="update")
    assert r"(g'_t)^2 g'_t" in line


def test_nonzero_initial_values_of_states_are_written():
    text = to_latex(
        parse("def train(w, g, s: tensor(1.0), m):\n  s = s + m\n  m = g\n  return s, s, m")
    )
    assert "s_0 &= 1" in text
    assert "m_0" not in text


def test_a_constant_state_has_an_equation():
    assert r"m_t &= m_{t-1}" in to_latex(
        parse("def train(w, g, m: tensor(2.0)):\n  u = g * m\n  return u, m")
    )


def test_equations_omit_dead_statements_and_states():
    text = to_latex(
        parse("def train(w, g, m, v):\n  v = v + g\n  d = sin(g)\n  m = m + g\n  return m, m, v")
    )
    assert "v" not in text
    assert "sin" not in text


def test_an_operand_that_a_formula_repeats_is_a_symbol():
    for op in OPS.values():
        assert len(uses(op)) == op.arity
        assert min(uses(op), default=1) >= 1
    assert uses(OPS["clip"]) == (2, 1)
    program = parse("def train(w, g):\n  u = clip(sin(g) + cos(g), 1.0)\n  return u")
    assert to_latex(program).count("sin") == 1


def test_the_new_weights_come_last_and_long_updates_get_a_symbol():
    line = last_line("u = " + " + ".join(f"sin(g + {n})" for n in range(9)))
    assert line.startswith("w_t &= w_{t-1} - ")
    assert len(line) < 200


def assert_parses(text):
    """Assert that braces and environments balance and that latex2mathml parses the text."""
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", text):
        depth += 1 if brace == "{" else -1
        assert depth >= 0
    assert depth == 0
    stack = []
    for which, name in re.findall(r"\\(begin|end)\{([^}]*)\}", text):
        if which == "begin":
            stack.append(name)
        else:
            assert stack.pop() == name
    assert stack == []
    mathml = convert(text).replace(r"\_", "_")
    assert "\\" not in mathml  # unknown commands stay in the output
    for line in text.splitlines():
        assert line.count(r"\left") == line.count(r"\right")


@settings(max_examples=100)
@given(programs(max_statements=30))
def test_every_valid_program_renders_and_parses(program):
    text = to_latex(program)
    assert_parses(text)
    lines = text.splitlines()
    assert lines[-2].startswith("    w_t &= ")
    assert not re.search(r"'_(\w|\{[^{}]*\})\^", text)  # no second superscript


@settings(max_examples=80)
@given(
    st.text(
        st.sampled_from("abcmuvxyz_0123456789\u03b1\u03b2\xe9\u0436\xba"), min_size=1, max_size=12
    )
)
def test_every_name_parses_as_a_symbol(name):
    if not name.isidentifier():
        return
    assert_parses(symbol(name, "t-1", primes=len(name) % 6).latex())


@settings(max_examples=80)
@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_printed_numbers_have_the_float32_of_the_constant(value):
    written = formula(value).latex()
    match = re.fullmatch(r"(-?)([\d.]+ \\cdot )?10\^\{(-?\d+)\}|(-?[\d.]+)", written)
    assert match, written
    if match[4]:
        back = Decimal(match[4])
    else:
        digits = Decimal((match[2] or "1").split()[0])
        back = digits.scaleb(int(match[3])) * (-1 if match[1] else 1)
    assert np.float32(float(back)) == np.float32(value)


def test_plain_text_of_adamw():
    assert [str(e) for e in equations(zoo.load("adamw"))] == [
        "m[t] = 0.9 * m[t-1] + 0.1 * g[t]",
        "v[t] = 0.999 * v[t-1] + 0.001 * g[t]^2",
        "m_hat[t] = m[t] / (1 - 0.9^t)",
        "v_hat[t] = v[t] / (1 - 0.999^t)",
        "w[t] = w[t-1] - 0.001 * lr[t] * (m_hat[t] / (sqrt(v_hat[t]) + 1e-8) + 0.01 * w[t-1])",
    ]


def test_plain_text_adds_brackets_where_latex_has_a_fraction_bar():
    x, y, z = symbol("x"), symbol("y"), symbol("z")
    assert (x / (y * z)).plain() == "x[t] / (y[t] * z[t])"
    assert ((x + y) / (y + z)).plain() == "(x[t] + y[t]) / (y[t] + z[t])"
    assert ((x / y) ** 2).plain() == "(x[t] / y[t])^2"
    assert (x ** (-y)).plain() == "x[t]^(-y[t])"
    assert (x - (y - z)).plain() == "x[t] - (y[t] - z[t])"
    assert Cases(x, y, z).plain() == "where(x[t], y[t], z[t])"
    assert Function(r"\foo(#1)", "foo", (x + y,)).plain() == "foo(x[t] + y[t])"


def test_arithmetic_on_short_numbers_is_exact_and_long_numbers_stay():
    assert (1 - formula(0.9)).latex() == "0.1"
    assert (1 - formula(0.999)).latex() == "0.001"
    assert (formula(0.3) - 0.5).latex() == "-0.2"
    assert (1 - formula(1e-8)).latex() == "1 - 10^{-8}"
    assert isinstance(formula(0.5) * 0.5, Number)


def test_a_copied_gradient_has_the_same_latex_as_the_gradient():
    program = Program(
        (Parameter("w"), Parameter("g")), (Statement("u", "identity", ("g",)),), ("u",)
    )
    assert to_latex(program) == to_latex(parse("def train(w, g):\n  return g"))
