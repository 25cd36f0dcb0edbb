"""Bytes to begin with: whole messages of every kind, and the words that they are made of."""

from tests.relay.raw_cases import CASES

REPLY = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
TOKENS = b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\n'
STREAM = TOKENS + b'data: {"usage":{"prompt_tokens":3}}\n\ndata: [DONE]\n\n'
LOAD = b'{"slots":4,"running":1,"queued":0,"wait_s":0.5,"backlog_s":1.0,"inflow":0.1}'
CHAT = b'{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"?"}]}],"n":1,"stop":["a"]}'

SEEDS: dict[str, tuple[bytes, ...]] = {
    "request": tuple(case.raw for case in CASES.values()),
    "reply": (
        REPLY + b"3;a=b\r\nabc\r\n0\r\nx: y\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc",
        b"HTTP/1.0 200 OK\r\n\r\nabc",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
    ),
    "chunks": (b"3\r\nabc\r\n0\r\n\r\n", b'a;x="y"\r\n0123456789\r\n000\r\nx: y\r\n\r\n'),
    "sse": (STREAM, STREAM.replace(b"\n", b"\r\n"), b": ping\n\n" + STREAM),
    "body": (CHAT, b'{"model":"m","prompt":["a","b"],"max_tokens":5,"stream":true}', b"[" * 200),
    "news": (LOAD, b'{"prefill_ms":1.5,"prompt_tokens":3}', STREAM, b'{"application_utilization":0.5}'),
}
WORDS: dict[str, tuple[bytes, ...]] = {
    "request": (
        b"GET / HTTP/1.1\r\n",
        b"POST / HTTP/1.1\r\n",
        b"host: a\r\n",
        b"content-length: 3\r\n",
        b"transfer-encoding: chunked\r\n",
        b"connection: close\r\n",
        b"connection: upgrade\r\nupgrade: h2c\r\n",
        b"expect: 100-continue\r\n",
        b"\r\n",
        b"3\r\nabc\r\n",
        b"0\r\n\r\n",
        b"0\r\nx: y\r\n\r\n",
        b"abc",
        b"\n",
        b"\r",
        b"\0",
        b" ",
        b"\t",
    ),
    "reply": (
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 103 Early\r\n",
        b"HTTP/1.0 204 No\r\n",
        b"content-length: 3\r\n",
        b"transfer-encoding: chunked\r\n",
        b"connection: close\r\n",
        b"upgrade: x\r\nconnection: upgrade\r\n",
        b"\r\n",
        b"3\r\nabc\r\n",
        b"0\r\n\r\n",
        b"abc",
        b"\n",
    ),
    "chunks": (b"3\r\n", b"abc\r\n", b"0\r\n\r\n", b"00\r\n", b";a=b\r\n", b"x: y\r\n", b"\r\n", b"\n", b"f"),
    "sse": (
        b"data: x\n\n",
        b"data: [DONE]\n\n",
        b"data: [DONE]\r\n\r\n",
        b"\n",
        b"\r\n",
        b"data:",
        b": ping\n\n",
    ),
    "body": (
        b'{"model":"m"',
        b',"prompt":',
        b',"messages":[',
        b'{"role":"user"}',
        b"]",
        b"}",
        b"[1,2]",
        b'"a"',
    ),
    "news": (
        b'{"slots":',
        b"1",
        b"}",
        b'"running":',
        b",",
        b"null",
        b"-1",
        b"1e999",
        b'"name":"x"',
        b"[",
        b"]",
    ),
}
