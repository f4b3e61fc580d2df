"""Programs that serve on the loopback, which tests can kill, stop and restart."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from typing import Self


class LoopbackProgram(ABC):
    """A program on a free port, without data on a disk. A context manager."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @abstractmethod
    def command(self) -> list[str]:
        """The command line that serves on `port`."""

    def start(self) -> None:
        """Start it, empty, on the same port. Returns when it accepts connections."""
        self.process = subprocess.Popen(self.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        stop = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                assert self.process.poll() is None, "the program has ended"
                if time.monotonic() > stop:
                    self.kill()
                    raise
                time.sleep(0.02)
            else:
                return

    def kill(self) -> None:
        """kill -9: all data is lost."""
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        """Stop the process: it accepts connections, but does not answer."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Continue the process, which then handles the requests in its buffers."""
        self.process.send_signal(signal.SIGCONT)
