"""Every setting of a gateway, with its bound."""

from dataclasses import dataclass, field, replace

from isochrone.fleet import FleetSettings
from isochrone.fleet.settings import DEFAULT_SETTINGS
from isochrone.model import ProbeSettings
from isochrone.relay import ServerLimits
from isochrone.routing import CATALOGUE, DEFAULT_POLICY, find_policy

_PREQUAL = "prequal"
_HTTP = ServerLimits()


@dataclass(frozen=True, slots=True)
class CapacitySettings:
    """How a gateway looks at capacity when asked.

    Attributes:
        refresh_s: a look is good for so long; whoever asks sooner is shown the same.
        time_limit_s: most seconds of each round of the solver.
        requests_per_load: requests that share the time of loading a model once.
        requests_per_s_least: traffic below this counts as none: averages fade, and never end.
        prompt_bytes_prior: length of a prompt of a model whose prompts were never seen here.
        regions_max: most places of gateways; beyond, those that ask least are left out.
        models_max: most models, likewise.
        names_max: nodes of a group told by name.
        served_from_max: places told of where demand is served.
    """

    refresh_s: float = 5.0
    time_limit_s: float = 1.0
    requests_per_load: float = 100.0
    requests_per_s_least: float = 1e-3
    prompt_bytes_prior: float = 1024.0
    regions_max: int = 64
    models_max: int = 64
    names_max: int = 3
    served_from_max: int = 3


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """How one gateway runs.

    Attributes:
        name: the gateway's name in the network.
        host: address to listen on.
        port: port to listen on, 0 for any free one.
        region: its place in the region table, or "".
        api_key_digests: SHA-256 digests (hex) of the keys that clients may use; empty: no key is asked for.
        node_token: what nodes want to be shown, or "". Kept out of every log.
        policy: the policy that decides, as `name` or `name:parameter=value,...`.
        policy_by_header: whether a request may name another policy for itself.
        timeout_s: how long a client waits that does not say.
        timeout_s_max: the longest that a client may ask for.
        stall_s_max: a silent node's stream that brings nothing for so long is given up.
        in_flight_max: requests at once; the next one is refused with 503.
        attempts_max: nodes tried for one request.
        retries_per_request: second attempts earned by each request, so that an outage does not multiply load.
        retries_saved_max: second attempts saved up at most.
        http: bounds of the connections with clients.
        json_depth_max: levels of {} and [] in a request's body; beyond it 400.
        json_brackets_max: opening brackets in it, those in strings with them; beyond it 400.
        cors_origins: web pages of these origins may ask, `*` for all; those of any other get 403.
        records_max: decisions kept for `explain`.
        rtt_probe_s: seconds between two probes of one node.
        rtt_probes_per_s_max: probes of all nodes together; of many nodes each is probed less often.
        rtt_probe_s_max: a probe that takes longer is given up.
        probes_in_flight_max: probes for a policy's sake at once; the next one is dropped and counted.
        probe_s_max: such a probe is given up after so long: its answer would be too old to use.
        pulse_s: seconds between two words of this gateway to the others on its traffic.
        tick_s: seconds between two looks at who is silent.
        plan_at_once_nodes_max: a fleet of more nodes is planned in a thread, aside from the requests.
        fleet: bounds and time constants of the beliefs.
        capacity: how capacity is looked at when someone asks.
    """

    name: str = "gateway"
    host: str = "127.0.0.1"
    port: int = 8080
    region: str = ""
    api_key_digests: frozenset[str] = field(default=frozenset(), repr=False)
    node_token: str = field(default="", repr=False)
    policy: str = DEFAULT_POLICY.name
    policy_by_header: bool = False
    timeout_s: float = 120.0
    timeout_s_max: float = 3600.0
    stall_s_max: float = 5.0
    in_flight_max: int = 1024
    attempts_max: int = 3
    retries_per_request: float = 0.2
    retries_saved_max: float = 100.0
    http: ServerLimits = _HTTP
    json_depth_max: int = 128
    json_brackets_max: int = 200_000
    cors_origins: frozenset[str] = frozenset()
    records_max: int = 1024
    rtt_probe_s: float = 2.0
    rtt_probes_per_s_max: float = 25.0
    rtt_probe_s_max: float = 5.0
    probes_in_flight_max: int = 64
    probe_s_max: float = 1.0
    pulse_s: float = 1.0
    tick_s: float = 0.5
    plan_at_once_nodes_max: int = 1000
    fleet: FleetSettings = DEFAULT_SETTINGS
    capacity: CapacitySettings = CapacitySettings()

    @property
    def probing(self) -> ProbeSettings:
        """How the probe pool is kept: as the policy says, or as Prequal does where a request may name it.

        A request's own policy decides how many nodes are probed for it, never how the pool is kept, which
        all requests share.
        """
        own = find_policy(self.policy).probing
        return CATALOGUE[_PREQUAL].probing if self.policy_by_header and own.per_request <= 0 else own

    @property
    def beliefs(self) -> FleetSettings:
        """Bounds and time constants of the beliefs, with the probe pool as `probing` says."""
        return replace(self.fleet, probing=self.probing)

    @property
    def tells(self) -> bool:
        """Whether it tells the other gateways of its company what it sends."""
        return find_policy(self.policy).told

    @property
    def hears_idle_news(self) -> bool:
        """Whether some request may be placed by a policy that wants to hear who became idle."""
        return self.policy_by_header or find_policy(self.policy).idle_news
