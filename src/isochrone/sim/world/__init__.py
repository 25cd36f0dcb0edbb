"""A simulated world: clients, gateways, a bus and nodes, driven in virtual time from one seed.

Here live the agenda of events, distances and cuts, gateways that run the live beliefs and decisions, the yard
of nodes, pulses, faults, the omniscient reference and the recorder. Nothing here makes a decision of its own.
"""

from isochrone.sim.world.world import World, WorldPlan

__all__ = ["World", "WorldPlan"]
