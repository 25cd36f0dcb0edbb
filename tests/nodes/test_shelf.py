"""The shelf: one load for all who ask, and no failure that lasts."""

import asyncio
import gc

import pytest
from shelf_nouns import BOOM, EACH, Bench, asking, loaded, soon, states

from isochrone.model import ModelCard, ModelState
from isochrone.nodes.inference.settings import ModelSpec
from isochrone.ports import EngineError, StoreError

# -- taking stock ------------------------------------------------------------------------------------


async def test_what_is_stored_is_on_disk_and_the_rest_absent():
    shelf = await Bench(stored={"a": 80}).shelf(ModelSpec("a"), ModelSpec("b", "somewhere", 40))
    assert states(shelf) == {"a": "on_disk", "b": "absent"}
    assert [model.card for model in shelf.models()] == [ModelCard("a", 80, "sha of a"), ModelCard("b", 40)]
    assert shelf.ready() == frozenset()
    assert shelf.find("stranger") is None
    assert shelf.memory_free_bytes == 1000


async def test_a_host_that_does_not_load_has_what_it_serves_for_good():
    shelf = await Bench(loads=False, served=(ModelCard("a"), ModelCard("b"))).shelf(store=False)
    assert shelf.ready() == {"a", "b"}
    for model in shelf.models():
        assert not await shelf.unload(model)
    await shelf.unload_idle(0.0)
    assert shelf.ready() == {"a", "b"}


# -- loading -----------------------------------------------------------------------------------------


async def test_from_disk_to_ready_and_everybody_is_told():
    bench = Bench(stored={"a": 80})
    shelf = await bench.shelf()
    seen = []
    bench.changed = lambda: seen.append(states(shelf)["a"])
    bench.starting.shut()
    model = shelf.find("a")
    task = asking(shelf, model)
    await soon(bench.starting.reached.wait())
    bench.clock.at_s += 2.0
    bench.progress(0.5)
    assert (model.state, shelf.memory_free_bytes) == (ModelState.LOADING, 900)
    assert shelf.ready_in_s(model) == pytest.approx(2.0), "half of it took two seconds"
    bench.clock.at_s += 0.5
    bench.starting.open()
    engine = await soon(task)
    assert engine is model.engine is await shelf.engine(model)
    assert (seen, bench.happened) == (["loading", "ready"], ["start a from /a"])
    assert (model.used_at_s, shelf.ready()) == (bench.clock.at_s, {"a"})
    assert bench.said == ["a is ready after 2.5 s"]


@pytest.mark.parametrize(("engine_bytes", "free"), [(0, 900), (130, 870), (5000, 0)])
async def test_memory_is_what_the_engine_says_or_else_a_guess(engine_bytes, free):
    bench = Bench(stored={"a": 80}, engine_bytes=engine_bytes)
    shelf = await bench.shelf()
    await loaded(bench, shelf, "a")
    assert shelf.memory_free_bytes == free


async def test_what_is_absent_is_fetched_first():
    bench = Bench()
    shelf = await bench.shelf(ModelSpec("a", "somewhere"))
    (model,) = await loaded(bench, shelf, "a")
    assert bench.happened == ["pull a from somewhere", "start a from /a"]
    assert model.card == ModelCard("a", 80, "sha of a")


async def test_one_load_for_all_who_ask():
    bench = Bench(stored={"a": 80})
    shelf = await bench.shelf()
    bench.starting.shut()
    tasks = [asking(shelf, shelf.find("a")) for _ in range(5)]
    await soon(bench.starting.reached.wait())
    tasks += [asking(shelf, shelf.find("a")) for _ in range(5)]
    bench.starting.open()
    assert len({id(engine) for engine in await soon(asyncio.gather(*tasks))}) == 1
    assert bench.happened == ["start a from /a"]


async def test_who_is_cancelled_takes_nobody_along():
    bench = Bench(stored={"a": 80})
    shelf = await bench.shelf()
    bench.starting.shut()
    gone, stays = (asking(shelf, shelf.find("a")) for _ in range(2))
    await soon(bench.starting.reached.wait())
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    bench.starting.open()
    assert await soon(stays) is shelf.find("a").engine


