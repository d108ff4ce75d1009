"""Programs written in a roundabout way: the same update, in more statements."""

from __future__ import annotations

import numpy as np

from primitives import OPS, Kind, Parameter, Program, Statement
from primitives.program import MAX_STATEMENTS


class Scribe:
    """Writes a program anew, with a fresh name for everything that may have one."""

    def __init__(self, program, rng):
        self.rng = rng
        self.statements = []
        states = program.returns[1:]
        numbers = rng.permutation(len(program.parameters))
        self.parameters = [
            p if p.name not in states and i > 1 else p._replace(name=f"p{numbers[i]}")
            for i, p in enumerate(program.parameters)
        ]
        renamed = zip(program.parameters, self.parameters, strict=True)
        self.renamed = {old.name: new.name for old, new in renamed}
        self.now = dict(self.renamed)

    def emit(self, op, *args):
        target = f"x{len(self.statements)}"
        self.statements.append(Statement(target, op, args))
        return target

    def value(self, arg):
        return self.now[arg] if isinstance(arg, str) else arg


def float32(value):
    return float(np.float32(value))


# --- detours: what an op can be written as; None where it does not apply ---


def interp_as_sum(s, op, args):
    if op not in ("interp", "ema") or not isinstance(args[2], float):
        return None
    rest = float32(np.float32(1) - np.float32(args[2]))
    return s.emit("add", s.emit("multiply", args[0], rest), s.emit("multiply", args[1], args[2]))


def interp_as_subtraction(s, op, args):
    if op not in ("interp", "ema"):
        return None
    rest = s.emit("subtract", 1.0, args[2])
    return s.emit("add", s.emit("multiply", args[0], rest), s.emit("multiply", args[1], args[2]))


def interp_as_lerp(s, op, args):
    if op not in ("interp", "ema") or not isinstance(args[2], str):
        return None
    difference = s.emit("subtract", args[1], args[0])
    return s.emit("add", args[0], s.emit("multiply", difference, args[2]))


def sign_as_quotient(s, op, args):
    if op != "sign":
        return None
    (x,) = args
    size = [
        lambda: s.emit("abs", x),
        lambda: s.emit("sqrt", s.emit("multiply", x, x)),
        lambda: s.emit("sqrt", s.emit("square", x)),
    ][s.rng.integers(3)]()
    return s.emit("divide", x, size)


def factor_split(s, op, args):
    if op != "multiply" or not any(isinstance(a, float) for a in args):
        return None
    x, c = args if isinstance(args[1], float) else args[::-1]
    part = float32(s.rng.choice([0.5, 3.0, 0.1, -2.0]))
    return s.emit("multiply", s.emit("multiply", x, part), float32(c / part))


def power_by_name(s, op, args):
    exponents = {"square": 2.0, "sqrt": 0.5, "cube": 3.0, "reciprocal": -1.0}
    return s.emit("power", *args, exponents[op]) if op in exponents else None


def square_as_product(s, op, args):
    return s.emit("multiply", *args, *args) if op == "square" else None


def quotient_as_product(s, op, args):
    if op != "divide" or not isinstance(args[1], str):
        return None
    return s.emit("multiply", args[0], s.emit("reciprocal", args[1]))


def sum_as_difference(s, op, args):
    if op != "add" or not isinstance(args[1], str):
        return None
    return s.emit("subtract", args[0], s.emit("negative", args[1]))


def difference_as_sum(s, op, args):
    if op != "subtract" or not isinstance(args[1], str):
        return None
    return s.emit("add", args[0], s.emit("multiply", args[1], -1.0))


REWRITTEN = [
    interp_as_sum, interp_as_subtraction, interp_as_lerp, sign_as_quotient, factor_split,
    power_by_name, square_as_product, quotient_as_product, sum_as_difference, difference_as_sum,
]  # fmt: skip

IDENTITIES = [
    lambda s, x: s.emit("multiply", x, 1.0),
    lambda s, x: s.emit("add", x, 0.0),
    lambda s, x: s.emit("divide", x, 1.0),
    lambda s, x: s.emit("negative", s.emit("negative", x)),
    lambda s, x: s.emit("reciprocal", s.emit("reciprocal", x)),
    lambda s, x: s.emit("multiply", s.emit("divide", x, 4.0), 4.0),
    lambda s, x: s.emit("maximum", x, x),
    lambda s, x: s.emit("interp", x, x, 0.3),
    lambda s, x: s.emit("cbrt", s.emit("cube", x)),
    lambda s, x: s.emit("subtract", s.emit("add", x, x), x),
    lambda s, x: s.emit("identity", x),
]


def detour(s, op, args):
    """The value of `op(*args)`, or None where no detour is found."""
    for number in s.rng.permutation(len(REWRITTEN))[:6]:
        made = REWRITTEN[number](s, op, args)
        if made is not None:
            return made
    return IDENTITIES[s.rng.integers(len(IDENTITIES))](s, s.emit(op, *args))


def obfuscated(program, rng, edits=6):
    """`program` with about `edits` detours, dead code, and other names and order of states."""
    s = Scribe(program, rng)
    room = MAX_STATEMENTS - 2 * len(program.states) - 8 - len(program.statements)
    places = rng.choice(len(program.statements), size=max(min(edits, room // 3), 1))
    for index, (target, op, args) in enumerate(program.statements):
        args = tuple(s.value(arg) for arg in args)
        s.now[target] = detour(s, op, args) if index in places else s.emit(op, *args)
        if rng.random() < 0.1:
            s.emit(rng.choice(["sin", "square", "tanh"]), s.now[target])  # dead
    copies = [s.emit("identity", s.now[state]) for state in program.returns[1:]]
    update = s.emit("identity", s.now[program.update])
    returned = [s.renamed[state] for state in program.returns[1:]]
    for state, copy in zip(returned, copies, strict=True):
        s.statements.append(Statement(state, "identity", (copy,)))
    rest = [s.parameters[i] for i in 2 + rng.permutation(len(s.parameters) - 2)]
    if rng.random() < 0.5:
        rest.append(Parameter("idle", Kind.TENSOR, 0.0))
        s.statements.append(Statement("idle", "add", (update, "idle")))
        returned.append("idle")
    returned = [returned[i] for i in rng.permutation(len(returned))]
    commuted = [
        one._replace(args=one.args[::-1]) if OPS[one.op].commutative and rng.random() < 0.5 else one
        for one in s.statements
    ]
    return Program((*s.parameters[:2], *rest), tuple(commuted), (update, *returned))
