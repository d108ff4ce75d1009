"""Exported PyTorch files meet PyTorch's requirements on an optimizer."""

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
STEPS = 4  # some programs change the weights only in every fourth step
EVERY = pytest.mark.parametrize("name", zoo.names())


def parameters(seed=0, dtype=torch.float32):
    rng = np.random.default_rng(seed)
    return [
        torch.tensor(rng.normal(size=shape)).to(dtype).requires_grad_() for shape in SHAPES.values()
    ]


def unpickled(value):
    return pickle.loads(pickle.dumps(value))


def rising(completed_steps):
    """Return the value of a schedule that can be pickled."""
    return 0.25 * (1 + completed_steps)


WITH_SCHEDULE = [
    name for name in zoo.names() if "schedule" in vars(optimizer_class(name)(parameters()))
]
"""Programs whose update is not proportional to the learning-rate schedule."""

WITH_MODEL_STATE = [
    name
    for name in zoo.names()
    if any(p.kind == Kind.SCALAR for p in roles(zoo.load(name)).program.states)
]
"""Programs with a state of the model: an array's update depends on the other arrays."""


READS_WEIGHTS = {
    name: any("w" in s.args for s in roles(zoo.load(name)).program.statements)
    for name in zoo.names()
}
"""Whether the update depends on the weights, by program."""


def train(optimizer, params, steps=range(STEPS)):
    """Perform a step for each number in `steps`, which is the seed of the random gradients."""
    for number in steps:
        for p, g in zip(params, parameters(100 + number), strict=True):
            p.grad = g.detach().to(p.dtype)
        optimizer.step()
    return params


def assert_close(actual, expected, rtol=1e-6):
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=rtol, equal_nan=False)


def default(name, key):
    return exported(name, "torch").hyperparameters["learning_rate" if key == "lr" else key]


# -- arguments ------------------------------------------------------------------------------------


@EVERY
def test_defaults_are_the_programs_constants(name):
    defaults = optimizer_class(name)(parameters()).defaults
    expected = exported(name, "torch").hyperparameters
    assert defaults == {"lr" if k == "learning_rate" else k: v for k, v in expected.items()}


@EVERY
def test_arguments_outside_their_intervals_are_rejected_by_name(name):
    program_roles = roles(zoo.load(name))
    count = 0
    for hyperparameter in (program_roles.learning_rate, *program_roles.hyperparameters):
        is_rate = hyperparameter is program_roles.learning_rate
        key = "lr" if is_rate else hyperparameter.name
        interval = hyperparameter.interval
        low, high = interval.low, interval.high
        outside = [low - 1] * math.isfinite(low) + [high + 1] * math.isfinite(high)
        outside += [low] * interval.open_low * math.isfinite(low)
        outside += [high] * interval.open_high * math.isfinite(high)
        count += len(outside)
        for value in (*outside, *[math.nan] * bool(outside)):
            with pytest.raises(ValueError, match=rf"{key} must be in .*, not {value}"):
                optimizer_class(name)(parameters(), **{key: value})
    assert count


@EVERY
def test_an_empty_parameter_list_is_rejected(name):
    with pytest.raises(ValueError, match="empty parameter list"):
        optimizer_class(name)([])


# -- parameters and gradients ----------------------------------------------------------------------


@EVERY
def test_each_group_has_its_own_learning_rate(name):
    """An array changes as if all groups had the learning rate of its group."""
    rate = default(name, "lr")

    def trained(*groups):
        params = parameters()
        options = [{"params": [params[i] for i in indices], "lr": lr} for indices, lr in groups]
        return train(optimizer_class(name)(options), params)

    grouped = trained(((0, 3), rate), ((1, 2), rate / 2))
    full, half = trained(((0, 1, 2, 3), rate)), trained(((0, 1, 2, 3), rate / 2))
    assert_close(grouped, [full[0], half[1], half[2], full[3]])
    assert not torch.equal(full[1], half[1])


@EVERY
def test_a_group_with_learning_rate_0_does_not_change(name):
    params = parameters()
    groups = [{"params": params[:2], "lr": 0.0}, {"params": params[2:]}]
    train(optimizer_class(name)(groups), params)
    start = parameters()
    assert all(torch.equal(p, s) for p, s in zip(params[:2], start[:2], strict=True))
    assert not torch.equal(params[3], start[3])


