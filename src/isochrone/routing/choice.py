"""What a policy is given, and what shape it has."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from isochrone.model import Estimate, FleetView, NodeView, Request
from isochrone.routing.luck import Luck


@dataclass(frozen=True, slots=True)
class Choice:
    """One choice to make.

    Attributes:
        view: the fleet as believed now.
        request: what is to be placed.
        nodes: the nodes that may be chosen, at least one, in order of name.
        estimate: when a node would answer; worked out at most once for each node.
    """

    view: FleetView
    request: Request
    nodes: tuple[NodeView, ...]
    estimate: Callable[[NodeView], Estimate]


Rank = Callable[[Choice, Luck], Sequence[NodeView]]
"""A policy: all of `choice.nodes`, in the order in which they are to be tried."""


def shuffled(nodes: Sequence[NodeView], luck: Luck) -> list[NodeView]:
    """`nodes` in random order, each order as likely as any (Fisher-Yates)."""
    order = list(nodes)
    for last in range(len(order) - 1, 0, -1):
        other = luck.randrange(last + 1)
        order[last], order[other] = order[other], order[last]
    return order
