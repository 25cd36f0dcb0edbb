"""What a simulated gateway is made of: how it is set up, and what it can do to the world."""

from collections.abc import Callable
from dataclasses import dataclass

from isochrone.fleet import FleetSettings
from isochrone.model import NO_OBJECTIVE, Decision, FleetView, Objective, Timings
from isochrone.routing import Router
from isochrone.sim.world.flight import Flight

Decide = Callable[[FleetView, Flight, float], Decision]
"""How a decision comes about: `route`, or a reference that sees what no gateway can."""


@dataclass(frozen=True, slots=True)
class Outside:
    """What a gateway can do to the world.

    Attributes:
        send: put the attempt under way on its way to its node.
        cancel: tell a node that nobody waits for a request any more.
        probe: ask a node for its load, for a model.
        first_token: the client is to see its first token.
        end: the request ended: (flight, kind, now_s, timings).
        look: a decision is due: tell this gateway all, in a world where gateways see nodes as they are.
        gathered: this gateway has news of its ledger to tell the others in a moment.
        cut_off: whether nothing comes from the flight's node any more.
        forgotten: the fleet dropped a node.
    """

    send: Callable[[Flight, float], None]
    cancel: Callable[[Flight, float], None]
    probe: Callable[[int, str, str, float], None]
    first_token: Callable[[Flight, float], None]
    end: Callable[[Flight, str, float, Timings | None], None]
    look: Callable[[int, float], None]
    gathered: Callable[[int, float], None]
    cut_off: Callable[[Flight], bool]
    forgotten: Callable[[int, str], None]


@dataclass(frozen=True, slots=True)
class GatewayPlan:
    """How a gateway is set up.

    Attributes:
        router: how it decides.
        settings: of its beliefs.
        region: where it stands.
        rtt_between: the region table.
        timeout_s: when it gives a request up.
        attempts_max: nodes tried for one request.
        stream: clients read answers token by token.
        slo: what those of them want who ask for an SLO.
    """

    router: Router
    settings: FleetSettings
    region: str
    rtt_between: Callable[[str, str], float | None]
    timeout_s: float
    attempts_max: int
    stream: bool = True
    slo: Objective = NO_OBJECTIVE
