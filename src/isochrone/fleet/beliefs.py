"""What a look at the fleet reads."""

from collections.abc import Callable
from dataclasses import dataclass

from isochrone.fleet.node import NodeBelief
from isochrone.fleet.owners import Owners
from isochrone.fleet.settings import FleetSettings
from isochrone.fleet.tables import ModelTable, NodeTable


@dataclass(slots=True)
class Beliefs:
    """All that a look at the fleet needs, at one instant; made for each view, and so not frozen.

    Attributes:
        settings: bounds and time constants.
        table: numbers of all nodes.
        node: the belief at a row of `table`.
        row_of: the row of a node by its name.
        owners: who holds which prompt block of this model.
        kin_error_ms: error to expect of a node that has shown none.
        trial_ms: more of it for a node on trial, times `caution`.
        scarce: most nodes would have to load the model.
        model: the model's name.
        listing: numbers of the model on each node that lists it.
        now_s: when.
        bus_up: whether silence means anything.
    """

    settings: FleetSettings
    table: NodeTable
    node: Callable[[int], NodeBelief]
    row_of: Callable[[str], int | None]
    owners: Owners
    kin_error_ms: float
    trial_ms: float
    scarce: bool
    model: str
    listing: ModelTable
    now_s: float
    bus_up: bool
