"""Requests to come: open-loop arrivals from one seed.

The shape is the one published for production traffic of language models (ServeGen; Azure's and Mooncake's
traces): gaps are Gamma-distributed and burstier than Poisson's, few clients send most (Zipf), each client
puts a prompt of its own before everything it asks, and lengths are log-normal. Open loop: a request comes
when it comes, and does not wait for the answer to another.
"""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from isochrone.ports import SettingError
from isochrone.sim.live.words import sentences, words_for

CV_MAX = 10.0
_CV_NONE = 1e-3
"""Gaps of less spread than this are made equal; the Gamma shape 1/cv² grows without end."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request to come.

    Attributes:
        at_s: when, in seconds from the start.
        client: who asks, `client-1` the busiest.
        model: which model.
        prompt: what is asked, without `system`.
        system: the client's own prompt, the same in all its requests; may be "".
        output_tokens_max: longest answer wanted.
    """

    at_s: float
    client: str
    model: str
    prompt: str
    system: str
    output_tokens_max: int


@dataclass(frozen=True, slots=True)
class WorkloadSettings:
    """What requests are to come. Raises SettingError for what makes no sense.

    Attributes:
        rate_per_s: mean number of requests a second.
        duration_s: no request comes after this; None for no end.
        count: no more requests than this; None for no end. One of the two must be given.
        cv: coefficient of variation of the gaps: 0 for a metronome, 1 for Poisson, more for bursts;
            at most 10.
        clients: number of clients.
        client_zipf: exponent of the clients' shares; 0 for equal shares.
        models: names of models, most wanted first.
        model_zipf: exponent of the models' shares.
        prefix_tokens_mean: mean length of a client's own prompt, drawn once a client from half to one and a
            half of this; 0 for none.
        prompt_tokens_median: median length of what is asked, without the client's own prompt.
        prompt_tokens_sigma: standard deviation of the logarithm of that length.
        prompt_tokens_max: longest; longer draws become this.
        output_tokens_median: median of the longest answer wanted.
        output_tokens_sigma: standard deviation of its logarithm.
        output_tokens_max: longest; longer draws become this.
    """

    rate_per_s: float
    duration_s: float | None = None
    count: int | None = None
    cv: float = 1.5
    clients: int = 8
    client_zipf: float = 1.1
    models: tuple[str, ...] = ("smollm2-135m",)
    model_zipf: float = 1.0
    prefix_tokens_mean: int = 48
    prompt_tokens_median: int = 40
    prompt_tokens_sigma: float = 0.6
    prompt_tokens_max: int = 400
    output_tokens_median: int = 24
    output_tokens_sigma: float = 0.5
    output_tokens_max: int = 96

    def __post_init__(self) -> None:
        if self.duration_s is None and self.count is None:
            raise SettingError("A workload needs an end; give duration_s, count or both.")
        if not self.models:
            raise SettingError("A workload needs at least one name in models.")
        for name in ("rate_per_s", "duration_s"):
            _check(name, getattr(self, name), above=0)
        if self.cv > CV_MAX:
            raise SettingError(f"The workload's cv is {self.cv}; it must be at most {CV_MAX:g}.")
        for name in ("cv", "client_zipf", "model_zipf", "prompt_tokens_sigma", "output_tokens_sigma"):
            _check(name, getattr(self, name), least=0)
        for name in ("count", "prefix_tokens_mean"):
            _check(name, getattr(self, name), least=0)
        _check("clients", self.clients, least=1)
        for kind in ("prompt", "output"):
            median, longest = f"{kind}_tokens_median", f"{kind}_tokens_max"
            _check(median, getattr(self, median), least=1)
            _check(longest, getattr(self, longest), least=getattr(self, median))


def generate(settings: WorkloadSettings, seed: int) -> Iterator[Arrival]:
    """The requests of `settings` in order of time. The same seed gives the same bytes.

    Times, choices, lengths and words each have their own luck: longer prompts leave the times as they were.
    """
    gaps, choices, lengths, words = (
        random.Random(f"{seed}/{use}") for use in ("gaps", "choices", "lengths", "words")
    )
    names = [f"client-{number}" for number in range(1, settings.clients + 1)]
    systems = {name: _system(settings, seed, name) for name in names}
    client_shares = _zipf_shares(settings.clients, settings.client_zipf)
    model_shares = _zipf_shares(len(settings.models), settings.model_zipf)
    for at_s in _times_s(settings, gaps):
        client = _pick(names, client_shares, choices)
        yield Arrival(
            at_s=at_s,
            client=client,
            model=_pick(settings.models, model_shares, choices),
            prompt=sentences(words_for(_prompt_tokens(settings, lengths)), words),
            system=systems[client],
            output_tokens_max=_output_tokens(settings, lengths),
        )


def _times_s(settings: WorkloadSettings, luck: random.Random) -> Iterator[float]:
    at_s, number = 0.0, 0
    while settings.count is None or number < settings.count:
        at_s += _gap_s(settings, luck)
        if settings.duration_s is not None and at_s > settings.duration_s:
            return
        yield at_s
        number += 1


def _gap_s(settings: WorkloadSettings, luck: random.Random) -> float:
    """Gamma with shape 1/cv², which has that coefficient of variation."""
    mean_s = 1.0 / settings.rate_per_s
    if settings.cv < _CV_NONE:
        return mean_s
    shape = settings.cv**-2
    return luck.gammavariate(shape, mean_s / shape)


def _zipf_shares(count: int, exponent: float) -> list[float]:
    """Cumulative weights 1/rank**exponent."""
    return list(accumulate(rank**-exponent for rank in range(1, count + 1)))


def _pick(names: Sequence[str], shares: Sequence[float], luck: random.Random) -> str:
    return luck.choices(names, cum_weights=shares)[0]


def _system(settings: WorkloadSettings, seed: int, client: str) -> str:
    luck = random.Random(f"{seed}/{client}")
    return sentences(words_for(settings.prefix_tokens_mean * luck.uniform(0.5, 1.5)), luck)


def _prompt_tokens(settings: WorkloadSettings, luck: random.Random) -> float:
    drawn = luck.lognormvariate(math.log(settings.prompt_tokens_median), settings.prompt_tokens_sigma)
    return min(drawn, settings.prompt_tokens_max)


def _output_tokens(settings: WorkloadSettings, luck: random.Random) -> int:
    drawn = luck.lognormvariate(math.log(settings.output_tokens_median), settings.output_tokens_sigma)
    return max(1, min(round(drawn), settings.output_tokens_max))


def _check(name: str, value: float | None, *, above: float | None = None, least: float | None = None) -> None:
    if value is None:
        return
    if not math.isfinite(value):
        raise SettingError(f"The workload's {name} is {value}; give a finite number.")
    if above is not None and value <= above:
        raise SettingError(f"The workload's {name} is {value}; it must be more than {above:g}.")
    if least is not None and value < least:
        raise SettingError(f"The workload's {name} is {value}; it must be at least {least:g}.")
