"""Tests of canonical names, descriptions and the nearest known optimizer."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from primitives import parse, semantic_key, simplify, zoo
from primitives.explain import nearest as nearest_module
from primitives.explain.description import describe
from primitives.explain.names import canonical
from primitives.explain.nearest import nearest
from tests.primitives.algebra.obfuscation import obfuscated
from tests.primitives.example_programs import RAW_LION
from tests.strategies import programs


@settings(max_examples=100)
@given(programs(min_statements=1, max_statements=20))
def test_canonical_naming_changes_only_names(program):
    named = canonical(program)
    assert semantic_key(named) == semantic_key(program)
    assert parse(str(named)) == named
    assert canonical(named) == named


@pytest.mark.parametrize("name", zoo.names())
def test_zoo_programs_keep_their_key_and_have_a_short_description(name):
    program = zoo.load(name)
    assert semantic_key(canonical(program)) == semantic_key(program)
    description = describe(program)
    assert description[-1] == "."
    assert len(description.split()) < 200
    assert description == describe(canonical(program)) or "state" in description


def test_simplified_lion_has_standard_names():
    assert str(canonical(simplify(zoo.load("lion")).program)) == (
        "def train(w, g, momentum, lr):\n"
        "    update = interp(g, momentum, 0.9)\n"
        "    momentum = ema(g, momentum, 0.99)\n"
        "    update = sign(update)\n"
        "    weight_decay = w * 0.1\n"
        "    update = update + weight_decay\n"
        "    lr = lr * 0.0001\n"
        "    update = update * lr\n"
        "    return update, momentum\n"
    )


def test_simplified_adamw_names_its_moments_and_bias_corrections():
    named = canonical(simplify(zoo.load("adamw")).program)
    assert [state.name for state in named.states] == ["momentum", "second_moment"]
    targets = [statement.target for statement in named.statements]
    expected = ["corrected_momentum", "corrected_second_moment", "denominator", "weight_decay"]
    assert set(expected) <= set(targets)
    assert targets[-1] == "update"


def test_canonical_names_do_not_overwrite_a_value_that_is_read_later():
    text = (
        "def train(w, g, m, lr):\n  a = g * 2.0\n  b = a * g\n  m = interp(b, m, 0.9)\n"
        "  u = m * lr\n  r = lr * 0.1\n  u = u * r\n  return u, m"
    )
    named = canonical(parse(text))
    assert semantic_key(named) == semantic_key(parse(text))
    assert "g2 = g * 2.0" in str(named)


DESCRIPTIONS = {
    "sgd": "The gradient. No state.",
    "lion": "The sign of an interpolation between the gradient and momentum, with decoupled weight "
    "decay of 0.1. One state per weight: momentum, an average of the gradient with decay 0.99. "
    "Learning rate 0.0001.",
    "adamw": "Momentum corrected for its start over (the root of the second moment corrected for "
    "its start plus 1e-08), with decoupled weight decay of 0.01. Two states per weight: momentum, "
    "an average of the gradient with decay 0.9; the second moment, an average of the square of the "
    "gradient with decay 0.999. Learning rate 0.001.",
    "momentum": "Momentum. One state per weight: momentum, a decaying sum of the gradient.",
    "row_adagrad": "The gradient over the root of the sum of squares. One state per row: the sum "
    "of squares, a sum of the row means of the square of the gradient. Learning rate 0.01.",
}


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_known_optimizers_have_the_expected_descriptions(name):
    assert describe(canonical(simplify(zoo.load(name)).program)) == DESCRIPTIONS[name]


@settings(max_examples=60)
@given(programs(min_statements=1, max_statements=20))
def test_every_program_has_a_description(program):
    assert describe(program)[-1] == "."


@pytest.mark.parametrize("name", zoo.names())
def test_a_known_optimizer_is_nearest_to_itself(name):
    match = nearest(zoo.load(name))
    assert (match.name, match.distance, match.diff) == (name, 0.0, [])


@pytest.mark.parametrize("seed", range(10))
def test_obfuscated_optimizers_are_nearest_to_their_originals(seed):
    names = ["lion", "adamw", "signum", "rmsprop", "amsgrad"]
    name = names[seed % len(names)]
    match = nearest(obfuscated(zoo.load(name), np.random.default_rng(seed)))
    assert match.name == name
    assert match.distance == 0.0


def test_raw_lion_differs_from_lion_by_clip_and_arcsin():
    match = nearest(RAW_LION)
    assert match.name == "lion"
    assert 0 < match.distance < 1
    differences = [line[2:].strip() for line in match.diff if "arcsin" in line or "clip" in line]
    assert differences == ["g = clip(g, lr)", "g = arcsin(g)"]


def test_a_changed_constant_is_the_only_reported_difference():
    text = str(zoo.load("lion")).replace("0.99)", "0.98)")
    match = nearest(parse(text))
    assert (match.name, match.distance) == ("lion", 0.0)
    assert [line[0] for line in match.diff] == ["-", "+"]
    assert "0.98" in match.diff[1]


def test_the_known_forms_file_holds_the_simplified_zoo():
    """To update the file after a change of the zoo or of algebra, run this command.

    python -c "from primitives.explain import nearest; print(nearest.known_forms(), end='')" \\
        > primitives/explain/known_forms.txt
    """
    stored = Path(nearest_module.__file__).with_name("known_forms.txt").read_text(encoding="utf-8")
    assert stored == nearest_module.known_forms()
