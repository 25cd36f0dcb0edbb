"""Turns: slots go to those who came first, past those whose model is not ready and those who left."""

import asyncio
from dataclasses import dataclass

import pytest
from shelf_nouns import Bench, soon

from isochrone.fleet.learn import Flow
from isochrone.model import ModelCard
from isochrone.nodes.inference.desk import Desk, Job
from isochrone.nodes.inference.shelf import Shelf
from isochrone.nodes.inference.turns import Turns


@dataclass
class Room:
    """A desk and its turns, before a shelf on which `m` is ready and `cold` on disk."""

    bench: Bench
    shelf: Shelf
    desk: Desk
    turns: Turns

    def admit(self, names: str, model: str = "m") -> dict[str, Job]:
        jobs = {name: Job(name, model, 1.0, 0.1, 10) for name in names}
        assert all(self.desk.admit(job, self.bench.clock.now_s()) for job in jobs.values())
        return jobs

    def waiting(self, jobs: dict[str, Job]) -> dict[str, "asyncio.Task[None]"]:
        return {name: asyncio.create_task(self.turns.wait_for(job)) for name, job in jobs.items()}

    def leave(self, name: str) -> None:
        """As the service does when a job ends, whatever the end."""
        self.desk.leave(name, self.bench.clock.now_s())
        self.turns.changed()


async def a_room(slots: int = 1) -> Room:
    bench = Bench(stored={"m": 80, "cold": 80})
    shelf = await bench.shelf()
    desk = Desk(slots, 100, Flow(10.0))
    turns = Turns(desk, shelf, bench.clock)
    bench.changed = turns.changed
    await shelf.engine(shelf.find("m"))
    return Room(bench, shelf, desk, turns)


def had_theirs(tasks: dict[str, "asyncio.Task[None]"]) -> str:
    return "".join(name for name, task in tasks.items() if task.done() and not task.cancelled())


async def test_a_free_slot_is_given_at_once_and_noted():
    room = await a_room()
    jobs = room.admit("a")
    room.bench.clock.at_s += 3.0
    await soon(room.turns.wait_for(jobs["a"]))
    assert jobs["a"].started_at_s == room.bench.clock.at_s
    assert list(room.desk.running) == ["a"]


async def test_first_come_first_served_whoever_waits_first():
    room = await a_room()
    jobs = room.admit("abcd")
    tasks = room.waiting({name: jobs[name] for name in "dcba"})
    served = ""
    for name in "abcd":
        await soon(tasks[name])
        served += name
        assert sorted(had_theirs(tasks)) == list(served)
        assert list(room.desk.running) == [name]
        room.leave(name)
    assert not room.desk.waiting


async def test_as_many_at_once_as_there_are_slots():
    room = await a_room(slots=2)
    tasks = room.waiting(room.admit("abcd"))
    await soon(asyncio.gather(tasks["a"], tasks["b"]))
    assert had_theirs(tasks) == "ab"
    room.leave("b")
    await soon(tasks["c"])
    assert had_theirs(tasks) == "abc"


async def test_who_was_let_in_first_keeps_the_place_until_it_asks():
    """A job may be let in and not wait yet: it asks its shelf for the engine first."""
    room = await a_room()
    jobs = room.admit("ab")
    late = room.waiting({"b": jobs["b"]})
    await soon(room.turns.wait_for(jobs["a"]))
    assert had_theirs(late) == ""
    room.leave("a")
    await soon(late["b"])


async def test_a_model_that_is_not_ready_holds_up_only_its_own():
    room = await a_room(slots=2)
    cold = room.waiting(room.admit("ab", "cold"))
    warm = room.waiting(room.admit("c"))
    await soon(warm["c"])
    assert had_theirs(cold) == ""
    await soon(room.shelf.engine(room.shelf.find("cold")))
    await soon(cold["a"])
    assert had_theirs(cold) == "a"
    room.leave("c")
    await soon(cold["b"])


async def test_who_gives_up_while_waiting_lets_the_next_pass():
    room = await a_room()
    tasks = room.waiting(room.admit("abc"))
    await soon(tasks["a"])
    tasks["b"].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks["b"]
    room.leave("b")
    assert had_theirs(tasks) == "a"
    room.leave("a")
    await soon(tasks["c"])
    assert list(room.desk.running) == ["c"]


async def test_a_slot_given_to_one_who_is_just_giving_up_is_not_lost():
    room = await a_room()
    tasks = room.waiting(room.admit("abc"))
    await soon(tasks["a"])
    room.leave("a")
    assert list(room.desk.running) == ["b"]
    tasks["b"].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks["b"]
    room.leave("b")
    await soon(tasks["c"])
    assert list(room.desk.running) == ["c"]


async def test_one_who_gave_up_and_is_still_on_the_desk_takes_no_slot_twice():
    """Between the cancelling and the leaving somebody else may end."""
    room = await a_room()
    tasks = room.waiting(room.admit("abc"))
    await soon(tasks["a"])
    tasks["b"].cancel()
    room.leave("a")
    with pytest.raises(asyncio.CancelledError):
        await tasks["b"]
    room.leave("b")
    await soon(tasks["c"])
    assert list(room.desk.running) == ["c"]


async def test_a_change_that_changes_nothing_is_harmless():
    room = await a_room()
    room.turns.changed()
    tasks = room.waiting(room.admit("ab"))
    await soon(tasks["a"])
    for _ in range(3):
        room.turns.changed()
        room.leave("stranger")
    assert (had_theirs(tasks), list(room.desk.running)) == ("a", ["a"])
    tasks["b"].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks["b"]


async def test_a_host_that_does_not_load_is_always_ready():
    bench = Bench(loads=False, served=(ModelCard("m"),))
    shelf = await bench.shelf(store=False)
    desk = Desk(1, 0, Flow(10.0))
    job = Job("a", "m", 1.0, 0.1, 10)
    assert desk.admit(job, 0.0)
    await soon(Turns(desk, shelf, bench.clock).wait_for(job))
    assert list(desk.running) == ["a"]
