"""Compiling for tests, where it takes most of the time: three times as fast, for slower code."""

from functools import partial

import jax

from tests.xla_options import OPTIONS as QUICKLY

quick_jit = partial(jax.jit, compiler_options=QUICKLY)
