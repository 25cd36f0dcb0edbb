"""Every policy by name. To add one: write its file, and add its line here and its section in the docs."""

from dataclasses import dataclass, replace
from typing import Any

from isochrone.model import NO_PROBES, ProbeSettings
from isochrone.routing.choice import Choice, Rank
from isochrone.routing.luck import Luck
from isochrone.routing.parameters import NoParameters, Value, changed, written
from isochrone.routing.policies import (
    bounded_load_hash,
    c3,
    drawn,
    gie_scorers,
    gorgo,
    join_idle_queue,
    least_delay,
    least_request,
    nearest,
    nearest_with_spill,
    peak_ewma,
    power_of_d,
    predicted_latency,
    prequal,
    random_uniform,
    random_weighted,
    round_robin,
    shortest_expected_delay,
    skylb,
    soonest,
    two_hash_prefix,
)

_NOTHING = NoParameters()


@dataclass(frozen=True, slots=True)
class Policy:
    """A way to choose.

    Attributes:
        name: what users write.
        summary: one line for `--help` and tables.
        rank: the choice itself.
        parameters: a frozen dataclass of numbers and flags, read by `rank`.
        grid: for each parameter worth tuning, the values that the recorded sweep tries, at most
            32 combinations.
        idle_news: it wants nodes to announce that they became idle.
        plans: it wants a plan in the view.
        checks: it finds out by itself that no node is usable, and then ranks none.
    """

    name: str
    summary: str
    rank: Rank
    parameters: Any = _NOTHING
    grid: dict[str, tuple[float, ...]] | None = None
    idle_news: bool = False
    plans: bool = False
    checks: bool = False

    def decide(self, choice: Choice, luck: Luck) -> list[int]:
        """Usable nodes in the order to try them, at least one where there is any."""
        return list(self.rank(choice, luck, self.parameters))

    @property
    def told(self) -> bool:
        """Whether it heeds what other gateways tell that they send; that takes a plan."""
        return bool(getattr(self.parameters, "told", False))

    @property
    def balks(self) -> int:
        """How often a request may go elsewhere because a node's line is longer than it has patience for."""
        return int(getattr(self.parameters, "balks", 0))

    @property
    def probing(self) -> ProbeSettings:
        """How the gateway has to probe on this policy's behalf."""
        probing = getattr(self.parameters, "probing", NO_PROBES)
        return probing if isinstance(probing, ProbeSettings) else NO_PROBES

    def tuned(self, **changes: Value) -> "Policy":
        """The same with other parameters.

        Raises KeyError, in words, for a parameter that it does not have or a value that it cannot have.
        """
        return replace(self, parameters=changed(self.name, self.parameters, changes))


_D = (2, 3, 4, 8, 16, 32)
_YES_NO = (0, 1)
_BLOCKS = (2, 8, 32)
_SLO_TTFT_MS = (500.0, 1000.0, 2000.0, 5000.0)

