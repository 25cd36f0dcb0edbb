"""What a gateway says before any node is asked: methods, web pages of other origins, bounds, connections."""

import asyncio
import json
import re

import pytest
from live_nouns import MODEL, PATIENCE_S, Talk, live

from isochrone.relay import ServerLimits
from isochrone.wire.openai import CHAT_PATH, COMPLETIONS_PATH, MODELS_PATH
from isochrone.wire.openapi import METRICS_PATH, OPENAPI_PATH

ANSWER = b'{"choices":[]}'
PAGE = "https://chat.example.org"
READ = (
    MODELS_PATH,
    f"{MODELS_PATH}/{MODEL}",
    "/health",
    METRICS_PATH,
    OPENAPI_PATH,
    "/isochrone/v1/decisions",
)


async def answers(talk: Talk, _body: bytes) -> None:
    talk.send(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ANSWER)
    )
    talk.send(ANSWER)


# Methods


@pytest.mark.parametrize("path", READ)
async def test_head_says_what_get_says_without_a_body(path):
    async with live(answers) as gateway:
        got = await gateway.ask("GET", path)
        head = await gateway.ask("HEAD", path)
        assert (got.status, head.status, head.body, head.broken) == (200, 200, b"", "")
        assert got.body != b""
        if path != METRICS_PATH:  # which counts on
            assert head.headers == got.headers


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", [CHAT_PATH, COMPLETIONS_PATH])
async def test_what_takes_post_says_so(path, method):
    async with live(answers) as gateway:
        told = await gateway.ask(method, path)
        assert (told.status, told.headers["allow"]) == (405, "POST, OPTIONS")
        assert method == "HEAD" or told.error["code"] == "method_not_allowed"


@pytest.mark.parametrize("path", READ)
async def test_what_can_be_read_only_says_so(path):
    async with live(answers) as gateway:
        told = await gateway.ask("POST", path, b"{}")
        assert (told.status, told.headers["allow"]) == (405, "GET, HEAD, OPTIONS")


@pytest.mark.parametrize(
    ("path", "allow"),
    [(CHAT_PATH, "POST, OPTIONS"), (MODELS_PATH, "GET, HEAD, OPTIONS"), ("*", "GET, HEAD, POST, OPTIONS")],
)
async def test_options_need_no_key(path, allow):
    async with live(answers, api_key_digests=frozenset(("0" * 64,))) as gateway:
        told = await gateway.ask("OPTIONS", path)
        assert (told.status, told.headers["allow"], told.body) == (204, allow, b"")
        assert (await gateway.ask("OPTIONS", "/nowhere")).status == 401


# Web pages


@pytest.mark.parametrize(
    ("origin", "allowed", "status", "told"),
    [
        ("http://gateway", (), 200, None),  # its own
        (PAGE, (), 403, None),
        ("null", (), 403, None),
        (PAGE, ("https://other.org",), 403, None),
        ("http://chat.example.org", (PAGE,), 403, None),
        (PAGE, ("https://other.org", PAGE), 200, PAGE),
        (PAGE, ("*",), 200, "*"),
        ("null", ("*",), 200, "*"),
    ],
)
async def test_who_may_ask_from_a_web_page(origin, allowed, status, told):
    asked = []

    async def counts(talk: Talk, body: bytes) -> None:
        asked.append(body)
        await answers(talk, body)

    async with live(counts, cors_origins=frozenset(allowed)) as gateway:
        for stream in (True, False):
            answer = await gateway.chat(f"origin: {origin}", stream=stream)
            assert answer.status == status
            assert answer.headers.get("access-control-allow-origin") == told
            assert answer.headers.get("vary") == ("origin" if told == PAGE else None)
            if told:
                assert answer.headers["access-control-expose-headers"] == "*"
        assert len(asked) == (2 if status == 200 else 0)  # a page that may not ask costs no node anything
        if status == 403:
            assert answer.error["code"] == "origin_not_allowed"


async def test_errors_can_be_read_by_pages_that_may_ask():
    async with live(answers, cors_origins=frozenset((PAGE,))) as gateway:
        for path, status in ((CHAT_PATH, 400), ("/nowhere", 404)):
            told = await gateway.ask("POST", path, b"rubbish", f"origin: {PAGE}")
            assert (told.status, told.headers["access-control-allow-origin"]) == (status, PAGE)


@pytest.mark.parametrize(("origin", "told"), [(PAGE, True), ("https://other.org", False)])
async def test_a_browser_that_asks_first(origin, told):
    asks = (
        "access-control-request-method: POST",
        "access-control-request-headers: authorization, x-stainless-os",
    )
    digests = frozenset(("0" * 64,))
    async with live(answers, cors_origins=frozenset((PAGE,)), api_key_digests=digests) as gateway:
        answer = await gateway.ask("OPTIONS", CHAT_PATH, b"", f"origin: {origin}", *asks)
        assert answer.status == (204 if told else 403)
        if told:
            assert answer.headers["access-control-allow-methods"] == "POST, OPTIONS"
            assert answer.headers["access-control-allow-headers"] == "authorization, x-stainless-os"
            assert int(answer.headers["access-control-max-age"]) > 0


