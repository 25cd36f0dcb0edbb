"""TLS on the listening port: the pair, the versions, renewal, and the relay's manners under it."""

import asyncio
import os
import ssl
from pathlib import Path

import httpx
import openai
import pytest
import trustme
from server_nouns import echo

from isochrone.ports import SettingError
from isochrone.relay import HttpServer, Listening, ServerLimits, ServerTls


class Pair:
    """A certificate and its key in two files, issued by an authority of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.certificate, self.key = folder / "cert.pem", folder / "key.pem"
        self.issue()

    def issue(self, kind: trustme.KeyType = trustme.KeyType.ECDSA) -> None:
        """Write a new pair, the certificate last."""
        issued = self.authority.issue_cert("127.0.0.1", key_type=kind)
        self._write(self.key, issued.private_key_pem.bytes())
        self._write(self.certificate, b"".join(pem.bytes() for pem in issued.cert_chain_pems))

    def _write(self, path: Path, data: bytes) -> None:
        new = path.with_suffix(".new")
        new.write_bytes(data)
        os.replace(new, path)

    @property
    def trusting(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


class Running:
    """A server with TLS, and what it logged."""

    def __init__(self, pair: Pair, handler=echo, **limits) -> None:
        self.log: list[str] = []
        self.crashes: list[BaseException] = []
        self.tls = ServerTls(pair.certificate, pair.key, self.log.append)
        self.server = HttpServer(handler, ServerLimits(**limits), on_crash=self.crashes.append)
        self.port = 0

    async def __aenter__(self) -> "Running":
        self.port = await self.server.start("127.0.0.1", 0, Listening(self.tls.context))
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.server.close(grace_s=0)
        assert self.server.connections == 0
        assert self.crashes == []

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    async def dial(self, context: ssl.SSLContext) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=context)


async def serial(running: Running, context: ssl.SSLContext) -> str:
    """The serial number of the certificate that a new client is shown."""
    _, writer = await running.dial(context)
    shown = writer.get_extra_info("ssl_object").getpeercert()
    writer.transport.abort()
    return shown["serialNumber"]


async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return head.split(b"\r\n")[0] + await reader.readexactly(length)


async def test_openais_client_speaks_to_it(pair):
    async def models(exchange):
        exchange.reply(200, b'{"object": "list", "data": [{"id": "tiny", "object": "model"}]}')

    async with Running(pair, models) as running:
        http = httpx.AsyncClient(verify=pair.trusting, trust_env=False)
        async with openai.AsyncOpenAI(
            base_url=f"{running.url}/v1", api_key="any", max_retries=0, http_client=http
        ) as client:
            assert [model.id async for model in client.models.list()] == ["tiny"]


async def test_a_stream_of_a_mebibyte_comes_whole(pair):
    async def stream(exchange):
        exchange.start(200, ())
        for _ in range(256):
            await exchange.write(b"x" * 4096)
        exchange.end()

    async with (
        Running(pair, stream, write_buffer_bytes_max=8192) as running,
        httpx.AsyncClient(verify=pair.trusting, trust_env=False) as client,
    ):
        assert len((await client.get(running.url)).content) == 2**20


async def test_who_does_not_know_the_authority_does_not_connect(pair):
    async with Running(pair) as running:
        with pytest.raises(ssl.SSLCertVerificationError):
            await running.dial(ssl.create_default_context())


async def test_plain_http_is_no_way_in(pair):
    async with Running(pair) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        assert b"HTTP/1.1" not in await reader.read()
        writer.close()


def test_nothing_older_than_1_2_is_spoken(pair):
    context = ServerTls(pair.certificate, pair.key, print).context
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_1_2_and_1_3_are_spoken(pair, version):
    trusting = pair.trusting
    trusting.minimum_version = trusting.maximum_version = version
    async with Running(pair) as running:
        reader, writer = await running.dial(trusting)
        assert (await answered(reader, writer)).startswith(b"HTTP/1.1 200")
        writer.transport.abort()


async def test_a_refused_client_is_told_why(pair):
    """TLS has no half-close, which a refusal over plain TCP uses."""
    async with Running(pair, linger_s_max=0.05) as running:
        reader, writer = await running.dial(pair.trusting)
        writer.write(b"nonsense\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400")
        writer.close()


@pytest.mark.parametrize("kind", [trustme.KeyType.ECDSA, trustme.KeyType.RSA])
async def test_a_renewed_certificate_is_shown_to_the_next_client(pair, kind):
    async with Running(pair) as running:
        reader, writer = await running.dial(pair.trusting)
        assert (await answered(reader, writer)).startswith(b"HTTP/1.1 200")
        before = await serial(running, pair.trusting)
        pair.issue(kind)
        after = await serial(running, pair.trusting)
        assert after != before
        assert await serial(running, pair.trusting) == after
        assert (await answered(reader, writer)).startswith(b"HTTP/1.1 200"), "who was there stays"
        writer.transport.abort()
        assert [line for line in running.log if "renewed" in line] == running.log
        assert len(running.log) == 1


async def test_half_a_renewal_is_waited_out(pair):
    async with Running(pair) as running:
        before = await serial(running, pair.trusting)
        old = pair.certificate.read_bytes()
        pair.issue()
        new = pair.certificate.read_bytes()
        pair.certificate.write_bytes(old)
        assert [await serial(running, pair.trusting) for _ in range(2)] == [before] * 2
        assert len(running.log) == 1
        assert "the key is not that of the certificate" in running.log[0]
        pair.certificate.unlink()
        assert await serial(running, pair.trusting) == before
        pair.certificate.write_bytes(new)
        assert await serial(running, pair.trusting) != before


def spoil_certificate(pair: Pair) -> None:
    pair.certificate.write_text("no certificate")


def spoil_key(pair: Pair) -> None:
    pair.key.write_text("no key")


def swap(pair: Pair) -> None:
    pair.key.write_bytes(pair.authority.issue_cert("b").private_key_pem.bytes())


def encrypt(pair: Pair) -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
    locked = serialization.BestAvailableEncryption(b"secret")
    form = serialization.PrivateFormat.PKCS8
    pair.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, locked))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda pair: pair.certificate.unlink(), "certificate .*cert.pem can't be read: No such file"),
        (lambda pair: pair.key.unlink(), "key .*key.pem can't be read: No such file"),
        (spoil_certificate, "must be PEM files"),
        (spoil_key, "must be PEM files"),
        (swap, "the key is not that of the certificate"),
        (encrypt, "encrypted"),
    ],
)
def test_a_pair_that_can_not_be_used_is_said_in_a_sentence(pair, spoil, words):
    spoil(pair)
    with pytest.raises(SettingError, match=words):
        ServerTls(pair.certificate, pair.key, print)
