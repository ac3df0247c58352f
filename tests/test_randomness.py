import random

import numpy as np
import torch

from cifar_lit.randomness import SampleRandom, hash_uniform, key, reseed


def test_draws_are_uniform_and_independent() -> None:
    source = SampleRandom(0, 0, torch.arange(100_000))
    first, second = source.uniform(), source.uniform()
    assert 0 <= first.min() <= first.max() < 1
    assert abs(first.mean() - 0.5) < 0.005
    assert abs(first.std() - 12**-0.5) < 0.005
    assert abs(torch.corrcoef(torch.stack([first, second]))[0, 1]) < 0.01
    counts = torch.bincount(source.integers(3, 12), minlength=12)
    assert counts[:3].sum() == 0
    assert counts[3:].min() > 10_700  # 11,111 expected, standard deviation 99


def test_draws_of_a_sample_do_not_depend_on_its_batch() -> None:
    together = SampleRandom(1, 2, torch.tensor([5, 6, 7])).uniform()
    alone = SampleRandom(1, 2, torch.tensor([7])).uniform()
    assert together[2] == alone[0]


def test_seed_epoch_and_index_each_change_the_draws() -> None:
    indices = torch.arange(100)
    base = SampleRandom(0, 0, indices).uniform()
    for other in (SampleRandom(1, 0, indices), SampleRandom(0, 1, indices), SampleRandom(0, 0, indices + 100)):
        assert not torch.isclose(base, other.uniform()).any()


def test_draws_match_a_reference_splitmix64() -> None:
    def splitmix64(state: int) -> int:
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        state = (state ^ state >> 27) * 0x94D049BB133111EB % 2**64
        return state ^ state >> 31

    source = SampleRandom(1, 2, torch.tensor([0, 7]))
    for draw in range(1, 4):
        bits = [splitmix64((index * 0x9E3779B97F4A7C15 + key(1, 2, draw)) % 2**64) >> 11 for index in (0, 7)]
        assert source.integers(0, 10**9).tolist() == [value % 10**9 for value in bits]


def test_draws_are_pinned_so_that_recorded_runs_can_be_reproduced() -> None:
    assert key(1, 2) == 5142973159532490859
    expected = [0.8341718316078186, 0.28395265340805054]
    assert SampleRandom(1, 2, torch.tensor([0, 7])).uniform().tolist() == expected
    assert hash_uniform(torch.tensor([0, 7]), key(1, 2, 1)).tolist() == expected
    assert SampleRandom(1, 2, torch.arange(8)).fixed_coins().int().tolist() == [0, 1, 0, 1, 1, 0, 0, 0]


def test_reseed_seeds_every_generator() -> None:
    def draw() -> tuple[float, float, float]:
        reseed(3, 1)
        return torch.rand(1).item(), np.random.rand(), random.random()

    assert draw() == draw()
