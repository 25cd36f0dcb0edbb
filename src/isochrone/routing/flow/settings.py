"""What a plan may take and how it looks at queues."""

import math
from dataclasses import dataclass

from isochrone.routing.parameters import within


@dataclass(frozen=True, slots=True)
class FlowSettings:
    """Settings of `solve`. Raises ValueError that names the setting.

    Attributes:
        headroom: part of every group that is never planned for; the ceiling of utilisation is 1 less this.
        bends: utilisations where the straight pieces of the queueing cost meet, rising; those at or above the
            ceiling are left out.
        pooled_nodes: how many nodes act as one queue. 1 is blind dispatch; a pick among d candidates comes
            near d. More makes queues look cheaper.
        service_scv: squared coefficient of variation of service times; 1 is exponential.
        unmet_cost_s: least cost of a request that is not served; see `Program.unmet_cost_s`.
        arcs_max: groups offered to each (region, model) at first, and how many each round may add.
        rounds_max: linear programs solved at most, each with more arcs than the one before.
        gap_part: a plan proven to be within this part of the optimum is good enough.
        time_limit_s: most seconds of each round; a solve takes at most `rounds_max` times this.
        regions_max: most regions of origin.
        models_max: most models.
        groups_max: most groups.
    """

    headroom: float = 0.1
    bends: tuple[float, ...] = (0.6, 0.8, 0.85, 0.9, 0.95)
    pooled_nodes: float = 4.0
    service_scv: float = 1.0
    unmet_cost_s: float = 3600.0
    arcs_max: int = 24
    rounds_max: int = 8
    gap_part: float = 1e-4
    time_limit_s: float = 5.0
    regions_max: int = 64
    models_max: int = 64
    groups_max: int = 400

    def __post_init__(self) -> None:
        within("headroom", self.headroom, 0.01, 0.9)
        for bend in self.bends:
            within("bends", bend, 0.01, 0.99)
        if any(high <= low for low, high in zip(self.bends, self.bends[1:], strict=False)):
            raise ValueError(f"bends must rise, not {', '.join(f'{bend:g}' for bend in self.bends)}")
        within("pooled_nodes", self.pooled_nodes, 1.0)
        within("service_scv", self.service_scv, 0.0, 100.0)
        within("unmet_cost_s", self.unmet_cost_s, 1.0, 1e6)
        within("gap_part", self.gap_part, 0.0, 1.0)
        if not 0.0 < self.time_limit_s < math.inf:
            raise ValueError(f"time_limit_s must be above 0 and finite, not {self.time_limit_s:g}")
        for name in ("arcs_max", "rounds_max", "regions_max", "models_max", "groups_max"):
            within(name, getattr(self, name), 1)

    @property
    def ends(self) -> tuple[float, ...]:
        """Where the segments of utilisation end, rising; the last is the ceiling."""
        ceiling = 1.0 - self.headroom
        return (*(bend for bend in self.bends if bend < ceiling - 1e-9), ceiling)


DEFAULT_SETTINGS = FlowSettings()
