"""What a gateway believes of the fleet at the instant of one decision: the input of routing."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

from isochrone.model.columns import Columns
from isochrone.model.gateway import NOBODY, Me, Peer
from isochrone.model.listed import ListedColumns
from isochrone.model.node import ModelState
from isochrone.model.places import Places
from isochrone.model.plan import Plan
from isochrone.model.probe import Probe
from isochrone.model.request import PromptBlocks

_NOWHERE = Places()


@dataclass(frozen=True, slots=True)
class ModelView:
    """One model on one node, as believed.

    Attributes:
        state: how far it is from answering.
        ready_in_s: seconds until ready, counted down since the node said so.
        prefill_base_ms: time to first token of an empty prompt on an idle slot.
        prefill_ms_per_token: more time for each prompt token that is not cached.
        tpot_ms: time per output token at the node's present concurrency.
        sharing: how many times as long as alone on the node all usually takes there, as these speeds tell it.
        sharing_effect: how much of an equal share of the node shows in its speeds, 0 to 1; -1 until learned.
        at_work: it is one of those at work now.
        cached_prefix: hashes of prompt blocks believed to be in the node's prefix cache.
        cached_tokens_base: prompt tokens found in the cache whatever the prompt (the chat template).
        cached_tokens_per_byte: more of them for each leading byte of the prompt in `cached_prefix`.
        bias_ms: what first tokens lately took beyond round trip, wait and prefill (negative: less).
        error_ms: lately usual absolute error of the predicted first token.
        observations: how many answers of ours stand behind these numbers.
        ttft_peak_ms: peak-sensitive average of our first tokens, decayed to now; 0 before the first.
        response_ms: average of our first tokens; 0 before the first.
        service_ms: average time a request of ours held a slot, as the node told; 0 before the first.
    """

    state: ModelState
    ready_in_s: float = 0.0
    prefill_base_ms: float = 0.0
    prefill_ms_per_token: float = 0.0
    tpot_ms: float = 0.0
    sharing: float = 1.0
    sharing_effect: float = -1.0
    at_work: bool = False
    cached_prefix: Mapping[int, None] = field(default_factory=dict)
    cached_tokens_base: float = 0.0
    cached_tokens_per_byte: float = 0.25
    bias_ms: float = 0.0
    error_ms: float = 0.0
    observations: int = 0
    ttft_peak_ms: float = 0.0
    response_ms: float = 0.0
    service_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class NodeView:
    """One node, as believed.

    Attributes:
        node: its name.
        url: where it is reached.
        region: its place, "" when unknown.
        rtt_ms: round-trip time from this gateway: measured, or the region table's until measured.
        rtt_measured: whether it was measured.
        age_s: seconds since its load was last heard.
        slots: requests it works on at once.
        free_slots: slots free when last heard.
        running: slots in use when last heard.
        queued: requests waiting for a slot when last heard.
        kv_used: share of the KV cache in use when last heard, 0 to 1.
        inflow: work offered by everybody, slot-seconds a second, when last heard.
        others_inflow: of that, what did not come from us.
        backlog_s: slot-seconds of work left when last heard.
        reported_prefill_s: seconds of prompt processing ahead of a new request as last heard.
        reported_wait_s: seconds to a free slot as last heard.
        wait_s: seconds until the prompt of a request that arrives now would begin: as last heard, drained
            since, with our own dispatches that it could not yet report and the flow of everybody else.
        own_in_flight: our requests on it now.
        own_unseen: dispatches of ours, and of our company, that its last report can't know of.
        own_unseen_s: their expected seconds on a slot, all together.
        own_unseen_prefill_s: of these, seconds of prompt processing.
        models: what it can serve, by name.
        models_at_work: how many of them have requests on slots; 0 where it lists but one.
        unavailable: why it may not be chosen now, in words, or None.
        failure_domains: what it may fail together with.
    """

    node: str
    url: str
    region: str = ""
    rtt_ms: float = 0.0
    rtt_measured: bool = False
    age_s: float = 0.0
    slots: int = 1
    free_slots: int = 1
    running: int = 0
    queued: int = 0
    kv_used: float = 0.0
    inflow: float = 0.0
    others_inflow: float = 0.0
    backlog_s: float = 0.0
    reported_prefill_s: float = 0.0
    reported_wait_s: float = 0.0
    wait_s: float = 0.0
    own_in_flight: int = 0
    own_unseen: int = 0
    own_unseen_s: float = 0.0
    own_unseen_prefill_s: float = 0.0
    models: Mapping[str, ModelView] = field(default_factory=dict)
    models_at_work: int = 0
    unavailable: str | None = None
    failure_domains: tuple[str, ...] = ()


class Numbers(NamedTuple):
    """What a score needs of one node and its model: the fields of the same names of their views, by value.

    `usable` says that nothing makes the node unavailable.

    `sharing` is how many models would be at work on the node, that of the request counted, and the speeds
    are those to be expected then, `slower` times the usual. `slowed` is how many requests of other models
    would get less of the node, times the effect of that: 0 when its model is at work already.

    `held_bytes` are the leading bytes of the prompt in the node's prefix cache; while that is empty,
    `cached_tokens_base` is 0.
    """

    usable: bool
    rtt_ms: float
    wait_s: float
    age_s: float
    ready_in_s: float
    prefill_base_ms: float
    prefill_ms_per_token: float
    tpot_ms: float
    bias_ms: float
    error_ms: float
    held_bytes: int
    cached_tokens_base: float
    cached_tokens_per_byte: float
    sharing: float = 1.0
    slower: float = 1.0
    slowed: float = 0.0


def sharing_of(
    node: tuple[float, float, float], usual: float, effect: float, *, at_work: bool | float
) -> tuple[float, float, float]:
    """What a request for one of several models on a node finds and does there.

    Models that are at work on a node get equal shares of its compute: a request for one of them joins those
    that it has there, one for another takes a share from all.

    Args:
        node: (models at work, requests on the node, its slots).
        usual: how many times as long as alone what the model does usually takes there.
        effect: how much of an equal share shows, 0 to 1: 0 where each has compute of its own; -1 for not
            known: then all is expected to take as long as usual.
        at_work: the model is one of those at work.

    Returns:
        (models at work with the request, how many times as long as usual all takes then, requests of other
        models that would get less, times the effect).
    """
    models, requests, slots = node
    if requests <= 0.0:
        models = 0.0
    sharing = max(1.0, models if at_work else models + 1.0)
    slower = (1.0 + effect * (sharing - 1.0)) / usual if effect >= 0.0 else 1.0
    slowed = min(requests, slots) if models and not at_work else 0.0
    return sharing, slower, slowed * abs(effect)


class Roll:
    """The nodes of a view, each looked at only when asked for.

    This one is made from a list of views; the fleet has one that reads its beliefs.
    """

    def __init__(self, model: str, nodes: Sequence[NodeView]) -> None:
        self._model, self._nodes = model, nodes

    @property
    def roster(self) -> int:
        """While it stays the same, every index means the same node."""
        return 0

    def snapshot(self) -> "Roll":
        """The same with columns that stay as they are now."""
        return self

    def __len__(self) -> int:
        return len(self._nodes)

    def __getitem__(self, index: int) -> NodeView:
        """The node at `index`, complete."""
        return self._nodes[index]

    def __iter__(self) -> Iterator[NodeView]:
        return iter(self._nodes)

    @cached_property
    def columns(self) -> Columns:
        """All nodes at once."""
        return ListedColumns(self._model, self._nodes)

    def numbers(self, index: int, blocks: PromptBlocks) -> Numbers:
        """What a score of this prompt needs of the node at `index`, without the rest."""
        return self.look((index,), blocks)[0]

    def look(self, indices: Iterable[int], blocks: PromptBlocks) -> list[Numbers]:
        """The numbers of several nodes, in the order of `indices`: looked at together they cost less."""
        return [self._numbers(self._nodes[index], blocks) for index in indices]

    def _numbers(self, node: NodeView, blocks: PromptBlocks) -> Numbers:
        model = node.models[self._model]
        load = (node.models_at_work, node.running + node.own_unseen, node.slots)
        sharing, slower, slowed = sharing_of(load, model.sharing, model.sharing_effect, at_work=model.at_work)
        return Numbers(
            node.unavailable is None,
            node.rtt_ms,
            node.wait_s,
            node.age_s,
            model.ready_in_s,
            slower * model.prefill_base_ms,
            slower * model.prefill_ms_per_token,
            slower * model.tpot_ms,
            model.bias_ms,
            model.error_ms,
            blocks.prefix_bytes(model.cached_prefix),
            model.cached_tokens_base if model.cached_prefix else 0.0,
            model.cached_tokens_per_byte,
            sharing,
            slower,
            slowed,
        )

    def in_use(self, index: int) -> float:
        """How busy the node at `index` is: work offered over its slots, or its KV cache's use if more."""
        node = self._nodes[index]
        return max(node.inflow / max(1.0, node.slots), node.kv_used)

    def name(self, index: int) -> str:
        """The name of the node at `index`."""
        return self._nodes[index].node

    def names(self, indices: Iterable[int]) -> list[str]:
        """The names of several."""
        return [self._nodes[index].node for index in indices]

    def index_of(self, name: str) -> int | None:
        """Where the node of that name is, None when it does not list the model."""
        return next((index for index, node in enumerate(self._nodes) if node.node == name), None)

    def available(self, index: int) -> bool:
        """Whether the node at `index` may be chosen; `columns.available[index]` without the other nodes."""
        return self._nodes[index].unavailable is None

    def owners(self, blocks: PromptBlocks) -> Mapping[int, int]:
        """Leading bytes of the prompt in a node's prefix cache, by index, for nodes that hold any."""
        held = (
            (index, blocks.prefix_bytes(node.models[self._model].cached_prefix))
            for index, node in enumerate(self._nodes)
        )
        return {index: held_bytes for index, held_bytes in held if held_bytes}


