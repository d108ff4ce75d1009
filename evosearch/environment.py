"""The machine and the libraries: set up before JAX starts, described in a run's record."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import platform
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from evosearch.errors import UsageError

_PACKAGES = ("evosearch", "jax", "jaxlib", "numpy", "optax", "scikit-learn", "scipy")


def prepare() -> None:
    """Settings that JAX reads when it starts; call before it is imported.

    Trainings share the cores one each, so a training's own operations stay on its thread; compiled
    programs are kept in the user's cache; JAX's log lines do not disturb the terminal.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_cpu_multi_thread_eigen" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # A product of float32 matrices is one of float32, on devices too that would round its factors.
    os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "float32")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_cache_directory() / "jax"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
    logging.getLogger("jax").setLevel(logging.ERROR)
    for module in ("callback", "debugging"):  # tracebacks of what is told as an error (`told`)
        logging.getLogger(f"jax._src.{module}").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module="jax")
    warnings.filterwarnings("ignore", category=SyntaxWarning)  # of program text, which is read only


def use_device(kind: str | None, *, batched: bool = False) -> str:
    """Settles what JAX computes on, before it computes anything; what that is: cpu, gpu or tpu.

    Args:
        kind: cpu, gpu or tpu; None for the best there is.
        batched: on CPU, every core is a device of its own, which batches are spread over.

    Raises:
        UsageError: there is no such device.
    """
    import jax

    config: Any = jax.config
    if kind is not None:  # "gpu" would ask JAX for every maker's
        config.update("jax_platforms", "cuda" if kind == "gpu" else kind)
    if batched and kind in (None, "cpu"):
        with suppress(RuntimeError):  # JAX computes already, with as many as it then found
            config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    try:
        found: str = jax.default_backend()
    except (RuntimeError, AssertionError) as error:  # the latter without JAX's plugin for CUDA
        reason = f" ({str(error).splitlines()[0]})" if str(error) else ""
        extra = "cuda" if kind == "gpu" else kind
        raise UsageError(
            f"JAX finds no {kind} here{reason}; install evosearch with its extra "
            f"'{extra}' (pip install '.[{extra}]'), or use --device cpu"
        ) from None
    return found


def _cache_directory() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "evosearch"


def describe() -> dict[str, Any]:
    """Versions, devices and data, as kept in a run's `environment.json`."""
    import jax

    import proxies

    versions: dict[str, str | None] = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "python": sys.version.split()[0],
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "devices": [device.device_kind for device in jax.devices()],
        "packages": versions,
        "data_sha256": proxies.digests(),
    }