@EVERY
def test_a_group_can_be_added_during_training(name):
    params = parameters()
    optimizer = optimizer_class(name)(params[:2])
    train(optimizer, params, range(1))
    optimizer.add_param_group({"params": params[2:]})
    train(optimizer, params, range(1, STEPS + 1))
    assert not torch.equal(params[3], parameters()[3])
    assert all(torch.isfinite(p).all() for p in params)


@EVERY
def test_parameters_without_gradients_do_not_change(name):
    params = parameters()
    optimizer = optimizer_class(name)(params)
    optimizer.step()
    assert not any(optimizer.state.get(p) for p in params)
    for _ in range(STEPS):
        params[0].grad = torch.ones_like(params[0])
        optimizer.step()
    start = parameters()
    assert not torch.equal(params[0], start[0])
    for p, s in zip(params[1:], start[1:], strict=True):
        assert torch.equal(p, s)
        assert not optimizer.state.get(p)


@EVERY
def test_sparse_gradients_are_rejected(name):
    params = parameters()
    params[0].grad = torch.ones_like(params[0]).to_sparse()
    before = params[0].detach().clone()
    with pytest.raises(RuntimeError, match="no sparse gradients"):
        optimizer_class(name)(params).step()
    assert torch.equal(params[0], before)


@EVERY
def test_a_step_does_not_change_gradients(name):
    params = parameters()
    train(optimizer_class(name)(params), params, range(1))
    for p, g in zip(params, parameters(100), strict=True):
        assert torch.equal(p.grad, g)


@EVERY
def test_step_calls_the_closure_once_with_gradients_enabled_and_returns_its_loss(name):
    params, calls = parameters(), []
    optimizer = optimizer_class(name)(params)

    def closure():
        optimizer.zero_grad()
        loss = sum((p**2).sum() for p in params)
        loss.backward()
        calls.append(loss)
        return loss

    assert optimizer.step(closure) is calls[0]
    assert len(calls) == 1
    other = parameters()
    for p in other:
        p.grad = 2 * p.detach()
    assert optimizer_class(name)(other).step() is None
    assert_close(params, other)


# -- states ----------------------------------------------------------------------------------------


def state_tensors(optimizer):
    return [
        value
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, torch.Tensor)
    ]


