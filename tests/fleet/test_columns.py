"""Columns say what the views of single nodes say; a batch of pulses does what single pulses do."""

from dataclasses import replace

import numpy as np
import pytest
from fleet_nouns import IDLE, MODEL, READY, a_card, a_dispatch, a_plan, a_pulse, a_request, an_outcome, joined
from hypothesis import given
from hypothesis import strategies as st

from isochrone.fleet import (
    Blamed,
    Dispatched,
    Finished,
    Fleet,
    IdleAnnounced,
    LoadReported,
    LoadsReceived,
    ProbeAnswered,
    PulseReceived,
    RttMeasured,
    Tick,
)
from isochrone.fleet.owners import OWNERS_MAX, Owners
from isochrone.fleet.probes import Answer, ProbePool
from isochrone.fleet.settings import FleetSettings
from isochrone.model import (
    ListedColumns,
    Load,
    ModelPulse,
    ModelState,
    OutcomeKind,
    ProbeSettings,
    PromptBlocks,
    Roll,
    Timings,
)

NODES = ("a", "b", "c", "d")
COLUMNS = (
    "available", "name_hash", "rtt_ms", "age_s", "slots", "running", "queued", "kv_used", "inflow",
    "others_inflow", "backlog_s", "reported_prefill_s", "reported_wait_s", "wait_s", "own_in_flight",
    "own_unseen", "own_unseen_s", "own_unseen_prefill_s", "ready_in_s", "prefill_base_ms",
    "prefill_ms_per_token", "tpot_ms", "bias_ms", "error_ms", "ttft_peak_ms", "response_ms", "service_ms",
)  # fmt: skip
LOAD_FIELDS = ("slots", "running", "queued", "wait_s", "backlog_s", "inflow", "kv_used", "prefill_s")

loads = st.builds(
    Load,
    slots=st.integers(1, 4),
    running=st.integers(0, 4),
    queued=st.integers(0, 3),
    wait_s=st.floats(0, 50),
    backlog_s=st.floats(0, 50),
    inflow=st.floats(0, 5),
    kv_used=st.floats(0, 1),
    prefill_s=st.floats(0, 20),
)
states = st.sampled_from(ModelState)
names = st.sampled_from(NODES)
happenings = st.one_of(
    st.tuples(st.just("pulse"), names, loads, states),
    st.tuples(st.just("load"), names, loads, states),
    st.tuples(st.just("dispatch"), names, loads, states),
    st.tuples(st.just("answer"), names, loads, states),
    st.tuples(st.just("refuse"), names, loads, states),
    st.tuples(st.just("blame"), names, loads, states),
    st.tuples(st.just("rtt"), names, loads, states),
    st.tuples(st.just("unlist"), names, loads, states),
    st.tuples(st.just("plan"), names, loads, states),
)


def lived_through(story, fleet: Fleet | None = None, now_s: float = 0.0) -> tuple[Fleet, float]:
    """A fleet of four nodes after these happenings, a third of a second apart."""
    fleet, open_ = fleet or joined(*NODES, rtt_ms=20.0), {}
    for number, (what, name, load, state) in enumerate(story, 2 + round(now_s * 100)):
        now_s += 0.3
        request = a_request(number, blocks=PromptBlocks((7, 8, number)))
        other = ModelPulse("other", ModelState.READY, at_work=load.queued > 1)
        tiny = replace(READY, state=state, ready_in_s=float(load.queued), at_work=load.running > 2)
        models = () if what == "unlist" else (tiny, other)[: 1 + load.slots % 2]
        if what in ("pulse", "unlist"):
            fleet.step(PulseReceived(a_pulse(name, seq=number, load=load, models=models)), now_s)
        elif what == "load":
            fleet.step(LoadReported(name, load), now_s)
        elif what == "dispatch":
            fleet.step(a_dispatch(request, name, service_s=load.wait_s), now_s)
            open_[name] = request
        elif what in ("answer", "refuse") and name in open_:
            kind = OutcomeKind.ANSWERED if what == "answer" else OutcomeKind.REFUSED
            timings = Timings(1.0, 0.0, 40.0 + load.wait_s, 90.0, 100, 20, 10, 1.0 + load.queued)
            ended = an_outcome(
                open_.pop(name), name, kind, ttft_ms=60 + load.backlog_s, total_ms=200, timings=timings
            )
            fleet.step(ended, now_s)
        elif what == "blame":
            fleet.step(Blamed(name, "broke off"), now_s)
        elif what == "rtt":
            fleet.step(RttMeasured(name, load.wait_s), now_s)
        elif what == "plan":
            nodes = len(fleet.view(MODEL, now_s).nodes)
            service_s, share = np.full(nodes, 0.1 + load.wait_s), np.full(nodes, load.kv_used)
            flow = np.linspace(0.0, load.inflow, nodes)
            fleet.step(a_plan(*flow, service_s=service_s, prefill_share=share), now_s)
    return fleet, now_s + 0.1


