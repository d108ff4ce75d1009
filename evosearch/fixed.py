"""Numbers that results depend on and that are the same in every search, so that none is hidden.

What a user may want to change is a setting (`evosearch.config`).
"""

from __future__ import annotations

HURDLE_FROM = 1 / 8
"""Share of a training after which its curve may miss the hurdle."""

TEST_STAGES = (1, 2, 4)
"""A test of a challenger is looked at when so many times `test_seeds` are measured, at a third of
its error rate each time."""
FUTILITY_AFTER = 4
"""Pairs after which a test may be given up as hopeless."""
CONFIRM_EVERY = 8
"""Every so many requests a seed that confirms a champion has priority over all else."""

MAX_HITS_IN_A_ROW = 500
"""Children in a row that equal earlier programs, after which one of the population is measured on a
further seed instead."""
MAX_DRAFTS = 1000
"""Ill-kinded drafts of one child after which mutation gives up."""

TUNED_POPULATION = 100
"""While constants are tuned the population is the last so many programs."""
WIDELY_DRAWN = 80
"""The first so many sets of constants are drawn from wide distributions around the initial ones."""
ELITE = 15
"""Later sets are drawn around so many of the best, which new ones race."""

TUNING_RATES = (1.0, 4.0, 16.0, 64.0)
"""Factors on its own learning rate that tuning the baseline begins with: short trainings like rates
above a program's own."""
VALIDATION_RATES = (0.25, 1.0, 4.0, 16.0)
"""The same for every program on validation tasks, where trainings are longer."""
VALIDATION_RESOLUTION = 2.0
"""On validation tasks the best rate's neighbours are at most this factor away in the end."""
VALIDATION_DECAYS = (0.3, 1.0)
"""Weight decays outside a program that are tried first on validation tasks, besides none."""
