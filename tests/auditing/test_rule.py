"""The rule: its threshold is a rank among held-out ratios, its null is that of each point by the others."""

import numpy as np
import pytest
import torch
from scipy import stats

from flowscope.auditing.rule import MEMORISED_RATIO, null_hits, share_of, threshold


def test_shares_have_the_intervals_of_clopper_and_pearson() -> None:
    for count, total in ((0, 30), (7, 30), (30, 30)):
        hits = torch.arange(total) < count
        exact = stats.binomtest(count, total).proportion_ci(0.95, "exact")
        assert share_of(hits) == pytest.approx((count / total, exact.low, exact.high))


def test_the_threshold_is_never_below_a_third_and_needs_99_held_out_points() -> None:
    far = torch.linspace(0.5, 1, 199, dtype=torch.float64)
    assert threshold(None) == threshold(far[:98]) == MEMORISED_RATIO
    assert threshold(far[:99]) == far[0].item() and threshold(far) == far[1].item()
    assert threshold(0.1 * far) == MEMORISED_RATIO


def test_a_new_point_that_is_no_copy_is_called_one_in_a_hundred_times_at_most() -> None:
    rng = np.random.default_rng(0)
    ratios = torch.from_numpy(0.4 + 0.6 * rng.random((4000, 150)))
    called = [bool(row[0] < threshold(row[1:])) for row in ratios]
    assert stats.binomtest(sum(called), len(called), 1 / 150).pvalue > 0.01


@pytest.mark.parametrize("n", [60, 99, 100, 150, 250])
def test_the_null_is_each_point_judged_by_the_others(n: int) -> None:
    ratios = torch.from_numpy(np.random.default_rng(n).permutation(np.linspace(0.2, 1, n)))
    slow = [float(ratios[i]) < threshold(torch.cat([ratios[:i], ratios[i + 1 :]])) for i in range(n)]
    assert null_hits(ratios).tolist() == slow
