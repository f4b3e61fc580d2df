"""The work without a server, as the limit of this machine. Prints its figures as one line of JSON.

python -m tests.benchmarks.peers.raw_loop CATALOGUE MODEL PHOTO SECONDS processes|pipelined|alone
"""

from __future__ import annotations

import json
import multiprocessing
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np

from tests.benchmarks.peers.tree import ProcessTree
from tests.benchmarks.peers.work import Prepared, Work

_WARM_UP = 50


@dataclass(frozen=True, slots=True)
class Figures:
    """latencies: seconds per photo. wall, cpu: seconds of the run, over all processes. batch: mean size."""

    latencies: list[float]
    wall: float
    cpu: float
    batch: float
    memory_mb: float


def alone(catalogue: Path, model: str, photo: bytes, seconds: float) -> Figures:
    """One photo after the other on one thread, with the network on all cores: the lowest latency."""
    work = Work(catalogue, model)
    for _ in range(_WARM_UP):
        work(photo)
    return _loop(work, photo, seconds)


def processes(catalogue: Path, model: str, photo: bytes, seconds: float) -> Figures:
    """One process per core, each with one thread that does everything."""
    cores = sorted(os.sched_getaffinity(0))
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(len(cores))
    results: multiprocessing.Queue[Figures] = context.Queue()
    arguments = (start, results, catalogue, model, photo, seconds)
    children = [context.Process(target=_on_core, args=(core, *arguments)) for core in cores]
    for child in children:
        child.start()
    figures = [results.get() for _ in children]
    for child in children:
        child.join()
    return Figures(
        latencies=[latency for each in figures for latency in each.latencies],
        wall=max(each.wall for each in figures),
        cpu=sum(each.cpu for each in figures),
        batch=1.0,
        memory_mb=sum(each.memory_mb for each in figures),
    )


def _on_core(
    core: int,
    start: Barrier,
    results: multiprocessing.Queue[Figures],
    catalogue: Path,
    model: str,
    photo: bytes,
    seconds: float,
) -> None:
    os.sched_setaffinity(0, {core})  # before the network is opened, so that it takes one thread
    work = Work(catalogue, model)
    for _ in range(_WARM_UP):
        work(photo)
    start.wait()
    results.put(_loop(work, photo, seconds))


def _loop(work: Work, photo: bytes, seconds: float) -> Figures:
    latencies = []
    cpu, begin = time.process_time(), time.perf_counter()
    started = begin
    while started < begin + seconds:
        work(photo)
        ended = time.perf_counter()
        latencies.append(ended - started)
        started = ended
    memory = ProcessTree(os.getpid()).memory_mb()
    return Figures(latencies, started - begin, time.process_time() - cpu, 1.0, memory)


def pipelined(catalogue: Path, model: str, photo: bytes, seconds: float) -> Figures:
    """One process: one thread per core prepares photos, and as many threads run batches of the prepared ones."""
    work = Work(catalogue, model)
    spec = work.runtime.spec
    prepared: queue.Queue[tuple[float, Prepared]] = queue.Queue(2 * spec.max_batch)
    latencies: list[float] = []
    batches: list[int] = []
    ended = threading.Event()

    def prepare() -> None:
        while not ended.is_set():
            started = time.perf_counter()
            prepared.put((started, work.prepare(photo)))

    def infer() -> None:
        while not ended.is_set():
            batch = [prepared.get()]
            while len(batch) < spec.max_batch:
                try:
                    batch.append(prepared.get_nowait())
                except queue.Empty:
                    break
            for (started, one), poses in zip(batch, work.infer([one for _, one in batch]), strict=True):
                work.answer(one, poses)
                latencies.append(time.perf_counter() - started)
            batches.append(len(batch))

    threads = [
        threading.Thread(target=target, daemon=True)
        for target, count in ((prepare, len(os.sched_getaffinity(0))), (infer, spec.concurrency))
        for _ in range(count)
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.5)  # warm up
    first, first_batch = len(latencies), len(batches)
    cpu, begin = time.process_time(), time.perf_counter()
    time.sleep(seconds)
    wall, cpu = time.perf_counter() - begin, time.process_time() - cpu
    counted, sizes = latencies[first:], batches[first_batch:]
    memory = ProcessTree(os.getpid()).memory_mb()
    ended.set()  # the threads are left where they wait; the process ends
    return Figures(counted, wall, cpu, float(np.mean(sizes)), memory)


_FORMS: dict[str, Callable[[Path, str, bytes, float], Figures]] = {
    "processes": processes,
    "pipelined": pipelined,
    "alone": alone,
}

if __name__ == "__main__":
    _, named, wanted, file, duration, form = sys.argv
    print(json.dumps(asdict(_FORMS[form](Path(named), wanted, Path(file).read_bytes(), float(duration)))), flush=True)
    os._exit(0)  # threads of the pipelined loop may hold the runtime still
