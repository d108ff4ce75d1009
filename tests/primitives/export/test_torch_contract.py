"""Tests that exported PyTorch optimizers meet PyTorch's requirements."""

import copy
import io
import math
import pickle
import sys
import warnings

import numpy as np
import pytest
import torch

from primitives import zoo
from primitives.graph.roles import INITIAL, roles
from primitives.kinds import Kind
from tests.primitives.export.files import exported, module, optimizer_class

SHAPES = {"matrix": (4, 3), "vector": (5,), "scalar": (), "stacked": (2, 3, 4)}
STEP_COUNT = 4  # some programs change the weights only in every fourth step
for_each_program = pytest.mark.parametrize("name", zoo.names())


def random_parameters(seed=0, dtype=torch.float32):
    rng = np.random.default_rng(seed)
    return [
        torch.tensor(rng.normal(size=shape)).to(dtype).requires_grad_() for shape in SHAPES.values()
    ]


def random_gradients(seed):
    return [tensor.detach() for tensor in random_parameters(100 + seed)]


def pickle_copy(value):
    return pickle.loads(pickle.dumps(value))


def rising_schedule(completed_steps):
    """Return the schedule's value; a function of a module, unlike a lambda, can be pickled."""
    return 0.25 * (1 + completed_steps)


WITH_SCHEDULE = [
    name for name in zoo.names() if "schedule" in vars(optimizer_class(name)(random_parameters()))
]
"""Programs that need a learning-rate schedule, since their update is not proportional to it."""

WITH_MODEL_STATE = [
    name
    for name in zoo.names()
    if any(state.kind == Kind.SCALAR for state in roles(zoo.load(name)).program.states)
]
"""Programs with a state of the model, so that an array's update depends on the other arrays."""


READS_WEIGHTS = {
    name: any("w" in statement.args for statement in roles(zoo.load(name)).program.statements)
    for name in zoo.names()
}
"""Whether the update depends on the weights, by program."""


def train(optimizer, params, seeds=range(STEP_COUNT)):
    """Take a step for each seed of random gradients, and return the parameters."""
    for seed in seeds:
        for param, gradient in zip(params, random_gradients(seed), strict=True):
            param.grad = gradient.to(param.dtype)
        optimizer.step()
    return params


def assert_close(actual, expected, rtol=1e-6):
    for actual_tensor, expected_tensor in zip(actual, expected, strict=True):
        torch.testing.assert_close(
            actual_tensor, expected_tensor, rtol=rtol, atol=rtol, equal_nan=False
        )


def default_learning_rate(name):
    return exported(name, "torch").hyperparameters["learning_rate"]


# -- arguments ------------------------------------------------------------------------------------


@for_each_program
def test_defaults_are_the_programs_constants(name):
    defaults = optimizer_class(name)(random_parameters()).defaults
    expected = exported(name, "torch").hyperparameters
    assert defaults == {
        "lr" if key == "learning_rate" else key: value for key, value in expected.items()
    }


@for_each_program
def test_arguments_outside_their_intervals_are_rejected_by_name(name):
    program_roles = roles(zoo.load(name))
    rejected_count = 0
    for hyperparameter in (program_roles.learning_rate, *program_roles.hyperparameters):
        is_learning_rate = hyperparameter is program_roles.learning_rate
        argument = "lr" if is_learning_rate else hyperparameter.name
        for value in values_outside(hyperparameter.interval):
            with pytest.raises(ValueError, match=rf"{argument} must be in .*, not {value}"):
                optimizer_class(name)(random_parameters(), **{argument: value})
            rejected_count += 1
    assert rejected_count


def values_outside(interval):
    """Return numbers that are not in an interval, NaN included; [] for the whole real line."""
    numbers = []
    if math.isfinite(interval.low):
        numbers.append(interval.low if interval.open_low else interval.low - 1)
    if math.isfinite(interval.high):
        numbers.append(interval.high if interval.open_high else interval.high + 1)
    return [*numbers, math.nan] if numbers else []


@for_each_program
def test_an_empty_parameter_list_is_rejected(name):
    with pytest.raises(ValueError, match="empty parameter list"):
        optimizer_class(name)([])


# -- parameters and gradients ----------------------------------------------------------------------


@for_each_program
def test_each_group_has_its_own_learning_rate(name):
    """An array changes as if all groups had the learning rate of the array's group."""
    learning_rate = default_learning_rate(name)

    def trained(*groups):
        """Train with groups that are given by the indices of their arrays and a learning rate."""
        params = random_parameters()
        param_groups = [
            {"params": [params[index] for index in indices], "lr": lr} for indices, lr in groups
        ]
        return train(optimizer_class(name)(param_groups), params)

    two_groups = trained(((0, 3), learning_rate), ((1, 2), learning_rate / 2))
    full_rate = trained(((0, 1, 2, 3), learning_rate))
    half_rate = trained(((0, 1, 2, 3), learning_rate / 2))
    assert_close(two_groups, [full_rate[0], half_rate[1], half_rate[2], full_rate[3]])
    assert not torch.equal(full_rate[1], half_rate[1])


