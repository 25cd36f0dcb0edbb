"""Whether a worker still lives: it counts up in the shared table, its supervisor looks from time to time."""

from dataclasses import dataclass

BEAT_S = 0.5
"""Between two signs of life of a worker."""

LOOK_S = 1.0
"""Between two looks of the supervisor."""

STALL_S = 15.0
"""A worker that stands still for so long is ended, unless told otherwise."""

STALL_S_LEAST, STALL_S_MOST = 2.0, 3600.0
"""Bounds of what may be told: for less nobody beats often enough."""

FIRST_BEAT_S = 30.0
"""A worker that begins has at least so long: it would never be done if it were ended too soon."""


@dataclass(slots=True)
class Watch:
    """What the supervisor has seen of one worker.

    Counted in looks, not by a clock: when the whole machine or all processes of ours stood still, nobody is
    to blame.

    Attributes:
        stall_s_max: how long it may stand still.
        beats: where its counter stood at the last look.
        begun: whether it has beaten in this life.
        still_looks: looks in a row that found the counter where it was.
    """

    stall_s_max: float
    beats: int = 0
    begun: bool = False
    still_looks: int = 0

    @property
    def still_s(self) -> float:
        """For how long it has been seen to stand still."""
        return self.still_looks * LOOK_S

    def born(self, beats: int) -> None:
        """Another life begins; the counter goes on from `beats`."""
        self.beats, self.begun, self.still_looks = beats, False, 0

    def look(self, beats: int) -> bool:
        """Whether it has stood still for too long, now that its counter is at `beats`."""
        if beats != self.beats:
            self.beats, self.begun, self.still_looks = beats, True, 0
            return False
        self.still_looks += 1
        most_s = self.stall_s_max if self.begun else max(self.stall_s_max, FIRST_BEAT_S)
        return self.still_s >= most_s
