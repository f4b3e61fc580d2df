"""Real server processes with tiny models, shared by all tests of this package."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.camera_servers import HttpCamera, camera_file
from tests.servers import ServerProcess


@pytest.fixture(scope="session")
def server(catalogue: Path) -> Iterator[ServerProcess]:
    with ServerProcess("--model", "tiny", catalogue=catalogue) as running:
        yield running


@pytest.fixture(scope="session")
def live(catalogue: Path) -> Iterator[ServerProcess]:
    """A server for streams: each network takes 20 ms for a batch."""
    with _streams_server(catalogue) as running:
        yield running


@pytest.fixture(scope="session")
def impatient(catalogue: Path) -> Iterator[ServerProcess]:
    """As `live`, with short timeouts, which a client on a busy machine may exceed."""
    with _streams_server(catalogue, idle_seconds=1.2, ping_seconds=0.5, resume_seconds=1) as running:
        yield running


@pytest.fixture(scope="module")
def filmed() -> Iterator[HttpCamera]:
    """The camera before which two people stand, for the model `pair`."""
    with HttpCamera() as camera:
        yield camera


@pytest.fixture(scope="module")
def cameras(tmp_path_factory: pytest.TempPathFactory, catalogue: Path, filmed: HttpCamera) -> Iterator[ServerProcess]:
    """A server with the cameras of `camera_file`. It ends with the module, as it works all the time."""
    environment = {"cameras": camera_file(tmp_path_factory.mktemp("cameras"), filmed.url)}
    with ServerProcess("--model", "pair", catalogue=catalogue, environment=environment) as running:
        yield running


def _streams_server(catalogue: Path, **timeouts: float) -> ServerProcess:
    environment = {"service_ms": 20, "max_frame_mb": 1, **timeouts}
    models = ("--model", "pair,tiny")
    return ServerProcess(*models, catalogue=catalogue, environment=environment, module="tests.slow_server")


@pytest.fixture
def client(server: ServerProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as opened:
        yield opened
