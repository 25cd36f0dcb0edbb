"""What a node says of itself once a second, and in the head and the trailer of each response."""

from isochrone.model.fleeting import fleeting
from isochrone.model.node import ModelState


@fleeting(frozen=True, slots=True)
class Load:
    """Work on a node at one instant.

    Attributes:
        slots: requests worked on at once.
        running: slots in use.
        queued: requests accepted that wait for a slot.
        wait_s: seconds until a request accepted now would get a slot.
        backlog_s: slot-seconds of accepted work that remain, running and queued together.
        inflow: offered work from everybody, slot-seconds a second, averaged over about ten seconds.
        kv_used: share of the KV cache in use, 0 to 1; 0 when the engine does not tell.
        prefill_s: seconds of prompt processing ahead of a request accepted now: prompts are computed one
            after the other, so even one that gets a slot at once waits for those before it.
    """

    slots: int
    running: int = 0
    queued: int = 0
    wait_s: float = 0.0
    backlog_s: float = 0.0
    inflow: float = 0.0
    kv_used: float = 0.0
    prefill_s: float = 0.0

    @property
    def begins_in_s(self) -> float:
        """Seconds until the prompt of a request accepted now would begin, its model being ready."""
        full = self.running + self.queued >= self.slots
        return max(self.prefill_s, self.wait_s) if full else self.prefill_s


@fleeting(frozen=True, slots=True)
class ModelPulse:
    """One model on one node at one instant. Speeds are the node's own claim, 0 when not yet measured.

    Attributes:
        name: the model.
        state: how far it is from answering.
        ready_in_s: seconds until ready: 0 when ready, the time left when loading, the load time (and the
            fetch) when on disk or absent, with what evicting another model costs.
        prefill_base_ms: time to first token of an empty prompt on an idle slot.
        prefill_ms_per_token: more time for each prompt token that is not cached.
        tpot_ms: time per output token at the present concurrency.
        at_work: requests for it are on slots. Said only where several models are listed, which share the
            node's compute while they are at work.
    """

    name: str
    state: ModelState
    ready_in_s: float = 0.0
    prefill_base_ms: float = 0.0
    prefill_ms_per_token: float = 0.0
    tpot_ms: float = 0.0
    at_work: bool = False


@fleeting(frozen=True, slots=True)
class Pulse:
    """The state of a node at one instant, published once a second on core NATS.

    Attributes:
        node: who.
        epoch: start of the node's process, milliseconds since 1970; orders its lives.
        seq: counts up within an epoch. `(epoch, seq)` orders pulses; clocks of nodes are never compared.
        card_digest: digest of the NodeCard now valid; a receiver that holds another fetches the card.
        load: work on the node.
        models: each model of the card.
        memory_free_bytes: what is left of the budget for models.
        leaving: the node is shutting down and takes no new work.
    """

    node: str
    epoch: int
    seq: int
    card_digest: str
    load: Load
    models: tuple[ModelPulse, ...] = ()
    memory_free_bytes: int = 0
    leaving: bool = False
