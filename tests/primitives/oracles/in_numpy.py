"""Oracles in NumPy, written from papers, for optimizers that neither optax nor PyTorch has.

Most optimizers treat arrays separately. Each is a function `rule(memory, w, g, t)` that returns the
update of one array: `memory` is a dict that keeps the array's state, `w` the weights, `g` the
gradient, and `t` the number of the step, from 1. Rules follow the papers, not the programs of the
zoo: where a paper has a sum over all past steps, the rule computes this sum.
"""

from collections import defaultdict

import numpy as np

from tests.primitives.oracles import as_float32

B1, B2, EPS, LEARNING_RATE = as_float32(0.9), as_float32(0.999), as_float32(1e-8), as_float32(1e-3)


def average(memory, name, x, beta):
    """Update and return the exponential moving average of `x`, which starts at zero."""
    memory[name] = beta * memory.get(name, 0.0) + (1 - beta) * x
    return memory[name]


def discounted_sum(past, beta):
    """Return the sum over k of beta^k times the value k steps ago; the last value is the newest."""
    return sum(beta**age * x for age, x in enumerate(reversed(past)))


def ratio(x, y):
    """Return x / y, and 0 where y is 0."""
    return np.divide(x, y, out=np.zeros(np.broadcast(x, y).shape), where=np.asarray(y) != 0)


def adamw_paper(memory, w, g, t):
    """Chen et al. 2023, program 4, with 0 / 0 = 0."""
    m = average(memory, "m", g, B1)
    v = average(memory, "v", g * g, B2)
    return LEARNING_RATE * (ratio(m, np.sqrt(v)) + as_float32(0.01) * w)


def eadam(memory, w, g, t):
    """Yuan and Gao 2020: v_t = beta2 v_(t-1) + (1 - beta2) g^2 + epsilon."""
    past = memory.setdefault("past", [])
    past.append(g)
    m_hat = (1 - B1) * discounted_sum(past, B1) / (1 - B1**t)
    epsilons = EPS * (1 - B2**t) / (1 - B2)
    v = (1 - B2) * discounted_sum([x**2 for x in past], B2) + epsilons
    return LEARNING_RATE * m_hat / np.sqrt(v / (1 - B2**t))


def adax(memory, w, g, t):
    """Li et al. 2020; sqrt(v) + epsilon is corrected as a whole, as in the authors' code."""
    beta2 = as_float32(1e-4)
    past = memory.setdefault("past", [])
    past.append(g * g)
    m = average(memory, "m", g, B1)
    v = beta2 * discounted_sum(past, 1 + beta2)
    correction = (1 + beta2) ** t - 1
    return as_float32(1.5e-3) * np.sqrt(correction) * m / (np.sqrt(v) + as_float32(1e-12))


def amos(memory, w, g, t):
    """Tian and Parikh 2022, algorithm 1, with states reduced over the second-to-last axis."""
    axis = -2 if g.ndim >= 2 else None
    xi, quarter = as_float32(0.01), 0.25
    rms = np.sqrt(np.mean(w * w))
    eta = memory.setdefault("eta", rms if rms > 0 else 0.5)
    b = memory.get("b", 0.0)
    g2 = np.mean(g * g, axis=axis, keepdims=True)
    v_hat = average(memory, "v", g2, B2) / (1 - B2**t)
    v_hat = np.maximum(v_hat, as_float32(2.3509887e-38) / (1 - B2**t))
    c = (1 + quarter * np.sqrt(xi) * b) ** -0.5
    d = (1 + quarter * np.sqrt(xi * eta) * b) ** -1.0
    gamma = c * g2 / v_hat * xi**2
    memory["b"] = b + gamma * (1 + b)
    return d * (xi * eta * g / np.sqrt(v_hat) + gamma / 2 * w)


def adam_accumulated(memory, w, g, t):
    """Zhang et al. 2023, algorithm 1; moments decay only at the first of four micro-batches.

    The gradient of each micro-batch is divided by the number of micro-batches.
    """
    micro_batches = 4
    if t % micro_batches == 1:
        memory["m"] = B1 * memory.get("m", 0.0)
        memory["v"] = B2 * memory.get("v", 0.0)
    memory["m"] = memory["m"] + (1 - B1) * (g / micro_batches)
    memory["v"] = memory["v"] + (1 - B2) * (g / micro_batches) ** 2
    if t % micro_batches:
        return np.zeros_like(w)
    cycle = t // micro_batches
    m_hat = memory["m"] / (1 - B1**cycle)
    v_hat = memory["v"] / (1 - B2**cycle)
    return LEARNING_RATE * m_hat / (np.sqrt(v_hat) + EPS)


def adam_corrected_decay(memory, w, g, t):
    """Shazeer and Stern 2018, section 7.1."""
    decay = B2 * (1 - B2 ** (t - 1)) / (1 - B2**t)
    return LEARNING_RATE * g / (np.sqrt(average(memory, "v", g * g, decay)) + EPS)


def adam_power_decay(memory, w, g, t):
    """Shazeer and Stern 2018, section 7.2."""
    decay = 1 - float(t) ** -as_float32(0.8)
    return LEARNING_RATE * g / (np.sqrt(average(memory, "v", g * g, decay)) + EPS)


def adafactor_scaled(memory, g, t):
    """Shazeer and Stern 2018, algorithms 4 (matrices, with sums of rows and columns) and 5."""
    decay = 1 - float(t) ** -as_float32(0.8)
    g2 = g * g + as_float32(1e-30)
    if g.ndim >= 2:
        rows = average(memory, "rows", g2.sum(axis=-1, keepdims=True), decay)
        columns = average(memory, "columns", g2.sum(axis=-2, keepdims=True), decay)
        v_hat = rows * columns / rows.sum(axis=-2, keepdims=True)
    else:
        v_hat = average(memory, "v", g2, decay)
    u = g / np.sqrt(v_hat)
    return u / max(1.0, np.sqrt(np.mean(u * u)))


