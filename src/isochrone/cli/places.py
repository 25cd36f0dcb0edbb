"""The demo network: three nodes, each with a place and a condition of its own, so that near is not soon."""

from dataclasses import dataclass

from isochrone.adapters.regions import load_regions

DEMO_MODEL = "smollm2-135m"
GATEWAY_REGION = "West Europe"


@dataclass(frozen=True, slots=True)
class DemoNode:
    """One node of the demo network.

    Attributes:
        name: of the node.
        operator: who is said to run it.
        region: where it is said to be.
        condition: why it is in the demo, for people.
        preload: whether its model is loaded at start.
        neighbours: users of its own that keep it busy, each sending one request after the other.
        idle_unload_s: its model leaves memory when unused for so long.
    """

    name: str
    operator: str
    region: str
    condition: str
    preload: bool = True
    neighbours: int = 0
    idle_unload_s: float = float("inf")

    @property
    def rtt_ms(self) -> float:
        """Round trip from the gateway's place, by the region table."""
        rtt_ms = load_regions().rtt_ms(GATEWAY_REGION, self.region)
        return rtt_ms if rtt_ms is not None else 0.0


DEMO_NODES = (
    DemoNode(
        "near-busy",
        "alpha",
        "Belgium Central",
        "near, and busy with users of its own",
        neighbours=3,
    ),
    DemoNode(
        "near-cold",
        "bravo",
        "UK South",
        "near, but its model is on disk, not in memory",
        preload=False,
        idle_unload_s=60.0,
    ),
    DemoNode("far-ready", "charlie", "Southeast Asia", "far, but warm and free"),
)
