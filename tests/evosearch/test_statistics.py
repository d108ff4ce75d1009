"""Tests of scores, confidence intervals and p-values, and of their error rates in simulations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from evosearch.statistics import (
    LARGEST_SCORE,
    holm,
    interval,
    log_loss,
    log_ratio,
    lower_bound,
    p_value,
    score,
    spent_error,
    standard_error,
    stratified_interval,
)

LOSSES = st.floats(0, 1e30) | st.sampled_from([math.inf, math.nan])


@pytest.mark.parametrize(
    ("loss", "baseline", "expected"),
    [
        (1.0, 1.0, 0.0),
        (0.9, 1.0, -math.log(0.9)),
        (1.0, 0.5, -math.log(2)),
        (1.0, 1e9, LARGEST_SCORE),
        (1e9, 1.0, -LARGEST_SCORE),
        (0.0, 1.0, LARGEST_SCORE),
        (1.0, 0.0, -LARGEST_SCORE),
        (math.inf, 1.0, -LARGEST_SCORE),
        (math.nan, 1.0, -LARGEST_SCORE),
        (math.inf, math.inf, -LARGEST_SCORE),
        (1.0, math.inf, LARGEST_SCORE),
    ],
)
def test_a_score_is_the_clipped_log_ratio_and_lowest_for_divergence(
    loss: float, baseline: float, expected: float
) -> None:
    assert score(loss, baseline) == pytest.approx(expected)


@given(LOSSES, LOSSES)
def test_a_log_ratio_is_antisymmetric_bounded_and_never_nan(first: float, second: float) -> None:
    assert log_ratio(first, second) == -log_ratio(second, first)
    assert abs(log_ratio(first, second)) <= LARGEST_SCORE
    assert log_ratio(first, first) == 0


def test_the_log_of_a_loss_of_zero_is_finite_and_that_of_a_diverged_loss_is_infinite() -> None:
    assert math.isfinite(log_loss(0.0))
    assert log_loss(math.nan) == log_loss(math.inf) == math.inf


def test_the_interval_agrees_with_scipy() -> None:
    scores = [0.1, 0.4, 0.2, 0.35, 0.3]
    low, high = stats.t.interval(0.95, 4, loc=np.mean(scores), scale=stats.sem(scores))
    assert interval(scores, 0.0) == pytest.approx((0.27, low, high))


@pytest.mark.parametrize("seeds", [2, 4, 6])
@pytest.mark.parametrize("noise_std", [(1.0, 1.0, 1.0, 1.0), (0.1, 0.3, 1.0, 3.0)])
def test_a_stratified_interval_covers_the_mean_and_is_narrower_than_the_interval_of_seed_means(
    seeds: int, noise_std: tuple[float, ...]
) -> None:
    """Each of 1,000 experiments has scores of four tasks (the strata) and a few seeds."""
    rng = np.random.default_rng(seeds)
    true_means = np.array([0.0, 5.0, -2.0, 1.0])
    noise = np.array(noise_std)[:, None] * rng.normal(size=(1000, 4, seeds))
    experiments = true_means[:, None] + noise
    stratified = [stratified_interval(scores.tolist(), 0.0) for scores in experiments]
    coverage = np.mean([low <= true_means.mean() <= high for _, low, high in stratified])
    # With two seeds of unequal noise the coverage is a little below 0.95.
    assert coverage > 0.92
    of_seed_means = [interval(scores.mean(axis=0).tolist(), 0.0) for scores in experiments]
    width = np.median([high - low for _, low, high in stratified])
    width_of_seed_means = np.median([high - low for _, low, high in of_seed_means])
    assert width < width_of_seed_means
    has_equal_noise = len(set(noise_std)) == 1
    if seeds == 2 and has_equal_noise:
        assert width < 0.5 * width_of_seed_means


def test_a_stratified_interval_of_one_stratum_is_the_plain_interval() -> None:
    scores = [0.1, 0.4, 0.2]
    for noise_floor in (0.0, 1.0):
        expected = interval(scores, noise_floor)
        assert stratified_interval([scores], noise_floor) == pytest.approx(expected)


def test_a_stratified_interval_of_equal_scores_has_the_width_of_the_noise_floor() -> None:
    assert stratified_interval([[0.1], [0.3]], 0.02).mean == pytest.approx(0.2)
    estimate = stratified_interval([[0.0, 0.0], [0.2, 0.2]], 0.02)
    degrees_of_freedom, seeds = 2, 2
    half_width = stats.t.ppf(0.975, degrees_of_freedom) * 0.02 / math.sqrt(seeds)
    assert estimate.high - estimate.mean == pytest.approx(half_width)


def test_a_noise_floor_widens_the_interval_of_equal_scores() -> None:
    assert interval([0.1, 0.1], 0.0).low == 0.1
    assert interval([0.1, 0.1], 0.02).low < -0.05
    assert standard_error([0.5], 0.02) == 0.02


def test_the_95_percent_interval_covers_the_mean_in_95_percent_of_experiments() -> None:
    rng = np.random.default_rng(0)
    intervals = [interval(list(scores), 0.0) for scores in rng.normal(3.0, 2.0, (4000, 6))]
    coverage = np.mean([low <= 3.0 <= high for _, low, high in intervals])
    assert coverage == pytest.approx(0.95, abs=0.01)


def test_the_lower_bound_exceeds_the_mean_as_often_as_its_error_rate_says() -> None:
    rng = np.random.default_rng(0)
    experiments = rng.normal(0.0, 1.0, (4000, 5))
    errors = [lower_bound(list(differences), 0.1) > 0 for differences in experiments]
    assert np.mean(errors) == pytest.approx(0.1, abs=0.015)


def test_the_lower_bound_of_equal_differences_is_their_value() -> None:
    assert lower_bound([0.25] * 4, 0.05) == 0.25
    assert lower_bound([0.0] * 4, 0.05) == 0.0


def test_the_error_rates_of_all_tests_of_a_run_sum_to_the_error_rate_of_the_run() -> None:
    total = sum(spent_error(0.05, test) for test in range(1, 100_001))
    assert total == pytest.approx(0.05, rel=1e-4)
    assert total < 0.05


def test_the_p_value_agrees_with_the_paired_t_test() -> None:
    differences = [0.1, -0.02, 0.2, 0.05, 0.11]
    assert p_value(differences, 0.0) == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)


def test_the_p_value_is_one_for_no_difference_and_large_for_a_rounding_error() -> None:
    assert p_value([0.0] * 4, 1e-3) == 1
    assert p_value([1e-5] * 16, 1e-3) > 0.9


def test_holm_multiplies_the_smallest_p_value_most_and_keeps_the_order() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_never_lowers_a_p_value_and_stays_below_bonferroni(p_values: list[float]) -> None:
    for p, adjusted in zip(p_values, holm(p_values), strict=True):
        assert p <= adjusted <= 1
    if p_values:
        assert min(holm(p_values)) == pytest.approx(min(1, len(p_values) * min(p_values)))


def test_holm_reports_a_significant_difference_in_at_most_7_percent_of_reports_without_any() -> (
    None
):
    """Each of 600 simulated reports has 8 comparisons on 6 seeds; the error rate is 5%."""
    rng = np.random.default_rng(0)
    reports = rng.normal(size=(600, 8, 6))
    has_significant_difference = []
    for report in reports:
        p_values = [p_value(list(differences), 0.0) for differences in report]
        has_significant_difference.append(min(holm(p_values)) < 0.05)
    assert np.mean(has_significant_difference) < 0.07
