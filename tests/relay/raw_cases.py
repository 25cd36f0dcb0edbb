"""Requests byte for byte: what we make of each, and what nginx makes of it where that is something else.

Each is followed on its connection by `NEXT`. A verdict lists what came of all of it: `METHOD PATH=BODY` of a
request that reached the handler, the status of a refusal.
"""

from dataclasses import dataclass

NEXT = b"GET /next HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
THEN = "; GET /next="
ABC = "POST /=abc" + THEN
NONE = "POST /=" + THEN
GOT = "GET /=" + THEN


@dataclass(frozen=True, slots=True)
class Case:
    """One request, as it is sent, and our verdict."""

    raw: bytes
    ours: str


def post(*lines: bytes, body: bytes = b"abc") -> bytes:
    return b"".join(line + b"\r\n" for line in (b"POST / HTTP/1.1", b"host: a", *lines, b"")) + body


def chunked(body: bytes, *lines: bytes) -> bytes:
    return post(b"transfer-encoding: chunked", *lines, body=body)


def get(first: bytes = b"GET / HTTP/1.1", *lines: bytes) -> bytes:
    return b"".join(line + b"\r\n" for line in (first, *(lines or (b"host: a",)), b""))


def fields(*lines: bytes) -> bytes:
    """A plain GET with these lines after its host."""
    return get(b"GET / HTTP/1.1", b"host: a", *lines)


B = b"3\r\nabc\r\n0\r\n\r\n"

CONTENT_LENGTH = {
    "plain": Case(post(b"content-length: 3"), ABC),
    "white space around": Case(post(b"content-length: \t3 \t"), ABC),
    "leading zeros": Case(post(b"content-length: 0003"), ABC),
    "twice the same": Case(post(b"content-length: 3", b"content-length: 3"), "400"),
    "twice, another": Case(post(b"content-length: 3", b"content-length: 4"), "400"),
    "list": Case(post(b"content-length: 3, 3"), "400"),
    "then an empty one": Case(post(b"content-length: 3", b"content-length:"), "400"),
    "empty": Case(post(b"content-length:"), "400"),
    "plus": Case(post(b"content-length: +3"), "400"),
    "minus": Case(post(b"content-length: -3"), "400"),
    "minus zero": Case(post(b"content-length: -0"), "400"),
    "hexadecimal": Case(post(b"content-length: 0x3"), "400"),
    "underscore": Case(post(b"content-length: 0_3"), "400"),
    "gap": Case(post(b"content-length: 0 3"), "400"),
    "decimal point": Case(post(b"content-length: 3.0"), "400"),
    "exponent": Case(post(b"content-length: 3e0"), "400"),
    "arabic digit": Case(post("content-length: ٣".encode()), "400"),
    "2**64 + 3": Case(post(b"content-length: 18446744073709551619"), "400"),
    "vertical tab": Case(post(b"content-length: \x0b3"), "400"),
    "form feed after": Case(post(b"content-length: 3\x0c"), "400"),
    "quoted": Case(post(b'content-length: "3"'), "400"),
    "on GET": Case(fields(b"content-length: 3") + b"abc", "GET /=abc" + THEN),
    "named by connection": Case(post(b"connection: content-length", b"content-length: 3"), ABC),
    "underscore in the name": Case(post(b"content_length: 3", body=b""), NONE),
}

