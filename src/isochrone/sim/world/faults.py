"""What goes wrong in a world, and when."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from math import inf
from typing import TYPE_CHECKING

from isochrone.ports import SettingError
from isochrone.sim.scenario.settings import Fault

if TYPE_CHECKING:
    from isochrone.sim.world.world import World


_Act = Callable[[float], None]
_Span = tuple[_Act, _Act]
"""What to do when a fault begins, and when it ends."""


def _do(now_s: float, act: _Act) -> None:
    act(now_s)


class Faults:
    """Puts a scenario's faults on the agenda, each with its end."""

    def __init__(self, world: "World", luck: random.Random) -> None:
        self._world, self._luck = world, luck
        self._outages: Counter[int] = Counter()

    def schedule(self, faults: Sequence[Fault]) -> None:
        """Note begin and end of each. Raises SettingError for one that names a node that is not there."""
        kinds: dict[str, Callable[[Fault], _Span]] = {
            "node_loss": self._node_loss,
            "region_loss": self._region_loss,
            "slow_node": self._slow_node,
            "sinkhole": self._sinkhole,
            "partition": self._partition,
            "gateway_crash": self._gateway_crash,
        }
        for fault in faults:
            begin, end = kinds[fault.kind](fault)
            self._world.agenda.note(fault.at_s, _do, begin)
            if fault.duration_s < inf:
                self._world.agenda.note(fault.at_s + fault.duration_s, _do, end)

    def _nodes(self, fault: Fault) -> list[int]:
        """The named nodes, or a share of all drawn by lot."""
        yard = self._world.yard
        for name in fault.nodes:
            if name not in yard.index:
                raise SettingError(f"faults: {fault.kind} names node {name!r}, which is not there.")
        if fault.nodes:
            return [yard.index[name] for name in fault.nodes]
        if fault.all_regions:
            return self._world.nodes_in(fault.all_regions)
        count = max(1, round(fault.share * len(yard.nodes)))
        return sorted(self._luck.sample(range(len(yard.nodes)), count))

    def _power(self, nodes: Sequence[int]) -> _Span:
        yard = self._world.yard

        def begin(now_s: float) -> None:
            for node in nodes:
                self._outages[node] += 1
                yard.fail(node, now_s)

        def end(now_s: float) -> None:
            for node in nodes:
                self._outages[node] -= 1
                if not self._outages[node]:  # no other fault keeps it off
                    yard.revive(node, now_s)

        return begin, end

    def _node_loss(self, fault: Fault) -> _Span:
        return self._power(self._nodes(fault))

    def _region_loss(self, fault: Fault) -> _Span:
        nodes = self._world.nodes_in(fault.all_regions)
        if not nodes:
            where = ", ".join(fault.all_regions)
            raise SettingError(f"faults: region_loss names {where}, where no node stands.")
        return self._power(nodes)

    def _slow_node(self, fault: Fault) -> _Span:
        nodes, yard = self._nodes(fault), self._world.yard

        def begin(now_s: float) -> None:
            for node in nodes:
                yard.set_speed(node, 1.0 / fault.factor, now_s)

        def end(now_s: float) -> None:
            for node in nodes:
                yard.set_speed(node, 1.0, now_s)

        return begin, end

    def _sinkhole(self, fault: Fault) -> _Span:
        nodes, yard = self._nodes(fault), self._world.yard

        def begin(_now_s: float) -> None:
            for node in nodes:
                yard.sinkhole_ms[node] = fault.error_ms

        def end(_now_s: float) -> None:
            for node in nodes:
                yard.sinkhole_ms[node] = None

        return begin, end

    def _partition(self, fault: Fault) -> _Span:
        network = self._world.network
        return (
            lambda _now_s: network.partition(fault.all_regions, cut=True),
            lambda _now_s: network.partition(fault.all_regions, cut=False),
        )

    def _gateway_crash(self, fault: Fault) -> _Span:
        world = self._world
        for index in fault.gateways:
            if index >= len(world.gateways):
                raise SettingError(f"faults: gateway_crash names gateway {index}, which is not there.")

        def begin(now_s: float) -> None:
            for index in fault.gateways:
                world.gateways[index].crash(now_s)
                world.pulses.forget(index)

        def end(now_s: float) -> None:
            for index in fault.gateways:
                world.gateways[index].alive = True
                world.pulses.introduce(world.gateways[index], now_s)

        return begin, end
