"""What the other gateways tell of their traffic."""

from dataclasses import dataclass, field

from isochrone.model import GatewayPulse, Peer, name_hash


@dataclass(slots=True)
class Gateways:
    """The last word of each gateway but ourselves.

    Attributes:
        most: gateways remembered; the one not heard of for longest gives way.
        silent_s: without news for so long a gateway counts no more.
    """

    most: int
    silent_s: float
    _heard: dict[str, tuple[GatewayPulse, float]] = field(default_factory=dict)
    _peers: dict[str, tuple[Peer, ...]] | None = None

    def __len__(self) -> int:
        return len(self._heard)

    def hear(self, pulse: GatewayPulse, now_s: float) -> None:
        """Take a pulse in, unless a later one is here already."""
        known = self._heard.pop(pulse.gateway, None)
        if known is not None and (pulse.epoch, pulse.seq) <= (known[0].epoch, known[0].seq):
            pulse, now_s = known
        self._heard[pulse.gateway] = (pulse, now_s)
        if len(self._heard) > self.most:
            del self._heard[next(iter(self._heard))]
        self._peers = None

    def forget_silent(self, now_s: float) -> None:
        """Drop those that have not spoken."""
        gone = [name for name, (_, at_s) in self._heard.items() if now_s - at_s > self.silent_s]
        for name in gone:
            del self._heard[name]
            self._peers = None

    def pulses(self) -> tuple[GatewayPulse, ...]:
        """The last word of each."""
        return tuple(pulse for pulse, _ in self._heard.values())

    def peers(self, model: str) -> tuple[Peer, ...]:
        """The other gateways that send requests for a model."""
        if self._peers is None:
            self._peers = {}
            for pulse, _ in self._heard.values():
                bits = name_hash(pulse.gateway)
                for flow in pulse.flows:
                    peer = Peer(
                        pulse.gateway,
                        bits,
                        pulse.region,
                        work_per_s=flow.work_per_s,
                        requests_per_s=flow.requests_per_s,
                        tells=pulse.tells,
                    )
                    self._peers[flow.model] = (*self._peers.get(flow.model, ()), peer)
        return self._peers.get(model, ())

    def work_per_s(self, model: str) -> float:
        """Slot-seconds a second that they send for a model, all together."""
        return sum(peer.work_per_s for peer in self.peers(model))
