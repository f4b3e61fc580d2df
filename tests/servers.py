"""Real server processes for tests and benchmarks."""

from __future__ import annotations

import os
import re
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import httpx


class ServerProcess:
    """`posewire serve` on a free port of the loopback. A context manager. log: the output so far.

    catalogue: POSEWIRE_CATALOGUE. environment: further POSEWIRE_* settings by their name in lower case. module: run
    instead of the command. host, port: address to listen on; port 0 takes a free one. trusted: the certificate of the
    server, if it has one. prefix: a command that runs the server in its own process, for example with limits.
    """

    def __init__(
        self,
        *arguments: str,
        catalogue: Path | None = None,
        environment: Mapping[str, object] | None = None,
        module: str = "service",
        host: str = "127.0.0.1",
        port: int = 0,
        trusted: Path | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        variables = {k: v for k, v in os.environ.items() if not k.startswith("POSEWIRE_") or k == "POSEWIRE_MODELS"}
        variables |= {f"POSEWIRE_{key.upper()}": str(value) for key, value in (environment or {}).items()}
        if catalogue is not None:
            variables["POSEWIRE_CATALOGUE"] = str(catalogue)
        serve = [sys.executable, "-m", module, "serve", "--host", host, "--port", str(port), *arguments]
        self._command = [*prefix, *serve]
        self._variables = variables
        self.log: list[str] = []
        self.host = host
        self.port = 0
        self.scheme = "http" if trusted is None else "https"
        self.verify = True if trusted is None else ssl.create_default_context(cafile=trusted)

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            self._command, env=self._variables, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, encoding="utf-8"
        )
        self._reader = threading.Thread(target=self._read, name="server-log", daemon=True)
        self._reader.start()
        try:
            self._wait_ready()
        except BaseException:
            self.process.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)  # no drain
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._reader.join()

    @property
    def url(self) -> str:
        """The server's URL."""
        return f"{self.scheme}://{self.host}:{self.port}"

    def memory_mb(self) -> float:
        """Resident memory of the process now, megabytes."""
        return _status_kb(self.process.pid, "VmRSS") / 1e3

    def cpu_seconds(self) -> float:
        """Processor time of the process so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def open_files(self) -> int:
        """The number of open files and connections of the process."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            for line in stream:
                self.log.append(line.rstrip())

    def _wait_ready(self, seconds: float = 120.0) -> None:
        stop = time.monotonic() + seconds
        while time.monotonic() < stop:
            if self.process.poll() is not None:
                self._reader.join(5)
                raise RuntimeError("the server ended at its start:\n" + "\n".join(self.log))
            found = re.search(r"https?://[^:]+:(\d+)", "\n".join(self.log[:5]))
            if found:
                self.port = int(found[1])
                try:
                    if httpx.get(f"{self.url}/readyz", timeout=5, verify=self.verify).status_code == 200:
                        return
                except httpx.TransportError:
                    pass  # bound, but not accepting yet, while the models are compiled
            time.sleep(0.02)
        raise RuntimeError("the server did not become ready:\n" + "\n".join(self.log))


def _status_kb(pid: int, name: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(name):
            return float(line.split()[1])
    raise ValueError(f"process {pid} has no {name}")
