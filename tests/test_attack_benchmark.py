"""What the benchmarks of attacks and the soak measure with: limits, peaks, slopes and verdicts."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.benchmarks.attacks.attacker import Attacker
from tests.benchmarks.attacks.verdict import markdown, missed
from tests.benchmarks.cgroups import MemoryGroup, memory_group
from tests.benchmarks.report import Row
from tests.benchmarks.soak import theil_sen, usage_of
from tests.servers import ServerProcess

_LIMIT = 150_000_000
_HOLD = (
    "import sys; held = bytearray({0}); held[::4096] = b'x' * len(held[::4096]); print(flush=True); sys.stdin.read()"
)


@pytest.fixture
def group() -> Iterator[MemoryGroup]:
    with memory_group(_LIMIT) as made:
        yield made


def holding(group: MemoryGroup, size: int) -> subprocess.Popen[bytes]:
    """Start a process in the group, and return once it holds `size` bytes."""
    command = [*group.prefix, sys.executable, "-c", _HOLD.format(size)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    group.attach(process.pid)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_memory_of_a_group_is_what_its_processes_use(group: MemoryGroup) -> None:
    with holding(group, 80_000_000) as process:
        assert process.pid in group.pids()
        assert 80_000_000 < group.usage() < _LIMIT
        assert group.kills() == 0
        process.communicate()


def test_a_process_beyond_the_limit_is_ended_and_counted(group: MemoryGroup) -> None:
    if not group.kind.startswith("cgroup"):
        pytest.skip(group.kind)
    with holding(group, 2 * _LIMIT) as process:
        assert process.wait(20) < 0
    assert group.kills() == 1


def test_the_peak_is_forgotten_when_it_is_reset(group: MemoryGroup) -> None:
    with holding(group, 80_000_000) as process:
        process.communicate()
    if not group.peak():
        pytest.skip("this kernel keeps no record of the peak that can be reset")
    assert group.peak() > 80_000_000
    group.reset()
    assert group.peak() < 80_000_000


def test_a_look_at_a_process_sees_files_threads_and_shared_memory() -> None:
    before = usage_of([os.getpid()])
    descriptor = os.memfd_create("held")
    os.ftruncate(descriptor, 50_000_000)
    os.pwrite(descriptor, bytes(8_000_000), 0)
    after = usage_of([os.getpid()])
    os.close(descriptor)
    assert after.files == before.files + 1
    assert after.threads >= 1
    assert 8.0 <= after.shared - before.shared < 9.0  # what is in use, not what may be


def test_one_outlier_does_not_change_the_slope() -> None:
    times = [float(n) for n in range(50)]
    values = [3.0 + 0.25 * at for at in times]
    values[40] += 1000
    assert theil_sen(times, values) == pytest.approx(0.25)


def test_an_attack_ends_in_time_although_nobody_answers(server_that_never_accepts: int) -> None:
    attacker = Attacker("127.0.0.1", server_that_never_accepts, 0.3)
    attacker.begin()
    attacker.together(2, lambda: attacker.ask(b"GET / HTTP/1.1\r\n\r\n"))
    assert -1.0 < attacker.left <= 0


@pytest.fixture
def server_that_never_accepts() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0), backlog=1) as listening:
        yield listening.getsockname()[1]


_FINE: Row = {
    "attack": "nothing", "way": "direct", "requests": 50, "problems": {}, "livez s": 0.4, "downs": 0, "alive": True,
    "stills quiet p50": 20.0, "stills quiet p99": 30.0, "stills p50": 25.0, "stills p99": 109.0,
    "streams quiet p99": 40.0, "streams p99": 129.0, "memory MB": 900, "OOM kills": 0, "after stills p99": 31.0,
    "after streams p99": 42.0, "after problems": {}, "files more": 2, "threads more": 0, "MB more": 10,
    "attacker CPU %": 1.0, "attacker got": {"still open at the end": 3},
}  # fmt: skip


def test_what_keeps_all_promises_misses_nothing() -> None:
    assert missed(_FINE) == []
    assert markdown([_FINE]).splitlines()[-1].endswith("| - |")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stills p99": 111.0}, "stills p99 111 ms"),
        ({"streams p99": float("nan")}, "streams p99 nan ms"),
        ({"livez s": 0.51}, "/livez 0.51 s"),
        ({"downs": 1}, "marked down 1 times"),
        ({"memory MB": 2148}, "memory 2148 MB, 0 OOM kills"),
        ({"OOM kills": 1}, "memory 900 MB, 1 OOM kills"),
        ({"alive": False}, "a server process ended"),
        ({"problems": {"503": 2}}, "2 of 50 good requests failed"),
        ({"after stills p99": 500.0}, "stills p99 500 ms afterwards"),
        ({"after problems": {"503": 1}}, "1 failed afterwards"),
        ({"files more": 25}, "25 files more afterwards"),
        ({"MB more": 101}, "101 MB more afterwards"),
        ({"attack": "slow_bodies", "attacker got": {"500": 2, "408": 1}}, "answered 500"),
        ({"attack": "endless_url", "attacker got": {}}, "neither refused nor cut"),
        ({"attack": "h2c_upgrades", "attacker got": {"400": 2, "200": 1}}, "answered 400"),
    ],
)
def test_a_broken_promise_is_named(change: Row, said: str) -> None:
    assert missed({**_FINE, **change}) == [said]


def test_the_command_of_a_server_may_have_limits_before_it() -> None:
    server = ServerProcess("--port", "0", prefix=["sh", "-c", 'echo limited >&2; exit 3; exec "$@"'])
    with pytest.raises(RuntimeError, match="limited"):
        server.__enter__()
