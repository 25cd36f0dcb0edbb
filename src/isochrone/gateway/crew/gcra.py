"""How much of a limit a minute is left: the generic cell rate algorithm, over one number.

The number is the instant when all that was spent will have been earned back (the "theoretical arrival time"
of ITU-T I.371, annex A). A minute's worth may be spent at once, and what is spent comes back evenly: it is a
leaky bucket without a tick, and a refusal changes nothing. All functions are pure.
"""

WINDOW_S = 60.0
_ROUNDING = 1e-9
"""A worth of rounding: whole units are spent, and a sum of many floats must not lose the last of them."""


def left(at_s: float, now_s: float, per_min: int) -> float:
    """Units that may be spent at `now_s`; below 0 after a correction that came too late to be refused."""
    owed_s = max(at_s - now_s, 0.0)
    return (WINDOW_S - owed_s) / WINDOW_S * per_min


def wait_s(at_s: float, now_s: float, units: float, per_min: int) -> float:
    """Seconds until `units` may be spent, 0 when they may now; infinite when they never may."""
    if units > per_min:
        return float("inf")
    short = units - left(at_s, now_s, per_min)
    return short / per_min * WINDOW_S if short > _ROUNDING * per_min else 0.0


def spend(at_s: float, now_s: float, units: float, per_min: int) -> float:
    """The number after `units` more were spent, or given back where they are below 0."""
    return max(at_s, now_s) + units / per_min * WINDOW_S


def full_in_s(at_s: float, now_s: float) -> float:
    """Seconds until the whole limit is there again."""
    return max(at_s - now_s, 0.0)