async def test_only_names_of_headers_are_said_back():
    async with live(answers, cors_origins=frozenset("*")) as gateway:
        asks = ("access-control-request-method: POST", "access-control-request-headers: <script>")
        answer = await gateway.ask("OPTIONS", CHAT_PATH, b"", f"origin: {PAGE}", *asks)
        assert answer.status == 204
        assert "access-control-allow-headers" not in answer.headers


# Bounds


@pytest.mark.parametrize(
    ("bound", "raw", "status", "words"),
    [
        ({"headers_max": 5}, b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 9 + b"\r\n", 431, "5 headers"),
        ({"head_bytes_max": 99}, b"GET / HTTP/1.1\r\nx: " + b"y" * 200, 431, "too long"),
        ({"body_bytes_max": 9}, b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n", 413, "9 bytes"),
        ({"head_s_max": 0.02}, b"GET / HT", 408, "too long to arrive"),
        ({"body_s_max": 0.02}, b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n", 408, "too long"),
        ({"connections_max": 1}, b"", 503, "Too many connections"),
        ({"connections_per_client_max": 1}, b"", 429, "it may have 1 at once"),
    ],
)
async def test_beyond_a_bound_an_error_says_which(bound, raw, status, words):
    async with live(answers, http=ServerLimits(**bound)) as gateway:
        crowd = await gateway.dial() if "connections" in str(bound) else None
        if crowd is not None:
            crowd[1].write(b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n")
            await crowd[0].readuntil(b"}")
        head, _, body = (await gateway.raw(raw)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status)
        assert re.search(rb"\r\nconnection: close", head)
        assert words in json.loads(body)["error"]["message"]


async def test_who_says_nothing_is_let_go():
    async with live(answers, http=ServerLimits(idle_s_max=0.05)) as gateway:
        assert await gateway.raw(b"") == b""
        assert (await gateway.raw(b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n")).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(("depth", "status"), [(8, 200), (9, 400)])
async def test_json_nested_too_deeply_is_refused(depth, status):
    """Levels are counted from the body's own; a model's schema of tools may be as deep as the bound."""
    tools: object = []
    for _ in range(depth - 2):
        tools = [tools]
    async with live(answers, json_depth_max=8) as gateway:
        told = await gateway.chat(stream=False, tools=tools, stop=["["] * 9)
        assert told.status == status
        if status == 400:
            assert "more than 8 levels" in told.error["message"]


# Connections


async def test_a_pipeline_through_the_gateway_is_answered_in_order():
    """With a length, in chunks, a page, a refusal: each in its turn; trailers are left out."""
    body = b'{"model":"tiny","prompt":"?"}'
    post = b"POST /v1/completions HTTP/1.1\r\nhost: a\r\n"
    sized = post + b"content-length: %d\r\n\r\n%b" % (len(body), body)
    chunks = b"".join(b"1\r\n%b\r\n" % body[at : at + 1] for at in range(len(body)))
    chunked = post + b"transfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\nx-secret: y\r\n\r\n"
    seen = []

    async def script(talk: Talk, got: bytes) -> None:
        seen.append(got)
        await answers(talk, got)

    async with live(script) as gateway:
        raw = await gateway.raw(
            sized + chunked + b"GET /nowhere HTTP/1.1\r\nhost: a\r\n\r\n" + chunked + b"?\r\n"
        )
        assert re.findall(rb"HTTP/1\.1 (\d+)", raw) == [b"200", b"200", b"404", b"200", b"400"]
        assert seen == [body] * 3
        assert b"x-secret" not in raw


async def test_a_stream_goes_on_for_a_client_that_has_ended_its_side():
    """As `nc -N` does: the request, then the end of its side, then it reads."""
    half, go = asyncio.Event(), asyncio.Event()

    async def script(talk: Talk, _body: bytes) -> None:
        talk.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        talk.send(b"9\r\ndata: 1\n\n\r\n")
        half.set()
        await go.wait()
        talk.send(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")

    async with live(script) as gateway:
        reader, writer = await gateway.dial()
        body = b'{"model":"tiny","prompt":"?","stream":true}'
        head = b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % len(body)
        writer.write(head + body)
        writer.write_eof()
        async with asyncio.timeout(PATIENCE_S):
            await half.wait()
            await reader.readuntil(b"data: 1\n\n")
            go.set()
            assert (await reader.read()).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
