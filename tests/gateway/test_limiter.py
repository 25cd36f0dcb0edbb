"""Limits of keys, in one worker and across several."""

import multiprocessing
import os
import signal
from hashlib import sha256

import pytest

from isochrone.gateway.crew import Grant, Limiter, SharedTable, Shortage
from isochrone.model import Key, KeyLimits

NOW_S = 5000.0
FORK = multiprocessing.get_context("fork")


def a_key(name: str = "bob", slot: int | None = 7, **limits: int) -> Key:
    return Key(name, sha256(name.encode()).digest(), slot, KeyLimits(**limits))


def admitted(limiter: Limiter, key: Key, tokens: int = 1, now_s: float = NOW_S) -> Grant:
    grant = limiter.admit(key, tokens, now_s)
    assert isinstance(grant, Grant)
    return grant


def refused(limiter: Limiter, key: Key, tokens: int = 1, now_s: float = NOW_S) -> Shortage:
    shortage = limiter.admit(key, tokens, now_s)
    assert isinstance(shortage, Shortage)
    return shortage


@pytest.fixture
def limiter() -> Limiter:
    return Limiter(SharedTable())


def test_a_key_without_limits_is_told_none(limiter):
    grants = [admitted(limiter, a_key(slot=None), 10**9) for _ in range(3)]
    assert all(grant.headers == () for grant in grants)


def test_requests_a_minute(limiter):
    key = a_key(requests_per_min=3)
    left = [dict(admitted(limiter, key).headers)[b"x-ratelimit-remaining-requests"] for _ in range(3)]
    assert left == [b"2", b"1", b"0"]
    shortage = refused(limiter, key)
    assert (shortage.limit, shortage.retry_after_s) == ("requests", 20)
    assert "'bob'" in shortage.message
    told = dict(shortage.headers)
    assert told[b"x-ratelimit-limit-requests"] == b"3"
    assert told[b"x-ratelimit-remaining-requests"] == b"0"
    assert told[b"x-ratelimit-reset-requests"] == b"1m0s"
    assert told[b"retry-after-ms"] == b"20000"
    admitted(limiter, key, now_s=NOW_S + 20.0)
    assert refused(limiter, key, now_s=NOW_S + 20.0).retry_after_s == 20


def test_tokens_a_minute_are_counted_in_advance_and_corrected(limiter):
    key = a_key(tokens_per_min=600)
    grant = admitted(limiter, key, 500)
    assert dict(grant.headers)[b"x-ratelimit-remaining-tokens"] == b"100"
    assert dict(grant.headers)[b"x-ratelimit-reset-tokens"] == b"50s"
    assert refused(limiter, key, 101).limit == "tokens"
    limiter.settle(grant, 100, NOW_S)
    assert dict(admitted(limiter, key, 300).headers)[b"x-ratelimit-remaining-tokens"] == b"200"


def test_a_request_that_took_more_than_was_thought_is_paid_off(limiter):
    key = a_key(tokens_per_min=600)
    limiter.settle(admitted(limiter, key, 10), 900, NOW_S)
    assert refused(limiter, key, 1).retry_after_s == 31


def test_what_is_not_known_stays_as_it_was_thought(limiter):
    key = a_key(tokens_per_min=600)
    limiter.settle(admitted(limiter, key, 500), None, NOW_S)
    assert refused(limiter, key, 101).limit == "tokens"


def test_a_request_larger_than_the_limit_is_told_not_to_try_again(limiter):
    shortage = refused(limiter, a_key(tokens_per_min=600), 601)
    assert shortage.retry_after_s is None
    assert (b"x-should-retry", b"false") in shortage.headers


def test_concurrency_is_given_back(limiter):
    key = a_key(concurrency=2)
    first, _second = admitted(limiter, key), admitted(limiter, key)
    assert (refused(limiter, key).limit, refused(limiter, key).retry_after_s) == ("concurrency", 1)
    limiter.settle(first, None, NOW_S)
    admitted(limiter, key)
    assert refused(limiter, key).limit == "concurrency"


def test_a_refusal_uses_up_nothing(limiter):
    key = a_key(requests_per_min=10, tokens_per_min=100, concurrency=1)
    grant = admitted(limiter, key, 60)
    assert refused(limiter, key, 60).limit == "concurrency"
    limiter.settle(grant, 60, NOW_S)
    assert refused(limiter, key, 60).limit == "tokens"
    headers = dict(admitted(limiter, key, 40).headers)
    assert headers[b"x-ratelimit-remaining-requests"] == b"8"


def test_a_slot_that_becomes_another_keys_begins_anew(limiter):
    bob, eve = a_key("bob", concurrency=1, requests_per_min=1), a_key("eve", concurrency=1)
    of_bob = admitted(limiter, bob)
    of_eve = admitted(limiter, eve)
    limiter.settle(of_bob, None, NOW_S)  # ends after bob's key was revoked
    assert refused(limiter, eve).limit == "concurrency"
    limiter.settle(of_eve, None, NOW_S)
    admitted(limiter, eve)


def test_limits_that_change_count_what_was_used_before(limiter):
    admitted(limiter, a_key(requests_per_min=60))
    for _ in range(59):
        admitted(limiter, a_key(requests_per_min=60))
    assert refused(limiter, a_key(requests_per_min=6)).limit == "requests"


def _admit_many(table: SharedTable, worker: int, key: Key, tries: int, results) -> None:
    table.take(worker)
    limiter = Limiter(table)
    results.put(sum(isinstance(limiter.admit(key, 1, NOW_S), Grant) for _ in range(tries)))


@pytest.mark.parametrize(
    ("limits", "most"),
    [({"requests_per_min": 500}, 500), ({"concurrency": 300}, 300), ({"tokens_per_min": 400}, 400)],
)
def test_three_workers_together_admit_what_one_would(limits, most):
    table, results, key = SharedTable(workers=3), FORK.SimpleQueue(), a_key(**limits)
    workers = [
        FORK.Process(target=_admit_many, args=(table, number, key, 400, results)) for number in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert sum(results.get() for _ in workers) == most


def _take_and_wait(table: SharedTable, key: Key, pipe) -> None:
    table.take(1)
    table.requests.enter()
    table.lock(9)
    pipe.send(isinstance(Limiter(table).admit(key, 1, NOW_S), Grant))
    signal.pause()


def test_what_a_killed_worker_had_is_given_back_and_its_locks_are_free():
    table, key = SharedTable(workers=2), a_key(concurrency=1)
    ours, theirs = FORK.Pipe()
    worker = FORK.Process(target=_take_and_wait, args=(table, key, theirs))
    worker.start()
    assert ours.recv() is True
    limiter = Limiter(table)
    assert refused(limiter, key).limit == "concurrency"
    assert table.requests.total() == 1
    os.kill(worker.pid, signal.SIGKILL)
    worker.join(10)
    table.empty(1)
    admitted(limiter, key)
    assert table.requests.total() == 0
    table.lock(9)  # does not hang
    table.unlock(9)
