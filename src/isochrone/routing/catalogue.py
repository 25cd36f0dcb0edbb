"""Every policy by name. To add one: write its file, and add its line here and its section in the docs."""

from dataclasses import dataclass, fields, replace
from typing import Any

from isochrone.model import ProbeSettings
from isochrone.routing.choice import Choice, Rank
from isochrone.routing.luck import Luck
from isochrone.routing.policies import least_request, nearest, random_uniform, round_robin, soonest

NO_PROBES = ProbeSettings()


@dataclass(frozen=True, slots=True)
class NoParameters:
    """For a policy that has nothing to tune."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A way to choose.

    Attributes:
        name: what users write.
        summary: one line for `--help` and tables.
        rank: the choice itself.
        parameters: a frozen dataclass of numbers and flags, read by `rank`.
        grid: for each parameter worth tuning, the values that the recorded sweep tries.
        probing: how the gateway has to probe on this policy's behalf.
    """

    name: str
    summary: str
    rank: Rank
    parameters: Any = NoParameters()
    grid: dict[str, tuple[float, ...]] | None = None

    def decide(self, choice: Choice, luck: Luck) -> list[int]:
        """Usable nodes in the order to try them, at least one."""
        return list(self.rank(choice, luck, self.parameters))

    @property
    def probing(self) -> ProbeSettings:
        """How the gateway has to probe on this policy's behalf."""
        probing = getattr(self.parameters, "probing", NO_PROBES)
        assert isinstance(probing, ProbeSettings)
        return probing

    def tuned(self, **changes: float) -> "Policy":
        """The same with other parameters. Raises KeyError, in words, for a parameter it does not have."""
        return replace(self, parameters=_changed(self.name, self.parameters, changes))


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


def find_policy(text: str) -> Policy:
    """The policy written as `name` or `name:parameter=number,...`.

    Raises KeyError whose text lists the names, or the parameters, there are.
    """
    name, _, given = text.partition(":")
    try:
        policy = CATALOGUE[name]
    except KeyError:
        raise KeyError(f"no policy is called {name!r}; there are: {', '.join(CATALOGUE)}") from None
    return policy.tuned(**_numbers(name, given)) if given else policy


def _numbers(name: str, given: str) -> dict[str, float]:
    numbers = {}
    for part in given.split(","):
        key, _, value = part.partition("=")
        try:
            numbers[key.strip()] = float(value)
        except ValueError:
            raise KeyError(f"policy {name!r}: write parameter=number, not {part!r}") from None
    return numbers


def _changed(name: str, parameters: Any, changes: dict[str, float]) -> Any:
    """`parameters` with `changes`; a whole number stays one, and those of probing are named plainly."""
    own = {field.name: getattr(parameters, field.name) for field in fields(parameters)}
    probing = own.pop("probing", None)
    of_probing = {field.name: getattr(probing, field.name) for field in fields(probing)} if probing else {}
    there_are = sorted(own | of_probing)
    for key, value in changes.items():
        known = own if key in own else of_probing
        if key not in known:
            listed = ", ".join(there_are) or "none"
            raise KeyError(f"policy {name!r} has no parameter {key!r}; there are: {listed}")
        kind = type(known[key])
        if kind(value) != value:
            raise KeyError(f"policy {name!r}: {key} must be a {kind.__name__}, not {value:g}")
        known[key] = kind(value)
    if probing is not None:
        own["probing"] = replace(probing, **of_probing)
    return type(parameters)(**own)
