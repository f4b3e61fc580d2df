"""The targets of attacks: one server, or two replicas behind HAProxy, each with its own cores and 2 GiB."""

from __future__ import annotations

import csv
import os
import resource
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx

from tests.benchmarks.attacks.surfaces import CAMERA
from tests.benchmarks.cgroups import MemoryGroup, memory_group
from tests.camera_servers import HttpCamera
from tests.deployment.fleet import Fleet
from tests.deployment.programs import find
from tests.redis_servers import RedisProcess
from tests.servers import ServerProcess
from tests.waiting import wait_for

Way = Literal["direct", "haproxy"]

LIMIT = 2 << 30
"""Memory of each replica in bytes."""
_CORES = 2
_OPEN_FILES = 4096
"""Small enough for an attacker's connections to use all of them."""


@dataclass(frozen=True, slots=True)
class Held:
    """The resources of all replicas' processes at one time. memory: bytes."""

    files: int
    threads: int
    memory: int


@dataclass(frozen=True, slots=True)
class Deployment:
    """A running deployment. host, port: its front door. fleet: set if HAProxy is in front."""

    way: Way
    host: str
    port: int
    replicas: Sequence[ServerProcess]
    groups: Sequence[MemoryGroup]
    fleet: Fleet | None = None

    @property
    def doors(self) -> list[tuple[str, int]]:
        """The targets of probes: the front door, and each replica behind it."""
        replicas = [(replica.host, replica.port) for replica in self.replicas]
        return replicas if self.fleet is None else [(self.host, self.port), *replicas]

    @property
    def alive(self) -> bool:
        """True if all replicas are running."""
        return all(replica.process.poll() is None for replica in self.replicas)

    def downs(self) -> int:
        """The number of times that HAProxy has marked a replica as down."""
        if self.fleet is None:
            return 0
        # Its runtime socket answers even where an attacker has all connections.
        text = self.fleet.balancer.command("show stat").removeprefix("# ")
        rows = [row for row in csv.DictReader(text.splitlines()) if row["pxname"] in ("stills", "streams")]
        return sum(int(row["chkdown"] or 0) for row in rows if row["svname"] != "BACKEND")

    def kills(self) -> int:
        """The number of processes that the OOM killer has ended."""
        return sum(group.kills() for group in self.groups)

    def usage(self) -> int:
        """Bytes in use by the largest replica."""
        return max(group.usage() for group in self.groups)

    def peak(self) -> int:
        """The largest replica's peak in bytes since `reset_peak`; 0 if the kernel does not record it."""
        return max(group.peak() for group in self.groups)

    def reset_peak(self) -> None:
        """Reset the peak."""
        for group in self.groups:
            group.reset()

    def held(self) -> Held:
        """The current resources of all replicas' processes."""
        pids = [pid for group in self.groups for pid in group.pids()]
        return Held(
            files=sum(_count(pid, "fd") for pid in pids),
            threads=sum(_count(pid, "task") for pid in pids),
            memory=sum(group.usage() for group in self.groups),
        )


@contextmanager
def deployed(
    way: Way, *arguments: str, catalogue: Path | None = None, environment: Mapping[str, object] | None = None
) -> Iterator[Deployment]:
    """Start a deployment, which ends with the context. arguments, catalogue, environment: see `ServerProcess`."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        environment = {"cameras": _camera_file(folder, stack.enter_context(HttpCamera()).url), **(environment or {})}
        size = 1 if way == "direct" else 2
        groups = [stack.enter_context(memory_group(LIMIT)) for _ in range(size)]
        prefixes = [[*group.prefix, *_prefix(number, size)] for number, group in enumerate(groups)]
        if way == "direct":
            server = ServerProcess(*arguments, catalogue=catalogue, environment=environment, prefix=prefixes[0])
            stack.enter_context(server)
            groups[0].attach(server.process.pid)
            _wait_for_camera(server)
            yield Deployment(way, server.host, server.port, [server], groups)
            return
        environment = {"proxies": "*", **environment}
        if find("redis-server"):
            environment["redis_url"] = stack.enter_context(RedisProcess(folder)).url
        fleet = stack.enter_context(
            Fleet(2, *arguments, catalogue=catalogue, environment=environment, prefixes=prefixes)
        )
        for group, replica in zip(groups, fleet.replicas, strict=True):
            group.attach(replica.process.pid)
            _wait_for_camera(replica)
        yield Deployment(way, "127.0.0.1", fleet.port, fleet.replicas, groups, fleet)


def _camera_file(folder: Path, url: str) -> Path:
    """Write a file with one camera, of so few frames that it disturbs no measurement."""
    path = folder / "cameras.toml"
    path.write_text(f'[cameras.{CAMERA}]\nsource = "{url}"\nfps = 1\n', "utf-8")
    return path


def _wait_for_camera(server: ServerProcess) -> None:
    """Wait until the camera is served, with all processes that it needs."""
    wait_for(lambda: httpx.get(f"{server.url}/cameras/{CAMERA}/picture.jpg", timeout=30).is_success, 120)


def _prefix(number: int, size: int) -> list[str]:
    """Few open files, and separate cores for each replica: two, or its share of them on a small machine.

    Replicas that shared cores would not be fair to each other's clients, and no deployment gives two the same ones.
    """
    files = min(_OPEN_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    cores = sorted(os.sched_getaffinity(0))
    each = max(1, min(_CORES, len(cores) // size))
    own = cores[number * each :][:each] or cores
    return ["sh", "-c", f'ulimit -n {files} && exec "$0" "$@"', "taskset", "-c", ",".join(map(str, own))]


def _count(pid: int, what: str) -> int:
    with suppress(OSError):  # it has just ended
        return sum(1 for _ in Path(f"/proc/{pid}/{what}").iterdir())
    return 0
