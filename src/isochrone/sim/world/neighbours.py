"""Users of a node's own: they ask it directly, no gateway knows them, and they keep it busy.

A closed loop, as `isochrone neighbour` does it live: each user sends one request, waits for the whole answer
and sends the next. Their prompts vary in length, or all would walk in step for ever; their answers are all as
long as the limit that they ask for, but for the share that ends sooner.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from isochrone.sim.spec import Job, NodeSpec
from isochrone.sim.world.agenda import Agenda
from isochrone.sim.world.yard import Yard

_RETRY_S = 1.0
"""What a user waits who was refused, or whose node is gone."""

_PROMPT_SIGMA = 0.6
"""Standard deviation of the logarithm of a prompt's length: that of the live users."""


@dataclass(frozen=True, slots=True)
class _User:
    """One user of the node with that index, and the number under which its luck is drawn."""

    node: int
    luck: random.Random


class Neighbours:
    """All users of all nodes. Their jobs have negative ids, so that nobody takes them for a request."""

    def __init__(self, specs: Sequence[NodeSpec], agenda: Agenda, yard: Yard, *, seed: str) -> None:
        self._specs, self._agenda, self._yard = specs, agenda, yard
        self._users = [
            _User(index, random.Random(f"{seed}/{spec.name}/{number}"))
            for index, spec in enumerate(specs)
            for number in range(spec.neighbours)
        ]
        self._open: dict[int, dict[int, _User]] = {user.node: {} for user in self._users}
        self._sent = 0

    def start(self, now_s: float) -> None:
        """Everybody sends a first request."""
        for user in self._users:
            self._ask(now_s, user)
        if self._users:
            self._yard.changed.append(self._look)

    def ended(self, node: int, job_id: int, now_s: float) -> None:
        """An answer is complete: its user sends the next, once what happens at this instant has happened."""
        self._agenda.note(now_s, self._ask, self._open[node].pop(job_id))

    def _ask(self, now_s: float, user: _User) -> None:
        if not self._yard.alive[user.node]:
            self._agenda.note(now_s + _RETRY_S, self._ask, user)
            return
        self._sent += 1
        job = self._job(user, now_s)
        self._open[user.node][job.id] = user
        if not self._yard.submit(user.node, job, now_s):
            del self._open[user.node][job.id]
            self._agenda.note(now_s + _RETRY_S, self._ask, user)

    def _job(self, user: _User, now_s: float) -> Job:
        spec = self._specs[user.node]
        prompt_tokens = spec.neighbour_prompt_tokens * user.luck.lognormvariate(0.0, _PROMPT_SIGMA)
        return Job(
            id=-self._sent,
            at_s=now_s,
            region=spec.region,
            client=-1,
            model=next(iter((*spec.ready, *spec.on_disk, *spec.models))),
            prompt_tokens=max(1, round(prompt_tokens)),
            output_tokens=_output_tokens(spec, user.luck),
            output_tokens_max=spec.neighbour_output_tokens,
        )

    def _look(self, node: int, now_s: float) -> None:
        """Something happened on a node: when its power is off, its users' connections break."""
        lost = self._open.get(node)
        if lost and not self._yard.alive[node]:
            for user in lost.values():
                self._agenda.note(now_s + _RETRY_S, self._ask, user)
            lost.clear()


def _output_tokens(spec: NodeSpec, luck: random.Random) -> int:
    if spec.neighbour_early_share and luck.random() < spec.neighbour_early_share:
        return luck.randint(1, spec.neighbour_output_tokens)
    return spec.neighbour_output_tokens
