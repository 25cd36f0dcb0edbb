"""Parameters as people write them, and what they are told when they cannot be."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from isochrone.routing import CATALOGUE, DEFAULT_POLICY, Policy, find_policy

POLICIES = (Path(__file__).parents[2] / "docs/policies.md").read_text("utf-8")


def test_the_catalogue_finds_by_name_and_tells_the_names():
    assert find_policy("soonest") is DEFAULT_POLICY
    with pytest.raises(KeyError, match="no policy is called 'best'; there are: soonest, nearest"):
        find_policy("best")


def test_what_the_catalogue_holds():
    assert set(CATALOGUE) == {
        "soonest", "nearest", "nearest-with-spill", "random", "random-weighted", "round-robin",
        "least-request", "p2c", "p2c-own", "p2c-weighted", "p2c-weighted-own", "peak-ewma",
        "shortest-expected-delay", "jiq", "c3", "prequal", "bounded-load-hash", "two-hash-prefix",
        "gie-1-1-1", "gie-3-2-2", "skylb", "gorgo", "predicted-latency", "stale-greedy", "corrected", "drawn",
    }  # fmt: skip


def test_numbers_and_flags_are_read():
    assert find_policy("p2c:d=3").parameters.d == 3
    tuned = find_policy("p2c: d = 8 , own=true,weighted=1").parameters
    assert (tuned.d, tuned.own, tuned.weighted) == (8, True, True)
    assert find_policy("p2c-own:own=0").parameters.own is False
    assert find_policy("c3:exponent=2").parameters.exponent == 2.0
    assert find_policy("p2c:d=3").name == "p2c"
    assert CATALOGUE["p2c"].parameters.d == 2


def test_values_come_as_numbers_too():
    assert CATALOGUE["p2c"].tuned(d=4.0, own=1.0).parameters == find_policy("p2c:d=4,own=1").parameters


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("p2c:e=3", "policy 'p2c' has no parameter 'e'; there are: d, own, weighted"),
        ("nearest:d=3", "policy 'nearest' has no parameter 'd'; there are: none"),
        ("p2c:d", "policy 'p2c': write parameter=value, not 'd'"),
        ("p2c:", "policy 'p2c': write parameter=value, not ''"),
        ("p2c:d=2,", "policy 'p2c': write parameter=value, not ''"),
        ("p2c:d=", "policy 'p2c': write parameter=value, not 'd='"),
        ("p2c:d=2,d=3", "policy 'p2c': d is given twice"),
        ("p2c:d=two", "policy 'p2c': d must be a number, not two"),
        ("p2c:d=2.5", "policy 'p2c': d must be a whole number, not 2.5"),
        ("p2c:d=inf", "policy 'p2c': d must be a finite number, not inf"),
        ("c3:exponent=nan", "policy 'c3': exponent must be a finite number, not nan"),
        ("p2c:d=0", "policy 'p2c': d must be from 1 to 64, not 0"),
        ("p2c:own=2", "policy 'p2c': own must be 0 or 1, not 2"),
        ("prequal:q_rif=1.2", "policy 'prequal': q_rif must be from 0 to 1, not 1.2"),
        ("prequal:pool_max=0", "policy 'prequal': pool_max must be at least 1, not 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_with_policy_and_parameter(text, told):
    with pytest.raises(KeyError) as caught:
        find_policy(text)
    assert caught.value.args[0] == told


def test_the_parameters_of_probing_are_listed_plainly():
    with pytest.raises(
        KeyError, match="there are: age_max_s, delta, per_request, pool_max, pool_min, q_rif, rem"
    ):
        find_policy("prequal:probes=3")


def test_who_wants_news_of_room_who_probes_and_who_plans():
    assert [name for name, policy in CATALOGUE.items() if policy.idle_news] == ["jiq"]
    assert [name for name, policy in CATALOGUE.items() if policy.plans] == ["soonest"]
    assert [name for name, policy in CATALOGUE.items() if policy.probing.per_request] == ["prequal"]


def listed(policy: Policy) -> dict[str, float]:
    """Parameters by the names that people write."""
    own = {field.name: getattr(policy.parameters, field.name) for field in fields(policy.parameters)}
    probing = own.pop("probing", None)
    return own | ({field.name: getattr(probing, field.name) for field in fields(probing)} if probing else {})


@pytest.mark.parametrize("policy", CATALOGUE.values(), ids=CATALOGUE)
def test_the_page_tells_every_parameter_and_its_default(policy):
    section = POLICIES.split(f"\n## {policy.name}\n")[1].split("\n## ")[0]
    told = dict(re.findall(r"^- `(\w+) = ([^`]+)`: ", section, re.MULTILINE))
    assert told == {name: f"{float(value):g}" for name, value in listed(policy).items()}


def test_the_page_names_the_messages_of_every_policy():
    table = POLICIES.split("\n## Messages that they live on\n")[1].split("\n\n")[0]
    assert sorted(re.findall(r"`([\w-]+)`", table)) == sorted(CATALOGUE)


def test_every_example_on_the_page_can_be_written():
    examples = re.findall(r'--policy "?([a-z0-9-]+:[^"`]+)', POLICIES)
    assert len(examples) >= 2
    for example in examples:
        assert find_policy(example).name in CATALOGUE
