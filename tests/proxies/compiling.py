"""Fast compilation for tests: three times as fast as the default, for slower code."""

from functools import partial

import jax

from tests.xla_options import OPTIONS as QUICKLY

quick_jit = partial(jax.jit, compiler_options=QUICKLY)
