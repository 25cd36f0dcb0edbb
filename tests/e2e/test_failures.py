"""What users see when parts fail: a node killed or paused, an engine gone, NATS away."""

import json
import signal
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import psutil

from tests.e2e.cluster import MODEL, Cluster, until

SKY = [{"role": "user", "content": "Why is the sky blue?"}]


def start(cluster: Cluster, *names: str) -> None:
    cluster.start_gateway()
    for name in names:
        cluster.start_node(name)
    cluster.wait_ready(*names)


def ask(cluster: Cluster, policy: str = "soonest", max_tokens: int = 4, **fields: Any) -> httpx.Response:
    return httpx.post(
        f"{cluster.url}/v1/chat/completions",
        json={"model": MODEL, "messages": SKY, "max_tokens": max_tokens, "ignore_eos": True, **fields},
        headers={"x-isochrone-policy": policy},
        timeout=60,
    )


def ask_apart(cluster: Cluster, **how: Any) -> "Future[httpx.Response]":
    pool = ThreadPoolExecutor(1)
    future = pool.submit(ask, cluster, **how)
    pool.shutdown(wait=False)
    return future


def working_node(cluster: Cluster, *names: str) -> str:
    return until("a node works", lambda: next((n for n in names if cluster.node(n)["own_in_flight"]), None))


def test_killed_node_loses_no_request_that_has_no_token_yet(empty_cluster: Cluster) -> None:
    cluster = empty_cluster
    start(cluster, "a", "b")
    answers = [ask_apart(cluster, policy="round-robin", max_tokens=150) for _ in range(4)]
    until("both work", lambda: all(cluster.node(name)["own_in_flight"] for name in "ab"))
    cluster.nodes["a"].popen.kill()
    for answer in answers:
        response = answer.result(60)
        assert response.status_code == 200, response.text
        assert response.headers["x-isochrone-node"] == "b"
    assert ask(cluster).headers["x-isochrone-node"] == "b"
    moved = [r for r in httpx.get(f"{cluster.url}/isochrone/v1/decisions").json() if len(r["outcomes"]) > 1]
    assert moved
    assert all([o["kind"] for o in r["outcomes"]] == ["failed", "answered"] for r in moved)
    assert cluster.status()["in_flight"] == 0
    until("a is out", lambda: cluster.node("a")["unavailable"])


def test_stream_cut_after_its_first_token_ends_with_an_error_event(empty_cluster: Cluster) -> None:
    cluster = empty_cluster
    start(cluster, "a")
    body = {"model": MODEL, "messages": SKY, "max_tokens": 1500, "stream": True, "ignore_eos": True}
    with httpx.stream("POST", f"{cluster.url}/v1/chat/completions", json=body, timeout=30) as response:
        lines = response.iter_lines()
        assert next(lines).startswith("data: ")
        cluster.nodes["a"].popen.kill()
        last = [line for line in lines if line.startswith("data: ")][-1]
    assert json.loads(last[6:])["error"]["code"] == "upstream_failed"


def test_killed_node_takes_its_engine_along(empty_cluster: Cluster) -> None:
    cluster = empty_cluster
    start(cluster, "a")
    children = psutil.Process(cluster.nodes["a"].popen.pid).children(recursive=True)
    assert children
    cluster.nodes["a"].popen.kill()
    until("the engine is gone", lambda: not any(_alive(child) for child in children))


def _alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_paused_node_is_given_up_and_taken_back(empty_cluster: Cluster) -> None:
    cluster = empty_cluster
    start(cluster, "a", "b")
    paused = cluster.nodes["a"]
    paused.signal(signal.SIGSTOP)
    answer = ask_apart(cluster, policy="nearest", max_tokens=4)
    if cluster.node("a")["rtt_ms"] > cluster.node("b")["rtt_ms"]:
        answer = ask_apart(cluster, policy="round-robin")
        ask_apart(cluster, policy="round-robin")
    assert answer.result(30).status_code == 200
    until("a is silent", lambda: "silent" in (cluster.node("a")["unavailable"] or ""))
    assert ask(cluster, policy="round-robin").headers["x-isochrone-node"] == "b"
    assert ask(cluster, policy="round-robin").headers["x-isochrone-node"] == "b"
    paused.signal(signal.SIGCONT)
    until("a is back", lambda: cluster.node("a")["unavailable"] is None)
    nodes = {ask(cluster, policy="round-robin").headers["x-isochrone-node"] for _ in range(2)}
    assert nodes == {"a", "b"}


def test_request_waiting_on_a_node_that_pauses_moves_on(empty_cluster: Cluster) -> None:
    cluster = empty_cluster
    start(cluster, "a", "b")
    answer = ask_apart(cluster, max_tokens=300)
    victim = working_node(cluster, "a", "b")
    cluster.nodes[victim].signal(signal.SIGSTOP)
    response = answer.result(60)
    assert response.status_code == 200
    assert response.headers["x-isochrone-node"] != victim
    record = cluster.decision(response.headers["x-isochrone-decision"])
    assert [outcome["kind"] for outcome in record["outcomes"]] == ["silent", "answered"]


