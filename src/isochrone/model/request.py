"""What a client asks for, as far as routing needs to know."""

from collections.abc import Container
from dataclasses import dataclass, field, replace
from itertools import takewhile

from isochrone.model.fleeting import fleeting


@fleeting(frozen=True, slots=True)
class PromptBlocks:
    """The prompt as a chain of hashed blocks, hashed once a request.

    Attributes:
        hashes: one 64-bit number for each whole block; each depends on all blocks before it.
        block_bytes: bytes of prompt text in a block, or in the first where they differ.
        ends: where each block ends, in bytes from the prompt's beginning; () where all are alike.
    """

    hashes: tuple[int, ...] = ()
    block_bytes: int = 64
    ends: tuple[int, ...] = ()

    def bytes_of(self, count: int) -> int:
        """How many bytes the first `count` blocks are."""
        return self.ends[count - 1] if count and self.ends else count * self.block_bytes

    def prefix_bytes(self, known: Container[int]) -> int:
        """How many leading bytes of the prompt consist of blocks in `known`."""
        return self.bytes_of(len(list(takewhile(known.__contains__, self.hashes))))


@dataclass(frozen=True, slots=True)
class Objective:
    """What a client wants of an answer.

    Attributes:
        ttft_ms: the first token is to be seen within so long, or None. An answer that is not streamed is seen
            all at once: then this is for the whole of it. Above 0 as a client says it.
        tpot_ms: each later token is to take no longer, on average, or None.
        completion: the last token counts, not the first; None: as the request streams, the first of a stream
            and the last of an answer that comes whole.
    """

    ttft_ms: float | None = None
    tpot_ms: float | None = None
    completion: bool | None = None

    @property
    def has_slo(self) -> bool:
        """Whether there is a limit to keep."""
        return self.ttft_ms is not None or self.tpot_ms is not None

    def after(self, waited_ms: float) -> "Objective":
        """What is left of it when the client has waited so long; below 0 when the limit has passed."""
        return self if self.ttft_ms is None else replace(self, ttft_ms=self.ttft_ms - waited_ms)


NO_OBJECTIVE = Objective()


@fleeting(frozen=True, slots=True)
class Request:
    """One request for tokens.

    Attributes:
        id: unique; also the id of its Decision.
        model: the model's name as the client wrote it.
        prompt_bytes: length of all prompt text, in bytes of UTF-8.
        blocks: the prompt as hashed blocks.
        output_tokens_max: the client's limit on the answer, as far as it matters for estimates, or None.
        stream: the client reads the answer token by token.
        deadline_s: when the client gives up, on the receiver's monotonic clock.
        objective: what the client wants of the answer.
        client: whose it is, as far as answers of one length go together: an opaque name, "" when not known.
            It stands in no record and no log.
    """

    id: str
    model: str
    prompt_bytes: int = 0
    blocks: PromptBlocks = PromptBlocks()
    output_tokens_max: int | None = None
    stream: bool = False
    deadline_s: float = float("inf")
    objective: Objective = NO_OBJECTIVE
    client: str = field(default="", repr=False)

    @property
    def wants_completion(self) -> bool:
        """Whether the last token counts, not the first."""
        wanted = self.objective.completion
        return not self.stream if wanted is None else wanted