async def test_a_load_goes_on_when_all_who_asked_are_gone():
    bench = Bench(stored={"a": 80})
    shelf = await bench.shelf()
    bench.starting.shut()
    gone = asking(shelf, shelf.find("a"))
    await soon(bench.starting.reached.wait())
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert states(shelf) == {"a": "loading"}
    late = asking(shelf, shelf.find("a"))
    bench.starting.open()
    await soon(late)
    assert bench.happened == ["start a from /a"]


# -- failing -----------------------------------------------------------------------------------------


async def test_a_failed_start_is_told_to_all_and_tried_again_by_the_next():
    bench = Bench(stored={"a": 80})
    shelf = await bench.shelf()
    model = shelf.find("a")
    bench.starting.shut()
    tasks = [asking(shelf, model) for _ in range(3)]
    await soon(bench.starting.reached.wait())
    bench.starting.fail(BOOM)
    assert await soon(asyncio.gather(*tasks, return_exceptions=True)) == [BOOM] * 3
    assert (model.state, model.loading, shelf.memory_free_bytes) == (ModelState.ON_DISK, None, 1000)
    with pytest.raises(EngineError, match="tried again in 1 s: boom"):
        await shelf.engine(model)
    assert model.loading is None, "not at once"
    bench.clock.at_s += 1.01
    assert await soon(shelf.engine(model)) is model.engine
    assert shelf.ready() == {"a"}


async def test_a_failed_fetch_leaves_it_absent_and_is_tried_again():
    bench = Bench()
    shelf = await bench.shelf(ModelSpec("a", "somewhere"))
    bench.pulling.fail(StoreError("no such host"))
    with pytest.raises(StoreError, match="no such host"):
        await soon(shelf.engine(shelf.find("a")))
    assert states(shelf) == {"a": "absent"}
    await loaded(bench, shelf, "a")
    assert bench.happened == ["pull a from somewhere", "start a from /a"]


async def test_what_was_fetched_stays_fetched_when_the_start_fails():
    bench = Bench()
    shelf = await bench.shelf(ModelSpec("a", "somewhere"))
    bench.starting.fail(BOOM)
    with pytest.raises(EngineError, match="boom"):
        await soon(shelf.engine(shelf.find("a")))
    assert states(shelf) == {"a": "on_disk"}
    await loaded(bench, shelf, "a")
    assert bench.happened == ["pull a from somewhere", "start a from /a"]


async def test_a_failure_that_nobody_waits_for_makes_no_noise():
    bench, noise = Bench(stored={"a": 80}), []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: noise.append(context))
    shelf = await bench.shelf()
    bench.starting.shut()
    gone = asking(shelf, shelf.find("a"))
    await soon(bench.starting.reached.wait())
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    bench.starting.fail(BOOM)
    await asyncio.wait([shelf.find("a").loading])
    del gone
    gc.collect()
    assert (noise, states(shelf)) == ([], {"a": "on_disk"})


@pytest.mark.parametrize(
    ("spec", "store", "why"),
    [
        (ModelSpec("a"), True, "is not on disk and has no source"),
        (ModelSpec("a", "somewhere"), False, "this node has no model store"),
    ],
)
async def test_what_can_not_be_had_says_why(spec, store, why):
    shelf = await Bench().shelf(spec, store=store)
    with pytest.raises(EngineError, match=why):
        await soon(shelf.engine(shelf.find("a")))
    assert states(shelf) == {"a": "absent"}


async def test_what_can_never_fit_is_told_at_once_and_evicts_nobody():
    bench = Bench(memory_bytes=100, stored={"a": 80, "huge": 81_000_000})
    shelf = await bench.shelf()
    await loaded(bench, shelf, "a")
    with pytest.raises(EngineError, match=r"huge needs about 101 MB .* raise it with --memory-mb"):
        await soon(shelf.engine(shelf.find("huge")))
    assert states(shelf) == {"a": "ready", "huge": "on_disk"}


async def test_an_engine_that_ended_by_itself_is_loaded_again_when_asked_for():
    bench = Bench(stored={"a": 80})
    shelf = await bench.shelf()
    (model,) = await loaded(bench, shelf, "a")
    dead = model.engine
    dead.alive = False
    first, second = await soon(asyncio.gather(asking(shelf, model), asking(shelf, model)))
    assert first is second is model.engine is not dead
    assert bench.happened == ["start a from /a", "stop a", "start a from /a"]
    assert shelf.memory_free_bytes == 900


# -- unloading and closing ---------------------------------------------------------------------------


