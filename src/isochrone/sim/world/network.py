"""Ways between places: how long a message takes, and whether it arrives at all."""

import random
from collections.abc import Callable, Sequence
from itertools import groupby

import numpy as np

from isochrone.model import Bools, Floats

OneWay = Callable[[str, str], float]
"""Milliseconds from one region to another; the way back may take longer."""


class Network:
    """Delays between gateways, nodes and clients, with jitter that only ever adds; cuts between regions.

    Attributes:
        out_s: for each gateway, seconds to each node; shape (gateways, nodes).
        back_s: the ways back.
        cut: where nothing gets through, either way.
    """

    def __init__(
        self,
        one_way_ms: OneWay,
        gateway_regions: Sequence[str],
        node_regions: Sequence[str],
        *,
        jitter: float,
        luck: random.Random,
    ) -> None:
        self._one_way_ms, self._jitter, self._luck = one_way_ms, jitter, luck
        self._luck_between = random.Random()  # of their own, lest telling changes the ways of all else
        self._luck_between.setstate(luck.getstate())
        self._gateway_regions, self._node_regions = list(gateway_regions), list(node_regions)
        regions = sorted(set(node_regions))
        place = {region: at for at, region in enumerate(regions)}
        where = np.array([place[region] for region in node_regions])
        out_ms = np.array([[one_way_ms(g, region) for region in regions] for g in gateway_regions])
        back_ms = np.array([[one_way_ms(region, g) for region in regions] for g in gateway_regions])
        self.out_s: Floats = out_ms[:, where] / 1e3
        self.back_s: Floats = back_ms[:, where] / 1e3
        self._cuts = np.zeros(self.out_s.shape, np.int64)
        self.cut: Bools = self._cuts > 0
        self._apart = np.zeros((len(gateway_regions), len(gateway_regions)), np.int64)

    def out(self, gateway: int, node: int) -> float:
        """Seconds that one message to the node takes."""
        return self._with_jitter(float(self.out_s[gateway, node]))

    def back(self, gateway: int, node: int) -> float:
        """Seconds that one message from the node takes."""
        return self._with_jitter(float(self.back_s[gateway, node]))

    def between_s(self, gateway: int, other: int) -> float:
        """Seconds that one message from a gateway to another takes."""
        regions = self._gateway_regions
        return self._with_jitter(self._one_way_ms(regions[gateway], regions[other]) / 1e3, self._luck_between)

    def apart(self, gateway: int, other: int) -> bool:
        """Whether nothing gets through between two gateways."""
        return bool(self._apart[gateway, other])

    def client_s(self, region: str, gateway: int) -> float:
        """Seconds from a client to the gateway."""
        return self._one_way_ms(region, self._gateway_regions[gateway]) / 1e3

    def to_client_s(self, gateway: int, region: str) -> float:
        """Seconds back to the client."""
        return self._one_way_ms(self._gateway_regions[gateway], region) / 1e3

    def rtt_ms_between(self, origin: str, region: str) -> float:
        """The round trip that the region table promises."""
        return self._one_way_ms(origin, region) + self._one_way_ms(region, origin)

    def nearest_gateways(self, region: str) -> list[list[int]]:
        """All gateways, the nearest to clients in `region` first; those that are equally near together."""
        every = sorted(range(len(self._gateway_regions)), key=lambda gateway: self.client_s(region, gateway))
        return [list(near) for _, near in groupby(every, key=lambda gateway: self.client_s(region, gateway))]

    def partition(self, regions: Sequence[str], *, cut: bool) -> None:
        """Cut the given regions off from all others, or end such a cut; cuts may overlap."""
        inside = set(regions)
        gateways = np.array([region in inside for region in self._gateway_regions])
        nodes = np.array([region in inside for region in self._node_regions])
        self._cuts[gateways[:, None] ^ nodes[None, :]] += 1 if cut else -1
        self._apart[gateways[:, None] ^ gateways[None, :]] += 1 if cut else -1
        self.cut = self._cuts > 0

    def _with_jitter(self, delay_s: float, luck: random.Random | None = None) -> float:
        if not self._jitter:
            return delay_s
        return delay_s * (1.0 + self._jitter * (luck or self._luck).expovariate(1.0))
