"""Discover optimizers: launch a search, inspect its programs, evaluate them on held-out tasks.

    config = evosearch.make_config({**evosearch.load_preset("quick"), "init": text})
    run = evosearch.search(config)
    evosearch.evaluate([run.champion()], "topics-transformer", against=["adamw", "lion"])

Names are imported on first use, so that the command line starts fast.
"""

import importlib
from typing import Any

_MODULES = {
    "Config": "config",
    "Evolution": "evolution.evolution",
    "EvosearchError": "errors",
    "Run": "runs.run",
    "Search": "pipeline.search",
    "UsageError": "errors",
    "audit": "evaluation.audit",
    "bench": "benchmarking.benchmark",
    "compare_runs": "runs.curves",
    "evaluate": "evaluation.evaluation",
    "load_preset": "presets",
    "make_config": "config",
    "mutate": "evolution.mutation",
    "open_run": "runs.run",
    "resume": "pipeline.pipeline",
    "search": "pipeline.pipeline",
}

__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'evosearch' has no attribute {name!r}")
    return getattr(importlib.import_module(f"evosearch.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
