"""Every policy decides for a real network: probes are sent and answered, idle nodes are heard."""

import re
from typing import Any

import httpx

from isochrone.routing import CATALOGUE
from tests.e2e.cluster import MODEL, Cluster, until

BODY = {"model": MODEL, "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 2}


def ask(cluster: Cluster, policy: str) -> httpx.Response:
    return httpx.post(
        f"{cluster.url}/v1/chat/completions",
        json=BODY,
        headers={"x-isochrone-policy": policy},
        timeout=20,
    )


def decided(cluster: Cluster, policy: str) -> dict[str, Any]:
    """The record of one more request under `policy`, which must be answered."""
    answer = ask(cluster, policy)
    assert answer.status_code == 200, (policy, answer.text)
    return cluster.decision(answer.headers["x-isochrone-decision"])


def metric(cluster: Cluster, name: str) -> float:
    text = httpx.get(f"{cluster.url}/metrics").text
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    assert found is not None, name
    return float(found[1])


def test_every_policy_of_the_catalogue_places_requests(cluster: Cluster) -> None:
    for policy in CATALOGUE:
        records = [decided(cluster, policy) for _ in range(2)]
        assert [record["policy"] for record in records] == [policy] * 2
        assert all(record["candidates"][0]["node"] in ("a", "b") for record in records)
    assert cluster.gateway is not None
    assert "unforeseen" not in cluster.gateway.text


def test_prequal_decides_by_probes_that_were_answered(cluster: Cluster) -> None:
    """Whoever draws lots between two nodes tells both; whoever decides by a pool of one answer knows one.

    Three probes to two nodes now and then all reach one: one decision in about eight is by such a pool.
    """
    before = metric(cluster, "isochrone_probes_sent_total")
    failed_before = metric(cluster, "isochrone_probes_failed_total")
    by_one = any(len(decided(cluster, "prequal:pool_min=1")["candidates"]) == 1 for _ in range(80))
    assert by_one
    assert metric(cluster, "isochrone_probes_sent_total") - before >= 1
    assert metric(cluster, "isochrone_probes_failed_total") == failed_before
    assert metric(cluster, "isochrone_probes_dropped_total") == 0
    unprobed = metric(cluster, "isochrone_probes_sent_total")
    decided(cluster, "soonest")
    assert metric(cluster, "isochrone_probes_sent_total") == unprobed


def test_idle_nodes_are_heard_at_their_start_and_after_their_work(cluster: Cluster) -> None:
    def heard() -> float:
        return metric(cluster, "isochrone_idle_announcements")

    assert until("both nodes were heard at their start", lambda: heard() >= 2)
    before = heard()
    first = decided(cluster, "jiq")["candidates"][0]["node"]
    until("it was heard again", lambda: heard() > before)
    assert first in ("a", "b")
    assert metric(cluster, "isochrone_messages_undecodable") == 0


def test_parameters_in_the_header_are_read_and_refused_in_words(cluster: Cluster) -> None:
    assert decided(cluster, "p2c:d=1")["policy"] == "p2c"
    for wrong, words in (
        ("prequal:nope=1", "has no parameter 'nope'"),
        ("prequal:q_rif=2", "q_rif must be from 0 to 1"),
        ("luck", "there are: soonest"),
        ("p2c:d=" + "9" * 600, "longer than"),
    ):
        answer = ask(cluster, wrong)
        error = answer.json()["error"]
        assert (answer.status_code, error["param"]) == (400, "x-isochrone-policy")
        assert words in error["message"]
