"""A real server for a client, and a picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.graphs import tiny_catalogue
from tests.pictures import encoded, photo
from tests.servers import ServerProcess


@pytest.fixture(scope="package")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_catalogue(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="package")
def server(catalogue: Path) -> Iterator[ServerProcess]:
    with ServerProcess("--model", "pair,tiny", catalogue=catalogue, environment={"idle_seconds": 3}) as running:
        yield running


@pytest.fixture(scope="package")
def jpeg() -> bytes:
    return encoded(photo(), quality=90)
