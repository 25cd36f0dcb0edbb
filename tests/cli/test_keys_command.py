"""`isochrone keys`: the secret is shown once, and everything else as often as wanted."""

import json
from hashlib import sha256
from pathlib import Path

import pytest
from typer.testing import CliRunner

from isochrone.adapters.key_file import KeyFile
from isochrone.cli.app import app
from isochrone.model import KeyLimits
from isochrone.ports import SettingError


@pytest.fixture
def keys(tmp_path: Path):
    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["keys", *arguments, "--state-dir", str(tmp_path)])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.stdout

    return run


def test_the_secret_is_shown_once_and_only_its_digest_kept(keys, tmp_path):
    secret = keys("make", "bob").strip()
    assert secret.startswith("sk-iso-")
    assert len(secret) == len("sk-iso-") + 43, "256 bits"
    (key,) = KeyFile(tmp_path).read()
    assert key.digest == sha256(secret.encode()).digest()
    assert secret not in keys("list") + keys("list", "--json")
    assert key.digest.hex() not in keys("list") + keys("list", "--json")


def test_limits_are_kept_changed_and_taken_away(keys, tmp_path):
    options = ("--requests-per-min", "60", "--tokens-per-min", "9000", "--concurrency", "4")
    told = json.loads(keys("make", "bob", *options, "--expires-in", "90d", "--json"))
    assert told["key"].startswith("sk-iso-")
    assert told["expires_unix_s"] == told["made_unix_s"] + 90 * 86_400
    (key,) = KeyFile(tmp_path).read()
    assert key.limits == KeyLimits(60, 9000, 4)
    keys("limit", "bob", "--tokens-per-min", "0", "--concurrency", "2")
    (key,) = KeyFile(tmp_path).read()
    assert key.limits == KeyLimits(60, None, 2)
    assert key.expires_unix_s is not None
    keys("limit", "bob", "--expires-in", "0")
    (listed,) = json.loads(keys("list", "--json"))
    assert listed == {
        "name": "bob", "requests_per_min": 60, "tokens_per_min": None, "concurrency": 2,
        "made_unix_s": told["made_unix_s"], "expires_unix_s": None, "expired": False,
    }  # fmt: skip


def test_a_revoked_key_is_gone(keys, tmp_path):
    keys("make", "bob")
    keys("make", "eve")
    keys("revoke", "bob")
    assert [key.name for key in KeyFile(tmp_path).read()] == ["eve"]
    keys("revoke", "eve")
    assert KeyFile(tmp_path).read() == (), "keys are still asked for"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("make", "bob"), "there is a key 'bob' already"),
        (("make", "two words"), "printable ASCII"),
        (("make", "x" * 65), "1 to 64"),
        (("make", 'a"b'), "quotes"),
        (("make", "eve", "--expires-in", "soon"), "such as 90d"),
        (("revoke", "eve"), "there is no key 'eve'"),
        (("limit", "eve", "--concurrency", "1"), "there is no key 'eve'"),
    ],
)
def test_what_can_not_be_done_is_said_in_a_sentence(keys, tmp_path, arguments, words):
    keys("make", "bob")
    with pytest.raises(SettingError, match=words):
        keys(*arguments)
    assert [key.name for key in KeyFile(tmp_path).read()] == ["bob"]
