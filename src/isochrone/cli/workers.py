"""Several processes of one gateway: forked, watched, restarted, and always ended."""

import contextlib
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import inf
from typing import Annotated

import typer

from isochrone.adapters.parent import die_with_parent
from isochrone.cli.shell import log
from isochrone.gateway.crew import SharedTable
from isochrone.gateway.crew.heartbeat import LOOK_S, STALL_S_LEAST, STALL_S_MOST, Watch
from isochrone.ports import IsochroneError, SettingError

_GRACE_S = 10.0
_PAUSE_S, _PAUSE_S_MAX = 0.1, 10.0
_LONG_S = 60.0
"""Who has lived so long is not held to have failed at once."""

StallOption = Annotated[
    float,
    typer.Option("--worker-stall-s", help="A worker whose event loop stands still for so long is replaced."),
]

_ENDING = (signal.SIGINT, signal.SIGTERM)

Work = Callable[[int, Callable[[], None]], None]
"""What a worker does: (its number, called when it is ready). Returns when it was told to end."""


def check_stall_s(stall_s: float) -> float:
    """`stall_s`, or SettingError when it is out of bounds: nobody beats often enough for less."""
    if not STALL_S_LEAST <= stall_s <= STALL_S_MOST:  # true for NaN too
        bounds = f"{STALL_S_LEAST:g} to {STALL_S_MOST:g} seconds"
        raise SettingError(f"--worker-stall-s {stall_s:g}: {bounds} are wanted")
    return stall_s


@dataclass(slots=True)
class _Worker:
    """One worker, or the place of one that has died."""

    number: int
    watch: Watch
    pid: int | None = None
    begun_s: float = 0.0
    again_s: float = 0.0
    failures: int = 0
    ready: bool = False
    pipe: int | None = None
    stalled: bool = False


