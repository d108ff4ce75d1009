"""Oracles from torch.optim, for optimizers that have the same formula in PyTorch and in the zoo.

PyTorch is imported when an oracle is created, because the fast tests run without PyTorch.
"""

from tests.primitives.oracles import as_float32

BETAS = (as_float32(0.9), as_float32(0.999))
ADAM = {"lr": as_float32(1e-3), "eps": as_float32(1e-8)}

OPTIMIZERS = {
    "adadelta": lambda optim, params: optim.Adadelta(
        params, 1.0, rho=as_float32(0.9), eps=as_float32(1e-6)
    ),
    "adam": lambda optim, params: optim.Adam(params, betas=BETAS, **ADAM),
    "adam_l2": lambda optim, params: optim.Adam(
        params, betas=BETAS, weight_decay=as_float32(0.01), **ADAM
    ),
    "adam_no_momentum": lambda optim, params: optim.Adam(params, betas=(0.0, BETAS[1]), **ADAM),
    "adamax": lambda optim, params: optim.Adamax(
        params, as_float32(2e-3), betas=BETAS, eps=as_float32(1e-8)
    ),
    "adamw": lambda optim, params: optim.AdamW(
        params, betas=BETAS, weight_decay=as_float32(0.01), **ADAM
    ),
    "momentum": lambda optim, params: optim.SGD(params, 1.0, momentum=BETAS[0]),
    "nesterov": lambda optim, params: optim.SGD(params, 1.0, momentum=BETAS[0], nesterov=True),
    "sgd": lambda optim, params: optim.SGD(params, 1.0),
}


def oracle(name):
    """Return the oracle that wraps the optimizer `OPTIMIZERS[name]`."""

    def start(weights):
        import torch

        tensors = {key: torch.tensor(w, dtype=torch.float64) for key, w in weights.items()}
        optimizer = OPTIMIZERS[name](torch.optim, tensors.values())

        def step(weights, grads, t):
            for key, tensor in tensors.items():
                tensor.copy_(torch.as_tensor(weights[key]))
                tensor.grad = torch.as_tensor(grads[key])
            optimizer.step()
            return {key: weights[key] - tensor.numpy() for key, tensor in tensors.items()}

        return step

    return start
