"""Fixed numbers that results depend on and that are the same in every search.

Numbers that a user may want to change are settings (`evosearch.config`).
"""

from __future__ import annotations

HURDLE_FROM = 1 / 8
"""Fraction of a training after which the hurdle may stop it."""

TEST_STAGES = (1, 2, 4)
"""Numbers of seeds at which a test of a challenger is evaluated, in units of `test_seeds`.

Each of the three evaluations has a third of the test's error rate.
"""
FUTILITY_AFTER = 4
"""Number of seed pairs from which a test may be given up because the challenger is behind."""
CONFIRM_EVERY = 8
"""Interval, in requests, at which confirming a champion has priority over all else."""

MAX_HITS_IN_A_ROW = 500
"""Maximum number of consecutive children with a known semantic key.

After that a program of the population is measured on another seed instead.
"""
MAX_DRAFTS = 1000
"""Maximum number of drafts of one child; mutation fails after that."""

REQUESTS_PER_LANE = 2.0
"""Requests in flight for each lane of a search with batches; `evosearch bench` shows the effect.

On a slow fake device, 1.5 requests per lane fill 80% of the lanes, 2 fill 92% and 3 fill 98%.
"""

TUNED_POPULATION = 100
"""Population size while constants are tuned."""
WIDELY_DRAWN = 80
"""Number of programs whose constants are drawn from wide distributions around the initial ones."""
ELITE = 15
"""Number of best programs from which later constants are drawn; new programs race the last one."""

TUNING_RATES = (1.0, 4.0, 16.0, 64.0)
"""Initial grid of learning rates for tuning the baseline, as factors on its own learning rate.

Short trainings favour rates above a program's own.
"""
VALIDATION_RATES = (0.25, 1.0, 4.0, 16.0)
"""Initial grid of learning rates for every program on validation tasks, as factors on its own.

It begins lower than `TUNING_RATES` because trainings are longer.
"""
VALIDATION_RESOLUTION = 2.0
"""Largest final factor between the best rate and its neighbours on validation tasks."""
VALIDATION_DECAYS = (0.3, 1.0)
"""Initial grid of decoupled weight decays on validation tasks, in addition to no decay."""
