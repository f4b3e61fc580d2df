"""Limits of the processes that decode what clients send: of memory and time; and they end with the server."""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import select
import signal
import sys
from pathlib import Path

_NICE = 10


def confine(memory: int, nice: int = _NICE) -> None:
    """Limit this process. Allocations beyond `memory` bytes fail. The server holds the other end of standard input."""
    _end_with_the_server()
    for number in (signal.SIGINT, signal.SIGTERM):  # the server handles them and finishes its requests
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):  # a sandbox may deny it
        os.nice(nice)
    limit_memory(memory)


def limit_memory(memory: int) -> None:
    """Let allocations beyond `memory` bytes fail in this process. It leaves no core, and is the first to be killed."""
    with contextlib.suppress(OSError):  # if memory runs out, kill this process rather than the server
        Path("/proc/self/oom_score_adj").write_text("1000", "ascii")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))


def grant_time(seconds: int) -> None:
    """Let the kernel end this process after `seconds` more of processor time, rounded up."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + seconds + 1, hard))


def _end_with_the_server() -> None:
    """Let the kernel end this process when standard input is closed, even within native code."""
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(sys.stdin, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(sys.stdin, fcntl.F_SETFL, fcntl.fcntl(sys.stdin, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([sys.stdin], [], [], 0)[0]:  # already closed
        sys.exit()
