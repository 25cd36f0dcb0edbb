"""B1, a reference: greedy with the truth. Not a bound: greed is not optimal, and neither is one that knows all.

Each request goes where it would have its first token soonest and then decode fastest, by the estimate's score
with nothing estimated: true waits, true lengths, true caches, work still on the wire included, no staleness.
"""

import numpy as np

from isochrone.model import Candidate, Decision, Estimate, Floats, FleetView
from isochrone.routing.estimate import DEFAULT_WEIGHTS
from isochrone.sim.flight import Flight
from isochrone.sim.network import Network
from isochrone.sim.yard import Yard


class Oracle:
    """Sees through walls. One for all gateways."""

    def __init__(self, yard: Yard, network: Network) -> None:
        self._yard = yard
        nodes = len(yard.nodes)
        self._free_at_s = np.zeros(nodes)
        self._on_the_wire_s = np.zeros(nodes)
        self._sent: dict[tuple[int, int, int], float] = {}
        self._slots = np.array([node.spec.hardware.slots for node in yard.nodes], np.float64)
        self._speeds: dict[str, tuple[Floats, Floats, Floats]] = {}
        self._rtt_ms = (network.out_s + network.back_s) * 1e3
        yard.changed.append(self._look)

    def _look(self, node: int, now_s: float) -> None:
        self._free_at_s[node] = now_s + self._yard.nodes[node].true_wait_s(now_s)

    def sent(self, flight: Flight, node: int) -> None:
        """A request of known size is on its way there."""
        assert flight.decision is not None
        service_s = flight.decision.candidates[0].estimate.service_s / self._slots[node]
        self._sent[node, flight.job.id, flight.attempt] = service_s
        self._on_the_wire_s[node] += service_s

    def came_in(self, flight: Flight, node: int) -> None:
        """It arrived, and the node's own truth has it from here on."""
        self._on_the_wire_s[node] -= self._sent.pop((node, flight.job.id, flight.attempt), 0.0)

    def decide(self, view: FleetView, flight: Flight, now_s: float) -> Decision:
        """The best node by the truth, and the next best two."""
        job, speeds = flight.job, self._speeds_of(flight.job.model)
        base_ms, ms_per_token, tpot_ms = speeds
        tried = [self._yard.index[name] for name in flight.failed]
        rtt_ms = self._rtt_ms[flight.gateway]
        wait_s = np.maximum(0.0, self._free_at_s - now_s) + np.maximum(0.0, self._on_the_wire_s)
        prefill_ms = base_ms + ms_per_token * job.prompt_tokens
        decode_ms = (job.output_tokens - 1) * tpot_ms
        beta = DEFAULT_WEIGHTS.beta_stream if flight.request.stream else DEFAULT_WEIGHTS.beta_whole
        score_ms = rtt_ms + 1e3 * wait_s + prefill_ms + beta * decode_ms
        score_ms[~self._yard.alive] = np.inf
        score_ms[tried] = np.inf
        best = [int(index) for index in np.argsort(score_ms, kind="stable")[:3] if score_ms[index] < np.inf]
        return Decision(
            request_id=flight.request.id,
            model=job.model,
            policy="reference-b1",
            candidates=tuple(
                Candidate(
                    self._yard.names[index],
                    Estimate(
                        rtt_ms=float(rtt_ms[index]),
                        wait_ms=float(wait_s[index] * 1e3),
                        cold_ms=0.0,
                        prefill_ms=float(prefill_ms[index]),
                        bias_ms=0.0,
                        decode_ms=float(decode_ms[index]),
                        uncertainty_ms=0.0,
                        prompt_tokens=job.prompt_tokens,
                        cached_tokens=0,
                        output_tokens=job.output_tokens,
                        score_ms=float(score_ms[index]),
                    ),
                )
                for index in best
            ),
            exclusions=(),
            at_s=view.now_s,
        )

    def _speeds_of(self, model: str) -> tuple[Floats, Floats, Floats]:
        known = self._speeds.get(model)
        if known is None:
            rows = [self._speed_of(index, model) for index in range(len(self._yard.nodes))]
            base, per_token, tpot = np.array(rows).T
            known = self._speeds[model] = (base, per_token, tpot)
        return known

    def _speed_of(self, index: int, model: str) -> tuple[float, float, float]:
        spec = self._yard.nodes[index].spec
        if model not in spec.models:
            return (np.inf, 0.0, 0.0)
        speed = spec.hardware.speeds[model]
        return (
            speed.prefill_base_ms / spec.speed,
            speed.prefill_ms_per_token / spec.speed,
            speed.tpot_ms / spec.speed,
        )
