"""The linear program, and what its one set of prices tells.

Variables: the flow of each open arc, the unmet demand of each pair, and the busy nodes of each segment of
each group. Rows: what flows and what is unmet is the demand of a pair; the work that flows into a group is no
more than its busy nodes. All else follows from the price of work in each group (the dual of the latter rows):
the optimum cost of a pair is that of its cheapest way at these prices, and a segment's bound is worth what
the price is above its slope. So a price for each group proves a lower bound for the whole problem, closed
arcs included (weak duality), and says which of them are worth opening: column generation.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_array, csr_array

from isochrone.model import Bools, Floats
from isochrone.routing.flow.problem import COST_S_MOST, TidyProblem
from isochrone.routing.flow.queueing import segment_slopes, segment_widths
from isochrone.routing.flow.settings import FlowSettings

_ENDINGS = {
    1: "the solver ran out of time",
    2: "the solver says that the program is infeasible",
    3: "the solver says that the program is unbounded",
    4: "the solver met numerical trouble",
}

_TRUSTED, _TRUSTED_PART = 1e-6, 1e-4
"""An answer may break its constraints by so much and by this part; the solver promises 1e-7, but scaled."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The optimum of a program with some arcs open.

    Attributes:
        flow_per_s: shape (P, G).
        work_price_s: shape (G,).
        objective: request-seconds a second.
    """

    flow_per_s: Floats
    work_price_s: Floats
    objective: float


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """A tidy problem with queueing cut into pieces; P pairs, G groups, S segments.

    Attributes:
        tidy: the problem.
        work_s: node-seconds of a request of the pair in the group, shape (P, G).
        slopes: cost of one more busy node, shape (G, S).
        widths: utilisation of each segment, shape (S,).
        unmet_cost_s: what a request that is not served costs: the setting, and at least twice the dearest
            single way at full queues, so that nobody is left out because it would take long.
    """

    tidy: TidyProblem
    work_s: Floats
    slopes: Floats
    widths: Floats
    unmet_cost_s: float

    @classmethod
    def of(cls, tidy: TidyProblem, settings: FlowSettings) -> "Program":
        """The program of `tidy` under `settings`."""
        slopes = segment_slopes(tidy.nodes, tidy.slots, settings)
        work = tidy.work_s[tidy.pair_model]
        dearest = np.where(np.isfinite(tidy.cost_s), tidy.cost_s + work * slopes[:, -1], 0.0)
        unmet_cost_s = max(settings.unmet_cost_s, 2.0 * float(dearest.max(initial=0.0)))
        return cls(tidy, work, slopes, segment_widths(settings), unmet_cost_s)

    # -- choosing arcs ---------------------------------------------------------------------------------

    def cheapest(self, most: int, hint_s: Floats | None = None) -> Bools:
        """The arcs to begin with: each pair's `most` cheapest groups at `hint_s` or at short queues."""
        prices = self.slopes[:, 0]
        if hint_s is not None and hint_s.shape == prices.shape:
            prices = np.clip(np.fmax(hint_s, prices), 0.0, COST_S_MOST)
        return _least(self.values_s(prices), most)

    def worth_opening(self, opened: Bools, found: Found, most: int) -> Bools:
        """Closed arcs that are cheaper than a pair's best open one, at most `most` of a pair."""
        values = self.values_s(found.work_price_s)
        best = np.where(opened, values, np.inf).min(axis=1, initial=self.unmet_cost_s)
        tempting = ~opened & (values < best[:, None] * (1.0 - 1e-9))
        return _least(np.where(tempting, values, np.inf), most)

    def values_s(self, work_price_s: Floats) -> Floats:
        """What a request of each pair costs in each group at these prices, shape (P, G)."""
        values: Floats = self.tidy.cost_s + self.work_s * work_price_s
        return values

    # -- solving ---------------------------------------------------------------------------------------

    def solved(self, opened: Bools, time_limit_s: float) -> Found | str:
        """The optimum with the arcs `opened`, shape (P, G), or in words why there is none."""
        pairs, groups = np.nonzero(opened)
        costs = np.concatenate(
            (
                self.tidy.cost_s[pairs, groups],
                np.full(len(self.tidy.demand_per_s), self.unmet_cost_s),
                self.slopes.ravel(),
            )
        )
        room = (self.tidy.nodes[:, None] * self.widths).ravel()
        upper = np.concatenate((np.full(len(costs) - len(room), np.inf), room))
        found = linprog(
            costs,
            A_ub=self._work_rows(opened),
            b_ub=np.zeros(len(self.tidy.nodes)),
            A_eq=self._demand_rows(opened),
            b_eq=self.tidy.demand_per_s,
            bounds=np.column_stack((np.zeros(len(costs)), upper)),
            method="highs-ds",
            options={"time_limit": time_limit_s},
        )
        if found.status != 0 or found.x is None:
            message = " ".join(str(found.message).split())
            return f"{_ENDINGS.get(found.status, 'the solver failed')}: {message}"
        flow = np.zeros(opened.shape)
        flow[pairs, groups] = np.maximum(found.x[: len(pairs)], 0.0)
        flow[flow < 1e-9 * self.tidy.demand_per_s[:, None]] = 0.0
        # The dual of an unused group lies anywhere below its first slope, which is what work costs there.
        prices = np.maximum(-found.ineqlin.marginals, self.slopes[:, 0])
        wrong = self._wrong(flow, prices)
        return f"{_ENDINGS[4]}: its answer {wrong}" if wrong else Found(flow, prices, float(found.fun))

    def _wrong(self, flow_per_s: Floats, work_price_s: Floats) -> str:
        """What is wrong with an answer that is said to be optimal; empty when nothing is."""
        if not (np.isfinite(flow_per_s).all() and np.isfinite(work_price_s).all()):
            return "has values that are not numbers"
        room = self.tidy.nodes * self.widths.sum()
        for used, there, reason in (
            (flow_per_s.sum(axis=1), self.tidy.demand_per_s, "sends more than is asked"),
            ((flow_per_s * self.work_s).sum(axis=0), room, "uses more than there is"),
        ):
            if (used > there * (1.0 + _TRUSTED_PART) + _TRUSTED).any():
                return reason
        return ""

    def _demand_rows(self, opened: Bools) -> csr_array:
        """Flow and unmet demand of each pair, shape (P, variables)."""
        pairs = np.nonzero(opened)[0]
        rows = np.concatenate((pairs, np.arange(len(opened))))
        shape = (len(opened), len(rows) + self.slopes.size)
        return coo_array((np.ones(len(rows)), (rows, np.arange(len(rows)))), shape=shape).tocsr()

    def _work_rows(self, opened: Bools) -> csr_array:
        """Work that flows into each group less its busy nodes, shape (G, variables)."""
        pairs, groups = np.nonzero(opened)
        total, segments = self.slopes.shape
        first = len(pairs) + len(opened)
        rows = np.concatenate((groups, np.repeat(np.arange(total), segments)))
        columns = np.concatenate((np.arange(len(pairs)), np.arange(first, first + self.slopes.size)))
        entries = np.concatenate((self.work_s[pairs, groups], np.full(self.slopes.size, -1.0)))
        return coo_array((entries, (rows, columns)), shape=(total, first + self.slopes.size)).tocsr()

    # -- what prices tell ------------------------------------------------------------------------------

    def saving_per_node(self, work_price_s: Floats) -> Floats:
        """What one more node of each group saves: each segment's width times its bound's worth, (G,)."""
        saving: Floats = np.maximum(work_price_s[:, None] - self.slopes, 0.0) @ self.widths
        return saving

    def gap(self, found: Found) -> float:
        """How far the optimum of the whole problem can be below `found`, at most; at least 0."""
        best = self.values_s(found.work_price_s).min(axis=1, initial=self.unmet_cost_s)
        bound = self.tidy.demand_per_s @ best - self.tidy.nodes @ self.saving_per_node(found.work_price_s)
        return max(0.0, found.objective - float(bound))


def _least(values: Floats, most: int) -> Bools:
    """Marks the `most` least finite values of each row; ties go to the lower columns."""
    marks = np.isfinite(values)
    if values.shape[1] > most:
        kept = np.argsort(values, axis=1, kind="stable")[:, :most]
        inside = np.zeros(values.shape, bool)
        np.put_along_axis(inside, kept, values=True, axis=1)
        marks &= inside
    return marks
