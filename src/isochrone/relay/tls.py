"""TLS on the listening port, with a certificate that may be renewed while we run."""

import ssl
from collections.abc import Callable
from pathlib import Path

from isochrone.ports import SettingError

_Stamp = tuple[tuple[int, int, int], ...]


class ServerTls:
    """A certificate and its key, read again when either file has changed.

    The files are looked at in each handshake: that costs nothing beside a handshake, needs no signal and no
    timer, and each worker does it for itself. Open connections go on with what they began with. A pair that
    can't be used is told once and the old one stays: a renewal that writes one file after the other is seen
    half done, and is taken when it is whole.

    Attributes:
        context: to listen with; TLS 1.2 or newer.
    """

    def __init__(self, certificate: Path, key: Path, log: Callable[[str], None]) -> None:
        """Read the pair. Raises SettingError that says what is wrong with it."""
        self._certificate, self._key, self._log = certificate, key, log
        self._stamp = self._look()
        self._current = self.context = self._load()
        self.context.sni_callback = self._hello

    def _hello(
        self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _own: ssl.SSLContext
    ) -> None:
        """A client says hello, with the name of a server or without."""
        stamp = self._look()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._current = self._load()
                self._log(f"the certificate {self._certificate} was renewed and is in use")
            except SettingError as error:
                self._log(f"the certificate stays as it was: {error}")
        if self._current is not self.context:
            connection.context = self._current

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        for what, path in (("certificate", self._certificate), ("key", self._key)):
            try:
                path.open("rb").close()
            except OSError as error:
                raise SettingError(
                    f"the TLS {what} {path} can't be read: {error.strerror or error}"
                ) from error
        try:
            context.load_cert_chain(self._certificate, self._key, password=_no_password)
        except ssl.SSLError as error:
            raise SettingError(
                f"the TLS certificate {self._certificate} and the key {self._key} can't be used: "
                f"{_words(error)}"
            ) from error
        return context

    def _look(self) -> _Stamp:
        return tuple(_stamp(path) for path in (self._certificate, self._key))


def _no_password() -> str:
    """Called for an encrypted key. Nobody is there to be asked."""
    raise SettingError("the TLS key is encrypted; give one that is not, readable by its owner only")


def _words(error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return "the key is not that of the certificate"
    if error.reason in ("NO_START_LINE", None) or "PEM" in str(error):
        return (
            "they must be PEM files, the certificate with its chain in one and its private key in the other"
        )
    return str(error.reason).lower().replace("_", " ")


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0, 0
    return found.st_mtime_ns, found.st_ino, found.st_size
