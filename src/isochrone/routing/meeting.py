"""Meeting: what it costs to choose a node that others of the company choose before they hear of it.

Gateways of one company that stand on several continents tell each other what they send, and each word is late
by its way. Of what is under way unheard, some goes to the same node: what arrives there before our request
makes it wait, and what arrives behind waits for it, though its gateway might have gone elsewhere.

    before(node) = sum over mates of rate * share(node) * max(0, way + (rtt(us, node) - rtt(mate, node)) / 2)
    behind(node) = sum over mates of rate * share(node) * max(0, way - (rtt(us, node) - rtt(mate, node)) / 2)
    cost(node)   = before * prefill of a typical prompt + behind * prefill of ours

A mate's next request goes to each node in share, by a softmax of the scores as we believe them, with the
mate's round trip in place of ours; both by the region table, so that what a node's own line adds is the same
for all.

Source: the multinomial logit model of choice (McFadden, "Conditional logit analysis of qualitative choice
behavior", 1974): who chooses by costs of which we know all but some noise.
"""

from collections import defaultdict

import numpy as np

from isochrone.model import Columns, Company, FleetView, Floats, Meeting
from isochrone.routing.company import DEFAULT_COMPANY_SETTINGS

NOISE_MS = 200.0
"""Of a mate's scores, what we do not know of them: its prompts, and what it has heard and we have not."""


def find_meeting(
    view: FleetView, company: Company, columns: Columns, scores_ms: Floats, prefill_ms: Floats
) -> Meeting | None:
    """What meeting costs on each node; None where the company stands in one place, or there is none.

    `scores_ms` and `prefill_ms`: of a typical request from here, shape (nodes,).
    """
    rates_per_s, here = _rates_per_s(view, company), view.me.region
    if not any(region != here for region in rates_per_s) or not columns.available.any():
        return None
    ours_ms = view.places.rtt_ms_from(here)[columns.region]
    bare_ms = np.where(columns.available, scores_ms - ours_ms, np.inf)
    before, behind = np.zeros(len(bare_ms)), np.zeros(len(bare_ms))
    for region, rate_per_s in rates_per_s.items():
        theirs_ms = view.places.rtt_ms_from(region)[columns.region]
        way_s = DEFAULT_COMPANY_SETTINGS.told_after_s
        if region != here:
            way_s += view.places.rtt_ms(region, here) / 2e3
        nearer_s = (ours_ms - theirs_ms) / 2e3
        sent = rate_per_s * _shares(bare_ms + theirs_ms)
        before += sent * np.maximum(0.0, way_s + nearer_s)
        behind += sent * np.maximum(0.0, way_s - nearer_s)
    return Meeting(before * prefill_ms, behind)


def _rates_per_s(view: FleetView, company: Company) -> dict[str, float]:
    """Requests a second of our mates, by region; of those whose way to us is not known, none."""
    rates, here = defaultdict[str, float](float), view.me.region
    for peer in view.peers:
        if peer.name in company.mates and view.places.known_rtt_ms(peer.region, here) is not None:
            rates[peer.region] += peer.requests_per_s
    return rates


def _shares(scores_ms: Floats) -> Floats:
    """How likely each node is the choice, shape (nodes,)."""
    likings = np.exp((scores_ms.min() - scores_ms) / NOISE_MS)
    return np.asarray(likings / likings.sum())
