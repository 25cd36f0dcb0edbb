"""Policies that leave their choice to luck, with the luck that they had live.

Two dozen requests sent by lot go where they happen to go: live one node may get half of them, and another a
sixth. A simulation with luck of its own then differs for that alone. So where a policy draws its node, or
draws among nodes that it holds for equal, the simulator draws again until the node is the one that was drawn
live: it is asked what happens, given that draw. Where it would never draw that node, its first draw stands.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from isochrone.routing import Luck, Policy
from isochrone.routing.choice import Choice

LEFT_TO_LUCK = ("random", "least-request")
"""Those of which nothing but a choice among equals is luck, and none of their state depends on it."""

_DRAWS_MAX = 64


def as_drawn_live(policy: Policy, nodes: Mapping[str, str]) -> Policy:
    """`policy` with the luck it had live. `nodes`: by id of request, the node that it went to.

    One that is not in `LEFT_TO_LUCK` is returned as it is.
    """
    if policy.name not in LEFT_TO_LUCK:
        return policy

    def rank(choice: Choice, luck: Luck, parameters: object) -> Sequence[int]:
        first = policy.rank(choice, luck, parameters)
        names = [node.node for node in choice.view.nodes]
        wanted = nodes.get(choice.request.id)
        if wanted not in names:
            return first
        ranked, at = first, names.index(wanted)
        for _ in range(_DRAWS_MAX):
            if ranked[0] == at:
                return ranked
            ranked = policy.rank(choice, luck, parameters)
        return first

    return replace(policy, rank=rank)