@given(st.lists(happenings, max_size=30))
def test_columns_say_what_the_nodes_say(story):
    fleet, now_s = lived_through(story)
    view = fleet.view(MODEL, now_s)
    nodes = list(view.nodes)
    assert [view.nodes.available(index) for index in range(len(nodes))] == list(view.nodes.columns.available)
    listed, roll = ListedColumns(MODEL, nodes), Roll(MODEL, nodes)
    for name in COLUMNS:
        ours, theirs = getattr(view.nodes.columns, name), getattr(listed, name)
        assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-9), name
    for index, node in enumerate(nodes):
        assert view.nodes.name(index) == node.node
        assert view.nodes.in_use(index) == roll.in_use(index)
        blocks = PromptBlocks((7, 8, 9))
        ours, theirs = view.nodes.numbers(index, blocks), roll.numbers(index, blocks)
        assert view.nodes.names((index,)) == roll.names((index,)) == [node.node]
        assert ours.usable == theirs.usable == view.nodes.available(index)
        assert ours[1:] == pytest.approx(theirs[1:], rel=1e-9, abs=1e-9)
        held = blocks.prefix_bytes(dict(node.models[MODEL].cached_prefix))
        assert ours.held_bytes == held
        assert view.nodes.owners(blocks).get(index, 0) == held


@given(st.lists(happenings, max_size=10), st.lists(happenings, max_size=10))
def test_a_snapshot_stays_as_it_was(before, after):
    fleet, now_s = lived_through(before)
    view = fleet.view(MODEL, now_s)
    told = {name: getattr(view.nodes.columns, name).copy() for name in (*COLUMNS, "region")}
    kept, nodes = view.snapshot(), len(view.nodes)
    lived_through(after, fleet, now_s)
    fleet.step(PulseReceived(a_pulse("new")), now_s)
    fleet.step(a_card("new"), now_s)
    assert (len(kept.nodes), kept.nodes.roster <= fleet.view(MODEL, now_s).nodes.roster) == (nodes, True)
    for name, column in told.items():
        assert np.array_equal(getattr(kept.nodes.columns, name), column), name


@given(st.lists(st.tuples(loads, st.integers(1, 9)), min_size=4, max_size=4))
def test_a_batch_of_pulses_is_each_of_them(told):
    """Also that one which is not newer changes nothing."""
    one, many = joined(*NODES, seq=4), joined(*NODES, seq=4)
    for fleet in (one, many):
        fleet.step(a_dispatch(a_request(1), "a", service_s=2.0), 0.9)
        fleet.step(Tick(), 5.0)
    for name, (load, seq) in zip(NODES, told, strict=True):
        one.step(PulseReceived(a_pulse(name, seq=seq, load=load)), 5.5)
    columns = {field: np.array([float(getattr(load, field)) for load, _ in told]) for field in LOAD_FIELDS}
    rows = np.array([many.row_of(name) for name in NODES])
    effects = many.step(
        LoadsReceived(
            rows=rows, seq=np.array([seq for _, seq in told]), heard_at_s=np.full(4, 5.5), **columns
        ),
        5.5,
    )
    assert list(one.view(MODEL, 6.0).nodes) == list(many.view(MODEL, 6.0).nodes)
    newer = [name for name, (_, seq) in zip(NODES, told, strict=True) if seq > 4]
    assert sorted(effect.node for effect in effects) == newer
    assert one.step(Tick(), 30.0) == many.step(Tick(), 30.0)


