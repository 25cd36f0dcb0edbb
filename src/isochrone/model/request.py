"""What a client asks for, as far as routing needs to know."""

from collections.abc import Container
from dataclasses import dataclass
from itertools import takewhile


@dataclass(frozen=True, slots=True)
class PromptBlocks:
    """The prompt as a chain of hashed blocks, hashed once a request.

    Attributes:
        hashes: one 64-bit number for each whole block; each depends on all blocks before it.
        block_bytes: bytes of prompt text in a block.
    """

    hashes: tuple[int, ...] = ()
    block_bytes: int = 64

    def prefix_bytes(self, known: Container[int]) -> int:
        """How many leading bytes of the prompt consist of blocks in `known`."""
        return len(list(takewhile(known.__contains__, self.hashes))) * self.block_bytes


@dataclass(frozen=True, slots=True)
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
    """

    id: str
    model: str
    prompt_bytes: int = 0
    blocks: PromptBlocks = PromptBlocks()
    output_tokens_max: int | None = None
    stream: bool = False
    deadline_s: float = float("inf")
