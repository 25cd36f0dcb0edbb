"""All nodes that list a model at once."""

from functools import cached_property

import numpy as np

from isochrone.fleet.beliefs import Beliefs
from isochrone.fleet.trial import cautions
from isochrone.fleet.wait import Waiting, waits_s
from isochrone.model import Bools, Floats, Hashes, Indices


class FleetColumns:
    """See `Columns`. Each is copied together when asked for: in the tables the rows lie together."""

    def __init__(self, beliefs: Beliefs) -> None:
        self._beliefs, listing = beliefs, beliefs.listing
        self._nodes = listing.where
        self._now_s = beliefs.now_s

    def _of_node(self, column: Floats) -> Floats:
        return np.ascontiguousarray(column[self._nodes])

    def _of_model(self, column: Floats) -> Floats:
        return np.ascontiguousarray(column[: self._beliefs.listing.rows])

    @cached_property
    def available(self) -> Bools:
        beliefs, table, now_s, nodes = self._beliefs, self._beliefs.table, self._now_s, self._nodes
        usable = ~table.leaving[nodes] & (table.ejected_until_s[nodes] <= now_s)
        usable &= beliefs.listing.refused_until_s[: beliefs.listing.rows] <= now_s
        if beliefs.bus_up:
            usable &= now_s - table.heard_at_s[nodes] <= beliefs.settings.silent_s
        available: Bools = usable
        return available

    @cached_property
    def name_hash(self) -> Hashes:
        return self._beliefs.table.name_hash[self._nodes]

    @cached_property
    def region(self) -> Indices:
        return self._beliefs.table.region[self._nodes]

    @cached_property
    def rtt_ms(self) -> Floats:
        return self._of_node(self._beliefs.table.rtt_ms)

    @cached_property
    def age_s(self) -> Floats:
        return self._now_s - self._of_node(self._beliefs.table.load_at_s)

    @cached_property
    def slots(self) -> Floats:
        return self._of_node(self._beliefs.table.slots)

    @cached_property
    def running(self) -> Floats:
        return self._of_node(self._beliefs.table.running)

    @cached_property
    def queued(self) -> Floats:
        return self._of_node(self._beliefs.table.queued)

    @cached_property
    def kv_used(self) -> Floats:
        return self._of_node(self._beliefs.table.kv_used)

    @cached_property
    def inflow(self) -> Floats:
        return self._of_node(self._beliefs.table.inflow)

    @cached_property
    def others_inflow(self) -> Floats:
        table = self._beliefs.table
        own_flow_age_s = self._now_s - self._of_node(table.own_flow_at_s)
        own_flow = self._of_node(table.own_flow) * np.exp(
            -own_flow_age_s / self._beliefs.settings.flow_memory_s
        )
        return np.asarray(np.maximum(0.0, self.inflow - own_flow))

    @cached_property
    def backlog_s(self) -> Floats:
        return self._of_node(self._beliefs.table.backlog_s)

    @cached_property
    def reported_prefill_s(self) -> Floats:
        return self._of_node(self._beliefs.table.prefill_s)

    @cached_property
    def reported_wait_s(self) -> Floats:
        return self._of_node(self._beliefs.table.wait_s)

    @cached_property
    def wait_s(self) -> Floats:
        table = self._beliefs.table
        others_flow, others_s = self._others()
        return waits_s(
            Waiting(
                slots=self.slots,
                running=self.running,
                queued=self.queued,
                told_wait_s=self.reported_wait_s,
                backlog_s=self.backlog_s,
                prefill_s=self.reported_prefill_s,
                age_s=self.age_s,
                own_unseen=self.own_unseen,
                own_unseen_s=self.own_unseen_s,
                own_unseen_prefill_s=self.own_unseen_prefill_s,
                own_idle_s=self._of_node(table.own_idle_s),
                own_prompt_idle_s=self._of_node(table.own_prompt_idle_s),
                others_flow=others_flow,
                others_s=others_s,
                service_s=self._of_node(table.service_s),
                prefill_share=self._of_node(table.prefill_share),
            )
        )

    def _others(self) -> tuple[Floats, Floats]:
        """What everybody else sends now, slot-seconds a second, and has sent since the report."""
        table, now_s = self._beliefs.table, self._now_s
        told_s, planned_s = self._of_node(table.load_at_s), self._of_node(table.others_at_s)
        flow = self._of_node(table.others_flow)
        since_s = flow * (now_s - np.maximum(told_s, planned_s))
        since_s = since_s + np.where(planned_s >= told_s, self._of_node(table.others_s), 0.0)
        unplanned = planned_s < 0.0
        if unplanned.any():
            flow = np.where(unplanned, self.others_inflow, flow)
            since_s = np.where(unplanned, flow * self.age_s, since_s)
        return flow, since_s

    @cached_property
    def own_in_flight(self) -> Floats:
        return self._of_node(self._beliefs.table.own_in_flight)

    @cached_property
    def own_unseen(self) -> Floats:
        return self._of_node(self._beliefs.table.own_unseen)

    @cached_property
    def own_unseen_s(self) -> Floats:
        return self._of_node(self._beliefs.table.own_unseen_s)

    @cached_property
    def own_unseen_prefill_s(self) -> Floats:
        return self._of_node(self._beliefs.table.own_unseen_prefill_s)

    @cached_property
    def ready_in_s(self) -> Floats:
        listing = self._beliefs.listing
        ready_in_s = self._of_model(listing.ready_in_s)
        loading = listing.loading[: listing.rows]
        if loading.any():
            elapsed_s = np.where(loading, self._now_s - self._of_model(listing.heard_at_s), 0.0)
            return np.asarray(np.maximum(0.0, ready_in_s - elapsed_s))
        return ready_in_s

    @cached_property
    def prefill_base_ms(self) -> Floats:
        return self._of_model(self._beliefs.listing.prefill_base_ms)

    @cached_property
    def prefill_ms_per_token(self) -> Floats:
        return self._of_model(self._beliefs.listing.prefill_ms_per_token)

    @cached_property
    def tpot_ms(self) -> Floats:
        listing = self._beliefs.listing
        slope = self._of_model(listing.tpot_ms_slope)
        if slope.any():
            return self._of_model(listing.tpot_ms_base) + slope * np.minimum(self.slots, self.running + 1)
        return self._of_model(listing.tpot_ms_base)

    @cached_property
    def bias_ms(self) -> Floats:
        listing, settings = self._beliefs.listing, self._beliefs.settings
        bias_ms = self._of_model(listing.bias_ms)
        if not bias_ms.any():
            return bias_ms
        age_s = self._now_s - self._of_model(listing.bias_at_s)
        return np.asarray(bias_ms * np.exp(-age_s / settings.bias_memory_s))

    @cached_property
    def error_ms(self) -> Floats:
        beliefs, listing = self._beliefs, self._beliefs.listing
        shown_ms = self._of_model(listing.error_ms)
        error_ms = np.where(shown_ms < 0.0, beliefs.kin_error_ms, shown_ms)
        return np.asarray(
            error_ms + cautions(self._of_model(listing.crowd), scarce=beliefs.scarce) * beliefs.trial_ms
        )

    @cached_property
    def ttft_peak_ms(self) -> Floats:
        listing, settings = self._beliefs.listing, self._beliefs.settings
        age_s = self._now_s - self._of_model(listing.ttft_peak_at_s)
        return np.asarray(self._of_model(listing.ttft_peak_ms) * np.exp(-age_s / settings.peak_memory_s))

    @cached_property
    def response_ms(self) -> Floats:
        return self._of_model(self._beliefs.listing.response_ms)

    @cached_property
    def service_ms(self) -> Floats:
        return self._of_model(self._beliefs.listing.service_ms)
