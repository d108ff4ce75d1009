"""Comparison of an exported file with the reference interpreter, step by step in float64.

Every step starts from the state of the reference, with new random weights, gradients and schedule
values; some gradients are zero. `roles.constants_to_states` turns the program's constants into
scalar states, so that the reference uses the same hyperparameters as the file. A quarter of the
steps use the file's defaults (0.9, where the program has the float32 nearest to 0.9). The other
steps vary the hyperparameters, so that the check also finds a hyperparameter that acts differently
from its constant.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from primitives.export.lowering import ExportError, Lowered, lower
from primitives.export.naming import Exported, camel_case
from primitives.graph.roles import constants_to_states, roles
from primitives.graph.statements import INITIAL, Position
from primitives.kinds import Kind
from primitives.machine import reference as interpreter
from primitives.program import Program, Statement

SHAPES = {"matrix": (4, 3), "vector": (5,), "scalar": (), "stacked": (2, 3, 4)}
"""Shapes of the weights with which files are checked, by name."""

KEYS = sorted(SHAPES)
"""Names of the arrays, in the order in which JAX flattens a dict."""

STEPS = 100
"""Default number of steps."""

TOLERANCE = 1e-9
"""Maximum of |difference| / (1 + |reference|) for a file to pass."""

_NOISE = 1e-13
"""Relative rounding error of each value when the effect of rounding is estimated."""
_NOISE_SAMPLES = 3


@dataclass(frozen=True)
class CheckResult:
    """The result of a successful check.

    Attributes:
        steps: number of steps.
        largest_difference: the largest |difference| / (1 + |reference|) of all numbers.
    """

    steps: int
    largest_difference: float


@dataclass(frozen=True)
class _Step:
    """One step of the reference.

    Attributes:
        t: the number of the step, from 1.
        schedule: the value of the learning-rate schedule.
        hyperparameters: the values of all hyperparameters, the learning rate included.
        weights: the weights, by name.
        grads: the gradients, by name.
        state: the state before the step.
        update: the update of the reference, which is subtracted from the weights.
        next_state: the state after the step.
    """

    t: int
    schedule: float
    hyperparameters: dict[str, float]
    weights: dict[str, np.ndarray]
    grads: dict[str, np.ndarray]
    state: tuple[Any, ...]
    update: dict[str, np.ndarray]
    next_state: tuple[Any, ...]


def check(file: Exported, steps: int = STEPS) -> CheckResult:
    """Compare the steps of an exported file with the steps of the reference interpreter.

    Args:
        file: the file to check; its source is executed.
        steps: number of steps.

    Returns:
        The number of steps and the largest difference.

    Raises:
        ExportError: file and reference differ by more than `TOLERANCE`, or the file cannot be run.
            The message gives the first difference and the remedy.
    """
    run = {"optax": _run_optax, "torch": _run_torch}[file.target]
    reference = _Reference(file.program)
    largest = 0.0
    module = load(file)
    for expected, update, next_state in run(file, module, reference, list(reference.steps(steps))):
        pairs = [(f"update[{key!r}]", expected.update[key], update[key]) for key in SHAPES]
        for state, expected_value, value in zip(
            reference.graph.states, expected.next_state, next_state, strict=True
        ):
            pairs += _named_arrays(state.parameter.name, expected_value, value)
        for array, expected_array, actual_array in pairs:
            difference = _compare(reference, expected, array, expected_array, actual_array)
            largest = max(largest, difference)
    return CheckResult(steps, largest)


def load(file: Exported) -> types.ModuleType:
    """Return an exported file as a module, by executing its source.

    This package generates the source. From the program, the source contains only numbers and
    checked names, so that executing it is safe.

    Raises:
        ExportError: the file needs PyTorch, which is not installed.
    """
    if file.target == "torch":
        try:
            import torch  # noqa: F401
        except ImportError:
            raise ExportError(
                "PyTorch is not installed, which is needed to check the file before it is written; "
                "run: pip install torch"
            ) from None
    module = types.ModuleType(file.name)
    exec(compile(file.source, f"{file.name}.py", "exec"), module.__dict__)
    return module


# -- the reference ------------------------------------------------------------------------------


class _Reference:
    """The reference interpreter, with other hyperparameters at each step.

    Attributes:
        program: the program, whose constants are replaced by states.
        constant_states: the names of the states that replace constants.
        defaults: the default of each hyperparameter, the learning rate included.
        multiplies_by_learning_rate: whether the program itself multiplies by its learning rate.
    """

    def __init__(self, program: Program):
        self.graph: Lowered = lower(program)
        self.roles = roles(program)
        hyperparameters = (self.roles.learning_rate, *self.roles.hyperparameters)
        positions: dict[Position, str] = {}
        for hyperparameter in hyperparameters:
            for position in hyperparameter.positions:
                if position[0] != INITIAL:
                    positions[position] = f"<{hyperparameter.name}>"
            for position in hyperparameter.unit_positions:
                if position[0] != INITIAL:
                    positions[position] = "<1>"
        self.program = constants_to_states(self.graph.program, positions)
        self.constant_states = tuple(dict.fromkeys(positions.values()))
        self.defaults = {h.name: h.value for h in hyperparameters}
        self.multiplies_by_learning_rate = bool(self.roles.learning_rate.positions)

    def steps(self, count: int) -> Iterator[_Step]:
        """Yield `count` steps on random inputs, each from the state after the previous step."""
        rng = np.random.default_rng(0)
        weights = _random_arrays(rng)
        state_with_constants = interpreter.initial_state(self.program, weights, np)
        state = state_with_constants[: len(self.graph.states)]
        for t in range(1, count + 1):
            hyperparameters = self.defaults if t <= max(1, count // 4) else self._varied(rng)
            weights, grads = _random_arrays(rng), _random_arrays(rng)
            schedule = float(rng.uniform(0.05, 1.0))
            for key in SHAPES:
                if SHAPES[key]:
                    grads[key].reshape(-1)[: 1 + t % 2] = 0.0
            step = _Step(t, schedule, hyperparameters, weights, grads, state, {}, ())
            update, next_state = self.run(step)
            yield replace(step, update=update, next_state=next_state)
            state = next_state

    def run(
        self, step: _Step, noise: Callable[[], float] | None = None
    ) -> tuple[dict[str, np.ndarray], tuple[Any, ...]]:
        """Return the update and the next state.

        Args:
            step: the inputs of the step.
            noise: returns a factor near 1; every value is multiplied by such a factor.
        """
        program, values = self.program, dict(step.hyperparameters) | {"1": 1.0}
        constants: list[float] = [values[name.strip("<>")] for name in self.constant_states]
        if noise is not None:
            program, factors = _with_noise(program, noise)
            constants += factors
        state = (*step.state, *(np.float64(value) for value in constants))
        update, next_state = interpreter.step(
            program, state, step.weights, step.grads, lr=step.schedule, t=float(step.t), xp=np
        )
        if not self.multiplies_by_learning_rate:
            with np.errstate(all="ignore"):
                learning_rate = step.hyperparameters["learning_rate"]
                update = {key: learning_rate * array for key, array in update.items()}
        return update, next_state[: len(self.graph.states)]

    def _varied(self, rng: np.random.Generator) -> dict[str, float]:
        """Return the defaults, each reduced by up to a tenth, which keeps each in its interval."""
        return {name: value * rng.uniform(0.9, 1.0) for name, value in self.defaults.items()}


def _random_arrays(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {key: np.asarray(rng.normal(size=shape)) for key, shape in SHAPES.items()}


def _with_noise(program: Program, noise: Callable[[], float]) -> tuple[Program, list[float]]:
    """Multiply each statement's result by a new state; return the program and the factors."""
    statements, names = [], []
    for index, statement in enumerate(program.statements):
        names.append(f"<noise {index}>")
        statements += [
            statement,
            Statement(statement.target, "multiply", (statement.target, 1.0)),
        ]
    program = Program(program.parameters, tuple(statements), program.returns)
    positions = {(2 * index + 1, 1): name for index, name in enumerate(names)}
    return constants_to_states(program, positions), [noise() for _ in names]


