"""In a world nodes say, as live ones do, where a prompt would wait longer than it has patience for."""

from world_nouns import built, run_world, scenario

from isochrone.fleet import Finished
from isochrone.model import OutcomeKind
from isochrone.sim.world.world import World

OLD_NEWS = {"bus.pulse_s": 3, "bus.load_in_responses": False, "gateways.count": 4}


def test_with_old_news_requests_balk_and_all_are_answered_sooner() -> None:
    waits, balks = run_world(scenario(OLD_NEWS), "soonest:balks=0"), run_world(scenario(OLD_NEWS), "soonest")
    assert waits.world.counters()["balks"] == 0
    assert balks.world.counters()["balks"] > 0.02 * len(balks.jobs)
    assert balks.kinds() == {"answered": len(balks.jobs)}
    assert balks.answered("ttft_ms").mean() < 0.95 * waits.answered("ttft_ms").mean()


def test_none_balks_more_often_than_it_may_and_none_is_worked_on_where_it_balked() -> None:
    ends: dict[str, list[OutcomeKind]] = {}

    def watch(world: World) -> None:
        for gateway in world.gateways:
            step = gateway.step

            def noted(event, now_s, step=step) -> None:
                if isinstance(event, Finished):
                    ends.setdefault(event.request.id, []).append(event.outcome.kind)
                step(event, now_s)

            gateway.step = noted  # type: ignore[method-assign]

    ran = run_world(scenario(OLD_NEWS), "soonest:balks=1", prepare=watch)
    assert {tuple(kinds) for kinds in ends.values()} == {
        (OutcomeKind.ANSWERED,),
        (OutcomeKind.BALKED, OutcomeKind.ANSWERED),
    }
    assert sum(node.jobs_done for node in ran.world.yard.nodes) == len(ran.jobs)
    assert set(ran.answered("attempts").tolist()) == {1}


def test_a_full_node_refuses_instead() -> None:
    world, jobs = built(scenario({"hardware.box.queue_max": 0}))
    assert [world.yard.submit(0, job, 0.0) for job in jobs[:3]] == [True, True, False]
    assert world.yard.begins_in_s(0, "toy", 0.0) is None
    assert world.yard.begins_in_s(1, "toy", 0.0) == 0.0


def test_a_load_of_the_model_is_waited_for_too() -> None:
    world, _ = built(scenario())
    world.yard.unload_model(0, "toy", 0.0)
    begins_in_s = world.yard.begins_in_s(0, "toy", 0.0)
    assert begins_in_s is not None
    assert begins_in_s > 0.5  # the box loads it in a second


def test_a_policy_that_does_not_balk_waits() -> None:
    assert run_world(scenario(OLD_NEWS), "two-hash-prefix").world.counters()["balks"] == 0


def test_a_gateway_that_sees_all_needs_no_patience() -> None:
    assert run_world(scenario(OLD_NEWS), "reference-b1").world.counters()["balks"] == 0