@for_each_program
def test_a_group_with_learning_rate_0_does_not_change(name):
    params = random_parameters()
    groups = [{"params": params[:2], "lr": 0.0}, {"params": params[2:]}]
    train(optimizer_class(name)(groups), params)
    initial = random_parameters()
    assert torch.equal(params[0], initial[0])
    assert torch.equal(params[1], initial[1])
    assert not torch.equal(params[3], initial[3])


@for_each_program
def test_a_group_can_be_added_during_training(name):
    params = random_parameters()
    optimizer = optimizer_class(name)(params[:2])
    train(optimizer, params, [0])
    optimizer.add_param_group({"params": params[2:]})
    train(optimizer, params, range(1, STEP_COUNT + 1))
    assert not torch.equal(params[3], random_parameters()[3])
    assert all(torch.isfinite(param).all() for param in params)


@for_each_program
def test_parameters_without_gradients_do_not_change(name):
    params = random_parameters()
    optimizer = optimizer_class(name)(params)
    optimizer.step()
    assert not any(optimizer.state.get(param) for param in params)
    for _ in range(STEP_COUNT):
        params[0].grad = torch.ones_like(params[0])
        optimizer.step()
    initial = random_parameters()
    assert not torch.equal(params[0], initial[0])
    for param, initial_param in zip(params[1:], initial[1:], strict=True):
        assert torch.equal(param, initial_param)
        assert not optimizer.state.get(param)


@for_each_program
def test_sparse_gradients_are_rejected(name):
    params = random_parameters()
    params[0].grad = torch.ones_like(params[0]).to_sparse()
    before = params[0].detach().clone()
    with pytest.raises(RuntimeError, match="no sparse gradients"):
        optimizer_class(name)(params).step()
    assert torch.equal(params[0], before)


@for_each_program
def test_a_step_does_not_change_gradients(name):
    params = random_parameters()
    train(optimizer_class(name)(params), params, [0])
    for param, gradient in zip(params, random_gradients(0), strict=True):
        assert torch.equal(param.grad, gradient)


@for_each_program
def test_step_calls_the_closure_once_with_gradients_enabled_and_returns_its_loss(name):
    params, calls = random_parameters(), []
    optimizer = optimizer_class(name)(params)

    def closure():
        optimizer.zero_grad()
        loss = sum((param**2).sum() for param in params)
        loss.backward()
        calls.append(loss)
        return loss

    assert optimizer.step(closure) is calls[0]
    assert len(calls) == 1
    without_closure = random_parameters()
    for param in without_closure:
        param.grad = 2 * param.detach()
    assert optimizer_class(name)(without_closure).step() is None
    assert_close(params, without_closure)


# -- states ----------------------------------------------------------------------------------------


def state_tensors(optimizer):
    return [
        value
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, torch.Tensor)
    ]


@for_each_program
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_training_resumed_from_a_saved_state_equals_uninterrupted_training(name, dtype):
    params = random_parameters(dtype=dtype)
    optimizer = optimizer_class(name)(params)
    train(optimizer, params, range(2))
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    resumed_params = [param.detach().clone().requires_grad_() for param in params]
    resumed = optimizer_class(name)(resumed_params, lr=123.0)  # the saved state replaces 123
    file.seek(0)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for saved, loaded in zip(state_tensors(optimizer), state_tensors(resumed), strict=True):
        assert saved.dtype == loaded.dtype
        assert torch.equal(saved, loaded)
        assert saved.data_ptr() != loaded.data_ptr()
    train(optimizer, params, range(2, 5))
    train(resumed, resumed_params, range(2, 5))
    assert all(map(torch.equal, params, resumed_params))


@for_each_program
@pytest.mark.parametrize("make_copy", [copy.deepcopy, pickle_copy], ids=["deepcopy", "pickle"])
def test_a_copied_optimizer_trains_equally_and_independently(name, make_copy, monkeypatch):
    monkeypatch.setitem(sys.modules, name, module(name, "torch"))  # pickle imports it by name
    params = random_parameters()
    schedule = {"schedule": rising_schedule} if name in WITH_SCHEDULE else {}
    optimizer = optimizer_class(name)(params, **schedule)
    train(optimizer, params, range(2))
    copied_optimizer = make_copy(optimizer)
    copied_params = copied_optimizer.param_groups[0]["params"]
    train(copied_optimizer, copied_params, range(2, 5))
    train(optimizer, params, range(2, 5))
    for param, copied_param in zip(params, copied_params, strict=True):
        assert torch.equal(param, copied_param)
        assert param is not copied_param