CATALOGUE: dict[str, Policy] = {
    policy.name: policy
    for policy in (
        Policy(
            "soonest",
            "the node that will answer soonest: every term of the estimate",
            soonest.rank,
            soonest.Parameters(),
            plans=True,
            checks=True,
        ),
        Policy("nearest", "the least round-trip time, whatever its state", nearest.rank),
        Policy(
            "nearest-with-spill",
            "the nearest with a wait under a bound, else the shortest wait",
            nearest_with_spill.rank,
            nearest_with_spill.Parameters(),
            {"wait_max_s": (0.0, 0.1, 0.25, 0.5, 1.0, 2.0), "corrected": _YES_NO},
        ),
        Policy("random", "each node as likely as any", random_uniform.rank),
        Policy("random-weighted", "each node as likely as it is fast", random_weighted.rank),
        Policy("round-robin", "one after the other", round_robin.rank),
        Policy("least-request", "the fewest of our own requests in flight", least_request.rank),
        Policy(
            "p2c",
            "the less loaded of two drawn by lot",
            power_of_d.rank,
            power_of_d.Parameters(),
            {"d": _D},
        ),
        Policy(
            "p2c-own",
            "p2c, what we sent since added to what nodes told",
            power_of_d.rank,
            power_of_d.Parameters(own=True),
            {"d": _D},
        ),
        Policy(
            "p2c-weighted",
            "p2c, drawn by capacity and compared for each unit of it",
            power_of_d.rank,
            power_of_d.Parameters(weighted=True),
            {"d": _D},
        ),
        Policy(
            "p2c-weighted-own",
            "p2c, by capacity and with our own requests in flight",
            power_of_d.rank,
            power_of_d.Parameters(weighted=True, own=True),
            {"d": _D},
        ),
        Policy(
            "peak-ewma",
            "of two drawn, the least peak-sensitive latency times our requests there",
            peak_ewma.rank,
            peak_ewma.Parameters(),
            {"d": _D, "prior_ms": (0.0, 30.0, 300.0)},
        ),
        Policy(
            "shortest-expected-delay",
            "the fewest requests for each unit of capacity, this one counted",
            shortest_expected_delay.rank,
            shortest_expected_delay.Parameters(),
            {"reported": _YES_NO, "own": _YES_NO},
        ),
        Policy(
            "jiq",
            "Join-Idle-Queue: the first that announced to be idle, else by lot",
            join_idle_queue.rank,
            join_idle_queue.Parameters(),
            {"weighted": _YES_NO},
            idle_news=True,
        ),
        Policy(
            "c3",
            "latency as measured plus a cubic price on the queue",
            c3.rank,
            c3.Parameters(),
            {"clients_weight": (1.0, 4.0, 16.0), "exponent": (1.0, 2.0, 3.0), "d": (0, 4, 16)},
        ),
        Policy(
            "prequal",
            "of nodes probed lately, the least latency among those not hot",
            prequal.rank,
            prequal.Parameters(),
            {"q_rif": (0.5, 0.7, 0.84, 0.95, 1.0), "per_request": (1.5, 2.0, 3.0), "pool_max": (6, 16)},
        ),
        Policy(
            "bounded-load-hash",
            "the owner of the prompt's prefix by hash, or the next that has room",
            bounded_load_hash.rank,
            bounded_load_hash.Parameters(),
            {
                "eps": (0.1, 0.25, 1.0),
                "prefix_blocks": (2, 16),
                "reported": _YES_NO,
                "weighted": _YES_NO,
            },
        ),
        Policy(
            "two-hash-prefix",
            "the warmer of two owners of the prefix, the sooner one if that is late",
            two_hash_prefix.rank,
            two_hash_prefix.Parameters(),
            {"prefix_blocks": _BLOCKS, "slo_ttft_ms": _SLO_TTFT_MS},
        ),
        Policy(
            "gie-1-1-1",
            "prefix hit, short queue and free KV cache, equal weights",
            gie_scorers.rank,
            gie_scorers.Parameters(),
            {"own": _YES_NO},
        ),
        Policy(
            "gie-3-2-2",
            "prefix hit, short queue and free KV cache, weights 3, 2, 2",
            gie_scorers.rank,
            gie_scorers.Parameters(prefix=3.0, queue=2.0, kv=2.0),
            {"own": _YES_NO},
        ),
        Policy(
            "skylb",
            "only to nodes without pending work, in this region first",
            skylb.rank,
            skylb.Parameters(),
            {"region_rtt_ms": (5.0, 10.0, 25.0), "hit_min": (0.25, 0.5, 1.0), "own": _YES_NO},
        ),
        Policy(
            "gorgo",
            "round trip, prefill of what is not cached, and prefills ahead",
            gorgo.rank,
            gorgo.Parameters(),
            {"queued_weight": (0.5, 1.0, 2.0, 4.0), "running_weight": (0.25, 0.5, 1.0), "own": _YES_NO},
        ),
        Policy(
            "predicted-latency",
            "predicted to meet the objectives, with the least headroom",
            predicted_latency.rank,
            predicted_latency.Parameters(),
            {"slo_ttft_ms": (0.0, *_SLO_TTFT_MS), "most": _YES_NO, "lot": _YES_NO},
        ),
        Policy(
            "stale-greedy",
            "the least wait and service over all, as last heard",
            least_delay.rank,
            least_delay.Parameters(corrected=False),
            {"rtt_weight": _YES_NO},
        ),
        Policy(
            "corrected",
            "the least wait and service over all, corrected for what happened since",
            least_delay.rank,
            least_delay.Parameters(),
            {"rtt_weight": _YES_NO},
        ),
        Policy(
            "drawn",
            "the least corrected wait and service of a few drawn by capacity",
            drawn.rank,
            drawn.Parameters(),
            {"d": _D, "weighted": _YES_NO, "rtt_weight": _YES_NO},
        ),
    )
}

DEFAULT_POLICY = CATALOGUE["soonest"]


def find_policy(text: str) -> Policy:
    """The policy written as `name` or `name:parameter=value,...`.

    Raises KeyError whose text lists the names, or the parameters, there are.
    """
    name, colon, given = text.partition(":")
    try:
        policy = CATALOGUE[name]
    except KeyError:
        raise KeyError(f"no policy is called {name!r}; there are: {', '.join(CATALOGUE)}") from None
    return policy.tuned(**written(name, given)) if colon else policy
