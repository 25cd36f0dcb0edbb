"""What requests come to a simulated world: the settings under `[traffic]` of a scenario.

Ranges and choices stand with each field, as `metadata`; `settings_file` checks them. docs/scenarios.md tells
each key to users.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["lognormal", "exponential", "fixed"]
Source = Literal["generated", "azure", "mooncake", "servegen"]
SOURCES_WITH_TRACE = ("azure", "mooncake", "servegen")


def number(
    default: float | None,
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
) -> Any:
    """A field with this default, and a range that its values must be in."""
    return field(default=default, metadata={"least": least, "most": most, "above": above})


@dataclass(frozen=True, slots=True)
class LengthSettings:
    """How long something is, in tokens. At least 1.

    Attributes:
        kind: lognormal (by median and sigma), exponential (geometric in whole tokens, by its mean) or fixed
            (the median).
        median_tokens: of a lognormal length, and the whole of a fixed one.
        sigma: standard deviation of the logarithm of a lognormal length.
        mean_tokens: of an exponential length.
        max_tokens: longer draws become this.
    """

    kind: Kind = "lognormal"
    median_tokens: int = number(100, least=1)
    sigma: float = number(1.0, least=0, most=5)
    mean_tokens: float = number(100.0, least=1)
    max_tokens: int = number(100_000, least=1)


@dataclass(frozen=True, slots=True)
class PrefixSettings:
    """What prompts have in common.

    Attributes:
        client_tokens: mean length of what a client puts before every prompt, drawn once a client from half to
            one and a half of this; 0 for none.
        follow_up_share: share of requests that go on with a conversation of their client, and so repeat all
            that was said in it; 0 for none.
        conversations_max: conversations of one client that may go on; one of them by lot does.
        context_tokens_max: a conversation that would get longer than this starts anew.
        block_tokens: tokens in a block of the prompt's hash chain; 0 for no chains at all. Traces with blocks
            of their own keep them.
    """

    client_tokens: int = number(0, least=0)
    follow_up_share: float = number(0.0, least=0, most=0.99)
    conversations_max: int = number(8, least=1, most=1000)
    context_tokens_max: int = number(32_000, least=1)
    block_tokens: int = number(64, least=0)


@dataclass(frozen=True, slots=True)
class DaySettings:
    """The day curve: 1 + amplitude * cos(local hour - peak hour), which is 1 in the mean of a whole day.

    Attributes:
        amplitude: 0 for none; 1: nothing comes twelve hours from the peak.
        peak_hour: when most comes, by the region's own clock.
        start_hour_utc: what hour it is when the simulation starts.
        time_scale: seconds of day that pass in a simulated second; 24 makes a day of an hour. ServeGen's
            windows pass by it too.
    """

    amplitude: float = number(0.0, least=0, most=1)
    peak_hour: float = number(15.0, least=0, most=24)
    start_hour_utc: float = number(0.0, least=0, most=24)
    time_scale: float = number(1.0, above=0, most=86_400)


@dataclass(frozen=True, slots=True)
class Surge:
    """For a while more, or fewer, requests come.

    Attributes:
        at_s: from when.
        duration_s: for how long.
        factor: so many times the rate.
        region: only from here; "" for everywhere.
    """

    at_s: float = number(0.0, least=0)
    duration_s: float = number(60.0, above=0)
    factor: float = number(1.0, least=0, most=1000)
    region: str = ""


@dataclass(frozen=True, slots=True)
class TrafficSettings:
    """What requests come, from where and when.

    Attributes:
        source: generated, or the kind of trace that is played.
        trace: path of the trace.
        trace_model: of ServeGen's rates, whose clients; "" for all.
        trace_start_s: of ServeGen's rates, where to start.
        repeat: a trace that is too short starts again.
        rho: long-run mean of offered load over the capacity of all nodes; surges come on top.
        rate_per_s: mean number of requests a second; this or rho.
        cv: coefficient of variation of the gaps: 0 for a metronome, 1 for Poisson, more for bursts.
        clients_per_region: clients in each region.
        client_zipf: exponent of their shares; 0 for equal ones.
        models: names or families of models, most wanted first; () for all of the scenario's.
        model_zipf: exponent of the models' shares.
        prompt: tokens of a prompt, without what it shares.
        output: tokens of an answer.
        output_client_sigma: standard deviation of the logarithm of a factor on the length of each client's
            generated answers; 0: all clients alike.
        output_limited: clients set output.max_tokens as their limit; otherwise none.
        output_known: clients set the answer's very length as their limit: what theory often assumes.
        stream: clients read answers token by token; else they wait for the whole, and so do gateways'
            estimates.
        prefix: what prompts have in common.
        regions: weights of the clients' regions; {} for all alike.
        day: the day curve.
        surges: for a while more.
        priorities: weights of priority 0, 1, ...; 0 is the highest.
        slo_share: share of the requests that ask for the scenario's [slo].
    """

    source: Source = "generated"
    trace: str = ""
    trace_model: str = ""
    trace_start_s: float = number(0.0, least=0)
    repeat: bool = False
    rho: float | None = number(None, above=0, most=10)
    rate_per_s: float | None = number(None, above=0)
    cv: float = number(1.0, least=0, most=10)
    clients_per_region: int = number(100, least=1, most=1_000_000)
    client_zipf: float = number(1.1, least=0, most=5)
    models: tuple[str, ...] = ()
    model_zipf: float = number(1.0, least=0, most=5)
    prompt: LengthSettings = LengthSettings()
    output: LengthSettings = LengthSettings()
    output_client_sigma: float = number(0.0, least=0, most=5)
    output_limited: bool = False
    output_known: bool = False
    stream: bool = True
    prefix: PrefixSettings = PrefixSettings()
    regions: Mapping[str, float] = field(default_factory=dict)
    day: DaySettings = DaySettings()
    surges: tuple[Surge, ...] = ()
    priorities: tuple[float, ...] = (1.0,)
    slo_share: float = number(0.0, least=0, most=1)
