"""The nouns of Isochrone: frozen values with their units in their names.

Here live the things every room talks about, and nothing that acts. This package imports nothing but the
standard library's typing tools and numpy, and nothing here reads a clock, a socket or a random number.
"""

from isochrone.model.columns import Bools, Columns, Floats, Hashes, Indices
from isochrone.model.decision import Candidate, Candidates, Decision, Estimate, Exclusion, Origin, SloRoom
from isochrone.model.fleet import FleetView, ModelView, NodeView, Numbers, Roll, sharing_of
from isochrone.model.fleeting import fleeting
from isochrone.model.gateway import NOBODY, EndedWork, GatewayPulse, LedgerNews, Me, ModelFlow, Peer, SentWork
from isochrone.model.key import KEYS_MAX, NO_LIMITS, Key, KeyLimits
from isochrone.model.listed import ListedColumns, name_hash
from isochrone.model.node import ModelCard, ModelState, NodeCard
from isochrone.model.outcome import Outcome, OutcomeKind, Timings, ready_in_s
from isochrone.model.places import UNKNOWN_RTT_MS, Places
from isochrone.model.plan import NOWHERE, Company, Homes, Meeting, Plan
from isochrone.model.probe import NO_PROBES, Probe, ProbeSettings
from isochrone.model.pulse import Load, ModelPulse, Pulse
from isochrone.model.request import NO_OBJECTIVE, Objective, PromptBlocks, Request

__all__ = [
    "KEYS_MAX",
    "NOBODY",
    "NOWHERE",
    "NO_LIMITS",
    "NO_OBJECTIVE",
    "NO_PROBES",
    "UNKNOWN_RTT_MS",
    "Bools",
    "Candidate",
    "Candidates",
    "Columns",
    "Company",
    "Decision",
    "EndedWork",
    "Estimate",
    "Exclusion",
    "FleetView",
    "Floats",
    "GatewayPulse",
    "Hashes",
    "Homes",
    "Indices",
    "Key",
    "KeyLimits",
    "LedgerNews",
    "ListedColumns",
    "Load",
    "Me",
    "Meeting",
    "ModelCard",
    "ModelFlow",
    "ModelPulse",
    "ModelState",
    "ModelView",
    "NodeCard",
    "NodeView",
    "Numbers",
    "Objective",
    "Origin",
    "Outcome",
    "OutcomeKind",
    "Peer",
    "Places",
    "Plan",
    "Probe",
    "ProbeSettings",
    "PromptBlocks",
    "Pulse",
    "Request",
    "Roll",
    "SentWork",
    "SloRoom",
    "Timings",
    "fleeting",
    "name_hash",
    "ready_in_s",
    "sharing_of",
]
