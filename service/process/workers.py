"""The supervisor of several server processes on one port: starts them on separate cores, and replaces dead ones."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise

from prometheus_client.multiprocess import mark_process_dead
from starlette.types import ASGIApp
from uvicorn.config import STARTUP_FAILURE
from uvicorn.importer import import_from_string
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

from service.process.tls import ServerTls

log = logging.getLogger(__name__)

_POLL_S = 0.2
"""Seconds between two checks for signals while workers are ending."""
_DELAY_S, _MAX_DELAY_S = 1.0, 30.0
"""Delay before a worker that died soon after its start is replaced; doubled for each such death in a row."""
_START_S = 180.0
"""Timeout of a worker's first answer to a ping: imports from a cold disk on a busy machine are slow."""
_STABLE_S = 60.0
"""A worker that ran this long before it died is replaced at once."""


def core_groups(cores: Sequence[int], workers: int) -> list[set[int]]:
    """Divide cores evenly among workers, neighbouring cores together. Workers share cores if there are too few."""
    if workers >= len(cores):
        return [{cores[n % len(cores)]} for n in range(workers)]
    bounds = [n * len(cores) // workers for n in range(workers + 1)]
    return [set(cores[low:high]) for low, high in pairwise(bounds)]


@dataclass(slots=True)
class _WorkerSlot:
    """The state of one worker and its replacements. Times are monotonic.

    started: when its current process was started. pinged, answered: whether this process was sent its first ping, and
    answered it. due: when a replacement may start; None while the process lives. deaths: how many processes in a row
    died soon after their start.
    """

    started: float
    pinged: bool = False
    answered: bool = False
    due: float | None = None
    deaths: int = 0

    def died(self, now: float) -> float:
        """Record a death, and return the seconds until a replacement may start."""
        self.deaths = 0 if now - self.started >= _STABLE_S else self.deaths + 1
        delay = min(_DELAY_S * 2.0 ** min(self.deaths - 2, 10), _MAX_DELAY_S) if self.deaths > 1 else 0.0
        self.due = now + delay
        return delay


class Workers(Multiprocess):
    """uvicorn's supervisor, with workers on separate cores, restart delays, and SIGHUP as a reload in each worker.

    failed: whether the server has ended because no worker could start.
    """

    failed = False

    def run(self) -> None:
        """Serve until SIGTERM or Ctrl-C, or until no worker can start. Kill the remaining workers in any case."""
        try:
            super().run()
        finally:
            for process in self.processes:
                if process.pid is not None and process.exitcode is None:
                    process.process.kill()

    def init_processes(self) -> None:
        self._groups = core_groups(sorted(os.sched_getaffinity(0)), self.processes_num)
        self._slots: list[_WorkerSlot] = []
        self._served = False
        for number in range(self.processes_num):
            self.processes.append(self._start_worker(number))
            self._slots.append(_WorkerSlot(time.monotonic()))

    def keep_subprocess_alive(self) -> None:
        """Replace workers that died or hang. End the server if a worker fails to start before any has served."""
        for number, process in enumerate(self.processes):
            if self.should_exit.is_set():
                return
            slot = self._slots[number]
            if slot.due is None:
                if self._is_responsive(process, slot):
                    continue
                self._remove(process, slot)
            if slot.due is not None and time.monotonic() >= slot.due and not self.should_exit.is_set():
                self._replace(number, slot)

    def handle_hup(self) -> None:
        """Pass SIGHUP on to the workers. None is restarted, and no connection is lost."""
        self._send_all(signal.SIGHUP)

    def handle_ttin(self) -> None:
        """Ignore the signal: the number of workers is a setting."""

    handle_ttou = handle_ttin

    def terminate_all(self) -> None:
        """Send SIGTERM to the workers, and close the listening sockets, so that late clients are refused at once."""
        super().terminate_all()
        for listening in self.sockets:
            listening.close()

    def join_all(self) -> None:
        """Wait until all workers have ended. A signal that arrives until then ends their drain.

        It is passed on repeatedly: a worker that has not handled SIGTERM yet would take a second one for the same.
        """
        hurried = False
        for process in self.processes:
            while process.exitcode is None:
                process.process.join(_POLL_S)
                hurried = hurried or bool(self.signal_queue)
                if hurried:
                    self._send_all(signal.SIGTERM)

    def _send_all(self, number: signal.Signals) -> None:
        for process in self.processes:
            if process.pid is not None and process.exitcode is None:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, number)

    def _is_responsive(self, process: Process, slot: _WorkerSlot) -> bool:
        """Return whether a worker answers pings. A process whose Python is still starting cannot, for `_START_S`."""
        timeout = self.config.timeout_worker_healthcheck
        if not process.process.is_alive():
            return False
        if slot.answered:
            self._served = self._served or process.is_ready(timeout)
            return process.ping(timeout)
        try:
            if not slot.pinged:
                process.parent_conn.send(b"ping")
                slot.pinged = True
            if process.parent_conn.poll(0):
                process.parent_conn.recv()
                slot.answered = True
        except (OSError, EOFError):
            return False
        return slot.answered or time.monotonic() - slot.started < _START_S

    def _remove(self, process: Process, slot: _WorkerSlot) -> None:
        process.kill()  # it may hang
        process.join()
        mark_process_dead(process.pid)  # type: ignore[no-untyped-call]  # otherwise its gauges would be counted forever
        if process.exitcode == STARTUP_FAILURE and not self._served:
            log.error(
                "worker %s could not start; the server ends, as another one would fail in the same way", process.pid
            )
            self.failed = True
            self.should_exit.set()
            return
        delay = slot.died(time.monotonic())
        log.error("worker %s died (status %s); another starts in %.0f s", process.pid, process.exitcode, delay)

    def _replace(self, number: int, slot: _WorkerSlot) -> None:
        try:
            process = self._start_worker(number)
        except OSError as error:  # no processes, memory or file descriptors left
            delay = slot.died(time.monotonic())
            log.error("a worker cannot be started (%s); it is tried again in %.0f s", error.strerror, delay)
            return
        self.processes[number] = process
        self._slots[number] = _WorkerSlot(time.monotonic(), deaths=slot.deaths)

    def _start_worker(self, number: int) -> Process:
        """Start a worker on its cores. Networks, which are opened much later, use the cores of their process."""
        process = Process(self.config, self.sockets)
        with _ignoring(signal.SIGHUP):  # it would end a process that does not handle it yet
            process.start()
        process.child_conn.close()  # otherwise a ping would wait in vain for the answer of a worker that has just died
        if process.pid is not None:
            try:
                os.sched_setaffinity(process.pid, self._groups[number % len(self._groups)])
            except ProcessLookupError:
                pass  # it has died already; the next round replaces it
            except OSError as error:  # some containers deny the call
                log.warning("worker %s runs on any core: %s", process.pid, error.strerror)
        return process


@contextmanager
def _ignoring(number: int) -> Iterator[None]:
    """Ignore a signal inside the context. Child processes inherit this, and ignore it until they install a handler."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, before)


@dataclass(frozen=True, slots=True)
class Application:
    """uvicorn's application factory. tls: None for plain HTTP.

    Workers unpickle it before they can answer a ping, so slow imports wait until it is called.
    """

    factory: str
    """The function that makes the application, as "module:name"; it is called with `tls`."""
    tls: ServerTls | None = None

    def __call__(self) -> ASGIApp:
        factory: Callable[[ServerTls | None], ASGIApp] = import_from_string(self.factory)
        return factory(self.tls)
