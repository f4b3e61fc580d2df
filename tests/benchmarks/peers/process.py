"""Starting a peer's server and waiting for it."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import httpx

from tests.benchmarks.peers.environment import ROOT
from tests.benchmarks.peers.tree import ProcessTree


class PeerProcess:
    """A peer's server on a free port of the loopback: `command` with the port before `arguments`. A context manager."""

    def __init__(self, command: Sequence[str | Path], *arguments: object) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._command = [str(part) for part in (*command, self.port, *arguments)]

    def __enter__(self) -> Self:
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8")
        self.process = subprocess.Popen(
            self._command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        try:
            self._wait_ready()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    @property
    def url(self) -> str:
        """The server's URL."""
        return f"http://127.0.0.1:{self.port}"

    def _end(self) -> None:
        ProcessTree(self.process.pid).kill()  # servers of several processes do not always take their children along
        self.process.wait()
        self._log.close()

    def _wait_ready(self, seconds: float = 120.0) -> None:
        stop = time.monotonic() + seconds
        while time.monotonic() < stop and self.process.poll() is None:
            try:
                httpx.get(f"{self.url}/docs", timeout=5)
            except httpx.TransportError:
                time.sleep(0.05)
            else:
                return
        self._log.seek(0)
        raise RuntimeError(f"{' '.join(self._command)} did not become ready:\n{self._log.read()}")
