"""The shelf's memory: who makes room for whom, within the budget."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shelf_nouns import BOOM, EACH, Bench, asking, loaded, soon, states

from isochrone.model import PromptBlocks
from isochrone.nodes.inference.shelf import Shelf
from isochrone.ports import EngineError


async def waiting_for_room(bench: Bench, shelf: Shelf, name: str) -> "asyncio.Task[object]":
    """Ask for a stored model for which there is no room; the task stands in line when this returns.

    A load looks its weights up and then, without a pause, for room.
    """
    bench.looked_up.clear()
    task = asking(shelf, shelf.find(name))
    await soon(bench.looked_up.wait())
    assert not task.done()
    return task


async def test_the_least_recently_used_makes_room_before_the_next_starts():
    bench = Bench(memory_bytes=200, stored=EACH)
    shelf = await bench.shelf()
    a, b = await loaded(bench, shelf, "a", "b")
    bench.clock.at_s += 1.0
    shelf.use(a)
    shelf.release(a)
    b.speeds.prefix.learn(PromptBlocks((1, 2)), 0)
    await loaded(bench, shelf, "c")
    assert states(shelf) == {"a": "ready", "b": "on_disk", "c": "ready"}
    assert bench.happened[2:] == ["stop b", "start c from /c"]
    assert (b.memory_bytes, shelf.memory_free_bytes) == (0, 0)
    assert b.speeds.prefix.expect(PromptBlocks((1, 2))) == 0.0
    assert "unloading b to make room for c" in bench.said


async def test_as_many_leave_as_must():
    bench = Bench(memory_bytes=300, stored={**EACH, "big": 160})
    shelf = await bench.shelf()
    await loaded(bench, shelf, "c", "a", "b", "big")
    assert states(shelf) == {"a": "on_disk", "b": "ready", "c": "on_disk", "big": "ready"}


async def test_nobody_leaves_while_there_is_room():
    bench = Bench(memory_bytes=300, stored=EACH)
    shelf = await bench.shelf()
    await loaded(bench, shelf, "a", "b", "c")
    assert shelf.ready() == {"a", "b", "c"}


async def test_who_is_busy_stays_and_the_next_waits():
    bench = Bench(memory_bytes=200, stored=EACH)
    shelf = await bench.shelf()
    a, b = await loaded(bench, shelf, "a", "b")
    for model in (a, b, b):
        shelf.use(model)
    task = await waiting_for_room(bench, shelf, "c")
    shelf.release(b)
    assert states(shelf) == {"a": "ready", "b": "ready", "c": "loading"}
    shelf.release(b)
    await soon(task)
    assert states(shelf) == {"a": "ready", "b": "on_disk", "c": "ready"}
    assert bench.happened[2:] == ["stop b", "start c from /c"]


async def test_what_is_still_loading_is_waited_for_and_not_evicted_half_way():
    bench = Bench(memory_bytes=100, stored=EACH)
    shelf = await bench.shelf()
    bench.starting.shut()
    first = asking(shelf, shelf.find("a"))
    await soon(bench.starting.reached.wait())
    second = await waiting_for_room(bench, shelf, "b")
    bench.starting.open()
    await soon(asyncio.gather(first, second))
    assert bench.happened == ["start a from /a", "stop a", "start b from /b"]


async def test_two_that_wait_for_room_both_get_it_in_turn():
    bench = Bench(memory_bytes=100, stored=EACH)
    shelf = await bench.shelf()
    (a,) = await loaded(bench, shelf, "a")
    shelf.use(a)
    tasks = [await waiting_for_room(bench, shelf, name) for name in "bc"]
    shelf.release(a)
    await soon(asyncio.gather(*tasks))
    assert bench.happened[1:] == ["stop a", "start b from /b", "stop b", "start c from /c"]


async def test_room_that_a_failed_load_gives_back_is_taken():
    bench = Bench(memory_bytes=100, stored=EACH)
    shelf = await bench.shelf()
    bench.starting.shut()
    first = asking(shelf, shelf.find("a"))
    await soon(bench.starting.reached.wait())
    second = await waiting_for_room(bench, shelf, "b")
    bench.starting.fail(BOOM)
    with pytest.raises(EngineError, match="boom"):
        await soon(first)
    await soon(second)
    assert states(shelf) == {"a": "on_disk", "b": "ready", "c": "on_disk"}


async def test_room_that_an_unload_gives_back_is_taken():
    bench = Bench(memory_bytes=100, stored=EACH)
    shelf = await bench.shelf()
    (a,) = await loaded(bench, shelf, "a")
    stopping = a.engine.stopping
    stopping.shut()
    unload = asyncio.create_task(shelf.unload(a))
    await soon(stopping.reached.wait())
    task = await waiting_for_room(bench, shelf, "b")
    stopping.open()
    assert await soon(unload)
    await soon(task)
    assert shelf.ready() == {"b"}


async def test_a_model_asked_for_while_it_is_being_unloaded_still_counts_its_memory():
    bench = Bench(stored={"a": 80})
    shelf = await bench.shelf()
    (a,) = await loaded(bench, shelf, "a")
    stopping = a.engine.stopping
    stopping.shut()
    unload = asyncio.create_task(shelf.unload(a))
    await soon(stopping.reached.wait())
    bench.starting.shut()
    again = asking(shelf, a)
    stopping.open()
    await soon(unload)
    await soon(bench.starting.reached.wait())
    bench.starting.open()
    await soon(again)
    assert (shelf.ready(), shelf.memory_free_bytes) == ({"a"}, 900)


@given(st.integers(100, 300), st.text("abcd", max_size=25))
@settings(max_examples=50)
def test_whatever_is_asked_for_memory_stays_within_the_budget(memory_bytes, asked):
    async def ask_all() -> None:
        bench, in_memory = Bench(memory_bytes=memory_bytes, stored={**EACH, "d": 40}), ""
        shelf = await bench.shelf()
        for name in asked:
            (model,) = await loaded(bench, shelf, name)
            shelf.use(model)
            shelf.release(model)
            assert sum(model.memory_bytes for model in shelf.models()) <= memory_bytes
            by_use = in_memory.replace(name, "") + name
            in_memory = "".join(other for other in by_use if other in shelf.ready())
            assert by_use.endswith(in_memory), "who left was not the least recently used"

    asyncio.run(ask_all())
