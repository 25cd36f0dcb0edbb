"""The pace of a node's pulses, after what gateways tell of the fleet."""

from isochrone.fleet.cadence import pulse_interval_s
from isochrone.nodes.inference.settings import NodeSettings
from isochrone.ports import Clock


class Tempo:
    """Keeps the largest fleet that gateways told of lately, and says how long to wait until the next pulse.

    The largest counts, since each pulse goes to all gateways: one that knows few nodes, or lies, makes none
    speak more often than the others allow.
    """

    def __init__(self, settings: NodeSettings, clock: Clock) -> None:
        self._settings, self._clock = settings, clock
        self._window_ends_s = 0.0
        self._largest = self._largest_before = 0

    def told(self, nodes: int) -> None:
        """A gateway knows so many nodes."""
        self._turn()
        self._largest = max(self._largest, nodes)

    @property
    def nodes(self) -> int:
        """The largest fleet told of within the last one or two times `fleet_told_s`, 0 without."""
        self._turn()
        return max(self._largest, self._largest_before)

    @property
    def interval_s(self) -> float:
        """From one pulse to the next."""
        settings = self._settings
        return pulse_interval_s(
            self.nodes,
            pulse_s=settings.pulse_s,
            pulse_s_min=settings.pulse_s_min,
            pulses_per_s=settings.pulses_per_s,
        )

    def _turn(self) -> None:
        """Begin a new window when the last is over; forget that too when it was over for so long."""
        now_s, window_s = self._clock.now_s(), self._settings.fleet_told_s
        if now_s < self._window_ends_s:
            return
        if now_s < self._window_ends_s + window_s:
            self._largest_before, self._largest = self._largest, 0
            self._window_ends_s += window_s
        else:
            self._largest_before = self._largest = 0
            self._window_ends_s = now_s + window_s
