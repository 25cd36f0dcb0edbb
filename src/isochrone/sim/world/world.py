"""A world: clients, gateways, a bus and nodes, driven in virtual time from one seed."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from isochrone.fleet import FleetSettings, GatewayHeard, IdleAnnounced, ProbeAnswered
from isochrone.model import GatewayPulse, Load, Objective, Timings
from isochrone.routing import DEFAULT_COMPANY_SETTINGS, Policy, Router
from isochrone.sim.node import Done, FirstToken, NodeEvent
from isochrone.sim.scenario.settings import Scenario
from isochrone.sim.spec import Job, NodeSpec
from isochrone.sim.world.agenda import Agenda
from isochrone.sim.world.faults import Faults
from isochrone.sim.world.flight import Flight, Message
from isochrone.sim.world.gateway import SimGateway
from isochrone.sim.world.gateway_parts import GatewayPlan, Outside
from isochrone.sim.world.neighbours import Neighbours
from isochrone.sim.world.network import Network, OneWay
from isochrone.sim.world.oracle import Oracle
from isochrone.sim.world.pulses import Pulses
from isochrone.sim.world.recorder import Recorder
from isochrone.sim.world.yard import Yard

_DRAIN_S = 600.0
"""How long a world goes on after its last arrival, at most."""

_CANDIDATES_MAX = 3
"""A decision's choice and runners-up. A live gateway looks at more, for people."""


@dataclass(frozen=True, slots=True)
class WorldPlan:
    """What a world is made of.

    Attributes:
        scenario: all settings.
        nodes: the nodes.
        gateway_regions: where each gateway stands.
        client_regions: where clients are.
        models: all models asked for.
        policy: how gateways decide; None for the omniscient reference B1.
        one_way_ms: delays between regions.
        seed: of all luck in the world; the arrivals have their own.
    """

    scenario: Scenario
    nodes: tuple[NodeSpec, ...]
    gateway_regions: tuple[str, ...]
    client_regions: tuple[str, ...]
    models: tuple[str, ...]
    policy: Policy | None
    one_way_ms: OneWay
    seed: int


