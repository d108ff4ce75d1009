"""Independent implementations of the zoo's optimizers, all in float64.

An oracle is a function of the initial weights that returns a step, `step(weights, grads, t)`, which
keeps its own state and gives what is to be subtracted from the weights. Weights are dicts of NumPy
arrays; the step's number t is for those that do not count by themselves. A program's constants
mean their float32 values, so oracles take them through `single`: what is compared is then formulas
alone, to the last digits.
"""

import numpy as np


def single(value):
    """`value` rounded to float32, as a constant of a program is."""
    return float(np.float32(value))
