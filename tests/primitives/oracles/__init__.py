"""Independent implementations of the zoo's optimizers, all in float64.

An oracle is a function of the initial weights that returns a function `step(weights, grads, t)`. A
step updates the oracle's state and returns what to subtract from the weights. Weights, gradients
and updates are dicts of NumPy arrays; t is the number of the step, from 1. Constants of a program
are rounded to float32, so oracles round theirs with `single`. Results then agree to the last digits
if the formulas do.
"""

import numpy as np


def single(value):
    """Return `value` rounded to float32, as constants of programs are."""
    return float(np.float32(value))
