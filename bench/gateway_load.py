"""Both ends of `bench/gateway`: the engines behind a proxy and the clients in front of it.

Each is a process of its own: `upstream PORT...` answers until it is killed; `load SPEC` (JSON) asks, prints
what it saw as JSON and ends.
"""

import asyncio
import gc
import json
import resource
import sys
import time
from collections import deque

import httptools
import msgspec
import uvloop

MODEL = "m"
LOAD = (
    b'{"slots":64,"running":3,"queued":0,"wait_s":0.0,"backlog_s":1.5,"inflow":2.0,"kv_used":0.1,'
    b'"prefill_s":0.0}'
)
TIMINGS = (
    b'{"queue_ms":0.0,"load_ms":0.0,"prefill_ms":4.0,"decode_ms":20.0,"prompt_tokens":60,"cached_tokens":0,'
    b'"output_tokens":16,"concurrency":2.0}'
)
WHOLE = json.dumps({
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1700000000, "model": MODEL,
    "choices": [{"index": 0, "finish_reason": "stop", "logprobs": None,
                 "message": {"role": "assistant", "content": "one two three four five six seven " * 5}}],
    "usage": {"prompt_tokens": 60, "completion_tokens": 16, "total_tokens": 76},
}).encode()  # fmt: skip
PIECE = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":'
    b'[{"index":0,"delta":{"content":" token"},"logprobs":null,"finish_reason":null}]}\n\n'
)
DONE = b"data: [DONE]\n\n"
PROMPT = "Say in a few words what an isochrone is, and why somebody would name a gateway after one. " * 9
ORCA = b'endpoint-load-metrics: JSON {"application_utilization":0.05,"named_metrics":' + LOAD + b"}\r\n"
PLAIN = {
    b"/v1/models": json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model"}]}).encode(),
    b"/get_model_info": json.dumps({"model_path": MODEL, "is_generation": True}).encode(),
    b"/model_info": json.dumps({"model_path": MODEL, "is_generation": True}).encode(),
    b"/server_info": json.dumps({"model_path": MODEL, "version": "0"}).encode(),
    b"/get_server_info": json.dumps({"model_path": MODEL, "version": "0"}).encode(),
}


def chunked(data: bytes) -> bytes:
    """`data` as one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Upstream(asyncio.Protocol):
    """One connection of an engine that computes nothing: `max_tokens` chunks, one each `seed` milliseconds.

    Whoever says `te: trailers` is answered as our own nodes answer: in chunks, load and timings at the end.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:
        """A client came."""
        self.transport, self.loop = transport, asyncio.get_running_loop()
        self.parser, self.body, self.url, self.trailers = httptools.HttpRequestParser(self), b"", b"", False

    def data_received(self, data: bytes) -> None:
        """Read on."""
        self.parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        """The target."""
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Only one is looked at."""
        self.trailers = self.trailers or (name.lower() == b"te" and b"trailers" in value)

    def on_body(self, piece: bytes) -> None:
        """A piece of the body."""
        self.body += piece

    def on_message_complete(self) -> None:
        """Answer."""
        body, url, trailers = self.body, self.url, self.trailers
        self.body, self.url, self.trailers = b"", b"", False
        if url.endswith(b"/ping"):
            self.transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        elif not body:
            self.whole(PLAIN.get(url, b"{}"))
        else:
            fields = msgspec.json.decode(body)
            end = self.end_with(trailers=trailers)
            if fields.get("stream"):
                head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n" + (ORCA if trailers else b"")
                self.transport.write(head + b"transfer-encoding: chunked\r\n\r\n")
                count = fields.get("max_tokens") or fields["max_completion_tokens"]  # SGLang renames it
                self.stream(count, fields["seed"] / 1e3, chunked(DONE) + end)
            elif trailers:
                head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n" + ORCA
                self.transport.write(head + b"transfer-encoding: chunked\r\n\r\n" + chunked(WHOLE) + end)
            else:
                self.whole(WHOLE)

    def end_with(self, *, trailers: bool) -> bytes:
        """The last chunk."""
        if not trailers:
            return b"0\r\n\r\n"
        return b"0\r\nx-isochrone-timings: %b\r\nx-isochrone-load: %b\r\n\r\n" % (TIMINGS, LOAD)

    def whole(self, body: bytes) -> None:
        """Answer in one piece."""
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        self.transport.write(head + body)

    def stream(self, left: int, pace_s: float, end: bytes) -> None:
        """One chunk now, the next later."""
        if self.transport.is_closing():
            return
        if left:
            self.transport.write(chunked(PIECE))
            self.loop.call_later(pace_s, self.stream, left - 1, pace_s, end)
        else:
            self.transport.write(end)


async def serve(ports: list[int]) -> None:
    """Listen for ever."""
    loop = asyncio.get_running_loop()
    for port in ports:
        await loop.create_server(Upstream, "127.0.0.1", port, backlog=4096)
    await asyncio.Event().wait()


class Client(asyncio.Protocol):
    """One connection of a client; `ask` gives a future of (status, events seen, reads)."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Connected."""
        self.transport, self.waiter, self.first = transport, None, None
        self.parser = httptools.HttpResponseParser(self)

    def ask(self, request: bytes) -> asyncio.Future:
        """Send a request; one at a time."""
        self.waiter, self.reads, self.bytes, self.tail = asyncio.get_running_loop().create_future(), 0, 0, b""
        self.transport.write(request)
        return self.waiter

    def data_received(self, data: bytes) -> None:
        """Read on."""
        self.reads += 1
        if self.first is not None:
            self.first()
            self.first = None
        self.parser.feed_data(data)

    def on_body(self, piece: bytes) -> None:
        """A piece of the body."""
        self.bytes += len(piece)
        self.tail = piece

    def on_message_complete(self) -> None:
        """Whole."""
        status, waiter, self.waiter = self.parser.get_status_code(), self.waiter, None
        self.parser = httptools.HttpResponseParser(self)
        if waiter is not None and not waiter.done():
            waiter.set_result((status, self.bytes, self.reads))

    def connection_lost(self, exc: Exception | None) -> None:
        """Gone."""
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result((0, self.bytes, self.reads))


