"""Random numbers that are computed from what they are for, and never carried along.

The order in which batches are made, the number of workers, a callback that draws numbers of its own, a process that was
killed and started again: none of them can change a number that is a function of (seed, epoch, index).
"""

import hashlib
import os
import random
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

# The increment and multipliers of SplitMix64 (Steele, Lea & Flood 2014), as signed 64-bit integers
_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_MIX_1 = 0xBF58476D1CE4E5B9 - 2**64
_MIX_2 = 0x94D049BB133111EB - 2**64
_DRAWS_AT_ONCE = 6  # those of a crop, a flip and cutout


def run_seed() -> int:
    """The seed of this run: what ``seed_everything`` was last called with, in this process or its parent; else 0."""
    return int(os.environ.get("PL_GLOBAL_SEED", 0))


def key(*parts: int | str) -> int:
    """A number in [0, 2**63) that depends on all the parts and looks like chance.

    >>> key(1, 2) == key(1, 2), key(1, 2) == key(2, 1)
    (True, False)
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def reseed(*parts: int | str) -> None:
    """Seeds the generators of torch (every device), numpy and Python by the key of the parts."""
    seed = key(*parts)
    # torch.manual_seed takes a millisecond for each kind of accelerator that is not in use: it formats a stack trace at
    # every call, to tell of when the device is seeded at its first use
    torch.default_generator.manual_seed(seed)
    for backend in (torch.cuda, torch.xpu):
        if backend.is_initialized():
            backend.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


class SampleRandom:
    """Random numbers for the samples of a batch, each a function of (seed, epoch, sample's index, draw) alone.

    Args:
        seed: The run's seed.
        epoch: The epoch, from 0.
        indices: int64 (N,), the samples' indices in the data set; the numbers are made on their device.
    """

    def __init__(self, seed: int, epoch: int, indices: Tensor) -> None:
        self.epoch = epoch
        self._seed, self._indices = seed, indices
        self._draws = 0
        self._block = torch.empty(0)  # draws that were made together, a row each; some may be yet to come

    def coins(self) -> Tensor:
        """bool (N,), as often true as not: a coin a sample that is thrown once, and shows the same in every epoch."""
        return (self._hashed(key(self._seed, "coins")) & 1).bool()

    def _bits(self) -> Tensor:
        """int64 (N,) of 53 random bits; the next draw at each call."""
        place = self._draws % _DRAWS_AT_ONCE
        if not place:  # for a batch a hash costs its calls, not its arithmetic: six cost little more than one
            self._block = self._hashed(_salts(self._seed, self.epoch, self._draws, self._indices.device))
        self._draws += 1
        return self._block[place]

    def _hashed(self, salt: int | Tensor) -> Tensor:
        state = self._indices * _GOLDEN + salt
        state = (state ^ _shift_right(state, 30)) * _MIX_1
        state = (state ^ _shift_right(state, 27)) * _MIX_2
        return _shift_right(state ^ _shift_right(state, 31), 11)

    def uniform(self) -> Tensor:
        """float32 (N,), evenly spread over [0, 1)."""
        return (self._bits() >> 29).float() / 2**24  # 24 bits: what float32 holds without rounding up to 1

    def integers(self, low: int, high: int) -> Tensor:
        """int64 (N,), evenly spread over low ... high - 1."""
        return low + self._bits() % (high - low)


@lru_cache(maxsize=16)
def _salts(seed: int, epoch: int, draws: int, device: torch.device) -> Tensor:
    """int64 (_DRAWS_AT_ONCE, 1), keys of draw draws + 1 and on; kept, since the host waits for a copy to a device."""
    keys = [key(seed, epoch, draws + place) for place in range(1, _DRAWS_AT_ONCE + 1)]
    return torch.tensor(keys, device=device).view(-1, 1)


def _shift_right(values: Tensor, bits: int) -> Tensor:
    """Logical shift, where torch's own copies the sign."""
    return (values >> bits) & ((1 << (64 - bits)) - 1)
