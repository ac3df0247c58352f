"""Random numbers that are a pure function of (seed, epoch, index).

No state is carried along, so neither the number of workers, a callback that draws random numbers, nor a resumed run
can change them.
"""

import hashlib
import os
import random

import numpy as np
import torch
from torch import Tensor

# The increment and multipliers of SplitMix64 (Steele, Lea & Flood 2014), as signed 64-bit integers
_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_MIX_1 = 0xBF58476D1CE4E5B9 - 2**64
_MIX_2 = 0x94D049BB133111EB - 2**64


def run_seed() -> int:
    """Return the seed last passed to ``seed_everything`` in this process or its parent; 0 if there was none."""
    return int(os.environ.get("PL_GLOBAL_SEED", 0))


def key(*parts: int | str) -> int:
    """Hash all parts, in order, to an integer in [0, 2**63).

    >>> key(1, 2) == key(1, 2), key(1, 2) == key(2, 1)
    (True, False)
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def reseed(*parts: int | str) -> None:
    """Seed the generators of torch (all devices), numpy and Python with the key of the parts."""
    seed = key(*parts)
    # torch.manual_seed costs a millisecond per accelerator backend that is not in use: it formats a stack trace on
    # every call, to report where the device was seeded once it is initialized
    torch.default_generator.manual_seed(seed)
    for backend in (torch.cuda, torch.xpu):
        if backend.is_initialized():
            backend.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def hash_uniform(indices: Tensor, salt: int) -> Tensor:
    """Hash each index to a random number, uniform over [0, 1).

    Args:
        indices: int64 (N,).
        salt: Selects the sequence; usually a ``key``.

    Returns:
        float32 (N,), on the device of ``indices``.
    """
    return (_hash(indices, salt) >> 29).float() / 2**24  # 24 bits are exact in float32, so none rounds up to 1


def _hash(indices: Tensor, salt: int) -> Tensor:
    """Return the upper 53 bits of SplitMix64, int64 (N,)."""
    state = indices * _GOLDEN + salt
    state = (state ^ _shift_right(state, 30)) * _MIX_1
    state = (state ^ _shift_right(state, 27)) * _MIX_2
    return _shift_right(state ^ _shift_right(state, 31), 11)


def _shift_right(values: Tensor, bits: int) -> Tensor:
    """Shift logically, where ``>>`` on int64 shifts arithmetically."""
    return (values >> bits) & ((1 << (64 - bits)) - 1)


class SampleRandom:
    """Random numbers for the samples of a batch, each a function of (seed, epoch, sample index, draw) only.

    Args:
        seed: The run's seed.
        epoch: The epoch, from 0.
        indices: int64 (N,), indices of the samples in the dataset; random numbers are drawn on their device.
        places: int64 (N,), the samples' places in the epoch, for an epoch that repeats samples: used instead of the
            indices, so that repetitions differ.
    """

    def __init__(self, seed: int, epoch: int, indices: Tensor, places: Tensor | None = None) -> None:
        self.epoch = epoch
        self._seed, self._indices = seed, indices
        self._places = indices if places is None else places
        self._draws = 0

    def fixed_coins(self) -> Tensor:
        """Flip a fair coin per sample, with the same outcome in every epoch: bool (N,)."""
        return (_hash(self._indices, key(self._seed, "coins")) & 1).bool()

    def uniform(self) -> Tensor:
        """Draw float32 (N,), uniform over [0, 1)."""
        return hash_uniform(self._places, self._next_salt())

    def integers(self, low: int, high: int) -> Tensor:
        """Draw int64 (N,), uniform over [low, high)."""
        return low + _hash(self._places, self._next_salt()) % (high - low)

    def _next_salt(self) -> int:
        self._draws += 1
        return key(self._seed, self.epoch, self._draws)
