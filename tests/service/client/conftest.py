"""A real server for a client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import ServerProcess


@pytest.fixture(scope="package")
def server(catalogue: Path) -> Iterator[ServerProcess]:
    with ServerProcess("--model", "pair,tiny", catalogue=catalogue, environment={"idle_seconds": 3}) as running:
        yield running
