"""All models that nodes list, and what is known of each."""

import numpy as np

from isochrone.fleet.events import Planned
from isochrone.fleet.front import Front
from isochrone.fleet.kin import kind_of
from isochrone.fleet.model_lore import ModelLore
from isochrone.fleet.node import NodeBelief
from isochrone.fleet.settings import FleetSettings
from isochrone.fleet.speed import Speed
from isochrone.fleet.tables import NodeTable, Offer
from isochrone.model import ModelFlow, ModelPulse, Plan

_FLOW_MIN = 1e-6
_READY_SHARE_MIN = 0.5
_NOTHING = Offer(np.zeros(1), np.zeros(1), np.zeros(1))


class Models:
    """What is known of each model, wherever it runs."""

    def __init__(self, settings: FleetSettings, table: NodeTable) -> None:
        self._settings, self._table = settings, table
        self._lore: dict[str, ModelLore] = {}
        self._ever_listed: dict[str, None] = {}
        self._roster = 0  # where a model's roster begins: beyond those of all that were forgotten

    def of(self, model: str) -> ModelLore:
        """What is known of one model, from now on kept."""
        lore = self._lore.get(model)
        if lore is None:
            lore = self._lore[model] = ModelLore(self._settings)
            lore.table.roster = self._roster
        return lore

    def look(self, model: str) -> ModelLore:
        """The same, without keeping what nobody listed."""
        return self._lore.get(model) or ModelLore(self._settings)

    def listed(self) -> tuple[str, ...]:
        """Every model that some known node lists, in order of name."""
        return tuple(sorted(name for name, lore in self._lore.items() if lore.table.rows))

    def ever_listed(self, model: str) -> bool:
        """Whether any node ever listed it."""
        return model in self._ever_listed

    def flows(self, now_s: float) -> tuple[ModelFlow, ...]:
        """Our own traffic: each model that we lately sent requests for."""
        return tuple(
            ModelFlow(model, lore.requests.at(now_s), lore.flow.at(now_s))
            for model, lore in self._lore.items()
            if lore.flow.at(now_s) > _FLOW_MIN
        )

    # -- who lists what --------------------------------------------------------------------------------

    def list_all(self, node: NodeBelief) -> None:
        """The node is known from now on: its models are to be chosen from it."""
        self._table.known[node.row] = True
        kind = kind_of(node.card)
        for model, speed in node.speeds.items():
            lore, speed.kind = self.of(model), kind
            if lore.table.row_of(node.row) is None:
                speed.owners, speed.kin = lore.owners, lore.kin
                lore.table.list_node(node.row)
                speed.write(lore.table)

    def hear(self, node: NodeBelief, models: tuple[ModelPulse, ...], now_s: float) -> bool:
        """Take in what the node says of its models; what it no longer lists is forgotten with what it had.

        Returns whether it lists one that it did not list before.
        """
        while len(self._ever_listed) > self._settings.models_max:
            del self._ever_listed[next(iter(self._ever_listed))]
        if node.speeds and not (
            len(node.speeds) == len(models) and all(model.name in node.speeds for model in models)
        ):
            for gone in node.speeds.keys() - {model.name for model in models}:
                self.unlist(node, gone)
            node.count_models()
        more = news = False
        for model in models:
            self._ever_listed.setdefault(model.name)
            speed = node.speeds.get(model.name)
            if speed is not None and speed.knows(model):
                continue
            news = True
            lore = self.of(model.name)
            if speed is None:
                more = True
                speed = node.speeds[model.name] = Speed(
                    self._settings, model, now_s, owners=lore.owners, kin=lore.kin, node=node.row
                )
            else:
                speed.hear(model, now_s)
            speed.write(lore.table)
        if more:  # what counted nothing where it was alone counts from now on
            for model in models:
                node.speeds[model.name].write(self.of(model.name).table)
        if news:
            node.count_models()
        return more

    def at_work(self, node: NodeBelief, model: str) -> None:
        """One of the models that the node lists came to work there, or has none left."""
        node.speeds[model].write(self.of(model).table)
        node.count_models()

    def unlist(self, node: NodeBelief, model: str) -> None:
        """The node has it no more."""
        node.speeds.pop(model).forget_prefix()
        lore = self.of(model)
        row, listing = lore.table.row_of(node.row), lore.table
        if row is not None:
            gone = listing.expect(slice(row, row + 1), _NOTHING)
            self._table.expect(np.array([node.row]), gone, float(self._table.others_at_s[node.row]))
        if row is not None and lore.plan is not None:
            self._follow(lore, lore.plan.without(row, listing.rows - 1))
        listing.drop_node(node.row)
        lore.probes.forget(node.row)
        if not lore.table.rows and not lore.turn:
            self._roster = max(self._roster, listing.roster + 1)
            del self._lore[model]  # nobody lists it, and we never sent anything to it

    def planned(self, event: Planned, now_s: float) -> None:
        """Expect of everybody else what the plan expects; nothing, when nodes left meanwhile."""
        lore, plan = self.look(event.model), event.plan
        listing, table, rows = lore.table, self._table, len(plan.edges)
        if not 0 < rows <= listing.rows or event.roster not in (None, listing.roster):
            return
        where, flow = listing.where_first(rows), plan.others_flow
        table.service_s[where], table.prefill_share[where] = plan.service_s, plan.prefill_share
        offer = Offer(flow, flow / plan.service_s, flow * plan.prefill_share)
        table.expect(where, listing.expect(slice(rows), offer), now_s)
        lore.kin.scarce = plan.ready_share < _READY_SHARE_MIN
        self._follow(lore, plan)

    def _follow(self, lore: ModelLore, plan: Plan) -> None:
        lore.plan, lore.front = plan, Front(plan)