def test_a_forgotten_node_leaves_its_row_clean_for_the_next():
    fleet = joined("a", "b", rtt_ms=5.0)
    fleet.step(a_dispatch(a_request(1), "a", service_s=9.0), 0.0)
    row = fleet.row_of("a")
    fleet.step(RttMeasured("b", 5.0), 500.0)
    fleet.step(Tick(), 500.0)
    assert fleet.row_of("a") is None
    fleet.step(PulseReceived(a_pulse("c")), 501.0)
    fleet.step(a_card("c"), 501.0)
    assert fleet.row_of("c") == row
    node = next(node for node in fleet.view(MODEL, 501.0).nodes if node.node == "c")
    assert (node.own_in_flight, node.wait_s, node.rtt_ms) == (0, 0.0, 50.0)
    assert list(fleet.view(MODEL, 501.0).nodes.columns.own_in_flight) == [0.0, 0.0]


def test_idle_news_is_kept_in_order_of_the_last_word_until_a_request_goes_there():
    fleet = joined("a", "b", "c")
    for name in ("c", "a", "c", "stranger"):
        fleet.step(IdleAnnounced(name, IDLE), 1.0)
    named = lambda: [fleet.view(MODEL, 1.0).nodes[index].node for index in fleet.view(MODEL, 1.0).idle]  # noqa: E731
    assert named() == ["a", "c"]
    fleet.step(a_dispatch(a_request(), "a"), 1.0)
    assert named() == ["c"]


def test_idle_news_is_fresh_news_of_the_load():
    fleet = joined("a", load=Load(4, running=4, queued=9, wait_s=30.0, backlog_s=90.0))
    fleet.step(a_dispatch(a_request(), service_s=3.0), 1.0)
    fleet.step(IdleAnnounced("a", Load(4, running=1, backlog_s=2.0)), 5.0)
    node = fleet.view(MODEL, 6.0).nodes[0]
    assert (node.free_slots, node.age_s, node.wait_s, node.own_unseen) == (3, 1.0, 0.0, 0)


def test_idle_news_is_bounded():
    fleet = joined(*NODES, settings=FleetSettings(idle_max=2))
    for name in NODES:
        fleet.step(IdleAnnounced(name, IDLE), 1.0)
    assert len(fleet.view(MODEL, 1.0).idle) == 2


def test_a_probe_answer_counts_what_we_sent_on_it_and_gets_old():
    settings = FleetSettings(probing=ProbeSettings(per_request=3.0))
    fleet = joined(*NODES, settings=settings)
    for name, in_flight in (("a", 3), ("b", 0)):
        fleet.step(ProbeAnswered(name, MODEL, Load(4, running=in_flight), rtt_ms=7.0), 1.0)
    assert [(probe.in_flight, probe.latency_ms) for probe in fleet.view(MODEL, 1.5).probes] == [
        (3, 27.0),
        (0, 27.0),
    ]
    assert list(fleet.view(MODEL, 1.5).probed_in_flight) == [3, 0]
    fleet.step(Dispatched(a_request(), "b", a_dispatch(a_request()).estimate), 1.5)
    assert [probe.in_flight for probe in fleet.view(MODEL, 1.5).probes] == [1]
    assert not fleet.view(MODEL, 2.6).probes
    fleet.step(Finished(a_request(), an_outcome(a_request(), "b").outcome), 2.7)
    assert fleet.in_flight == 0


def test_answers_leave_the_pool_the_worst_and_the_oldest_in_turn():
    pool = ProbePool(ProbeSettings(per_request=3.0, pool_max=4))
    for node, in_flight in enumerate((5, 9, 1, 2)):
        pool.add(Answer(node, in_flight, 10.0, at_s=float(node)), nodes=100)
    pool.used(3, nodes=100)
    assert [answer.node for answer in pool.answers] == [0, 2, 3]
    pool.used(3, nodes=100)
    assert [answer.node for answer in pool.answers] == [2]


@pytest.mark.parametrize(("nodes", "kept"), [(1, 1), (2, 2), (3, 2), (10, 6), (24, 15), (25, 16), (1000, 16)])
def test_a_small_fleet_has_a_small_pool(nodes, kept):
    """Sixteen answers want more than 24 nodes: else the reuse budget has no end."""
    assert ProbePool(ProbeSettings(per_request=3.0)).pool_max(nodes) == kept


