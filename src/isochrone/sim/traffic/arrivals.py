"""Where requests come from before they are requests: batches of times, lengths and owners from each source.

Times are counted in expected requests, so that one rate curve bends them all.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from isochrone.ports import SettingError
from isochrone.sim.scenario.traffic_settings import TrafficSettings
from isochrone.sim.traffic.prompts import draw_tokens
from isochrone.sim.traffic.streams import Floats, Ints, hashes, luck_for
from isochrone.sim.traffic.traces import (
    WINDOW_S,
    ClientRates,
    Trace,
    read_azure,
    read_mooncake,
    read_servegen,
)

BATCH = 4096
_CV_NONE = 1e-3
"""Gaps of less spread than this are made equal; the Gamma shape 1/cv² grows without end."""


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """A batch of requests to come; arrays of one length.

    Attributes:
        expected: float64, rising: how many requests are expected to have come by then.
        prompt_tokens: int64.
        output_tokens: int64.
        owners: int64: whose they are, where the source tells; they get a place by lot once.
        chains: hash chains where the source has them.
    """

    expected: Floats
    prompt_tokens: Ints
    output_tokens: Ints
    owners: Ints | None = None
    chains: list[tuple[int, ...]] | None = None


def drafts(traffic: TrafficSettings, seed: int, total: float, duration_s: float) -> Iterator[Draft]:
    """Batches of what the source of `traffic` has for `total` expected requests in `duration_s`, or more.

    Raises SettingError at once for a trace that can't be played.
    """
    if traffic.source == "servegen":
        rates = read_servegen(traffic.trace, traffic.trace_model)
        played = _played(traffic, rates, duration_s)
        return _with_lengths(traffic, seed, _client_times(played, total, luck_for(seed, "times")))
    if traffic.source == "generated":
        return _with_lengths(traffic, seed, _gamma_times(traffic.cv, luck_for(seed, "times")))
    trace = read_trace(traffic)
    count = len(trace.times_s)
    if total > count and not traffic.repeat:
        raise SettingError(
            f"{traffic.trace}: has {count} requests, but about {total:.0f} are to come; set "
            f"traffic.repeat = true to play it again and again, or shorten duration_s "
            f"to {duration_s * count / total:.0f}"
        )
    return _replayed(trace)


def read_trace(traffic: TrafficSettings) -> Trace:
    """The trace of `traffic`, whose requests come one by one."""
    return read_azure(traffic.trace) if traffic.source == "azure" else read_mooncake(traffic.trace)


# -- generated ---------------------------------------------------------------------------------------


def gamma_gaps(cv: float, count: int, luck: np.random.Generator) -> Floats:
    """`count` gaps of mean 1 with that coefficient of variation."""
    if cv < _CV_NONE:
        return np.ones(count)
    shape = cv**-2
    return luck.gamma(shape, 1.0 / shape, count)


def first_gap(cv: float, luck: np.random.Generator) -> float:
    """From any time to the next request: a uniform part of a gap drawn by its length.

    Without this a bursty process started at a request would have (cv² - 1) / 2 requests too many.
    """
    part = float(luck.random())
    if cv < _CV_NONE:
        return part
    shape = cv**-2
    return part * float(luck.gamma(shape + 1.0, 1.0 / shape))


def _gamma_times(cv: float, luck: np.random.Generator) -> Iterator[tuple[Floats, Ints | None]]:
    last = first_gap(cv, luck)
    while True:
        times = last + np.concatenate([[0.0], np.cumsum(gamma_gaps(cv, BATCH, luck))])
        last = float(times[-1])
        yield times[:-1], None


def _with_lengths(
    traffic: TrafficSettings, seed: int, times: Iterator[tuple[Floats, Ints | None]]
) -> Iterator[Draft]:
    prompts, outputs = luck_for(seed, "prompts"), luck_for(seed, "outputs")
    for expected, owners in times:
        count = len(expected)
        yield Draft(
            expected=expected,
            prompt_tokens=draw_tokens(traffic.prompt, count, prompts),
            output_tokens=draw_tokens(traffic.output, count, outputs),
            owners=owners,
        )


# -- ServeGen ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Played:
    """What is played of ServeGen's rates.

    Attributes:
        expected: float64 (clients, windows): requests of each client in each window or part of one, unscaled.
        cvs: float64 (clients, windows): of their gaps.
        lasted_s: float64 (windows): how much of each window is played.
    """

    expected: Floats
    cvs: Floats
    lasted_s: Floats


def _played(traffic: TrafficSettings, rates: ClientRates, duration_s: float) -> _Played:
    """Raises SettingError when the trace is too short or empty there."""
    start_s = traffic.trace_start_s
    end_s = start_s + duration_s * traffic.day.time_scale
    if end_s > rates.span_s and not traffic.repeat:
        raise SettingError(
            f"{traffic.trace}: lasts {rates.span_s:.0f} s, but it is to be played up to {end_s:.0f} s; set "
            "traffic.repeat = true to play it again and again, or shorten duration_s"
        )
    windows = np.arange(int(start_s // WINDOW_S), int(np.ceil(end_s / WINDOW_S)))
    starts_s = windows * WINDOW_S
    lasted_s = np.minimum(starts_s + WINDOW_S, end_s) - np.maximum(starts_s, start_s)
    columns = windows % rates.rates_per_s.shape[1]
    expected = rates.rates_per_s[:, columns] * lasted_s
    if not expected.any():
        raise SettingError(f"{traffic.trace}: has no request from {start_s:.0f} s to {end_s:.0f} s; move it")
    return _Played(expected, rates.cvs[:, columns], lasted_s)


def _client_times(
    played: _Played, total: float, luck: np.random.Generator
) -> Iterator[tuple[Floats, Ints | None]]:
    """Each client a Gamma process by its windows' rate and cv, all together in order.

    A gap is drawn with the cv of the window that it starts in, in units of the client's own expected
    requests, so that a change of rate stretches the gap under way. The rates are scaled so that `total`
    requests are expected in all; a window takes its share of time on the common scale, whatever is expected
    in it.
    """
    parts = played.expected * (total / played.expected.sum())
    widths = played.lasted_s * (total / played.lasted_s.sum())
    ahead = [first_gap(float(cvs[0]), luck) for cvs in played.cvs]
    begun = 0.0
    for window, width in enumerate(widths.tolist()):
        times, owners = [], []
        for client in np.flatnonzero(parts[:, window]).tolist():
            length = float(parts[client, window])
            own, ahead[client] = _in_window(ahead[client], length, float(played.cvs[client, window]), luck)
            times.append(begun + own * (width / length))
            owners.append(np.full(len(own), client, dtype=np.int64))
        begun += width
        if times:
            merged = np.concatenate(times)
            order = np.argsort(merged, kind="stable")
            yield merged[order], np.concatenate(owners)[order]


def _in_window(ahead: float, length: float, cv: float, luck: np.random.Generator) -> tuple[Floats, float]:
    """(times from the window's start, what is left to the next one after its end), in own requests."""
    times = [np.array([ahead])]
    last = ahead
    while last < length:
        gaps = gamma_gaps(cv, 16 + int(1.2 * (length - last)), luck)
        times.append(last + np.cumsum(gaps))
        last = float(times[-1][-1])
    flat = np.concatenate(times)
    within = int(np.searchsorted(flat, length, side="left"))
    return flat[:within], float(flat[within]) - length


# -- traces ------------------------------------------------------------------------------------------


def _replayed(trace: Trace) -> Iterator[Draft]:
    """The trace again and again, each time with texts and talkers of its own."""
    count = len(trace.times_s)
    expected = trace.times_s / trace.span_s * count
    talkers_max = count
    turn = 0
    while True:
        salt = int(hashes(turn)[0]) if turn else 0
        for begin in range(0, count, BATCH):
            piece = slice(begin, begin + BATCH)
            owners = trace.talkers[piece] + turn * talkers_max if trace.talkers is not None else None
            chains = list(trace.chains[piece])
            if salt:
                chains = [tuple(block ^ salt for block in chain) for chain in chains]
            yield Draft(
                expected=expected[piece] + turn * count,
                prompt_tokens=trace.prompt_tokens[piece],
                output_tokens=trace.output_tokens[piece],
                owners=owners,
                chains=chains if trace.chains else None,
            )
        turn += 1