# -- the files ------------------------------------------------------------------------------------


_Result = tuple[_Step, dict[str, np.ndarray], tuple[Any, ...]]
"""A step of the reference, and the file's update and next state on the same inputs."""


def _run_optax(
    file: Exported, module: types.ModuleType, reference: _Reference, steps: list[_Step]
) -> Iterator[_Result]:
    names = [file.states[state.parameter.name] for state in reference.graph.states]

    def optimizer(hyperparameters: Mapping[str, Any], schedule: Any) -> Any:
        arguments = dict(hyperparameters)
        if reference.graph.reads("lr"):
            arguments["schedule"] = schedule
        elif reference.roles.reads_lr:
            arguments["learning_rate"] = arguments["learning_rate"] * schedule
        return getattr(module, file.name)(**arguments)

    @jax.jit
    def update(hyperparameters: Any, schedule: Any, grads: Any, state: Any, weights: Any) -> Any:
        return optimizer(hyperparameters, schedule).update(grads, state, weights)

    with jax.enable_x64(True):
        weights = jax.tree.map(jnp.asarray, steps[0].weights)
        state = optimizer(reference.defaults, 1.0).init(weights)
        _compare_initial_state(reference, steps[0], [getattr(state[0], name) for name in names])
        for step in steps:
            fields = {
                name: _reshaped(value, getattr(state[0], name))
                for name, value in zip(names, step.state, strict=True)
            }
            if fields:
                state = (state[0]._replace(**fields), *state[1:])
            updates, state = update(
                step.hyperparameters, step.schedule, step.grads, state, step.weights
            )
            subtracted = {key: -np.asarray(value) for key, value in updates.items()}
            yield step, subtracted, tuple(getattr(state[0], name) for name in names)