TRANSFER_ENCODING = {
    "plain": Case(chunked(B), ABC),
    "upper case": Case(post(b"Transfer-Encoding: CHUNKED", body=B), ABC),
    "after content-length": Case(post(b"content-length: 3", b"transfer-encoding: chunked", body=B), "400"),
    "before content-length": Case(post(b"transfer-encoding: chunked", b"content-length: 3", body=B), "400"),
    "twice": Case(chunked(B, b"transfer-encoding: chunked"), "400"),
    "list of two": Case(post(b"transfer-encoding: chunked, chunked", body=B), "400"),
    "gzip before": Case(post(b"transfer-encoding: gzip, chunked", body=B), "400"),
    "identity after": Case(post(b"transfer-encoding: chunked, identity", body=B), "400"),
    "identity": Case(post(b"transfer-encoding: identity", b"content-length: 3"), "400"),
    "identity in a second line": Case(chunked(B, b"transfer-encoding: identity"), "400"),
    "unknown": Case(post(b"transfer-encoding: cow", b"content-length: 3"), "400"),
    "parameter": Case(post(b"transfer-encoding: chunked;q=1", body=B), "400"),
    "comma after": Case(post(b"transfer-encoding: chunked,", body=B), "400"),
    "comma before": Case(post(b"transfer-encoding: ,chunked", body=B), "400"),
    "quoted": Case(post(b'transfer-encoding: "chunked"', body=B), "400"),
    "tabs around": Case(post(b"transfer-encoding:\tchunked\t", body=B), "400"),
    "vertical tab": Case(post(b"transfer-encoding: \x0bchunked", body=B), "400"),
    "NUL after": Case(post(b"transfer-encoding: chunked\0", body=B), "400"),
    "prefix": Case(post(b"transfer-encoding: xchunked", body=B), "400"),
    "empty": Case(post(b"transfer-encoding:", b"content-length: 3"), "400"),
    "space before the colon": Case(post(b"transfer-encoding : chunked", b"content-length: 3"), "400"),
    "space before the name": Case(post(b" transfer-encoding: chunked", b"content-length: 3"), "400"),
    "folded": Case(post(b"transfer-encoding:", b" chunked", b"content-length: 3"), "400"),
    "underscore in the name": Case(post(b"transfer_encoding: chunked", b"content-length: 3"), ABC),
    "named by connection": Case(chunked(B, b"connection: transfer-encoding"), ABC),
    "on HTTP/1.0": Case(get(b"POST / HTTP/1.0", b"transfer-encoding: chunked") + B, "400"),
    "on HTTP/1.0, kept alive": Case(
        get(b"POST / HTTP/1.0", b"connection: keep-alive", b"transfer-encoding: chunked") + B, "400"
    ),
}

