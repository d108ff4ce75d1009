"""Comparison of the updates of a simplified program and of the original program."""

import numpy as np

from primitives import Parameter, Program, Statement, check, initial_state, step
from primitives.algebra import Domain

STEPS = 20
SHAPES = {"a": (3, 2), "b": (2, 2, 2), "c": (4,)}
STREAMS = ["ordinary", "sparse", "huge", "tiny", "denormal", "mixed"]
SCALES = {"huge": 1e15, "tiny": 1e-15, "denormal": 1e-41}
UNDERFLOW = {"exp", "exp2", "exp10", "multiply", "divide", "power", "square", "cube", "reciprocal"}
UNDERFLOW |= {"clip", "clip_by_rms"}


def traced(program, rng=None):
    """Return `program` with every value stored in an additional state.

    With `rng`, every value is perturbed by one rounding error.
    """
    current = {p.name: p.name for p in program.parameters}
    kinds = check(numbered(program))
    parameters, statements, value_states = list(program.parameters), [], []
    for i, (target, op, args) in enumerate(program.statements):
        value = f"value{i}"
        read = tuple(current[a] if isinstance(a, str) else a for a in args)
        statements.append(Statement(value, op, read))
        if rng is not None:
            error = 1 + float(rng.choice([-1, 1])) * 2.0**-23
            statements.append(Statement(value, "multiply", (value, error)))
        parameters.append(Parameter(f"stored{i}", kinds[value]))
        value_states.append(Statement(f"stored{i}", "identity", (value,)))
        current[target] = value
    statements.append(Statement("final_update", "identity", (current[program.update],)))
    states = program.returns[1:]
    statements += [Statement(f"next_{s}", "identity", (current[s],)) for s in states]
    statements += [Statement(s, "identity", (f"next_{s}",)) for s in states]
    returns = ("final_update", *states, *(k.target for k in value_states))
    return Program(tuple(parameters), (*statements, *value_states), returns)


def numbered(program):
    """Return `program` with a different name for each value: `value0`, `value1`, ..."""
    current = {p.name: p.name for p in program.parameters}
    statements = []
    for i, (target, op, args) in enumerate(program.statements):
        read = tuple(current[a] if isinstance(a, str) else a for a in args)
        statements.append(Statement(f"value{i}", op, read))
        current[target] = f"value{i}"
    states = program.returns[1:]
    statements += [Statement(f"next_{s}", "identity", (current[s],)) for s in states]
    finals = tuple(Statement(s, "identity", (f"next_{s}",)) for s in states)
    final_update = Statement("final_update", "identity", (current[program.update],))
    return Program(
        program.parameters, (*statements, final_update, *finals), ("final_update", *states)
    )


def stream(name):
    """Yield the weights and gradients of each step of a stream."""
    rng = np.random.default_rng(STREAMS.index(name))
    active = {key: rng.random(shape) < 0.5 for key, shape in SHAPES.items()}
    while True:
        pair = []
        for _ in range(2):
            arrays = {key: rng.normal(size=shape) for key, shape in SHAPES.items()}
            if name == "mixed":
                arrays = {k: x * 10.0 ** rng.uniform(-12, 12, x.shape) for k, x in arrays.items()}
            pair.append({key: x * SCALES.get(name, 1.0) for key, x in arrays.items()})
        if name == "sparse":
            pair[1] = {key: x * active[key] for key, x in pair[1].items()}
        yield pair


def run(program, name, rng=None):
    """Return updates [steps, weights], and whether all values so far were in range [steps]."""
    traced_program = traced(program, rng)
    weights, _ = next(stream(name))
    state = initial_state(traced_program, weights, np)
    updates, in_range_by_step, in_range_so_far = [], [], True
    for t, (weights, grads) in zip(range(1, STEPS + 1), stream(name), strict=False):
        update, state = step(traced_program, state, weights, grads, lr=1 / t, t=t, xp=np)
        updates.append(np.concatenate([x.ravel() for x in update.values()]))
        in_range_so_far = in_range_so_far and in_range(program, state[len(program.states) :])
        in_range_by_step.append(in_range_so_far)
    return np.stack(updates), np.array(in_range_by_step)


def in_range(program, values):
    """Whether no value overflowed, and each value that is zero has a zero operand."""
    latest = {}
    for (target, op, args), value in zip(program.statements, values, strict=True):
        arrays = value if isinstance(value, list) else [value]
        numbers = np.concatenate([np.ravel(x) for x in arrays])
        if not (np.isfinite(numbers) & ((numbers == 0) | (np.abs(numbers) > 1e-300))).all():
            return False
        operands = [latest.get(a) for a in args if isinstance(a, str)]
        if op in UNDERFLOW and (numbers == 0).any() and all(k is not None for k in operands):
            exact = any(np.any(k == 0) for k in operands) or 0.0 in args
            if not exact:
                return False
        latest[target] = numbers
    return True


@np.errstate(all="ignore")
def assert_same_updates(program, derivation, streams=STREAMS):
    rng = np.random.default_rng(0)
    for name in streams:
        (a, in_range_by_step), (b, _) = run(program, name), run(derivation.program, name)
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        if same.all():
            continue
        rounding_error = 2.0**-23 * np.abs(a)
        for _ in range(2):
            rounding_error = np.fmax(rounding_error, np.abs(a - run(program, name, rng)[0]))
            rounding_error = np.fmax(
                rounding_error, np.abs(b - run(derivation.program, name, rng)[0])
            )
        same |= np.abs(a - b) <= 128 * rounding_error + 1e-37
        if derivation.domain > Domain.ALWAYS:
            same |= ~in_range_by_step[:, None]
        assert same.all(), f"{name}\n{program}{derivation.program}{derivation.steps}"
