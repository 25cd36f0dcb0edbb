"""TLS of a gateway on this machine: its certificate and key, and who may be sure to speak with it."""

import contextlib
import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, cast

import typer

from isochrone.cli.shell import log
from isochrone.ports import SettingError
from isochrone.relay import ServerTls

TlsCertOption = Annotated[
    Path | None,
    typer.Option("--tls-cert", help="Speak TLS: PEM file of the certificate, with its chain."),
]
TlsKeyOption = Annotated[Path | None, typer.Option("--tls-key", help="PEM file of its private key.")]

_LEAF = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_ROUNDS = 4
"""Turns of both sides that a handshake takes at most."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """A certificate with its chain, and its private key: PEM files."""

    certificate: Path
    key: Path

    @classmethod
    def of(cls, certificate: Path | None, key: Path | None) -> "TlsFiles | None":
        """What the two options say; None for no TLS. Raises SettingError for half a pair."""
        if certificate is None and key is None:
            return None
        if certificate is None or key is None:
            raise SettingError("--tls-cert and --tls-key go together: the certificate and its private key")
        return cls(certificate, key)

    def server(self) -> ServerTls:
        """How to listen with the pair. Raises SettingError when it can't be used."""
        return ServerTls(self.certificate, self.key, log)

    def options(self) -> tuple[str, ...]:
        """The same for the command line of a gateway that is started from elsewhere."""
        paths = str(self.certificate.absolute()), str(self.key.absolute())
        return "--tls-cert", paths[0], "--tls-key", paths[1]

    def names(self) -> tuple[str, ...]:
        """Names and addresses that the certificate is for, found by a handshake in memory.

        Raises SettingError when the pair can't be used, or is not valid today.
        """
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = self.server().context.wrap_bio(to_server, to_client, server_side=True)
        client = trusting(self.certificate).wrap_bio(to_client, to_server)
        try:
            for _ in range(_ROUNDS):
                for side in (client, server):
                    with contextlib.suppress(ssl.SSLWantReadError):
                        side.do_handshake()
        except ssl.SSLCertVerificationError as error:
            why = error.verify_message
            raise SettingError(f"the TLS certificate {self.certificate} can't be used: {why}") from error
        except ssl.SSLError as error:
            raise SettingError(f"no TLS can be spoken with {self.certificate}: {error.reason}") from error
        told = client.getpeercert() or {}
        named = cast("tuple[tuple[str, str], ...]", told.get("subjectAltName", ()))
        return tuple(name for _, name in named)


def trusting(certificate: Path) -> ssl.SSLContext:
    """For clients on this machine: trusts who has this very certificate, whatever its names, and nobody else.

    Only the first certificate of the file counts: who else its issuers have certified is not meant. Raises
    SettingError when the file can't be read.
    """
    try:
        found = _LEAF.search(certificate.read_text("ascii", "replace"))
    except OSError as error:
        words = error.strerror or error
        raise SettingError(f"the TLS certificate {certificate} can't be read: {words}") from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cadata=found.group() if found else "")
    except (ssl.SSLError, ValueError) as error:
        raise SettingError(f"the TLS certificate {certificate} is no certificate in PEM") from error
    return context
