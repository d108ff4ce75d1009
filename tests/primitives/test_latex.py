"""Tests that equations have the notation of papers, and that their LaTeX always parses."""

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
for kind in ("row", "col", "matrix"):
    ADAFACTOR = ADAFACTOR.replace(kind.upper(), rf"\operatorname{{mean}}_{{\mathrm{{{kind}}}}}")
ADAFACTOR = ADAFACTOR.replace("FRACTION", r"\frac{u_t}{\max(1, \operatorname{rms}(u_t))}")

LATEX = {
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


@pytest.mark.parametrize("name", LATEX)
def test_known_optimizers_have_the_latex_of_their_papers(name):
    assert to_latex(zoo.load(name)) == rf"\begin{{align*}}{LATEX[name]}\end{{align*}}"


def weight_equation(body, returns="u"):
    """Return the LaTeX of the equation of the new weights, which is the last one."""
    program = parse(f"def train(w, g, lr):\n  {body}\n  return {returns}")
    return to_latex(program).splitlines()[-2].strip()


def expression_latex(expression):
    """Return the LaTeX of an expression of w, g, a state m, lr and t."""
    program = parse(
        f"def train(w, g, m, n, lr, t):\n  u = m * n\n  n = {expression}\n  m = m + g\n"
        "  return u, m, n"
    )
    n = symbol("n")
    return next(equation.right.latex() for equation in equations(program) if equation.left == n)


EXPRESSIONS = {
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


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_expressions_have_the_notation_of_papers_without_superfluous_brackets(expression):
    assert expression_latex(expression) == EXPRESSIONS[expression]


SYMBOLS = {
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


@pytest.mark.parametrize("name", SYMBOLS)
def test_names_become_letters_with_indices_or_upright_text(name):
    assert symbol(name).latex() == SYMBOLS[name]
    convert(SYMBOLS[name])


def test_variables_that_share_a_letter_get_distinct_symbols():
    program = parse(
        "def train(w, g, lr, eta, u):\n"
        "  lr = lr * eta\n  a = lr * lr\n  lr = lr + a\n  update = g * lr * lr * lr\n"
        "  eta = eta + 1\n  u = update * u\n  w = w * update\n  update = w * sin(w)\n"
        "  return update, eta, u"
    )
    latex_symbols = [equation.left.latex() for equation in equations(program)]
    assert len(latex_symbols) == len(set(latex_symbols))
    plain_symbols = [equation.left.plain() for equation in equations(program)]
    assert len(plain_symbols) == len(set(plain_symbols))
    assert r"\eta'_{t-1}" in to_latex(program)  # the state `eta`; \eta_t is the learning rate


def test_a_primed_symbol_gets_brackets_before_an_exponent():
    body = "g = clip(g, lr)\n  v1 = square(g)\n  update = v1 * g"
    assert r"(g'_t)^2 g'_t" in weight_equation(body, returns="update")


def test_equations_give_the_initial_values_of_states_that_are_not_zero():
    text = "def train(w, g, s: tensor(1.0), m):\n  s = s + m\n  m = g\n  return s, s, m"
    latex = to_latex(parse(text))
    assert "s_0 &= 1" in latex
    assert "m_0" not in latex


def test_a_constant_state_has_an_equation():
    program = parse("def train(w, g, m: tensor(2.0)):\n  u = g * m\n  return u, m")
    assert r"m_t &= m_{t-1}" in to_latex(program)


def test_equations_omit_dead_statements_and_states():
    text = "def train(w, g, m, v):\n  v = v + g\n  d = sin(g)\n  m = m + g\n  return m, m, v"
    latex = to_latex(parse(text))
    assert "v" not in latex
    assert "sin" not in latex


def test_a_long_operand_that_a_formula_repeats_gets_a_symbol():
    for op in OPS.values():
        assert len(uses(op)) == op.arity
        assert min(uses(op), default=1) >= 1
    assert uses(OPS["clip"]) == (2, 1)
    program = parse("def train(w, g):\n  u = clip(sin(g) + cos(g), 1.0)\n  return u")
    assert to_latex(program).count("sin") == 1


def test_the_equation_of_the_weights_is_last_and_replaces_a_long_update_by_a_symbol():
    equation = weight_equation("u = " + " + ".join(f"sin(g + {number})" for number in range(9)))
    assert equation.startswith("w_t &= w_{t-1} - ")
    assert len(equation) < 200


def assert_parses(latex):
    """Assert that braces and environments balance and that latex2mathml parses the text."""
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", latex):
        depth += 1 if brace == "{" else -1
        assert depth >= 0
    assert depth == 0
    open_environments = []
    for command, name in re.findall(r"\\(begin|end)\{([^}]*)\}", latex):
        if command == "begin":
            open_environments.append(name)
        else:
            assert open_environments.pop() == name
    assert open_environments == []
    mathml = convert(latex).replace(r"\_", "_")
    assert "\\" not in mathml  # latex2mathml copies commands that it does not know
    for line in latex.splitlines():
        assert line.count(r"\left") == line.count(r"\right")


@settings(max_examples=100)
@given(programs(max_statements=30))
def test_the_latex_of_every_valid_program_parses(program):
    latex = to_latex(program)
    assert_parses(latex)
    assert latex.splitlines()[-2].startswith("    w_t &= ")
    prime_and_exponent = re.search(r"'_(\w|\{[^{}]*\})\^", latex)  # TeX refuses two superscripts
    assert not prime_and_exponent


@settings(max_examples=80)
@given(
    st.text(
        st.sampled_from("abcmuvxyz_0123456789\u03b1\u03b2\xe9\u0436\xba"), min_size=1, max_size=12
    )
)
def test_the_latex_of_every_name_parses(name):
    if not name.isidentifier():
        return
    assert_parses(symbol(name, "t-1", primes=len(name) % 6).latex())


@settings(max_examples=80)
@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_printed_numbers_round_to_the_float32_value_of_the_constant(value):
    latex = formula(value).latex()
    match = re.fullmatch(r"(-?)([\d.]+ \\cdot )?10\^\{(-?\d+)\}|(-?[\d.]+)", latex)
    assert match, latex
    sign, mantissa, exponent, without_exponent = match.groups()
    if without_exponent:
        printed = Decimal(without_exponent)
    else:
        digits = Decimal((mantissa or "1").split()[0])
        printed = digits.scaleb(int(exponent)) * (-1 if sign else 1)
    assert np.float32(float(printed)) == np.float32(value)


def test_adamw_has_five_equations_in_plain_text():
    assert [str(equation) for equation in equations(zoo.load("adamw"))] == [
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


def test_sums_and_products_of_short_numbers_are_computed_and_of_long_numbers_are_not():
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
