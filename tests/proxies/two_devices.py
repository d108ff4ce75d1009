"""Trainings on two CPU devices beside the same on one, as JSON; a process of its own runs it."""

import json
import sys
from typing import Any

import jax
import numpy as np
import optax

import proxies
from proxies import Course, compiled_train
from proxies.schedules import cosine, shape
from tests.proxies.compiling import quick_jit

STEPS = 12
WIDE = proxies.tasks.digits.mlp(hidden=(512,) * 4)


def curve(task: proxies.Task) -> proxies.Curve:
    course = Course.plain(shape(cosine(STEPS), STEPS), STEPS)
    train = quick_jit(
        lambda data, key: compiled_train(
            task, optax.adamw(3e-3), data, key, course, (), observe=True
        )
    )
    return train(task.data, jax.random.key(0))


def compared(task: proxies.Task, mesh: jax.sharding.Mesh) -> dict[str, Any]:
    one, two = curve(task), curve(proxies.over_devices(task, mesh))
    return {
        "one": [*one.train_loss.tolist(), float(one.loss)],
        "two": [*two.train_loss.tolist(), float(two.loss)],
        "weights": [
            {
                "shape": leaf.shape,
                "devices": len({shard.device for shard in leaf.addressable_shards}),
                "share": leaf.addressable_shards[0].data.size / leaf.size,
            }
            for leaf in jax.tree.leaves(two.params)
        ],
        "same_weights": all(
            map(
                lambda a, b: bool(np.allclose(a, b, rtol=1e-3, atol=1e-5)),
                jax.tree.leaves(one.params),
                jax.tree.leaves(two.params),
            )
        ),
    }


def main() -> None:
    mesh = jax.make_mesh((2,), ("device",))
    found = {name: compared(proxies.load(name), mesh) for name in sys.argv[1:]}
    adam = optax.adam(1e-3)
    tasks = WIDE, proxies.over_devices(WIDE, mesh)
    memory = [proxies.memory(task, adam, steps=3) for task in tasks]
    print(json.dumps({"tasks": found, "memory": memory, "weights": WIDE.params}))


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 2)  # before JAX looks for its devices
    main()
