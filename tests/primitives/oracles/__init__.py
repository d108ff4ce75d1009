"""Independent implementations of the zoo's optimizers (oracles), all in float64.

An oracle is a function of the initial weights that returns a function `step(weights, grads, t)`.
`step` updates the oracle's state and returns the update, which is subtracted from the weights.
Weights, gradients and updates are dicts of NumPy arrays, and t is the number of the step, from 1.

Programs round their constants to float32, so oracles round theirs with `as_float32`: then equal
formulas give equal results up to float64 rounding.
"""

import numpy as np


def as_float32(value):
    """Return `value` rounded to float32, as programs round their constants."""
    return float(np.float32(value))
