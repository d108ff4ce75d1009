"""The check of an exported file: its steps are those of the reference interpreter, in float64.

Every step starts from the reference's state, on fresh random weights, gradients and schedule
values, with some gradients zero. The program's constants are read from scalar states there
(`roles.lift`), so that the file and the reference compute with the same numbers: at first the
defaults as the file has them (0.9, where a program means float32's 0.9), then others within their
intervals, so that a hyperparameter that does not do what its constant did is found too.
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
from primitives.graph.roles import lift, roles
from primitives.graph.statements import INITIAL, Place
from primitives.kinds import Kind
from primitives.machine import reference
from primitives.program import Program, Statement

SHAPES = {"matrix": (4, 3), "vector": (5,), "scalar": (), "stacked": (2, 3, 4)}
"""What a file is tried on: a matrix, a vector, a single weight and a stack of matrices."""

KEYS = sorted(SHAPES)
"""The arrays in the order in which JAX flattens a dict, and the reference keeps them."""

STEPS = 100
TOLERANCE = 1e-9
"""The largest |difference| / (1 + |reference|)."""

_NOISE = 1e-13
_NOISES = 3


@dataclass(frozen=True)
class Report:
    """A passed check: the steps, and the largest |difference| / (1 + |reference|)."""

    steps: int
    largest_difference: float


@dataclass(frozen=True)
class _Step:
    """One step's inputs, and what the reference makes of them."""

    t: int
    shape: float
    hyperparameters: dict[str, float]
    weights: dict[str, np.ndarray]
    grads: dict[str, np.ndarray]
    state: tuple[Any, ...]
    update: dict[str, np.ndarray]
    following: tuple[Any, ...]


def check(file: Exported, steps: int = STEPS) -> Report:
    """Runs an exported file beside the reference interpreter.

    Raises:
        ExportError: they differ, or the file cannot be run: says where, and what to do.
    """
    run = {"optax": _run_optax, "torch": _run_torch}[file.target]
    lifted = _Lifted(file.program)
    largest = 0.0
    module = load(file)
    for expected, update, following in run(file, module, lifted, list(lifted.steps(steps))):
        pairs = [(f"update[{key!r}]", expected.update[key], update[key]) for key in SHAPES]
        for state, ours, theirs in zip(
            lifted.graph.states, expected.following, following, strict=True
        ):
            pairs += _named_arrays(state.parameter.name, ours, theirs)
        for array, wanted, found in pairs:
            largest = max(largest, _compare(lifted, expected, array, wanted, found))
    return Report(steps, largest)


def load(file: Exported) -> types.ModuleType:
    """An exported file as a module: our own text, with nothing of the program's in it but numbers
    and names that were checked.

    Raises:
        ExportError: PyTorch is needed and not installed.
    """
    if file.target == "torch":
        try:
            import torch  # noqa: F401
        except ImportError:
            raise ExportError(
                "a file is checked before it is written, and PyTorch is not installed; "
                "pip install torch"
            ) from None
    module = types.ModuleType(file.name)
    exec(compile(file.source, f"{file.name}.py", "exec"), module.__dict__)
    return module


# -- the reference ------------------------------------------------------------------------------


