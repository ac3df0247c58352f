"""Confidence intervals and significance tests of accuracies and losses."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

Interval = tuple[float, float]  # bounds of a 95 % confidence interval


def wilson(correct: int, images: int) -> Interval:
    """Return Wilson's score interval of an accuracy.

    Args:
        correct: Number of correctly classified images.
        images: Number of images, at least 1.

    Source: Wilson 1927, doi:10.1080/01621459.1927.10502953.

    >>> [round(bound, 4) for bound in wilson(90, 100)]
    [0.8256, 0.9448]
    """
    interval = stats.binomtest(correct, images).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def bootstrap_mean(values: np.ndarray, seed: int = 0, resamples: int = 2000) -> Interval:
    """Return the percentile bootstrap interval of a mean; the value itself if there is only one.

    Args:
        values: float (N,).
        seed: Seed of the resampling.
        resamples: Number of resamples.

    Source: Efron 1979, doi:10.1214/aos/1176344552.
    """
    if len(values) == 1:
        return float(values[0]), float(values[0])
    interval = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=resamples, batch=100, rng=np.random.default_rng(seed)
    ).confidence_interval
    return float(interval.low), float(interval.high)


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """Return the p-value of McNemar's exact test that two classifiers of the same images are equally good.

    Args:
        first, second: bool (N,), whether each classified the image correctly.

    Source: McNemar 1947, doi:10.1007/BF02295996.

    >>> mcnemar(np.array([True, True, False]), np.array([True, True, False]))
    1.0
    """
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    if only_first + only_second == 0:
        return 1.0
    return float(stats.binomtest(only_first, only_first + only_second, 0.5).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values with Holm's correction for multiple tests.

    Source: Holm 1979, https://www.jstor.org/stable/4615733.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected


def paired_difference(first: np.ndarray, second: np.ndarray) -> Interval:
    """Return the interval of the second classifier's accuracy minus the first's, on the same images.

    Wald's interval with Bonett and Price's correction, which also holds for few images.

    Args:
        first, second: bool (N,), whether each classified the image correctly.

    Source: Bonett & Price 2012, doi:10.3102/1076998611411915.
    """
    images = len(first) + 2
    gained, lost = ((int(only_one.sum()) + 1) / images for only_one in (~first & second, first & ~second))
    margin = float(stats.norm.ppf(0.975)) * ((gained + lost - (gained - lost) ** 2) / images) ** 0.5
    return max(-1.0, gained - lost - margin), min(1.0, gained - lost + margin)
