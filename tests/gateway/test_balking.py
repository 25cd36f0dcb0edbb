"""A node whose line is longer than a request has patience for says so, and the request goes elsewhere."""

import json

import pytest
from live_nouns import Heard, Live, Talk, live

from isochrone.model import Load
from isochrone.wire.orca import encode_orca

LONG_LINE, LONGER_LINE = (
    encode_orca(Load(slots=1, running=1, queued=5, wait_s=s, backlog_s=s, prefill_s=s)) for s in (60.0, 90.0)
)
BALKED = b"HTTP/1.1 503 No\r\nx-isochrone-balked: 60000\r\n%scontent-length: 2\r\n\r\n{}"
TOLD = BALKED % (b"endpoint-load-metrics: %s\r\n" % LONG_LINE)
LONGER = BALKED.replace(b"60000", b"90000") % (b"endpoint-load-metrics: %s\r\n" % LONGER_LINE)
REFUSED = b"HTTP/1.1 503 No\r\ncontent-length: 2\r\n\r\n{}"
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
ANOTHER_POLICY = "x-isochrone-policy: soonest:balks=0"


class Nodes:
    """Both nodes: they answer with these in turn, whichever is asked."""

    def __init__(self, *answers: bytes) -> None:
        self._left = list(answers)

    async def __call__(self, talk: Talk, _body: bytes) -> None:
        talk.send(self._left.pop(0))


async def asked(*answers: bytes, names: tuple[str, ...] = ("a", "b"), headers: tuple[str, ...] = ()):
    async with live(Nodes(*answers), names, policy_by_header=True) as network:
        answer = await network.chat(*headers, stream=False)
        return answer, network.node.heads, await outcomes(network), saved(network)


async def outcomes(network: Live) -> list[tuple[str, str]]:
    record = (await network.ask("GET", "/isochrone/v1/decisions/last")).body
    return [(outcome["kind"], outcome["node"]) for outcome in json.loads(record)["outcomes"]]


def saved(network: Live) -> float:
    return network.gateway._serve._parts.retries.saved


def patience_ms(head: bytes) -> int | None:
    _, found, rest = head.partition(b"x-isochrone-patience-ms: ")
    return int(rest.partition(b"\r\n")[0]) if found else None


async def test_it_goes_to_the_other_node_and_the_client_never_knows() -> None:
    answer, heads, ends, saved_retries = await asked(TOLD, ANSWER)
    assert answer.status == 200
    (first_kind, first), (second_kind, second) = ends
    assert (first_kind, second_kind) == ("balked", "answered")
    assert first != second == answer.headers["x-isochrone-node"]
    assert all(patience_ms(head) is not None for head in heads)
    assert saved_retries == 100.0  # that was no failure, and cost no retry


async def test_a_node_whose_line_is_shorter_than_the_others_after_all_is_asked_again() -> None:
    answer, _, ends, _ = await asked(TOLD, LONGER, ANSWER)
    assert answer.status == 200
    assert [kind for kind, _ in ends] == ["balked", "balked", "answered"]


async def test_after_two_balks_it_waits_however_long() -> None:
    _, heads, _, _ = await asked(TOLD, LONGER, ANSWER)
    assert [patience_ms(head) is None for head in heads] == [False, False, True]


@pytest.mark.parametrize(("names", "headers"), [(("a",), ()), (("a", "b"), (ANOTHER_POLICY,))])
async def test_where_it_has_nowhere_to_go_or_the_policy_waits_no_node_is_told(names, headers) -> None:
    answer, heads, _, _ = await asked(ANSWER, names=names, headers=headers)
    assert answer.status == 200
    assert [patience_ms(head) for head in heads] == [None]


async def test_a_node_that_says_so_unasked_has_refused() -> None:
    answer, _, ends, _ = await asked(TOLD, LONGER, TOLD, REFUSED)
    assert [kind for kind, _ in ends] == ["balked", "balked", "refused", "refused"]
    assert answer.status == 503


async def test_a_refusal_is_a_refusal_though_it_was_to_wait_only_so_long() -> None:
    answer, heads, ends, _ = await asked(REFUSED, ANSWER)
    assert answer.status == 200
    assert [kind for kind, _ in ends] == ["refused", "answered"]
    assert patience_ms(heads[0]) is not None


IDLE = encode_orca(Load(slots=1))


async def test_where_the_model_is_not_ready_the_other_node_is_next() -> None:
    answer, _, ends, _ = await asked(BALKED % (b"endpoint-load-metrics: %s\r\n" % IDLE), ANSWER)
    assert answer.status == 200
    (first_kind, first), (second_kind, second) = ends
    assert (first_kind, second_kind) == ("balked", "answered")
    assert first != second


async def test_a_failure_and_then_a_balk_leave_out_the_node_that_failed() -> None:
    broken = b"HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\n{}"
    answer, _, ends, _ = await asked(broken, TOLD, LONGER, ANSWER, names=("a", "b", "c"))
    assert answer.status == 200
    kinds, nodes = zip(*ends, strict=True)
    assert kinds == ("failed", "balked", "balked", "answered")
    assert nodes[0] not in nodes[1:]


@pytest.mark.parametrize("told", [b"", b"soon", b"-1", b"1" * 10, b"0"])
async def test_what_is_no_time_too_long_is_a_refusal(told: bytes) -> None:
    answer, _, ends, _ = await asked(TOLD.replace(b"60000", told), ANSWER)
    assert answer.status == 200
    assert [kind for kind, _ in ends] == ["refused", "answered"]


async def test_the_record_says_why() -> None:
    async with live(Nodes(TOLD, ANSWER), ("a", "b")) as network:
        answer: Heard = await network.chat(stream=False)
        assert answer.status == 200
        record = (await network.ask("GET", "/isochrone/v1/decisions/last")).body
    assert b"its prompt would have begun in 60000 ms there, and was to within " in record
