"""Functions that compare the updates of a simplified program with those of the original."""

import numpy as np

from primitives import Parameter, Program, Statement, check, initial_state, step
from primitives.algebra import Domain

STEPS = 20
SHAPES = {"a": (3, 2), "b": (2, 2, 2), "c": (4,)}
STREAMS = ["ordinary", "sparse", "huge", "tiny", "denormal", "mixed"]
"""Names of the streams, which are random sequences of weights and gradients."""
SCALES = {"huge": 1e15, "tiny": 1e-15, "denormal": 1e-41}
"""Factor of the weights and gradients of a stream; 1 for the others."""
ROUNDING_ERROR = 2.0**-23
"""Distance between 1 and the next float32, which bounds relative rounding errors."""

UNDERFLOWING_OPS = {"exp", "exp2", "exp10", "multiply", "divide", "power", "square", "cube"}
UNDERFLOWING_OPS |= {"reciprocal", "clip", "clip_by_rms"}
"""Ops whose result may underflow to zero although no operand is zero."""


def with_distinct_names(program):
    """Return `program` with a different name for each value: `value0`, `value1`, ..."""
    value_names = {parameter.name: parameter.name for parameter in program.parameters}
    statements = []
    for index, (target, op, args) in enumerate(program.statements):
        args = tuple(value_names[arg] if isinstance(arg, str) else arg for arg in args)
        statements.append(Statement(f"value{index}", op, args))
        value_names[target] = f"value{index}"
    update = value_names[program.update]
    statements.append(Statement("final_update", "identity", (update,)))
    states = program.returns[1:]
    statements += [
        Statement(f"next_{state}", "identity", (value_names[state],)) for state in states
    ]
    statements += [Statement(s, "identity", (f"next_{s}",)) for s in states]
    return Program(program.parameters, tuple(statements), ("final_update", *states))


def with_stored_values(program, rng=None):
    """Return `program` with every value also stored in a state of its own.

    If `rng` is given, every value is multiplied by 1 plus or minus a rounding error.
    """
    renamed = with_distinct_names(program)
    kinds = check(renamed)
    statements, new_states, stores = [], [], []
    for statement in renamed.statements:
        statements.append(statement)
        if statement.target.startswith("value"):
            value = statement.target
            if rng is not None:
                factor = 1 + float(rng.choice([-1, 1])) * ROUNDING_ERROR
                statements.append(Statement(value, "multiply", (value, factor)))
            new_states.append(Parameter(f"stored_{value}", kinds[value]))
            stores.append(Statement(f"stored_{value}", "identity", (value,)))
    return Program(
        (*renamed.parameters, *new_states),
        (*statements, *stores),
        (*renamed.returns, *(state.name for state in new_states)),
    )


def random_arrays(rng, stream_name):
    """Return random arrays of all `SHAPES` with the magnitudes of a stream."""
    arrays = {key: rng.normal(size=shape) for key, shape in SHAPES.items()}
    if stream_name == "mixed":
        arrays = {
            key: array * 10.0 ** rng.uniform(-12, 12, array.shape) for key, array in arrays.items()
        }
    return {key: array * SCALES.get(stream_name, 1.0) for key, array in arrays.items()}


def weights_and_gradients(stream_name):
    """Yield the weights and the gradients of each step of a stream, without end."""
    rng = np.random.default_rng(STREAMS.index(stream_name))
    has_gradient = {key: rng.random(shape) < 0.5 for key, shape in SHAPES.items()}
    while True:
        weights, gradients = random_arrays(rng, stream_name), random_arrays(rng, stream_name)
        if stream_name == "sparse":
            gradients = {key: array * has_gradient[key] for key, array in gradients.items()}
        yield weights, gradients


def run(program, stream_name, rng=None):
    """Run a program on a stream, with perturbed values if `rng` is given.

    Returns:
        The updates, [steps, weights]; and for each step whether all values up to this step were in
        range, [steps].
    """
    storing_program = with_stored_values(program, rng)
    stream = weights_and_gradients(stream_name)
    state, updates, in_range = None, [], [True]
    for t, (weights, gradients) in zip(range(1, STEPS + 1), stream, strict=False):
        if state is None:
            state = initial_state(storing_program, weights, np)
        update, state = step(storing_program, state, weights, gradients, lr=1 / t, t=t, xp=np)
        updates.append(np.concatenate([array.ravel() for array in update.values()]))
        values = state[len(program.states) :]
        in_range.append(in_range[-1] and are_in_range(program, values))
    return np.stack(updates), np.array(in_range[1:])


def are_in_range(program, values):
    """Return whether no value overflowed or underflowed; `values` has one for each statement."""
    numbers_of = {}
    for (target, op, args), value in zip(program.statements, values, strict=True):
        arrays = value if isinstance(value, list) else [value]
        numbers = np.concatenate([np.ravel(array) for array in arrays])
        is_zero = numbers == 0
        if not (np.isfinite(numbers) & (is_zero | (np.abs(numbers) > 1e-300))).all():
            return False
        operands = [numbers_of.get(arg) for arg in args if isinstance(arg, str)]
        all_are_values = all(operand is not None for operand in operands)
        if op in UNDERFLOWING_OPS and is_zero.any() and all_are_values:
            has_zero_operand = 0.0 in args or any(np.any(operand == 0) for operand in operands)
            if not has_zero_operand:
                return False
        numbers_of[target] = numbers
    return True


@np.errstate(all="ignore")
def assert_same_updates(program, derivation, stream_names=STREAMS):
    """Assert that the derivation's program has the updates of `program` up to rounding.

    The tolerance is estimated from runs in which each value has a random rounding error. If the
    derivation used rules that do not hold for all numbers, steps after an overflow or underflow
    are not compared.
    """
    rng = np.random.default_rng(0)
    simplified = derivation.program
    for name in stream_names:
        expected, in_range = run(program, name)
        actual, _ = run(simplified, name)
        is_same = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
        if is_same.all():
            continue
        error = ROUNDING_ERROR * np.abs(expected)
        for _ in range(2):
            error = np.fmax(error, np.abs(expected - run(program, name, rng)[0]))
            error = np.fmax(error, np.abs(actual - run(simplified, name, rng)[0]))
        is_same |= np.abs(actual - expected) <= 128 * error + 1e-37
        if derivation.domain > Domain.ALWAYS:
            is_same |= ~in_range[:, None]
        assert is_same.all(), f"{name}\n{program}{simplified}{derivation.steps}"
