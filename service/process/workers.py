"""Several server processes on one port: started, placed on cores of their own, and replaced when they die."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import parent_process

from prometheus_client.multiprocess import mark_process_dead
from starlette.types import ASGIApp
from uvicorn.config import STARTUP_FAILURE
from uvicorn.importer import import_from_string
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

from service.process.tls import ServerTls

log = logging.getLogger(__name__)

_TURN_S = 0.2
"""How long a signal may wait while workers are ending."""
_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0
"""Before a worker that died soon after its start is started again; doubled each time in a row."""
_START_S = 180.0
"""How long a worker may take to give its first sign of life: imports from a cold disk, on a busy machine."""
_LASTING_S = 60.0
"""A worker that ran so long before it died is replaced at once."""


def core_groups(cores: Sequence[int], workers: int) -> list[set[int]]:
    """The cores that each of so many workers gets: as even as can be, neighbours together, shared where too few."""
    if workers >= len(cores):
        return [{cores[n % len(cores)]} for n in range(workers)]
    bounds = [n * len(cores) // workers for n in range(workers + 1)]
    return [set(cores[low:high]) for low, high in pairwise(bounds)]


@dataclass(slots=True)
class _Post:
    """A worker's place. started: when its last process was, monotonic. asked, answered: whether that was asked for a
    sign of life for the first time, and gave it. due: when the next one may start, once it is dead. deaths: soon after
    their start, in a row.
    """

    started: float
    asked: bool = False
    answered: bool = False
    due: float | None = None
    deaths: int = 0

    def died(self, now: float) -> float:
        """Note a death. Returns the seconds to pause."""
        self.deaths = 0 if now - self.started >= _LASTING_S else self.deaths + 1
        pause = min(_PAUSE_S * 2.0 ** min(self.deaths - 2, 10), _LONGEST_PAUSE_S) if self.deaths > 1 else 0.0
        self.due = now + pause
        return pause


class Workers(Multiprocess):
    """uvicorn's supervisor, whose workers do not compete for cores and leave nothing behind.

    failed: whether they have ended because none could start. SIGHUP goes to the workers, which read their files again.
    """

    failed = False

    def run(self) -> None:
        """Serve until SIGTERM or Ctrl-C, or until no worker can start. Leaves no worker behind, also when it raises."""
        try:
            super().run()
        finally:
            for process in self.processes:
                if process.pid is not None and process.exitcode is None:
                    process.process.kill()

    def init_processes(self) -> None:
        """Start them."""
        self._groups = core_groups(sorted(os.sched_getaffinity(0)), self.processes_num)
        self._posts: list[_Post] = []
        self._served = False
        for number in range(self.processes_num):
            self.processes.append(self._started(number))
            self._posts.append(_Post(time.monotonic()))

    def keep_subprocess_alive(self) -> None:
        """Replace those that died or hang. Ends all where the first ones cannot start."""
        for number, process in enumerate(self.processes):
            if self.should_exit.is_set():
                return
            post = self._posts[number]
            if post.due is None:
                if self._lives(process, post):
                    continue
                self._bury(process, post)
            if post.due is not None and time.monotonic() >= post.due and not self.should_exit.is_set():
                self._replace(number, post)

    def handle_hup(self) -> None:
        """Pass the signal on: nobody is restarted, and no connection is lost."""
        for process in self.processes:
            if process.pid is not None and process.exitcode is None:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGHUP)

    def handle_ttin(self) -> None:
        """Start nobody: how many workers there are is a setting."""

    def handle_ttou(self) -> None:
        """End nobody."""

    def terminate_all(self) -> None:
        """Tell them to end. Who still comes once they take nobody is refused, and need not wait for the slowest."""
        super().terminate_all()
        for listening in self.sockets:
            listening.close()

    def join_all(self) -> None:
        """Wait until all have ended. A signal that comes meanwhile is told to them too, and makes them hurry."""
        for process in self.processes:
            while process.exitcode is None:
                process.process.join(_TURN_S)
                if self.signal_queue:
                    self.signal_queue.clear()
                    super().terminate_all()

    def _lives(self, process: Process, post: _Post) -> bool:
        """Whether a worker gives signs of life. It gives none while Python starts, which may take long."""
        patience = self.config.timeout_worker_healthcheck
        if not process.process.is_alive():
            return False
        if post.answered:
            self._served = self._served or process.is_ready(patience)
            return process.ping(patience)
        try:
            if not post.asked:
                process.parent_conn.send(b"ping")
                post.asked = True
            if process.parent_conn.poll(0):
                process.parent_conn.recv()
                post.answered = True
        except (OSError, EOFError):
            return False
        return post.answered or time.monotonic() - post.started < _START_S

    def _bury(self, process: Process, post: _Post) -> None:
        process.kill()  # it may hang
        process.join()
        mark_process_dead(process.pid)  # type: ignore[no-untyped-call]  # its gauges would count for ever
        if process.exitcode == STARTUP_FAILURE and not self._served:
            log.error(
                "worker %s could not start; the server ends, as another one would fail in the same way", process.pid
            )
            self.failed = True
            self.should_exit.set()
            return
        pause = post.died(time.monotonic())
        log.error("worker %s died (status %s); another starts in %.0f s", process.pid, process.exitcode, pause)

    def _replace(self, number: int, post: _Post) -> None:
        try:
            process = self._started(number)
        except OSError as error:  # no more processes, memory or descriptors
            pause = post.died(time.monotonic())
            log.error("a worker cannot be started (%s); it is tried again in %.0f s", error.strerror, pause)
            return
        self.processes[number] = process
        self._posts[number] = _Post(time.monotonic(), deaths=post.deaths)

    def _started(self, number: int) -> Process:
        """A new worker on its cores, long before it opens a network, which counts what it may use."""
        process = Process(self.config, self.sockets)
        with _ignored(signal.SIGHUP):  # which would end a process that does not handle it yet
            process.start()
        if process.pid is not None:
            try:
                os.sched_setaffinity(process.pid, self._groups[number % len(self._groups)])
            except ProcessLookupError:
                pass  # it has died already, as will be found
            except OSError as error:  # some containers deny it
                log.warning("worker %s runs on any core: %s", process.pid, error.strerror)
        return process


@contextmanager
def _ignored(number: int) -> Iterator[None]:
    """A signal that processes which are started meanwhile ignore until they handle it."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, before)


@dataclass(frozen=True, slots=True)
class Application:
    """Makes the application in each process, as uvicorn wants it. tls: of all connections, None for plain HTTP.

    A worker unpickles it before it can give a sign of life, so what takes long to import is imported when it is called.
    """

    factory: str
    """The function that makes the application, as "module:name"; it is called with `tls`."""
    tls: ServerTls | None = None

    def __call__(self) -> ASGIApp:
        """Import the factory and call it."""
        factory: Callable[[ServerTls | None], ASGIApp] = import_from_string(self.factory)
        return factory(self.tls)


def end_with_supervisor(patience: float) -> None:
    """In a worker: end when the supervisor is gone, as after SIGTERM; or at once if that takes `patience` seconds."""
    supervisor = parent_process()
    if supervisor is None:
        return

    def watch() -> None:
        supervisor.join()  # a pipe tells, which the supervisor holds for as long as it lives
        log.error("the supervisor is gone, and this worker ends")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(patience)
        os._exit(1)

    threading.Thread(target=watch, name="posewire-supervisor", daemon=True).start()
