from pathlib import Path

import pytest

from isochrone.adapters.storage import KNOWN, parse_model_option, parse_source
from isochrone.adapters.storage.sources import HubPlace, LocalPlace, PypiPlace, WebPlace
from isochrone.ports import SettingError

DIGEST = "ab" * 32


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("pypi:llm-x==0.1.2#llm_x/w.Q4.gguf", PypiPlace("llm-x==0.1.2", "llm_x/w.Q4.gguf")),
        ("https://host/a/b.gguf?sig=1", WebPlace("https://host/a/b.gguf?sig=1")),
        ("http://127.0.0.1:80/b.gguf", WebPlace("http://127.0.0.1:80/b.gguf")),
        ("http://[::1]/b.gguf", WebPlace("http://[::1]/b.gguf")),
        ("http://localhost/b.gguf", WebPlace("http://localhost/b.gguf")),
        ("hf:own/repo/w.gguf", HubPlace("own/repo", "w.gguf", None)),
        ("hf:own/re.po-1/sub/w.gguf@refs/pr/3", HubPlace("own/re.po-1", "sub/w.gguf", "refs/pr/3")),
        ("/tmp/w.gguf", LocalPlace(Path("/tmp/w.gguf"))),
        ("w.gguf", LocalPlace(Path.cwd() / "w.gguf")),
        ("~/w.gguf", LocalPlace(Path.home() / "w.gguf")),
    ],
)
def test_each_kind_of_source_is_understood_with_and_without_a_digest(text: str, place: object) -> None:
    plain, promised = parse_source(text), parse_source(f"{text};sha256={DIGEST.upper()}")
    assert (plain.place, plain.sha256) == (place, None)
    assert (promised.place, promised.sha256) == (place, DIGEST)
    assert plain.key == promised.key


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "empty"),
        ("w.gguf;sha256=12", "64 hex"),
        ("pypi:llm-x#w.gguf", "PACKAGE==VERSION"),
        ("pypi:--index-url==1#w.gguf", "PACKAGE==VERSION"),
        ("pypi:llm-x==1#setup.py", ".gguf"),
        ("hf:repo/w.gguf", "OWNER/REPO"),
        ("hf:own/repo/../../w.gguf", "OWNER/REPO"),
        ("http://example.org/w.gguf", "not encrypted"),
        ("http://127.0.0.1.example.org/w.gguf", "not encrypted"),
        ("https://me:secret@example.org/w.gguf", "credentials"),
        ("https:///w.gguf", "no host"),
        ("https://host:port/w.gguf", "not a URL"),
        ("s3://bucket/w.gguf", "no kind of source"),
        ("ollama:llama3", "no kind of source"),
    ],
)
def test_what_is_not_understood_says_what_to_write(text: str, told: str) -> None:
    with pytest.raises(SettingError, match=told) as caught:
        parse_source(text)
    assert "secret" not in str(caught.value)


def test_a_signature_in_a_url_is_not_shown() -> None:
    assert parse_source("https://host/w.gguf?sig=secret").shown == "https://host/w.gguf"


def test_a_model_option_is_a_known_name_a_stored_name_or_a_name_with_a_source() -> None:
    assert parse_model_option("smollm2-135m") == ("smollm2-135m", KNOWN["smollm2-135m"].source)
    assert parse_model_option("mine") == ("mine", None)
    assert parse_model_option("mine=https://h/w.gguf?a=b") == ("mine", "https://h/w.gguf?a=b")


@pytest.mark.parametrize(
    "text", ["", "./w.gguf", "hf:a/b/c.gguf", "https://h/w?a=b", "../x", "a" * 129, ".."]
)
def test_a_model_option_without_a_good_name_says_how_to_write_it(text: str) -> None:
    with pytest.raises(SettingError, match="NAME=SOURCE"):
        parse_model_option(text)


def test_a_model_option_with_an_empty_source_is_refused() -> None:
    with pytest.raises(SettingError, match="empty"):
        parse_model_option("mine=")


@pytest.mark.parametrize("known", KNOWN.values())
def test_every_known_model_promises_its_digest(known: object) -> None:
    assert parse_source(known.source).sha256  # type: ignore[attr-defined]
