"""Where a prompt belongs: the same nodes for the same leading text, at every gateway, without talking.

Source: rendezvous (highest random weight) hashing, Thaler and Ravishankar, IEEE/ACM Transactions on
Networking 1998. Only what the lost or new node gains or loses moves when the fleet changes.
"""

import numpy as np

from isochrone.model import Floats, Hashes, Request, name_hash

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def prefix_key(request: Request, blocks: int) -> int:
    """64 bits that requests share whose first `blocks` blocks of prompt are the same.

    A shorter prompt counts as far as it goes; one without a whole block shares its key with no other.
    """
    hashes = request.blocks.hashes
    return hashes[min(blocks, len(hashes)) - 1] & _MASK if hashes else name_hash(request.id)


def affinity(name_hash_column: Hashes, key: int, function: int = 0) -> Floats:
    """How strongly each node draws `key`, 0 to 1, shape (nodes,); the node with the most owns it.

    `function`: number of the hash function; different ones are independent.
    """
    salted = (key + function * _GOLDEN) & _MASK
    return np.asarray(affinities(name_hash_column, np.array([salted], dtype=np.uint64))[0])


def affinities(name_hash_column: Hashes, keys: Hashes) -> Floats:
    """`affinity` of many keys at once, shape (keys, nodes)."""
    mixed = mix64(name_hash_column[np.newaxis, :] ^ mix64(keys)[:, np.newaxis])
    return mixed.astype(np.float64) * 2.0**-64


def mix64(bits: Hashes) -> Hashes:
    """`bits` mixed so that each depends on all (the finalizer of SplitMix64; Steele et al., OOPSLA 2014)."""
    mixed = bits + np.uint64(_GOLDEN)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    result: Hashes = mixed ^ (mixed >> np.uint64(31))
    return result
