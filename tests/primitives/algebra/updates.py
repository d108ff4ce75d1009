"""Whether a simplified program makes the updates of the one that it was made of."""

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
    """`program` with every value kept as one more state; with `rng`, each off by a rounding."""
    now = {p.name: p.name for p in program.parameters}
    kinds = check(numbered(program))
    parameters, statements, kept = list(program.parameters), [], []
    for i, (target, op, args) in enumerate(program.statements):
        value = f"value{i}"
        read = tuple(now[a] if isinstance(a, str) else a for a in args)
        statements.append(Statement(value, op, read))
        if rng is not None:
            off = 1 + float(rng.choice([-1, 1])) * 2.0**-23
            statements.append(Statement(value, "multiply", (value, off)))
        parameters.append(Parameter(f"kept{i}", kinds[value]))
        kept.append(Statement(f"kept{i}", "identity", (value,)))
        now[target] = value
    statements.append(Statement("made", "identity", (now[program.update],)))
    states = program.returns[1:]
    statements += [Statement(f"next_{s}", "identity", (now[s],)) for s in states]
    statements += [Statement(s, "identity", (f"next_{s}",)) for s in states]
    returns = ("made", *states, *(k.target for k in kept))
    return Program(tuple(parameters), (*statements, *kept), returns)


def numbered(program):
    """`program` with each value under its own name, `value0`, `value1`, ..."""
    now = {p.name: p.name for p in program.parameters}
    statements = []
    for i, (target, op, args) in enumerate(program.statements):
        read = tuple(now[a] if isinstance(a, str) else a for a in args)
        statements.append(Statement(f"value{i}", op, read))
        now[target] = f"value{i}"
    states = program.returns[1:]
    statements += [Statement(f"next_{s}", "identity", (now[s],)) for s in states]
    finals = tuple(Statement(s, "identity", (f"next_{s}",)) for s in states)
    made = Statement("made", "identity", (now[program.update],))
    return Program(program.parameters, (*statements, made, *finals), ("made", *states))


def stream(name):
    """Weights and gradients of one step."""
    rng = np.random.default_rng(STREAMS.index(name))
    active = {key: rng.random(shape) < 0.5 for key, shape in SHAPES.items()}
    while True:
        drawn = []
        for _ in range(2):
            arrays = {key: rng.normal(size=shape) for key, shape in SHAPES.items()}
            if name == "mixed":
                arrays = {k: x * 10.0 ** rng.uniform(-12, 12, x.shape) for k, x in arrays.items()}
            drawn.append({key: x * SCALES.get(name, 1.0) for key, x in arrays.items()})
        if name == "sparse":
            drawn[1] = {key: x * active[key] for key, x in drawn[1].items()}
        yield drawn


def run(program, name, rng=None):
    """Updates [steps, weights], and for each step whether all values so far were in range."""
    following = traced(program, rng)
    weights, _ = next(stream(name))
    state = initial_state(following, weights, np)
    updates, clean, fine = [], [], True
    for t, (weights, grads) in zip(range(1, STEPS + 1), stream(name), strict=False):
        update, state = step(following, state, weights, grads, lr=1 / t, t=t, xp=np)
        updates.append(np.concatenate([x.ravel() for x in update.values()]))
        fine = fine and in_range(program, state[len(program.states) :])
        clean.append(fine)
    return np.stack(updates), np.array(clean)


def in_range(program, values):
    """No value overflowed, and none is zero that has no zero operand."""
    latest = {}
    for (target, op, args), value in zip(program.statements, values, strict=True):
        arrays = value if isinstance(value, list) else [value]
        sizes = np.concatenate([np.ravel(x) for x in arrays])
        if not (np.isfinite(sizes) & ((sizes == 0) | (np.abs(sizes) > 1e-300))).all():
            return False
        known = [latest.get(a) for a in args if isinstance(a, str)]
        if op in UNDERFLOW and (sizes == 0).any() and all(k is not None for k in known):
            exact = any(np.any(k == 0) for k in known) or 0.0 in args
            if not exact:
                return False
        latest[target] = sizes
    return True


@np.errstate(all="ignore")
def assert_same_updates(program, derivation, streams=STREAMS):
    rng = np.random.default_rng(0)
    for name in streams:
        (a, clean), (b, _) = run(program, name), run(derivation.program, name)
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        if same.all():
            continue
        spread = 2.0**-23 * np.abs(a)
        for _ in range(2):
            spread = np.fmax(spread, np.abs(a - run(program, name, rng)[0]))
            spread = np.fmax(spread, np.abs(b - run(derivation.program, name, rng)[0]))
        same |= np.abs(a - b) <= 128 * spread + 1e-37
        if derivation.domain > Domain.ALWAYS:
            same |= ~clean[:, None]
        assert same.all(), f"{name}\n{program}{derivation.program}{derivation.steps}"
