"""What optimizers are tried on: data, tasks and the training loop.

>>> import jax, optax, proxies
>>> task = proxies.load("quadratic")
>>> curve = proxies.train(task, optax.sgd(0.1), steps=20, key=jax.random.key(0))
>>> bool(curve.loss < curve.train_loss[0])
True
"""

from proxies import tasks
from proxies.data import digests
from proxies.identity import differences, digest
from proxies.loading import load, split
from proxies.precision import in_bfloat16
from proxies.registry import UnknownTaskError, names, register
from proxies.sharding import over_devices
from proxies.task import Split, Task
from proxies.training.loop import Course, Curve
from proxies.training.memory import fits, memory
from proxies.training.schedules import SCHEDULES, Schedule, named_shape
from proxies.training.sharpness import sharpness
from proxies.training.single import compile_train, compiled_train, smoothed, train
from proxies.user_tasks.python_file import OwnTaskError, UntrustedTaskError

__all__ = [
    "SCHEDULES",
    "Course",
    "Curve",
    "OwnTaskError",
    "Schedule",
    "Split",
    "Task",
    "UnknownTaskError",
    "UntrustedTaskError",
    "compile_train",
    "compiled_train",
    "differences",
    "digest",
    "digests",
    "fits",
    "in_bfloat16",
    "load",
    "memory",
    "named_shape",
    "names",
    "over_devices",
    "register",
    "sharpness",
    "smoothed",
    "split",
    "tasks",
    "train",
]
