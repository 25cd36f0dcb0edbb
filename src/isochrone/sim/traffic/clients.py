"""How clients differ in what they ask for."""

import numpy as np

from isochrone.sim.scenario.traffic_settings import TrafficSettings
from isochrone.sim.traffic.prompts import draw_tokens, mean_tokens
from isochrone.sim.traffic.streams import Floats, Ints, luck_for, pick, zipf_shares

_SAMPLE = 20_000
_ROUNDS = 30


def output_factors(traffic: TrafficSettings, regions: int, seed: int) -> Floats | None:
    """How long each client's answers are over those of all, shape (regions * clients_per_region,).

    None where all clients are alike. Lognormal with `output_client_sigma`, then scaled in each region so that
    the mean over requests is 1, and a little more to make up for answers that `output.max_tokens` cuts.
    """
    sigma, clients = traffic.output_client_sigma, traffic.clients_per_region
    if not sigma:
        return None
    luck = luck_for(seed, "output_clients")
    factors = np.exp(sigma * luck.standard_normal((regions, clients)))
    shares = zipf_shares(clients, traffic.client_zipf)
    factors /= (factors @ shares)[:, np.newaxis]
    whose = pick(shares, luck.random(_SAMPLE))
    where = luck.integers(0, regions, _SAMPLE)
    sample: Floats = factors[where, whose] * draw_tokens(traffic.output, _SAMPLE, luck).astype(np.float64)
    return np.asarray(
        factors.ravel() * _scale(sample, traffic.output.max_tokens, mean_tokens(traffic.output))
    )


def stretched(tokens: Ints, factors: Floats, tokens_max: int) -> Ints:
    """Lengths times their factors, in whole tokens from 1 to `tokens_max`."""
    return np.clip(np.rint(tokens * factors), 1, tokens_max).astype(np.int64)


def _scale(sample: Floats, longest: int, mean: float) -> float:
    """What to multiply lengths by so that what is cut from those above `longest` is made up for.

    Where `longest` is about the mean itself it can't be, and the lengths come as near as thirty rounds bring
    them.
    """
    scale = 1.0
    for _ in range(_ROUNDS):
        scale = 1.0 + float(np.maximum(0.0, scale * sample - longest).mean()) / mean
    return scale
