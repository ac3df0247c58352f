import random

import numpy as np
import torch

from cifar_lit.randomness import SampleRandom, reseed


def test_numbers_are_evenly_spread_and_independent() -> None:
    source = SampleRandom(0, 0, torch.arange(100_000))
    first, second = source.uniform(), source.uniform()
    assert 0 <= first.min() <= first.max() < 1
    assert abs(first.mean() - 0.5) < 0.005
    assert abs(first.std() - 12**-0.5) < 0.005
    assert abs(torch.corrcoef(torch.stack([first, second]))[0, 1]) < 0.01
    counts = torch.bincount(source.integers(3, 12), minlength=12)
    assert counts[:3].sum() == 0
    assert counts[3:].min() > 10_700  # 11,111 expected, standard deviation 99


def test_a_sample_gets_the_same_numbers_in_any_batch() -> None:
    together = SampleRandom(1, 2, torch.tensor([5, 6, 7])).uniform()
    alone = SampleRandom(1, 2, torch.tensor([7])).uniform()
    assert together[2] == alone[0]


def test_seed_epoch_and_index_each_change_the_numbers() -> None:
    indices = torch.arange(100)
    base = SampleRandom(0, 0, indices).uniform()
    for other in (SampleRandom(1, 0, indices), SampleRandom(0, 1, indices), SampleRandom(0, 0, indices + 100)):
        assert not torch.isclose(base, other.uniform()).any()


def test_reseed_makes_every_generator_repeat() -> None:
    def draw() -> tuple[float, float, float]:
        reseed(3, 1)
        return torch.rand(1).item(), np.random.rand(), random.random()

    assert draw() == draw()
