"""Hypothesis strategies for random valid programs."""

from __future__ import annotations

from hypothesis import strategies as st

from primitives import OPS, Kind, Parameter, Program, Statement, ops
from primitives.kinds import fits

STATE_NAMES = ("m", "v", "r", "s")
LOCAL_NAMES = ("update", "a", "b", "x1", "lr_2", "w", "g")

constants = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0, 0.5, 0.9, 0.999, 1e-8, -0.3]),
    st.floats(-10.0, 10.0, width=32),
)

kinds = st.sampled_from(list(Kind))


@st.composite
def parameters(draw, max_states=3, kinds=kinds):
    """Draw the parameters of a program and the names of its states.

    The weights and the gradient come first. States and the inputs `lr` and `t` follow in random
    order. The names of the states are in the order in which the program returns them.
    """
    states = [
        Parameter(name, draw(kinds), draw(st.sampled_from([0.0, 0.0, 1.0, -0.25])))
        for name in STATE_NAMES[: draw(st.integers(0, max_states))]
    ]
    inputs = [Parameter(name) for name in ("lr", "t") if draw(st.booleans())]
    states_and_inputs = draw(st.permutations([*states, *inputs]))
    returned_states = draw(st.permutations([state.name for state in states]))
    return (Parameter("w"), Parameter("g"), *states_and_inputs), tuple(returned_states)


@st.composite
def programs(
    draw,
    op_set="full",
    min_statements=0,
    max_statements=12,
    max_states=3,
    kinds=kinds,
    op_names=None,
):
    """Draw a valid program.

    To make a large part of the program live, statements prefer operands that were assigned recently
    and that no statement has read yet. The update is the last variable that no statement has read.

    Args:
        draw: draws an example from a strategy; Hypothesis passes it.
        op_set: the set of ops, unless `op_names` is given.
        min_statements: minimum number of statements.
        max_statements: maximum number of statements.
        max_states: maximum number of states.
        kinds: strategy for the kinds of states.
        op_names: names of the ops to use.
    """
    program_parameters, states = draw(parameters(max_states, kinds))
    state_kinds = {
        parameter.name: parameter.kind
        for parameter in program_parameters
        if parameter.name in states
    }
    variable_kinds = {
        parameter.name: state_kinds.get(parameter.name, Kind.SCALAR)
        for parameter in program_parameters
    }
    variable_kinds |= {"w": Kind.TENSOR, "g": Kind.TENSOR}
    unread = ["g", *states]
    op_name = st.sampled_from(op_names or ops.names(op_set))
    statements = []
    for _ in range(draw(st.integers(min_statements, max_statements))):
        op = OPS[draw(op_name)]
        args = draw(operands(op, variable_kinds, unread))
        kind = op.result_kind(tuple(variable_kinds.get(arg, Kind.SCALAR) for arg in args))
        targets = [
            name
            for name in (*LOCAL_NAMES, *states)
            if fits(kind, state_kinds.get(name, Kind.TENSOR))
        ]
        already_read = [name for name in targets if name not in unread]
        target = draw(st.sampled_from(already_read or targets))
        statements.append(Statement(target, op.name, args))
        variable_kinds[target] = kind
        unread = [*(name for name in unread if name not in (*args, target)), target]
    update = unread[-1] if unread else "g"
    return Program(program_parameters, tuple(statements), (update, *states))


@st.composite
def operands(draw, op, variable_kinds, unread=()):
    """Draw operands of valid kinds for `op`: constants or names of variables.

    Args:
        draw: draws an example from a strategy; Hypothesis passes it.
        op: the op.
        variable_kinds: the kind of each variable that has a value, by name.
        unread: names of the variables that no statement has read yet, the most recent last.
    """
    args = []
    for operand_type in op.operands:
        may_have_any_kind = operand_type == "x"
        suitable = sorted(
            name
            for name, kind in variable_kinds.items()
            if may_have_any_kind or kind == Kind.SCALAR
        )
        suitable_unread = [name for name in unread if name in suitable and name not in args]
        constant_candidates = [None] * (1 if may_have_any_kind else 4)
        # Repeated candidates are more likely to be drawn. None stands for a constant.
        name = draw(st.sampled_from([*suitable_unread[-2:] * 4, *suitable, *constant_candidates]))
        args.append(draw(constants) if name is None else name)
    return tuple(args)