def test_engine_that_dies_is_started_again(empty_cluster: Cluster) -> None:
    cluster = empty_cluster
    start(cluster, "a")
    (engine,) = psutil.Process(cluster.nodes["a"].popen.pid).children()
    engine.kill()
    until("the node answers again", lambda: ask(cluster).status_code == 200)
    assert cluster.nodes["a"].popen.poll() is None


def test_nats_away_and_back_with_nothing(empty_cluster: Cluster) -> None:
    """Nodes and gateway go on serving without NATS; it comes back empty, and all is as before."""
    cluster = empty_cluster
    start(cluster, "a", "b")
    cluster.stop_nats(forget=True)
    until("the gateway noticed", lambda: not cluster.status()["bus_up"])
    silent_s = 3.5
    until("long after pulses ended", lambda: cluster.node("a")["age_s"] > silent_s or None, within_s=30)
    for _ in range(4):
        assert ask(cluster, policy="round-robin").status_code == 200
    assert all(node["unavailable"] is None for node in cluster.status()["nodes"])
    cluster.start_nats()
    until("the gateway is back", lambda: cluster.status()["bus_up"])
    until("pulses are back", lambda: all(n["age_s"] < 1.5 for n in cluster.status()["nodes"]))
    assert ask(cluster).status_code == 200
    late = cluster.start_node("c")
    cluster.wait_ready("c")
    assert late.popen.poll() is None
    second = Cluster(cluster.folder, cluster.store)
    second.nats_url = cluster.nats_url
    try:
        second.start_gateway("--name", "second")
        second.wait_known("a", "b", "c")  # cards were written again to the empty server
    finally:
        second.close()


def test_node_starts_without_nats_and_joins_later(empty_cluster: Cluster) -> None:
    cluster = empty_cluster
    cluster.stop_nats()
    cluster.start_node("a")
    cluster.start_nats()
    cluster.start_gateway()
    cluster.wait_ready("a")


def test_full_node_refuses_with_retry_after(empty_cluster: Cluster) -> None:
    cluster = empty_cluster
    cluster.start_gateway()
    cluster.start_node("a", "--slots", "1", "--queue-max", "1")
    cluster.wait_ready("a")
    held = [ask_apart(cluster, max_tokens=400) for _ in range(2)]
    until("it is full", lambda: cluster.load("a")["running"] + cluster.load("a")["queued"] == 2)
    response = ask(cluster)
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) >= 1
    assert response.json()["error"]["code"] == "no_node_available"
    assert [answer.result(60).status_code for answer in held] == [200, 200]


def test_stopped_node_says_goodbye_and_finishes(empty_cluster: Cluster) -> None:
    cluster = empty_cluster
    start(cluster, "a", "b")
    answer = ask_apart(cluster, max_tokens=60)
    leaving = working_node(cluster, "a", "b")
    stopper = threading.Thread(target=cluster.nodes[leaving].stop)
    stopper.start()
    response = answer.result(60)
    assert response.status_code == 200
    assert response.headers["x-isochrone-node"] == leaving
    assert ask(cluster).headers["x-isochrone-node"] != leaving
    stopper.join()
    until("it is forgotten", lambda: cluster.node(leaving) is None)


def test_not_heard_of_anybody_and_all_gone_are_503(empty_cluster: Cluster) -> None:
    """Clients do not retry a 404: a gateway that has just started must not give one."""
    cluster = empty_cluster
    cluster.start_gateway()
    early = ask(cluster)
    assert (early.status_code, early.json()["error"]["code"]) == (503, "no_node_available")
    assert "retry-after" in early.headers
    cluster.start_node("a")
    cluster.wait_ready("a")
    cluster.nodes["a"].popen.kill()
    until("it is out", lambda: cluster.node("a")["unavailable"])
    response = ask(cluster)
    assert response.status_code == 503
    assert "retry-after" in response.headers
    assert "a silent" in response.json()["error"]["message"]


def test_errors_that_are_the_requests_own_put_no_node_aside(empty_cluster: Cluster) -> None:
    """A grammar that no engine can read: every node fails it, and none is to blame."""
    cluster = empty_cluster
    start(cluster, "a", "b")
    for _ in range(4):
        response = ask(cluster, grammar="root ::= (((", stream=True)
        assert response.status_code in (400, 502), response.text
    assert all(node["unavailable"] is None for node in cluster.status()["nodes"])
    assert all(m["answers_seen"] == 0 for node in cluster.status()["nodes"] for m in node["models"])
    assert ask(cluster).status_code == 200


def test_a_limit_beyond_reason_does_not_make_a_node_seem_silent(empty_cluster: Cluster) -> None:
    cluster = empty_cluster
    start(cluster, "a")
    answer = ask_apart(cluster, max_tokens=2**31 - 1, ignore_eos=False)
    answer.result(60)
    assert cluster.node("a")["unavailable"] is None
    assert cluster.node("a")["queue_s"] < 3600
    beyond = ask(cluster, max_tokens=2**31)
    assert (beyond.status_code, beyond.json()["error"]["param"]) == (400, "max_tokens")