class World:
    """Feed it arrivals with `run`; the `recorder` has the rows."""

    def __init__(self, plan: WorldPlan) -> None:
        self.plan, scenario = plan, plan.scenario
        self._luck = self._stream("world")
        self.agenda = Agenda()
        self.network = Network(
            plan.one_way_ms,
            plan.gateway_regions,
            [node.region for node in plan.nodes],
            jitter=scenario.bus.jitter,
            luck=self._stream("network"),
        )
        self.yard = Yard(plan.nodes, self.agenda, self._node_did)
        self.recorder = Recorder(plan.client_regions, plan.models, self.yard.names)
        self._oracle = Oracle(self.yard, self.network) if plan.policy is None else None
        self.gateways = [self._gateway(index) for index in range(len(plan.gateway_regions))]
        luck = np.random.Generator(np.random.PCG64(np.random.SeedSequence([plan.seed, 0x9015E])))
        self.pulses = Pulses(
            scenario.bus, self.agenda, self.yard, network=self.network, gateways=self.gateways, luck=luck
        )
        self._nearest = {region: self.network.nearest_gateways(region) for region in plan.client_regions}
        self._neighbours = Neighbours(plan.nodes, self.agenda, self.yard, seed=f"{plan.seed}/neighbours")
        self._flights: dict[tuple[int, int], Flight] = {}
        self._wants_idle_news = plan.policy is not None and plan.policy.idle_news
        self._said: list[GatewayPulse] = []
        self._idle = [True] * len(plan.nodes)
        self.announcements = self.arrived = self.ledger_news = 0
        self._gateway_of_name = {gateway.name: gateway.index for gateway in self.gateways}
        Faults(self, self._stream("faults")).schedule(scenario.faults)

    def _stream(self, purpose: str) -> random.Random:
        return random.Random(f"{self.plan.seed}/{purpose}")

    def _gateway(self, index: int) -> SimGateway:
        plan, scenario = self.plan, self.plan.scenario
        router = Router(candidates_max=_CANDIDATES_MAX)
        if plan.policy is not None:
            router = replace(router, policy=plan.policy)
        outside = Outside(
            send=self._send,
            cancel=self._cancel,
            probe=self._probe,
            first_token=self._first_token,
            end=self._end,
            look=self._look,
            gathered=self._gathered,
            cut_off=self._cut_off,
            forgotten=self._forgotten,
        )
        settings = replace(
            FleetSettings(),
            probing=router.policy.probing,
            silent_s=max(FleetSettings().silent_s, 3.5 * scenario.bus.pulse_s),
        )
        return SimGateway(
            index,
            GatewayPlan(
                router=router,
                settings=settings,
                region=plan.gateway_regions[index],
                rtt_between=self.network.rtt_ms_between,
                timeout_s=scenario.gateways.timeout_s,
                attempts_max=scenario.gateways.attempts_max,
                stream=scenario.traffic.stream,
                slo=Objective(scenario.slo.ttft_ms, scenario.slo.tpot_ms),
            ),
            outside,
            luck=self._stream(f"gateway-{index}"),
            decide=None if self._oracle is None else self._oracle.decide,
        )

    # -- running -------------------------------------------------------------------------------------

    def run(self, arrivals: Iterator[Job]) -> Iterator[float]:
        """Run to the end; yields the virtual time now and then, for a progress bar."""
        agenda = self.agenda
        self.pulses.start(0.0)
        self._neighbours.start(0.0)
        agenda.note(1.0, self._every_second, None)
        last_s = 0.0
        for job in arrivals:
            while agenda.next_s <= job.at_s:
                agenda.step()
            last_s = job.at_s
            self._arrive(job)
            if not self.arrived % 1024:
                yield last_s
        while agenda.next_s <= last_s + _DRAIN_S and self.recorder.ended < self.arrived:
            agenda.step()
        for gateway in self.gateways:
            gateway.give_up_all(agenda.now_s)
        yield agenda.now_s

    def _every_second(self, now_s: float, _subject: object) -> None:
        for gateway in self.gateways:
            if gateway.alive:
                gateway.tick(now_s)
        self._gateways_speak(now_s)
        self.agenda.note(now_s + 1.0, self._every_second, None)

    def _gateways_speak(self, now_s: float) -> None:
        """Each hears what the others said a second ago, and says its own."""
        said, self._said = self._said, []
        for gateway in self.gateways:
            if not gateway.alive:
                continue
            for pulse in said:
                if pulse.gateway != gateway.name:
                    gateway.step(GatewayHeard(pulse), now_s)
            if (pulse := gateway.pulse(now_s)).flows:
                self._said.append(pulse)

    # -- clients -------------------------------------------------------------------------------------

    def _arrive(self, job: Job) -> None:
        self.arrived += 1
        index = self._gateway_of(job)
        reaches_s = job.at_s + self.network.client_s(job.region, index)
        flight = self.gateways[index].admit(job, reaches_s)
        self.recorder.arrive(flight)
        self.agenda.note(reaches_s, self._at_gateway, flight)

    def _gateway_of(self, job: Job) -> int:
        """The nearest that is alive; of equally near ones each client has its own."""
        near = self._nearest[job.region]
        for group in near:
            alive = [index for index in group if self.gateways[index].alive]
            if alive:
                return alive[job.client % len(alive)]
        return near[0][0]

    def _at_gateway(self, now_s: float, flight: Flight) -> None:
        gateway = self.gateways[flight.gateway]
        if gateway.alive:
            gateway.serve(flight, now_s)
        else:
            flight.done = True
            self._end(flight, "lost", now_s, None)

    def _first_token(self, flight: Flight, now_s: float) -> None:
        self.recorder.first_token(flight, now_s + self.network.to_client_s(flight.gateway, flight.job.region))

    def _look(self, gateway: int, now_s: float) -> None:
        if self.plan.scenario.bus.exact_loads:
            self.pulses.look(self.gateways[gateway], now_s)

    def _end(self, flight: Flight, kind: str, now_s: float, timings: Timings | None) -> None:
        at_client_s = now_s + self.network.to_client_s(flight.gateway, flight.job.region)
        self.recorder.end(flight, kind, at_client_s, timings)

    # -- between gateways and nodes ------------------------------------------------------------------

    def _send(self, flight: Flight, now_s: float) -> None:
        node = self.yard.index[flight.node_name]
        if not self.network.cut[flight.gateway, node]:
            if self._oracle is not None:
                self._oracle.sent(flight, node)
            out_s = self.network.out(flight.gateway, node)
            self.agenda.note(now_s + out_s, self._at_node, (flight, flight.attempt, node))

    def _at_node(self, now_s: float, subject: tuple[Flight, int, int]) -> None:
        flight, attempt, node = subject
        if self._oracle is not None:
            self._oracle.came_in(flight, node)
        if flight.done or flight.attempt != attempt or not self.yard.alive[node]:
            return
        error_ms = self.yard.sinkhole_ms[node]
        if error_ms is not None:
            load = self._told_load(node, now_s)
            self._answer(now_s + error_ms / 1e3, node, Message(flight, attempt, 500, load))
            return
        if (begins_in_s := self._balks(flight, node, now_s)) is not None:
            load = self.yard.load(node, now_s)
            self._answer(now_s, node, Message(flight, attempt, 503, load, begins_in_s=begins_in_s))
            return
        self._flights[node, flight.job.id] = flight
        if not self.yard.submit(node, flight.job, now_s):
            del self._flights[node, flight.job.id]
            load = self._told_load(node, now_s)
            self._answer(now_s, node, Message(flight, attempt, 503, load))
        if self._wants_idle_news:
            self._look_idle(node, now_s)

    def _balks(self, flight: Flight, node: int, now_s: float) -> float | None:
        """When its prompt would begin, where that is later than it has patience and the node is not full."""
        if flight.patience_ms is None:
            return None
        begins_in_s = self.yard.begins_in_s(node, flight.request.model, now_s)
        late = begins_in_s is not None and 1e3 * begins_in_s > flight.patience_ms
        return begins_in_s if late else None

    def _answer(self, now_s: float, node: int, message: Message) -> None:
        """Send a failure back."""
        gateway = self.gateways[message.flight.gateway]
        if not self.network.cut[gateway.index, node]:
            self.agenda.note(now_s + self.network.back(gateway.index, node), gateway.failure, message)

    def _node_did(self, node: int, event: NodeEvent, now_s: float) -> None:
        if isinstance(event, FirstToken):
            flight = self._flights.get((node, event.job_id))
            if flight is not None:
                self._send_head(flight, node, event.at_s, now_s)
        elif isinstance(event, Done):
            if event.job_id < 0:
                self._neighbours.ended(node, event.job_id, now_s)
            flight = self._flights.pop((node, event.job_id), None)
            if flight is not None:
                self._send_tail(flight, node, event, now_s)
        if self._wants_idle_news:
            self._look_idle(node, now_s)

    def _send_head(self, flight: Flight, node: int, at_s: float, now_s: float) -> None:
        if not self.plan.scenario.traffic.stream:
            return  # the whole answer comes as one
        if flight.done or self.network.cut[flight.gateway, node]:
            return
        gateway = self.gateways[flight.gateway]
        flight.head_due_s = at_s + self.network.back(gateway.index, node)
        message = Message(flight, flight.attempt, 200, self._told_load(node, now_s))
        self.agenda.note(flight.head_due_s, gateway.head, message)

    def _send_tail(self, flight: Flight, node: int, event: Done, now_s: float) -> None:
        if flight.done or self.network.cut[flight.gateway, node]:
            return
        gateway = self.gateways[flight.gateway]
        due_s = max(flight.head_due_s, event.at_s + self.network.back(gateway.index, node))
        message = Message(flight, flight.attempt, 200, self._told_load(node, now_s), event.timings)
        self.agenda.note(due_s, gateway.tail, message)

    def _told_load(self, node: int, now_s: float) -> Load | None:
        return self.yard.load(node, now_s) if self.plan.scenario.bus.load_in_responses else None

    def _cancel(self, flight: Flight, now_s: float) -> None:
        node = self.yard.index[flight.node_name]
        if self._flights.get((node, flight.job.id)) is flight:
            del self._flights[node, flight.job.id]
        if not self.network.cut[flight.gateway, node]:
            out_s = self.network.out(flight.gateway, node)
            self.agenda.note(now_s + out_s, self._cancel_at_node, (node, flight.job.id))

    def _cancel_at_node(self, now_s: float, subject: tuple[int, int]) -> None:
        node, job_id = subject
        if subject not in self._flights:
            self.yard.cancel(node, job_id, now_s)

    def _cut_off(self, flight: Flight) -> bool:
        node = self.yard.index[flight.node_name]
        return not self.yard.alive[node] or bool(self.network.cut[flight.gateway, node])

    def _forgotten(self, gateway: int, node: str) -> None:
        self.pulses.forget(gateway, self.yard.index[node])

    def _gathered(self, gateway: int, now_s: float) -> None:
        self.agenda.note(now_s + DEFAULT_COMPANY_SETTINGS.told_after_s, self._tell_company, gateway)

    def _tell_company(self, now_s: float, gateway: int) -> None:
        """A gateway tells the others of its company what it sent; each hears it after its way."""
        mates, news = self.gateways[gateway].teller.take(now_s)
        if not self.gateways[gateway].alive:
            return
        for mate in sorted(self._gateway_of_name[name] for name in mates):
            if not self.network.apart(gateway, mate):
                self.ledger_news += 1
                way_s = self.network.between_s(gateway, mate)
                self.agenda.note(now_s + way_s, self.gateways[mate].hear_ledger, news)

    # -- news that some policies want ----------------------------------------------------------------

    def _probe(self, gateway: int, node_name: str, model: str, now_s: float) -> None:
        node = self.yard.index[node_name]
        if not self.network.cut[gateway, node]:
            out_s = self.network.out(gateway, node)
            self.agenda.note(now_s + out_s, self._probe_at_node, (gateway, node, model, now_s))

    def _probe_at_node(self, now_s: float, subject: tuple[int, int, str, float]) -> None:
        gateway, node, model, sent_s = subject
        if self.yard.alive[node]:
            back_s = self.network.back(gateway, node)
            rtt_ms = (now_s + back_s - sent_s) * 1e3
            answer = ProbeAnswered(self.yard.names[node], model, self.yard.load(node, now_s), rtt_ms)
            self.agenda.note(now_s + back_s, self.gateways[gateway].probed, answer)

    def hear_idle_news(self) -> None:
        """From now on nodes tell who has room, whatever the policy."""
        self._wants_idle_news = True

    def _look_idle(self, node: int, now_s: float) -> None:
        """Work came or went there: announce it when that has made room."""
        idle, was_idle = self.yard.is_idle(node), self._idle[node]
        self._idle[node] = idle
        if idle and not was_idle:
            self._announce(node, now_s)

    def _announce(self, node: int, now_s: float) -> None:
        listening = [gateway.index for gateway in self.gateways if gateway.alive]
        if not listening:
            return
        gateway = listening[self._luck.randrange(len(listening))]
        if not self.network.cut[gateway, node]:
            self.announcements += 1
            back_s = self.network.back(gateway, node)
            news = IdleAnnounced(self.yard.names[node], self.yard.load(node, now_s))
            self.agenda.note(now_s + back_s, self.gateways[gateway].idle, news)

    def nodes_in(self, regions: Sequence[str]) -> list[int]:
        """Indices of the nodes that stand in one of `regions`."""
        return [index for index, node in enumerate(self.plan.nodes) if node.region in regions]

    def counters(self) -> dict[str, float]:
        """What the run cost in messages and events."""
        return {
            "pulses": self.pulses.delivered,
            "probes": sum(gateway.probes for gateway in self.gateways),
            "announcements": self.announcements,
            "ledger_news": self.ledger_news,
            "dispatched": sum(gateway.dispatched for gateway in self.gateways),
            "retries": sum(gateway.retries for gateway in self.gateways),
            "balks": sum(gateway.balks for gateway in self.gateways),
            "events": self.agenda.done,
            "virtual_s": self.agenda.now_s,
            **self.recorder.by_kind,
        }
