"""The inference node: an agent beside its engines.

It admits a bounded number of requests, loads and unloads models within a memory budget, relays to the engine,
measures what it does, and tells: a pulse a second, and its load in every answer.
"""

from isochrone.nodes.inference.agent import Agent
from isochrone.nodes.inference.settings import ModelSpec, NodeSettings

__all__ = ["Agent", "ModelSpec", "NodeSettings"]
