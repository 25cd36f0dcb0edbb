"""A budget for second attempts, so that an outage does not multiply the load."""

from dataclasses import dataclass


@dataclass(slots=True)
class RetryBudget:
    """Each request earns a part of a retry; each retry spends one. Source: the budgets of Finagle and Envoy.

    Attributes:
        per_request: retries earned by a request.
        most: retries saved up at most; also what there is in the beginning.
    """

    per_request: float
    most: float
    saved: float = 0.0

    def __post_init__(self) -> None:
        self.saved = self.most

    def earn(self) -> None:
        """A request came."""
        self.saved = min(self.most, self.saved + self.per_request)

    def spend(self) -> bool:
        """A retry is wanted: whether it may be made."""
        if self.saved < 1.0:
            return False
        self.saved -= 1.0
        return True
