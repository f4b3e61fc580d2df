"""Workers as actors of a Ray cluster.

Plain actors, not ray.data: a shard is published by its worker and never comes back as data, a task that is run again
must leave out what killed its worker, and what is done must be known after a crash of everything. ray.data runs a
failed block again as it was, and knows nothing of it in the next run.
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

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when ray is imported: nothing is sent anywhere
try:
    import ray
    from ray.exceptions import RayActorError, RayError, RayTaskError
except ModuleNotFoundError as error:
    raise BulkError("--ray needs Ray: pip install 'posewire[ray]'") from error

_KNOCK_S = 5.0
_STORE_BYTES = 100 << 20
"""Memory for objects in a cluster of our own: tasks and summaries are small."""


class RayWorkerPool(BulkWorkerPool):
    """Actors on the cluster that RAY_ADDRESS names, or else on one that lives on this machine while they do.

    size: None takes all of the cluster's cores. gpus: the part of a GPU that each actor takes, on top of one core.
    """

    def __init__(self, job: BulkJob, size: int | None, gpus: float) -> None:
        """Raises BulkError where there is no such cluster, or nothing in it for an actor."""
        self._job = job
        self._gpus = gpus
        self._actors: dict[int, Any] = {}
        self._tasks: dict[Any, int] = {}
        address = os.environ.get("RAY_ADDRESS", "local")
        _knock(address)
        cores = size or usable_cores()
        own: dict[str, Any] = {"num_cpus": cores, "include_dashboard": False, "object_store_memory": _STORE_BYTES}
        try:
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **(own if address == "local" else {}))
        except (ConnectionError, RuntimeError, ValueError, RayError) as error:
            raise BulkError(f"the Ray cluster at {address} lets nobody in (see RAY_AUTH_MODE): {error}") from error
        there = cast("Callable[[], dict[str, float]]", ray.cluster_resources)()  # which has no types
        room = int(there.get("CPU", 0))
        if gpus:
            room = min(room, int(there.get("GPU", 0) / gpus))
        if not room:
            ray.shutdown()
            raise BulkError(f"the Ray cluster has no room for a worker of 1 core and {gpus:g} GPU")
        self.size = min(size or room, room)  # an actor more would wait for its turn, and its shard with it

    def give(self, worker: int, task: Task) -> None:
        if worker not in self._actors:
            settings = {name: value for name, value in os.environ.items() if name.startswith("POSEWIRE_")}
            actor = ray.remote(num_cpus=1, num_gpus=self._gpus, max_restarts=0)(_Actor)
            self._actors[worker] = actor.remote(self._job, settings)
        self._tasks[self._actors[worker].do.remote(task)] = worker

    def wait(self, seconds: float) -> Mapping[int, Outcome]:
        ready, _ = ray.wait(list(self._tasks), num_returns=1, timeout=seconds)
        return {self._tasks[task]: self._hear(task) for task in ready}

    def close(self) -> None:
        ray.shutdown()

    def _hear(self, task: Any) -> Outcome:
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


def _knock(address: str) -> None:
    """Raises BulkError where nobody listens, which Ray would find out after minutes."""
    host, _, port = address.rpartition(":")
    if not host or "/" in address or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), _KNOCK_S).close()
    except OSError as error:
        raise BulkError(f"there is no Ray cluster at {address}, which RAY_ADDRESS names: {error}") from error


class _Actor:
    """A worker that opens its model with its first task, so that it can say what is wrong with it."""

    def __init__(self, job: BulkJob, settings: Mapping[str, str]) -> None:
        os.environ.update(settings)
        self._job = job
        self._worker: ShardWorker | None = None

    def do(self, task: Task) -> Summary:
        """See `ShardWorker.do`."""
        self._worker = self._worker or ShardWorker(self._job)
        return self._worker.do(task)
