"""Homes: every gateway divides the nodes alone, and all come out alike."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from routing_nouns import MODEL, a_plan, a_view

from isochrone.model import Floats, Homes, Indices, ListedColumns, Me, NodeView, Peer, Places, Roll
from isochrone.routing.company import find_company
from isochrone.routing.homes import HomeSettings, _Favourites, divide

SETTINGS = HomeSettings()
HERE, THERE = "here", "there"
NEAR_MS = 2.0


@dataclass(frozen=True)
class World:
    """Gateways by name, (region, work per second), and nodes by region.

    Attributes:
        gateways: who sends how much from where.
        regions: of each node.
        capacity: of each node; one each where none is told.
        unready: indices of nodes that do not count.
        prefix: of the names of nodes: other names, other luck.
        far_ms: round trip between the two regions.
        echo: whether a gateway is told of itself as well.
    """

    gateways: dict[str, tuple[str, float]]
    regions: Sequence[str]
    capacity: Floats | None = None
    unready: frozenset[int] = frozenset()
    prefix: str = "n"
    far_ms: float = 200.0
    echo: bool = False

    @property
    def weights(self) -> Floats:
        return np.ones(len(self.regions)) if self.capacity is None else self.capacity

    @property
    def ready(self) -> Indices:
        return np.array([at not in self.unready for at in range(len(self.regions))])

    def homes(self, name: str, before: Homes | None = None, settings=SETTINGS) -> Homes | None:
        """What the gateway of that name works out alone."""
        places = Places(lambda a, b: NEAR_MS if a == b else self.far_ms)
        for region in (HERE, THERE):
            places.number(region)
        peers = tuple(
            Peer(other, Me.of(other, "").name_hash, region, work_per_s)
            for other, (region, work_per_s) in self.gateways.items()
            if other != name or self.echo
        )
        view = replace(
            a_view(),
            nodes=Placed([f"{self.prefix}{at}" for at in range(len(self.regions))], self.regions, places),
            me=Me.of(name, self.gateways[name][0]),
            own_work_per_s=self.gateways[name][1],
            peers=peers,
            places=places,
            plan=a_plan(len(self.regions), homes=before) if before is not None else None,
        )
        return divide(view, find_company(view, 1000), self.weights, self.ready, settings)

    def all_homes(self, before: dict[str, Homes] | None = None) -> dict[str, Homes]:
        """What each gateway works out alone."""
        found = {name: self.homes(name, (before or {}).get(name)) for name in self.gateways}
        assert None not in found.values()
        return {name: homes for name, homes in found.items() if homes is not None}

    def owner(self, before: dict[str, Homes] | None = None) -> list[str]:
        """Whose each node is; every ready node is exactly one gateway's."""
        return owners(self.all_homes(before), len(self.regions), self.unready)


class Placed(Roll):
    """Nodes of which only the name and the region matter."""

    def __init__(self, names: Sequence[str], regions: Sequence[str], places: Places) -> None:
        super().__init__(MODEL, [NodeView(name, "") for name in names])
        self._regions = np.array([places.number(region) for region in regions], np.intp)

    @property
    def columns(self) -> ListedColumns:
        columns = PlacedColumns(MODEL, self._nodes)
        columns.regions = self._regions
        return columns


class PlacedColumns(ListedColumns):
    """Columns that know of regions."""

    regions: Indices

    @property
    def region(self) -> Indices:
        return self.regions


def owners(homes: dict[str, Homes], nodes: int, unready: frozenset[int] = frozenset()) -> list[str]:
    """Whose each node is, "" for those that do not count."""
    found = [[name for name, each in homes.items() if at in set(each.own.tolist())] for at in range(nodes)]
    assert [len(names) for names in found] == [0 if at in unready else 1 for at in range(nodes)]
    return ["".join(names) for names in found]


def alike(gateways: int, nodes: int, **facts) -> World:
    """So many gateways that send the same, and nodes, all in one place."""
    return World({f"g{at}": (HERE, 10.0) for at in range(gateways)}, [HERE] * nodes, **facts)


# -- one home each -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("gateways", "nodes"), [(2, 16), (3, 40), (5, 200), (16, 300)])
def test_each_node_has_exactly_one_home_though_every_gateway_divides_alone(gateways, nodes):
    world = World(
        {f"g{at}": ((HERE, THERE)[at % 2], 1.0 + at) for at in range(gateways)},
        [(HERE, THERE)[at % 2] for at in range(nodes)],
    )
    homes = world.all_homes()
    assert len(set(owners(homes, nodes))) == gateways
    assert all((np.diff(each.own) > 0).all() for each in homes.values())


