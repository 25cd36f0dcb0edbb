"""To which few nodes the prompts that begin alike go."""

import numpy as np
import pytest

from isochrone.model import name_hash
from isochrone.routing.gathering import GATHERED_MAX, SHELVES, gather
from isochrone.routing.keys import affinities, affinity

NODES = 12
HASHES = np.array([name_hash(f"node-{at}") for at in range(NODES)], np.uint64)
EQUAL = np.ones(NODES)


def test_each_beginning_gets_distinct_nodes_of_those_that_count():
    shared = np.array([1, 4, 5, 9])
    shelves = gather(HASHES, EQUAL, shared)
    assert shelves.shape == (SHELVES, len(shared))
    assert all(sorted(shelf) == [1, 4, 5, 9] for shelf in shelves.tolist())
    assert gather(HASHES, EQUAL, np.arange(NODES)).shape == (SHELVES, GATHERED_MAX)


def test_a_node_gets_beginnings_in_proportion_to_its_capacity():
    capacity = np.array([4.0] * 4 + [1.0] * 8)
    first = gather(HASHES, capacity, np.arange(NODES))[:, 0]
    # 24 capacities in all, of which the large ones have 16.
    assert np.count_nonzero(first < 4) / SHELVES == pytest.approx(16 / 24, abs=4 * np.sqrt(2 / 9 / SHELVES))


def test_what_a_node_that_left_had_goes_to_the_next_and_nothing_else_moves():
    before = gather(HASHES, EQUAL, np.arange(NODES))[:, :3]
    after = gather(HASHES, EQUAL, np.arange(1, NODES))[:, :3]
    for was, now in zip(before.tolist(), after.tolist(), strict=True):
        assert [node for node in was if node != 0] == now[: 3 - (0 in was)]


def test_the_order_in_which_nodes_are_known_does_not_matter():
    """Gateways learn of nodes in different orders, and must agree."""
    nodes, turned = np.arange(NODES), np.arange(NODES)[::-1]
    assert np.array_equal(turned[gather(HASHES[turned], EQUAL, nodes)], gather(HASHES, EQUAL, nodes))


def test_many_keys_at_once_are_drawn_as_one_by_one():
    keys = np.array([0, 1, 77, 2**64 - 1], np.uint64)
    assert np.array_equal(affinities(HASHES, keys), [affinity(HASHES, int(key)) for key in keys])
