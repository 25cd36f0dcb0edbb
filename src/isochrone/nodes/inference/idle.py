"""Join-Idle-Queue, the node's side: whoever could begin with a new prompt at once says so."""

from collections.abc import Callable

from isochrone.nodes.inference.state import NodeState


class IdleNews:
    """Calls `announce` each time the node has room again.

    Source: Lu et al., "Join-Idle-Queue", Performance Evaluation 68, 2011, for servers of one job at a time. A
    node that works on many at once is idle in that sense when a new prompt would begin at once.
    """

    def __init__(self, state: NodeState, announce: Callable[[], None]) -> None:
        self._state, self._announce = state, announce
        self._was_idle = False

    @property
    def idle(self) -> bool:
        """Whether a slot is free, no prompt is being computed or waits, and a model is ready to answer."""
        state = self._state
        room = state.desk.has_room(state.clock.now_s()) and not state.leaving
        return room and bool(state.shelf.ready())

    def look(self) -> None:
        """Work came or went, or a model changed: announce it when that has made room."""
        idle, was_idle = self.idle, self._was_idle
        self._was_idle = idle
        if idle and not was_idle:
            self._announce()

    def say_again(self) -> None:
        """The bus is back: nobody may have heard what was said before."""
        self._was_idle = False
        self.look()