def adafactor(memory, w, g, t):
    """Shazeer and Stern 2018, algorithms 4 to 6."""
    step = max(as_float32(1e-3), np.sqrt(np.mean(w * w))) * min(as_float32(0.01), t**-0.5)
    return step * adafactor_scaled(memory, g, t)


def adafactor_momentum(memory, w, g, t):
    """Shazeer and Stern 2018: moving average of Adafactor's updates, as in the authors' code."""
    return average(memory, "m", adafactor(memory, w, g, t), B1)


def adafactor_external(memory, w, g, t):
    """Shazeer and Stern 2018, section 7, with an external step size."""
    return LEARNING_RATE * adafactor_scaled(memory, g, t)


def cautious_lion(memory, w, g, t):
    """Liang et al. 2024, algorithm 2 on Lion.

    The fraction of unmasked weights is at least 1e-3, as in the published code.
    """
    old_m = memory.get("m", np.zeros_like(g))
    direction = np.sign(B1 * old_m + (1 - B1) * g)
    average(memory, "m", g, as_float32(0.99))
    mask = direction * g > 0
    masked = np.where(mask, direction, 0.0) / max(mask.sum() / mask.size, as_float32(1e-3))
    return as_float32(1e-4) * (masked + as_float32(0.1) * w)


def row_adagrad(memory, w, g, t):
    """Gupta et al. 2014: one accumulator for each row, which sums the row's mean squares."""
    rows = np.mean(g * g, axis=-1, keepdims=True) if g.ndim >= 2 else g * g
    memory["v"] = memory.get("v", 0.0) + rows
    return as_float32(0.01) * ratio(g, np.sqrt(memory["v"]))


def exponentiated_gradient(memory, w, g, t):
    """Kivinen and Warmuth 1997, EG without normalisation: w <- w exp(-rate g)."""
    return w - w * np.exp(-as_float32(0.1) * g)


def newton_schulz(x):
    """Apply five Newton-Schulz steps of Jordan et al. 2024 to the singular values of a matrix.

    The matrix is the last two axes of the array; a vector of n numbers is an n x 1 matrix.
    """
    u, s, v = np.linalg.svd(x if x.ndim >= 2 else x.reshape(-1, 1), full_matrices=False)
    s = ratio(s, np.sqrt(np.sum(s * s, axis=-1, keepdims=True)))
    for _ in range(5):
        s = 3.4445 * s - 4.775 * s**3 + 2.0315 * s**5
    return np.reshape((u * s[..., None, :]) @ v, x.shape)


def scion(memory, w, g, t):
    """Pethick et al. 2025, algorithm 2 (constrained): spectral norm, one radius for all arrays."""
    radius, step = 1 / as_float32(0.02), as_float32(0.0122) * as_float32(0.02)
    boundary_point = -radius * newton_schulz(average(memory, "d", g, B1))
    return w - ((1 - step) * w + step * boundary_point)


def orthogonal_sgdm(memory, w, g, t):
    """Tuddenham et al. 2022: SGD with momentum on orthogonalized gradients."""
    past = memory.setdefault("past", [])
    past.append(newton_schulz(g))
    return as_float32(0.01) * discounted_sum(past, B1)


def each_array(rule):
    """Return the oracle that applies `rule` to each array, with a separate memory for each."""

    def start(weights):
        memory = defaultdict(dict)

        def step(weights, grads, t):
            return {key: rule(memory[key], w, grads[key], t) for key, w in weights.items()}

        return step

    return start


def eg_step_size(weights):
    """Amid et al. 2022: sign-based gains, a global step size, bounds as in the authors' code."""
    gains = {key: np.ones_like(w) for key, w in weights.items()}
    averages = {key: np.zeros_like(w) for key, w in weights.items()}
    momenta = {key: np.zeros_like(w) for key, w in weights.items()}
    step_size = 1.0

    def flatten(tree):
        return np.concatenate([np.ravel(tree[key]) for key in weights])

    def step(weights, grads, t):
        nonlocal step_size
        gradient, momentum = flatten(grads), flatten(momenta)
        product_of_norms = np.linalg.norm(gradient) * np.linalg.norm(momentum)
        cosine = gradient @ momentum / product_of_norms if product_of_norms else 0.0
        step_size = np.clip(step_size * np.exp(as_float32(1e-3) * cosine), as_float32(0.1), 10.0)
        for key, grad in grads.items():
            agreement = np.sign(averages[key] * grad)
            gains[key] = gains[key] * np.exp(as_float32(0.01) * agreement)
            gains[key] = np.clip(gains[key], as_float32(0.01), 100.0)
            averages[key] = B1 * averages[key] + (1 - B1) * grad
            momenta[key] = B1 * momenta[key] + gains[key] * grad
        return {key: step_size * momenta[key] for key in weights}

    return step


ORACLES = {"eg_step_size": eg_step_size} | {
    rule.__name__: each_array(rule)
    for rule in (
        adafactor,
        adafactor_external,
        adafactor_momentum,
        adam_accumulated,
        adam_corrected_decay,
        adam_power_decay,
        adamw_paper,
        adax,
        amos,
        cautious_lion,
        eadam,
        exponentiated_gradient,
        orthogonal_sgdm,
        row_adagrad,
        scion,
    )
}
