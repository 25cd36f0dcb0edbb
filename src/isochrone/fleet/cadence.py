"""How often a node speaks: the fewer nodes a gateway hears, the more often each of them."""


def pulse_interval_s(nodes: int, *, pulse_s: float, pulse_s_min: float, pulses_per_s: float) -> float:
    """Seconds between two pulses of a node in a fleet of `nodes`.

    A gateway hears all nodes, so what it can afford is so many pulses a second of all together. Few nodes
    share that among them down to `pulse_s_min`; many speak every `pulse_s` (decision 0020).

    Args:
        nodes: nodes in the fleet, 0 where nobody told.
        pulse_s: the longest interval.
        pulse_s_min: the shortest one, where `pulse_s` is not shorter still.
        pulses_per_s: pulses of all nodes together that are worth being quicker for; 0: always `pulse_s`.
    """
    if not nodes or not pulses_per_s:
        return pulse_s
    return min(pulse_s, max(pulse_s_min, nodes / pulses_per_s))
