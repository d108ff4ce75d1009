"""Compiling for tests, where it takes most of the time: three times as fast, for slower code."""

from functools import partial

import jax

QUICKLY = {"xla_backend_optimization_level": "0", "xla_cpu_use_fusion_emitters": False}

quick_jit = partial(jax.jit, compiler_options=QUICKLY)
