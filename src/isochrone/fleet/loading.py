"""What a node's loads of one model took beyond its claim.

Only lateness is corrected. A node's claim holds, beside time, the price of what must be evicted for the model
(half of what loading that again would take), so a load that was there sooner than claimed does not prove the
claim wrong.
"""

from dataclasses import dataclass, field

from isochrone.fleet.learn import Average
from isochrone.model import ModelPulse, ModelState

_MEMORY = 8.0
_PRIOR_LOADS = 1.0
"""The claim counts as one load that was in time: loads are rare, and one that was late says much."""


@dataclass(slots=True)
class Loads:
    """Loads that requests of ours began.

    Attributes:
        late: milliseconds that they took beyond the claim, negative when they took less.
        due_s: when the load now under way is expected to end, by the claim when it began.
    """

    late: Average = field(default_factory=lambda: Average(_MEMORY))
    due_s: float = 0.0

    @property
    def late_ms(self) -> float:
        """How late the next is expected to be, shrunk towards the claim by how few loads were seen."""
        return max(0.0, self.late.value) * self.late.weight / (self.late.weight + _PRIOR_LOADS)

    def learn(self, claimed_ms: float, took_ms: float) -> None:
        """Take in a load that began with a request of ours."""
        self.late.add(took_ms - claimed_ms)

    def begin(self, claimed_s: float, now_s: float) -> None:
        """A load begins now and is to take so long, by the node's word."""
        self.due_s = now_s + claimed_s + self.late_ms / 1e3

    def ready_in_s(self, pulse: ModelPulse, heard_at_s: float) -> float:
        """Seconds from `heard_at_s`, when the node said `pulse`, until the model is ready."""
        if not self.late_ms or pulse.state is ModelState.READY:
            return pulse.ready_in_s
        if pulse.state is ModelState.LOADING:
            return max(pulse.ready_in_s, self.due_s - heard_at_s)
        return pulse.ready_in_s + self.late_ms / 1e3
