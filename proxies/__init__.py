"""Tasks that optimizers are compared on, with their data, and the training loop.

>>> import jax, optax, proxies
>>> task = proxies.load("quadratic")
>>> result = proxies.train(task, optax.sgd(0.1), steps=20, key=jax.random.key(0))
>>> bool(result.loss < result.train_loss[0])
True

Names are imported on first use; importing JAX and all tasks takes seconds.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from proxies import tasks
    from proxies.data import digests
    from proxies.identity import differences, digest
    from proxies.loading import load, split
    from proxies.precision import in_bfloat16
    from proxies.registry import UnknownTaskError, names, register
    from proxies.sharding import over_devices
    from proxies.task import Split, Task
    from proxies.training.loop import StepSchedule, TrainingResult
    from proxies.training.memory import fits, memory
    from proxies.training.schedules import SCHEDULES, Schedule, relative_rates
    from proxies.training.sharpness import sharpness
    from proxies.training.single import compile_train, compiled_train, smoothed, train
    from proxies.user_tasks.python_file import UntrustedTaskError, UserTaskError

_MODULES = {
    "StepSchedule": "training.loop",
    "TrainingResult": "training.loop",
    "UserTaskError": "user_tasks.python_file",
    "SCHEDULES": "training.schedules",
    "Schedule": "training.schedules",
    "Split": "task",
    "Task": "task",
    "UnknownTaskError": "registry",
    "UntrustedTaskError": "user_tasks.python_file",
    "compile_train": "training.single",
    "compiled_train": "training.single",
    "differences": "identity",
    "digest": "identity",
    "digests": "data",
    "fits": "training.memory",
    "in_bfloat16": "precision",
    "load": "loading",
    "memory": "training.memory",
    "names": "registry",
    "over_devices": "sharding",
    "register": "registry",
    "relative_rates": "training.schedules",
    "sharpness": "training.sharpness",
    "smoothed": "training.single",
    "split": "loading",
    "train": "training.single",
}
"""The module of each exported name."""

__all__ = [
    "SCHEDULES",
    "Schedule",
    "Split",
    "StepSchedule",
    "Task",
    "TrainingResult",
    "UnknownTaskError",
    "UntrustedTaskError",
    "UserTaskError",
    "compile_train",
    "compiled_train",
    "differences",
    "digest",
    "digests",
    "fits",
    "in_bfloat16",
    "load",
    "memory",
    "names",
    "over_devices",
    "register",
    "relative_rates",
    "sharpness",
    "smoothed",
    "split",
    "tasks",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'proxies' has no attribute {name!r}")
    tasks = importlib.import_module("proxies.tasks")  # registers the tasks
    if name == "tasks":
        return tasks
    return getattr(importlib.import_module(f"proxies.{_MODULES[name]}"), name)
