"""The nouns of Isochrone: frozen values with their units in their names.

Here live the things every room talks about, and nothing that acts. This package imports nothing but the
standard library's typing tools, and nothing here reads a clock, a socket or a random number.
"""

from isochrone.model.decision import Candidate, Decision, Estimate, Exclusion
from isochrone.model.fleet import FleetView, ModelView, NodeView
from isochrone.model.node import ModelCard, ModelState, NodeCard
from isochrone.model.outcome import Outcome, OutcomeKind, Timings
from isochrone.model.pulse import Load, ModelPulse, Pulse
from isochrone.model.request import PromptBlocks, Request

__all__ = [
    "Candidate",
    "Decision",
    "Estimate",
    "Exclusion",
    "FleetView",
    "Load",
    "ModelCard",
    "ModelPulse",
    "ModelState",
    "ModelView",
    "NodeCard",
    "NodeView",
    "Outcome",
    "OutcomeKind",
    "PromptBlocks",
    "Pulse",
    "Request",
    "Timings",
]