CHUNKS = {
    "two": Case(chunked(b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"), ABC),
    "size in upper case": Case(chunked(b"A\r\n0123456789\r\n0\r\n\r\n"), "POST /=0123456789" + THEN),
    "size with zeros": Case(chunked(b"0003\r\nabc\r\n000\r\n\r\n"), ABC),
    "size with many zeros": Case(chunked(b"0" * 40 + b"3\r\nabc\r\n0\r\n\r\n"), ABC),
    "size with plus": Case(chunked(b"+3\r\nabc\r\n0\r\n\r\n"), "400"),
    "size with minus": Case(chunked(b"-3\r\nabc\r\n0\r\n\r\n"), "400"),
    "size with 0x": Case(chunked(b"0x3\r\nabc\r\n0\r\n\r\n"), "400"),
    "size with underscore": Case(chunked(b"0_3\r\nabc\r\n0\r\n\r\n"), "400"),
    "size missing": Case(chunked(b"\r\nabc\r\n0\r\n\r\n"), "400"),
    "size is no number": Case(chunked(b"three\r\nabc\r\n0\r\n\r\n"), "400"),
    "size of 2**64 + 3": Case(chunked(b"10000000000000003\r\nabc\r\n0\r\n\r\n"), "400"),
    "space before the size": Case(chunked(b" 3\r\nabc\r\n0\r\n\r\n"), "400"),
    "space after the size": Case(chunked(b"3 \r\nabc\r\n0\r\n\r\n"), "400"),
    "tab after the size": Case(chunked(b"3\t\r\nabc\r\n0\r\n\r\n"), "400"),
    "LF after the size": Case(chunked(b"3\nabc\r\n0\r\n\r\n"), "400"),
    "CR after the size": Case(chunked(b"3\rabc\r\n0\r\n\r\n"), "400"),
    "LF after the data": Case(chunked(b"3\r\nabc\n0\r\n\r\n"), "400"),
    "CR CR LF after the data": Case(chunked(b"3\r\nabc\r\r\n0\r\n\r\n"), "400"),
    "nothing after the data": Case(chunked(b"3\r\nabc0\r\n\r\n"), "400"),
    "more data than said": Case(chunked(b"3\r\nabcd\r\n0\r\n\r\n"), "400"),
    "LF after the last": Case(chunked(b"3\r\nabc\r\n0\n\n"), "400"),
    "LF at the end": Case(chunked(b"3\r\nabc\r\n0\r\n\n"), "400"),
    "CR at the end": Case(chunked(b"3\r\nabc\r\n0\r\n\r"), "400"),
    "extension": Case(chunked(b"3;a=b\r\nabc\r\n0;c\r\n\r\n"), ABC),
    "extension in quotes": Case(chunked(b'3;a="b;\\"c"\r\nabc\r\n0\r\n\r\n'), ABC),
    "extension without a name": Case(chunked(b"3;\r\nabc\r\n0\r\n\r\n"), "400"),
    "extension after a space": Case(chunked(b"3 ;a=b\r\nabc\r\n0\r\n\r\n"), "400"),
    "extension with LF": Case(chunked(b"3;a=\nb\r\nabc\r\n0\r\n\r\n"), "400"),
    "extension with CR": Case(chunked(b"3;a=\rb\r\nabc\r\n0\r\n\r\n"), "400"),
    "extension with NUL": Case(chunked(b"3;a=\0\r\nabc\r\n0\r\n\r\n"), "400"),
    "trailer": Case(chunked(b"3\r\nabc\r\n0\r\nx: y\r\n\r\n"), ABC),
    "trailer content-length": Case(chunked(b"3\r\nabc\r\n0\r\ncontent-length: 5\r\n\r\n"), "400"),
    "trailer transfer-encoding": Case(chunked(b"3\r\nabc\r\n0\r\ntransfer-encoding: x\r\n\r\n"), "400"),
    "trailer connection": Case(chunked(b"3\r\nabc\r\n0\r\nconnection: close\r\n\r\n"), "400"),
    "trailer host": Case(chunked(b"3\r\nabc\r\n0\r\nhost: b\r\n\r\n"), "400"),
    "trailer authorization": Case(chunked(b"3\r\nabc\r\n0\r\nauthorization: b\r\n\r\n"), "400"),
    "trailer folded": Case(chunked(b"3\r\nabc\r\n0\r\nx: y\r\n z\r\n\r\n"), "400"),
    "trailer with LF": Case(chunked(b"3\r\nabc\r\n0\r\nx: y\n\r\n"), "400"),
    "trailer that is none": Case(chunked(b"3\r\nabc\r\n0\r\nGET / HTTP/1.1\r\n\r\n"), "400"),
}

HEADERS = {
    "tab inside a value": Case(fields(b"x: a\tb"), GOT),
    "high bytes in a value": Case(fields(b"x: \xff"), GOT),
    "empty value": Case(fields(b"x:"), GOT),
    "LF between": Case(fields(b"x: a\ny: b"), "400"),
    "LF throughout": Case(b"GET / HTTP/1.1\nhost: a\n\n", "400"),
    "LF at the end": Case(b"GET / HTTP/1.1\r\nhost: a\r\n\n", "400"),
    "CR between": Case(fields(b"x: a\ry: b"), "400"),
    "CR CR LF": Case(get(b"GET / HTTP/1.1", b"host: a\r"), "400"),
    "CR at the end": Case(b"GET / HTTP/1.1\r\nhost: a\r\n\r", "400"),
    "NUL in a value": Case(fields(b"x: \0"), "400"),
    "NUL in a name": Case(fields(b"x\0: y"), "400"),
    "escape in a value": Case(fields(b"x: \x1b[0m"), "400"),
    "DEL in a value": Case(fields(b"x: \x7f"), "400"),
    "no name": Case(fields(b": y"), "400"),
    "no colon": Case(fields(b"x"), "400"),
    "space in a name": Case(fields(b"x y: z"), "400"),
    "space before a colon": Case(fields(b"x : z"), "400"),
    "tab before a colon": Case(fields(b"x\t: z"), "400"),
    "bracket in a name": Case(fields(b"x(y): z"), "400"),
    "high byte in a name": Case(fields(b"\xff: z"), "400"),
    "folded by space": Case(fields(b"x: y", b" z"), "400"),
    "folded by tab": Case(fields(b"x: y", b"\tz"), "400"),
    "folded at once": Case(get(b"GET / HTTP/1.1", b" host: a"), "400"),
    "connection: close": Case(fields(b"connection: close"), "GET /="),
    "proxy-connection: close": Case(fields(b"proxy-connection: close"), "GET /="),
    "upgrade ignored": Case(fields(b"connection: upgrade", b"upgrade: websocket"), GOT),
    "upgrade with a body": Case(post(b"connection: upgrade", b"upgrade: h2c", b"content-length: 3"), ABC),
    "upgrade with a body, then closed": Case(
        post(b"connection: upgrade, close", b"upgrade: h2c", b"content-length: 3"), "POST /=abc"
    ),
    "upgrade with chunks, then closed": Case(
        chunked(B, b"connection: upgrade, close", b"upgrade: h2c"), "POST /=abc"
    ),
    "upgrade with chunks": Case(chunked(B, b"connection: upgrade", b"upgrade: h2c"), ABC),
    "expectation met": Case(post(b"expect: 100-continue", b"content-length: 3"), ABC),
    "expectation twice": Case(
        post(b"expect: 100-continue", b"expect: 100-continue", b"content-length: 3"), "417"
    ),
    "another expectation": Case(post(b"expect: 200-ok", b"content-length: 3"), "417"),
}

HOSTS = {
    "none": Case(get(b"GET / HTTP/1.1", b"x: y"), "400"),
    "none on HTTP/1.0": Case(get(b"GET / HTTP/1.0", b"x: y"), "GET /="),
    "two": Case(fields(b"host: a"), "400"),
    "two that differ": Case(fields(b"host: b"), "400"),
    "empty": Case(get(b"GET / HTTP/1.1", b"host:"), "400"),
    "space inside": Case(get(b"GET / HTTP/1.1", b"host: a b"), "400"),
    "path": Case(get(b"GET / HTTP/1.1", b"host: a/b"), "400"),
    "user": Case(get(b"GET / HTTP/1.1", b"host: u@a"), "400"),
    "list": Case(get(b"GET / HTTP/1.1", b"host: a,b"), "400"),
    "port that is none": Case(get(b"GET / HTTP/1.1", b"host: a:b"), "400"),
    "IPv6": Case(get(b"GET / HTTP/1.1", b"host: [::1]:80"), GOT),
    "absolute target": Case(get(b"GET http://a/ HTTP/1.1"), GOT),
    "absolute target, another host": Case(get(b"GET http://b/ HTTP/1.1"), GOT),
    "absolute target, no path": Case(get(b"GET http://a HTTP/1.1"), GOT),
    "absolute target, no host field": Case(get(b"GET http://a/ HTTP/1.1", b"x: y"), "400"),
    "absolute target, user": Case(get(b"GET http://u:p@a/ HTTP/1.1"), "400"),
    "absolute target, no host": Case(get(b"GET http:/// HTTP/1.1"), "400"),
    "absolute target, ftp": Case(get(b"GET ftp://a/ HTTP/1.1"), "400"),
}

REQUEST_LINES = {
    "lower case": Case(get(b"get / HTTP/1.1"), "400"),
    "mixed case": Case(get(b"Get / HTTP/1.1"), "400"),
    "unknown method": Case(get(b"FOO / HTTP/1.1"), "400"),
    "method with a colon": Case(get(b"GET: / HTTP/1.1"), "400"),
    "CONNECT": Case(get(b"CONNECT a:1 HTTP/1.1"), "501"),
    "authority": Case(get(b"GET a:1 HTTP/1.1"), "400"),
    "asterisk for GET": Case(get(b"GET * HTTP/1.1"), "400"),
    "fragment": Case(get(b"GET /#b HTTP/1.1"), "400"),
    "no slash": Case(get(b"GET a HTTP/1.1"), "400"),
    "NUL in the target": Case(get(b"GET /\0 HTTP/1.1"), "400"),
    "high byte in the target": Case(get(b"GET /\xff HTTP/1.1"), "400"),
    "space in the target": Case(get(b"GET /a b HTTP/1.1"), "400"),
    "tab in the target": Case(get(b"GET /\t HTTP/1.1"), "400"),
    "two spaces before the target": Case(get(b"GET  / HTTP/1.1"), GOT),
    "two spaces after the target": Case(get(b"GET /  HTTP/1.1"), GOT),
    "space at the end": Case(get(b"GET / HTTP/1.1 "), "400"),
    "space at the beginning": Case(get(b" GET / HTTP/1.1"), "400"),
    "tabs between": Case(get(b"GET\t/\tHTTP/1.1"), "400"),
    "LF at the end": Case(b"GET / HTTP/1.1\nhost: a\r\n\r\n", "400"),
    "CR CR LF at the end": Case(get(b"GET / HTTP/1.1\r"), "400"),
    "CR at the end": Case(b"GET / HTTP/1.1\rhost: a\r\n\r\n", "400"),
    "empty lines before": Case(b"\r\n\r\n" + get(), GOT),
    "LF before": Case(b"\n" + get(), GOT),
    "CR before": Case(b"\r" + get(), GOT),
    "http": Case(get(b"GET / http/1.1"), "400"),
    "HTTP/1": Case(get(b"GET / HTTP/1"), "400"),
    "HTTP/1.01": Case(get(b"GET / HTTP/1.01"), "400"),
    "HTTP/01.1": Case(get(b"GET / HTTP/01.1"), "400"),
    "HTTP/1.2": Case(get(b"GET / HTTP/1.2"), "505"),
    "HTTP/2.0": Case(get(b"GET / HTTP/2.0"), "505"),
    "HTTP/0.9": Case(b"GET /\r\n", "505"),
    "HTTP/1.0 closes": Case(get(b"GET / HTTP/1.0"), "GET /="),
    "RTSP": Case(get(b"GET / RTSP/1.0"), "GET /="),
    "TLS": Case(b"\x16\x03\x01\x02\x00\x01\x00", "400"),
    "HTTP/2 preface": Case(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505"),
}

CASES = {
    f"{group}: {name}": case
    for group, cases in {
        "content-length": CONTENT_LENGTH,
        "transfer-encoding": TRANSFER_ENCODING,
        "chunk": CHUNKS,
        "header": HEADERS,
        "host": HOSTS,
        "request line": REQUEST_LINES,
    }.items()
    for name, case in cases.items()
}

NGINX = {
    name: (verdict, why)
    for why, verdicts in {
        "It trims spaces only; RFC 9110, section 5.6.3, counts tabs as white space.": {
            "400": ("content-length: white space around",),
        },
        "It says that it knows no such coding; we say that the request is wrong. Refused is refused.": {
            "501": (
                "transfer-encoding: list of two",
                "transfer-encoding: gzip before",
                "transfer-encoding: identity after",
                "transfer-encoding: identity",
                "transfer-encoding: unknown",
                "transfer-encoding: parameter",
                "transfer-encoding: comma after",
                "transfer-encoding: comma before",
                "transfer-encoding: quoted",
                "transfer-encoding: tabs around",
                "transfer-encoding: vertical tab",
                "transfer-encoding: prefix",
                "transfer-encoding: empty",
            ),
        },
        "It skips anything up to LF after a chunk's size; hops that do not would see other chunks.": {
            ABC: (
                "chunk: space after the size",
                "chunk: tab after the size",
                "chunk: extension without a name",
                "chunk: extension after a space",
                "chunk: extension with NUL",
            ),
        },
        "It takes LF for a line's end, as RFC 9112, section 2.2, lets it; a hop that does not reads on.": {
            ABC: (
                "chunk: LF after the size",
                "chunk: LF after the data",
                "chunk: LF after the last",
                "chunk: LF at the end",
                "chunk: trailer with LF",
            ),
            GOT: (
                "header: LF between",
                "header: LF throughout",
                "header: LF at the end",
                "request line: LF at the end",
            ),
        },
        "It throws trailers away unread; llhttp reads some of them as if they stood in the head.": {
            ABC: (
                "chunk: trailer content-length",
                "chunk: trailer transfer-encoding",
                "chunk: trailer connection",
                "chunk: trailer host",
                "chunk: trailer authorization",
                "chunk: trailer folded",
                "chunk: trailer that is none",
            ),
        },
        "It drops CR before CR LF; the grammar has no such thing.": {
            GOT: ("header: CR CR LF",),
        },
        "It lets this pass, and what stands behind it (we) refuses; nginx keeps the connection.": {
            "400" + THEN: (
                "header: escape in a value",
                "header: DEL in a value",
                "request line: unknown method",
                "request line: fragment",
                "request line: high byte in the target",
            ),
        },
        "It drops lines whose name is none and serves the rest; what it drops another hop may read.": {
            GOT: ("header: no colon", "header: bracket in a name", "header: high byte in a name"),
        },
        "It knows no such header; llhttp takes it for `connection`, and closing is safe.": {
            GOT: ("header: proxy-connection: close",),
        },
        "RFC 9110, section 10.1.1, lets a server refuse what it does not know; it ignores it instead.": {
            "400": ("header: expectation twice",),
            ABC: ("header: another expectation",),
        },
        "It picks servers by the name alone; we refuse what is no `host:port` (RFC 9112, section 3.2).": {
            GOT: ("host: user", "host: list", "host: port that is none"),
        },
        "It takes any scheme in an absolute target; we are no proxy for any.": {
            GOT: ("host: absolute target, ftp",),
        },
        "Another status for the same refusal.": {
            "400": ("request line: CONNECT", "request line: HTTP/2 preface"),
        },
        "It is lenient on the version; RFC 9112, section 2.3, has one digit each and no space after.": {
            GOT: ("request line: space at the end", "request line: HTTP/1.01", "request line: HTTP/1.2"),
        },
        "It still speaks HTTP/0.9.": {
            "without a head": ("request line: HTTP/0.9",),
        },
        "llhttp reads RTSP/1.0 as HTTP/1.0 and does not tell; framing is alike, and the connection closes.": {
            "400": ("request line: RTSP",),
        },
    }.items()
    for verdict, names in verdicts.items()
    for name in names
}
"""What nginx 1.22 makes of the case, where that is something else, and why ours differs."""
