"""Where weights come from, as the user writes it: parsed once, checked, and nothing fetched yet."""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import httpx

from isochrone.adapters.storage.known import KNOWN
from isochrone.ports import SettingError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):", re.IGNORECASE)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PYPI = re.compile(
    r"pypi:(?P<requirement>[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.!+_-]*)#(?P<member>[^#;]+)"
)
_HUB = re.compile(r"hf:(?P<repo>[\w.-]+/[\w.-]+)/(?P<file>[^@;]+?)(?:@(?P<revision>[\w./-]+))?")


@dataclass(frozen=True, slots=True)
class PypiPlace:
    """A member of a wheel: `requirement` is `PACKAGE==VERSION`, `member` a path inside the wheel."""

    requirement: str
    member: str


@dataclass(frozen=True, slots=True)
class LocalPlace:
    """A file on this machine, by its absolute path."""

    path: Path


@dataclass(frozen=True, slots=True)
class WebPlace:
    """A file behind a URL: `https`, or `http` on this machine."""

    url: str


@dataclass(frozen=True, slots=True)
class HubPlace:
    """A file in a repository of the Hugging Face hub; `revision` None means its main branch."""

    repo: str
    file: str
    revision: str | None


Place = PypiPlace | LocalPlace | WebPlace | HubPlace


@dataclass(frozen=True, slots=True)
class Source:
    """Where weights come from and, when promised, their digest.

    Attributes:
        text: as the user wrote it.
        place: the same, parsed.
        location: names the place in one canonical string, without the digest; equal when the place is.
        sha256: the digest promised, lower-case hex, or None.
    """

    text: str
    place: Place
    location: str
    sha256: str | None

    @property
    def key(self) -> str:
        """A short file name for this location."""
        return sha256(self.location.encode()).hexdigest()[:32]

    @property
    def shown(self) -> str:
        """The location for messages: a URL without its query, which may hold a signature."""
        return self.location.partition("?")[0] if isinstance(self.place, WebPlace) else self.location


def check_name(name: str) -> str:
    """`name` if it can name a model in the store. Raises SettingError."""
    if not _NAME.fullmatch(name):
        raise SettingError(
            f"{name!r} can't name a model: use 1 to 128 letters, digits, '.', '_' or '-', "
            "beginning with a letter or a digit."
        )
    return name


def parse_model_option(text: str) -> tuple[str, str | None]:
    """`NAME=SOURCE`, or a `NAME` alone, as `(name, source)`. Raises SettingError.

    For a known short name alone the source is the known one. For any other name alone it is None: then
    the model must be in the store already, which the caller looks up.
    """
    name, equals, source = text.strip().partition("=")
    if not _NAME.fullmatch(name):
        raise SettingError(
            f"Model {text!r} is not understood: write NAME=SOURCE, such as mine=./mine.gguf, or a known "
            f"name ({', '.join(sorted(KNOWN))}). A NAME is 1 to 128 letters, digits, '.', '_' or '-'."
        )
    if equals:
        return name, parse_source(source).text
    known = KNOWN.get(name)
    return name, known.source if known else None


def parse_source(text: str) -> Source:
    """The source that `text` means; a relative path counts from the working folder. Raises SettingError."""
    text = text.strip()
    location, semicolon, digest = text.partition(";sha256=")
    digest = digest.lower()
    if semicolon and not _DIGEST.fullmatch(digest):
        raise SettingError(f"{text!r} ends in a digest that is not 64 hex digits after ';sha256='.")
    if not location:
        raise SettingError("The model's source is empty: write a path, a URL, pypi:... or hf:...")
    scheme = _SCHEME.match(location)
    if scheme is None:
        path = Path(location).expanduser().absolute()
        return Source(text, LocalPlace(path), str(path), digest or None)
    parse = _PARSERS.get(scheme[1].lower())
    if parse is None:
        raise SettingError(
            f"{location!r} begins with {scheme[0]!r}, which is no kind of source: use a path, https:, "
            "pypi: or hf: (and ./ before a path with a colon)."
        )
    return Source(text, parse(location), location, digest or None)


def check_url(url: str) -> str:
    """`url` if weights may be fetched from it. Raises SettingError."""
    shown = url.partition("?")[0]
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise SettingError(f"{shown!r} is not a URL: {error}.") from error
    host = parts.host
    if not host:
        raise SettingError(f"{shown!r} names no host.")
    if parts.userinfo:
        raise SettingError(f"The URL for {host} holds a user name; credentials in URLs are not accepted.")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        raise SettingError(
            f"{shown!r} is not encrypted on its way: use https:// (http:// only on this machine)."
        )
    return url


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine by its name or address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _parse_pypi(location: str) -> PypiPlace:
    match = _PYPI.fullmatch(location)
    if match is None or not match["member"].lower().endswith(".gguf"):
        raise SettingError(f"{location!r} is not understood: write pypi:PACKAGE==VERSION#PATH/FILE.gguf")
    return PypiPlace(match["requirement"], match["member"])


def _parse_web(location: str) -> WebPlace:
    return WebPlace(check_url(location))


def _parse_hub(location: str) -> HubPlace:
    match = _HUB.fullmatch(location)
    if match is None or ".." in match["file"].split("/") or match["file"].startswith("/"):
        raise SettingError(f"{location!r} is not understood: write hf:OWNER/REPO/FILE.gguf[@REVISION]")
    return HubPlace(match["repo"], match["file"], match["revision"])


_PARSERS: dict[str, Callable[[str], Place]] = {
    "pypi": _parse_pypi,
    "http": _parse_web,
    "https": _parse_web,
    "hf": _parse_hub,
}
