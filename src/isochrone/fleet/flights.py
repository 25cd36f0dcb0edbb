"""Our own requests on their way, and what is learned when they end."""

from isochrone.fleet.events import Dispatched, Finished
from isochrone.fleet.ledger import Flight
from isochrone.fleet.model_lore import ModelLore, plausible
from isochrone.fleet.models import Models
from isochrone.fleet.node import NodeBelief
from isochrone.fleet.settings import FleetSettings
from isochrone.fleet.speed import Speed
from isochrone.model import OutcomeKind


class Flights:
    """Requests that were dispatched and have not finished, by id."""

    def __init__(self, settings: FleetSettings, models: Models) -> None:
        self._settings, self._models = settings, models
        self._open: dict[str, Flight] = {}

    def __len__(self) -> int:
        return len(self._open)

    def begin(self, event: Dispatched, node: NodeBelief, now_s: float) -> None:
        """A request is on its way to `node`, which is believed to be busier from now on."""
        lore, estimate = self._models.of(event.request.model), event.estimate
        speed = node.speeds.get(event.request.model)
        idle = speed is not None and not speed.at_work
        sent, load_ms = (None, None) if speed is None else (speed.sent(event.request), speed.load_ms)
        self._open[event.request.id] = Flight(node.name, estimate, sent, load_ms)
        node.reserve(event.request.id, estimate, now_s)
        lore.flow.add(estimate.service_s, now_s)
        lore.requests.add(1.0, now_s)
        lore.kin.service.add(estimate.service_s * 1e3)
        if lore.probes.answers:
            lore.probes.used(node.row, lore.table.rows)
        if lore.front is not None:
            row = lore.table.row_of(node.row)
            step_s = max(estimate.prefill_ms / 1e3, estimate.service_s / node.slots)
            if row is not None:
                lore.front.worsen(row, step_s)
        if speed is None:
            return
        if speed.expect_load(now_s) or speed.on_trial or not (sent and sent.warm):
            speed.write(lore.table)
        if idle and speed.at_work and len(node.speeds) > 1:
            self._models.at_work(node, event.request.model)

    def end(self, event: Finished, node: NodeBelief | None, now_s: float) -> str | None:
        """A request is on its way no more; returns what `node`, where it went, is to be blamed for.

        `node` is None when it was forgotten meanwhile.
        """
        outcome = event.outcome
        flight = self._open.get(outcome.request_id)
        if flight is None or flight.node != outcome.node:
            return None
        del self._open[outcome.request_id]
        if node is None:
            return None
        balked = outcome.kind is OutcomeKind.BALKED
        node.release(outcome.request_id, now_s, untaken=balked)
        lore, speed = self._models.of(event.request.model), node.speeds.get(event.request.model)
        worked = speed is not None and speed.at_work
        if balked:
            lore.flow.add(-flight.estimate.service_s, now_s)
            lore.requests.add(-1.0, now_s)
            if speed is not None:
                speed.balked(flight, outcome.ready_in_s, now_s)
        if speed is not None and speed.ended():
            speed.write(lore.table)
        if speed is not None and speed.at_work is not worked and len(node.speeds) > 1:
            self._models.at_work(node, event.request.model)
        if speed is not None and (outcome.kind is not OutcomeKind.ANSWERED or outcome.status != 200):
            speed.failed(event.request)
            speed.write(lore.table)
        match outcome.kind:
            case OutcomeKind.ANSWERED if outcome.status == 200:  # an error answered fast is no speed
                node.recover()
                _learn(lore, speed, flight, event, now_s)
            case OutcomeKind.REFUSED:
                if speed is not None:
                    speed.refused_until_s = now_s + self._settings.refused_s
                    speed.write(lore.table)
            case OutcomeKind.FAILED | OutcomeKind.SILENT if not outcome.status:
                return outcome.detail or outcome.kind.value
        return None


def _learn(lore: ModelLore, speed: Speed | None, flight: Flight, event: Finished, now_s: float) -> None:
    """Fold in what an answer told; of one that can't be true, nothing."""
    request, outcome = event.request, event.outcome
    if outcome.timings is not None and not plausible(request, outcome.timings):
        if speed is not None:
            speed.failed(request)
            speed.write(lore.table)
        return
    if speed is not None:
        speed.learn(request, flight, outcome, now_s)
        speed.write(lore.table)
    if outcome.timings is not None:
        lore.learn(request, outcome.timings)
