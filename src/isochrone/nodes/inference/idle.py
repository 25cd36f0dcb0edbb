"""Join-Idle-Queue, the node's side: whoever has no work left says so."""

from collections.abc import Callable

from isochrone.nodes.inference.state import NodeState


class IdleNews:
    """Calls `announce` each time the node becomes idle. Source: Lu et al., "Join-Idle-Queue", 2011."""

    def __init__(self, state: NodeState, announce: Callable[[], None]) -> None:
        self._state, self._announce = state, announce
        self._was_idle = False

    @property
    def idle(self) -> bool:
        """Whether nothing runs, nothing waits, and a model is ready to answer."""
        state, desk = self._state, self._state.desk
        busy = desk.running or desk.waiting or desk.foreign_jobs or state.leaving
        return not busy and bool(state.shelf.ready())

    def look(self) -> None:
        """Work came or went, or a model changed: announce it when that has made the node idle."""
        idle, was_idle = self.idle, self._was_idle
        self._was_idle = idle
        if idle and not was_idle:
            self._announce()

    def say_again(self) -> None:
        """The bus is back: nobody may have heard what was said before."""
        self._was_idle = False
        self.look()
