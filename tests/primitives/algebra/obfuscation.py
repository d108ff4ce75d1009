"""Functions that rewrite a program so that it has more statements and the same updates."""

from __future__ import annotations

import numpy as np

from primitives import OPS, Kind, Parameter, Program, Statement
from primitives.program import MAX_STATEMENTS


class Writer:
    """Writes the statements of the obfuscated program, with new names for values and states.

    Attributes:
        rng: the random generator that chooses names and rewrites.
        statements: the statements written so far.
        parameters: the parameters, with states renamed.
        parameter_names: the new name of each parameter, by old name.
        value_names: the new name of each variable's current value, by old name.
    """

    def __init__(self, program, rng):
        self.rng = rng
        self.statements = []
        states = program.returns[1:]
        numbers = rng.permutation(len(program.parameters))
        self.parameters = []
        for index, parameter in enumerate(program.parameters):
            is_schedule_input = index > 1 and parameter.name not in states
            name = parameter.name if is_schedule_input else f"p{numbers[index]}"
            self.parameters.append(parameter._replace(name=name))
        pairs = zip(program.parameters, self.parameters, strict=True)
        self.parameter_names = {old.name: new.name for old, new in pairs}
        self.value_names = dict(self.parameter_names)

    def emit(self, op, *args):
        """Append a statement and return the name of its result."""
        target = f"x{len(self.statements)}"
        self.statements.append(Statement(target, op, args))
        return target

    def renamed(self, arg):
        """Return the new name of an operand; a constant is returned unchanged."""
        return self.value_names[arg] if isinstance(arg, str) else arg


def float32(value):
    return float(np.float32(value))


# --- Rewrites of a statement as several. Each returns the name of the result, or None if the
# rewrite does not apply to the op and its operands. ---


def interp_as_sum(writer, op, args):
    if op not in ("interp", "ema") or not isinstance(args[2], float):
        return None
    complement = float32(np.float32(1) - np.float32(args[2]))
    return writer.emit(
        "add",
        writer.emit("multiply", args[0], complement),
        writer.emit("multiply", args[1], args[2]),
    )


def interp_as_subtraction(writer, op, args):
    if op not in ("interp", "ema"):
        return None
    complement = writer.emit("subtract", 1.0, args[2])
    return writer.emit(
        "add",
        writer.emit("multiply", args[0], complement),
        writer.emit("multiply", args[1], args[2]),
    )


def interp_as_lerp(writer, op, args):
    if op not in ("interp", "ema") or not isinstance(args[2], str):
        return None
    difference = writer.emit("subtract", args[1], args[0])
    return writer.emit("add", args[0], writer.emit("multiply", difference, args[2]))


def sign_as_quotient(writer, op, args):
    if op != "sign":
        return None
    (x,) = args
    absolute = [
        lambda: writer.emit("abs", x),
        lambda: writer.emit("sqrt", writer.emit("multiply", x, x)),
        lambda: writer.emit("sqrt", writer.emit("square", x)),
    ][writer.rng.integers(3)]()
    return writer.emit("divide", x, absolute)


def split_factor(writer, op, args):
    if op != "multiply" or not any(isinstance(arg, float) for arg in args):
        return None
    x, constant = args if isinstance(args[1], float) else args[::-1]
    factor = float32(writer.rng.choice([0.5, 3.0, 0.1, -2.0]))
    return writer.emit("multiply", writer.emit("multiply", x, factor), float32(constant / factor))


def named_power_as_power(writer, op, args):
    exponents = {"square": 2.0, "sqrt": 0.5, "cube": 3.0, "reciprocal": -1.0}
    return writer.emit("power", *args, exponents[op]) if op in exponents else None


def square_as_product(writer, op, args):
    return writer.emit("multiply", *args, *args) if op == "square" else None


def quotient_as_product(writer, op, args):
    if op != "divide" or not isinstance(args[1], str):
        return None
    return writer.emit("multiply", args[0], writer.emit("reciprocal", args[1]))


