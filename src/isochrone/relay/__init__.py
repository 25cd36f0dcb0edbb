"""HTTP/1.1 over asyncio: the server that clients talk to, and the client that talks to nodes and engines.

Used by gateways and by node agents alike. Made for streams of tokens: a piece goes out when it comes in,
a slow reader holds back the writer, and whoever leaves is noticed at once, so that his work stops.

- `HttpServer` calls a handler with an `Exchange` for each request; the handler is cancelled when the
  client goes before the reply has ended.
- `HttpClient` gives a `Response` for each request, and `UpstreamError` for all that can go wrong.
- `ServerLimits` and `ClientLimits` name every bound, and what happens there.

- `Listening` and `ServerTls` say how to listen: with TLS, on a port shared with other processes.

Inside: `head` (pure checks and serialisation), `request_reader` and `reply_reader` (bytes in, messages
out, no I/O), `connection`, `exchange`, `tally` and `alarm` (the server's), `link`, `pool` and `response` (the
client's). What a request or a reply means is not known here: no JSON, no routing, no metrics.
"""

from isochrone.relay.client import HttpClient
from isochrone.relay.exchange import Exchange, Handler, RepeatedHeaderError
from isochrone.relay.head import Headers
from isochrone.relay.limits import ClientLimits, ServerLimits
from isochrone.relay.response import Response
from isochrone.relay.server import HttpServer, Listening
from isochrone.relay.tls import ServerTls

__all__ = [
    "ClientLimits",
    "Exchange",
    "Handler",
    "Headers",
    "HttpClient",
    "HttpServer",
    "Listening",
    "RepeatedHeaderError",
    "Response",
    "ServerLimits",
    "ServerTls",
]
