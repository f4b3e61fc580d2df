"""The worker pool on a Ray cluster. Workers are actors.

It uses plain actors, not ray.data: workers publish the results of shards themselves and never return them, a repeated
task must leave out the file that killed its worker, and finished work must be known after a crash. ray.data repeats a
failed block unchanged, and keeps no state between runs.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Mapping
from typing import Any, cast

from engines.cores import usable_cores
from service.offline.bulk.errors import BulkError
from service.offline.bulk.shards import Summary
from service.offline.bulk.worker import BulkJob, ShardWorker, Task
from service.offline.bulk.worker_pool import Broken, BulkWorkerPool, Lost, Outcome

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when ray is imported; disables telemetry
try:
    import ray
    from ray.exceptions import RayActorError, RayError, RayTaskError
except ModuleNotFoundError as error:
    raise BulkError("--ray needs Ray: pip install 'posewire[ray]'") from error

_CONNECT_S = 5.0
_STORE_BYTES = 100 << 20
"""Memory for objects in a local cluster: tasks and summaries are small."""


class RayWorkerPool(BulkWorkerPool):
    """Actors on the cluster that RAY_ADDRESS names, or else on a local cluster that ends with the pool.

    size: number of actors; None for one per core of the cluster. gpus: share of a GPU per actor, beside its core.
    """

    def __init__(self, job: BulkJob, size: int | None, gpus: float) -> None:
        """Raises BulkError if there is no such cluster, or no room in it for an actor."""
        self._job = job
        self._gpus = gpus
        self._actors: dict[int, Any] = {}
        self._tasks: dict[Any, int] = {}
        address = os.environ.get("RAY_ADDRESS", "local")
        _check_reachable(address)
        cores = size or usable_cores()
        own: dict[str, Any] = {"num_cpus": cores, "include_dashboard": False, "object_store_memory": _STORE_BYTES}
        try:
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **(own if address == "local" else {}))
        except (ConnectionError, RuntimeError, ValueError, RayError) as error:
            raise BulkError(f"the Ray cluster at {address} lets nobody in (see RAY_AUTH_MODE): {error}") from error
        there = cast("Callable[[], dict[str, float]]", ray.cluster_resources)()  # untyped in ray
        room = int(there.get("CPU", 0))
        if gpus:
            room = min(room, int(there.get("GPU", 0) / gpus))
        if not room:
            ray.shutdown()
            raise BulkError(f"the Ray cluster has no room for a worker of 1 core and {gpus:g} GPU")
        self.size = min(size or room, room)  # an additional actor, and its shard, would wait

    def give(self, worker: int, task: Task) -> None:
        if worker not in self._actors:
            settings = {name: value for name, value in os.environ.items() if name.startswith("POSEWIRE_")}
            actor = ray.remote(num_cpus=1, num_gpus=self._gpus, max_restarts=0)(_Actor)
            self._actors[worker] = actor.remote(self._job, settings)
        self._tasks[self._actors[worker].do.remote(task)] = worker

    def wait(self, seconds: float) -> Mapping[int, Outcome]:
        ready, _ = ray.wait(list(self._tasks), num_returns=1, timeout=seconds)
        return {self._tasks[task]: self._outcome(task) for task in ready}

    def close(self) -> None:
        ray.shutdown()

    def _outcome(self, task: Any) -> Outcome:
        worker = self._tasks.pop(task)
        try:
            summary: Summary = ray.get(task)
        except RayTaskError as error:
            if isinstance(error.cause, BulkError):
                return Broken(str(error.cause))
            ray.kill(self._actors.pop(worker))
            return Lost(str(error.cause))
        except RayActorError as error:
            del self._actors[worker]
            return Lost(str(error).splitlines()[0])
        return summary


def _check_reachable(address: str) -> None:
    """Raises BulkError if nothing listens at the address. Ray itself would report that after minutes."""
    host, _, port = address.rpartition(":")
    if not host or "/" in address or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), _CONNECT_S).close()
    except OSError as error:
        raise BulkError(f"there is no Ray cluster at {address}, which RAY_ADDRESS names: {error}") from error


class _Actor:
    """The actor. It opens its model with the first task, so that errors are returned as the task's outcome."""

    def __init__(self, job: BulkJob, settings: Mapping[str, str]) -> None:
        os.environ.update(settings)
        self._job = job
        self._worker: ShardWorker | None = None

    def do(self, task: Task) -> Summary:
        self._worker = self._worker or ShardWorker(self._job)
        return self._worker.do(task)
