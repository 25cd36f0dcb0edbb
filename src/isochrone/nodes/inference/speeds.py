"""What the node has measured of its own models."""

from dataclasses import dataclass, field

from isochrone.fleet.learn import Average, Line
from isochrone.fleet.output import OutputLength
from isochrone.fleet.prefix import PrefixCache, PrefixMemory
from isochrone.model import Request, Timings

LOAD_MEMORY = 5.0
"""Loads that count."""

_MEMORY = 40.0
_PRIOR_PREFILL_BASE_MS = 50.0
_PRIOR_PREFILL_MS_PER_TOKEN = 5.0
_PRIOR_TPOT_MS = 25.0
_PRIOR_TOKENS_PER_BYTE = 0.25
_PREFIX_BLOCKS_MAX = 8192
_PRIOR_LOAD_S = 0.5
_PRIOR_SIZE_BYTES = 1_000_000_000
"""Size of weights of which nothing is known."""

_PRIOR_LOAD_BYTES_PER_S = 200e6
_PRIOR_FETCH_BYTES_PER_S = 20e6


@dataclass(slots=True)
class Speeds:
    """Learned speeds of one model on this node."""

    prefill: Line = field(default_factory=lambda: Line(_MEMORY))
    decode: Line = field(default_factory=lambda: Line(_MEMORY))
    tokens: Line = field(default_factory=lambda: Line(_MEMORY))
    output: OutputLength = field(default_factory=OutputLength)
    load: Average = field(default_factory=lambda: Average(LOAD_MEMORY))
    prefix: PrefixCache = field(default_factory=lambda: PrefixCache(PrefixMemory(_PREFIX_BLOCKS_MAX)))

    def __post_init__(self) -> None:
        self.prefill.expect(_PRIOR_PREFILL_BASE_MS, _PRIOR_PREFILL_MS_PER_TOKEN, (0.0, 256.0), 0.5)
        self.decode.expect(_PRIOR_TPOT_MS, 0.0, (1.0, 4.0), 0.5)
        self.tokens.expect(16.0, _PRIOR_TOKENS_PER_BYTE, (0.0, 1024.0), 0.5)

    @property
    def measured(self) -> bool:
        """Whether anything was measured yet."""
        return self.prefill.count > 0

    def learn(self, request: Request, timings: Timings) -> None:
        """Fold in one answer."""
        self.prefix.learn(request.blocks, timings.cached_tokens)
        if timings.prefill_ms > 0 and timings.prompt_tokens > 0:
            self.prefill.add(max(0, timings.prompt_tokens - timings.cached_tokens), timings.prefill_ms)
        if timings.output_tokens > 1 and timings.decode_ms > 0:
            self.decode.add(timings.concurrency, timings.decode_ms / (timings.output_tokens - 1))
        if timings.prompt_tokens > 0:
            self.tokens.add(request.prompt_bytes, timings.prompt_tokens)
        if timings.output_tokens > 0:
            self.output.learn(request.output_tokens_max, timings.output_tokens)

    def prefill_s(self, request: Request) -> float:
        """Expected time to first token once it has a slot."""
        prompt_tokens = self.tokens.at(request.prompt_bytes)
        return self.prefill.at(max(1.0, prompt_tokens - self.prefix.expect(request.blocks))) / 1e3

    def output_tokens(self, request: Request) -> float:
        """Expected length of the answer."""
        return self.output.expect(request.output_tokens_max)

    def load_s(self, size_bytes: int) -> float:
        """Expected time to load the weights from disk."""
        return expected_load_s(self.load, size_bytes)

    @staticmethod
    def fetch_s(size_bytes: int) -> float:
        """Expected time to fetch the weights to disk."""
        return (size_bytes or _PRIOR_SIZE_BYTES) / _PRIOR_FETCH_BYTES_PER_S


def expected_load_s(measured: Average, size_bytes: float) -> float:
    """Seconds to load weights of that size (0 for unknown) from disk: as measured, else a guess."""
    if measured.weight:
        return measured.value
    return _PRIOR_LOAD_S + (size_bytes or _PRIOR_SIZE_BYTES) / _PRIOR_LOAD_BYTES_PER_S
