"""Every bound and time constant of the beliefs."""

from dataclasses import dataclass

from isochrone.model import NO_PROBES, ProbeSettings


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """How much is kept, for how long, and how fast is learned and forgotten.

    Attributes:
        nodes_max: nodes known at once; pulses of further ones are dropped.
        silent_s: without news of a node for so long it is not chosen (while the bus is up).
        forget_s: without news for so long it is dropped altogether.
        gateways_max: other gateways remembered at once.
        models_max: names of models remembered as once listed.
        clients_max: clients whose length of answers is remembered, for each model; 0: none's.
        refused_s: a node that refused a model is not chosen for it again for so long.
        card_retry_s: shortest time between two requests for one node's card.
        failures_to_eject: failures in a row that put a node aside.
        eject_s: how long, the first time; doubled each time after, until a success.
        eject_s_max: longest ejection.
        samples_memory: about so many samples stand behind a learned speed.
        changed_samples: what a speed was before it changed counts as so many samples at most.
        prior_samples: how many samples a node's own claim counts as.
        trial_requests: so many of ours may be under way at a node that never answered us; each further one
            makes it look later.
        trial_share: the first of those by so much of the time that a usual request holds a slot; then
            doubled with each.
        bias_memory_s: a learned bias that is not confirmed fades with this time constant.
        peak_memory_s: a peak in our first tokens on a node is forgotten with this time constant.
        flow_memory_s: averaging time of offered work; the nodes use the same.
        prefix_blocks_max: prompt blocks remembered for each node and model.
        rtt_gain: weight of the newest round trip in the average.
        idle_max: announcements of idleness kept; the oldest give way.
        probing: how the probe pool is kept; nothing is in it unless somebody probes.
    """

    nodes_max: int = 100_000
    silent_s: float = 3.5
    forget_s: float = 120.0
    gateways_max: int = 1024
    models_max: int = 100_000
    clients_max: int = 10_000
    refused_s: float = 1.0
    card_retry_s: float = 1.0
    failures_to_eject: int = 2
    eject_s: float = 1.0
    eject_s_max: float = 60.0
    samples_memory: float = 40.0
    changed_samples: float = 3.0
    prior_samples: float = 3.0
    trial_requests: int = 2
    trial_share: float = 0.1
    bias_memory_s: float = 60.0
    peak_memory_s: float = 10.0
    flow_memory_s: float = 10.0
    prefix_blocks_max: int = 8192
    rtt_gain: float = 0.25
    idle_max: int = 100_000
    probing: ProbeSettings = NO_PROBES


DEFAULT_SETTINGS = FleetSettings()
