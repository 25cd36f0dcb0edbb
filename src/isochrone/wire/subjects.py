"""Names on the message bus, and of the headers and paths between gateway and node."""

PING_PATH = "/isochrone/v1/ping"
"""On a node: answers 204 at once, for measuring the round trip."""

LOAD_PATH = "/isochrone/v1/load"
"""On a node: answers 204 at once, its load in the head, for policies that probe."""

STATE_PATH = "/isochrone/v1/state"
"""On a node: its card and its pulse, as JSON."""

MODEL_PATH = "/isochrone/v1/models/"
"""On a node: followed by NAME/load or NAME/unload."""

STATUS_PATH = "/isochrone/v1/status"
"""On a gateway: all that it believes of the nodes."""

CAPACITY_PATH = "/isochrone/v1/capacity"
"""On a gateway: what capacity there is, how far it is used, what one more node would save."""

DECISIONS_PATH = "/isochrone/v1/decisions/"
"""On a gateway: followed by the id of a decision, or `last`."""

PULSES = "isochrone.pulse.*"
"""Subscribe here for the pulses of all nodes."""

IDLE = "isochrone.idle.*"
"""A node that has room again says so; each announcement is heard by one gateway of those that listen."""

IDLE_LISTENERS = "isochrone-gateways"
"""The NATS queue group in which gateways listen on `IDLE`."""

GATEWAYS = "isochrone.gateway.*"
"""Subscribe here for the pulses of all gateways: the traffic that each sends."""

LEDGER_OF = "isochrone.ledger.{}.*"
"""With the name of a gateway: subscribe here for what the others tell it that they send."""

DECISIONS = "isochrone.decision.*"
"""Subscribe here for every decision with its outcomes, as one event, from all gateways."""

HEADER_NODE = b"x-isochrone-node"
"""In each answer of the gateway: the node that answered."""

HEADER_DECISION = b"x-isochrone-decision"
"""In each answer of the gateway: the id to `isochrone explain`."""

HEADER_POLICY = b"x-isochrone-policy"
"""In a request to the gateway: decide this one by another policy, where the gateway allows it.

Written as `name` or `name:parameter=value,...`.
"""

HEADER_TIMEOUT_MS = b"x-isochrone-timeout-ms"
"""In a request: how long the client will wait for the whole answer, in milliseconds."""

HEADER_SLO_TTFT_MS = b"x-slo-ttft-ms"
"""In a request: the client wants to see its first token within so many milliseconds."""

HEADER_SLO_TPOT_MS = b"x-slo-tpot-ms"
"""In a request: the client wants each later token to take no longer than so many milliseconds."""

HEADER_OBJECTIVE = b"x-isochrone-objective"
"""In a request: what counts, `first-token` or `completion`."""

HEADER_NODES = b"x-isochrone-nodes"
"""In a gateway's probe of the round trip: how many nodes it knows; if few, each speaks more often."""

HEADER_PATIENCE_MS = b"x-isochrone-patience-ms"
"""In a gateway's request to a node: where its prompt would begin later than this, the node is to say so."""

HEADER_BALKED = b"x-isochrone-balked"
"""In the 503 that says so: after how many milliseconds it would have begun."""

HEADER_LOAD = b"endpoint-load-metrics"
"""In the head of each answer of a node for tokens or to a probe: its load, in ORCA's JSON form."""

TRAILER_TIMINGS = b"x-isochrone-timings"
"""In the trailer of each answer of a node: `model.Timings`."""

TRAILER_LOAD = b"x-isochrone-load"
"""In the trailer of each answer of a node: its load when the answer ended."""


def pulse_subject(node: str) -> str:
    """Where the node called `node` publishes its pulses."""
    return f"isochrone.pulse.{node}"


def idle_subject(node: str) -> str:
    """Where the node called `node` says that it has room again."""
    return f"isochrone.idle.{node}"


def gateway_subject(gateway: str) -> str:
    """Where the gateway called `gateway` publishes its traffic."""
    return f"isochrone.gateway.{gateway}"


def ledger_subject(gateway: str, teller: str) -> str:
    """Where the gateway called `teller` tells the one called `gateway` what it sends."""
    return f"isochrone.ledger.{gateway}.{teller}"


def decision_subject(gateway: str) -> str:
    """Where the gateway called `gateway` publishes its decisions."""
    return f"isochrone.decision.{gateway}"
