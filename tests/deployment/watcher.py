"""A real Prometheus with docker/prometheus.yml."""

from __future__ import annotations

import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import httpx
import yaml

from tests.deployment.programs import find
from tests.waiting import wait_for

DOCKER = Path(__file__).parents[2] / "docker"
INTERVAL_S = 0.5
"""Seconds between two scrapes; docker/prometheus.yml has 5."""


class Watcher:
    """Prometheus on a free port of the loopback. A context manager.

    Jobs and rules are those of docker/prometheus.yml. Targets are given, as it can only use the system's DNS.
    targets: addresses with port, by job.
    """

    def __init__(self, targets: Mapping[str, Sequence[str]]) -> None:
        self._targets = targets
        self.port = 0

    def __enter__(self) -> Self:
        program = find("prometheus")
        assert program is not None
        self._folder = tempfile.TemporaryDirectory(prefix="posewire-prometheus-")
        folder = Path(self._folder.name)
        (folder / "prometheus.yml").write_text(yaml.safe_dump(self._configuration(folder)), "utf-8")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [
                    program,
                    f"--config.file={folder}/prometheus.yml",
                    f"--storage.tsdb.path={folder}/data",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            wait_for(self._ready)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._folder.cleanup()

    def ask(self, query: str) -> list[dict[str, Any]]:
        """Return the current series of a query. Raises httpx.HTTPStatusError for an invalid query."""
        answer = httpx.get(f"http://127.0.0.1:{self.port}/api/v1/query", params={"query": query}, timeout=10)
        answer.raise_for_status()
        series: list[dict[str, Any]] = answer.json()["data"]["result"]
        return series

    def _configuration(self, folder: Path) -> dict[str, Any]:
        configuration: dict[str, Any] = yaml.safe_load((DOCKER / "prometheus.yml").read_text("utf-8"))
        configuration["global"] = dict.fromkeys(configuration["global"], f"{INTERVAL_S * 1000:.0f}ms")
        configuration["rule_files"] = [str(DOCKER / name) for name in configuration["rule_files"]]
        (folder / "key").touch()
        for job in configuration["scrape_configs"]:
            job.pop("dns_sd_configs", None)
            job["static_configs"] = [{"targets": list(self._targets[job["job_name"]])}]
            if "authorization" in job:
                job["authorization"]["credentials_file"] = str(folder / "key")
        return configuration

    def _ready(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/-/ready", timeout=5).status_code == 200
        except httpx.TransportError:
            return False