@EVERY
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_training_resumed_from_a_saved_state_equals_uninterrupted_training(name, dtype):
    params = parameters(dtype=dtype)
    optimizer = optimizer_class(name)(params)
    train(optimizer, params, range(2))
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    copied = [p.detach().clone().requires_grad_() for p in params]
    resumed = optimizer_class(name)(copied, lr=123.0)
    file.seek(0)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for a, b in zip(state_tensors(optimizer), state_tensors(resumed), strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
        assert a.data_ptr() != b.data_ptr()
    train(optimizer, params, range(2, 5))
    train(resumed, copied, range(2, 5))
    assert all(torch.equal(a, b) for a, b in zip(params, copied, strict=True))


@EVERY
@pytest.mark.parametrize("copied", [copy.deepcopy, unpickled], ids=["copied", "pickled"])
def test_a_copied_optimizer_trains_equally_and_independently(name, copied, monkeypatch):
    monkeypatch.setitem(sys.modules, name, module(name, "torch"))  # as if it were imported
    params = parameters()
    schedule = {"schedule": rising} if name in WITH_SCHEDULE else {}
    optimizer = optimizer_class(name)(params, **schedule)
    train(optimizer, params, range(2))
    copied_optimizer = copied(optimizer)
    copied_params = copied_optimizer.param_groups[0]["params"]
    train(copied_optimizer, copied_params, range(2, 5))
    train(optimizer, params, range(2, 5))
    assert all(torch.equal(p, c) for p, c in zip(params, copied_params, strict=True))
    assert not any(p is c for p, c in zip(params, copied_params, strict=True))


@pytest.mark.parametrize("name", WITH_SCHEDULE)
def test_schedule_is_a_function_of_the_completed_steps(name):
    """The schedule is called with 0 in the first step. The default schedule is 1 in all steps."""
    with_schedule, without = (
        train(optimizer_class(name)(p, schedule=schedule), p, range(2))
        for p, schedule in ((parameters(), rising), (parameters(), None))
    )
    expected = parameters()
    optimizer = optimizer_class(name)(expected)
    for number in range(2):
        optimizer.schedule = lambda completed_steps, n=number: rising(n)
        train(optimizer, expected, [number])
    assert_close(with_schedule, expected)
    assert not torch.allclose(with_schedule[0], without[0], rtol=1e-6)


@EVERY
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_parameters_have_float32_states(name, dtype):
    params = parameters(dtype=dtype)
    optimizer = optimizer_class(name)(params)
    train(optimizer, params, range(1))
    assert {p.dtype for p in params} == {dtype}
    assert {x.dtype for x in state_tensors(optimizer)} <= {torch.float32}


@EVERY
def test_bfloat16_steps_equal_rounded_float32_steps(name):
    params = parameters(dtype=torch.bfloat16)
    in_float32 = [p.detach().float().requires_grad_() for p in params]
    grads = [g.detach().bfloat16() for g in parameters(100)]
    for group in (params, in_float32):
        for p, g in zip(group, grads, strict=True):
            p.grad = g.to(p.dtype)
        optimizer_class(name)(group).step()
    assert_close([p.float() for p in params], in_float32, 2**-6)


@EVERY
def test_float64_parameters_have_float64_states_and_steps(name):
    params, in_float32 = parameters(dtype=torch.float64), parameters()
    optimizer = optimizer_class(name)(params)
    train(optimizer, params, range(1))
    assert {x.dtype for x in state_tensors(optimizer)} <= {torch.float64}
    train(optimizer_class(name)(in_float32), in_float32, range(1))
    assert_close([p.float() for p in params], in_float32, 1e-4)


@pytest.mark.parametrize("name", [name for name in zoo.names() if name not in WITH_MODEL_STATE])
def test_updates_of_arrays_are_independent_without_a_model_state(name):
    params, alone = parameters(), parameters()
    train(optimizer_class(name)(params), params)
    for p, *grads in zip(alone, *(parameters(100 + n) for n in range(STEPS)), strict=True):
        optimizer = optimizer_class(name)([p])
        for g in grads:
            p.grad = g.detach()
            optimizer.step()
    assert_close(params, alone)


@EVERY
def test_learning_rate_schedulers_of_pytorch_scale_the_update(name):
    """After two steps of the scheduler, learning rate and update are a quarter."""
    rate = default(name, "lr")

    def moves(scheduled):
        params = parameters()
        optimizer = optimizer_class(name)(params)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
        for number in range(2):
            train(optimizer, params, [number])
            if scheduled:
                scheduler.step()
        with torch.no_grad():
            for p, s in zip(params, parameters(), strict=True):
                p.copy_(s)
        train(optimizer, params, [2])
        return optimizer, [p - s for p, s in zip(params, parameters(), strict=True)]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a scheduler that never steps
        (plain, full), (falling, quarter) = moves(False), moves(True)
    assert plain.param_groups[0]["lr"] == rate
    assert falling.param_groups[0]["lr"] == pytest.approx(rate / 4)
    if not READS_WEIGHTS[name]:
        for a, b in zip(quarter, full, strict=True):
            torch.testing.assert_close(
                a, b / 4, rtol=1e-3, atol=1e-7 + 1e-3 * float(b.detach().abs().max())
            )


def test_initial_values_of_states_are_arguments():
    name = "eg_step_size"
    assert any(p[0] == INITIAL for h in roles(zoo.load(name)).hyperparameters for p in h.positions)
    params = parameters()
    optimizer = optimizer_class(name)(params, initial_size=2.0)
    size = optimizer._model(params[0])["size"]
    assert float(size) == 2.0


@EVERY
def test_a_step_mixes_no_devices(name):
    """Like a GPU, the device `meta` accepts only numbers and tensors on the same device."""
    params = [torch.zeros(shape, device="meta") for shape in SHAPES.values()]
    optimizer = optimizer_class(name)(params)
    for _ in range(2):
        for p in params:
            p.grad = torch.zeros_like(p)
        optimizer.step()
    assert all(x.device.type == "meta" for x in state_tensors(optimizer))
