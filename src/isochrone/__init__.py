"""Isochrone: the coordination layer that sends each request to the node that will answer soonest."""

__version__ = "0.1.0"