def _reshaped(value: Any, like: Any) -> Any:
    """Return a state of the reference in the structure and shapes of the file's state."""
    if not isinstance(value, list):
        return jnp.asarray(value)
    return {
        key: jnp.asarray(np.reshape(array, like[key].shape))
        for key, array in zip(KEYS, value, strict=True)
    }


def _run_torch(
    file: Exported, module: types.ModuleType, reference: _Reference, steps: list[_Step]
) -> Iterator[_Result]:
    import torch

    params = {key: torch.tensor(array) for key, array in steps[0].weights.items()}
    groups = [{"params": [params[key] for key in keys]} for keys in (KEYS[:2], KEYS[2:])]
    options: dict[str, Any] = {}
    if reference.graph.reads("lr"):
        options["schedule"] = lambda completed_steps: steps[completed_steps].schedule
    optimizer = getattr(module, camel_case(file.name))(groups, **options)
    for step in steps:
        learning_rate = step.hyperparameters["learning_rate"]
        if reference.roles.reads_lr and not options:
            learning_rate *= step.schedule
        for group in optimizer.param_groups:
            group.update(step.hyperparameters | {"lr": learning_rate})
        for key, parameter in params.items():
            parameter.copy_(torch.tensor(step.weights[key]))
            parameter.grad = torch.tensor(step.grads[key])
        states = _torch_states(file, optimizer, reference, params)
        if step is steps[0]:
            _compare_initial_state(reference, step, states)
        for tensors, value in zip(states, step.state, strict=True):
            if not isinstance(value, list):
                tensors.fill_(float(value))
                continue
            for key, array in zip(KEYS, value, strict=True):
                tensors[key].copy_(torch.tensor(np.reshape(array, tensors[key].shape)))
        optimizer.step()
        subtracted = {
            key: step.weights[key] - parameter.numpy() for key, parameter in params.items()
        }
        yield step, subtracted, tuple(states)


def _torch_states(
    file: Exported, optimizer: Any, reference: _Reference, params: dict[str, Any]
) -> list[Any]:
    """Return the optimizer's state tensors, which a step changes in place."""
    states: list[Any] = []
    for state in reference.graph.states:
        name = file.states[state.parameter.name]
        if state.parameter.kind == Kind.SCALAR:
            states.append(optimizer._model(params[KEYS[0]])[name])
        else:
            states.append({key: optimizer._state(params[key])[name] for key in KEYS})
    return states