async def test_an_operator_may_unload_what_is_idle_and_only_that():
    bench = Bench(stored=EACH)
    shelf = await bench.shelf()
    (a,) = await loaded(bench, shelf, "a")
    shelf.use(a)
    assert not await shelf.unload(a)
    shelf.release(a)
    assert not await shelf.unload(shelf.find("b"))
    assert await shelf.unload(a)
    assert not await shelf.unload(a)
    assert (states(shelf)["a"], shelf.memory_free_bytes) == ("on_disk", 1000)


async def test_what_nobody_used_for_long_is_unloaded():
    bench = Bench(stored=EACH)
    shelf = await bench.shelf()
    a, _, c = await loaded(bench, shelf, "a", "b", "c")
    shelf.use(a)
    bench.clock.at_s += 10.0
    shelf.use(c)
    shelf.release(c)
    await shelf.unload_idle(10.0)
    assert shelf.ready() == {"a", "c"}
    shelf.release(a)
    bench.clock.at_s += 9.0
    await shelf.unload_idle(10.0)
    assert shelf.ready() == {"a", "c"}
    bench.clock.at_s += 1.0
    await shelf.unload_idle(10.0)
    assert shelf.ready() == frozenset()


async def test_closing_ends_every_engine_and_every_load():
    bench = Bench(stored=EACH)
    shelf = await bench.shelf()
    await loaded(bench, shelf, "a", "b")
    bench.starting.shut()
    task = asking(shelf, shelf.find("c"))
    await soon(bench.starting.reached.wait())
    await soon(shelf.close())
    with pytest.raises(asyncio.CancelledError):
        await soon(task)
    assert sorted(bench.happened[2:]) == ["stop a", "stop b"]
    assert shelf.find("c").state is ModelState.ON_DISK


# -- when it would be ready --------------------------------------------------------------------------


async def test_on_disk_takes_the_load_and_absent_the_fetch_too():
    shelf = await Bench(memory_bytes=10**10, stored={"a": 10**9}).shelf(
        ModelSpec("a"), ModelSpec("b", "somewhere", 10**9)
    )
    a, b = shelf.models()
    assert shelf.ready_in_s(a) == a.speeds.load_s(10**9) > 1
    assert shelf.ready_in_s(b) == b.speeds.load_s(10**9) + b.speeds.fetch_s(10**9) > shelf.ready_in_s(a)


async def test_a_load_counts_down_but_is_never_quite_over_before_it_is():
    bench = Bench(stored={"a": 80})
    shelf = await bench.shelf()
    model = shelf.find("a")
    expected_s = shelf.ready_in_s(model)
    bench.starting.shut()
    task = asking(shelf, model)
    await soon(bench.starting.reached.wait())
    bench.clock.at_s += expected_s / 4
    assert shelf.ready_in_s(model) == pytest.approx(0.75 * expected_s)
    bench.clock.at_s += 100.0
    assert shelf.ready_in_s(model) == 0.05
    bench.starting.open()
    await soon(task)
    assert shelf.ready_in_s(model) == 0.0


async def test_the_next_load_is_expected_to_take_what_the_last_one_took():
    bench = Bench(stored={"a": 80})
    shelf = await bench.shelf()
    bench.starting.shut()
    task = asking(shelf, shelf.find("a"))
    await soon(bench.starting.reached.wait())
    bench.clock.at_s += 7.0
    bench.starting.open()
    await soon(task)
    await shelf.unload(shelf.find("a"))
    assert shelf.ready_in_s(shelf.find("a")) == 7.0


async def test_evicting_costs_half_of_what_the_victims_would_take_to_load_again():
    bench = Bench(memory_bytes=300, stored={**EACH, "d": 40, "big": 200})
    shelf = await bench.shelf()
    a, b, c = await loaded(bench, shelf, "a", "b", "c")
    for model, load_s in ((a, 10.0), (b, 20.0), (c, 40.0)):
        model.speeds.load.value = load_s
    small, big = shelf.find("d"), shelf.find("big")
    assert shelf.ready_in_s(small) == small.speeds.load_s(40) + 5.0
    assert shelf.ready_in_s(big) == big.speeds.load_s(200) + 35.0
    shelf.use(a)
    assert shelf.ready_in_s(small) == small.speeds.load_s(40) + 10.0
    shelf.release(a)
    await shelf.unload(a)
    assert shelf.ready_in_s(small) == small.speeds.load_s(40)
