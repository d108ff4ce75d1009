"""Oracles from torch.optim, for optimizers that have the same formula in PyTorch and in the zoo.

PyTorch is imported when an oracle is created, because the fast tests run without PyTorch.
"""

from tests.primitives.oracles import single

BETAS = (single(0.9), single(0.999))
ADAM = {"lr": single(1e-3), "eps": single(1e-8)}

OPTIMIZERS = {
    "adadelta": lambda optim, p: optim.Adadelta(p, 1.0, rho=single(0.9), eps=single(1e-6)),
    "adam": lambda optim, p: optim.Adam(p, betas=BETAS, **ADAM),
    "adam_l2": lambda optim, p: optim.Adam(p, betas=BETAS, weight_decay=single(0.01), **ADAM),
    "adam_no_momentum": lambda optim, p: optim.Adam(p, betas=(0.0, BETAS[1]), **ADAM),
    "adamax": lambda optim, p: optim.Adamax(p, single(2e-3), betas=BETAS, eps=single(1e-8)),
    "adamw": lambda optim, p: optim.AdamW(p, betas=BETAS, weight_decay=single(0.01), **ADAM),
    "momentum": lambda optim, p: optim.SGD(p, 1.0, momentum=BETAS[0]),
    "nesterov": lambda optim, p: optim.SGD(p, 1.0, momentum=BETAS[0], nesterov=True),
    "sgd": lambda optim, p: optim.SGD(p, 1.0),
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