def sum_as_difference(writer, op, args):
    if op != "add" or not isinstance(args[1], str):
        return None
    return writer.emit("subtract", args[0], writer.emit("negative", args[1]))


def difference_as_sum(writer, op, args):
    if op != "subtract" or not isinstance(args[1], str):
        return None
    return writer.emit("add", args[0], writer.emit("multiply", args[1], -1.0))


REWRITES = [
    interp_as_sum, interp_as_subtraction, interp_as_lerp, sign_as_quotient, split_factor,
    named_power_as_power, square_as_product, quotient_as_product, sum_as_difference,
    difference_as_sum,
]  # fmt: skip

IDENTITIES = [  # rewrites of x whose result equals x
    lambda writer, x: writer.emit("multiply", x, 1.0),
    lambda writer, x: writer.emit("add", x, 0.0),
    lambda writer, x: writer.emit("divide", x, 1.0),
    lambda writer, x: writer.emit("negative", writer.emit("negative", x)),
    lambda writer, x: writer.emit("reciprocal", writer.emit("reciprocal", x)),
    lambda writer, x: writer.emit("multiply", writer.emit("divide", x, 4.0), 4.0),
    lambda writer, x: writer.emit("maximum", x, x),
    lambda writer, x: writer.emit("interp", x, x, 0.3),
    lambda writer, x: writer.emit("cbrt", writer.emit("cube", x)),
    lambda writer, x: writer.emit("subtract", writer.emit("add", x, x), x),
    lambda writer, x: writer.emit("identity", x),
]


def emit_rewritten(writer, op, args):
    """Write `op(*args)` as several statements and return the name of the result."""
    for index in writer.rng.permutation(len(REWRITES))[:6]:
        result = REWRITES[index](writer, op, args)
        if result is not None:
            return result
    identity = IDENTITIES[writer.rng.integers(len(IDENTITIES))]
    return identity(writer, writer.emit(op, *args))


def obfuscated(program, rng, max_rewrites=6):
    """Return a longer program with the same updates as `program`.

    Up to `max_rewrites` statements are rewritten, dead statements and a dead state may be added,
    names and the order of states and operands change.
    """
    writer = Writer(program, rng)
    free_statements = MAX_STATEMENTS - 2 * len(program.states) - 8 - len(program.statements)
    rewrite_count = max(min(max_rewrites, free_statements // 3), 1)
    rewritten_indices = rng.choice(len(program.statements), size=rewrite_count)
    for index, (target, op, args) in enumerate(program.statements):
        args = tuple(map(writer.renamed, args))
        if index in rewritten_indices:
            result = emit_rewritten(writer, op, args)
        else:
            result = writer.emit(op, *args)
        writer.value_names[target] = result
        if rng.random() < 0.1:  # add a dead statement
            writer.emit(rng.choice(["sin", "square", "tanh"]), result)
    copies = [writer.emit("identity", writer.value_names[state]) for state in program.returns[1:]]
    update = writer.emit("identity", writer.value_names[program.update])
    states = [writer.parameter_names[state] for state in program.returns[1:]]
    for state, copy in zip(states, copies, strict=True):
        writer.statements.append(Statement(state, "identity", (copy,)))
    others = [writer.parameters[i] for i in 2 + rng.permutation(len(writer.parameters) - 2)]
    if rng.random() < 0.5:  # add a dead state
        others.append(Parameter("dead", Kind.TENSOR, 0.0))
        writer.statements.append(Statement("dead", "add", (update, "dead")))
        states.append("dead")
    states = [states[i] for i in rng.permutation(len(states))]

    def swap_at_random(statement):
        if OPS[statement.op].commutative and rng.random() < 0.5:
            return statement._replace(args=statement.args[::-1])
        return statement

    statements = tuple(map(swap_at_random, writer.statements))
    return Program((*writer.parameters[:2], *others), statements, (update, *states))
