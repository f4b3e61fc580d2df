"""The worker pool of a batch: its interface, and processes of this machine. `ray_pool` has the one for Ray."""

from __future__ import annotations

import os
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing import connection, get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from queue import SimpleQueue

from service.offline.bulk.errors import BulkError
from service.offline.bulk.shards import Summary
from service.offline.bulk.worker import BulkJob, ShardWorker, Task


@dataclass(frozen=True, slots=True)
class Lost:
    """A worker died at its task, and another replaces it. how: a message for the user."""

    how: str


@dataclass(frozen=True, slots=True)
class Broken:
    """A worker cannot work at all, and neither could another. why: a message for the user."""

    why: str


Outcome = Summary | Lost | Broken


class BulkWorkerPool(ABC):
    """`size` workers, numbered from 0. Each does one task at a time."""

    size: int

    @abstractmethod
    def give(self, worker: int, task: Task) -> None:
        """Start a task on an idle worker."""

    @abstractmethod
    def wait(self, seconds: float) -> Mapping[int, Outcome]:
        """Wait up to `seconds` for outcomes. Returns those of the workers that have finished a task."""

    @abstractmethod
    def close(self) -> None:
        """Kill the workers."""


class LocalWorkerPool(BulkWorkerPool):
    """Processes of this machine. A process starts with its first task and is replaced when it dies."""

    def __init__(self, job: BulkJob, size: int) -> None:
        self.size = size
        self._job = job
        self._workers: dict[int, _Worker] = {}
        self._busy: set[int] = set()

    def give(self, worker: int, task: Task) -> None:
        self._busy.add(worker)
        if worker not in self._workers:
            self._workers[worker] = _start(self._job, worker)
        try:
            self._workers[worker].line.send(task)
        except BrokenPipeError:  # it died while idle, which `wait` reports as lost
            return

    def wait(self, seconds: float) -> Mapping[int, Outcome]:
        lines = {self._workers[worker].line: worker for worker in self._busy}
        ready = [line for line in connection.wait(list(lines), seconds) if isinstance(line, Connection)]
        self._busy.difference_update(lines[line] for line in ready)
        return {lines[line]: self._outcome(lines[line]) for line in ready}

    def close(self) -> None:
        for started in self._workers.values():
            started.process.kill()
        for started in self._workers.values():
            started.process.join()
            started.line.close()

    def _outcome(self, worker: int) -> Outcome:
        started = self._workers[worker]
        try:
            outcome: Outcome = started.line.recv()
        except (EOFError, ConnectionResetError):
            started.process.join()
            started.line.close()
            del self._workers[worker]
            return Lost(_cause_of_death(started.process.exitcode))
        return outcome


@dataclass(frozen=True, slots=True)
class _Worker:
    process: SpawnProcess
    line: Connection


def _start(job: BulkJob, worker: int) -> _Worker:
    context = get_context("spawn")  # a forked process would inherit locks held by other threads
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(job, theirs), name=f"posewire-batch-{worker}")
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _work(job: BulkJob, line: Connection) -> None:
    """The main function of a worker process. Runs until the parent kills it or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent kills the workers
    tasks: SimpleQueue[Task] = SimpleQueue()
    threading.Thread(target=_listen, args=(line, tasks), name="posewire-parent", daemon=True).start()
    worker: ShardWorker | None = None
    while True:
        task = tasks.get()
        try:
            worker = worker or ShardWorker(job)
            outcome: Outcome = worker.do(task)
        except BulkError as error:
            outcome = Broken(str(error))
        line.send(outcome)


def _listen(line: Connection, tasks: SimpleQueue[Task]) -> None:
    """Receive tasks. When the parent is gone, end the process, even in the middle of a task."""
    try:
        while True:
            tasks.put(line.recv())
    except (EOFError, OSError):
        pass  # the parent is gone
    finally:
        os._exit(1)  # also after any other error: no further task could arrive


def _cause_of_death(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return f"killed by {signal.Signals(-exitcode).name}"
    return f"exit code {exitcode}"
