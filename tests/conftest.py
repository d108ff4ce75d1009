"""What all tests share: Hypothesis without deadlines, with the same examples; two devices."""

import os

# Compiling takes most of the suite's time: less of it, for slower code. Before JAX is imported, and
# for the processes that tests start too.
_FLAGS = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAGS}".strip()

import jax  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

settings.register_profile(
    "evosearch",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("evosearch")

jax.config.update("jax_num_cpu_devices", 2)  # before JAX looks for its devices
