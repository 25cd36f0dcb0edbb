"""One request on its way through a simulated world."""

from dataclasses import dataclass, field

from isochrone.model import Decision, Load, Request, Timings
from isochrone.sim.spec import Job


@dataclass(slots=True)
class Flight:
    """A request from its client to its end.

    Attributes:
        job: what the world knows of it.
        request: what the gateway knows of it.
        gateway: where it was admitted.
        admitted_s: when it reached the gateway.
        deadline_s: when the gateway gives it up.
        attempt: number of the attempt under way, from 1; messages of earlier ones are void.
        node_name: the node tried now, "" for none.
        sent_s: when that attempt was sent.
        head_s: when its first token reached the gateway, None before.
        decision: of the attempt under way.
        failed: nodes that brought no answer.
        failed_by_engine: of these, those that answered with an error.
        age_s: age of the chosen node's state at the decision.
        rtt_ms: round trip to it, as believed.
        head_due_s: when the first token is due at the gateway; the end never comes before it.
        patience_ms: how long it is to wait at the node tried now; None for however long.
        balks: attempts that ended since a node's line was longer than that.
        done: it has ended.
    """

    job: Job
    request: Request
    gateway: int
    admitted_s: float
    deadline_s: float
    attempt: int = 0
    node_name: str = ""
    sent_s: float = 0.0
    head_s: float | None = None
    decision: Decision | None = None
    failed: list[str] = field(default_factory=list)
    failed_by_engine: list[str] = field(default_factory=list)
    age_s: float = 0.0
    rtt_ms: float = 0.0
    head_due_s: float = 0.0
    patience_ms: float | None = None
    balks: int = 0
    done: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """What an attempt brings back to its gateway.

    Attributes:
        flight: of which request.
        attempt: of which attempt.
        status: HTTP status: 200 for the head or the end of an answer, 503 for a refusal, 500 for an error; 0
            for a connection that was refused or lost.
        load: the node's load, when it told.
        timings: at the end of an answer.
        begins_in_s: of a 503 since it had no patience to wait so long: when its prompt would have begun.
    """

    flight: Flight
    attempt: int
    status: int
    load: Load | None = None
    timings: Timings | None = None
    begins_in_s: float | None = None

    @property
    def stale(self) -> bool:
        """Whether the flight has gone on without it."""
        return self.flight.done or self.flight.attempt != self.attempt
