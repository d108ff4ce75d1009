"""Oracles from optax; the zoo has optax's default values and adds epsilon where optax does."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax.contrib import MuonDimensionNumbers

from tests.primitives.oracles import as_float32

B1, B2, EPS = as_float32(0.9), as_float32(0.999), as_float32(1e-8)
ADAM = {"b1": B1, "b2": B2, "eps": EPS}


def adafactor(learning_rate, **options):
    """Return optax's Adafactor with the constants of the paper, factored for all matrices."""
    return optax.adafactor(
        learning_rate,
        min_dim_size_to_factor=1,
        decay_rate=as_float32(0.8),
        clipping_threshold=1.0,
        eps=as_float32(1e-30),
        **options,
    )


def relative_step(count):
    """Return the learning rate of the paper for the step after `count` steps."""
    return jnp.minimum(as_float32(1e-2), (count + 1.0) ** -0.5)


def muon_of_matrices():
    """Return optax's Muon for arrays of any shape, which are viewed as matrices as in programs.

    The last two axes are a matrix; a vector of n numbers is n x 1, and a single number is 1 x 1.
    """

    def as_matrices(tree):
        return jax.tree.map(lambda x: x.reshape(-1, *matrix_shape(x.shape)), tree)

    def matrix_shape(shape):
        return shape[-2:] if len(shape) >= 2 else (*shape, 1) if shape else (1, 1)

    def dimension_numbers(tree):
        numbers = MuonDimensionNumbers(reduction_axis=1, output_axis=2)
        return jax.tree.map(lambda _: numbers, tree)

    muon = optax.contrib.muon(
        as_float32(0.02),
        (3.4445, -4.775, 2.0315),
        beta=as_float32(0.95),
        eps=1e-30,  # makes 0 / (0 + eps) zero, since 0 / 0 is 0 in programs
        muon_weight_dimension_numbers=dimension_numbers,
    )

    def update(grads, state, params):
        updates, state = muon.update(as_matrices(grads), state, as_matrices(params))
        return jax.tree.map(
            lambda update, weights: update.reshape(weights.shape), updates, params
        ), state

    return optax.GradientTransformation(lambda params: muon.init(as_matrices(params)), update)


OPTIMIZERS = {
    "adabelief": lambda: optax.adabelief(
        as_float32(1e-3), B1, B2, eps=as_float32(1e-16), eps_root=as_float32(1e-16)
    ),
    "adadelta": lambda: optax.adadelta(1.0, rho=B1, eps=as_float32(1e-6)),
    "adafactor": lambda: adafactor(relative_step),
    "adafactor_external": lambda: adafactor(as_float32(1e-3), multiply_by_parameter_scale=False),
    "adafactor_momentum": lambda: adafactor(relative_step, momentum=B1, dtype_momentum=jnp.float64),
    "adagrad": lambda: optax.adagrad(as_float32(0.01), as_float32(0.1), eps=as_float32(1e-7)),
    "adam": lambda: optax.adam(as_float32(1e-3), **ADAM),
    "adam_corrected_decay": lambda: optax.adam(as_float32(1e-3), b1=0.0, b2=B2, eps=EPS),
    "adam_no_momentum": lambda: optax.adam(as_float32(1e-3), b1=0.0, b2=B2, eps=EPS),
    "adamax": lambda: optax.adamax(as_float32(2e-3), **ADAM),
    "adamw": lambda: optax.adamw(as_float32(1e-3), **ADAM, weight_decay=as_float32(0.01)),
    "amsgrad": lambda: optax.amsgrad(as_float32(1e-3), **ADAM),
    "lamb": lambda: optax.lamb(
        as_float32(1e-3), B1, B2, eps=as_float32(1e-6), weight_decay=as_float32(0.01)
    ),
    "lars": lambda: optax.lars(
        1.0, weight_decay=as_float32(5e-4), trust_coefficient=as_float32(1e-3), momentum=B1
    ),
    "lion": lambda: optax.lion(
        as_float32(1e-4), B1, as_float32(0.99), weight_decay=as_float32(0.1)
    ),
    "momentum": lambda: optax.sgd(1.0, momentum=B1),
    "momentum_accumulated": lambda: optax.MultiSteps(
        optax.sgd(1.0, momentum=B1), 4, accumulator_dtype=jnp.float64
    ),
    "muon": muon_of_matrices,
    "nadam": lambda: optax.nadam(as_float32(2e-3), **ADAM),
    "nesterov": lambda: optax.sgd(1.0, momentum=B1, nesterov=True),
    "rmsprop": lambda: optax.rmsprop(as_float32(1e-3), decay=B1, eps=EPS, eps_in_sqrt=True),
    "sgd": lambda: optax.sgd(1.0),
    "sign_sgd": lambda: optax.sign_sgd(as_float32(1e-4)),
    "signum": lambda: optax.signum(as_float32(1e-4), beta=B1),
    "yogi": lambda: optax.chain(
        optax.scale_by_yogi(B1, B2, as_float32(1e-3), initial_accumulator_value=as_float32(1e-6)),
        optax.scale_by_learning_rate(as_float32(0.01)),
    ),
}


def oracle(name):
    """Return the oracle that wraps the optimizer `OPTIMIZERS[name]`."""

    def start(weights):
        with jax.enable_x64(True):
            optimizer = OPTIMIZERS[name]()
            state = optimizer.init(jax.tree.map(jnp.asarray, weights))
        update = jax.jit(optimizer.update)

        def step(weights, grads, t):
            nonlocal state
            with jax.enable_x64(True):
                updates, state = update(grads, state, weights)
            return jax.tree.map(lambda x: -np.asarray(x), updates)

        return step

    return start