class _Lifted:
    """The reference with its constants given at each step."""

    def __init__(self, program: Program):
        self.graph: Lowered = lower(program)
        self.roles = roles(program)
        self.all = (self.roles.learning_rate, *self.roles.hyperparameters)
        places: dict[Place, str] = {}
        for one in self.all:
            for number, place in enumerate((*one.places, *one.unit_places)):
                if place[0] != INITIAL:
                    places[place] = f"<{one.name}>" if number < len(one.places) else "<1>"
        self.program = lift(self.graph.program, places)
        self.lifted = tuple(dict.fromkeys(places.values()))
        self.defaults = {one.name: one.value for one in self.all}
        self.rate_in_program = bool(self.roles.learning_rate.places)

    def steps(self, count: int) -> Iterator[_Step]:
        """Random steps, each from the state that the one before led to."""
        rng = np.random.default_rng(0)
        weights = _drawn(rng)
        full = reference.initial_state(self.program, weights, np)
        state = full[: len(self.graph.states)]
        for t in range(1, count + 1):
            given = self.defaults if t <= max(1, count // 4) else self._varied(rng)
            weights, grads, shape = _drawn(rng), _drawn(rng), float(rng.uniform(0.05, 1.0))
            for key in SHAPES:
                if SHAPES[key]:
                    grads[key].reshape(-1)[: 1 + t % 2] = 0.0
            step = _Step(t, shape, given, weights, grads, state, {}, ())
            update, following = self.run(step)
            yield replace(step, update=update, following=following)
            state = following

    def run(
        self, step: _Step, noise: Callable[[], float] | None = None
    ) -> tuple[dict[str, np.ndarray], tuple[Any, ...]]:
        """The reference's update and next states; with `noise`, every value is off by a factor."""
        program, values = self.program, dict(step.hyperparameters) | {"1": 1.0}
        constants: list[float] = [values[name.strip("<>")] for name in self.lifted]
        if noise is not None:
            program, factors = _noisy(program, noise)
            constants += factors
        entering = (*step.state, *(np.float64(value) for value in constants))
        update, following = reference.step(
            program, entering, step.weights, step.grads, lr=step.shape, t=float(step.t), xp=np
        )
        if not self.rate_in_program:
            with np.errstate(all="ignore"):
                rate = step.hyperparameters["learning_rate"]
                update = {key: rate * array for key, array in update.items()}
        return update, following[: len(self.graph.states)]

    def _varied(self, rng: np.random.Generator) -> dict[str, float]:
        """The defaults, each up to a tenth nearer to 0 (which is within every interval)."""
        return {name: value * rng.uniform(0.9, 1.0) for name, value in self.defaults.items()}


def _drawn(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {key: np.asarray(rng.normal(size=shape)) for key, shape in SHAPES.items()}


def _noisy(program: Program, noise: Callable[[], float]) -> tuple[Program, list[float]]:
    """`program` with every statement's result multiplied by a factor near 1, and the factors."""
    statements, names = [], []
    for number, statement in enumerate(program.statements):
        names.append(f"<noise {number}>")
        statements += [
            statement,
            Statement(statement.target, "multiply", (statement.target, 1.0)),
        ]
    noisy = Program(program.parameters, tuple(statements), program.returns)
    places = {(2 * number + 1, 1): name for number, name in enumerate(names)}
    return lift(noisy, places), [noise() for _ in names]


# -- the files ------------------------------------------------------------------------------------


_Outcome = tuple[_Step, dict[str, np.ndarray], tuple[Any, ...]]


def _run_optax(
    file: Exported, module: types.ModuleType, lifted: _Lifted, steps: list[_Step]
) -> Iterator[_Outcome]:
    alias, variables = getattr(module, file.name), lifted.graph.states
    names = [file.states[variable.parameter.name] for variable in variables]

    def made(hyperparameters: Mapping[str, Any], shape: Any) -> Any:
        given = dict(hyperparameters)
        if lifted.graph.reads("lr"):
            given["schedule"] = shape
        elif lifted.roles.scheduled:
            given["learning_rate"] = given["learning_rate"] * shape
        return alias(**given)

    @jax.jit
    def update(hyperparameters: Any, shape: Any, grads: Any, state: Any, weights: Any) -> Any:
        return made(hyperparameters, shape).update(grads, state, weights)

    with jax.enable_x64(True):
        state = made(lifted.defaults, 1.0).init(jax.tree.map(jnp.asarray, steps[0].weights))
        _compare_start(lifted, steps[0], [getattr(state[0], name) for name in names])
        for step in steps:
            entering = {
                name: _like(value, getattr(state[0], name))
                for name, value in zip(names, step.state, strict=True)
            }
            if entering:
                state = (state[0]._replace(**entering), *state[1:])
            updates, state = update(
                step.hyperparameters, step.shape, step.grads, state, step.weights
            )
            moved = {key: -np.asarray(value) for key, value in updates.items()}
            yield step, moved, tuple(getattr(state[0], name) for name in names)


def _like(value: Any, kept: Any) -> Any:
    """The reference's state in the shapes in which the file keeps it."""
    if not isinstance(value, list):
        return jnp.asarray(value)
    return {
        key: jnp.asarray(np.reshape(array, kept[key].shape))
        for key, array in zip(KEYS, value, strict=True)
    }


def _run_torch(
    file: Exported, module: types.ModuleType, lifted: _Lifted, steps: list[_Step]
) -> Iterator[_Outcome]:
    import torch

    params = {key: torch.tensor(array) for key, array in steps[0].weights.items()}
    groups = [{"params": [params[key] for key in some]} for some in (KEYS[:2], KEYS[2:])]
    extra: dict[str, Any] = {}
    if lifted.graph.reads("lr"):
        extra["schedule"] = lambda done: steps[done].shape
    optimizer = getattr(module, camel_case(file.name))(groups, **extra)
    for step in steps:
        rate = step.hyperparameters["learning_rate"]
        if lifted.roles.scheduled and not extra:
            rate *= step.shape
        for group in optimizer.param_groups:
            group.update(step.hyperparameters | {"lr": rate})
        for key, p in params.items():
            p.copy_(torch.tensor(step.weights[key]))
            p.grad = torch.tensor(step.grads[key])
        kept = _torch_states(file, optimizer, lifted, params)
        if step is steps[0]:
            _compare_start(lifted, step, kept)
        for tensors, value in zip(kept, step.state, strict=True):
            if not isinstance(value, list):
                tensors.fill_(float(value))
                continue
            for key, array in zip(KEYS, value, strict=True):
                tensors[key].copy_(torch.tensor(np.reshape(array, tensors[key].shape)))
        optimizer.step()
        moved = {key: step.weights[key] - p.numpy() for key, p in params.items()}
        yield step, moved, tuple(kept)


def _torch_states(
    file: Exported, optimizer: Any, lifted: _Lifted, params: dict[str, Any]
) -> list[Any]:
    """The tensors that the file keeps, which it writes in place; made if this is the first step."""
    found: list[Any] = []
    for variable in lifted.graph.states:
        name = file.states[variable.parameter.name]
        if variable.parameter.kind == Kind.SCALAR:
            found.append(optimizer._model(params[KEYS[0]])[name])
        else:
            found.append({key: optimizer._state(params[key])[name] for key in KEYS})
    return found


# -- comparing ------------------------------------------------------------------------------------


def _named_arrays(name: str, ours: Any, theirs: Any) -> list[tuple[str, Any, Any]]:
    if not isinstance(ours, list):
        return [(name, ours, theirs)]
    return [(f"{name}[{key!r}]", a, theirs[key]) for key, a in zip(KEYS, ours, strict=True)]


def _compare_start(lifted: _Lifted, first: _Step, found: Any) -> None:
    for state, ours, theirs in zip(lifted.graph.states, first.state, found, strict=True):
        for array, wanted, started in _named_arrays(state.parameter.name, ours, theirs):
            if not np.allclose(np.ravel(wanted), np.ravel(started), rtol=1e-6, atol=0):
                raise ExportError(f"{array} starts with {np.ravel(started)[0]!r}")


def _compare(lifted: _Lifted, step: _Step, array: str, wanted: Any, found: Any) -> float:
    """The largest |difference| / (1 + |reference|); both not finite in the same way is none."""
    a, b = np.ravel(np.asarray(found)), np.ravel(np.asarray(wanted))
    with np.errstate(all="ignore"):
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        error = np.where(same, 0.0, np.abs(a - b) / (1 + np.abs(b)))
        error = np.where(np.isnan(error), np.inf, error)
    worst = int(np.argmax(error))
    if error[worst] > TOLERANCE:
        _refuse(lifted, step, array, worst, float(a[worst]), float(b[worst]))
    return float(error[worst])


def _refuse(
    lifted: _Lifted, step: _Step, array: str, index: int, found: float, wanted: float
) -> NoReturn:
    where = f"step {step.t}, {array}, number {index}: the file gives {found!r}, "
    where += f"the program {wanted!r}"
    if not np.isfinite(wanted):
        raise ExportError(f"not exported, since the program diverges by itself: {where}")
    spread = _spread(lifted, step, array, index, wanted)
    if spread * 8 >= abs(found - wanted):
        raise ExportError(
            f"not exported, since rounding decides what the program computes: {where}, and errors "
            f"in the last places move that by {spread:.1g}; simplify the program"
        )
    raise ExportError(f"the exported file is not the program, a defect of the export: {where}")


def _spread(lifted: _Lifted, step: _Step, array: str, index: int, wanted: float) -> float:
    """How far errors of a few units in the last place of all values move the number."""
    largest = 0.0
    for seed in range(_NOISES):
        rng = np.random.default_rng(seed)

        def near_one(rng: np.random.Generator = rng) -> float:
            return 1.0 + _NOISE * float(rng.choice([-1.0, 1.0]))

        disturbed = replace(
            step,
            weights={key: x * near_one() for key, x in step.weights.items()},
            grads={key: x * near_one() for key, x in step.grads.items()},
        )
        update, following = lifted.run(disturbed, near_one)
        arrays = {f"update[{key!r}]": update[key] for key in SHAPES}
        for state, value in zip(lifted.graph.states, following, strict=True):
            arrays |= {name: x for name, x, _ in _named_arrays(state.parameter.name, value, SHAPES)}
        moved = abs(float(np.ravel(arrays[array])[index]) - wanted)
        largest = max(largest, np.inf if np.isnan(moved) else moved)
    return largest
