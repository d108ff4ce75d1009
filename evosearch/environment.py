"""Settings of JAX that must precede its import, and the description of the machine for a run."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import platform
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from evosearch.errors import UsageError

_PACKAGES = ("evosearch", "jax", "jaxlib", "numpy", "optax", "scipy")


def prepare() -> None:
    """Set the environment variables that JAX reads when it is imported.

    Trainings run side by side, one per core, so XLA must not spread the operations of one training
    over several threads. Compiled programs are cached in the user's cache directory. JAX's log
    messages are hidden.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_cpu_multi_thread_eigen" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # By default, some devices multiply float32 matrices in lower precision, such as TF32.
    os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "float32")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_cache_directory() / "jax"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
    logging.getLogger("jax").setLevel(logging.ERROR)
    for module in ("callback", "debugging"):  # these modules log tracebacks of errors
        logging.getLogger(f"jax._src.{module}").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module="jax")
    warnings.filterwarnings("ignore", category=SyntaxWarning)  # from parsing program text


def use_device(kind: str | None, *, batched: bool = False) -> str:
    """Choose the device that JAX computes on; call before any computation.

    Args:
        kind: cpu, gpu or tpu; None means a GPU or TPU if JAX finds one.
        batched: Whether batches are trained. On CPU, JAX then has one device per core.

    Returns:
        The kind of device: cpu, gpu or tpu.

    Raises:
        UsageError: JAX finds no such device.
    """
    import jax

    config: Any = jax.config
    if kind is not None:  # "gpu" would try every vendor's plugin
        config.update("jax_platforms", "cuda" if kind == "gpu" else kind)
    if batched and kind in (None, "cpu"):
        with suppress(RuntimeError):  # raised if JAX has started: the number of devices is fixed
            config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    try:
        backend: str = jax.default_backend()
    except (RuntimeError, AssertionError) as error:  # AssertionError: no CUDA plugin
        reason = f" ({str(error).splitlines()[0]})" if str(error) else ""
        extra = "cuda" if kind == "gpu" else kind
        raise UsageError(
            f"JAX finds no {kind} here{reason}; install evosearch with the extra "
            f"'{extra}' (pip install '.[{extra}]'), or use --device cpu"
        ) from None
    return backend


@contextmanager
def count_compilations() -> Iterator[Compilations]:
    """Count the programs that JAX compiles, or reads from its cache, within the context."""
    import jax

    counts = Compilations()
    jax.monitoring.register_event_listener(counts.add)
    try:
        yield counts
    finally:
        jax.monitoring.unregister_event_listener(counts.add)


class Compilations:
    """Numbers of compilations since the start of `count_compilations`.

    Attributes:
        total: number of programs that were compiled or read from the cache.
        cached: number of these programs that were read from the cache.
    """

    def __init__(self) -> None:
        self.total = 0
        self.cached = 0

    def add(self, event: str, **_: Any) -> None:
        """Count one event of JAX."""
        self.total += event == "/jax/compilation_cache/compile_requests_use_cache"
        self.cached += event == "/jax/compilation_cache/cache_hits"


def _cache_directory() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "evosearch"


def describe() -> dict[str, Any]:
    """Return versions, devices and data digests: the content of a run's `environment.json`."""
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
