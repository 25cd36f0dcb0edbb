"""The file of keys: who may read it, how it changes, who notices."""

import json
import os
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from isochrone.adapters.key_file import KeyFile
from isochrone.model import KEYS_MAX, Key, KeyLimits
from isochrone.ports import SettingError

SECRET = "sk-iso-what-nobody-may-see"


def a_key(name: str, **limits: int) -> Key:
    return Key(name, sha256((SECRET + name).encode()).digest(), limits=KeyLimits(**limits), made_unix_s=100)


def add(file: KeyFile, *keys: Key) -> None:
    file.change(lambda known: (*known, *keys))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


def test_no_file_means_that_no_key_was_ever_made(folder):
    assert KeyFile(folder).read() is None


def test_what_was_written_is_read(folder):
    add(KeyFile(folder), a_key("bob", requests_per_min=3), replace(a_key("eve"), expires_unix_s=500))
    bob, eve = KeyFile(folder).read()
    assert bob == replace(a_key("bob", requests_per_min=3), slot=0)
    assert eve == replace(a_key("eve"), expires_unix_s=500), "without limits it needs no slot"
    assert eve.expired(500)
    assert not eve.expired(499.9)


def test_only_the_owner_reads_it_and_the_secret_is_not_there(folder):
    add(KeyFile(folder), a_key("bob"))
    assert os.stat(folder / "keys.json").st_mode & 0o777 == 0o600
    assert all(SECRET.encode() not in path.read_bytes() for path in folder.iterdir())
    assert {path.name for path in folder.iterdir()} == {"keys.json", "keys.lock", "keys.count"}


def test_a_file_open_to_others_is_refused(folder):
    add(KeyFile(folder), a_key("bob"))
    (folder / "keys.json").chmod(0o640)
    with pytest.raises(SettingError, match="chmod 600"):
        KeyFile(folder).read()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda book: book["entries"][0].update(sha256="ab"),
        lambda book: book["entries"][0].update(sha256="x" * 64),
        lambda book: book["entries"][0].update(slot=KEYS_MAX),
        lambda book: book["entries"][0].update(requests_per_min=0),
        lambda book: book["entries"][0].update(name="two words"),
        lambda book: book["entries"][0].pop("name"),
        lambda book: book["entries"].append(book["entries"][0]),
        lambda book: book.update(entries=7),
    ],
)
def test_a_file_that_holds_no_keys_says_so(folder, spoil):
    add(KeyFile(folder), a_key("bob"))
    book = json.loads((folder / "keys.json").read_text())
    spoil(book)
    (folder / "keys.json").write_text(json.dumps(book))
    with pytest.raises(SettingError):
        KeyFile(folder).read()


def test_a_change_is_seen_with_the_next_look_however_soon(folder):
    writer, reader = KeyFile(folder), KeyFile(folder)
    add(writer, a_key("bob"))
    reader.read()
    assert not reader.changed(10.0)
    add(writer, a_key("eve"))
    assert reader.changed(10.0)
    assert len(reader.read()) == 2
    assert not reader.changed(10.0)


def test_a_file_replaced_by_hand_is_seen_within_a_second(folder):
    reader = KeyFile(folder)
    add(reader, a_key("bob"))
    reader.read()
    assert not reader.changed(10.0)
    other = folder / "other"
    other.write_bytes((folder / "keys.json").read_bytes() + b"\n")
    other.chmod(0o600)
    other.replace(folder / "keys.json")
    assert not reader.changed(10.5)
    assert reader.changed(11.0)


def test_a_file_is_seen_that_was_not_there_at_the_start(folder):
    folder.mkdir()
    reader = KeyFile(folder)
    assert reader.read() is None
    add(KeyFile(folder), a_key("bob"))
    assert reader.changed(0.0)


def test_slots_are_given_in_turn_and_kept(folder):
    file = KeyFile(folder)
    add(file, a_key("a", concurrency=1), a_key("b", concurrency=1))
    file.change(lambda known: known[1:])
    add(file, a_key("c", concurrency=1))
    assert {key.name: key.slot for key in file.read()} == {"b": 1, "c": 2}


def test_as_many_keys_as_there_are_slots_and_no_more(folder):
    file = KeyFile(folder)
    add(file, *(a_key(f"k{at}", concurrency=1) for at in range(KEYS_MAX)))
    assert sorted(key.slot for key in file.read()) == list(range(KEYS_MAX))
    with pytest.raises(SettingError, match=str(KEYS_MAX)):
        add(file, a_key("one-more"))
    assert len(file.read()) == KEYS_MAX


def test_an_edit_that_fails_changes_nothing(folder):
    file = KeyFile(folder)
    add(file, a_key("bob"))

    def fail(_known):
        raise SettingError("no")

    with pytest.raises(SettingError, match="no"):
        file.change(fail)
    assert [key.name for key in file.read()] == ["bob"]
