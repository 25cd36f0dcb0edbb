"""What happens on a simulated node by itself."""

from dataclasses import dataclass

from isochrone.model import Timings


@dataclass(frozen=True, slots=True)
class FirstToken:
    """A job's prompt is computed: the first token of its answer is there."""

    job_id: int
    at_s: float


@dataclass(frozen=True, slots=True)
class Done:
    """A job's answer is complete."""

    job_id: int
    at_s: float
    timings: Timings


@dataclass(frozen=True, slots=True)
class ModelReady:
    """A model was loaded."""

    model: str
    at_s: float


NodeEvent = FirstToken | Done | ModelReady
