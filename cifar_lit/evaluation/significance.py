"""How sure a figure is: intervals and tests, by scipy."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class Interval(NamedTuple):
    """A 95 % confidence interval."""

    low: float
    high: float


def wilson(right: int, images: int) -> Interval:
    """Of an accuracy: Wilson's score interval.

    Args:
        right: How many images were classified rightly.
        images: How many there were, at least 1.

    Source: Wilson 1927, doi:10.1080/01621459.1927.10502953.

    >>> [round(bound, 4) for bound in wilson(90, 100)]
    [0.8256, 0.9448]
    """
    found = stats.binomtest(right, images).proportion_ci(0.95, method="wilson")
    return Interval(float(found.low), float(found.high))


def bootstrap_mean(values: np.ndarray, seed: int = 0, resamples: int = 2000) -> Interval:
    """Of a mean, such as that of the losses: the bootstrap's percentiles.

    Args:
        values: float (N,).
        seed: Of the resamples.
        resamples: How many.

    Source: Efron 1979, doi:10.1214/aos/1176344552.
    """
    random = np.random.default_rng(seed)
    means = [float(values[random.integers(0, len(values), len(values))].mean()) for _ in range(resamples)]
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(low), float(high))


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """The probability of so great a difference between two classifiers of the same images, if they were equally good.

    Args:
        first, second: bool (N,), whether each classified the image rightly.

    Source: McNemar 1947, doi:10.1007/BF02295996; the exact test, on the images that only one of them got right.

    >>> mcnemar(np.array([True, True, False]), np.array([True, True, False]))
    1.0
    """
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    if only_first + only_second == 0:
        return 1.0
    return float(stats.binomtest(only_first, only_first + only_second, 0.5).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Probabilities of several tests, corrected for there being several.

    Args:
        p_values: Of each test by itself.

    Source: Holm 1979, https://www.jstor.org/stable/4615733.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    found, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        found[place] = highest
    return found


def paired_difference(first: np.ndarray, second: np.ndarray) -> Interval:
    """Of the second classifier's accuracy minus the first's, on the same images: Wald's interval with Bonett and
    Price's correction, which holds for few images too.

    Args:
        first, second: bool (N,), whether each classified the image rightly.

    Source: Bonett & Price 2012, doi:10.3102/1076998611411915.
    """
    images = len(first) + 2
    gained, lost = ((int(one.sum()) + 1) / images for one in (~first & second, first & ~second))
    reach = float(stats.norm.ppf(0.975)) * ((gained + lost - (gained - lost) ** 2) / images) ** 0.5
    return Interval(max(-1.0, gained - lost - reach), min(1.0, gained - lost + reach))