@dataclass(slots=True)
class Workers:
    """The supervisor. It serves nobody itself, so that nothing but a signal ends it.

    A worker that ends by itself is started again, at first at once and then ever later, up to 10 s; what
    it had under way is given back. The others serve on. One whose event loop stands still for `stall_s_max`
    is ended. Workers end with us, however we end.
    """

    count: int
    work: Work
    table: SharedTable
    on_ready: Callable[[], None]
    stall_s_max: float
    _look_again_s: float = 0.0
    _workers: list[_Worker] = field(default_factory=list)
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _serving: bool = False
    _ending: bool = False

    def run(self) -> None:
        """Start all, watch them until SIGINT or SIGTERM, end all. Raises IsochroneError if that fails."""
        self._workers = [_Worker(number, Watch(self.stall_s_max)) for number in range(self.count)]
        with self._signals():
            try:
                for worker in self._workers:
                    self._start(worker)
                while not self._ending:
                    self._turn()
            finally:
                self._end()

    # -- one turn ------------------------------------------------------------------------------------

    def _turn(self) -> None:
        now_s = time.monotonic()
        again_s = min([worker.again_s for worker in self._workers if worker.pid is None], default=inf)
        for key, _ in self._selector.select(max(0.0, min(again_s, self._look_again_s) - now_s)):
            if isinstance(key.data, _Worker):
                self._heard(key.data)
            else:
                self._signalled(key.data.recv(4096))
        self._look()
        self._reap()
        if not self._ending:
            self._start_again()

    def _look(self) -> None:
        """End who stands still; what follows is as if it had died."""
        now_s = time.monotonic()
        if now_s < self._look_again_s:
            return
        self._look_again_s = now_s + LOOK_S
        for worker in self._workers:
            if worker.pid is None or worker.stalled:
                continue
            if worker.watch.look(self.table.beats.cells[worker.number]):
                log(f"worker {worker.number} has stood still for {worker.watch.still_s:g} s and is ended")
                os.kill(worker.pid, signal.SIGKILL)
                worker.stalled = True

    def _heard(self, worker: _Worker) -> None:
        worker.ready = bool(os.read(worker.pipe, 1)) if worker.pipe is not None else False
        self._close_pipe(worker)
        if not self._serving and all(worker.ready for worker in self._workers):
            self._serving = True
            self.on_ready()

    def _signalled(self, numbers: bytes) -> None:
        self._ending = self._ending or any(number in _ENDING for number in numbers)

    def _reap(self) -> None:
        for worker in self._workers:
            if worker.pid is None or (status := _ended(worker.pid)) is None:
                continue
            self._close_pipe(worker)
            self.table.empty(worker.number)
            worker.pid, worker.ready = None, False
            if self._ending:
                continue
            if not self._serving:
                raise IsochroneError(f"worker {worker.number} ended before it was ready (status {status})")
            now_s = time.monotonic()
            worker.failures = 1 if now_s - worker.begun_s > _LONG_S else worker.failures + 1
            pause_s = min(_PAUSE_S * 2 ** (worker.failures - 1), _PAUSE_S_MAX)
            worker.again_s = now_s + pause_s
            how = "was ended" if worker.stalled else f"ended by itself (status {status})"
            log(f"worker {worker.number} {how}; started again in {pause_s:.1f} s")

    def _start_again(self) -> None:
        now_s = time.monotonic()
        for worker in self._workers:
            if worker.pid is None and now_s >= worker.again_s:
                self._start(worker)

    # -- starting and ending -------------------------------------------------------------------------

    def _start(self, worker: _Worker) -> None:
        worker.watch.born(self.table.beats.cells[worker.number])
        told, tells = os.pipe()
        bind = die_with_parent(signal.SIGTERM)
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            os.close(told)
            self._be(worker.number, tells, bind)
        os.close(tells)
        worker.pid, worker.begun_s, worker.pipe = pid, time.monotonic(), told
        worker.stalled = False
        self._selector.register(told, selectors.EVENT_READ, worker)

    def _be(self, number: int, tells: int, bind: Callable[[], None] | None) -> None:
        """What follows is a worker's life. Nothing of the supervisor's may run in it, hence `_exit`."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for ending in _ENDING:
                signal.signal(ending, signal.SIG_DFL)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            if bind is not None:
                bind()
            self._selector.close()
            for other in self._workers:
                if other.pipe is not None:
                    os.close(other.pipe)
            self.table.take(number)
            self.work(number, lambda: _tell(tells))
            status = 0
        except (IsochroneError, OSError) as error:
            log(f"worker {number}: {error}")
        finally:
            unforeseen = sys.exc_info()
            if unforeseen[0] is not None:  # nobody above will tell
                sys.excepthook(*unforeseen)
            with contextlib.suppress(OSError):
                sys.stderr.flush()
            os._exit(status)

    def _end(self) -> None:
        """All, politely first, then at once."""
        self._ending = True
        until_s = time.monotonic() + _GRACE_S
        self._kill(signal.SIGTERM)
        while any(worker.pid is not None for worker in self._workers):
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                self._kill(signal.SIGKILL)
            for key, _ in self._selector.select(max(left_s, 0.01)):
                if isinstance(key.data, _Worker):
                    self._close_pipe(key.data)
                else:
                    key.data.recv(4096)
            self._reap()

    def _kill(self, number: signal.Signals) -> None:
        for worker in self._workers:
            if worker.pid is not None:
                os.kill(worker.pid, number)

    def _close_pipe(self, worker: _Worker) -> None:
        if worker.pipe is not None:
            self._selector.unregister(worker.pipe)
            os.close(worker.pipe)
            worker.pipe = None

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Signals come as bytes on a socket, between two turns."""
        ours, theirs = socket.socketpair()
        numbers = (*_ENDING, signal.SIGCHLD)
        with ours, theirs:
            for end in (ours, theirs):
                end.setblocking(False)
            self._selector.register(ours, selectors.EVENT_READ, ours)
            before = [signal.signal(number, lambda *_: None) for number in numbers]
            signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
            try:
                yield
            finally:
                signal.set_wakeup_fd(-1)
                for number, handler in zip(numbers, before, strict=True):
                    signal.signal(number, handler)
                self._selector.close()


@contextlib.contextmanager
def shared_port(host: str, port: int) -> Iterator[int]:
    """A port for several processes of ours, and nobody else: held, but not listened to. Raises OSError."""
    with contextlib.ExitStack() as held:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in found:
            with socket.socket(family, kind, protocol) as alone:  # SO_REUSEPORT would join another gateway
                _prepare(alone)
                alone.bind((address[0], port, *address[2:]))
            holding = held.enter_context(socket.socket(family, kind, protocol))
            _prepare(holding)
            holding.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            holding.bind((address[0], port, *address[2:]))
            port = int(holding.getsockname()[1])
        yield port


def _prepare(listener: socket.socket) -> None:
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if listener.family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)


def _ended(pid: int) -> int | None:
    """The exit status of a child (below 0: the signal that killed it), None while it lives."""
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def _tell(pipe: int) -> None:
    os.write(pipe, b"1")
    os.close(pipe)
