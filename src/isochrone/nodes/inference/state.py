"""All that the parts of one agent share, and what the node says of itself from it."""

from collections.abc import Callable
from dataclasses import dataclass

from isochrone.model import ModelPulse, NodeCard, Pulse
from isochrone.nodes.inference.desk import Desk
from isochrone.nodes.inference.metrics import NodeMetrics
from isochrone.nodes.inference.relay_job import Relay
from isochrone.nodes.inference.settings import NodeSettings
from isochrone.nodes.inference.shelf import Shelf, ShelvedModel
from isochrone.nodes.inference.tempo import Tempo
from isochrone.ports import Clock, EngineHost
from isochrone.wire.nodes import card_digest


@dataclass(slots=True)
class NodeState:
    """The agent's common state."""

    settings: NodeSettings
    clock: Clock
    host: EngineHost
    desk: Desk
    shelf: Shelf
    metrics: NodeMetrics
    relay_parts: Relay
    tempo: Tempo
    log: Callable[[str], None]
    epoch: int
    url: str = ""
    seq: int = 0
    leaving: bool = False

    def card(self) -> NodeCard:
        """The slowly changing facts."""
        settings = self.settings
        return NodeCard(
            node=settings.name,
            url=self.url,
            operator=settings.operator,
            region=settings.region,
            engine=self.host.name,
            slots=settings.slots,
            queue_max=settings.queue_max,
            memory_bytes=settings.memory_bytes if self.host.loads else 0,
            models=tuple(model.card for model in self.shelf.models()),
            failure_domains=settings.failure_domains,
            hardware=settings.hardware,
        )

    def pulse(self) -> Pulse:
        """The state at this instant, with the next number in sequence."""
        self.seq += 1
        return Pulse(
            node=self.settings.name,
            epoch=self.epoch,
            seq=self.seq,
            card_digest=card_digest(self.card()),
            load=self.desk.load(self.clock.now_s()),
            models=tuple(self._model_pulse(model) for model in self.shelf.models()),
            memory_free_bytes=self.shelf.memory_free_bytes,
            leaving=self.leaving,
        )

    def _model_pulse(self, model: ShelvedModel) -> ModelPulse:
        speeds = model.speeds
        base_ms, ms_per_token = speeds.prefill.fit() if speeds.measured else (0.0, 0.0)
        running = self.desk.running.values()
        concurrency, several = max(1, len(running)), len(self.shelf.models()) > 1
        return ModelPulse(
            name=model.card.name,
            state=model.state,
            ready_in_s=self.shelf.ready_in_s(model),
            prefill_base_ms=base_ms,
            prefill_ms_per_token=ms_per_token,
            tpot_ms=speeds.decode.at(concurrency) if speeds.decode.count else 0.0,
            at_work=several and any(job.model == model.card.name for job in running),
        )
