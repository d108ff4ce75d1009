"""Obfuscation of programs: the same update, written with more statements."""

from __future__ import annotations

import numpy as np

from primitives import OPS, Kind, Parameter, Program, Statement
from primitives.program import MAX_STATEMENTS


class Writer:
    """Collects the statements of the obfuscated program, with new names for values and states.

    Attributes:
        statements: the statements so far.
        parameters: the parameters, with states renamed.
        renamed: the new name of each parameter.
        current: for each old name, the new name of the value that the old name refers to now.
    """

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
        self.current = dict(self.renamed)

    def emit(self, op, *args):
        target = f"x{len(self.statements)}"
        self.statements.append(Statement(target, op, args))
        return target

    def value(self, arg):
        return self.current[arg] if isinstance(arg, str) else arg


def float32(value):
    return float(np.float32(value))


# --- detours: each writes an op as several statements, or returns None if it does not apply ---


def interp_as_sum(out, op, args):
    if op not in ("interp", "ema") or not isinstance(args[2], float):
        return None
    rest = float32(np.float32(1) - np.float32(args[2]))
    return out.emit(
        "add",
        out.emit("multiply", args[0], rest),
        out.emit("multiply", args[1], args[2]),
    )


def interp_as_subtraction(out, op, args):
    if op not in ("interp", "ema"):
        return None
    rest = out.emit("subtract", 1.0, args[2])
    return out.emit(
        "add",
        out.emit("multiply", args[0], rest),
        out.emit("multiply", args[1], args[2]),
    )


def interp_as_lerp(out, op, args):
    if op not in ("interp", "ema") or not isinstance(args[2], str):
        return None
    difference = out.emit("subtract", args[1], args[0])
    return out.emit("add", args[0], out.emit("multiply", difference, args[2]))


def sign_as_quotient(out, op, args):
    if op != "sign":
        return None
    (x,) = args
    size = [
        lambda: out.emit("abs", x),
        lambda: out.emit("sqrt", out.emit("multiply", x, x)),
        lambda: out.emit("sqrt", out.emit("square", x)),
    ][out.rng.integers(3)]()
    return out.emit("divide", x, size)


def factor_split(out, op, args):
    if op != "multiply" or not any(isinstance(a, float) for a in args):
        return None
    x, c = args if isinstance(args[1], float) else args[::-1]
    factor = float32(out.rng.choice([0.5, 3.0, 0.1, -2.0]))
    return out.emit("multiply", out.emit("multiply", x, factor), float32(c / factor))


def power_by_name(out, op, args):
    exponents = {"square": 2.0, "sqrt": 0.5, "cube": 3.0, "reciprocal": -1.0}
    return out.emit("power", *args, exponents[op]) if op in exponents else None


def square_as_product(out, op, args):
    return out.emit("multiply", *args, *args) if op == "square" else None


def quotient_as_product(out, op, args):
    if op != "divide" or not isinstance(args[1], str):
        return None
    return out.emit("multiply", args[0], out.emit("reciprocal", args[1]))


def sum_as_difference(out, op, args):
    if op != "add" or not isinstance(args[1], str):
        return None
    return out.emit("subtract", args[0], out.emit("negative", args[1]))


def difference_as_sum(out, op, args):
    if op != "subtract" or not isinstance(args[1], str):
        return None
    return out.emit("add", args[0], out.emit("multiply", args[1], -1.0))


DETOURS = [
    interp_as_sum, interp_as_subtraction, interp_as_lerp, sign_as_quotient, factor_split,
    power_by_name, square_as_product, quotient_as_product, sum_as_difference, difference_as_sum,
]  # fmt: skip

IDENTITIES = [
    lambda out, x: out.emit("multiply", x, 1.0),
    lambda out, x: out.emit("add", x, 0.0),
    lambda out, x: out.emit("divide", x, 1.0),
    lambda out, x: out.emit("negative", out.emit("negative", x)),
    lambda out, x: out.emit("reciprocal", out.emit("reciprocal", x)),
    lambda out, x: out.emit("multiply", out.emit("divide", x, 4.0), 4.0),
    lambda out, x: out.emit("maximum", x, x),
    lambda out, x: out.emit("interp", x, x, 0.3),
    lambda out, x: out.emit("cbrt", out.emit("cube", x)),
    lambda out, x: out.emit("subtract", out.emit("add", x, x), x),
    lambda out, x: out.emit("identity", x),
]


def detour(out, op, args):
    """Write `op(*args)` as several statements and return the name of the result."""
    for number in out.rng.permutation(len(DETOURS))[:6]:
        replacement = DETOURS[number](out, op, args)
        if replacement is not None:
            return replacement
    return IDENTITIES[out.rng.integers(len(IDENTITIES))](out, out.emit(op, *args))


def obfuscated(program, rng, edits=6):
    """Return `program` with about `edits` detours, dead code, and states renamed and reordered."""
    out = Writer(program, rng)
    max_edits = MAX_STATEMENTS - 2 * len(program.states) - 8 - len(program.statements)
    edited = rng.choice(len(program.statements), size=max(min(edits, max_edits // 3), 1))
    for index, (target, op, args) in enumerate(program.statements):
        args = tuple(out.value(arg) for arg in args)
        out.current[target] = detour(out, op, args) if index in edited else out.emit(op, *args)
        if rng.random() < 0.1:
            out.emit(rng.choice(["sin", "square", "tanh"]), out.current[target])  # dead
    copies = [out.emit("identity", out.current[state]) for state in program.returns[1:]]
    update = out.emit("identity", out.current[program.update])
    returned = [out.renamed[state] for state in program.returns[1:]]
    for state, copy in zip(returned, copies, strict=True):
        out.statements.append(Statement(state, "identity", (copy,)))
    other_parameters = [out.parameters[i] for i in 2 + rng.permutation(len(out.parameters) - 2)]
    if rng.random() < 0.5:
        other_parameters.append(Parameter("idle", Kind.TENSOR, 0.0))
        out.statements.append(Statement("idle", "add", (update, "idle")))
        returned.append("idle")
    returned = [returned[i] for i in rng.permutation(len(returned))]
    commuted = [
        s._replace(args=s.args[::-1]) if OPS[s.op].commutative and rng.random() < 0.5 else s
        for s in out.statements
    ]
    return Program((*out.parameters[:2], *other_parameters), tuple(commuted), (update, *returned))
