"""Luck by purpose, and numbers that look like luck but follow from what they are given."""

import zlib

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Hashes = NDArray[np.uint64]


def luck_for(seed: int, purpose: str) -> np.random.Generator:
    """Luck of its own for each purpose: drawing more of one leaves all others as they were."""
    words = np.random.SeedSequence([seed % 2**64, zlib.crc32(purpose.encode())])
    return np.random.Generator(np.random.PCG64(words))


def mix64(numbers: Hashes) -> Hashes:
    """Each number scattered over 64 bits: the finaliser of SplitMix64 (Steele, Lea, Flood; OOPSLA 2014)."""
    z = numbers + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def hashes(*parts: int | Ints) -> Hashes:
    """One 64-bit number for each row of `parts`, which are whole numbers or arrays of one length."""
    known = np.zeros(1, dtype=np.uint64)
    for part in parts:
        known = mix64(known ^ mix64(np.atleast_1d(np.asarray(part, dtype=np.int64)).astype(np.uint64)))
    return known


def zipf_shares(count: int, exponent: float) -> Floats:
    """Shares 1/rank**exponent of `count` things; they sum to 1."""
    weights = np.arange(1, count + 1, dtype=np.float64) ** -exponent
    return np.asarray(weights / weights.sum())


def pick(shares: Floats, luck: Floats) -> Ints:
    """For each of `luck`, in [0, 1), the index that it falls on when each has its share of the way."""
    return np.asarray(
        np.searchsorted(np.cumsum(shares)[:-1], luck * shares.sum(), side="right"), dtype=np.int64
    )


def whole_shares(weights: Floats, count: int) -> Ints:
    """`count` things in proportion to `weights`, in whole numbers: largest remainders, ties to the first."""
    exact = weights / weights.sum() * count
    counts: Ints = np.floor(exact).astype(np.int64)
    order = np.argsort(counts - exact, kind="stable")
    counts[order[: count - int(counts.sum())]] += 1
    return counts