def test_all_gateways_come_to_the_same_lifts_and_shares():
    first, *others = (
        World({"a": (HERE, 1.0), "b": (THERE, 2.0), "c": (HERE, 3.0)}, [HERE] * 60).all_homes().values()
    )
    for other in others:
        assert dict(other.lifts_ms) == dict(first.lifts_ms)
        assert dict(other.shares) == pytest.approx(dict(first.shares))
    assert dict(first.shares) == pytest.approx({"a": 1 / 6, "b": 2 / 6, "c": 3 / 6})
    assert first.made_at_s == 100.0


def test_they_stay_alike_from_one_division_to_the_next():
    world, homes = alike(4, 100), None
    for work_per_s in (10.0, 25.0, 25.0, 3.0, 3.0):
        world = replace(world, gateways=world.gateways | {"g1": (HERE, work_per_s)})
        homes = world.all_homes(homes)
        owners(homes, 100)


def test_only_nodes_that_are_ready_have_a_home():
    unready = frozenset(range(0, 60, 3))
    world = alike(3, 60, unready=unready)
    assert {at for at, name in enumerate(world.owner()) if not name} == unready


# -- how much ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["n", "node-", "x"])
@pytest.mark.parametrize("works", [(1, 1), (1, 3), (5, 3, 2), (10, 1), (1, 1, 1, 1), (8, 4, 2, 1, 1)])
def test_shares_of_the_nodes_follow_shares_of_the_work(works, prefix):
    nodes = 160
    world = World(
        {f"g{at}": (HERE, float(work)) for at, work in enumerate(works)}, [HERE] * nodes, prefix=prefix
    )
    owner = world.owner()
    for at, work in enumerate(works):
        assert owner.count(f"g{at}") == pytest.approx(nodes * work / sum(works), abs=2)


def test_it_is_capacity_that_is_shared_and_not_nodes():
    capacity = np.tile([1.0, 1.0, 1.0, 5.0], 50)
    world = World({"a": (HERE, 3.0), "b": (HERE, 1.0)}, [HERE] * 200, capacity)
    mine = np.array([name == "a" for name in world.owner()])
    assert capacity[mine].sum() == pytest.approx(0.75 * capacity.sum(), abs=2 * capacity.max())


def test_a_gateway_that_sends_nothing_gets_next_to_nothing_and_breaks_nothing():
    owner = World({"a": (HERE, 9.0), "b": (HERE, 9.0), "c": (HERE, 0.0)}, [HERE] * 100).owner()
    assert owner.count("c") <= 2
    silent = World({"a": (HERE, 0.0), "b": (HERE, 0.0)}, [HERE] * 100).owner()
    assert silent.count("a") == pytest.approx(50, abs=2)


# -- near rather than far ----------------------------------------------------------------------------


def test_gateways_get_the_nodes_beside_them():
    regions = [HERE] * 50 + [THERE] * 50
    owner = World({"a": (HERE, 1.0), "b": (THERE, 1.0)}, regions).owner()
    assert owner == ["a"] * 50 + ["b"] * 50


def far_apart(far_ms: float, work: float) -> World:
    """Two gateways far from each other, of which one sends so many times the work of the other."""
    return World({"a": (HERE, work), "b": (THERE, 1.0)}, [HERE] * 50 + [THERE] * 50, far_ms=far_ms)


def settled(world: World, divisions: int = 8) -> list[str]:
    """Whose each node is after so many divisions, each from the one before."""
    homes = None
    for _ in range(divisions):
        homes = world.all_homes(homes)
    return owners(homes or {}, len(world.regions))


@pytest.mark.parametrize(("far_ms", "work"), [(100.0, 1.5), (100.0, 3.0), (200.0, 2.0), (200.0, 3.0)])
def test_who_needs_more_than_there_is_beside_it_gets_the_rest_far_off(far_ms, work):
    owner = settled(far_apart(far_ms, work))
    assert owner[:50] == ["a"] * 50
    assert owner[50:].count("a") == pytest.approx(100 * work / (1 + work) - 50, abs=2)


@pytest.mark.parametrize(("far_ms", "work"), [(200.0, 1.5), (300.0, 2.0), (300.0, 3.0)])
def test_however_far_the_rest_is(far_ms, work):
    owner = settled(far_apart(far_ms, work))
    assert owner.count("a") == pytest.approx(100 * work / (1 + work), abs=2)


def test_two_gateways_of_one_place_share_what_is_there():
    regions = [HERE] * 60 + [THERE] * 60
    owner = World({"a": (HERE, 1.0), "b": (HERE, 1.0), "c": (THERE, 2.0)}, regions).owner()
    assert owner[60:] == ["c"] * 60
    assert owner[:60].count("a") == pytest.approx(30, abs=2)


# -- stable ------------------------------------------------------------------------------------------


def moved(before: list[str], after: list[str]) -> int:
    return sum(one != other for one, other in zip(before, after, strict=True))


@pytest.mark.parametrize("factor", [0.95, 1.05])
def test_a_little_more_or_less_work_moves_few_nodes(factor):
    world, nodes = alike(4, 400), 400
    before = world.all_homes()
    more = replace(world, gateways=world.gateways | {"g2": (HERE, 10.0 * factor)})
    known, homes = owners(before, nodes), before
    for _ in range(10):
        homes = more.all_homes(homes)
    assert moved(known, owners(homes, nodes)) <= 0.05 * nodes


