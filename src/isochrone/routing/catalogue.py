"""Every policy by name. To add one: write its file, and add its line here and its section in the docs."""

from dataclasses import dataclass

from isochrone.routing.choice import Rank
from isochrone.routing.policies import least_request, nearest, random_uniform, round_robin, soonest


@dataclass(frozen=True, slots=True)
class Policy:
    """A way to choose.

    Attributes:
        name: what users write.
        summary: one line for `--help` and tables.
        rank: the choice itself.
    """

    name: str
    summary: str
    rank: Rank


CATALOGUE: dict[str, Policy] = {
    policy.name: policy
    for policy in (
        Policy("soonest", "the node that will answer soonest: every term of the estimate", soonest.rank),
        Policy("nearest", "the least round-trip time, whatever its state", nearest.rank),
        Policy("random", "each node as likely as any", random_uniform.rank),
        Policy("round-robin", "one after the other", round_robin.rank),
        Policy("least-request", "the fewest of our own requests in flight", least_request.rank),
    )
}

DEFAULT_POLICY = CATALOGUE["soonest"]


def find_policy(name: str) -> Policy:
    """The policy called `name`. Raises KeyError whose text lists the names there are."""
    try:
        return CATALOGUE[name]
    except KeyError:
        raise KeyError(f"no policy is called {name!r}; there are: {', '.join(CATALOGUE)}") from None
