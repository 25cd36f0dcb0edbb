"""B1, a reference: greedy with the truth. Not a bound: greed is not optimal, not even with all knowledge.

Each request goes where it would have its first token soonest and then decode fastest, by the estimate's score
with nothing estimated: true waits, lengths, loads and caches, work still on the wire included, no staleness.
"""

import numpy as np

from isochrone.fleet.owners import Owners
from isochrone.model import Candidate, Decision, Estimate, FleetView, Floats, ModelState
from isochrone.routing.estimate import DEFAULT_WEIGHTS
from isochrone.sim.spec import Job
from isochrone.sim.world.flight import Flight
from isochrone.sim.world.network import Network
from isochrone.sim.world.yard import Yard

_CANDIDATES = 3


class Oracle:
    """Sees through walls. One for all gateways."""

    def __init__(self, yard: Yard, network: Network) -> None:
        self._yard, self._network = yard, network
        nodes = len(yard.nodes)
        self._free_at_s = np.zeros(nodes)
        self._on_the_wire_s = np.zeros(nodes)
        self._sent: dict[tuple[int, int, int], float] = {}
        self._slots = np.array([node.spec.hardware.slots for node in yard.nodes], np.float64)
        self._speeds: dict[str, tuple[Floats, Floats, Floats]] = {}
        self._ready_at_s: dict[str, Floats] = {}
        self._versions = np.full(nodes, -1, np.int64)
        self._owners: dict[str, Owners] = {}
        self._rtt_ms = (network.out_s + network.back_s) * 1e3
        yard.changed.append(self._look)
        for index in range(nodes):
            self._look(index, 0.0)

    # -- looking -------------------------------------------------------------------------------------

    def _look(self, node: int, now_s: float) -> None:
        """Something happened there."""
        self._free_at_s[node] = now_s + self._yard.nodes[node].true_wait_s(now_s)
        if self._versions[node] != self._yard.versions[node]:
            self._versions[node] = self._yard.versions[node]
            for pulse in self._yard.nodes[node].model_pulses(now_s):
                ready_at_s = self._ready_at_s.get(pulse.name)
                if ready_at_s is None:
                    ready_at_s = self._ready_at_s[pulse.name] = np.full(len(self._yard.nodes), np.inf)
                loading = pulse.state is ModelState.LOADING
                ready_at_s[node] = now_s + pulse.ready_in_s if loading else -pulse.ready_in_s

    def sent(self, flight: Flight, node: int) -> None:
        """A request of known size is on its way there."""
        chosen = flight.decision.chosen if flight.decision is not None else None
        service_s = chosen.estimate.service_s / self._slots[node] if chosen is not None else 0.0
        self._sent[node, flight.job.id, flight.attempt] = service_s
        self._on_the_wire_s[node] += service_s

    def came_in(self, flight: Flight, node: int) -> None:
        """It arrived, and the node's own truth has it from here on."""
        self._on_the_wire_s[node] -= self._sent.pop((node, flight.job.id, flight.attempt), 0.0)
        owners = self._owners.setdefault(flight.job.model, Owners())
        for block in flight.job.blocks.hashes:
            owners.add(block, node)

    # -- deciding ------------------------------------------------------------------------------------

    def decide(self, view: FleetView, flight: Flight, now_s: float) -> Decision:
        """The best node by the truth, and the next best."""
        job, rtt_ms = flight.job, self._rtt_ms[flight.gateway]
        base_ms, ms_per_token, tpot_ms = self._speeds_of(job.model)
        wait_s = np.maximum(0.0, self._free_at_s - now_s) + np.maximum(0.0, self._on_the_wire_s)
        ready_at_s = self._ready_at_s.get(job.model, np.full(len(wait_s), np.inf))
        cold_s = np.where(ready_at_s < 0.0, -ready_at_s, np.maximum(0.0, ready_at_s - now_s))
        cached = self._cached_tokens(job)
        prefill_ms = (base_ms + ms_per_token * (job.prompt_tokens - cached)) / self._yard.speed
        decode_ms = (job.output_tokens - 1) * tpot_ms / self._yard.speed
        beta = DEFAULT_WEIGHTS.beta_stream if flight.request.stream else DEFAULT_WEIGHTS.beta_whole
        score_ms = rtt_ms + 1e3 * (wait_s + cold_s) + prefill_ms + beta * decode_ms
        score_ms[~self._yard.alive | self._network.cut[flight.gateway]] = np.inf
        score_ms[[error_ms is not None for error_ms in self._yard.sinkhole_ms]] = np.inf
        score_ms[[self._yard.index[name] for name in flight.failed]] = np.inf
        score_ms[np.isnan(score_ms)] = np.inf
        best = [int(i) for i in np.argsort(score_ms, kind="stable")[:_CANDIDATES] if score_ms[i] < np.inf]

        def told(index: int) -> Candidate:
            estimate = Estimate(
                rtt_ms=float(rtt_ms[index]),
                wait_ms=float(wait_s[index] * 1e3),
                cold_ms=float(cold_s[index] * 1e3),
                prefill_ms=float(prefill_ms[index]),
                bias_ms=0.0,
                decode_ms=float(decode_ms[index]),
                uncertainty_ms=0.0,
                prompt_tokens=job.prompt_tokens,
                cached_tokens=int(cached[index]),
                output_tokens=job.output_tokens,
                score_ms=float(score_ms[index]),
            )
            return Candidate(self._yard.names[index], estimate)

        candidates = tuple(told(index) for index in best)
        return Decision(flight.request.id, job.model, "reference-b1", candidates, (), view.now_s)

    def _cached_tokens(self, job: Job) -> Floats:
        """Prompt tokens that each node holds, asked of those that were ever sent a part of the prompt."""
        cached, owners = np.zeros(len(self._yard.nodes)), self._owners.get(job.model)
        if owners is not None and job.blocks.hashes:
            for node in owners.find(job.blocks):
                cached[node] = self._yard.nodes[node].hit_tokens(job)
                if not cached[node]:
                    for block in job.blocks.hashes:
                        owners.discard(block, node)
        return cached

    def _speeds_of(self, model: str) -> tuple[Floats, Floats, Floats]:
        known = self._speeds.get(model)
        if known is None:
            rows = [self._speed_of(index, model) for index in range(len(self._yard.nodes))]
            base, per_token, tpot = np.array(rows).T
            known = self._speeds[model] = (base, per_token, tpot)
        return known

    def _speed_of(self, index: int, model: str) -> tuple[float, float, float]:
        spec = self._yard.nodes[index].spec
        if model not in spec.models or model not in spec.hardware.speeds:
            return (np.inf, 0.0, 0.0)
        speed = spec.hardware.speeds[model]
        return (
            speed.prefill_base_ms / spec.speed,
            speed.prefill_ms_per_token / spec.speed,
            speed.tpot_ms / spec.speed,
        )