def test_the_same_news_move_nothing():
    world = alike(4, 200)
    before = world.all_homes()
    again = world.all_homes(before)
    assert owners(again, 200) == owners(before, 200)


def test_a_node_that_goes_takes_few_others_along():
    world = alike(4, 400)
    before = world.all_homes()
    after = replace(world, unready=frozenset({17})).all_homes(before)
    kept, known = owners(after, 400, frozenset({17})), owners(before, 400)
    assert moved(known, kept) <= 1 + 0.03 * 400


def test_a_leap_in_the_work_is_followed_step_by_step():
    world = World({"a": (HERE, 1.0), "b": (HERE, 1.0)}, [HERE] * 200)
    leap = replace(world, gateways={"a": (HERE, 3.0), "b": (HERE, 1.0)})
    homes, counts = world.all_homes(), []
    for _ in range(12):
        homes = leap.all_homes(homes)
        counts.append(len(homes["a"].own))
    assert counts[0] == pytest.approx(200 * (0.5 + SETTINGS.share_gain * 0.25), abs=3)
    assert counts == sorted(counts)
    assert counts[-1] == pytest.approx(150, abs=3)


def test_a_gateway_that_joins_takes_its_share_from_all():
    world = alike(3, 240)
    before = world.all_homes()
    joined = replace(world, gateways=world.gateways | {"new": (HERE, 10.0)})
    known, homes = owners(before, 240), before
    for _ in range(12):
        homes = joined.all_homes(homes)
    owner = owners(homes, 240)
    assert owner.count("new") == pytest.approx(60, abs=3)
    assert moved(known, owner) <= 60 + 0.1 * 240


def test_while_a_newcomer_settles_in_few_nodes_have_two_homes_or_none():
    """It can't know how the others came to their division, and begins with the shares of now."""
    world = alike(3, 240)
    homes = world.all_homes()
    joined = replace(world, gateways=world.gateways | {"new": (HERE, 10.0)})
    for _ in range(12):
        homes = joined.all_homes(homes)
        homes_of = np.bincount(np.concatenate([each.own for each in homes.values()]), minlength=240)
        assert (homes_of != 1).sum() <= 0.05 * 240
    assert (homes_of == 1).all()


# -- few nodes, few gateways -------------------------------------------------------------------------


def test_one_gateway_shares_with_nobody():
    assert alike(1, 100).homes("g0") is None


@pytest.mark.parametrize("nodes", [0, 1, 7, 15])
def test_too_few_nodes_for_two_homes_are_everybodys(nodes):
    world = alike(2, nodes)
    assert [world.homes(name) for name in world.gateways] == [None, None]


def test_it_is_the_ready_nodes_that_must_be_enough():
    assert alike(2, 16).homes("g0") is not None
    assert alike(2, 16, unready=frozenset({3})).homes("g0") is None


def test_where_nodes_are_few_gateways_share_homes():
    gateways, nodes = 10, 3 * SETTINGS.nodes_min + 1
    homes = alike(gateways, nodes).all_homes()
    shared = {tuple(each.own.tolist()) for each in homes.values()}
    assert len(shared) == 3
    assert sorted(at for own in shared for at in own) == list(range(nodes))
    assert sum(next(iter(homes.values())).shares.values()) == pytest.approx(1.0)


def test_gateways_that_share_a_home_stand_near_each_other():
    gateways = {f"g{at}": ((HERE, THERE)[at % 2], 10.0) for at in range(8)}
    regions = [HERE] * 20 + [THERE] * 20
    homes = World(gateways, regions).all_homes()
    shared: dict[tuple[int, ...], set[str]] = {}
    for name, each in homes.items():
        shared.setdefault(tuple(each.own.tolist()), set()).add(gateways[name][0])
    assert 2 <= len(shared) <= 5
    assert all(len(places) == 1 for places in shared.values())


def test_a_peer_of_our_own_name_is_ourselves():
    """Our own pulse may come back to us."""
    assert alike(2, 40, echo=True).owner() == alike(2, 40).owner()
    assert alike(1, 40, echo=True).homes("g0") is None


@pytest.mark.parametrize("step", [0.0, 1e-3, 0.1, 3.0])
def test_whose_favourite_is_sure_need_not_be_asked_again(step):
    """Lifts wander, little or far; ties go to the first."""
    luck = np.random.default_rng(7)
    likings, lifts = np.round(luck.gumbel(size=(400, 5)), 2), np.zeros(5)
    favourites = _Favourites(likings)
    for _ in range(40):
        assert np.array_equal(favourites.under(lifts), np.argmax(likings + lifts, axis=1))
        lifts = lifts + step * luck.normal(size=5)