@pytest.mark.parametrize("name", WITH_SCHEDULE)
def test_schedule_is_a_function_of_the_completed_steps(name):
    """The schedule is called with 0 in the first step. The default schedule is 1 in all steps."""

    def trained_with(schedule):
        params = random_parameters()
        return train(optimizer_class(name)(params, schedule=schedule), params, range(2))

    expected = random_parameters()
    optimizer = optimizer_class(name)(expected)
    for completed in range(2):
        optimizer.schedule = lambda _, completed=completed: rising_schedule(completed)
        train(optimizer, expected, [completed])
    actual = trained_with(rising_schedule)
    assert_close(actual, expected)
    assert not torch.allclose(actual[0], trained_with(None)[0], rtol=1e-6)


@for_each_program
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_parameters_have_float32_states(name, dtype):
    params = random_parameters(dtype=dtype)
    optimizer = optimizer_class(name)(params)
    train(optimizer, params, [0])
    assert {param.dtype for param in params} == {dtype}
    assert {tensor.dtype for tensor in state_tensors(optimizer)} <= {torch.float32}


@for_each_program
def test_bfloat16_steps_equal_rounded_float32_steps(name):
    params = random_parameters(dtype=torch.bfloat16)
    float32_params = [param.detach().float().requires_grad_() for param in params]
    gradients = [gradient.bfloat16() for gradient in random_gradients(0)]
    for some_params in (params, float32_params):
        for param, gradient in zip(some_params, gradients, strict=True):
            param.grad = gradient.to(param.dtype)
        optimizer_class(name)(some_params).step()
    assert_close([param.float() for param in params], float32_params, 2**-6)


@for_each_program
def test_float64_parameters_have_float64_states_and_steps(name):
    params, float32_params = random_parameters(dtype=torch.float64), random_parameters()
    optimizer = optimizer_class(name)(params)
    train(optimizer, params, [0])
    assert {tensor.dtype for tensor in state_tensors(optimizer)} <= {torch.float64}
    train(optimizer_class(name)(float32_params), float32_params, [0])
    assert_close([param.float() for param in params], float32_params, 1e-4)


@pytest.mark.parametrize("name", [name for name in zoo.names() if name not in WITH_MODEL_STATE])
def test_updates_of_arrays_are_independent_without_a_model_state(name):
    trained_together, trained_alone = random_parameters(), random_parameters()
    train(optimizer_class(name)(trained_together), trained_together)
    for index, param in enumerate(trained_alone):
        optimizer = optimizer_class(name)([param])
        for seed in range(STEP_COUNT):
            param.grad = random_gradients(seed)[index]
            optimizer.step()
    assert_close(trained_together, trained_alone)


@for_each_program
def test_learning_rate_schedulers_of_pytorch_scale_the_update(name):
    """A scheduler that halves the learning rate twice divides the third update by 4."""
    learning_rate = default_learning_rate(name)

    def third_update(scheduler_steps):
        """Return the optimizer and its third update, at the initial parameters."""
        params, initial = random_parameters(), random_parameters()
        optimizer = optimizer_class(name)(params)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
        for seed in range(2):
            train(optimizer, params, [seed])
            if scheduler_steps:
                scheduler.step()
        with torch.no_grad():
            for param, initial_param in zip(params, initial, strict=True):
                param.copy_(initial_param)
        train(optimizer, params, [2])
        return optimizer, [
            (final - start).detach() for final, start in zip(params, initial, strict=True)
        ]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # PyTorch warns if no scheduler step is taken
        constant_optimizer, constant_update = third_update(scheduler_steps=False)
        halved_optimizer, halved_update = third_update(scheduler_steps=True)
    assert constant_optimizer.param_groups[0]["lr"] == learning_rate
    assert halved_optimizer.param_groups[0]["lr"] == pytest.approx(learning_rate / 4)
    if not READS_WEIGHTS[name]:
        for actual, constant in zip(halved_update, constant_update, strict=True):
            atol = 1e-7 + 1e-3 * float(constant.abs().max())
            torch.testing.assert_close(actual, constant / 4, rtol=1e-3, atol=atol)


def test_initial_values_of_states_are_arguments():
    name = "eg_step_size"
    positions = [
        position
        for hyperparameter in roles(zoo.load(name)).hyperparameters
        for position in hyperparameter.positions
    ]
    assert any(index == INITIAL for index, _ in positions)
    params = random_parameters()
    optimizer = optimizer_class(name)(params, initial_size=2.0)
    size = optimizer._model(params[0])["size"]
    assert float(size) == 2.0


@for_each_program
def test_a_step_uses_only_tensors_on_the_device_of_the_parameters(name):
    """PyTorch refuses to combine tensors on the device `meta` with tensors on the CPU."""
    params = [torch.zeros(shape, device="meta") for shape in SHAPES.values()]
    optimizer = optimizer_class(name)(params)
    for _ in range(2):
        for param in params:
            param.grad = torch.zeros_like(param)
        optimizer.step()
    assert all(tensor.device.type == "meta" for tensor in state_tensors(optimizer))