def request_of(spec: dict) -> bytes:
    """The bytes of one request."""
    fields = {"model": MODEL, "messages": [{"role": "user", "content": PROMPT}]}
    fields |= {"max_tokens": spec["chunks"] or 16, "seed": spec["pace_ms"], "stream": bool(spec["chunks"])}
    body = json.dumps(fields).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    head += f"authorization: Bearer {spec['key']}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def connect(spec: dict) -> Client:
    """A connection to the proxy."""
    return (await asyncio.get_running_loop().create_connection(Client, "127.0.0.1", spec["port"]))[1]


async def closed(spec: dict) -> dict:
    """`count` requests over `clients` connections, each asking again at once."""
    request, left, seen, reads, bad = request_of(spec), [spec["count"]], 0, 0, 0

    async def one() -> None:
        nonlocal seen, reads, bad
        client = await connect(spec)
        while left[0] > 0:
            left[0] -= 1
            status, size, count = await client.ask(request)
            seen, reads, bad = seen + size, reads + count, bad + (status != 200)
            if status == 0:
                client = await connect(spec)
        client.transport.close()

    begun = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(spec["clients"])))
    return {"wall_s": time.perf_counter() - begun, "bytes": seen, "reads": reads, "bad": bad}


async def paced(spec: dict) -> dict:
    """Requests at `rate` a second for `seconds`; how long each took from when it was due."""
    request, idle, took, bad = request_of(spec), deque(), [], 0
    for _ in range(spec["clients"]):
        idle.append(await connect(spec))
    waiting: set[asyncio.Task] = set()
    begun = time.perf_counter()

    async def one(due: float) -> None:
        nonlocal bad
        client = idle.popleft() if idle else await connect(spec)
        status, _, _ = await client.ask(request)
        took.append(time.perf_counter() - due)
        bad += status != 200
        if status:
            idle.append(client)

    for number in range(int(spec["rate"] * spec["seconds"])):
        due = begun + number / spec["rate"]
        if (ahead := due - time.perf_counter()) > 0:
            await asyncio.sleep(ahead)
        task = asyncio.create_task(one(time.perf_counter()))
        waiting.add(task)
        task.add_done_callback(waiting.discard)
    await asyncio.gather(*waiting)
    took.sort()
    return {"p50_ms": took[len(took) // 2] * 1e3, "p99_ms": took[int(len(took) * 0.99)] * 1e3, "bad": bad}


async def hold(spec: dict) -> dict:
    """Open `clients` streams; says so on a line of its own when all have begun; ends with its input."""
    request, begun, loop = request_of(spec), [0], asyncio.get_running_loop()
    clients = []

    def first() -> None:
        begun[0] += 1

    for number in range(spec["clients"]):
        client = await connect(spec)
        client.first = first
        client.ask(request)
        clients.append(client)
        if number % 20 == 19:
            await asyncio.sleep(0.04)
    until = time.perf_counter() + 20
    while begun[0] < spec["clients"] and time.perf_counter() < until:  # noqa: ASYNC110 - protocols count, nobody tells
        await asyncio.sleep(0.05)
    print(json.dumps({"begun": begun[0]}), flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)
    for client in clients:
        client.transport.abort()
    return {"begun": begun[0]}


def main() -> None:
    """`upstream PORT...` or `load SPEC`."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    gc.freeze()
    if sys.argv[1] == "upstream":
        uvloop.run(serve([int(port) for port in sys.argv[2:]]))
    else:
        spec = json.loads(sys.argv[2])
        print(json.dumps(uvloop.run({"closed": closed, "paced": paced, "hold": hold}[spec["way"]](spec))))


if __name__ == "__main__":
    main()
