"""Workers as processes of this machine."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing import connection, get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from queue import SimpleQueue

from service.offline.bulk.errors import BulkError
from service.offline.bulk.worker import BulkJob, ShardWorker, Task
from service.offline.bulk.worker_pool import Broken, BulkWorkerPool, Lost, Outcome


class LocalWorkerPool(BulkWorkerPool):
    """A process starts with its first task, and another takes its place when it dies."""

    def __init__(self, job: BulkJob, size: int) -> None:
        self.size = size
        self._job = job
        self._hired: dict[int, _Hired] = {}
        self._busy: set[int] = set()

    def give(self, worker: int, task: Task) -> None:
        self._busy.add(worker)
        if worker not in self._hired:
            self._hired[worker] = _hire(self._job, worker)
        try:
            self._hired[worker].line.send(task)
        except BrokenPipeError:  # it died idle: `wait` will find it lost
            return

    def wait(self, seconds: float) -> Mapping[int, Outcome]:
        lines = {self._hired[worker].line: worker for worker in self._busy}
        ready = [line for line in connection.wait(list(lines), seconds) if isinstance(line, Connection)]
        self._busy.difference_update(lines[line] for line in ready)
        return {lines[line]: self._hear(lines[line]) for line in ready}

    def close(self) -> None:
        for hired in self._hired.values():
            hired.process.kill()
        for hired in self._hired.values():
            hired.process.join()
            hired.line.close()

    def _hear(self, worker: int) -> Outcome:
        hired = self._hired[worker]
        try:
            outcome: Outcome = hired.line.recv()
        except (EOFError, ConnectionResetError):
            hired.process.join()
            hired.line.close()
            del self._hired[worker]
            return Lost(_how(hired.process.exitcode))
        return outcome


@dataclass(frozen=True, slots=True)
class _Hired:
    process: SpawnProcess
    line: Connection


def _hire(job: BulkJob, worker: int) -> _Hired:
    context = get_context("spawn")  # a fork would share locks of threads that it does not have
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(job, theirs), name=f"posewire-batch-{worker}")
    process.start()
    theirs.close()
    return _Hired(process, ours)


def _work(job: BulkJob, line: Connection) -> None:
    """What a worker process does, until whoever started it is gone or kills it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the first one ends the others
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
    """Take tasks; end the process, even in the middle of one, when nobody is there any more to give them."""
    try:
        while True:
            tasks.put(line.recv())
    except (EOFError, OSError):
        pass  # the parent is gone
    finally:
        os._exit(1)  # after any other error, too: no task could arrive any more


def _how(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return f"killed by {signal.Signals(-exitcode).name}"
    return f"exit code {exitcode}"
