"""What all tests share: Hypothesis without deadlines, with the same examples; two devices."""

import jax
from hypothesis import HealthCheck, settings

settings.register_profile(
    "evosearch",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("evosearch")

jax.config.update("jax_num_cpu_devices", 2)  # before JAX looks for its devices
