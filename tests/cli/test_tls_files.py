"""A certificate and its key as options: looked at before anything starts, and trusted on this machine."""

import asyncio
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme
from typer.testing import CliRunner

from isochrone.cli.app import app
from isochrone.cli.demo_client import DemoClient
from isochrone.cli.network_file import NetworkFile, read_network, write_network
from isochrone.cli.reach import reached
from isochrone.cli.tls import TlsFiles, trusting
from isochrone.cli.up import Tls
from isochrone.ports import IsochroneError, SettingError
from isochrone.relay import Exchange, HttpClient, HttpServer, Listening

AUTHORITY = trustme.CA()
LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)


def a_pair(folder: Path, *names: str, expires: datetime | None = None) -> TlsFiles:
    """A certificate with its chain, issued by an authority that no system knows."""
    folder.mkdir(exist_ok=True)
    issued = AUTHORITY.issue_cert(*names, not_after=expires)
    files = TlsFiles(folder / "cert.pem", folder / "key.pem")
    files.certificate.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    files.key.write_bytes(issued.private_key_pem.bytes())
    return files


async def listening(pair: TlsFiles) -> tuple[HttpServer, int]:
    async def answer(exchange: Exchange) -> None:
        exchange.reply(200, b'{"data": [{"id": "m"}]}')

    server = HttpServer(answer, error_body=lambda *_: b"")
    return server, await server.start("127.0.0.1", 0, Listening(pair.server().context))


def test_the_names_of_a_certificate_are_told(tmp_path: Path) -> None:
    assert a_pair(tmp_path, "chat.example.org", "127.0.0.1").names() == ("chat.example.org", "127.0.0.1")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda pair: pair.key.unlink(), "key.pem can't be read"),
        (lambda pair: pair.certificate.unlink(), "cert.pem can't be read"),
        (lambda pair: pair.certificate.write_text("hello"), "they must be PEM files"),
        (lambda pair: a_pair(pair.key.parent / "b", "b").key.rename(pair.key), "not that of the certificate"),
        (lambda pair: a_pair(pair.key.parent, "a", expires=LONG_AGO), "certificate has expired"),
    ],
)
def test_a_whole_network_says_what_is_wrong_with_a_pair_before_it_starts(
    tmp_path: Path, spoil: Callable[[TlsFiles], object], words: str
) -> None:
    pair = a_pair(tmp_path, "a")
    spoil(pair)
    state = tmp_path / "state"
    done = CliRunner().invoke(app, ["up", *pair.options(), "--state-dir", str(state)])
    assert isinstance(done.exception, SettingError)
    assert words in str(done.exception)
    assert not state.exists()


@pytest.mark.parametrize(
    ("names", "url"),
    [
        (("chat.example.org", "127.0.0.1"), "https://127.0.0.1:8443/v1"),
        ((), "https://127.0.0.1:8443/v1"),
        (("*.example.org", "::1"), "https://127.0.0.1:8443/v1"),
        (
            ("*.example.org", "chat.example.org"),
            "--connect-to ::127.0.0.1:8443 https://chat.example.org:8443/v1",
        ),
    ],
)
def test_the_first_command_calls_the_gateway_by_a_name_of_its_certificate(names, url) -> None:
    tls = Tls(TlsFiles(Path("/a folder/cert.pem"), Path("key.pem")), names)
    assert tls.curl("https://127.0.0.1:8443/v1") == f"curl --cacert '/a folder/cert.pem' {url}"


def test_half_a_pair_is_none(tmp_path: Path) -> None:
    assert TlsFiles.of(None, None) is None
    for half in ((tmp_path, None), (None, tmp_path)):
        with pytest.raises(SettingError, match="--tls-cert and --tls-key go together"):
            TlsFiles.of(*half)


async def test_who_has_the_certificate_is_trusted_by_whatever_name_and_nobody_else(tmp_path: Path) -> None:
    """Also not who has another certificate of the same authority, whose own is in the chain."""
    ours, other = a_pair(tmp_path / "ours", "chat.example.org"), a_pair(tmp_path / "other", "127.0.0.1")
    ours.certificate.write_bytes(ours.certificate.read_bytes() + AUTHORITY.cert_pem.bytes())
    server, port = await listening(ours)
    impostor, wrong_port = await listening(other)
    client = HttpClient(tls=trusting(ours.certificate))
    told = await client.request("GET", f"https://127.0.0.1:{port}/")
    assert told.status == 200
    await told.read()
    with pytest.raises(IsochroneError, match="CERTIFICATE_VERIFY_FAILED"):
        await client.request("GET", f"https://127.0.0.1:{wrong_port}/")
    await client.close()
    await server.close(0)
    await impostor.close(0)


@pytest.mark.parametrize("text", [None, "", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate_is_told_in_a_sentence(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "cert.pem"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SettingError, match="can't be read" if text is None else "is no certificate in PEM"):
        trusting(path)


def test_a_running_network_says_whom_to_trust(tmp_path: Path) -> None:
    pair = a_pair(tmp_path, "a")
    plain = NetworkFile(1, "http://127.0.0.1:1", "nats://127.0.0.1:2", "t", {})
    write_network(tmp_path, plain)
    assert reached("", tmp_path).tls is None
    told = NetworkFile(1, "https://127.0.0.1:1", "nats://127.0.0.1:2", "t", {}, str(pair.certificate))
    write_network(tmp_path, told)
    assert read_network(tmp_path) == told
    context = reached("", tmp_path).tls
    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED


async def test_the_demo_speaks_tls_with_its_own_network(tmp_path: Path) -> None:
    pair = a_pair(tmp_path, "chat.example.org")
    server, port = await listening(pair)
    url = f"https://127.0.0.1:{port}"
    network = NetworkFile(1, url, "nats://127.0.0.1:2", "t", {}, str(pair.certificate))
    async with DemoClient(url, network) as client:
        await client.check("m")
        with pytest.raises(IsochroneError, match="does not know 'other'"):
            await client.check("other")
    async with DemoClient(url, None) as stranger:
        with pytest.raises(IsochroneError, match="CERTIFICATE_VERIFY_FAILED"):
            await stranger.check("m")
    await server.close(0)


async def test_a_certificate_that_is_not_trusted_comes_with_what_to_do(tmp_path: Path) -> None:
    server, port = await listening(a_pair(tmp_path, "127.0.0.1"))
    command = ["status", "--once", "--gateway", f"https://127.0.0.1:{port}"]
    done = await asyncio.to_thread(CliRunner().invoke, app, command)
    assert isinstance(done.exception, IsochroneError)
    assert "SSL_CERT_FILE" in str(done.exception)
    await server.close(0)
