"""Our counters tell what those of Prometheus' client tell."""

import re

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest

from isochrone.gateway.counts import Counts


def told(registry: CollectorRegistry) -> str:
    """The exposition without the times at which counting began."""
    return re.sub(r"(?m)^(\w+_created.*) \S+$", r"\1 then", generate_latest(registry).decode())


@pytest.fixture
def ours() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def theirs() -> CollectorRegistry:
    return CollectorRegistry()


def test_a_counter_without_labels_is_told_alike_before_and_after_counting(ours, theirs):
    counts, counter = Counts("a_total", "Some.", registry=ours), Counter("a_total", "Some.", registry=theirs)
    assert "a_total 0.0" in told(ours)
    assert told(ours) == told(theirs)
    for amount in (1, 2.5):
        counts.add(amount=amount)
        counter.inc(amount)
    assert "a_total 3.5" in told(ours)
    assert told(ours) == told(theirs)


def test_labels_are_told_alike_in_the_order_of_their_first_count(ours, theirs):
    counts = Counts("a_total", "Some.", ("x", "y"), registry=ours)
    counter = Counter("a_total", "Some.", ["x", "y"], registry=theirs)
    assert told(ours) == told(theirs)
    for labels in (('b "\n', "1"), ("a", "2"), ('b "\n', "1")):
        counts.add(*labels)
        counter.labels(*labels).inc()
    counts.add("c", "3", amount=0)
    counter.labels("c", "3").inc(0)
    assert '"1"} 2.0' in told(ours)
    assert told(ours) == told(theirs)


def test_the_beginning_of_each_count_is_told_once(ours):
    counts = Counts("a_total", "Some.", ("x",), registry=ours)
    counts.add("b")
    first = ours.get_sample_value("a_created", {"x": "b"})
    counts.add("b")
    assert ours.get_sample_value("a_created", {"x": "b"}) == first
    assert ours.get_sample_value("a_total", {"x": "b"}) == 2.0
