"""What is known of one model wherever it runs."""

from dataclasses import dataclass, field

from isochrone.fleet.clients import ClientShares
from isochrone.fleet.front import Front
from isochrone.fleet.kin import Kin
from isochrone.fleet.learn import Flow, Line
from isochrone.fleet.output import OutputLength
from isochrone.fleet.owners import Owners
from isochrone.fleet.probes import ProbePool
from isochrone.fleet.settings import FleetSettings
from isochrone.fleet.tables import ModelTable
from isochrone.model import Plan, Request, Timings

_PRIOR_BYTES_PER_TOKEN = 4.0
_PRIOR_TEMPLATE_TOKENS = 16.0
_PRIOR_PROMPT_BYTES = (0.0, 1024.0)
_TEMPLATE_TOKENS_MAX = 8192
"""More tokens than a prompt has bytes can only come from the chat template."""
_OUTPUT_TOKENS_MAX = 131_072


@dataclass(slots=True)
class ModelLore:
    """How long a model's prompts and answers are, who lists it, who holds which prefix, who was probed."""

    settings: FleetSettings
    tokens: Line = field(init=False)
    probes: ProbePool = field(init=False)
    output: OutputLength = field(default_factory=OutputLength)
    clients: ClientShares = field(init=False)
    table: ModelTable = field(default_factory=ModelTable)
    owners: Owners = field(default_factory=Owners)
    kin: Kin = field(default_factory=Kin)
    plan: Plan | None = None
    front: Front | None = None
    turn: int = 0
    flow: Flow = field(init=False)
    requests: Flow = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = Line(self.settings.samples_memory)
        self.tokens.expect(_PRIOR_TEMPLATE_TOKENS, 1 / _PRIOR_BYTES_PER_TOKEN, _PRIOR_PROMPT_BYTES, 0.5)
        self.clients = ClientShares(self.settings.clients_max)
        self.probes = ProbePool(self.settings.probing)
        self.flow, self.requests = Flow(self.settings.flow_memory_s), Flow(self.settings.flow_memory_s)

    def learn(self, request: Request, timings: Timings) -> None:
        """Fold in the lengths of one answer."""
        if timings.output_tokens > 0:
            limit, tokens = request.output_tokens_max, timings.output_tokens
            self.clients.learn(request.client, tokens, self.output.expect(limit))
            self.output.learn(limit, tokens)
            if timings.prompt_tokens > 0:
                self.tokens.add(request.prompt_bytes, timings.prompt_tokens)


def plausible(request: Request, timings: Timings) -> bool:
    """Whether a node's claim can be true of this request: a lie here would mislead us about all nodes."""
    output_tokens_max = request.output_tokens_max or _OUTPUT_TOKENS_MAX
    return (
        timings.prompt_tokens <= request.prompt_bytes + _TEMPLATE_TOKENS_MAX
        and timings.cached_tokens <= timings.prompt_tokens
        and timings.output_tokens <= output_tokens_max
    )