# -- comparison -----------------------------------------------------------------------------------


def _named_arrays(name: str, expected: Any, actual: Any) -> list[tuple[str, Any, Any]]:
    """Return the arrays of a state of the reference and of the file, each pair with a name."""
    if not isinstance(expected, list):
        return [(name, expected, actual)]
    return [
        (f"{name}[{key!r}]", array, actual[key]) for key, array in zip(KEYS, expected, strict=True)
    ]


def _compare_initial_state(reference: _Reference, first: _Step, actual: Any) -> None:
    for state, value, actual_value in zip(reference.graph.states, first.state, actual, strict=True):
        for array, *pair in _named_arrays(state.parameter.name, value, actual_value):
            expected_numbers, actual_numbers = map(np.ravel, pair)
            if not np.allclose(expected_numbers, actual_numbers, rtol=1e-6, atol=0):
                raise ExportError(
                    f"the exported file initializes {array} with {actual_numbers[0]!r}, the "
                    f"program with {expected_numbers[0]!r}; this is a bug in the export, please "
                    "report it"
                )


def _compare(reference: _Reference, step: _Step, array: str, expected: Any, actual: Any) -> float:
    """Return the largest |difference| / (1 + |reference|) of an array.

    Equal infinities and pairs of NaN count as no difference.

    Raises:
        ExportError: the difference exceeds `TOLERANCE`.
    """
    actual, expected = np.ravel(np.asarray(actual)), np.ravel(np.asarray(expected))
    with np.errstate(all="ignore"):
        are_equal = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
        differences = np.abs(actual - expected) / (1 + np.abs(expected))
        differences = np.where(are_equal, 0.0, differences)
        differences = np.where(np.isnan(differences), np.inf, differences)
    worst = int(np.argmax(differences))
    if differences[worst] > TOLERANCE:
        _raise_difference(
            reference, step, array, worst, float(actual[worst]), float(expected[worst])
        )
    return float(differences[worst])


def _raise_difference(
    reference: _Reference, step: _Step, array: str, index: int, actual: float, expected: float
) -> NoReturn:
    """Raise an `ExportError` that explains a difference."""
    difference = (
        f"step {step.t}, {array}, element {index}: the file gives {actual!r}, "
        f"the program {expected!r}"
    )
    if not np.isfinite(expected):
        raise ExportError(f"not exported: the program itself diverges ({difference})")
    rounding_change = _rounding_change(reference, step, array, index, expected)
    if rounding_change * 8 >= abs(actual - expected):
        raise ExportError(
            f"not exported: the program amplifies rounding errors ({difference}; rounding alone "
            f"changes this number by {rounding_change:.1g}); simplify the program first"
        )
    raise ExportError(
        f"not exported: the file differs from the program ({difference}); this is a bug in the "
        "export, please report it"
    )


def _rounding_change(
    reference: _Reference, step: _Step, array: str, index: int, expected: float
) -> float:
    """Return the change of one number if all values have relative errors of `_NOISE`."""
    largest = 0.0
    for seed in range(_NOISE_SAMPLES):
        rng = np.random.default_rng(seed)

        def near_one(rng: np.random.Generator = rng) -> float:
            return 1.0 + _NOISE * float(rng.choice([-1.0, 1.0]))

        noisy_step = replace(
            step,
            weights={key: weight * near_one() for key, weight in step.weights.items()},
            grads={key: grad * near_one() for key, grad in step.grads.items()},
        )
        update, next_state = reference.run(noisy_step, near_one)
        arrays = {f"update[{key!r}]": update[key] for key in SHAPES}
        for state, value in zip(reference.graph.states, next_state, strict=True):
            arrays |= {
                name: array for name, array, _ in _named_arrays(state.parameter.name, value, SHAPES)
            }
        change = abs(float(np.ravel(arrays[array])[index]) - expected)
        largest = max(largest, np.inf if np.isnan(change) else change)
    return largest
