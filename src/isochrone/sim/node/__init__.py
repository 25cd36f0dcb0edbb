"""A simulated inference node: fluid continuous batching behind the live node's own desk.

Here live one node's slots, batches, memory, loads and claims. A node knows no gateway and no other node; time
comes in with each call.
"""

from isochrone.sim.node.events import Done, FirstToken, ModelReady, NodeEvent
from isochrone.sim.node.node import SimNode

__all__ = ["Done", "FirstToken", "ModelReady", "NodeEvent", "SimNode"]