@dataclass(slots=True)
class FleetView:
    """All nodes that could serve one model, at one instant, and what is known of that model everywhere.

    A window on the beliefs of one gateway: read it before the next event is folded in, and write nothing to
    it. It is not frozen only because one is made for each decision, and to freeze takes three times as long.

    Attributes:
        now_s: the gateway's monotonic clock.
        model: the model's name.
        nodes: every node that lists the model, in an order that stays while no node comes or goes.
        prompt_tokens_base: prompt tokens of an empty prompt (the chat template).
        prompt_tokens_per_byte: more tokens for each byte of prompt text.
        output_tokens_mean: how long answers without a limit lately were.
        answer_tokens_mean: how long answers lately were, with a limit or without; 0 before the first.
        output_tokens_base: how long answers under a limit of 0 would be, by the line learned.
        output_tokens_per_limit: more of them for each token of the client's limit.
        output_tokens_most: the longest answer that is expected, whatever the limit.
        output_share: by client, how long answers to it are over what is expected of all; others have 1.
        turn: dispatches of this model so far, retries included (round-robin counts on it).
        idle: nodes that announced to this gateway that they became idle, first come first, without those
            that it sent a request since; indices into `nodes`.
        probes: the probe pool, newest last.
        probed_in_flight: requests in flight as the last 128 probe answers told, for their quantiles.
        left_out: indices not to be chosen, because they were tried.
        prompt_bytes_mean: how long prompts lately were; 0 before the first.
        me: the gateway whose beliefs these are.
        own_work_per_s: what we lately sent for this model, slot-seconds a second.
        own_requests_per_s: in so many requests.
        peers: the other gateways that send requests for this model, and how much.
        places: the regions of nodes and gateways, and how far they are apart.
        front: nodes that few but we send to and that look best, best first; empty where many gateways share
            all.
        plan: the last plan for this model, without nodes that left since; None before the first.
    """

    now_s: float
    model: str
    nodes: Roll
    prompt_tokens_base: float = 0.0
    prompt_tokens_per_byte: float = 0.25
    output_tokens_mean: float = 128.0
    answer_tokens_mean: float = 0.0
    output_tokens_base: float = 0.0
    output_tokens_per_limit: float = 0.5
    output_tokens_most: float = float("inf")
    output_share: Mapping[str, float] = field(default_factory=dict)
    turn: int = 0
    idle: Sequence[int] = ()
    probes: Sequence[Probe] = ()
    probed_in_flight: Sequence[int] = ()
    left_out: frozenset[int] = frozenset()
    prompt_bytes_mean: float = 0.0
    me: Me = NOBODY
    own_work_per_s: float = 0.0
    own_requests_per_s: float = 0.0
    peers: tuple[Peer, ...] = ()
    places: Places = _NOWHERE
    front: Sequence[int] = ()
    plan: Plan | None = None

    @classmethod
    def of(cls, model: str, nodes: Sequence[NodeView], now_s: float = 0.0) -> "FleetView":
        """A view of these nodes, all else as by default."""
        return cls(now_s=now_s, model=model, nodes=Roll(model, nodes))

    def snapshot(self) -> "FleetView":
        """What a plan is made from, by value: to be read in another thread while events are folded in."""
        nodes, places = self.nodes.snapshot(), self.places.snapshot()
        return replace(self, nodes=nodes, places=places, idle=(), output_share={})

    def without(self, names: frozenset[str]) -> "FleetView":
        """The same view with these nodes left out of the choice."""
        found = (self.nodes.index_of(name) for name in names)
        return replace(self, left_out=self.left_out | {index for index in found if index is not None})
