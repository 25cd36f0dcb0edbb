"""What is told to others is gathered once, told whole, and told to whoever was told of the beginning."""

import pytest
from fleet_nouns import MODEL, an_estimate

from isochrone.fleet import Teller, sent_work
from isochrone.fleet.teller import AGE_S_MAX, SERVICE_S_MAX, TOLD_AT_ONCE_MAX
from isochrone.model import EndedWork, Me, SentWork

MATES = frozenset({"g", "h"})
WORK = SentWork("r", "a", MODEL, 2.0, 1.0)


def a_teller() -> Teller:
    return Teller(Me.of("us", "here"), epoch=7)


def test_a_dispatch_is_told_as_it_was_estimated():
    estimate = an_estimate(prefill_ms=500.0, decode_ms=1500.0)
    assert sent_work("r", "a", MODEL, estimate) == WORK.__class__("r", "a", MODEL, 2.0, 0.5)


def test_what_is_gathered_is_told_once_with_its_age():
    teller = a_teller()
    assert teller.sent(WORK, MATES, 1.0)
    assert not teller.ended("r", "a")
    mates, news = teller.take(1.5)
    assert mates == MATES
    assert (news.gateway, news.epoch, news.seq, news.region) == ("us", 7, 1, "here")
    assert [work.age_s for work in news.sent] == [pytest.approx(0.5)]
    assert news.ended == (EndedWork("r", "a"),)
    mates, news = teller.take(2.0)
    assert (mates, news.seq, news.sent, news.ended) == (frozenset(), 2, (), ())


def test_who_heard_of_the_beginning_hears_of_the_end_though_the_company_changed():
    teller = a_teller()
    teller.sent(WORK, frozenset({"g"}), 1.0)
    teller.take(1.0)
    teller.sent(SentWork("s", "a", MODEL, 1.0, 1.0), frozenset({"h"}), 1.0)
    teller.take(1.0)
    assert teller.ended("r", "a")
    assert teller.take(2.0)[0] == {"g"}


def test_without_anybody_to_hear_it_nothing_is_gathered():
    teller = a_teller()
    assert not teller.sent(WORK, frozenset(), 1.0)
    assert not teller.ended("r", "a")
    assert not teller.mates
    assert (teller.told, teller.full) == (0, False)


def test_what_is_too_old_or_too_long_is_not_told_so_that_the_rest_is_taken():
    teller = a_teller()
    teller.sent(WORK, MATES, 1.0)
    teller.sent(SentWork("s", "a", MODEL, 1.0, 1.0), MATES, 1.0 + AGE_S_MAX)
    assert [work.request for work in teller.take(1.5 + AGE_S_MAX)[1].sent] == ["s"]
    work = sent_work("r", "a", MODEL, an_estimate(prefill_ms=1e9))
    assert (work.service_s, work.prefill_s) == (SERVICE_S_MAX, SERVICE_S_MAX)


def test_ends_are_those_of_the_node_and_what_never_ends_is_forgotten(monkeypatch):
    teller = a_teller()
    teller.sent(WORK, MATES, 1.0)
    assert not teller.ended("r", "b")
    monkeypatch.setattr("isochrone.fleet.teller.OPEN_MAX", 2)
    for number in range(3):
        teller.sent(SentWork(f"s{number}", "a", MODEL, 1.0, 1.0), MATES, 1.0)
    teller.ended("r", "a")
    teller.ended("s2", "a")
    assert teller.take(1.0)[1].ended == (EndedWork("s2", "a"),)


def test_a_message_that_is_full_is_due():
    teller = a_teller()
    for number in range(TOLD_AT_ONCE_MAX):
        assert not teller.full
        teller.sent(SentWork(f"r{number}", "a", MODEL, 1.0, 1.0), MATES, 1.0)
    assert teller.full
    assert len(teller.take(1.0)[1].sent) == TOLD_AT_ONCE_MAX
    assert not teller.full