def test_owners_are_found_longest_prefix_first_and_boundedly():
    owners = Owners()
    for node in range(200):
        owners.add(1, node)
    owners.add(2, 150)
    owners.add(2, 151)
    owners.discard(2, 151)
    found = owners.find(PromptBlocks((1, 2, 3), block_bytes=64))
    assert len(found) == OWNERS_MAX
    assert next(iter(found.items())) == (150, 128)
    assert set(found.values()) == {64, 128}
    for node in range(200):
        owners.discard(1, node)
    owners.discard(2, 150)
    assert len(owners) == 0


prompts = st.lists(st.integers(0, 2), max_size=5)


@given(st.lists(prompts, max_size=12), prompts)
def test_whoever_holds_a_beginning_is_found_with_the_longest(held, prompt):
    """Against a walk over every node's own prompt; a block's hash tells all before it, as in reality."""
    chains = [[hash(tuple(blocks[: at + 1])) for at in range(len(blocks))] for blocks in (prompt, *held)]
    owners, (asked, *others) = Owners(), chains
    for node, chain in enumerate(others):
        for block in chain:
            owners.add(block, node)
    shared = {node: len(set(asked) & set(chain)) for node, chain in enumerate(others)}
    found = owners.find(PromptBlocks(tuple(asked), block_bytes=64))
    assert found == {node: 64 * blocks for node, blocks in shared.items() if blocks}
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_a_batch_folded_in_late_does_not_undo_what_came_in_after_it():
    fleet = joined("a", rtt_ms=1.0)
    fleet.step(LoadReported("a", Load(4, running=3)), 5.0)
    none, one = np.zeros(1), np.ones(1)
    for heard_at_s, running in ((4.9, 3), (5.1, 0)):
        batch = LoadsReceived(
            rows=np.array([fleet.row_of("a")]), seq=np.array([9]), heard_at_s=np.full(1, heard_at_s),
            slots=4 * one, running=none, queued=none, wait_s=none, backlog_s=none, inflow=none, kv_used=none,
            prefill_s=none,
        )  # fmt: skip
        fleet.step(batch, 5.2)
        node = fleet.view(MODEL, 5.2).nodes[0]
        assert (node.running, node.age_s) == (running, pytest.approx(5.2 - max(5.0, heard_at_s)))


def test_columns_and_views_agree_after_the_round_trip_changed():
    """What a report can't know of depends on how far its node is."""
    fleet = joined("a", rtt_ms=200.0)
    fleet.step(a_dispatch(a_request(), service_s=3.0), 1.0)
    fleet.step(LoadReported("a", Load(1, running=1, wait_s=1.0, backlog_s=1.0)), 1.1)
    for _ in range(20):
        fleet.step(RttMeasured("a", 1.0), 1.1)
    view = fleet.view(MODEL, 1.1)
    assert view.nodes[0].own_unseen == 0
    assert view.nodes.columns.wait_s[0] == pytest.approx(view.nodes[0].wait_s)


def test_names_of_models_that_nobody_lists_any_more_leave_nothing():
    fleet = joined("known")
    for seq in range(2, 30):
        models = tuple(replace(READY, name=f"m{seq}-{number}") for number in range(20))
        fleet.step(PulseReceived(a_pulse("stranger", seq=seq, models=models)), 1.0)
    assert len(fleet._models._lore) <= 21
    assert fleet.models() == (MODEL,)


def test_a_view_without_some_nodes_does_not_look_at_the_others():
    fleet = joined(*NODES)
    view = fleet.view(MODEL, 1.0)
    assert [view.nodes.index_of(name) for name in (*NODES, "stranger")] == [0, 1, 2, 3, None]
    assert view.without(frozenset(("b", "stranger"))).left_out == {1}


def test_a_forgotten_nodes_probe_answer_is_not_its_successors():
    settings = FleetSettings(probing=ProbeSettings(per_request=3.0, age_max_s=1e9))
    fleet = joined("a", "b", "c", settings=settings)
    fleet.step(ProbeAnswered("a", MODEL, Load(4), rtt_ms=7.0), 1.0)
    fleet.step(RttMeasured("b", 5.0), 500.0)
    fleet.step(Tick(), 500.0)
    fleet.step(PulseReceived(a_pulse("new")), 501.0)
    fleet.step(a_card("new"), 501.0)
    assert not fleet.view(MODEL, 501.0).probes
