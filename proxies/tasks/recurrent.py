"""Predicting the next character of English text with recurrent nets."""

from functools import partial

import jax
import jax.numpy as jnp

from proxies.layers import Plan, Weights, gaussian, lecun
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
    """A plain recurrent net: `h <- tanh(embed[x] + h @ recur + bias)` (Elman 1990).

    Raises:
        ValueError: `split` is "diagnostic", which has no data; or `context` does not fit.
    """

    def init(key: jax.Array) -> Weights:
        plan: Plan = {
            "embed": ((SYMBOLS, width), 0.5),
            "recur": ((width, width), lecun(width)),
            "recur_bias": ((width,), 0.0),
            "weight": ((width, SYMBOLS), lecun(width)),
            "bias": ((SYMBOLS,), 0.0),
        }
        return gaussian(key, plan)

    def model(params: Weights, codes: jax.Array) -> jax.Array:
        hot = jax.nn.one_hot(codes, SYMBOLS, dtype=params["embed"].dtype)
        x = hot @ params["embed"] + params["recur_bias"]

        def advance(state: jax.Array, now: jax.Array) -> tuple[jax.Array, jax.Array]:
            state = jnp.tanh(now + state @ params["recur"])
            return state, state

        start = jnp.zeros((codes.shape[0], width), x.dtype)
        _, states = jax.lax.scan(advance, start, x.swapaxes(0, 1))
        return states.swapaxes(0, 1) @ params["weight"] + params["bias"]

    description = f"next character of English text, recurrent net of {width} units"
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
    """A long short-term memory, whose forget gates start open (Hochreiter & Schmidhuber 1997).

    Raises:
        ValueError: `split` is "diagnostic", which has no data; or `context` does not fit.
    """

    def init(key: jax.Array) -> Weights:
        plan: Plan = {
            "embed": ((SYMBOLS, 4 * width), 0.5),
            "recur": ((width, 4 * width), lecun(width)),
            "weight": ((width, SYMBOLS), lecun(width)),
            "bias": ((SYMBOLS,), 0.0),
        }
        open_gates = jnp.zeros((4, width)).at[1].set(1.0).ravel()  # Gers et al. 2000
        return gaussian(key, plan) | {"gate_bias": open_gates}

    def model(params: Weights, codes: jax.Array) -> jax.Array:
        hot = jax.nn.one_hot(codes, SYMBOLS, dtype=params["embed"].dtype)
        x = hot @ params["embed"] + params["gate_bias"]

        def advance(
            state: tuple[jax.Array, jax.Array], now: jax.Array
        ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
            heard, cell = state
            entry, keep, shown, fresh = jnp.split(now + heard @ params["recur"], 4, axis=-1)
            cell = jax.nn.sigmoid(keep) * cell + jax.nn.sigmoid(entry) * jnp.tanh(fresh)
            heard = jax.nn.sigmoid(shown) * jnp.tanh(cell)
            return (heard, cell), heard

        start = jnp.zeros((codes.shape[0], width), x.dtype)
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
