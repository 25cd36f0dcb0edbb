"""Join-Idle-Queue: the node that announced first that it is idle; without one, any.

Reads: idle announcements to this gateway; for `weighted`, slots and learned speeds. Source: Lu, Xie, Kliot,
Geller, Larus and Greenberg, "Join-Idle-Queue", Performance Evaluation 2011, section 2 (JIQ-Random).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from isochrone.routing.choice import Choice
from isochrone.routing.luck import Luck


@dataclass(frozen=True, slots=True)
class Parameters:
    """What to do without an idle node.

    Attributes:
        weighted: draw by capacity instead of uniformly. The paper's servers are alike: uniform.
    """

    weighted: bool = False


def rank(choice: Choice, luck: Luck, parameters: Parameters) -> Sequence[int]:
    """Idle nodes, first come first; after them nodes by lot."""
    idle = [index for index in dict.fromkeys(choice.view.idle) if choice.may(index)][: choice.wanted]
    if len(idle) == choice.wanted:
        return idle
    if parameters.weighted:
        drawn = choice.draw_weighted(choice.wanted, choice.service.capacity_per_s, luck)
    else:
        drawn = choice.draw(choice.wanted, luck)
    return [*idle, *(index for index in drawn if index not in idle)][: choice.wanted]
