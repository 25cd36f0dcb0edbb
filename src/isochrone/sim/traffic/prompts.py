"""What prompts say, as far as caches care: lengths, shared beginnings, and chains of hashed blocks.

Texts are never made. A block's hash follows from whose text it is and from its place in it, so two prompts
share just those leading blocks that would be the same bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import exp, log
from statistics import NormalDist

import numpy as np

from isochrone.model import PromptBlocks
from isochrone.sim.scenario.traffic_settings import LengthSettings, PrefixSettings
from isochrone.sim.spec import BYTES_PER_TOKEN
from isochrone.sim.traffic.streams import Floats, Hashes, Ints, hashes, luck_for, mix64

_NO_BLOCKS = PromptBlocks()


def draw_tokens(settings: LengthSettings, count: int, luck: np.random.Generator) -> Ints:
    """`count` lengths of at least 1."""
    if settings.kind == "exponential":
        drawn = luck.geometric(1.0 / settings.mean_tokens, count)
    elif settings.kind == "lognormal":
        drawn = np.rint(settings.median_tokens * np.exp(settings.sigma * luck.standard_normal(count)))
    else:
        drawn = np.full(count, settings.median_tokens)
    return np.clip(drawn, 1, settings.max_tokens).astype(np.int64)


def mean_tokens(settings: LengthSettings) -> float:
    """Mean of such lengths: exact for exponential and fixed ones; lognormal ones as if not rounded."""
    longest = settings.max_tokens
    if settings.kind == "fixed":
        return min(settings.median_tokens, longest)
    if settings.kind == "exponential":
        return settings.mean_tokens * (1.0 - (1.0 - 1.0 / settings.mean_tokens) ** longest)
    if not settings.sigma:
        return min(settings.median_tokens, longest)
    mu, sigma, phi = log(settings.median_tokens), settings.sigma, NormalDist().cdf
    below = exp(mu + sigma**2 / 2) * phi((log(longest) - mu - sigma**2) / sigma)
    return below + longest * (1.0 - phi((log(longest) - mu) / sigma))


@dataclass(frozen=True, slots=True)
class Asked:
    """A batch of requests before their prompts are put together; arrays of one length.

    Attributes:
        clients: whose they are.
        models: index of the model.
        own_tokens: of the prompt, without what it shares; with `total` all of it.
        output_tokens: of the answer.
        total: own_tokens already counts the client's prefix, as a trace's lengths do.
    """

    clients: Ints
    models: Ints
    own_tokens: Ints
    output_tokens: Ints
    total: bool = False


@dataclass(frozen=True, slots=True)
class Prompts:
    """Their prompts.

    Attributes:
        tokens: int64: whole lengths.
        models: int64: index of the model: a conversation stays with its own.
        prefix_tokens: int64: of these, the client's own prefix.
        texts: uint64: whose text comes after the prefix, one number for each conversation.
        prefixes: uint64: whose prefix it is.
    """

    tokens: Ints
    models: Ints
    prefix_tokens: Ints
    texts: Hashes
    prefixes: Hashes


@dataclass(slots=True)
class _Conversation:
    number: int
    model: int
    tokens: int


@dataclass(slots=True)
class Writer:
    """Puts prompts together, batch by batch: who says what after what.

    Attributes:
        settings: what prompts have in common.
        seed: of everything.
    """

    settings: PrefixSettings
    seed: int
    _luck: np.random.Generator = field(init=False)
    _open: dict[int, list[_Conversation]] = field(default_factory=dict)
    _begun: int = 0

    def __post_init__(self) -> None:
        self._luck = luck_for(self.seed, "conversations")

    def write(self, asked: Asked) -> Prompts:
        """The prompts of a batch, in order."""
        prefix_tokens = self._prefix_tokens(asked.clients)
        if asked.total:
            prefix_tokens, tokens = np.minimum(prefix_tokens, asked.own_tokens), asked.own_tokens
        else:
            tokens = prefix_tokens + asked.own_tokens
        models = asked.models
        numbers = self._begun + np.arange(len(tokens), dtype=np.int64)
        if self.settings.follow_up_share:
            tokens, models, numbers = self._converse(asked, tokens)
        else:
            self._begun += len(tokens)
        return Prompts(
            tokens=tokens,
            models=models,
            prefix_tokens=prefix_tokens,
            texts=hashes(self.seed, 1, numbers),
            prefixes=hashes(self.seed, 2, asked.clients, models),
        )

    def _prefix_tokens(self, clients: Ints) -> Ints:
        """Half to one and a half of the mean; the same for a client whenever it comes."""
        shares: Floats = hashes(self.seed, 3, clients).astype(np.float64) / 2.0**64
        return np.rint(self.settings.client_tokens * (0.5 + shares)).astype(np.int64)

    def _converse(self, asked: Asked, fresh_tokens: Ints) -> tuple[Ints, Ints, Ints]:
        """(tokens, models, number of the conversation) of each request."""
        settings, count = self.settings, len(fresh_tokens)
        follows = (self._luck.random(count) < settings.follow_up_share).tolist()
        picks = self._luck.random(count).tolist()
        tokens, models, numbers = fresh_tokens.tolist(), asked.models.tolist(), []
        own, outputs = asked.own_tokens.tolist(), asked.output_tokens.tolist()
        for index, client in enumerate(asked.clients.tolist()):
            going_on = self._open.setdefault(client, [])
            one = None
            if follows[index] and going_on:
                one = going_on[int(picks[index] * len(going_on))]
                if one.tokens + own[index] > settings.context_tokens_max:
                    going_on.remove(one)
                    one = None
                else:
                    tokens[index], models[index] = one.tokens + own[index], one.model
            if one is None:
                one = self._begin(going_on, models[index])
            one.tokens = tokens[index] + outputs[index]
            numbers.append(one.number)
        return tuple(np.array(each, dtype=np.int64) for each in (tokens, models, numbers))  # type: ignore[return-value]

    def _begin(self, going_on: list[_Conversation], model: int) -> _Conversation:
        one = _Conversation(self._begun, model, 0)
        self._begun += 1
        going_on.append(one)
        if len(going_on) > self.settings.conversations_max:
            del going_on[0]
        return one


def chains(prompts: Prompts, block_tokens: int) -> Sequence[PromptBlocks]:
    """The hash chain of each prompt: its whole blocks."""
    if not block_tokens:
        return [_NO_BLOCKS] * len(prompts.tokens)
    counts = prompts.tokens // block_tokens
    ends = np.cumsum(counts)
    places = np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(ends - counts, counts)
    in_prefix = places < np.repeat(prompts.prefix_tokens // block_tokens, counts)
    whose = np.where(in_prefix, np.repeat(prompts.prefixes, counts), np.repeat(prompts.texts, counts))
    flat: list[int] = mix64(whose + places.astype(np.uint64)).tolist()
    block_bytes = block_tokens * BYTES_PER_TOKEN
    return [
        PromptBlocks(tuple(flat[end - count : end]), block_bytes)
        for end, count in zip(ends.tolist(), counts.tolist(), strict=True)
    ]
