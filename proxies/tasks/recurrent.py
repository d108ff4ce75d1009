"""Prediction of the next character of English text with recurrent networks."""

from functools import partial

import jax
import jax.numpy as jnp

from proxies.layers import Weights, WeightSpecs, gaussian, lecun
from proxies.registry import register
from proxies.task import Split, Task
from proxies.tasks.topics import SYMBOLS, language_model


@register("topics-recurrent", "search")
def recurrent(
    name: str,
    split: Split,
    *,
    width: int = 24,
    context: int = 12,
    batch: int = 8,
    steps: int = 200,
) -> Task:
    """Return the task of predicting characters with a recurrent network (Elman 1990).

    The state is `h <- tanh(embed[x] + h @ recur + bias)`.

    Raises:
        ValueError: `split` is "diagnostic", which has no data, or `context` is out of range.
    """

    def init(key: jax.Array) -> Weights:
        specs: WeightSpecs = {
            "embed": ((SYMBOLS, width), 0.5),
            "recur": ((width, width), lecun(width)),
            "recur_bias": ((width,), 0.0),
            "weight": ((width, SYMBOLS), lecun(width)),
            "bias": ((SYMBOLS,), 0.0),
        }
        return gaussian(key, specs)

    def model(params: Weights, tokens: jax.Array) -> jax.Array:
        one_hot = jax.nn.one_hot(tokens, SYMBOLS, dtype=params["embed"].dtype)
        x = one_hot @ params["embed"] + params["recur_bias"]

        def advance(state: jax.Array, inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
            state = jnp.tanh(inputs + state @ params["recur"])
            return state, state

        start = jnp.zeros((tokens.shape[0], width), x.dtype)
        _, states = jax.lax.scan(advance, start, x.swapaxes(0, 1))
        return states.swapaxes(0, 1) @ params["weight"] + params["bias"]

    description = f"next character of English text, recurrent network of {width} units"
    return language_model(
        name,
        split,
        description,
        context=context,
        batch=batch,
        steps=steps,
        init=init,
        model=model,
    )


register("topics-recurrent-10x", "validation")(
    partial(recurrent, width=40, context=16, batch=16, steps=520)
)
register("topics-recurrent-100x", "validation")(
    partial(recurrent, width=96, context=24, batch=16, steps=1750)
)


@register("topics-lstm", "held-out")
def lstm(
    name: str,
    split: Split,
    *,
    width: int = 64,
    context: int = 32,
    batch: int = 16,
    steps: int = 800,
) -> Task:
    """Return the task of predicting characters with an LSTM (Hochreiter & Schmidhuber 1997).

    The biases of the forget gates start at 1 (Gers et al. 2000).

    Raises:
        ValueError: `split` is "diagnostic", which has no data, or `context` is out of range.
    """

    def init(key: jax.Array) -> Weights:
        specs: WeightSpecs = {
            "embed": ((SYMBOLS, 4 * width), 0.5),
            "recur": ((width, 4 * width), lecun(width)),
            "weight": ((width, SYMBOLS), lecun(width)),
            "bias": ((SYMBOLS,), 0.0),
        }
        open_gates = jnp.zeros((4, width)).at[1].set(1.0).ravel()
        return gaussian(key, specs) | {"gate_bias": open_gates}

    def model(params: Weights, tokens: jax.Array) -> jax.Array:
        one_hot = jax.nn.one_hot(tokens, SYMBOLS, dtype=params["embed"].dtype)
        x = one_hot @ params["embed"] + params["gate_bias"]

        def advance(
            state: tuple[jax.Array, jax.Array], inputs: jax.Array
        ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
            hidden, cell = state
            # Input, forget and output gates, and the candidate.
            i, f, o, g = jnp.split(inputs + hidden @ params["recur"], 4, axis=-1)
            cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
            hidden = jax.nn.sigmoid(o) * jnp.tanh(cell)
            return (hidden, cell), hidden

        start = jnp.zeros((tokens.shape[0], width), x.dtype)
        _, states = jax.lax.scan(advance, (start, start), x.swapaxes(0, 1))
        return states.swapaxes(0, 1) @ params["weight"] + params["bias"]

    description = f"next character of English text, LSTM of {width} units"
    return language_model(
        name,
        split,
        description,
        context=context,
        batch=batch,
        steps=steps,
        init=init,
        model=model,
    )
