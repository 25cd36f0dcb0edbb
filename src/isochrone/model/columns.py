"""A fleet as columns: one number a node, so that a look at ten thousand nodes costs microseconds."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Hashes = NDArray[np.uint64]
Indices = NDArray[np.intp]


class Columns(Protocol):
    """What a view says of all its nodes at once: arrays of shape (nodes,), in the order of the view.

    Each is the field of the same name of `NodeView`, or of its `ModelView` for the view's model. They are to
    be read, never written, and hold only until the view's owner hears of the next event.
    """

    @property
    def available(self) -> Bools:
        """Whether the node may be chosen: `NodeView.unavailable` is None."""

    @property
    def name_hash(self) -> Hashes:
        """64 well-mixed bits of the node's name, the same at every gateway."""

    @property
    def region(self) -> Indices:
        """The number of the node's region in the view's `places`."""

    @property
    def rtt_ms(self) -> Floats:
        """Round trip from this gateway."""

    @property
    def age_s(self) -> Floats:
        """Seconds since the node's load was last heard."""

    @property
    def slots(self) -> Floats:
        """Requests worked on at once."""

    @property
    def running(self) -> Floats:
        """Slots in use when last heard."""

    @property
    def queued(self) -> Floats:
        """Requests waiting for a slot when last heard."""

    @property
    def kv_used(self) -> Floats:
        """Share of the KV cache in use when last heard, 0 to 1."""

    @property
    def inflow(self) -> Floats:
        """Work offered by everybody when last heard, slot-seconds a second."""

    @property
    def others_inflow(self) -> Floats:
        """Of the inflow, what did not come from us."""

    @property
    def backlog_s(self) -> Floats:
        """Slot-seconds of work left when last heard."""

    @property
    def reported_prefill_s(self) -> Floats:
        """Seconds of prompt processing ahead of a new request, as last heard."""

    @property
    def reported_wait_s(self) -> Floats:
        """Seconds to a free slot as last heard, uncorrected."""

    @property
    def wait_s(self) -> Floats:
        """Seconds until a new prompt would begin, corrected for drain, own dispatches and others' flow."""

    @property
    def own_in_flight(self) -> Floats:
        """Our own requests on the node now."""

    @property
    def own_unseen(self) -> Floats:
        """Of these, those that its last report can't know of."""

    @property
    def own_unseen_s(self) -> Floats:
        """Their expected seconds on a slot, all together."""

    @property
    def own_unseen_prefill_s(self) -> Floats:
        """Of these, seconds of prompt processing."""

    @property
    def ready_in_s(self) -> Floats:
        """Seconds until the model is ready."""

    @property
    def prefill_base_ms(self) -> Floats:
        """Time to first token of an empty prompt on an idle slot; 0 with the next when nothing is known."""

    @property
    def prefill_ms_per_token(self) -> Floats:
        """More time for each prompt token that is not cached."""

    @property
    def tpot_ms(self) -> Floats:
        """Time per output token at the node's present concurrency; 0 when nothing is known."""

    @property
    def bias_ms(self) -> Floats:
        """What first tokens lately took beyond all other terms."""

    @property
    def error_ms(self) -> Floats:
        """Lately usual absolute error of the predicted first token."""

    @property
    def ttft_peak_ms(self) -> Floats:
        """Peak-sensitive average of our first tokens there, decayed to now; 0 before the first."""

    @property
    def response_ms(self) -> Floats:
        """Average of our first tokens there, as measured here; 0 before the first."""

    @property
    def service_ms(self) -> Floats:
        """Average time one request of ours held a slot there, as the node told; 0 before the first."""
