"""Two hashes of the prefix: two nodes belong to each prefix; the warmer of them, unless it would be late.

Reads: the leading blocks of the prompt, names, and the whole estimate of two nodes. Source: "DualMap:
Enabling both cache affinity and load balancing for distributed LLM serving", arXiv 2602.06502, 2026: two
candidates by two independent hashes of the prompt's prefix; cache affinity first, load first when the first
token would miss its objective. Its growing of the prefix of hot prompts and its moving of queued requests are
not here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from isochrone.routing.choice import Choice
from isochrone.routing.keys import affinity, prefix_key
from isochrone.routing.luck import Luck
from isochrone.routing.parameters import within


@dataclass(frozen=True, slots=True)
class Parameters:
    """When affinity has to give way.

    Attributes:
        prefix_blocks: prompts with the same first blocks belong together. Ours; the source adapts it.
        slo_ttft_ms: when the warmer node's first token is predicted to come later, load decides.
        told: heed what other gateways tell that they send, as `soonest` does. Ours.
    """

    prefix_blocks: int = 2
    slo_ttft_ms: float = 5000.0
    told: bool = False

    def __post_init__(self) -> None:
        within("prefix_blocks", self.prefix_blocks, 1)
        within("slo_ttft_ms", self.slo_ttft_ms, 0)


def rank(choice: Choice, luck: Luck, parameters: Parameters) -> Sequence[int]:
    """The better of the two, the other, then nodes in the order of the first hash."""
    del luck
    name_hash, key = choice.columns.name_hash, prefix_key(choice.request, parameters.prefix_blocks)
    by_first, by_second = -affinity(name_hash, key), -affinity(name_hash, key, function=1)
    usable = choice.usable
    one = int(usable[np.argmin(by_first[usable])])
    by_second[one] = np.inf
    other = int(usable[np.argmin(by_second[usable])])
    two = {index: choice.estimate(index) for index in dict.fromkeys((one, other))}
    soon = min(two, key=lambda index: two[index].ttft_ms)
    warm = min(two, key=lambda index: (-two[index].cached_tokens, two[index].ttft_ms))
    first = warm if two[warm].ttft_ms <= parameters.slo_ttft_ms else soon
    return list(dict.fromkeys([first, *two, *choice.least(by_first)]))[: choice.wanted]
