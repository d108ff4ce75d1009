"""XLA options with which compilation takes a third of the time, but compiled code is slower.

This module does not import JAX, so that `tests/conftest.py` can set the options first.
"""

from importlib.metadata import version

OPTIONS: dict[str, str | bool] = {
    "xla_backend_optimization_level": "0",
    "xla_cpu_parallel_codegen_split_count": "1",  # other tests use the other cores
}

_JAXLIB = tuple(int(part) for part in version("jaxlib").split(".")[:2])
if _JAXLIB < (0, 11):  # jaxlib 0.11.1 removed the option and aborts when it is set
    OPTIONS["xla_cpu_use_fusion_emitters"] = False

FLAGS = " ".join(f"--{name}={str(value).lower()}" for name, value in OPTIONS.items())
