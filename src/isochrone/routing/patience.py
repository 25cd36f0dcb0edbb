"""Patience: how long a request is to wait at the node that it goes to.

What a gateway knows of a node is old, and what others send there meanwhile it learns too late. The node's own
agent knows its line. So a request tells what waiting there is worth to it, and where its prompt would begin
later than that, the node answers so at once, with its load, and the request goes where it is sooner. That
costs a round trip, so it is worth it only where the wait is longer than what the next best promises by more:

    patience = rtt(chosen) + score(next) + uncertainty(next) - (score(chosen) - wait(chosen) - cold(chosen))

The uncertainty of the next best is added since of nodes that are believed to be good, the best is believed to
be too good. While news is right nobody balks: the chosen one is no worse than the next.

Source: customers who balk at a long line are those of Haight, "Queueing with balking", Biometrika 44, 1957.
"""

from collections.abc import Sequence

from isochrone.routing.choice import Choice


def patience_ms(choice: Choice, ranked: Sequence[int]) -> float | None:
    """How long the request is to wait at `ranked[0]`, in milliseconds; None where there is no other.

    A request with an SLO stays where it keeps it: it goes there because others need the sooner nodes.
    """
    if len(ranked) < 2:
        return None
    score_ms, chosen = choice.score_ms(ranked[0]), choice.numbers(ranked[0])
    expected_ms = 1e3 * (chosen.wait_s + chosen.ready_in_s)
    spare_ms = max(0.0, choice.doubted_ms(ranked[1:]) - score_ms)
    if choice.heeds_slo:
        spare_ms = max(spare_ms, choice.slo_room(ranked[0]).ttft_room_ms or 0.0)
    return expected_ms + chosen.rtt_ms + spare_ms
